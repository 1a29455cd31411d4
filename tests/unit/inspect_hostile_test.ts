/** Guests whose tables lead everywhere: every view ends soon and tells little. */

import { assert, assertEquals } from "@std/assert";
import { diffShadow, shadowDiffLines } from "../../src/observe/diff.ts";
import { overview } from "../../src/observe/overview.ts";
import { diffSnapshots } from "../../src/observe/snapshot_diff.ts";
import type { Snapshot } from "../../src/observe/snapshot.ts";
import { spaceLines } from "../../src/observe/space_lines.ts";
import { spaceTree } from "../../src/observe/space_tree.ts";
import { walkSteps } from "../../src/observe/walk_steps.ts";
import { whoLines, whoMaps } from "../../src/observe/who.ts";
import { createDevice } from "../../mod.ts";
import { snapshotOf } from "./inspect_snapshot.ts";

/** A device whose guest has 4-level address spaces with these entries by frame. */
function snapshotWith(
  entries: Readonly<Record<number, (index: number) => number>>,
  roots: readonly number[],
): Snapshot {
  using device = createDevice();
  device.mapRam({ gpa: 0, size: 0x100000 });
  for (const [gfn, entry] of Object.entries(entries)) {
    const page = BigUint64Array.from({ length: 512 }, (_, index) => BigInt(entry(index) * 4096 + 3));
    device.ram.write(Number(gfn) * 4096, new Uint8Array(page.buffer));
  }
  for (const root of roots) device.vgpu.gtt.createMm(4, Uint32Array.of(root * 4096, 0, 0, 0, 0, 0, 0, 0));
  return snapshotOf(device);
}

/** Takes every view of a snapshot. @returns How many lines there are. */
function views(snapshot: Snapshot, gfn: number): number {
  const [space] = snapshot.parts.spaces;
  const diff = diffShadow(snapshot);
  assertEquals([diff.counts.wrong, diff.counts.pending], [0, 0]);
  assertEquals(diffSnapshots(snapshot, snapshot).isSame, true);
  assertEquals(walkSteps(snapshot, space!, 0xffffffffffffn).verdict.class, "same");
  overview(snapshot);
  const lines = [
    spaceLines(spaceTree(snapshot, space!)),
    shadowDiffLines(diff),
    whoLines(whoMaps(snapshot, gfn)),
  ];
  return lines.flat().length;
}

Deno.test("views of a PML4 whose entries all lead to itself are short", () => {
  const snapshot = snapshotWith({ 5: () => 5 }, [5, 5]);
  assertEquals(snapshot.parts.tables.size, 4);
  assert(views(snapshot, 5) < 40);
  assertEquals(spaceLines(spaceTree(snapshot, snapshot.parts.spaces[0]!)).length, 6);
  const [mapping] = whoMaps(snapshot, 5).mappings.filter(({ kind }) => kind === "PTE");
  assertEquals([mapping?.count, mapping?.addresses.length], [2 * 2 ** 36, 4]);
});

Deno.test("views of tables that all lead to one another are short", () => {
  const frames = Array.from({ length: 40 }, (_, i) => i + 1);
  const entries = Object.fromEntries(
    frames.map((gfn) => [gfn, (index: number) => frames[(gfn * 7 + index * 3) % 40]!]),
  );
  const snapshot = snapshotWith(entries, frames.slice(0, 10));
  assertEquals(snapshot.parts.tables.size, 130);
  assert(views(snapshot, 3) < 250);
  const tree = spaceLines(spaceTree(snapshot, snapshot.parts.spaces[0]!));
  assertEquals(tree.length <= 50, true);
  assertEquals(
    tree[2],
    "=   0x0–0xffffffffffff · PML4[0–511] · P W · gfn 0x8…0x15 → 512 PDP tables · 68719476736 pages",
  );
});
