/**
 * Asks a device for its `stats`, as any observer could: over its own socket, so that it cannot hurt the guest.
 *
 * @module
 */

import { Client } from "../../protocol/client.ts";
import { ConnectionError } from "../../protocol/errors.ts";
import { PROTOCOL_VERSION } from "../../protocol/limits.ts";
import { ownReading, type Reading } from "./families.ts";

/** Longest time that an answer is waited for, milliseconds: longer than the most expensive message takes. */
const ASK_TIMEOUT = 3000;

/** The device cannot be asked. */
export class DeviceSilent extends Error {
  /** Always `"DeviceSilent"`. */
  override readonly name = "DeviceSilent";
}

/**
 * A connection to a device that is kept, and made anew when it is lost.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { DeviceObserver, DeviceSilent } from "./device_observer.ts";
 *
 * await using observer = new DeviceObserver("/tmp/no-such-device.sock");
 * await assertRejects(() => observer.read(), DeviceSilent, "The device cannot be asked");
 * ```
 */
export class DeviceObserver implements AsyncDisposable {
  readonly #path: string;
  readonly #timeout: number;
  #client: Client | null = null;
  #reading: Promise<Reading> | null = null;

  /**
   * Makes it.
   *
   * @param path The device's socket. Nothing is done before the first question.
   * @param timeout How long an answer is waited for, milliseconds.
   */
  constructor(path: string, timeout = ASK_TIMEOUT) {
    this.#path = path;
    this.#timeout = timeout;
  }

  /**
   * Asks; whoever asks meanwhile gets the same answer.
   *
   * @returns What the device said, and what is known without it.
   * @throws {DeviceSilent} If there is no answer in time.
   */
  read(): Promise<Reading> {
    this.#reading ??= this.#ask().finally(() => this.#reading = null);
    return this.#reading;
  }

  /** Closes the connection: whoever waits for an answer gets none. */
  async [Symbol.asyncDispose](): Promise<void> {
    const client = this.#client;
    this.#client = null;
    await client?.close();
  }

  async #ask(): Promise<Reading> {
    const late = Promise.withResolvers<never>();
    const why = `no answer within ${this.#timeout} ms`;
    const timer = setTimeout(() => late.reject(new Error(why)), this.#timeout);
    try {
      return { ...await Promise.race([this.#stats(), late.promise]), ...ownReading() };
    } catch (error) {
      // Whatever comes over this connection now, it is no answer to the next question.
      await this[Symbol.asyncDispose]();
      const reason = error instanceof Error ? error.message : String(error);
      throw new DeviceSilent(`The device cannot be asked: ${reason}`, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  async #stats(): Promise<Reading> {
    const kept = this.#client;
    if (kept !== null) {
      try {
        return await kept.call("stats");
      } catch (error) {
        // It was lost since the last question; or given up by this end while it waited for the answer.
        if (!(error instanceof ConnectionError) || this.#client !== kept) throw error;
      }
    }
    this.#client = new Client(await Deno.connect({ transport: "unix", path: this.#path }));
    await this.#client.call("hello", { protocol: PROTOCOL_VERSION, role: "observer", client: "metrics" });
    return await this.#client.call("stats");
  }
}
