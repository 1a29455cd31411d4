/**
 * Work that a loop does when no message waits: a guest's commands run while its CPU goes on.
 *
 * @module
 */

import type { Log } from "./rpc_session.ts";

/** Work in small pieces. */
export interface Background {
  /** Whether there is anything to do. */
  readonly isRunnable: boolean;
  /** Whether what there is to do is to wait, so that a moment later is as good. */
  readonly isWaiting: boolean;
  /** Does a piece. */
  run(): void;
  /** Drops what there is to do, after it has thrown. */
  abandon(): void;
  /**
   * There is no message to see to: time for what can wait until then.
   *
   * @returns When this is to be called again at the latest, milliseconds from now; `Infinity`: after the next message.
   */
  idle(): number;
}

/** The moment that work which only waits is left alone, milliseconds: a system's timers know nothing shorter. */
export const WAITING_PAUSE = 1;

/** Nothing to do. */
export const NO_BACKGROUND: Background = {
  isRunnable: false,
  isWaiting: false,
  run() {},
  abandon() {},
  idle: () => Infinity,
};

/**
 * Does a piece of work. An exception is a bug of this program and costs the work, not the thread.
 *
 * @param background What to do.
 * @param log Told of an exception.
 */
export function runBackground(background: Background, log: Log): void {
  try {
    background.run();
  } catch (error) {
    const text = error instanceof Error ? error.stack ?? error.message : String(error);
    log("error", "internal error in the engines", { error: text });
    try {
      background.abandon();
    } catch (second) {
      log("error", "internal error in the engines, which cannot be stopped", { error: String(second) });
    }
  }
}
