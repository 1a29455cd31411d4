/**
 * One open page, as its server sees it: what it looks at, and what it was told last.
 *
 * @module
 */

import { PAGE_SIZE } from "../gtt/entry.ts";
import type { StripSpace } from "../observe/strip.ts";
import type {
  DeviceView,
  HoverView,
  Look,
  PageMessage,
  Sample,
  ServerMessage,
  SourceState,
  SpaceItem,
} from "./messages.ts";
import { sizeText } from "./size_text.ts";
import { treePath, treeRows } from "./tree_rows.ts";
import { type StepView, walkView } from "./walk_view.ts";
import type { Moment } from "./moment.ts";
import type { EventLogPart, Watcher } from "./watch.ts";

/** Cells of a strip: as many as a wide screen has pixels. */
const MAX_CELLS = 4096;
/** Rows of a tree that are unfolded. */
const MAX_OPEN = 1000;
/** Bytes that may wait for a page that does not read: beyond these it is told of changes later. */
const MAX_WAITING = 4 << 20;
/** Why a WebSocket is closed: an error inside the server. */
const BUG = 1011;
/** The end of addresses. */
const ADDRESSES = 2 ** 48;

/** How a page is told. */
export interface Wire {
  /** Bytes that wait to be sent. */
  readonly bufferedAmount: number;
  /** Sends a message. */
  send(text: string): void;
  /** Ends it. */
  close(code: number, reason: string): void;
}

/** One page. */
export class Viewer implements Watcher {
  readonly #wire: Wire;
  /** What was said last, by what it is about. */
  readonly #said = new Map<string, string>();
  /** Whether something of the log was left out, because the page did not read. */
  #isLogIncomplete = false;
  #look: Look | null = null;
  /** The newest moment, and the one that the page shows. */
  #newest: Moment | null = null;
  #shown: Moment | null = null;

  /** @param wire How the page is told. */
  constructor(wire: Wire) {
    this.#wire = wire;
  }

  /** See {@linkcode Watcher.sourceChanged}. */
  sourceChanged(source: SourceState): void {
    this.#say({ say: "source", source });
  }

  /** See {@linkcode Watcher.isLogIncomplete}. */
  get isLogIncomplete(): boolean {
    return this.#isLogIncomplete;
  }

  /** See {@linkcode Watcher.momentTaken}. */
  momentTaken(moment: Moment): void {
    this.#newest = moment;
    if (this.#look?.isPaused === true && this.#shown !== null) return;
    this.#shown = moment;
    this.#answer(this.#show());
  }

  /** See {@linkcode Watcher.logGrew}. */
  logGrew(samples: readonly Sample[], { events, lost, now, isAll }: EventLogPart): void {
    this.#isLogIncomplete = this.#wire.bufferedAmount > MAX_WAITING;
    if (this.#isLogIncomplete) return;
    if (samples.length > 0) this.#say({ say: "samples", samples, isAll });
    this.#say({ say: "events", events, lost, now, isAll });
  }

  /** A message of the page's. What is none of the known ones is not answered: our page does not send it. */
  hear(text: string): void {
    const message = parse(text);
    if (message !== null) this.#answer(this.#hear(message));
  }

  async #hear(message: PageMessage): Promise<void> {
    if (message.ask === "find") return this.#find(message.n, message.after, message.isForward);
    if (message.ask === "hover") return await this.#hover(message.n, message.from, message.bytes);
    const look = this.#look = checkedLook(message.look);
    if (!look.isPaused) this.#shown = this.#newest;
    await this.#show();
  }

  /** Whatever goes wrong in an answer is a bug of ours: it ends this page's line, which comes back, and nothing else. */
  #answer(work: Promise<void>): void {
    work.catch((error) => this.#wire.close(BUG, String(error).slice(0, 100)));
  }

  async #show(): Promise<void> {
    const [moment, look] = [this.#shown, this.#look];
    if (moment === null || this.#wire.bufferedAmount > MAX_WAITING) return;
    this.#say({ say: "device", device: deviceView(moment) });
    if (look === null) return;
    const { space, from, cellBytes, cells, gma, open } = look;
    this.#say({ say: "strip", space, strip: moment.strips.strip(space, from, cellBytes, cells) });
    const path = gma === null ? [] : treePath(moment.judge, space, gma);
    this.#say({ say: "tree", space, ...treeRows(moment.judge, space, open), path });
    const walk = gma === null ? null : await walkView(moment, space, gma);
    // Another look may have come meanwhile, and been answered.
    if (this.#look === look && this.#shown === moment) this.#say({ say: "walk", walk });
  }

  async #hover(n: number, from: number, bytes: number): Promise<void> {
    const [moment, look] = [this.#shown, this.#look];
    if (moment === null || look === null || !isAddress(from) || !isAddress(bytes)) return;
    this.#say({ say: "hover", n, hover: await hoverView(moment, look.space, from, bytes) });
  }

  /** Looks for the next page that maps more than scratch. */
  #find(n: number, after: number, isForward: boolean): void {
    const [moment, look] = [this.#shown, this.#look];
    if (moment === null || look === null || !isAddress(after)) return;
    this.#say({ say: "found", n, gma: moment.strips.nextAddress(look.space, after, isForward === true) });
  }

  /** Says something unless it was said last. */
  #say(message: ServerMessage): void {
    const text = JSON.stringify(message);
    if (message.say !== "events" && message.say !== "samples") {
      if (this.#said.get(message.say) === text) return;
      this.#said.set(message.say, text);
    }
    this.#wire.send(text);
  }
}

function parse(text: string): PageMessage | null {
  try {
    const message = JSON.parse(text);
    if (message?.ask === "look") {
      return typeof message.look === "object" && message.look !== null ? message : null;
    }
    return message?.ask === "hover" || message?.ask === "find" ? message : null;
  } catch {
    return null;
  }
}

/** A look within what can be answered. */
function checkedLook({ space, from, cellBytes, cells, gma, open, isPaused }: Look): Look {
  const isKnown = space === "aperture" || space === "hidden" || typeof space === "number";
  return {
    space: isKnown ? space : "aperture",
    from: isAddress(from) ? from - from % PAGE_SIZE : 0,
    cellBytes: isAddress(cellBytes) ? Math.max(PAGE_SIZE, cellBytes - cellBytes % PAGE_SIZE) : PAGE_SIZE,
    cells: Number.isInteger(cells) ? Math.min(Math.max(cells, 1), MAX_CELLS) : 1,
    gma: isAddress(gma) ? gma : null,
    open: Array.isArray(open) ? open.slice(0, MAX_OPEN).filter((key) => typeof key === "string") : [],
    isPaused: isPaused === true,
  };
}

function isAddress(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= ADDRESSES;
}

function deviceView({ snapshot, strips }: Moment): DeviceView {
  const { engine, tracking, hugePages, failsafe, tables, ram, windows, spaces } = snapshot.parts;
  const item = (space: StripSpace, text: string): SpaceItem => ({
    space,
    text,
    ...strips.extent(space)!,
    mapped: strips.mappedPages(space),
    wrong: strips.wrongPages(space),
  });
  let outOfSync = 0;
  for (const table of tables.values()) {
    if (tracking === "trapped" ? table.isOutOfSync : !table.isLookedAt) outOfSync++;
  }
  return {
    engine,
    tracking,
    hugePages,
    failsafe,
    tables: tables.size,
    outOfSync,
    ramBytes: ram.reduce((sum, { size }) => sum + size, 0),
    spaces: [
      ...windows.map(({ name, size }) => item(name, `${sizeText(size)} of the GGTT`)),
      ...spaces.map(({ id, level, isShadowed, pins }) =>
        item(id, `${level} levels${isShadowed ? "" : ", not shadowed"}${pins > 0 ? ", in use" : ""}`)
      ),
    ],
  };
}

async function hoverView(moment: Moment, space: StripSpace, from: number, bytes: number): Promise<HoverView> {
  const gma = moment.strips.tellingAddress(space, from, bytes);
  const walk = await walkView(moment, space, gma);
  const level = walk?.levels.at(-1);
  return {
    gma,
    from,
    bytes,
    name: level?.name ?? "",
    guest: stepText(level?.guest, walk?.guest),
    shadow: stepText(level?.shadow, walk?.shadow),
    verdict: walk?.sentence ?? "",
    class: walk?.class ?? "same",
  };
}

/** The last step of a walk; where it does not come so far, where it ends. */
function stepText(step: StepView | null | undefined, end = ""): string {
  return step === null || step === undefined ? end : `${step.target} · ${step.flags}`;
}
