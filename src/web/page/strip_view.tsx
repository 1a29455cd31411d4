/**
 * The map of an address space: choose one, look closer, walk an address.
 *
 * @module
 */

import { useEffect, useRef, useState } from "preact/hooks";
import { sizeText } from "../size_text.ts";
import { hex, shortCount } from "./format.ts";
import { STATE_LOOKS } from "./states.ts";
import { CLASS_LETTERS } from "../../observe/reasons.ts";
import { STRIP_STATES } from "../../observe/strip_content.ts";
import type { StripSpace } from "../../observe/strip.ts";
import { LAYOUT, StripPainter } from "./strip_paint.ts";
import { useStore } from "./use_store.ts";
import { moved, type View, viewBytes, wholeView, zoomed } from "../zoom.ts";

/** Pixels that a pointer may move and still have clicked. */
const CLICK = 4;

/** The panel. */
export function StripPanel({ theme }: { theme: string }) {
  return (
    <section class="panel map" aria-label="address space map">
      <SpaceTabs />
      <ZoomBar />
      <StripCanvas theme={theme} />
      <HoverLine />
    </section>
  );
}

/** The name of a space. */
export function spaceName(space: StripSpace): string {
  return typeof space === "number" ? `PPGTT ${space}` : space === "aperture" ? "Aperture" : "Hidden";
}

function SpaceTabs() {
  const [store, { device, space }] = useStore();
  const spaces = device?.spaces ?? [];
  const step = (event: KeyboardEvent) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (by === 0) return;
    event.preventDefault();
    const at = spaces.findIndex((each) => each.space === space);
    const next = spaces[(at + by + spaces.length) % spaces.length];
    if (next === undefined) return;
    store.show(next.space);
    const tabs = (event.currentTarget as Element).querySelectorAll("button");
    tabs[spaces.indexOf(next)]?.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label="address spaces" onKeyDown={step}>
      {spaces.map((each) => (
        <button
          key={each.space}
          type="button"
          role="tab"
          aria-selected={each.space === space}
          aria-controls="strip"
          tabIndex={each.space === space ? 0 : -1}
          title={each.text}
          onClick={() => store.show(each.space)}
        >
          {spaceName(each.space)}
          <small>{each.mapped === 0 ? "empty" : `${shortCount(each.mapped)} pages`}</small>
          {each.wrong > 0 && <b class="class wrong">! {shortCount(each.wrong)} wrong</b>}
        </button>
      ))}
      {spaces.length === 0 && <span class="dim">no address spaces yet</span>}
    </div>
  );
}

function ZoomBar() {
  const [store, { view, cursor, strip }] = useStore();
  const extent = store.extent;
  const zoom = (steps: number) => {
    if (view !== null) store.see(zoomed(extent, view, steps, middleOf(view, cursor)));
  };
  const cell = view === null ? "" : sizeText(view.cellBytes);
  const counts = countsOf(strip?.strip.runs ?? []);
  return (
    <div class="zoom">
      <div class="buttons" role="group" aria-label="zoom">
        <button type="button" title="all of it (0)" onClick={() => store.see(wholeView(extent))}>all</button>
        <button type="button" title="look from farther (−)" aria-label="zoom out" onClick={() => zoom(-1)}>
          −
        </button>
        <button type="button" title="look closer (+)" aria-label="zoom in" onClick={() => zoom(1)}>+</button>
        <button type="button" title="the mapped page before (p)" onClick={() => store.find(cursor, false)}>
          ‹ mapped
        </button>
        <button type="button" title="the next mapped page (n)" onClick={() => store.find(cursor, true)}>
          mapped ›
        </button>
      </div>
      <span class="range mono">
        {view === null ? "" : `${hex(view.from)}–${hex(view.from + viewBytes(view) - 1)}`}
      </span>
      <span class="dim">one cell is {cell}</span>
      <ul class="legend" aria-label="legend: pages in view, guest and shadow">
        {STATE_LOOKS.map(({ letter, name, title }, state) => (
          <li key={name} title={title} class={counts[state] === 0 ? "none" : ""}>
            <i class={`swatch ${STRIP_STATES[state]}`}>{letter}</i>
            {name}
          </li>
        ))}
      </ul>
    </div>
  );
}

/** Pages by state in all runs, of both lanes. */
function countsOf(
  runs: readonly { cells: number; guest: [number, number][]; shadow: [number, number][] }[],
): number[] {
  const counts = STATE_LOOKS.map(() => 0);
  for (const { cells, guest, shadow } of runs) {
    for (const [state, pages] of [...guest, ...shadow]) counts[state]! += cells * pages;
  }
  return counts;
}

/** What zooming by key keeps in its place: the cursor, if it can be seen. */
function middleOf(view: View, cursor: number): number {
  const end = view.from + viewBytes(view);
  return cursor >= view.from && cursor < end ? cursor : view.from + viewBytes(view) / 2;
}

function StripCanvas({ theme }: { theme: string }) {
  const [store, state] = useStore();
  const { strip, view, cursor, gma, space } = state;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const painter = useRef<StripPainter | null>(null);
  const drag = useRef<{ x: number; view: View; isMoved: boolean } | null>(null);
  const wheel = useRef(0);
  const [width, setWidth] = useState(0);
  const [hasFocus, setFocus] = useState(false);
  const [pointed, setPointed] = useState<number | null>(null);

  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(entry!.contentRect.width));
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);
  useEffect(() => painter.current?.repaint(), [theme]);
  useEffect(() => {
    if (canvas.current === null || view === null || width === 0) return;
    painter.current ??= new StripPainter(canvas.current);
    const runs = strip !== null && strip.space === space
      ? strip.strip
      : { from: 0, cellBytes: 4096, runs: [] };
    painter.current.draw(width, { strip: runs, view, cursor, gma, hasFocus, pointed });
  }, [strip, view, cursor, gma, hasFocus, pointed, width, theme, space]);
  useEffect(() => {
    // Not passive: the page must not scroll.
    const element = canvas.current!;
    const turn = (event: WheelEvent) => {
      event.preventDefault();
      const { view } = store.state;
      if (view === null) return;
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        return store.see(moved(store.extent, view, (event.deltaX || event.deltaY) / width * viewBytes(view)));
      }
      wheel.current += event.deltaY;
      const steps = Math.trunc(wheel.current / 60);
      wheel.current -= steps * 60;
      if (steps !== 0) store.see(zoomed(store.extent, view, -steps, gmaAt(view, event.offsetX, width)));
    };
    element.addEventListener("wheel", turn, { passive: false });
    return () => element.removeEventListener("wheel", turn);
  }, [store, width]);

  const point = (event: PointerEvent) => {
    if (view === null) return;
    const held = drag.current;
    if (held !== null && (held.isMoved || Math.abs(event.offsetX - held.x) > CLICK)) {
      held.isMoved = true;
      store.see(moved(store.extent, held.view, (held.x - event.offsetX) / width * viewBytes(view)));
      return;
    }
    const at = cellAt(view, event.offsetX, width);
    if (at === pointed) return;
    setPointed(at);
    store.hover(at);
  };
  const press = (event: PointerEvent) => {
    if (view === null || event.button !== 0) return;
    drag.current = { x: event.offsetX, view, isMoved: false };
    canvas.current!.setPointerCapture(event.pointerId);
  };
  const release = (event: PointerEvent) => {
    const held = drag.current;
    drag.current = null;
    if (held === null || held.isMoved || view === null) return;
    const at = cellAt(view, event.offsetX, width);
    store.point(at);
    walkCell(at);
  };
  /** Walks the page of a cell that tells most. */
  const walkCell = (at: number) => store.walkCell(at);
  const key = (event: KeyboardEvent) => {
    if (view === null || event.ctrlKey || event.altKey || event.metaKey) return;
    const page = viewBytes(view) / 4;
    const act = ({
      ArrowLeft: () =>
        event.shiftKey ? store.see(moved(store.extent, view, -page)) : store.point(cursor - view.cellBytes),
      ArrowRight: () =>
        event.shiftKey ? store.see(moved(store.extent, view, page)) : store.point(cursor + view.cellBytes),
      PageUp: () => store.point(cursor - page),
      PageDown: () => store.point(cursor + page),
      Home: () => store.point(view.from),
      End: () => store.point(view.from + viewBytes(view) - view.cellBytes),
      "+": () => store.see(zoomed(store.extent, view, 1, middleOf(view, cursor))),
      "=": () => store.see(zoomed(store.extent, view, 1, middleOf(view, cursor))),
      "-": () => store.see(zoomed(store.extent, view, -1, middleOf(view, cursor))),
      "0": () => store.see(wholeView(store.extent)),
      n: () => store.find(cursor, true),
      p: () => store.find(cursor, false),
      Enter: () => walkCell(cursor),
      " ": () => walkCell(cursor),
      Escape: () => store.walk(null),
    } as Record<string, (() => void) | undefined>)[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  };
  const focus = () => {
    setFocus(true);
    store.hover(cursor);
  };
  return (
    <div class="lanes">
      <div class="lane-names" aria-hidden="true">
        <span>guest</span>
        <span>shadow</span>
      </div>
      <div class="strip" id="strip" role="tabpanel" aria-label="map" ref={box}>
        <canvas
          ref={canvas}
          tabIndex={0}
          role="slider"
          aria-label={`addresses of ${space === null ? "nothing" : spaceName(space)}`}
          aria-orientation="horizontal"
          aria-valuemin={0}
          aria-valuemax={view === null ? 0 : view.cells - 1}
          aria-valuenow={view === null ? 0 : Math.floor((cursor - view.from) / view.cellBytes)}
          aria-valuetext={hex(cursor)}
          aria-describedby="hover"
          style={{ height: `${LAYOUT.height}px` }}
          onPointerMove={point}
          onPointerDown={press}
          onPointerUp={release}
          onPointerLeave={() => setPointed(null)}
          onKeyDown={key}
          onFocus={focus}
          onBlur={() => setFocus(false)}
        />
        <Overview width={width} />
      </div>
    </div>
  );
}

/** Where in the whole space the view is. */
function Overview({ width }: { width: number }) {
  const [store, { view }] = useStore();
  if (view === null) return null;
  const { from, bytes } = store.extent;
  const left = (view.from - from) / bytes * width;
  const wide = Math.max(4, viewBytes(view) / bytes * width);
  return (
    <div class="overview" aria-hidden="true">
      <i style={{ left: `${Math.min(left, width - wide)}px`, width: `${Math.min(wide, width)}px` }} />
    </div>
  );
}

function HoverLine() {
  const [, { hover }] = useStore();
  if (hover === null) {
    return (
      <div class="hover mono dim" id="hover">
        Point at a cell, or move the cursor with ← →; click or Enter walks it; wheel, + and − zoom; drag or
        Shift with ← → pans; n and p go to mapped pages
      </div>
    );
  }
  const { from, bytes, gma, name, guest, shadow, verdict, class: word } = hover;
  return (
    <div class="hover mono" id="hover" aria-live="polite">
      <span>
        <b>{hex(from)}</b> <span class="dim">{sizeText(bytes)}{gma === from ? "" : `, at ${hex(gma)}`}</span>
      </span>
      <span class="dim">{name}</span>
      <span>
        <em>guest</em>
        {guest}
      </span>
      <span>
        <em>shadow</em>
        {shadow}
      </span>
      <span class={`class ${word}`} title={verdict}>{CLASS_LETTERS[word]} {verdict}</span>
    </div>
  );
}

function gmaAt(view: View, x: number, width: number): number {
  return view.from + Math.min(Math.max(x / width, 0), 1) * viewBytes(view);
}

/** The first address of the cell at a place. */
function cellAt(view: View, x: number, width: number): number {
  const cell = Math.min(view.cells - 1, Math.max(0, Math.floor(x / width * view.cells)));
  return view.from + cell * view.cellBytes;
}
