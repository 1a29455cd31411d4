/**
 * What the device counted in the last minutes, as plots; of what does not change, the sums.
 *
 * @module
 */

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { type Plot, PLOTS } from "../counters.ts";
import type { Sample } from "../messages.ts";
import { longCount, shortCount } from "./format.ts";
import { useStore } from "./use_store.ts";

/** Dashes that tell lines apart without colour. */
const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3]];
const HEIGHT = 76;
/** Seconds that are shown, at least. */
const SECONDS = 60;

/** The panel. */
export function PlotsPanel({ theme }: { theme: string }) {
  const [, { samples, source }] = useStore();
  let first = 0;
  return (
    <section class="plots" aria-label="counters">
      {PLOTS.map((plot) => {
        const from = first;
        first += plot.lines.length;
        const isStill = source?.state === "still" || source === null;
        return (
          <figure class="panel" key={plot.title}>
            {isStill
              ? <Sums plot={plot} sample={samples.at(-1)} from={from} />
              : <Lines plot={plot} samples={samples} from={from} theme={theme} />}
          </figure>
        );
      })}
    </section>
  );
}

function Sums({ plot, sample, from }: { plot: Plot; sample: Sample | undefined; from: number }) {
  return (
    <>
      <figcaption>
        <h2>{plot.title}</h2>
        <span class="dim">{plot.isRate ? "in all" : "at the end"}</span>
      </figcaption>
      <dl class="sums mono">
        {plot.lines.map(({ label }, line) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd class={sample?.[1 + from + line] === 0 ? "dim" : ""}>
              {longCount(sample?.[1 + from + line] ?? 0)}
            </dd>
          </div>
        ))}
      </dl>
    </>
  );
}

function Lines(
  { plot, samples, from, theme }: { plot: Plot; samples: readonly Sample[]; from: number; theme: string },
) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const data = dataOf(plot, samples, from);
  useEffect(() => {
    const element = box.current!;
    chart.current = new uPlot(optionsOf(plot, element), data, element);
    const observer = new ResizeObserver(([entry]) => {
      chart.current?.setSize({ width: Math.floor(entry!.contentRect.width), height: HEIGHT });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.current?.destroy();
      chart.current = null;
    };
  }, [theme]);
  useEffect(() => chart.current?.setData(data), [samples]);
  return (
    <>
      <figcaption>
        <h2>{plot.title}</h2>
        <span class="dim">{plot.isRate ? "a second" : "now"}</span>
      </figcaption>
      <div class="chart-box">
        <div class="chart" ref={box} role="img" aria-label={`${plot.title} in the last minutes`} />
        <dl class="now">
          {plot.lines.map(({ label }, line) => {
            const value = data[1 + line]!.at(-1);
            return (
              <div key={label}>
                <dt>
                  <i class={`dash line${line}`} />
                  {label}
                </dt>
                <dd class="mono">{typeof value === "number" ? shortCount(value) : "–"}</dd>
              </div>
            );
          })}
        </dl>
      </div>
    </>
  );
}

/** Times in seconds, and the values of each line. */
function dataOf({ isRate, lines }: Plot, samples: readonly Sample[], from: number): uPlot.AlignedData {
  const times = samples.map(([milliseconds]) => milliseconds / 1000);
  const values = lines.map((_, line) => {
    const of = (sample: Sample | undefined) => sample?.[1 + from + line] ?? 0;
    if (!isRate) return samples.map(of);
    return samples.map((sample, at) => {
      const before = samples[at - 1];
      if (before === undefined) return null;
      // Counters begin anew with another VMM.
      return Math.max(0, of(sample) - of(before)) / ((sample[0] - before[0]) / 1000);
    });
  });
  return [times, ...values] as uPlot.AlignedData;
}

function optionsOf({ lines }: Plot, element: Element): uPlot.Options {
  const style = getComputedStyle(element);
  const color = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const axis = {
    stroke: color("dim"),
    grid: { stroke: color("line"), width: 1 },
    ticks: { show: false },
    font: "10px ui-monospace, 'DejaVu Sans Mono', monospace",
  };
  return {
    width: Math.max(50, Math.floor(element.clientWidth)),
    height: HEIGHT,
    padding: [6, 14, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 5 } },
    scales: {
      x: { time: true, range: (_, min, max) => [Math.min(min ?? 0, (max ?? 0) - SECONDS), max ?? 0] },
      y: { range: (_, __, max) => [0, Math.max(max ?? 0, 4) * 1.1] },
    },
    axes: [
      { ...axis, size: 18, gap: 2, space: 56, values: (_, ticks) => ticks.map(clock) },
      { ...axis, size: 30, gap: 2, space: 22, values: (_, ticks) => ticks.map(shortCount) },
    ],
    series: [
      {},
      ...lines.map(({ label }, line) => ({
        label,
        stroke: color(`line${line}`),
        width: 1.5,
        dash: DASHES[line] ?? [],
        points: { show: false },
      })),
    ],
  };
}

function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB").slice(3);
}
