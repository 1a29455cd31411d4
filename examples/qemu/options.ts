/**
 * The command line of `deno task qemu`.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { UsageError } from "../../src/cli/usage.ts";
import { userPath } from "../../src/cli/user_path.ts";
import { defaultCachePath, SIZE_MB } from "./cache.ts";
import { DEFAULT_SUITE } from "./kernel.ts";
import { type MachineOptions, MACHINES } from "./machine.ts";

/** What `--help` prints. */
export const USAGE = `Usage: deno task qemu [OPTION]…

Boots a Linux guest with a vGPU in QEMU, over vfio-user, and shows its console. Ctrl-A x ends it.

  --i915             load the kernel's own i915 and let IGT's programs use the vGPU; then print what the device
                     saw. Without a terminal on standard input the guest ends after that, else it gives a shell
                     (downloads ${SIZE_MB.igt} MB more)
  --kernel SUITE     the newest kernel of a suite of Debian's archive (${DEFAULT_SUITE}): trixie, trixie-backports, …
  --device ID        the vGPU's PCI device id (0x1912, a Skylake; 0x5912 is a Kaby Lake)
  --machine pc|q35   QEMU's machine (pc)
  --memory SIZE      the guest's RAM (512M; 1G with --i915)
  --append WORDS     more of the kernel's command line
  --record FILE      have the device record what comes in, for deno task replay and deno task inspect
  --kvm              use KVM instead of emulating the processor
                     (no whole guest boots under nested KVM; use it on real hardware)
  --qemu PATH        a QEMU of yours: 10.1 or newer, with vfio-user-pci
  --cache DIR        where downloads are kept ($XDG_CACHE_HOME/vgtt, else ~/.cache/vgtt;
                     downloads ${SIZE_MB.downloads} MB, keeps ${SIZE_MB.kept} MB)
  --fresh            fetch them anew
  --help             print this text and exit

Exit status: QEMU's own; 1 if something is missing, or the device ends before QEMU; 2 for a wrong option;
128 and the signal's number if a signal ended it.
`;

const STRINGS = ["kernel", "device", "machine", "memory", "append", "record", "qemu", "cache"] as const;
const FLAGS = ["i915", "kvm", "fresh", "help"] as const;

/** What the user asked for. */
export interface Options {
  /** Whether the guest loads `i915`. */
  readonly i915: boolean;
  /** The suite of Debian's archive that the kernel comes from. */
  readonly kernel: string;
  /** The vGPU's PCI device id, as `start` takes it. */
  readonly device: string | undefined;
  /** Which of QEMU's machines. */
  readonly machine: MachineOptions["machine"];
  /** The guest's RAM, as QEMU takes it. */
  readonly memory: string;
  /** More of the kernel's command line. */
  readonly append: string;
  /** The file that the device records to. */
  readonly record: string | undefined;
  /** Whether to use KVM. */
  readonly kvm: boolean;
  /** A QEMU of the user's: a path, or a name that the system finds. */
  readonly qemu: string | undefined;
  /** The folder of the cache. */
  readonly cache: string;
  /** Whether to fetch everything anew. */
  readonly fresh: boolean;
}

/**
 * Reads the command line.
 *
 * @returns `null` if the user asks for help.
 * @throws {UsageError} Saying which argument is wrong.
 */
export function parseOptions(args: readonly string[]): Options | null {
  const strangers: string[] = [];
  // `deno task qemu -- --i915` hands the first word on, too.
  const words = args[0] === "--" ? args.slice(1) : [...args];
  const parsed = parseArgs(words, {
    string: STRINGS,
    boolean: FLAGS,
    unknown: (word) => void strangers.push(word),
  });
  if (parsed["help"] === true) return null;
  if (strangers.length > 0) throw new UsageError(`There is no option ${strangers[0]}`);
  const valued = words.find((word) => FLAGS.some((name) => word.startsWith(`--${name}=`)));
  if (valued !== undefined) throw new UsageError(`${valued}: this option takes no value`);
  const text = (name: typeof STRINGS[number]) => {
    const value = parsed[name] as string | undefined;
    if (value === "" && name !== "append") throw new UsageError(`--${name} needs a value`);
    return value;
  };
  const machine = MACHINES.find((name) => name === (text("machine") ?? "pc"));
  if (machine === undefined) throw new UsageError(`--machine must be one of ${MACHINES.join(", ")}`);
  const i915 = parsed["i915"] === true;
  const memory = text("memory") ?? (i915 ? "1G" : "512M");
  if (!/^[1-9]\d*[MG]$/.test(memory)) {
    throw new UsageError(`--memory must be like 512M or 6G: got ${memory}`);
  }
  const kernel = text("kernel") ?? DEFAULT_SUITE;
  if (!/^[a-z]+(-backports)?$/.test(kernel)) {
    throw new UsageError(`--kernel must be a suite of Debian's archive, like trixie: got ${kernel}`);
  }
  const qemu = text("qemu");
  const cache = text("cache");
  const record = text("record");
  return {
    i915,
    kernel,
    device: text("device"),
    machine,
    memory,
    append: text("append") ?? "",
    record: record === undefined ? undefined : userPath(record),
    kvm: parsed["kvm"] === true,
    qemu: qemu?.includes("/") ? userPath(qemu) : qemu,
    cache: cache === undefined ? defaultCachePath() : userPath(cache),
    fresh: parsed["fresh"] === true,
  };
}
