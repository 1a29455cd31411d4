/**
 * Plugging vGPUs into a running guest and out again, by QEMU's monitor.
 *
 * @module
 */

import { until } from "./deadline.ts";
import type { Guest } from "./guest.ts";

const DEADLINE = 60_000;
const ID = "plugged";

/** A place where vGPUs are plugged in. */
export class Hotplug {
  readonly #guest: Guest;
  readonly #place: Readonly<Record<string, string>>;

  /** The place, as properties of `device_add`: bus or address. */
  constructor(guest: Guest, place: Readonly<Record<string, string>>) {
    this.#guest = guest;
    this.#place = place;
  }

  /** Plugs a vGPU in and waits until the guest sees it under this name. */
  async plug(path: string, name: string): Promise<void> {
    const socket = { path, type: "unix" };
    await this.#guest.qmp.execute("device_add", { driver: "vfio-user-pci", id: ID, socket, ...this.#place });
    await this.#sees(name, true);
  }

  /** Plugs it out and waits until QEMU and the guest have let it go. */
  async unplug(name: string): Promise<void> {
    await this.#guest.qmp.execute("device_del", { id: ID });
    await this.#guest.qmp.event("DEVICE_DELETED", ({ device }) => device === ID);
    await this.#sees(name, false);
  }

  async #sees(name: string, wanted: boolean): Promise<void> {
    const what = () => `the guest ${wanted ? "does not see" : "still sees"} ${name}\n${this.#guest.tail()}`;
    await until(DEADLINE, what, async () => await this.#has(name) === wanted ? true : null);
  }

  async #has(name: string): Promise<boolean> {
    try {
      await this.#guest.agent.command("cat", `/sys/bus/pci/devices/${name}/resource`);
      return true;
    } catch {
      return false;
    }
  }
}
