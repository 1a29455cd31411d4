/**
 * The time-line of what happened: it runs on, or is held and looked through; an event that is picked tells all it knows.
 *
 * @module
 */

import { useEffect, useRef, useState } from "preact/hooks";
import type { EventText } from "../../inspect/event_list.ts";
import { EVENT_LANES, laneOf } from "./event_lanes.ts";
import { hex, visible } from "./format.ts";
import { paintEvents, timeAt, TIMELINE, type Window } from "./event_paint.ts";
import { useStore } from "./use_store.ts";

/** Microseconds that the time-line shows at first, and at least and at most. */
const SPAN = 30e6;
const [MIN_SPAN, MAX_SPAN] = [100, 3600e6];
/** Milliseconds between drawings of a line that runs. */
const FRAME = 200;

/** The panel. */
export function EventsPanel({ theme }: { theme: string }) {
  const [store, { events, lost, clock, picked, source }] = useStore();
  const isStill = source?.state !== "live";
  const [held, setHeld] = useState<Window | null>(null);
  const [span, setSpan] = useState(SPAN);
  const [now, setNow] = useState(0);
  useEffect(() => {
    if (isStill || held !== null) return;
    const timer = setInterval(() => setNow(performance.now()), FRAME);
    return () => clearInterval(timer);
  }, [isStill, held]);
  const end = isStill ? clock[0] : clock[0] + Math.max(0, now - clock[1]) * 1000;
  const window = held ?? (isStill ? wholeOf(events, clock[0]) : { from: end - span, to: end });
  const index = events.findIndex(({ n }) => n === picked);
  const event = events[index];
  /** Holds the line so that an event is in it. */
  const pick = (at: number) => {
    const next = events[Math.min(Math.max(at, 0), events.length - 1)];
    if (next === undefined) return;
    store.pick(next.n);
    const size = window.to - window.from;
    const isSeen = next.t >= window.from && next.t <= window.to;
    setHeld(isSeen ? window : { from: next.t - size / 2, to: next.t + size / 2 });
  };
  const zoom = (factor: number, around: number) => {
    const size = Math.min(Math.max((window.to - window.from) * factor, MIN_SPAN), MAX_SPAN);
    if (held === null && !isStill) return setSpan(size);
    const share = (around - window.from) / (window.to - window.from);
    setHeld({ from: around - share * size, to: around + (1 - share) * size });
  };
  const scrub = (by: number) => setHeld({ from: window.from + by, to: window.to + by });
  return (
    <section class="panel events" aria-label="events">
      <div class="line">
        <header>
          <h2>Events</h2>
          <button
            type="button"
            aria-pressed={held !== null}
            onClick={() => setHeld(held === null ? window : null)}
          >
            {isStill ? (held === null ? "whole" : "show whole") : held === null ? "❚❚ hold" : "▶ run on"}
          </button>
          <span class="dim">{spanText(window.to - window.from)} in view</span>
          <span class="dim">{events.length} events{lost > 0 ? `, ${lost} older ones lost` : ""}</span>
        </header>
        <TimeLine
          theme={theme}
          events={events}
          window={window}
          picked={picked}
          onPick={(n) => pick(events.findIndex((each) => each.n === n))}
          onStep={(by) => pick(index < 0 ? events.length - 1 : index + by)}
          onZoom={zoom}
          onScrub={scrub}
        />
      </div>
      <EventDetails event={event} />
    </section>
  );
}

function TimeLine({ theme, events, window, picked, onPick, onStep, onZoom, onScrub }: {
  theme: string;
  events: readonly EventText[];
  window: Window;
  picked: number | null;
  onPick: (n: number) => void;
  onStep: (by: number) => void;
  onZoom: (factor: number, around: number) => void;
  onScrub: (by: number) => void;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [hasFocus, setFocus] = useState(false);
  const drag = useRef<{ x: number; isMoved: boolean } | null>(null);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(entry!.contentRect.width));
    observer.observe(canvas.current!.parentElement!);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (width > 0) paintEvents(canvas.current!, width, events, window, picked, hasFocus);
  }, [events, window.from, window.to, picked, width, theme, hasFocus]);
  const latest = useRef({ window, onZoom, width });
  latest.current = { window, onZoom, width };
  useEffect(() => {
    const element = canvas.current!;
    const turn = (event: WheelEvent) => {
      event.preventDefault();
      const { window, onZoom, width } = latest.current;
      onZoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(window, event.offsetX, width));
    };
    element.addEventListener("wheel", turn, { passive: false });
    return () => element.removeEventListener("wheel", turn);
  }, []);
  const move = (event: PointerEvent) => {
    const held = drag.current;
    if (held === null || (!held.isMoved && Math.abs(event.offsetX - held.x) < 4)) return;
    onScrub((held.x - event.offsetX) / width * (window.to - window.from));
    drag.current = { x: event.offsetX, isMoved: true };
  };
  const release = (event: PointerEvent) => {
    const held = drag.current;
    drag.current = null;
    if (held === null || held.isMoved) return;
    const nearest = nearestEvent(events, window, event.offsetX, event.offsetY, width);
    if (nearest !== null) onPick(nearest);
  };
  const key = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const size = window.to - window.from;
    const act = ({
      ArrowLeft: () => event.shiftKey ? onScrub(-size / 4) : onStep(-1),
      ArrowRight: () => event.shiftKey ? onScrub(size / 4) : onStep(1),
      Home: () => events[0] !== undefined && onPick(events[0].n),
      End: () => events.length > 0 && onPick(events.at(-1)!.n),
      "+": () => onZoom(0.5, (window.from + window.to) / 2),
      "=": () => onZoom(0.5, (window.from + window.to) / 2),
      "-": () => onZoom(2, (window.from + window.to) / 2),
    } as Record<string, (() => unknown) | undefined>)[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  };
  const at = events.findIndex(({ n }) => n === picked);
  return (
    <div class="timeline">
      <canvas
        ref={canvas}
        tabIndex={0}
        role="slider"
        aria-label="time-line of events"
        aria-valuemin={0}
        aria-valuemax={Math.max(0, events.length - 1)}
        aria-valuenow={Math.max(0, at)}
        aria-valuetext={events[at] === undefined ? "none picked" : visible(events[at].text)}
        style={{ height: `${TIMELINE.height}px` }}
        onPointerDown={(event) => {
          drag.current = { x: event.offsetX, isMoved: false };
          canvas.current!.setPointerCapture(event.pointerId);
        }}
        onPointerMove={move}
        onPointerUp={release}
        onKeyDown={key}
        onFocus={() => setFocus(true)}
        onBlur={() => setFocus(false)}
      />
    </div>
  );
}

function EventDetails({ event }: { event: EventText | undefined }) {
  const [store, { device }] = useStore();
  if (event === undefined) {
    return (
      <div class="details">
        <p class="dim">Pick an event: click, or ← → on the line.</p>
      </div>
    );
  }
  const { n, t, kind, text, values } = event;
  const mm = values["mm"];
  const space = device?.spaces.find((each) => each.space === mm)?.space;
  return (
    <div class="details" aria-live="polite">
      <p>
        <b class={`kind kind${laneOf(kind)}`}>{EVENT_LANES[laneOf(kind)]!.letters[kind] ?? "·"} {kind}</b>
        {" "}
        <span class="dim mono">#{n} at {timeText(t)}</span>
      </p>
      <p>{visible(text)}</p>
      <p class="mono dim values">
        {Object.entries(values).map(([name, value]) => (
          <span key={name}>
            {name} <b>{Math.abs(value) < 1024 ? value : hex(value)}</b>
          </span>
        ))}
        {space !== undefined && (
          <button type="button" onClick={() => store.show(space)}>show PPGTT {mm}</button>
        )}
      </p>
    </div>
  );
}

/** The number of the event that is nearest to a place in its lane. */
function nearestEvent(
  events: readonly EventText[],
  window: Window,
  x: number,
  y: number,
  width: number,
): number | null {
  const lane = Math.min(EVENT_LANES.length - 1, Math.max(0, Math.floor((y - TIMELINE.top) / TIMELINE.lane)));
  const time = timeAt(window, x, width);
  let [nearest, least] = [null as number | null, Infinity];
  for (const { n, t, kind } of events) {
    // Other lanes are near, too, but less so.
    const distance = Math.abs(t - time) + (laneOf(kind) === lane ? 0 : (window.to - window.from) / 30);
    if (distance < least) [nearest, least] = [n, distance];
  }
  return nearest;
}

/** A window that all events are in. */
function wholeOf(events: readonly EventText[], now: number): Window {
  const from = events[0]?.t ?? 0;
  const to = Math.max(events.at(-1)?.t ?? now, from + 1000);
  const margin = (to - from) * 0.02;
  return { from: from - margin, to: to + margin };
}

function spanText(microseconds: number): string {
  if (microseconds >= 1e6) return `${(microseconds / 1e6).toFixed(microseconds >= 1e7 ? 0 : 1)} s`;
  return microseconds >= 1000 ? `${(microseconds / 1000).toFixed(0)} ms` : `${microseconds.toFixed(0)} µs`;
}

function timeText(microseconds: number): string {
  return `${(microseconds / 1e6).toFixed(6)} s`;
}
