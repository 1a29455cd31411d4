/**
 * A QEMU that has `vfio-user-pci`, the client of vfio-user: 10.1 or newer. The system's own if it is one, else one
 * from Debian's backports, unpacked into the cache with all its libraries and run by its own dynamic loader. That
 * needs no root, no `chroot` and no mounts.
 *
 * @module
 */

import { Apt, move } from "./apt.ts";
import { type Cache, SIZE_MB } from "./cache.ts";
import { HelpfulError, output } from "./command.ts";
import type { Steps } from "./steps.ts";

const PROGRAM = "qemu-system-x86_64";
const ENTRY = "qemu";
const SUITES = ["trixie", "trixie-backports"];
const PACKAGES = ["qemu-system-x86", "seabios"];
const LIBRARIES = "usr/lib/x86_64-linux-gnu";
/** What of the packages is kept. Some hold programs that run as root for anybody, which must not lie around. */
const KEPT = [LIBRARIES, "usr/share/qemu", "usr/share/seabios", `usr/bin/${PROGRAM}`];
const OTHERWISE = "install QEMU 10.1 or newer";

/** How to run a QEMU. */
export interface Emulator {
  /** The program to start. */
  readonly program: string;
  /** The arguments that come before QEMU's own. */
  readonly args: readonly string[];
  /** What it says of its version, as `11.1.3 (Debian …)`. */
  readonly version: string;
}

/**
 * Finds a QEMU, or prepares one.
 *
 * @param cache Where it is prepared.
 * @param steps Where progress is told.
 * @param path A QEMU that the user chose.
 * @returns A QEMU with `vfio-user-pci`.
 * @throws {HelpfulError} If there is none and none can be prepared.
 */
export async function findEmulator(cache: Cache, steps: Steps, path?: string): Promise<Emulator> {
  if (path !== undefined) {
    const chosen = await ask(path, []);
    if (chosen !== null) return chosen;
    throw new HelpfulError(
      `${path} has no vfio-user-pci: QEMU 10.1 or newer is needed, built with vfio-user`,
    );
  }
  const own = await probe(PROGRAM, []);
  if (own !== null) {
    steps.note(`QEMU: the system's, ${own.version}`);
    return own;
  }
  if (!cache.has(ENTRY)) {
    await steps.run(
      `QEMU: none with vfio-user-pci here; fetching one of Debian's (${SIZE_MB.emulator} MB)`,
      () => prepare(cache),
    );
  }
  const prepared = await probe(...inFolder(cache.entry(ENTRY)));
  if (prepared === null) {
    throw new HelpfulError(`The QEMU in ${cache.entry(ENTRY)} does not run; try --fresh`);
  }
  steps.note(`QEMU: ${prepared.version}, in ${cache.entry(ENTRY)}`);
  return prepared;
}

async function prepare(cache: Cache): Promise<void> {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
    throw new HelpfulError(`Debian's QEMU is fetched on Linux on x86-64 only: ${OTHERWISE}`);
  }
  await cache.make(ENTRY, async (path, scratch) => {
    const apt = await Apt.open(scratch, SUITES, OTHERWISE, cache.signal);
    const unpacked = `${scratch}/unpacked`;
    for (const file of await apt.download(...PACKAGES)) await file.unpack(unpacked);
    for (const name of KEPT) await move(`${unpacked}/${name}`, `${path}/${name}`);
  });
}

/** How to run the QEMU whose packages were unpacked into a folder. */
function inFolder(folder: string): [program: string, args: readonly string[]] {
  const data = ["qemu", "seabios"].flatMap((name) => ["-L", `${folder}/usr/share/${name}`]);
  const loader = `${folder}/${LIBRARIES}/ld-linux-x86-64.so.2`;
  return [loader, ["--library-path", `${folder}/${LIBRARIES}`, `${folder}/usr/bin/${PROGRAM}`, ...data]];
}

/** Whether this is a QEMU with the client. @throws {HelpfulError} If it is no program at all. */
async function ask(program: string, args: readonly string[]): Promise<Emulator | null> {
  const missing = `There is no ${program}`;
  const devices = await output(program, [...args, "-device", "help"], missing);
  if (!devices.stdout.includes('"vfio-user-pci"')) return null;
  const { stdout } = await output(program, [...args, "--version"], missing);
  return { program, args, version: /version (.+)/.exec(stdout)?.[1] ?? "of unknown version" };
}

/** As {@link ask}, for a program that need not be there. */
async function probe(program: string, args: readonly string[]): Promise<Emulator | null> {
  try {
    return await ask(program, args);
  } catch (error) {
    if (error instanceof HelpfulError) return null;
    throw error;
  }
}
