/**
 * What the guest tests need before the first guest boots: QEMU, a kernel, and an initramfs with the agent. Prepared
 * once and cached; where it cannot be, the tests are ignored, and `reason` says why.
 *
 * @module
 */

import { Cache, defaultCachePath } from "../../examples/qemu/cache.ts";
import { HelpfulError, MissingProgramError, run } from "../../examples/qemu/command.ts";
import { type Emulator, findEmulator } from "../../examples/qemu/emulator.ts";
import { digest, withBusybox } from "../../examples/qemu/guest.ts";
import { findKernel, type Kernel } from "../../examples/qemu/kernel.ts";
import { Steps } from "../../examples/qemu/steps.ts";

/** Everything to boot a guest with. */
export interface Lab {
  /** How to run QEMU. */
  readonly emulator: Emulator;
  /** The guest's kernel. */
  readonly kernel: Kernel;
  /** The path of the initramfs with the agent. */
  readonly initrd: string;
}

const SOURCES = new URL("guest/", import.meta.url);
const ENTRY = "test-guest-";
/** The modules that the agent may load, in `/` of the guest. */
const MODULES = ["uio", "uio_pci_generic"];

/** What there is, or why there is nothing. */
export const lab: Lab | { readonly reason: string } = await prepare();

async function prepare(): Promise<Lab | { readonly reason: string }> {
  const steps = new Steps({ quiet: true });
  try {
    using cache = await Cache.open(defaultCachePath(), steps);
    const emulator = await findEmulator(cache, steps);
    const kernel = await findKernel(cache, steps);
    return { emulator, kernel, initrd: await findInitramfs(cache, kernel) };
  } catch (error) {
    if (!(error instanceof HelpfulError)) throw error;
    return { reason: error.message };
  }
}

/** The initramfs; it is made anew when the agent's source or the kernel has changed. */
async function findInitramfs(cache: Cache, kernel: Kernel): Promise<string> {
  const files = [...Deno.readDirSync(SOURCES)].map(({ name }) => name).sort();
  const texts = files.map((name) => `${name}\n${Deno.readTextFileSync(new URL(name, SOURCES))}`);
  const name = `${ENTRY}${await digest(new TextEncoder().encode([kernel.release, ...texts].join("\n")))}.gz`;
  if (cache.has(name)) return cache.entry(name);
  for (const old of cache.names(ENTRY)) cache.remove(old);
  return await cache.make(name, async (path, scratch) => {
    await compile(files.filter((file) => file.endsWith(".c")), `${scratch}/agent`);
    const initramfs = (await withBusybox(kernel))
      .file("init", await Deno.readFile(new URL("init.sh", SOURCES)))
      .file("bin/agent", await Deno.readFile(`${scratch}/agent`));
    for (const module of MODULES) {
      initramfs.file(
        `${module}.ko`,
        await Deno.readFile(`${kernel.modules}/kernel/drivers/uio/${module}.ko`),
      );
    }
    await Deno.writeFile(path, await initramfs.bytes());
  });
}

async function compile(files: readonly string[], to: string): Promise<void> {
  const missing = "The agent in the guest is a C program: apt-get install gcc libc6-dev";
  const sources = files.map((name) => new URL(name, SOURCES).pathname);
  try {
    await run("gcc", ["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", to, ...sources], missing);
  } catch (error) {
    // A program that does not compile is no reason to ignore the tests.
    throw error instanceof MissingProgramError ? error : new Error(String(error));
  }
}
