/**
 * A vGPU under test: the device's process, and an observer that looks into it while QEMU drives it.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import { connect } from "../../protocol/connect.ts";
import { Device } from "../../examples/qemu/device.ts";
import { until } from "./deadline.ts";
import type { TestScope } from "./test_scope.ts";
import type { Translation } from "../../src/inspect/walk.ts";

const DEADLINE = 20_000;

/** What a process holds of others: how many descriptors of each kind, and which of guests' memory is mapped. */
export interface Holdings {
  /** Kinds of open descriptors, sorted: `socket`, `anon_inode:[eventfd]`, … */
  readonly descriptors: readonly string[];
  /** Lines of its memory map that are a memfd. */
  readonly memfds: readonly string[];
}

/** A device and its observer. */
export class Vgpu implements AsyncDisposable {
  readonly #device: Device;
  readonly #observer: Client;
  readonly #owned: Disposable;

  private constructor(device: Device, observer: Client, owned: Disposable) {
    this.#device = device;
    this.#observer = observer;
    this.#owned = owned;
  }

  /**
   * Starts a device.
   *
   * @param name What tells its sockets from others' in the test's folder.
   * @param more More options of `start`.
   */
  static async start(scope: TestScope, name = "vgpu", more: readonly string[] = []): Promise<Vgpu> {
    const device = await Device.start({ folder: scope.folder, name, more: ["--debug", ...more] });
    const owned = scope.own(device.pid);
    try {
      await device.listening();
      const observer = await connect(device.socketPath, { role: "observer", client: "guest test" });
      return new Vgpu(device, observer, owned);
    } catch (error) {
      await device.stop();
      owned[Symbol.dispose]();
      throw error;
    }
  }

  /** Where QEMU connects. */
  get socket(): string {
    return this.#device.vfioUserPath;
  }

  /** What it logged. */
  get log(): string {
    return this.#device.log.join("\n");
  }

  /** Walks an address of the global table, or of the page table with this handle. */
  async translate(space: number | "ggtt", gma: bigint): Promise<Translation> {
    return await this.#observer.call("translate", space, gma) as unknown as Translation;
  }

  /** The handles of the guest's page tables. */
  async pageTables(): Promise<number[]> {
    const { mms } = await this.#observer.call("state") as { mms: readonly (readonly number[])[] };
    return mms.map(([handle]) => handle!);
  }

  /** The handle of the one page table that came since there were only `old`. */
  async newPageTable(old: readonly number[]): Promise<number> {
    const fresh = (await this.pageTables()).filter((handle) => !old.includes(handle));
    if (fresh.length !== 1) {
      throw new Error(`new page tables: [${fresh}] where one was expected\n${this.log}`);
    }
    return fresh[0]!;
  }

  /** All counters and sizes. */
  async stats(): Promise<Readonly<Record<string, number>>> {
    return await this.#observer.call("stats");
  }

  /** A counter or size. */
  async stat(name: string): Promise<number> {
    const stats = await this.stats();
    const value = stats[name];
    if (value === undefined) {
      throw new Error(`no such counter: ${name}; there are ${Object.keys(stats).join(", ")}`);
    }
    return value;
  }

  /** The engine's lists at a moment at which nothing happens, and how many events were recorded until then. */
  async recordedState(): Promise<{ events: number; state: Readonly<Record<string, unknown>> }> {
    return await until(DEADLINE, () => "the guest never rests", async () => {
      const before = await this.stat("recordedEvents");
      const state = await this.#observer.call("state");
      return await this.stat("recordedEvents") === before ? { events: before, state } : null;
    });
  }

  /** Lets an event happen in a bank of interrupts. */
  async raise(bank: string, bits: number): Promise<void> {
    await this.#observer.call("debug_raise", bank, bits);
  }

  /** What it holds now. */
  async holdings(): Promise<Holdings> {
    const links = await shell(`ls -l /proc/${this.#device.pid}/fd`);
    const maps = await shell(`cat /proc/${this.#device.pid}/maps`);
    const descriptors = [...links.matchAll(/ -> ([^:\n]*(?::\[eventfd\])?)/g)].map(([, kind]) => kind!)
      .sort();
    return { descriptors, memfds: maps.split("\n").filter((line) => line.includes("memfd:")) };
  }

  /** Waits until it holds exactly this. What a guest leaves behind is given back a moment after it has gone. */
  async holdsAgain(wanted: Holdings): Promise<void> {
    let now = wanted;
    const text = (held: Holdings) => `${held.descriptors.join(" ")}\n${held.memfds.join("\n")}`;
    await until(DEADLINE, () => `the device holds\n${text(now)}\ninstead of\n${text(wanted)}`, async () => {
      now = await this.holdings();
      return text(now) === text(wanted) ? true : null;
    });
  }

  /** Kills it, without a word to anybody. */
  async kill(): Promise<void> {
    await this.#device.stop("SIGKILL");
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#observer.close();
    await this.#device.stop();
    this.#owned[Symbol.dispose]();
  }
}

/** Deno itself opens nothing under /proc unless it has every permission. */
async function shell(line: string): Promise<string> {
  const { stdout } = await new Deno.Command("sh", { args: ["-c", line], stdin: "null" }).output();
  return new TextDecoder().decode(stdout);
}
