/**
 * What the guest tests need before the first guest boots: QEMU, a kernel, and an initramfs with the agent. Prepared
 * once and cached; where it cannot be, the tests are ignored, and `reason` says why.
 *
 * @module
 */

import { Cache, defaultCachePath } from "../../examples/qemu/cache.ts";
import { HelpfulError } from "../../examples/qemu/command.ts";
import { type Emulator, findEmulator } from "../../examples/qemu/emulator.ts";
import { digest, withBusybox } from "../../examples/qemu/guest.ts";
import { findKernel, type Kernel } from "../../examples/qemu/kernel.ts";
import { modulesInOrder } from "../../examples/qemu/modules.ts";
import { Steps } from "../../examples/qemu/steps.ts";
import { Sources } from "./sources.ts";

/** Everything to boot a guest with. */
export interface Lab {
  /** How to run QEMU. */
  readonly emulator: Emulator;
  /** The guest's kernel. */
  readonly kernel: Kernel;
  /** The path of the initramfs with the agent. */
  readonly initrd: string;
}

/** What there is, or why there is nothing. */
export type Preparation = Lab | { readonly reason: string };

const AGENT = new Sources(new URL("guest/", import.meta.url));
const ENTRY = "test-guest-";
/** The modules that the agent may load, in `/` of the guest. */
const MODULES = ["uio_pci_generic"];
/** Names the suite of Debian's archive whose kernel the guests have, if not Debian 12's own. */
const KERNEL_VARIABLE = "VGTT_KERNEL";

/** What most tests boot their guests with. */
export const lab: Preparation = await prepare(async (cache, steps) => {
  const emulator = await findEmulator(cache, steps);
  const kernel = await findKernel(cache, steps, Deno.env.get(KERNEL_VARIABLE) || undefined);
  return { emulator, kernel, initrd: await findInitramfs(cache, kernel) };
});

/** Prepares what guests are booted with. */
export async function prepare(make: (cache: Cache, steps: Steps) => Promise<Lab>): Promise<Preparation> {
  const steps = new Steps({ quiet: true });
  try {
    using cache = await Cache.open(defaultCachePath(), steps);
    return await make(cache, steps);
  } catch (error) {
    if (!(error instanceof HelpfulError)) throw error;
    Deno.stderr.writeSync(new TextEncoder().encode(`guest tests are ignored: ${error.message}\n`));
    return { reason: error.message };
  }
}

/** The initramfs; it is made anew when the agent's source or the kernel has changed. */
async function findInitramfs(cache: Cache, kernel: Kernel): Promise<string> {
  const version = await digest(new TextEncoder().encode(`${kernel.release}\n${AGENT.text()}`));
  const name = `${ENTRY}${version}.gz`;
  if (cache.has(name)) return cache.entry(name);
  cache.removeOld(ENTRY);
  return await cache.make(name, async (path, scratch) => {
    await AGENT.compile(`${scratch}/agent`);
    const initramfs = (await withBusybox(kernel))
      .file("init", await AGENT.file("init.sh"))
      .file("bin/agent", await Deno.readFile(`${scratch}/agent`));
    for (const module of await modulesInOrder(kernel, MODULES)) {
      initramfs.file(`${module.name}.ko`, module.content);
    }
    await Deno.writeFile(path, await initramfs.bytes());
  });
}
