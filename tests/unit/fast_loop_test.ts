import process from "node:process";
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Client, ClientOptions } from "../../protocol/client.ts";
import { encode } from "../../protocol/codec.ts";
import { connect } from "../../protocol/connect.ts";
import { type Libc, loadLibc } from "../../src/platform/libc.ts";
import { adoptListening, listenByLibc, type ListeningSocket } from "../../src/server/fast_listener.ts";
import { ListenError } from "../../src/server/socket_file.ts";
import type { FastLoopOrder } from "./fast_loop_worker.ts";
import { type LoopDevice, type LoopEnd, type LoopOptions, testLoop } from "./loop_habits.ts";
import { scratchFolder, writeAll } from "./protocol_socket.ts";
import { concat } from "./protocol_wire.ts";

const OBSERVE = encode([0, 0, "hello", [{ protocol: 1, role: "observer" }]]);

const libc: Libc = loadLibc();

/** A scripted device behind a fast loop in a thread of its own. */
class FastDevice implements LoopDevice {
  readonly path: string;
  readonly #folder: { readonly path: string } & Disposable;
  readonly #socket: ListeningSocket;
  readonly #worker: Worker;
  readonly #wake: number;
  readonly #stop = new Int32Array(new SharedArrayBuffer(4));
  readonly #ended: Promise<LoopEnd>;
  #isStopped = false;

  private constructor(
    folder: { readonly path: string } & Disposable,
    socket: ListeningSocket,
    options: object,
  ) {
    this.#folder = folder;
    this.#socket = socket;
    this.path = socket.name;
    this.#wake = libc.eventfd();
    this.#worker = new Worker(new URL("./fast_loop_worker.ts", import.meta.url).href, { type: "module" });
    this.#ended = new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }: MessageEvent<LoopEnd | string>) => {
        if (typeof data === "string") reject(new Error(data));
        else resolve(data);
      };
    });
    this.#worker.postMessage(
      { fd: socket.fd, wake: this.#wake, stop: this.#stop, options } satisfies FastLoopOrder,
    );
  }

  static async start(options: LoopOptions = {}): Promise<FastDevice> {
    const folder = scratchFolder();
    return new FastDevice(folder, await listenByLibc(libc, `${folder.path}/s`), options);
  }

  /** Why the loop ended by itself. */
  get failure(): Promise<string> {
    return this.#ended.then(() => "it did not fail", (error: Error) => error.message);
  }

  /** Closes the listening socket under the loop. */
  loseListener(): void {
    this.#socket.close();
  }

  connect(options: ClientOptions = {}): Promise<Client> {
    return connect(this.path, options);
  }

  dial(): Promise<Deno.UnixConn> {
    return Deno.connect({ transport: "unix", path: this.path });
  }

  async stop(): Promise<LoopEnd> {
    Atomics.store(this.#stop, 0, 1);
    libc.signalEvent(this.#wake);
    const end = await this.#ended.catch(() => ({ peers: 0, states: 0 }));
    if (!this.#isStopped) {
      this.#isStopped = true;
      this.#worker.terminate();
      libc.close(this.#wake);
      this.#socket.close();
    }
    return end;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#folder[Symbol.dispose]();
  }
}

testLoop("FastLoop", (options) => FastDevice.start(options));

Deno.test("FastLoop gives a VMM that has much to do its turn before every other's", async () => {
  // It queued up behind all of them: with 60 observers a load waited for longer than QEMU does.
  await using device = await FastDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  const states = async () => (await vmm.call("stats"))["states"]!;
  const greedy = await Promise.all(Array.from({ length: 20 }, () => device.dial()));
  const calls = Array.from({ length: 200 }, (_, id) => encode([0, id, "state", []]));
  for (const conn of greedy) await writeAll(conn, concat(OBSERVE, ...calls));
  while (await states() < 100);
  const before = await states();
  await Promise.all(Array.from({ length: 15 }, () => vmm.call("state")));
  const carriedOut = await states() - before;
  assert(carriedOut < 150, `${carriedOut} calls were carried out for 15 of the VMM's`);
  for (const conn of greedy) conn.close();
});

Deno.test("FastLoop lets others in, answers them and stops while a VMM asks without a pause", async () => {
  await using device = await FastDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  let isAsking = true;
  const asking = (async () => {
    while (isAsking) await vmm.call("mmio_read", 0, 0, 4).catch(() => isAsking = false);
  })();
  const begin = performance.now();
  for (let i = 0; i < 20; i++) {
    await using observer = await device.connect();
    assertEquals((await observer.call("stats"))["peers"], 2);
  }
  await device.stop();
  assert(performance.now() - begin < 5000, "others had to wait");
  await asking;
});

Deno.test("FastLoop leaves the processor alone when a VMM that was answered asks no more", async () => {
  await using device = await FastDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  for (let i = 0; i < 1000; i++) await vmm.call("mmio_read", 0, 0, 4);
  const before = process.cpuUsage();
  await new Promise((resolve) => setTimeout(resolve, 500));
  const { user, system } = process.cpuUsage(before);
  assert(user + system < 250_000, `${user + system} µs of 500,000 were spent`);
});

Deno.test("FastLoop ends when its listening socket is lost, and not before its connections", async () => {
  await using device = await FastDevice.start();
  await using observer = await device.connect();
  device.loseListener();
  assertEquals((await observer.call("stats"))["peers"], 1);
  await observer.close();
  assertEquals(await device.failure, "Nobody can connect any more: the listening socket is lost");
});

Deno.test("listenByLibc() refuses a socket that is in use, and takes a stale one over", async () => {
  using folder = scratchFolder();
  const path = `${folder.path}/s`;
  const first = await listenByLibc(libc, path, { mode: 0o640 });
  assertEquals(Deno.statSync(path).mode! & 0o777, 0o640);
  await assertRejects(() => listenByLibc(libc, path), ListenError, "in use");
  libc.close(first.fd);
  const second = await listenByLibc(libc, path);
  second.close();
  second.close();
  assertEquals([...Deno.readDirSync(folder.path)], []);
  await assertRejects(
    () => listenByLibc(libc, `${folder.path}/missing/s`),
    ListenError,
    "there is no such folder",
  );
});

Deno.test("adoptListening() takes a listening socket and nothing else", async () => {
  using folder = scratchFolder();
  const { fd } = await listenByLibc(libc, `${folder.path}/s`);
  const adopted = adoptListening(libc, fd);
  assertEquals(adopted.name, `descriptor ${fd}`);
  adopted.close();
  const event = libc.eventfd();
  const unbound = libc.unixSocket();
  for (const each of [event, unbound, fd, -1, 1.5]) {
    let message = "";
    try {
      adoptListening(libc, each);
    } catch (error) {
      message = error instanceof ListenError ? error.message : "";
    }
    assertEquals(message.includes("no Unix stream socket that listens"), true, `${each}`);
  }
  libc.close(event);
  libc.close(unbound);
});
