import { assert, assertEquals } from "@std/assert";
import { METRIC_FAMILIES } from "../../src/metrics/families.ts";

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets: readonly { readonly expr: string; readonly legendFormat: string }[];
}

const FOLDER = new URL("../../examples/grafana/", import.meta.url);
const DASHBOARD = JSON.parse(Deno.readTextFileSync(new URL("vgtt.json", FOLDER)));
const PANELS: readonly Panel[] = DASHBOARD.panels;
const FAMILIES = new Map(METRIC_FAMILIES.map((family) => [family.name, family]));
/** Labels that Prometheus itself adds. */
const TARGET_LABELS = ["instance", "job"];

/** The metrics that an expression names. */
function metricsIn(expr: string): string[] {
  return expr.match(/\b(vgtt|process)_[a-z0-9_]+/g) ?? [];
}

Deno.test("the dashboard of Grafana uses only metrics that there are", () => {
  const expressions = PANELS.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  const used = [...expressions, JSON.stringify(DASHBOARD.templating)].flatMap(metricsIn);
  assert(used.length > 20);
  assertEquals(used.filter((name) => !FAMILIES.has(name)), []);
});

Deno.test("the dashboard of Grafana shows rates of counters that count what guests do all the time", () => {
  for (const { title, targets } of PANELS) {
    for (const { expr } of targets) {
      const isRate = expr.includes("rate(");
      const counters = metricsIn(expr).filter((name) => FAMILIES.get(name)!.type === "counter");
      const isRare = /failsafes|mismatches/.test(expr);
      assertEquals([title, expr, isRate], [title, expr, counters.length > 0 && !isRare]);
    }
  }
});

Deno.test("the dashboard of Grafana uses only labels that its metrics have", () => {
  for (const { title, targets } of PANELS) {
    for (const { expr, legendFormat } of targets) {
      const known = metricsIn(expr).flatMap((name) => Object.keys(FAMILIES.get(name)!.series[0]!.labels));
      const [, by = ""] = /by \(([^)]*)\)/.exec(expr) ?? [];
      const kept = by.split(", ").filter((label) => label !== "");
      const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label!);
      const strange = [...kept, ...shown].filter((label) => ![...known, ...TARGET_LABELS].includes(label));
      assertEquals([title, strange], [title, []]);
      const summed = known.filter((label) => !kept.includes(label));
      assertEquals([title, expr.startsWith("sum") ? summed : []], [title, []]);
    }
  }
});

Deno.test("the dashboard of Grafana has panels that do not overlap", () => {
  assertEquals(new Set(PANELS.map(({ id }) => id)).size, PANELS.length);
  const cells = PANELS.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, i) => `${x + i % w},${y + Math.floor(i / w)}`)
  );
  assertEquals(new Set(cells).size, cells.length);
});
