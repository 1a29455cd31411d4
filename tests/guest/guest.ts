/**
 * A guest under test: a QEMU with a kernel and the agent, its console, its monitor.
 *
 * @module
 */

import { machineArguments, type MachineOptions } from "../../examples/qemu/machine.ts";
import { Agent } from "./agent.ts";
import { within } from "./deadline.ts";
import type { Lab } from "./lab.ts";
import { Qmp } from "./qmp.ts";
import type { TestScope } from "./test_scope.ts";

const BOOT_DEADLINE = 180_000;
const END_DEADLINE = 30_000;
/** How much of the console an error shows. */
const TAIL_LINES = 25;
const APPEND = "console=ttyS0 panic=-1";

/** Which guest. */
export interface GuestOptions
  extends Partial<Pick<MachineOptions, "machine" | "memory" | "cpus" | "shared" | "vgpus">> {
  /** What tells its sockets from those of others in the test's folder. */
  readonly name?: string;
  /** More of QEMU's arguments. */
  readonly more?: readonly string[];
  /** More of the kernel's command line. */
  readonly append?: string;
}

/** Where guests boot. */
export interface Bench {
  /** What they are booted with. */
  readonly lab: Lab;
  /** Whom they belong to. */
  readonly scope: TestScope;
}

/** A guest that has booted. */
export class Guest implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #pumps: readonly Promise<void>[];
  readonly #owned: Disposable;
  #console = "";
  #agent: Agent | undefined;
  #qmp: Qmp | undefined;

  private constructor(child: Deno.ChildProcess, owned: Disposable) {
    this.#child = child;
    this.#owned = owned;
    this.#pumps = [child.stdout, child.stderr].map((stream) => this.#pump(stream));
  }

  /** Boots a guest and waits for its agent. */
  static async boot({ lab, scope }: Bench, options: GuestOptions = {}): Promise<Guest> {
    const { name = "guest", more = [], machine = "pc", memory = "512M", cpus = 1, vgpus = [] } = options;
    const [agent, qmp] = [`${scope.folder}/${name}-agent.sock`, `${scope.folder}/${name}-qmp.sock`];
    const args = machineArguments(lab.emulator, {
      machine,
      memory,
      cpus,
      shared: options.shared ?? true,
      kernel: lab.kernel.image,
      initrd: lab.initrd,
      append: `${APPEND} ${options.append ?? "transparent_hugepage=never"}`.trimEnd(),
      vgpus,
      more: [
        ...["-serial", "stdio", "-serial", `unix:${agent},server=on,wait=off`],
        ...["-monitor", "none", "-qmp", `unix:${qmp},server=on,wait=off`, ...more],
      ],
    });
    const command = new Deno.Command(lab.emulator.program, {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
    const child = command.spawn();
    const guest = new Guest(child, scope.own(child.pid));
    try {
      await guest.#open(agent, qmp);
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
    return guest;
  }

  /** The program in the guest. */
  get agent(): Agent {
    return this.#agent!;
  }

  /** QEMU's monitor. */
  get qmp(): Qmp {
    return this.#qmp!;
  }

  /** All that the guest and QEMU said. */
  get console(): string {
    return this.#console;
  }

  /** The end of that, for an error's message. */
  tail(): string {
    const lines = this.#console.trimEnd().split("\n").slice(-TAIL_LINES);
    return `the console's end:\n  ${lines.join("\n  ")}`;
  }

  /** Resets the machine, as its button does, and waits for the agent. */
  async reset(): Promise<void> {
    await this.#begin(() => this.qmp.execute("system_reset"));
  }

  /** Lets the guest's kernel reboot, and waits for the agent. */
  async reboot(): Promise<void> {
    await this.#begin(() => this.agent.start(BOOT_DEADLINE, "/bin/busybox", "reboot", "-f"));
  }

  /** Kills QEMU, without a word to the guest or the device. */
  async kill(): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await within(END_DEADLINE, () => `QEMU does not end\n${this.tail()}`, this.#child.status);
  }

  /** Whether QEMU still runs. */
  async runs(): Promise<boolean> {
    const { status } = await this.qmp.execute("query-status") as { status: string };
    return status === "running";
  }

  /** Ends the guest and hangs up. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await Promise.all(this.#pumps);
    this.#owned[Symbol.dispose]();
    this.#agent?.[Symbol.dispose]();
    this.#qmp?.[Symbol.dispose]();
  }

  /** A machine that begins anew. */
  async #begin(how: () => Promise<unknown>): Promise<void> {
    // QEMU was started with -no-reboot.
    await this.qmp.execute("set-action", { reboot: "reset" });
    await how();
    await this.agent.ready(BOOT_DEADLINE);
  }

  async #open(agent: string, qmp: string): Promise<void> {
    const ended = this.#child.status.then(async ({ code }) => {
      await Promise.all(this.#pumps);
      throw new Error(`QEMU has ended with ${code}\n${this.tail()}`);
    });
    const connect = async () => {
      try {
        this.#qmp = await Qmp.open(qmp);
        this.#agent = await Agent.open(agent, BOOT_DEADLINE, () => this.tail());
      } catch (error) {
        // A connection that breaks is QEMU's end, and its own words say more.
        await within(END_DEADLINE, () => String(error), ended);
      }
    };
    await Promise.race([connect(), ended]);
  }

  async #pump(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) this.#console += text;
  }
}
