/**
 * Draws the time-line of events.
 *
 * @module
 */

import type { EventText } from "../../inspect/event_list.ts";
import { EVENT_LANES, laneOf } from "./event_lanes.ts";

/** A piece of time, microseconds. */
export interface Window {
  /** Its beginning. */
  readonly from: number;
  /** Its end. */
  readonly to: number;
}

/** Where things are, in CSS pixels. */
export const TIMELINE = { top: 0, lane: 13, left: 50, height: 13 * 5 + 14 } as const;

/** Least pixels between letters of a lane. */
const LETTER = 9;

/** The time at a place. */
export function timeAt({ from, to }: Window, x: number, width: number): number {
  return from + (x - TIMELINE.left) / Math.max(1, width - TIMELINE.left) * (to - from);
}

/** Draws all of it. */
export function paintEvents(
  canvas: HTMLCanvasElement,
  width: number,
  events: readonly EventText[],
  window: Window,
  picked: number | null,
  hasFocus: boolean,
): void {
  const c = canvas.getContext("2d")!;
  const scale = devicePixelRatio;
  const [w, h] = [Math.round(width * scale), Math.round(TIMELINE.height * scale)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const style = getComputedStyle(canvas);
  const color = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const [text, dim, line, lane] = [color("text"), color("dim"), color("line"), color("lane")];
  c.setTransform(scale, 0, 0, scale, 0, 0);
  c.clearRect(0, 0, width, TIMELINE.height);
  c.font = "10px ui-monospace, 'DejaVu Sans Mono', monospace";
  c.textBaseline = "middle";
  const { left, top, lane: height } = TIMELINE;
  const x = (t: number) => left + (t - window.from) / (window.to - window.from) * (width - left);
  EVENT_LANES.forEach(({ name }, index) => {
    const y = top + index * height;
    c.fillStyle = lane;
    c.fillRect(left, y + 1, width - left, height - 2);
    c.fillStyle = dim;
    c.textAlign = "left";
    c.fillText(name, 0, y + height / 2 + 0.5);
  });
  ticks(c, window, x, width, dim, line);
  c.textAlign = "center";
  const colors = EVENT_LANES.map((_, index) => color(`kind${index}`));
  /** Where the next event of each lane is, so that letters have room. */
  const next = EVENT_LANES.map(() => Infinity);
  for (const { n, t, kind } of events.toReversed()) {
    if (t < window.from || t > window.to) continue;
    const index = laneOf(kind);
    const [at, y] = [x(t), top + index * height];
    c.fillStyle = colors[index]!;
    c.fillRect(at - 1, y + 1, 2, height - 2);
    if (next[index]! - at > LETTER + 2 && at + LETTER < width) {
      c.fillText(EVENT_LANES[index]!.letters[kind] ?? "·", at + 6, y + height / 2 + 0.5);
    }
    next[index] = at;
    if (n !== picked) continue;
    c.fillRect(at - 0.5, top, 1, EVENT_LANES.length * height);
    c.strokeStyle = text;
    c.lineWidth = hasFocus ? 2 : 1;
    c.strokeRect(at - 4, y + 0.5, 8, height - 1);
  }
}

/** Times where they are round. */
function ticks(
  c: CanvasRenderingContext2D,
  { from, to }: Window,
  x: (t: number) => number,
  width: number,
  dim: string,
  line: string,
): void {
  const least = (to - from) / Math.max(1, width / 90);
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least)!;
  c.textAlign = "center";
  for (let t = Math.max(0, Math.ceil(from / step)) * step; t <= to; t += step) {
    const at = Math.round(x(t));
    c.fillStyle = line;
    c.fillRect(at, 0, 1, EVENT_LANES.length * TIMELINE.lane);
    if (at < TIMELINE.left + 24 || at > width - 24) continue;
    c.fillStyle = dim;
    c.fillText(`${Number((t / 1e6).toFixed(6))} s`, at, TIMELINE.height - 6);
  }
}
