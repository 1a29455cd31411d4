/** Every view of what a stock Debian guest has in its page tables. */

import { assertEquals, assertMatch } from "@std/assert";
import { diffShadow, shadowDiffLines } from "../../src/observe/diff.ts";
import { ggttLines, ggttRuns } from "../../src/observe/ggtt_runs.ts";
import { overview, overviewLines } from "../../src/observe/overview.ts";
import { diffSnapshots } from "../../src/observe/snapshot_diff.ts";
import type { Snapshot } from "../../src/observe/snapshot.ts";
import { spaceLines } from "../../src/observe/space_lines.ts";
import { spaceTree } from "../../src/observe/space_tree.ts";
import { walkLines } from "../../src/observe/walk_lines.ts";
import { walkSteps } from "../../src/observe/walk_steps.ts";
import { whoLines, whoMaps } from "../../src/observe/who.ts";
import { openRecording } from "../../src/replay/recording_file.ts";
import { replayToDevice } from "../../src/replay/replay_to_device.ts";
import { snapshotOf } from "./inspect_snapshot.ts";

const RECORDING = new URL("../../examples/debian-6.1-i915.jsonl.gz", import.meta.url);

/** The recorded guest as it is at the end. */
async function recorded(): Promise<Snapshot> {
  using replayed = await replayToDevice(await openRecording(RECORDING), {});
  return snapshotOf(replayed.service.served.device);
}

const SNAPSHOT = await recorded();
const SPACE = SNAPSHOT.parts.spaces[3]!;

Deno.test("spaceTree() of the recorded guest fits a screen", () => {
  assertEquals(spaceLines(spaceTree(SNAPSHOT, SPACE)), [
    "space 3: 4 levels, 5 references, 4 pins",
    "= root 0 · gfn 0x1d7e → PML4 table at mfn 0x30000000f · in sync",
    "=   0x0–0x7fffffffff · PML4[0] · P W · gfn 0x1e55 → PDP table at mfn 0x300000011 · in sync",
    "=     0x0–0x3fffffff · PDP[0] · P W · gfn 0x1e56 → PDE table at mfn 0x300000012 · in sync",
    "=       0x0–0x1fffff · PDE[0] · P W · gfn 0x1e19 → PTE table at mfn 0x300000013 · in sync",
    "=         0x0–0xfff · PTE[0] · P W PAT · gfn 0x1e18 → mfn 0x101e18",
    "=         0x1000–0x1fff · PTE[1] · P W PAT · gfn 0x1e00 → mfn 0x101e00",
    "=         0x2000–0x2fff · PTE[2] · P PAT · gfn 0x1e5c → mfn 0x101e5c",
    "=         0x3000–0x3fff · PTE[3] · P W PAT · gfn 0x1e61 → mfn 0x101e61",
    "=         0x4000–0x4fff · PTE[4] · P W PAT · gfn 0x1e60 → mfn 0x101e60",
    "=         0x5000–0x1fffff · PTE[5–511] · P PWT PCD · gfn 0x1d30 → mfn 0x101d30 · one page",
    "=       0x200000–0x3fffffff · PDE[1–511] · P W PWT PCD · gfn 0x1d10 → PTE table at mfn 0x30000000c · " +
    "in sync, 1023 references",
    "=         0x200000–0x3fffff · PTE[0–511] · P PWT PCD · gfn 0x1d30 → mfn 0x101d30 · one page",
    "=     0x40000000–0x7fffffffff · PDP[1–511] · P W PWT PCD · gfn 0x1d11 → PDE table at mfn 0x30000000b · " +
    "in sync, 1023 references",
    "=       0x40000000–0x7fffffff · PDE[0–511] · P W PWT PCD · gfn 0x1d10 → PTE table at mfn 0x30000000c · " +
    "in sync, 1023 references, see above",
    "=   0x8000000000–0xffffffffffff · PML4[1–511] · P W PWT PCD · gfn 0x1d12 → PDP table at mfn 0x30000000a · " +
    "in sync, 2559 references",
    "=     0x8000000000–0xffffffffff · PDP[0–511] · P W PWT PCD · gfn 0x1d11 → PDE table at mfn 0x30000000b · " +
    "in sync, 1023 references, see above",
  ]);
});

Deno.test("spaceTree() of the recorded guest folds further for a small screen", () => {
  assertEquals(spaceLines(spaceTree(SNAPSHOT, SPACE, { lines: 8 })).slice(0, 4), [
    "space 3: 4 levels, 5 references, 4 pins (folded to fit: a range or more lines show more)",
    "= root 0 · gfn 0x1d7e → PML4 table at mfn 0x30000000f · in sync",
    "=   0x0–0x7fffffffff · PML4[0] · P W · gfn 0x1e55 → PDP table at mfn 0x300000011 · in sync",
    "=     0x0–0x3fffffff · PDP[0] · P W · gfn 0x1e56 → PDE table at mfn 0x300000012 · in sync, 262144 pages",
  ]);
});

Deno.test("spaceTree() of the recorded guest shows entries as they are in a range", () => {
  const range = { from: 0x8080604000, to: 0x8080606000 };
  assertEquals(spaceLines(spaceTree(SNAPSHOT, SPACE, { ...range, raw: true })).slice(-2), [
    "=         0x8080604000–0x8080604fff · PTE[4] · P PWT PCD · 0x0000000001d30019 → 0x0000000101d30019",
    "=         0x8080605000–0x8080605fff · PTE[5] · P PWT PCD · 0x0000000001d30019 → 0x0000000101d30019",
  ]);
});

Deno.test("ggttRuns() of the recorded guest has its 216 entries", () => {
  const lines = ggttLines(ggttRuns(SNAPSHOT));
  assertEquals(lines.length, 33);
  assertEquals(lines.slice(0, 4), [
    "GGTT: 216 same, 114472 expected",
    "~ aperture · 0x4000000–0x7ffffff · GGTT[16384–32767] · - → P · absent → scratch S · " +
    "not stored since the reset, scratch",
    "~ hidden · 0x28000000–0x3ff27fff · GGTT[163840–261927] · - → P · absent → scratch S · " +
    "not stored since the reset, scratch",
    "= hidden · 0x3ff28000–0x3ff29fff · GGTT[261928–261929] · P · gfn 0x1e5e–0x1e5f → mfn 0x101e5e–0x101e5f · linear",
  ]);
});

Deno.test("walkSteps() of the recorded guest agree", () => {
  assertEquals(walkLines(walkSteps(SNAPSHOT, SPACE, 0x2abc)), [
    "space 3 (4 levels), address 0x2abc",
    "= root 0: the guest's root leads to the PML4 table of gfn 0x1d7e, and so does the shadow's",
    "= PML4[0] (bits 47:39) in gfn 0x1d7e, mfn 0x30000000f",
    "    guest   0x0000000001e55003  P W  gfn 0x1e55",
    "    shadow  0x0000300000011003  P W  mfn 0x300000011 (PDP table of gfn 0x1e55)",
    "= PDP[0] (bits 38:30) in gfn 0x1e55, mfn 0x300000011",
    "    guest   0x0000000001e56003  P W  gfn 0x1e56",
    "    shadow  0x0000300000012003  P W  mfn 0x300000012 (PDE table of gfn 0x1e56)",
    "= PDE[0] (bits 29:21) in gfn 0x1e56, mfn 0x300000012",
    "    guest   0x0000000001e19003  P W  gfn 0x1e19",
    "    shadow  0x0000300000013003  P W  mfn 0x300000013 (PTE table of gfn 0x1e19)",
    "= PTE[2] (bits 20:12) in gfn 0x1e19, mfn 0x300000013",
    "    guest   0x0000000001e5c081  P PAT  gfn 0x1e5c",
    "    shadow  0x0000000101e5c081  P PAT  mfn 0x101e5c",
    "= guest says gpa 0x1e5cabc, shadow says gpa 0x1e5cabc: both agree",
  ]);
});

Deno.test("diffShadow() of the recorded guest finds nothing pending or wrong", () => {
  assertEquals(shadowDiffLines(diffShadow(SNAPSHOT)), [
    "11 tables, 120340 entries: 5868 same, 114472 expected",
    "~   not stored since the reset, scratch: 114472",
  ]);
});

Deno.test("diffSnapshots() of two replays of the recorded guest finds no difference", async () => {
  const { isSame, states } = diffSnapshots(SNAPSHOT, await recorded());
  assertEquals([isSame, states], [true, {}]);
});

Deno.test("whoMaps() of the recorded guest finds its scratch page everywhere", () => {
  const lines = whoLines(whoMaps(SNAPSHOT, 0x1d30, { addresses: 1 }));
  assertEquals(lines, [
    "gfn 0x1d30: RAM, mfn 0x101d30",
    "= both sides · PTE[0–511] of the PTE table of gfn 0x1d10 · P PWT PCD · " +
    "at 671088639 places: 0x0–0x1fffff (space 0 > root 0 > PML4[0] > PDP[0] > PDE[0]), …",
    "= both sides · PTE[5–511] of the PTE table of gfn 0x1e19 · P PWT PCD · " +
    "at 0x5000–0x1fffff (space 3 > root 0 > PML4[0] > PDP[0] > PDE[0])",
  ]);
});

Deno.test("overview() of the recorded guest counts own and shared tables", () => {
  const lines = overviewLines(overview(SNAPSHOT));
  assertEquals(lines.slice(-7), [
    "1024 leaves mapped, to 6 frames",
    "space  level  roots   refs  pins  tables  shared  out of sync  leaves",
    "    0      4  0x1d13     5     4       4       3            0     512",
    "    1      4  0x1d49     1     0       4       3            0     512",
    "    2      4  0x1d4a     1     0       4       3            0     512",
    "    3      4  0x1d7e     5     4       7       3            0    1024",
    "    4      4  0x1d7f     1     0       4       3            0     512",
  ]);
  assertMatch(lines.join("\n"), /11 tables: 5 PML4, 2 PDP, 2 PDE, 2 PTE; 0 out of sync, 0 entries queued/);
});
