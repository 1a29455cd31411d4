/**
 * A device's state in a few short texts, each of one part of it: where two devices differ, that part's texts do.
 *
 * @module
 */

import { PAGE_SIZE, TABLE_KINDS } from "../gtt/entry.ts";
import type { ShadowTable } from "../gtt/shadow_table.ts";
import type { Device } from "../vgpu/device.ts";
import { REGISTERS_SIZE } from "../vgpu/register_table.ts";
import { CONFIG_SIZE } from "../vgpu/pci.ts";

/** The digest of each part, by name. */
export type StateDigest = Readonly<Record<string, string>>;

/**
 * Takes the digests of a device. It changes nothing. Guest memory is looked at as a recording knows it, where there is one:
 * what the device has accessed of regions that are not its own.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, REGION_BAR0 } from "../../mod.ts";
 * import { stateDigest } from "./state_digest.ts";
 *
 * using device = createDevice();
 * const before = stateDigest(device);
 * device.vgpu.write(REGION_BAR0, 0x800000 + 8 * 0x4000, 8, 0x1003, 0);
 * const after = stateDigest(device);
 * assertEquals(Object.keys(before).filter((part) => before[part] !== after[part]), ["guest GGTT", "host GGTT", "counters"]);
 * ```
 */
export function stateDigest(device: Device): StateDigest {
  const { vgpu, host, gvt, ram } = device;
  const { gtt, pci, bar0, interrupts } = vgpu;
  const { tables, mms, oos, post, scratch, tracks, ggtt } = gtt.parts;
  const live = [...tables.all()].sort(inOrder);
  return {
    "registers": digest((hash) => {
      for (let at = 0; at < REGISTERS_SIZE; at += 4) hash.add(vgpu.registers.get(at));
    }),
    "PCI configuration": digest((hash) => {
      for (let at = 0; at < CONFIG_SIZE; at++) hash.add(pci.readByte(at));
    }),
    "PVINFO": digest((hash) => (hash.lanes(bar0.pvinfo.roots), hash.text([bar0.pvinfo.wasRead]))),
    "interrupts": digest((hash) => hash.text(interrupts.state())),
    "guest GGTT": digest((hash) => addWindows(hash, device, ggtt.entries)),
    "host GGTT": digest((hash) => addWindows(hash, device, host.ggtt.lanes)),
    "shadow tables": digest((hash) => live.forEach((table) => addTable(hash, table))),
    "address spaces": digest((hash) => {
      for (const { id, level, refs, pins, shadowed, roots, shadowRoots } of mms.all()) {
        hash.text([id, level, refs, pins, shadowed]);
        hash.lanes(roots);
        hash.lanes(shadowRoots);
      }
      hash.text([...gvt.lru].map(({ id }) => id));
    }),
    "out of sync": digest((hash) => {
      hash.text([oos.outOfSync, oos.attached].map((set) => [...set].map(nameOf)));
      for (const { snapshot } of oos.attached) if (snapshot !== null) hash.lanes(snapshot);
    }),
    "post-shadow": digest((hash) => {
      hash.text([...post.listed].map(nameOf));
      hash.text(live.map((table) => table.queuedIndices()));
    }),
    "page tracks": digest((hash) => {
      hash.text([tracks.enabledTracks, [...host.protectedFrames].sort((a, b) => a - b)]);
    }),
    "scratch pages": digest((hash) => {
      hash.text([gvt.globalScratch, scratch.mfn]);
      for (const kind of TABLE_KINDS) hash.lanes(scratch.page(kind)?.lanes ?? NOTHING);
    }),
    "RAM regions": digest((hash) => hash.text(ram.regions)),
    "guest memory": digest((hash) => {
      for (const [gfn, lanes] of ram.recordedPages()) {
        hash.text(gfn);
        hash.lanes(lanes);
      }
    }),
    "engines": digest((hash) => hash.text([vgpu.isRunnable, vgpu.isWaiting, gtt.failsafe])),
    "counters": digest((hash) =>
      hash.text([vgpu.counters, vgpu.streamerCounters, gtt.counters, host.ggtt.flushes])
    ),
  };
}

const NOTHING = new Uint32Array(0);

function inOrder(a: ShadowTable, b: ShadowTable): number {
  return a.gfn - b.gfn || a.kind - b.kind || a.span - b.span || a.page.mfn - b.page.mfn;
}

function nameOf({ gfn, kind, span, isSplit }: ShadowTable): unknown[] {
  return [gfn, kind, span, isSplit];
}

function addTable(hash: Hash, table: ShadowTable): void {
  const { page, refs, writeCount, enabled, syncedIn, lanes } = table;
  hash.text([...nameOf(table), page.mfn, refs, writeCount, enabled, syncedIn]);
  hash.lanes(lanes);
}

/** The entries that the vGPU owns: nothing else of a GGTT ever changes. */
function addWindows(hash: Hash, { vgpu }: Device, lanes: Uint32Array): void {
  const { apertureBase, apertureSize, hiddenBase, hiddenSize } = vgpu.gtt.gm.layout;
  for (const [base, size] of [[apertureBase, apertureSize], [hiddenBase, hiddenSize]] as const) {
    hash.lanes(lanes.subarray(2 * base / PAGE_SIZE, 2 * (base + size) / PAGE_SIZE));
  }
}

function digest(add: (hash: Hash) => void): string {
  const hash = new Hash();
  add(hash);
  return hash.end();
}

/** Two mixed lanes: 64 bits that tell what is different, quickly, and keep nobody out who wants to deceive. */
class Hash {
  #a = 0x9e3779b9;
  #b = 0x85ebca6b;

  add(lane: number): void {
    const a = Math.imul(this.#a ^ lane, 0xcc9e2d51);
    this.#a = (a << 15 | a >>> 17) + this.#b | 0;
    const b = Math.imul(this.#b ^ this.#a, 0x1b873593);
    this.#b = (b << 13 | b >>> 19) + lane | 0;
  }

  lanes(lanes: Uint32Array): void {
    for (let i = 0; i < lanes.length; i++) this.add(lanes[i]!);
    this.add(lanes.length);
  }

  text(value: unknown): void {
    const text = JSON.stringify(value);
    for (let i = 0; i < text.length; i++) this.add(text.charCodeAt(i));
    this.add(text.length);
  }

  end(): string {
    for (let i = 0; i < 4; i++) this.add(i);
    return [this.#a, this.#b].map((lane) => (lane >>> 0).toString(16).padStart(8, "0")).join("");
  }
}
