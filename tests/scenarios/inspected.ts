/**
 * A device as a process of its own, a VMM of the test's that drives it, and the inspector, which is a third process.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import { connect } from "../../protocol/connect.ts";
import { PAGE, RAM_BYTES } from "./guest_pages.ts";
import { DeviceProcess, run, type Said, spawn, TempFolder } from "./process.ts";

/** The TLB-invalidate register of the render engine. */
const TLB_INVALIDATE = 0x4260;

/** A device to look at. */
export class Inspected implements AsyncDisposable {
  /** A folder for the test's files. */
  readonly folder: TempFolder;
  /** The VMM. */
  readonly vmm: Client;
  /** Whether its guest's stores trap. */
  readonly tracking: "trapped" | "untracked";
  readonly #device: DeviceProcess;
  readonly #socket: string;

  private constructor(
    folder: TempFolder,
    socket: string,
    device: DeviceProcess,
    vmm: Client,
    tracking: Inspected["tracking"],
  ) {
    this.folder = folder;
    this.#socket = socket;
    this.#device = device;
    this.vmm = vmm;
    this.tracking = tracking;
  }

  /**
   * Starts a device and attaches a VMM with 4 MiB of RAM; one that cannot trap stores shares a file with its guest. Files that
   * the arguments name are in the test's folder.
   */
  static async start(tracking: Inspected["tracking"], ...args: readonly string[]): Promise<Inspected> {
    const folder = new TempFolder();
    const socket = `${folder.path}/s`;
    const device = await DeviceProcess.startIn(folder.path, "--socket-path", "s", "--debug", ...args);
    const vmm = await connect(socket, { role: "vmm", client: "scenario", tracking });
    const inspected = new Inspected(folder, socket, device, vmm, tracking);
    if (tracking === "trapped") await vmm.call("ram_map", { gpa: 0, size: RAM_BYTES });
    else {
      await Deno.writeFile(inspected.#ram, new Uint8Array(RAM_BYTES));
      await vmm.call("ram_map", { gpa: 0, size: RAM_BYTES, path: inspected.#ram });
    }
    return inspected;
  }

  get #ram(): string {
    return `${this.folder.path}/ram`;
  }

  /** The guest stores: where nothing traps, nobody is told. */
  async store(gpa: number, bytes: Uint8Array): Promise<void> {
    if (this.tracking === "trapped") {
      await this.vmm.call("mem_write", gpa, bytes);
      return;
    }
    using file = await Deno.open(this.#ram, { write: true });
    await file.seek(gpa, Deno.SeekMode.Start);
    await file.write(bytes);
  }

  /** The guest stores table pages, by frame. */
  async storePages(pages: Readonly<Record<number, Uint8Array>>): Promise<void> {
    for (const [gfn, page] of Object.entries(pages)) await this.store(Number(gfn) * PAGE, page);
  }

  /** The guest says that it has changed tables, and the device looks at all of them. */
  async invalidate(): Promise<void> {
    await this.vmm.notify("mmio_write", 0, TLB_INVALIDATE, 4, 1);
    await this.vmm.call("sync_oos_pages");
  }

  /** Another VMM in the place of the first. */
  async nextVmm(): Promise<Client> {
    await this.vmm.close();
    return await connect(this.#socket, { role: "vmm", client: "next" });
  }

  /** Ends the device. */
  async stop(): Promise<void> {
    await this.#device.stop();
  }

  /** Arguments of the inspector that make it look at this device. */
  looking(...args: readonly string[]): string[] {
    return [...args, "--socket-path", this.#socket];
  }

  /** Runs the inspector to its end. */
  inspect(...args: readonly string[]): Promise<Said> {
    return run("inspect", this.looking(...args), { INIT_CWD: this.folder.path });
  }

  /** Runs the inspector to its end. @returns Exit status and what it said as JSON. */
  async inspectJson(...args: readonly string[]): Promise<readonly [code: number, value: Json]> {
    const { code, stdout } = await this.inspect(...args, "--json");
    return [code, JSON.parse(stdout)];
  }

  /** Begins to run the inspector. */
  follow(...args: readonly string[]): DeviceProcess {
    return spawn("inspect", this.looking(...args));
  }

  /** Ends everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.vmm.close();
    await this.#device[Symbol.asyncDispose]();
    await this.folder[Symbol.asyncDispose]();
  }
}

/** A value of JSON in whose fields a test is to look. */
// deno-lint-ignore no-explicit-any -- what is not there fails the test
export type Json = any;
