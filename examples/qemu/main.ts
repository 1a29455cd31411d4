/**
 * `deno task qemu`: boots a Linux guest with a vGPU in stock QEMU and shows its console. Finds or prepares all that
 * it takes, says how QEMU was started, and removes what it started.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { Cache, defaultCachePath } from "./cache.ts";
import { HelpfulError, shellLine } from "./command.ts";
import { Device } from "./device.ts";
import { type Emulator, findEmulator } from "./emulator.ts";
import { shellGuest } from "./guest.ts";
import { findKernel, type Kernel } from "./kernel.ts";
import { Interruption } from "./interruption.ts";
import { machineArguments, type MachineOptions, MACHINES } from "./machine.ts";
import { Steps } from "./steps.ts";

const USAGE = `Usage: deno task qemu [OPTION]…

Boots a Linux guest with a vGPU in QEMU, over vfio-user, and shows its console. Ctrl-A x ends it.

  --machine pc|q35   QEMU's machine (pc)
  --memory SIZE      the guest's RAM (512M)
  --append WORDS     more of the kernel's command line
  --kvm              use KVM instead of emulating the processor (not tried with a whole guest)
  --qemu PATH        a QEMU of yours: 10.1 or newer, with vfio-user-pci
  --cache DIR        where downloads are kept ($XDG_CACHE_HOME/vgtt, else ~/.cache/vgtt; about 600 MB)
  --fresh            fetch them anew
`;

const STRINGS = ["machine", "memory", "append", "qemu", "cache"];
const FLAGS = ["kvm", "fresh", "help"];

/** The exit status that shells give to what Ctrl-C ended. */
const INTERRUPTED = 130;

/** What the user asked for. */
interface Options {
  readonly machine: MachineOptions["machine"];
  readonly memory: string;
  readonly append: string;
  readonly kvm: boolean;
  readonly qemu: string | undefined;
  readonly cache: string;
  readonly fresh: boolean;
}

function parseOptions(args: readonly string[]): Options | null {
  const parsed = parseArgs([...args], {
    string: STRINGS,
    boolean: FLAGS,
    unknown: (word) => {
      throw new HelpfulError(`Unknown argument ${word}\n\n${USAGE}`);
    },
  }) as Readonly<Record<string, string | boolean | undefined>>;
  if (parsed.help === true) return null;
  const text = (name: string, otherwise: string) => String(parsed[name] ?? otherwise);
  const machine = MACHINES.find((name) => name === text("machine", "pc"));
  if (machine === undefined) throw new HelpfulError(`--machine must be one of ${MACHINES.join(", ")}`);
  const memory = text("memory", "512M");
  if (!/^\d+[MG]$/.test(memory)) throw new HelpfulError(`--memory must be like 512M or 6G: got ${memory}`);
  return {
    machine,
    memory,
    append: text("append", ""),
    kvm: parsed.kvm === true,
    qemu: parsed.qemu === undefined ? undefined : absolute(text("qemu", "")),
    cache: absolute(text("cache", defaultCachePath())),
    fresh: parsed.fresh === true,
  };
}

/** A path as the user means it: `deno task` has gone to the project's folder. A name without a slash stays one. */
function absolute(path: string): string {
  if (path.startsWith("/") || !path.includes("/")) return path;
  return `${Deno.env.get("INIT_CWD") ?? Deno.cwd()}/${path}`;
}

/** All that has to be there before a guest can boot. */
async function prepare(options: Options, steps: Steps): Promise<{ emulator: Emulator; kernel: Kernel }> {
  using cache = await Cache.open(options.cache, steps);
  if (options.fresh) cache.clear();
  const emulator = await findEmulator(cache, steps, options.qemu);
  return { emulator, kernel: await findKernel(cache, steps) };
}

/** Boots the guest. @returns QEMU's exit status. */
async function boot(options: Options, steps: Steps): Promise<number> {
  const { emulator, kernel } = await prepare(options, steps);
  using interruption = new Interruption();
  const folder = await Deno.makeTempDir({ prefix: "vgtt-qemu-" });
  try {
    const initrd = `${folder}/initrd.gz`;
    await Deno.writeFile(initrd, await shellGuest(kernel));
    await using device = await Device.start({ folder });
    await steps.run("device: starting", () => device.listening());
    const args = machineArguments(emulator, {
      ...options,
      kernel: kernel.image,
      initrd,
      append: `console=ttyS0 quiet panic=-1 ${options.append}`.trimEnd(),
      vgpus: [device.vfioUserPath],
      more: ["-serial", "mon:stdio"],
    });
    steps.note("guest: its console follows; it boots for some seconds before it says anything");
    steps.note(`device: look at it from outside over ${device.socketPath}`);
    steps.note(`${shellLine(emulator.program, args)}\n`);
    const { signal } = interruption;
    const { code } = await new Deno.Command(emulator.program, { args, stdin: "inherit", signal }).spawn()
      .status;
    steps.note(`QEMU has ended with ${code}; the device's log:`);
    for (const line of device.log) say(`  ${line}\n`);
    return code;
  } catch (error) {
    if (!interruption.signal.aborted) throw error;
    return INTERRUPTED;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function main(args: readonly string[]): Promise<number> {
  try {
    const options = parseOptions(args);
    if (options !== null) return await boot(options, new Steps());
    say(USAGE);
    return 0;
  } catch (error) {
    if (!(error instanceof HelpfulError)) throw error;
    say(`${error.message}\n`);
    return 1;
  }
}

function say(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}

if (import.meta.main) Deno.exit(await main(Deno.args));
