import { metrics } from "@opentelemetry/api";
import { METRIC_FAMILIES, type Reading } from "./families.ts";

/**
 * Makes an OpenTelemetry instrument of every family. Without a meter provider, which Deno has if it was started with
 * `OTEL_DENO=true`, nothing is ever observed.
 *
 * @param read Reads all values. If it fails, nothing is observed this time.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { observeForOpenTelemetry } from "./open_telemetry.ts";
 *
 * let reads = 0;
 * observeForOpenTelemetry(() => Promise.resolve({ mms: ++reads }));
 * assertEquals(reads, 0); // nobody exports
 * ```
 */
export function observeForOpenTelemetry(read: () => Promise<Reading>): void {
  const meter = metrics.getMeter("vgtt");
  const instruments = METRIC_FAMILIES.map(({ name, type, help: description, unit, series }) => {
    const options = { description, unit };
    const instrument = type === "counter"
      ? meter.createObservableCounter(name, options)
      : meter.createObservableGauge(name, options);
    return { instrument, series };
  });
  meter.addBatchObservableCallback(async (result) => {
    const reading = await read().catch(() => ({} as Reading));
    for (const { instrument, series } of instruments) {
      for (const { labels, key } of series) {
        const value = reading[key];
        if (value !== undefined) result.observe(instrument, value, { ...labels });
      }
    }
  }, instruments.map(({ instrument }) => instrument));
}
