/**
 * What a session may do with descriptors that its peer sent, without knowing how.
 *
 * @module
 */

/** Descriptors of the process. */
export interface Descriptors {
  /**
   * Closes one.
   *
   * @param fd A descriptor that the caller owns, and forgets.
   */
  close(fd: number): void;
  /**
   * Whether one is an eventfd; it stays one.
   *
   * @param fd A descriptor that the caller owns.
   */
  isEventfd(fd: number): boolean;
  /**
   * Adds 1 to an eventfd; never waits.
   *
   * @param fd An eventfd that the caller owns.
   */
  signal(fd: number): void;
}
