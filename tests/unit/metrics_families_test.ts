import { assertEquals } from "@std/assert";
import { METRIC_FAMILIES, ownReading } from "../../src/metrics/families.ts";
import { ServedDevice } from "../../src/server/served_device.ts";
import { viewMethods } from "../../src/server/view_methods.ts";

/** Values of `stats` that are no metrics. Whoever adds one to `stats` gives it a name in the table, or puts it here. */
const LEFT_OUT: readonly string[] = [];

const KEYS = METRIC_FAMILIES.flatMap(({ series }) => series.map(({ key }) => key));
const STATS = Object.keys(viewMethods(new ServedDevice({}, false)).stats());

/** What occurs more than once. */
function repeated(values: readonly string[]): string[] {
  return values.filter((value, index) => values.indexOf(value) !== index);
}

Deno.test("METRIC_FAMILIES has every value of stats", () => {
  assertEquals(STATS.filter((key) => !KEYS.includes(key) && !LEFT_OUT.includes(key)), []);
});

Deno.test("METRIC_FAMILIES has nothing that nobody knows", () => {
  const known = [...STATS, ...Object.keys(ownReading())];
  assertEquals(KEYS.filter((key) => !known.includes(key)), []);
});

Deno.test("METRIC_FAMILIES has every name and every value once", () => {
  assertEquals(repeated(METRIC_FAMILIES.map(({ name }) => name)), []);
  assertEquals(repeated(KEYS), []);
});

Deno.test("METRIC_FAMILIES keeps to Prometheus' conventions for names", () => {
  for (const { name, type, unit, series } of METRIC_FAMILIES) {
    const ending = { "": /./, "By": /_bytes$/, "s": /_seconds$/ }[unit];
    const isGood = /^(vgtt|process)(_[a-z0-9]+)+$/.test(name) && ending.test(name);
    assertEquals([name, isGood, name.endsWith("_total")], [name, true, type === "counter"]);
    const labels = series.flatMap((each) => Object.keys(each.labels));
    assertEquals(labels.filter((label) => !/^[a-z]+$/.test(label)), []);
  }
});

Deno.test("METRIC_FAMILIES gives all series of a name the same labels with other values", () => {
  for (const { name, series } of METRIC_FAMILIES) {
    const names = series.map(({ labels }) => Object.keys(labels).join());
    assertEquals([name, new Set(names).size], [name, 1]);
    assertEquals([name, repeated(series.map(({ labels }) => JSON.stringify(labels)))], [name, []]);
  }
});

Deno.test("METRIC_FAMILIES says of each name in one line what it is", () => {
  assertEquals(METRIC_FAMILIES.filter(({ help }) => !/^[A-Z].*\.$/.test(help)).map(({ name }) => name), []);
});
