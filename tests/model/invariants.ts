/**
 * What must hold of the model after every step. A violation is a bug of the model, never of a guest.
 *
 * @module
 */

import { childKind, frameOf, isLarge, isPresent, rootTableKind } from "./entry.ts";
import type { ShadowTable, Vgpu } from "./vgpu.ts";

/**
 * Checks a vGPU's state against itself.
 *
 * @param vgpu The vGPU, between two steps.
 * @returns One line a violation.
 */
export function violations(vgpu: Vgpu): string[] {
  return [
    ...countViolations(vgpu),
    ...entryViolations(vgpu),
    ...protectionViolations(vgpu),
    ...listViolations(vgpu),
    ...mmViolations(vgpu),
    ...ggttViolations(vgpu),
  ];
}

function nameOf(table: ShadowTable): string {
  return `${table.kind} ${table.gfn}`;
}

/** Every count is the number of entries and roots that point to the table; one table a frame and kind. */
function countViolations(vgpu: Vgpu): string[] {
  const roots = vgpu.mms.flatMap((mm) => mm.shadowRoots.flatMap((root) => root === null ? [] : [root.table]));
  const pointed = new Map<number, number>();
  const point = (mfn: number) => pointed.set(mfn, (pointed.get(mfn) ?? 0) + 1);
  for (const table of roots) point(table.mfn);
  for (const table of vgpu.tables) {
    if (table.kind === "PTE") continue;
    for (const entry of table.entries) if (isPresent(entry)) point(frameOf(entry));
  }
  const wrong = vgpu.tables.filter((table) => (pointed.get(table.mfn) ?? 0) !== table.references);
  const names = new Set(vgpu.tables.map(nameOf));
  return [
    ...wrong.map((t) =>
      `${nameOf(t)} has count ${t.references}, pointed to ${pointed.get(t.mfn) ?? 0} times`
    ),
    ...(names.size === vgpu.tables.length ? [] : ["two tables of one frame and kind"]),
  ];
}

/** Every shadow entry leads where an entry of its table may lead. */
function entryViolations(vgpu: Vgpu): string[] {
  const wrong: string[] = [];
  for (const table of vgpu.tables) {
    for (const [index, entry] of table.entries.entries()) {
      if (entry !== 0n && !mayLead(vgpu, table, entry)) {
        wrong.push(`${nameOf(table)} [${index}] leads to ${vgpu.host.nameOf(frameOf(entry))}`);
      }
    }
  }
  return wrong;
}

function mayLead(vgpu: Vgpu, table: ShadowTable, entry: bigint): boolean {
  const frame = frameOf(entry);
  const isScratch = frame === vgpu.scratch[table.kind];
  if (table.kind === "PTE") {
    const name = vgpu.host.nameOf(frame);
    if (!isPresent(entry)) return name !== "D" && name !== "shadow";
    return isScratch || frame === vgpu.globalScratch || isGuestFrame(vgpu, frame);
  }
  if (!isPresent(entry)) return isScratch;
  if (isLarge(table.kind, entry)) return false;
  const child = vgpu.tables.find((other) => other.mfn === frame);
  return isScratch || child?.kind === childKind(table.kind);
}

function isGuestFrame(vgpu: Vgpu, mfn: number): boolean {
  const gfn = mfn - 0x100000;
  return gfn >= 0 && gfn < vgpu.host.ramPages;
}

/** Protected are the frames with enabled tracks, and those the host refused to give up. */
function protectionViolations(vgpu: Vgpu): string[] {
  const { host, tracks } = vgpu;
  const enabled = new Set(tracks.all().filter((track) => track.enabled).map((track) => track.gfn));
  const open = [...enabled].filter((gfn) => !host.protectedFrames.has(gfn));
  const shut = [...host.protectedFrames].filter((gfn) => !enabled.has(gfn) && !host.stuckFrames.has(gfn));
  const registered = tracks.all().filter((track) => track.table !== null).length;
  return [
    ...open.map((gfn) => `frame ${gfn} has an enabled track but is not protected`),
    ...shut.map((gfn) => `frame ${gfn} is protected for nobody`),
    ...(registered === vgpu.tables.length ? [] : [`${registered} tracks for ${vgpu.tables.length} tables`]),
  ];
}

/** Lists hold live tables, each once; the out-of-sync ones are the untracked ones and own a snapshot. */
function listViolations(vgpu: Vgpu): string[] {
  const wrong: string[] = [];
  const lists = { post: vgpu.postList, oos: vgpu.oosList, oosUse: vgpu.oosUse };
  for (const [name, list] of Object.entries(lists)) {
    if (new Set(list).size !== list.length) wrong.push(`a table is twice on ${name}`);
    if (list.some((table) => !vgpu.tables.includes(table))) wrong.push(`a dead table is on ${name}`);
  }
  for (const table of vgpu.tables) {
    const isOut = vgpu.oosList.includes(table);
    const ownsPage = vgpu.oosUse.includes(table);
    if (ownsPage !== (table.snapshot !== null)) wrong.push(`${nameOf(table)}: page and list disagree`);
    if (isOut && !ownsPage) wrong.push(`${nameOf(table)} is out of sync without a page`);
    if (isOut && table.kind !== "PTE") wrong.push(`${nameOf(table)} is out of sync`);
    // A page that cannot be read nor unprotected stays tracked and out of sync at once.
    const isStuck = vgpu.host.stuckFrames.has(table.gfn);
    if (isOut === table.track.enabled && !(isOut && isStuck)) {
      wrong.push(`${nameOf(table)} is ${isOut ? "out of sync and tracked" : "in sync and untracked"}`);
    }
  }
  if (vgpu.oosUse.length > (vgpu.config.oos ? vgpu.config.oosPool : 0)) {
    wrong.push("more pages than the pool has");
  }
  return wrong;
}

/** The LRU holds the shadowed mms; roots lead to tables of their kind, and only in shadowed mms. */
function mmViolations(vgpu: Vgpu): string[] {
  const wrong: string[] = [];
  if (new Set(vgpu.lru).size !== vgpu.lru.length) wrong.push("an mm is twice on the LRU");
  if (vgpu.lru.some((mm) => !vgpu.mms.includes(mm))) wrong.push("a dead mm is on the LRU");
  for (const mm of vgpu.mms) {
    const tables = mm.shadowRoots.flatMap((root) => root === null ? [] : [root.table]);
    if (mm.shadowed !== vgpu.lru.includes(mm)) wrong.push(`mm ${mm.id}: shadowed and LRU disagree`);
    if (!mm.shadowed && tables.length > 0) wrong.push(`mm ${mm.id} has roots without a shadow`);
    if (mm.references < 1 || mm.pins < 0) wrong.push(`mm ${mm.id} has a bad count`);
    if (tables.some((t) => t.kind !== rootTableKind(mm.level) || !vgpu.tables.includes(t))) {
      wrong.push(`mm ${mm.id} has a bad root`);
    }
  }
  return wrong;
}

/** The host GGTT leads to guest frames and the scratch page. */
function ggttViolations(vgpu: Vgpu): string[] {
  if (!vgpu.initialised) return [];
  const wrong = [...vgpu.host.ggtt].filter(([, entry]) => {
    const frame = frameOf(entry);
    return frame !== vgpu.globalScratch && !(isPresent(entry) && isGuestFrame(vgpu, frame));
  });
  return wrong.map(([index, entry]) => `GGTT ${index} leads to ${vgpu.host.nameOf(frameOf(entry))}`);
}
