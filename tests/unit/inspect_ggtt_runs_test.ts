import { assertEquals } from "@std/assert";
import { ggttLines, type GgttOptions, ggttRuns } from "../../src/observe/ggtt_runs.ts";
import { SCRATCH, type Sketch, sketch } from "./inspect_snapshot.ts";

const HOST = 0x100000000;
const S = SCRATCH * 4096;

/** The lines of a GGTT that are not of what was never stored. */
function lines(ggtt: NonNullable<Sketch["ggtt"]>, options: GgttOptions = {}): string[] {
  const snapshot = sketch({ ggtt });
  return ggttLines(ggttRuns(snapshot, options)).slice(1).filter((line) => !line.includes("not stored"));
}

Deno.test("ggttRuns() tells linear runs from constant ones", () => {
  assertEquals(
    lines({
      0x400: [0x5001, HOST + 0x5001],
      0x401: [0x6001, HOST + 0x6001],
      0x402: [0x6001, HOST + 0x6001],
      0x403: [0x6001, HOST + 0x6001],
      0x404: [0x5001, HOST + 0x5001],
    }),
    [
      "= aperture · 0x400000–0x401fff · GGTT[1024–1025] · P · gfn 0x5–0x6 → mfn 0x100005–0x100006 · linear",
      "= aperture · 0x402000–0x403fff · GGTT[1026–1027] · P · gfn 0x6 → mfn 0x100006 · constant",
      "= aperture · 0x404000–0x404fff · GGTT[1028] · P · gfn 0x5 → mfn 0x100005",
    ],
  );
});

Deno.test("ggttRuns() folds what the guest unmapped, and what is no RAM", () => {
  const unmapped = { 0x400: [0, S], 0x401: [0, S] } as const;
  const lost = { 0x800: [0x7777001, S + 1], 0x801: [0x7778001, S + 1] } as const;
  assertEquals(lines({ ...unmapped, ...lost }), [
    "~ aperture · 0x400000–0x401fff · GGTT[1024–1025] · - · absent → nothing · removed, scratch",
    "~ hidden · 0x800000–0x801fff · GGTT[2048–2049] · P · gfn 0x7777–0x7778 → scratch S · no RAM, scratch, linear",
  ]);
});

Deno.test("ggttRuns() says what is wrong, and breaks a run there", () => {
  assertEquals(
    lines({ 0x400: [0x5001, HOST + 0x5001], 0x401: [0x6001, HOST + 0x9001], 0x402: [0x7001, 0x9000001] }),
    [
      "= aperture · 0x400000–0x400fff · GGTT[1024] · P · gfn 0x5 → mfn 0x100005",
      "! aperture · 0x401000–0x401fff · GGTT[1025] · P · gfn 0x6 → mfn 0x100009 · another frame",
      "! aperture · 0x402000–0x402fff · GGTT[1026] · P · gfn 0x7 → mfn 0x9000 · not the guest's",
    ],
  );
});

Deno.test("ggttRuns() keeps to a range and a limit, and counts all of the range", () => {
  const ggtt = Object.fromEntries([0, 2, 4].map((i) => [0x400 + i, [0x5001, HOST + 0x5001] as const]));
  const table = ggttRuns(sketch({ ggtt }), { from: 0x401000, to: 0x405000, limit: 2 });
  assertEquals(table.runs.map(({ first, last }) => [first, last]), [[0x401, 0x401], [0x402, 0x402]]);
  assertEquals([table.more, table.counts], [2, { same: 2, expected: 2, pending: 0, wrong: 0 }]);
  assertEquals(ggttLines(table).at(-1), "  … and 2 more runs");
});
