/**
 * Draws a strip: two lanes of cells, each a stack of what is in it, with letters where they have room.
 *
 * @module
 */

import type { Strip, StripShares } from "../../observe/strip.ts";
import { STRIP_STATES } from "../../observe/strip_content.ts";
import { hex } from "./format.ts";
import { STACK, STATE_LOOKS } from "./states.ts";
import { type View, viewBytes } from "../zoom.ts";

/** Where things are, in CSS pixels. */
export const LAYOUT = { axis: 20, lane: 42, gap: 6, height: 20 + 42 + 6 + 42 } as const;
/** Least part of a cell's height that a state has that is there at all. */
const LEAST = 0.16;
/** Least width of a letter's run. */
const LETTER = 11;
/** Least pixels between labels of the axis. */
const LABEL = 118;

/** Colours of a theme. */
export interface Palette {
  readonly states: readonly string[];
  readonly text: string;
  readonly dim: string;
  readonly line: string;
  readonly lane: string;
  readonly accent: string;
  readonly ink: string;
}

/** The colours that the style sheet says. */
export function paletteOf(element: Element): Palette {
  const style = getComputedStyle(element);
  const color = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    states: STRIP_STATES.map(color),
    text: color("text"),
    dim: color("dim"),
    line: color("line"),
    lane: color("lane"),
    accent: color("accent"),
    ink: color("ink"),
  };
}

/** What is drawn. */
export interface Picture {
  readonly strip: Strip;
  readonly view: View;
  readonly cursor: number;
  readonly gma: number | null;
  readonly hasFocus: boolean;
  readonly pointed: number | null;
}

/** Draws one strip after another on a canvas. */
export class StripPainter {
  readonly #context: CanvasRenderingContext2D;
  readonly #patterns = new Map<string, CanvasPattern | null>();
  #palette: Palette;
  #width = 0;

  constructor(canvas: HTMLCanvasElement) {
    this.#context = canvas.getContext("2d")!;
    this.#palette = paletteOf(canvas);
  }

  /** Takes the colours of now. */
  repaint(): void {
    this.#palette = paletteOf(this.#context.canvas);
    this.#patterns.clear();
  }

  /** Draws. */
  draw(width: number, picture: Picture): void {
    const { canvas } = this.#context;
    const scale = devicePixelRatio;
    const [w, h] = [Math.round(width * scale), Math.round(LAYOUT.height * scale)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    this.#width = width;
    const c = this.#context;
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.clearRect(0, 0, width, LAYOUT.height);
    const tops = [LAYOUT.axis, LAYOUT.axis + LAYOUT.lane + LAYOUT.gap];
    c.fillStyle = this.#palette.lane;
    for (const top of tops) c.fillRect(0, top, width, LAYOUT.lane);
    this.#cells(picture, tops);
    this.#axis(picture.view);
    this.#marks(picture);
  }

  #x({ view }: Pick<Picture, "view">, gma: number): number {
    return (gma - view.from) / viewBytes(view) * this.#width;
  }

  #cells(picture: Picture, [guestTop = 0, shadowTop = 0]: readonly number[]): void {
    const { strip } = picture;
    let gma = strip.from;
    for (const { cells, guest, shadow } of strip.runs) {
      const bytes = cells * strip.cellBytes;
      const [left, right] = [this.#x(picture, gma), this.#x(picture, gma + bytes)];
      gma += bytes;
      if (right <= 0 || left >= this.#width) continue;
      const [from, to] = [Math.max(0, left), Math.min(this.#width, right)];
      this.#run(from, to, guestTop, guest, strip.cellBytes);
      this.#run(from, to, shadowTop, shadow, strip.cellBytes);
    }
  }

  /** One run of cells of one lane. */
  #run(left: number, right: number, top: number, shares: StripShares, cellBytes: number): void {
    const pages = cellBytes / 4096;
    const heights = STACK.map((state) => {
      const share = (shares.find(([each]) => each === state)?.[1] ?? 0) / pages;
      return share === 0 ? 0 : Math.max(LEAST, share);
    });
    const sum = Math.max(1, heights.reduce((a, b) => a + b, 0));
    let bottom = top + LAYOUT.lane;
    // At least a pixel, so that what is narrow is seen.
    const width = Math.max(1, right - left);
    let letter = -1;
    let letterAt = 0;
    for (let at = 0; at < STACK.length; at++) {
      if (heights[at] === 0) continue;
      const state = STACK[at]!;
      const height = heights[at]! / sum * LAYOUT.lane;
      this.#fill(state, left, bottom - height, width, height);
      letter = state;
      letterAt = bottom - height / 2;
      bottom -= height;
    }
    if (width < LETTER) return;
    const c = this.#context;
    c.font = "600 11px ui-monospace, 'DejaVu Sans Mono', monospace";
    c.textAlign = "center";
    c.textBaseline = "middle";
    const isEmpty = letter < 0;
    c.fillStyle = isEmpty || STRIP_STATES[letter] === "scratch" ? this.#palette.dim : this.#palette.ink;
    c.fillText(
      STATE_LOOKS[isEmpty ? 0 : letter]!.letter,
      (left + right) / 2,
      isEmpty ? top + LAYOUT.lane / 2 : letterAt,
    );
  }

  #fill(state: number, x: number, y: number, width: number, height: number): void {
    const c = this.#context;
    c.fillStyle = this.#palette.states[state]!;
    c.fillRect(x, y, width, height);
    const pattern = this.#pattern(STATE_LOOKS[state]!.pattern);
    if (pattern === null || width < 3) return;
    c.fillStyle = pattern;
    c.fillRect(x, y, width, height);
  }

  #pattern(name: string): CanvasPattern | null {
    if (name === "none") return null;
    let pattern = this.#patterns.get(name);
    if (pattern === undefined) this.#patterns.set(name, pattern = makePattern(this.#context, name));
    return pattern;
  }

  /** Addresses where they are round. */
  #axis(view: View): void {
    const c = this.#context;
    const bytes = viewBytes(view);
    let step = view.cellBytes;
    while (step / bytes * this.#width < LABEL) step *= 2;
    c.font = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
    c.textBaseline = "middle";
    c.textAlign = "left";
    for (let gma = Math.ceil(view.from / step) * step; gma < view.from + bytes; gma += step) {
      const x = Math.round(this.#x({ view }, gma));
      c.fillStyle = this.#palette.line;
      c.fillRect(x, 4, 1, LAYOUT.height - 4);
      if (x > this.#width - LABEL * 0.7) continue;
      c.fillStyle = this.#palette.dim;
      c.fillText(hex(gma), x + 4, LAYOUT.axis / 2);
    }
  }

  #marks(picture: Picture): void {
    const { view, cursor, gma, hasFocus, pointed } = picture;
    const c = this.#context;
    const width = Math.max(3, this.#width / view.cells);
    const [top, height] = [LAYOUT.axis - 2, LAYOUT.height - LAYOUT.axis + 4];
    if (pointed !== null) {
      c.globalAlpha = 0.18;
      c.fillStyle = this.#palette.text;
      c.fillRect(this.#x(picture, pointed), top, width, height);
      c.globalAlpha = 1;
    }
    if (gma !== null && gma >= view.from && gma < view.from + viewBytes(view)) {
      const x = this.#x(picture, gma - gma % view.cellBytes) + width / 2;
      c.fillStyle = this.#palette.accent;
      c.beginPath();
      c.moveTo(x - 6, LAYOUT.axis - 9);
      c.lineTo(x + 6, LAYOUT.axis - 9);
      c.lineTo(x, LAYOUT.axis - 1);
      c.fill();
      c.fillRect(x - 1, LAYOUT.axis + LAYOUT.lane, 2, LAYOUT.gap);
    }
    if (hasFocus && cursor >= view.from && cursor < view.from + viewBytes(view)) {
      // Around the cell, which may be as narrow as the line.
      c.strokeStyle = this.#palette.text;
      c.lineWidth = 1.5;
      c.strokeRect(this.#x(picture, cursor) - 2, top + 1, width + 4, height - 3);
    }
  }
}

/** A small tile that is repeated over a colour. */
function makePattern(c: CanvasRenderingContext2D, name: string): CanvasPattern | null {
  const size = 6;
  const tile = new OffscreenCanvas(size, size);
  const t = tile.getContext("2d")!;
  t.strokeStyle = t.fillStyle = "rgb(0 0 0 / 0.28)";
  t.lineWidth = 1.4;
  t.beginPath();
  if (name === "columns") t.fillRect(0, 0, 1.2, size);
  else if (name === "dots") t.fillRect(2, 2, 1.5, 1.5);
  else {
    for (const shift of [-size, 0, size]) {
      t.moveTo(shift, name === "rising" ? size : 0);
      t.lineTo(shift + size, name === "rising" ? 0 : size);
    }
    t.stroke();
  }
  return c.createPattern(tile, "repeat");
}
