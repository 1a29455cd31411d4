/**
 * Waiting, but not for ever.
 *
 * @module
 */

const POLL = 20;

/**
 * Waits for something to happen.
 *
 * @param ms How long at most.
 * @param what What is waited for; it becomes the error's message.
 * @param work What is waited for. It goes on after the deadline, and nobody hears of how it ends.
 * @returns What it gives.
 * @throws {Error} If it takes too long.
 */
export async function within<T>(ms: number, what: () => string, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`not within ${ms / 1000} s: ${what()}`)), ms);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Looks again and again until it sees something. @returns What it saw. @throws {Error} If that takes too long. */
export async function until<T>(ms: number, what: () => string, look: () => Promise<T | null>): Promise<T> {
  const end = performance.now() + ms;
  for (;;) {
    const seen = await within(ms, what, look());
    if (seen !== null) return seen;
    if (performance.now() > end) throw new Error(`not within ${ms / 1000} s: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}
