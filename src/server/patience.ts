/**
 * How often it is worth looking whether a message has come before waiting for it.
 *
 * Whoever waits is woken when something comes, and that takes far longer than to look; whoever looks in vain keeps a
 * processor from others, perhaps from the very peer that is to send. What is worth it depends on where the peer runs: on
 * the same processor its message is there at the first look or not before this thread waits, on another one it is there
 * after a few looks. So it is learned from each message.
 *
 * @module
 */

/** Most looks before a wait: a quick peer on another processor needs half of them to take an answer and ask again. */
export const LOOKS = 12;
/** Failures after which {@linkcode LOOKS} are tried once: then a peer that has become quick is noticed. */
const TRIAL = 64;

/**
 * Patience with one peer.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { LOOKS, Patience } from "./patience.ts";
 *
 * const patience = new Patience();
 * assertEquals(patience.looks(), LOOKS);
 * for (let i = 0; i < LOOKS; i++) patience.failed();
 * assertEquals(patience.looks(), 1); // never less: often something has come while the last message was answered
 * patience.succeeded(3);
 * assertEquals(patience.looks(), 7);
 * ```
 */
export class Patience {
  /** Looks that seem enough. */
  #looks = LOOKS;
  /** Failures since {@linkcode LOOKS} were last tried. */
  #failures = 0;

  /** How often to look before the next wait, 1 to {@linkcode LOOKS}. */
  looks(): number {
    if (this.#failures < TRIAL) return this.#looks;
    this.#failures = 0;
    return LOOKS;
  }

  /** Something came, after so many looks in vain. */
  succeeded(vain: number): void {
    // Twice as many, for they are not always the same; fewer only by and by.
    const enough = Math.min(2 * vain + 1, LOOKS);
    this.#looks = Math.max(enough, this.#looks - 1);
  }

  /** Nothing came. */
  failed(): void {
    this.#failures++;
    this.#looks = Math.max(1, this.#looks - 1);
  }
}
