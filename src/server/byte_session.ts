/**
 * What stands between a loop and a protocol: sessions that turn bytes into bytes and know no socket and no clock.
 *
 * @module
 */

/** How long a session may go on handling messages before others have their turn. */
export interface Turn {
  /** Asked before each message. */
  isOver(): boolean;
}

/** What a loop drives: any session that turns bytes into bytes. */
export interface ByteSession {
  /**
   * Takes bytes from the peer; they may be overwritten afterwards. Handles as many messages as the turn and the
   * output's high-water mark allow and keeps the rest. Legal, and of no effect, when closing.
   *
   * @param bytes What was received, at its start.
   * @param turn How long it may take; default: until all is handled.
   * @param length How many of the bytes count; default: all. With it a loop needs no view of its buffer.
   * @param fds Descriptors that came with the last of these bytes. The session owns them from now on, also when it
   * is closing. Only a session that {@linkcode takesDescriptors} is given any.
   */
  receive(bytes: Uint8Array, turn?: Turn, length?: number, fds?: readonly number[]): void;
  /**
   * Whether the peer is, or is about to be, the one that drives the device: it goes first, for a virtual CPU waits for
   * each answer.
   */
  readonly isVmm: boolean;
  /** Whether descriptors that the peer sends are for this session; if not, the loop lets none in. */
  readonly takesDescriptors: boolean;
  /**
   * Bytes for the peer, valid until the next call; `null`: none now. When all output was taken, goes on with what
   * {@linkcode receive} kept, as far as the turn allows.
   */
  takeOutput(turn?: Turn): Uint8Array<ArrayBuffer> | null;
  /** Whether the peer has said who it is; one that never does is not to hold a connection for ever. */
  readonly isOpen: boolean;
  /** Whether the loop may read. Not while messages are kept, or output is waiting above the high-water mark. */
  readonly wantsInput: boolean;
  /** Whether messages are kept: {@linkcode takeOutput} is to be called again, in another turn if it gave nothing. */
  readonly isStalled: boolean;
  /** Whether nothing more will be read; what {@linkcode takeOutput} still gives is to be sent. */
  readonly isClosing: boolean;
  /** Whether nothing more will be read or sent. */
  readonly isClosed: boolean;
  /** Whether the peer let too much output pile up: the connection is to be closed at once, unsent output or not. */
  readonly isGivenUp: boolean;
  /** The peer sent its last byte or is lost. */
  end(): void;
  /** This end stops. */
  close(): void;
  /** Called when output arises outside of {@linkcode receive} and {@linkcode takeOutput}. */
  onOutput: (() => void) | null;
}

/**
 * A session that may have to ask its peer something in the middle of a message.
 */
export interface PumpingSession extends ByteSession {
  /**
   * Given by a loop that can do it: sends what there is to send, waits for input and hands it to
   * {@linkcode ByteSession.receive}, although that is under way already. `false` when the time, milliseconds, is over or
   * the connection is.
   */
  pump: ((timeout: number) => boolean) | null;
}
