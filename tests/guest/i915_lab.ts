/**
 * What guests with `i915` are booted with: the kernel's own driver, IGT's programs, and `i915test`, a program of our
 * own, besides the agent.
 *
 * @module
 */

import type { Cache } from "../../examples/qemu/cache.ts";
import { digest, i915Archive, kept } from "../../examples/qemu/guest.ts";
import { findIgt } from "../../examples/qemu/igt.ts";
import { Initramfs } from "../../examples/qemu/initramfs.ts";
import { type Lab, lab, type Preparation, prepare } from "./lab.ts";
import { Sources } from "./sources.ts";

const ENTRY = "i915-test-guest-";
const PROGRAM_ENTRY = "i915test-";
const PROGRAM = new Sources(new URL("i915/", import.meta.url));

/** Where the guest has the program, if there is one. */
export const PROGRAM_PATH = "/bin/i915test";

/** What there is, or why there is nothing. */
export const i915Lab: Preparation = "reason" in lab ? lab : await withDriver(lab);

async function withDriver(common: Lab): Promise<Preparation> {
  return await prepare(async (cache, steps) => {
    const driver = await i915Archive(common.kernel, await findIgt(cache, steps));
    const parts = [driver, await programArchive(cache), await Deno.readFile(common.initrd)];
    return { ...common, initrd: await kept(cache, ENTRY, parts) };
  });
}

/** The program, compiled anew when its source has changed. */
async function programArchive(cache: Cache): Promise<Uint8Array<ArrayBuffer>> {
  const initramfs = new Initramfs();
  if (PROGRAM.exist) {
    const entry = `${PROGRAM_ENTRY}${await digest(new TextEncoder().encode(PROGRAM.text()))}`;
    cache.removeOld(PROGRAM_ENTRY);
    if (!cache.has(entry)) await cache.make(entry, (path) => PROGRAM.compile(path));
    initramfs.file(PROGRAM_PATH.slice(1), await Deno.readFile(cache.entry(entry)));
  }
  return await initramfs.plainBytes();
}
