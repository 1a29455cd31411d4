/**
 * The device in a thread of its own, seen from the main thread, which keeps signals, files and the terminal.
 *
 * @module
 */

import type { Libc } from "../platform/libc.ts";
import { ListenError } from "../server/socket_file.ts";
import type { VgpuOptions } from "../vgpu/vgpu_options.ts";
import type { LogOptions } from "./log.ts";
import { say } from "./terminal.ts";

/** A listening socket that the thread is to serve. */
export interface ThreadSocket {
  /** What it listens on, for messages. */
  readonly name: string;
  /** The listening descriptor: descriptors belong to the whole process. */
  readonly fd: number;
  /** What is spoken there. */
  readonly protocol: "rpc" | "vfio-user";
}

/** What the thread is told when it starts. */
export interface DeviceThreadOptions {
  /** Sizes and identity of the vGPU. */
  readonly vgpu: VgpuOptions;
  /** Whether pages may go out of sync. */
  readonly oos: boolean;
  /** Whether page tables are compared with the guest's before each workload. */
  readonly verify: boolean;
  /** Whether debug methods are there. */
  readonly debug: boolean;
  /** The file to record to, which is there and empty, or `null`. */
  readonly record: string | null;
  /** How to log. */
  readonly log: LogOptions;
  /** Whether Deno observes this thread, which then has to be let in now and then. */
  readonly observed: boolean;
  /** Where to listen. */
  readonly sockets: readonly ThreadSocket[];
  /** An eventfd by which the thread is woken. */
  readonly wake: number;
  /** Shared with the thread: not 0 at index 0 when it is to end. */
  readonly stop: Int32Array<SharedArrayBuffer>;
}

/** What the thread says. */
export type DeviceThreadReport =
  | { readonly kind: "line"; readonly text: string }
  | { readonly kind: "ended" }
  | { readonly kind: "deaf"; readonly reason: string }
  | { readonly kind: "failed"; readonly reason: string };

/** A device that works in a thread of its own. */
export class DeviceThread implements Disposable {
  /** Settles when the device has ended; rejects if nobody can connect any more, or if it failed, which is a bug. */
  readonly ended: Promise<void>;
  readonly #libc: Libc;
  readonly #worker: Worker;
  readonly #wake: number;
  readonly #stop = new Int32Array(new SharedArrayBuffer(4));

  /**
   * Starts the thread.
   *
   * @param libc The C library.
   * @param options What the device is.
   * @throws {Error} If the system has no descriptor left.
   */
  constructor(libc: Libc, options: Omit<DeviceThreadOptions, "wake" | "stop">) {
    this.#libc = libc;
    this.#wake = libc.eventfd();
    if (this.#wake < 0) throw new Error(`Cannot make an eventfd: errno ${-this.#wake}`);
    this.#worker = new Worker(new URL("./device_worker.ts", import.meta.url).href, { type: "module" });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#worker.onmessage = ({ data }: MessageEvent<DeviceThreadReport>) => {
      if (data.kind === "line") say(data.text);
      else if (data.kind === "ended") resolve();
      else reject(data.kind === "deaf" ? new ListenError(data.reason) : new Error(data.reason));
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(event.message));
    };
    this.#worker.postMessage(
      { ...options, wake: this.#wake, stop: this.#stop } satisfies DeviceThreadOptions,
    );
  }

  /** Tells the device to end: what was answered is sent, then everything is closed. */
  stop(): void {
    Atomics.store(this.#stop, 0, 1);
    this.#libc.signalEvent(this.#wake);
  }

  /** Ends the thread whatever it does; after {@linkcode ended} that hurts nobody. */
  [Symbol.dispose](): void {
    this.#worker.terminate();
    this.#libc.close(this.#wake);
  }
}
