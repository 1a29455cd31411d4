/**
 * A device in a process of its own that listens for hypervisors and for clients of our protocol.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { connect } from "../../protocol/connect.ts";
import { DeviceProcess, TempFolder } from "../scenarios/process.ts";
import { Peer } from "./peer.ts";
import { openDescriptors } from "./peer_libc.ts";

/** A running device and its two sockets. */
export class VfioUserDevice implements AsyncDisposable {
  readonly process: DeviceProcess;
  /** Where hypervisors attach. */
  readonly path: string;
  /** Where clients of our protocol connect. */
  readonly rpcPath: string;
  readonly #folder: TempFolder;
  #idle = 0;

  private constructor(process: DeviceProcess, folder: TempFolder) {
    this.process = process;
    this.#folder = folder;
    this.path = `${folder.path}/v`;
    this.rpcPath = `${folder.path}/r`;
  }

  /** Starts a device. */
  static async start(...args: readonly string[]): Promise<VfioUserDevice> {
    const folder = new TempFolder();
    const sockets = ["--socket-path", `${folder.path}/r`, "--vfio-user-path", `${folder.path}/v`];
    const process = await DeviceProcess.start(...sockets, "--log", "level=debug", ...args);
    const device = new VfioUserDevice(process, folder);
    // Somebody has been there once: whatever the device opens for the first is open now.
    const before = openDescriptors(process.pid);
    device.attach()[Symbol.dispose]();
    device.#idle = await settled(() => openDescriptors(process.pid), before);
    return device;
  }

  /** Attaches as a hypervisor. */
  attach(isSilent = false): Peer {
    return new Peer(this.path, isSilent);
  }

  /** Connects as an observer. */
  observe(): Promise<Client> {
    return connect(this.rpcPath);
  }

  /**
   * Waits until nobody is connected any more but so many observers: then the device has one descriptor for each, and
   * beside them as many as before anybody was.
   */
  async idle(observers = 0): Promise<void> {
    const wanted = this.#idle + observers;
    assertEquals(await settled(() => openDescriptors(this.process.pid), wanted), wanted);
  }

  /** Kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
    await this.#folder[Symbol.asyncDispose]();
  }
}

/** Waits until a number is what it should be. @returns What it is then, or after so long that it will never be. */
async function settled(count: () => number, wanted: number): Promise<number> {
  for (let tries = 0; tries < 1000 && count() !== wanted; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return count();
}
