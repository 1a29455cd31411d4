import { Counter, Gauge, Registry } from "prom-client";
import { METRIC_FAMILIES, type MetricFamily, type Reading } from "./families.ts";

/** The media type of {@linkcode prometheusText}. */
export const PROMETHEUS_TEXT_TYPE: string = Registry.PROMETHEUS_CONTENT_TYPE;

/**
 * Writes a reading as Prometheus scrapes it.
 *
 * @param reading Values; those that no family names are left out.
 * @param families What is written, in this order.
 * @returns Text of the exposition format, version 0.0.4.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { prometheusText } from "./prometheus_text.ts";
 *
 * const text = await prometheusText({ submissionsRcs0: 5, submissionsBcs0: 2 });
 * assertEquals(text.split("\n"), [
 *   "# HELP vgtt_submissions_total Contexts that were submitted to an engine and begun.",
 *   "# TYPE vgtt_submissions_total counter",
 *   'vgtt_submissions_total{engine="rcs0"} 5',
 *   'vgtt_submissions_total{engine="bcs0"} 2',
 *   "",
 * ]);
 * ```
 */
export async function prometheusText(
  reading: Reading,
  families: readonly MetricFamily[] = METRIC_FAMILIES,
): Promise<string> {
  const registry = new Registry();
  for (const { name, type, help, series } of families) {
    const present = series.filter(({ key }) => key in reading);
    if (present.length === 0) continue;
    const labelNames = Object.keys(present[0]!.labels);
    const options = { name, help, labelNames, registers: [registry] };
    // A counter of this library is told what to add: a new one has nothing yet.
    const metric = type === "counter" ? new Counter(options) : new Gauge(options);
    for (const { labels, key } of present) metric.inc({ ...labels }, reading[key]!);
  }
  return await registry.metrics();
}
