/**
 * What the page knows and what it shows. Everything that draws subscribes to it.
 *
 * @module
 */

import type { EventText } from "../../inspect/event_list.ts";
import type { Strip, StripSpace } from "../../observe/strip.ts";
import type { DeviceView, HoverView, Look, Sample, ServerMessage, SourceState } from "../messages.ts";
import type { TreeRow } from "../tree_rows.ts";
import type { WalkView } from "../walk_view.ts";
import { Line } from "./line.ts";
import { type Extent, tableView, type View, viewBytes, wholeView } from "../zoom.ts";

/** Samples and events that are kept, as the server does. */
const SAMPLES_KEPT = 300;
const EVENTS_KEPT = 4096;

/** All of it. */
export interface PageState {
  /** Whether the inspector itself answers. */
  readonly line: "connecting" | "open" | "gone";
  readonly source: SourceState | null;
  readonly device: DeviceView | null;
  readonly strip: { readonly space: StripSpace; readonly strip: Strip } | null;
  readonly tree: {
    readonly space: StripSpace;
    readonly rows: readonly TreeRow[];
    readonly more: number;
    readonly path: readonly string[];
  };
  readonly walk: WalkView | null;
  readonly hover: HoverView | null;
  readonly samples: readonly Sample[];
  readonly events: readonly EventText[];
  readonly lost: number;
  /** The device's time and ours, when events came last: microseconds and milliseconds. */
  readonly clock: readonly [device: number, page: number];
  /** What is looked at. */
  readonly space: StripSpace | null;
  readonly view: View | null;
  /** The address at the keyboard's cursor. */
  readonly cursor: number;
  readonly gma: number | null;
  readonly open: readonly string[];
  readonly isPaused: boolean;
  /** Number of the event that is picked. */
  readonly picked: number | null;
}

const START: PageState = {
  line: "connecting",
  source: null,
  device: null,
  strip: null,
  tree: { space: "aperture", rows: [], more: 0, path: [] },
  walk: null,
  hover: null,
  samples: [],
  events: [],
  lost: 0,
  clock: [0, 0],
  space: null,
  view: null,
  cursor: 0,
  gma: null,
  open: [],
  isPaused: false,
  picked: null,
};

/** The page's state, and the line to the server. */
export class Store {
  #state: PageState = START;
  readonly #listeners = new Set<() => void>();
  readonly #line: Line;
  #asked = 0;
  #isLookDue = false;
  /** The walk whose rows were unfolded. */
  #revealed: string | null = null;

  constructor() {
    this.#line = new Line((state) => this.#lineChanged(state), (message) => this.#hear(message));
  }

  /** What there is now. */
  get state(): PageState {
    return this.#state;
  }

  /** Calls somebody after each change. @returns Ends that. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The addresses of the space that is shown. */
  get extent(): Extent {
    const { device, space } = this.#state;
    return device?.spaces.find((each) => each.space === space) ?? { from: 0, bytes: 2 ** 32 };
  }

  /** Shows an address space, all of it; from now on the user's choice, and not ours. */
  show(space: StripSpace): void {
    this.#isChosen = true;
    this.#showAll(space);
  }

  /** Whether the user chose what is shown. */
  #isChosen = false;

  #showAll(space: StripSpace): void {
    const item = this.#state.device?.spaces.find((each) => each.space === space);
    if (item === undefined) return;
    const view = wholeView(item);
    this.#set({
      space,
      view,
      cursor: item.from,
      gma: null,
      walk: null,
      hover: null,
      open: typeof space === "number" ? ["0"] : [],
    });
    this.#look();
    this.find(item.from - 1 < 0 ? 0 : item.from, true, false);
  }

  /** Shows a part of the space. */
  see(view: View): void {
    this.#set({ view });
    this.#look();
  }

  /** Moves the cursor, and the view with it. */
  point(cursor: number): void {
    const { view } = this.#state;
    if (view === null) return;
    const extent = this.extent;
    const at = Math.min(Math.max(cursor, extent.from), extent.from + extent.bytes - 1);
    this.#set({ cursor: at - at % view.cellBytes });
    if (at < view.from || at >= view.from + viewBytes(view)) {
      const half = viewBytes(view) / 2;
      const from = Math.min(
        Math.max(at - half, extent.from),
        Math.max(extent.from, extent.from + extent.bytes - viewBytes(view)),
      );
      this.see({ ...view, from: from - from % view.cellBytes });
    }
    this.hover(this.#state.cursor);
  }

  /** Walks an address; `null`: none. */
  walk(gma: number | null): void {
    this.#set({ gma, ...(gma === null ? { walk: null } : {}) });
    this.#look();
  }

  /** Walks the page of a cell that tells most. */
  walkCell(from: number): void {
    this.#onHover = (hover) => this.walk(hover.gma);
    this.hover(from, true);
  }

  /** Shows an address of some space: the table that it is in, and its walk. */
  goTo(space: StripSpace, gma: number): void {
    if (space !== this.#state.space) this.show(space);
    this.#asked++; // whatever is still looked for is not wanted any more
    this.#set({ cursor: gma, view: tableView(this.extent, gma) });
    this.walk(gma);
  }

  /** Folds or unfolds a row. */
  toggle(key: string): void {
    const { open } = this.#state;
    this.#set({ open: open.includes(key) ? open.filter((each) => each !== key) : [...open, key] });
    this.#look();
  }

  /** Stays at this moment, or goes on. */
  pause(isPaused: boolean): void {
    this.#set({ isPaused });
    this.#look();
  }

  /** Picks an event; `null`: none. */
  pick(picked: number | null): void {
    this.#set({ picked });
  }

  /** Asks what a cell is. One question at a time: what a pointer passes meanwhile is not asked. */
  hover(from: number | null, isAnswerWanted = false): void {
    const { view } = this.#state;
    if (from === null || view === null) return;
    if (!isAnswerWanted && this.#isHovering) {
      this.#nextHover = from;
      return;
    }
    if (!isAnswerWanted) this.#onHover = () => {};
    this.#isHovering = true;
    this.#nextHover = null;
    const { cellBytes: bytes } = view;
    this.#line.say({ ask: "hover", n: ++this.#hovers, from: from - from % bytes, bytes });
  }

  #isHovering = false;
  #nextHover: number | null = null;
  #hovers = 0;
  #onHover: (hover: HoverView) => void = () => {};
  /** What to do with the page that is looked for. */
  #onFound: (gma: number | null) => void = () => {};

  /** Looks for the next page that maps something, and shows it. */
  find(after: number, isForward: boolean, isWalk = true): void {
    this.#flush();
    this.#onFound = (gma) => {
      const { space } = this.#state;
      if (gma === null || space === null) return;
      if (isWalk) this.goTo(space, gma);
      else this.#set({ cursor: gma - gma % this.#state.view!.cellBytes });
    };
    this.#line.say({ ask: "find", n: ++this.#asked, after, isForward });
  }

  #lineChanged(line: PageState["line"]): void {
    this.#isHovering = false;
    this.#set({ line });
    if (line === "open" && this.#state.space !== null) this.#look();
  }

  #hear(message: ServerMessage): void {
    switch (message.say) {
      case "source":
        return this.#set({ source: message.source });
      case "device":
        return this.#hearDevice(message.device);
      case "strip":
        return this.#set({ strip: message });
      case "tree":
        return this.#hearTree(message);
      case "walk":
        return this.#set({ walk: message.walk });
      case "hover":
        return message.n === this.#hovers ? this.#hearHover(message.hover) : undefined;
      case "found":
        return message.n === this.#asked ? this.#onFound(message.gma) : undefined;
      case "samples":
        return this.#set({
          samples: joined(this.#state.samples, message.samples, message.isAll, SAMPLES_KEPT),
        });
      case "events":
        return this.#set({
          events: joined(this.#state.events, message.events, message.isAll, EVENTS_KEPT),
          lost: message.lost + (message.isAll ? 0 : this.#state.lost),
          clock: [message.now, performance.now()],
        });
    }
  }

  #hearHover(hover: HoverView): void {
    this.#isHovering = false;
    this.#set({ hover });
    this.#onHover(hover);
    this.hover(this.#nextHover);
  }

  #hearDevice(device: DeviceView): void {
    const isOther = this.#state.device?.engine !== device.engine;
    this.#set({ device });
    const { space } = this.#state;
    const shown = device.spaces.find((each) => each.space === space);
    const isGood = shown !== undefined && (this.#isChosen || shown.mapped > 0);
    if (isGood && !isOther) return;
    if (isGood && this.#isChosen) return this.#showAll(shown.space);
    // The fullest address space tells most; if there is none, the fullest part of the GGTT.
    const fullest = (spaces: typeof device.spaces) => spaces.toSorted((a, b) => b.mapped - a.mapped)[0];
    const ppgtts = device.spaces.filter((each) => typeof each.space === "number");
    const first = fullest(ppgtts) ?? fullest(device.spaces);
    if (first !== undefined && (isOther || first.space !== space)) this.#showAll(first.space);
  }

  #hearTree(message: PageState["tree"]): void {
    this.#set({ tree: message });
    const { gma, space, open } = this.#state;
    const walk = gma === null ? null : `${space} ${gma}`;
    if (walk === this.#revealed || message.space !== space || message.path.length === 0) return;
    this.#revealed = walk;
    this.#set({ open: [...new Set([...open, ...message.path.slice(0, -1)])] });
    this.#look();
  }

  /** Tells the server what is looked at, once for all that changes now. */
  #look(): void {
    if (this.#isLookDue) return;
    this.#isLookDue = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    if (!this.#isLookDue) return;
    this.#isLookDue = false;
    const { space, view, gma, open, isPaused } = this.#state;
    if (space === null || view === null) return;
    const look: Look = { space, ...view, gma, open, isPaused };
    this.#line.say({ ask: "look", look });
  }

  #set(change: Partial<PageState>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}

function joined<T>(before: readonly T[], now: readonly T[], isAll: boolean, most: number): readonly T[] {
  if (isAll) return now;
  return now.length === 0 ? before : [...before, ...now].slice(-most);
}
