import { assertEquals } from "@std/assert";
import { METRIC_FAMILIES, type MetricFamily } from "../../src/metrics/families.ts";
import { prometheusText } from "../../src/metrics/prometheus_text.ts";
import { readExposition } from "./metrics_exposition.ts";

Deno.test("prometheusText() writes every family with its type, help and values", async () => {
  const keys = METRIC_FAMILIES.flatMap(({ series }) => series.map(({ key }) => key));
  const reading = Object.fromEntries(keys.map((key, index) => [key, index * 1e9 + 0.5]));
  const read = readExposition(await prometheusText(reading));
  const written = METRIC_FAMILIES.map(({ name, type, help, series }) => {
    const samples = series.map(({ labels, key }) => ({ labels: { ...labels }, value: reading[key]! }));
    return { name, help, type, samples };
  });
  assertEquals([...read.values()], written);
});

Deno.test("prometheusText() leaves out what is not in the reading", async () => {
  const text = await prometheusText({ csFaults: 3, nobodyKnows: 4 });
  assertEquals(text.split("\n").filter((line) => !line.startsWith("#")), [
    'vgtt_engine_errors_total{kind="fault"} 3',
    "",
  ]);
});

Deno.test("prometheusText() escapes what help and labels must not contain", async () => {
  const labels = { kind: 'a "b"\\\n' };
  const family: MetricFamily = {
    name: "x_total",
    type: "counter",
    help: "One\\\ntwo.",
    unit: "",
    series: [{ labels, key: "x" }],
  };
  const text = await prometheusText({ x: 1 }, [family]);
  assertEquals(text.split("\n").length, 4);
  const read = readExposition(text).get("x_total");
  assertEquals(read, {
    name: "x_total",
    help: family.help,
    type: "counter",
    samples: [{ labels, value: 1 }],
  });
});
