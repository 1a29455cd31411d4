/**
 * Looks at the device for the pages that are open: takes snapshots, counters and events while somebody watches, and not
 * otherwise; the longer the device needs to answer, the less often. When the device is lost it looks for it again.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import type { EventText } from "../inspect/event_list.ts";
import { readEvents } from "../observe/event_reader.ts";
import { TooFastError } from "../observe/mirror.ts";
import type { Snapshot } from "../observe/snapshot.ts";
import { AddressStrips } from "../observe/strip.ts";
import { StripCache } from "../observe/strip_content.ts";
import { Judge } from "../observe/verdict.ts";
import { SAMPLE_PAUSE, sampleOf, SAMPLES_KEPT } from "./counters.ts";
import type { Sample, SourceState } from "./messages.ts";
import type { Moment } from "./moment.ts";

/** What is watched; `Source` of the inspector's command line is one. */
export interface WatchSource extends AsyncDisposable {
  /** What it is, for people. */
  readonly name: string;
  /** An observer's connection; `null` for a saved snapshot. */
  readonly client: Client | null;
  /** The page tables as they are now. */
  take(): Promise<Snapshot>;
}

/** What a watch is of. */
export interface WatchOptions {
  /** What kind of source. */
  readonly kind: SourceState["kind"];
  /** Opens it anew after it was lost. */
  readonly open: () => Promise<WatchSource>;
}

/** Who is told of what there is. */
export interface Watcher {
  /** The source is found or lost. */
  sourceChanged(state: SourceState): void;
  /** There is a newer moment. */
  momentTaken(moment: Moment): void;
  /** There are newer counters and events; all that are kept, if everything before is another device's. */
  logGrew(samples: readonly Sample[], events: EventLogPart): void;
  /** Whether it could not take a part of them: it gets all that are kept next time. */
  readonly isLogIncomplete: boolean;
}

/** Events that are newer. */
export interface EventLogPart {
  /** The events. */
  readonly events: readonly EventText[];
  /** How many before them are no longer kept. */
  readonly lost: number;
  /** The time, microseconds on their clock. */
  readonly now: number;
  /** Whether those before are another device's. */
  readonly isAll: boolean;
}

/** Milliseconds between looks. */
const PAUSE = 200;
/** Looks may keep the device busy for one part in so many of its time. */
const SHARE = 5;
/** Most milliseconds between looks at a device, however long they take. */
const MAX_PAUSE = 5000;
/** Milliseconds until a device that is lost is looked for again. */
const RETRY = 500;
/** Events that are kept for pages that come later. */
const EVENTS_KEPT = 4096;
const PAGE = 4096;

/** Looks at one source for any number of watchers. */
export class Watch implements AsyncDisposable {
  readonly #options: WatchOptions;
  readonly #watchers = new Set<Watcher>();
  readonly #cache = new StripCache();
  readonly #ended: Promise<void>;
  #source: WatchSource | null;
  #state: SourceState;
  #moment: Moment | null = null;
  #samples: Sample[] = [];
  #events: EventText[] = [];
  #lost = 0;
  /** Number of the last event that is known, and the time of the device then. */
  #last = 0;
  #now = 0;
  #isDone = false;
  #wake = () => {};

  /**
   * Begins to watch as soon as there is a watcher.
   *
   * @param source What to watch; it is closed with the watch.
   * @param options What it is.
   */
  constructor(source: WatchSource, options: WatchOptions) {
    this.#options = options;
    this.#source = source;
    this.#state = { name: source.name, kind: options.kind, state: this.#isStill ? "still" : "live", why: "" };
    this.#ended = this.#run();
  }

  /** The last moment that was taken. */
  get moment(): Moment | null {
    return this.#moment;
  }

  /** Whether nothing can change. */
  get #isStill(): boolean {
    return this.#options.kind !== "device";
  }

  /** Tells somebody, at once what is known already. */
  join(watcher: Watcher): void {
    this.#watchers.add(watcher);
    watcher.sourceChanged(this.#state);
    if (this.#moment !== null) watcher.momentTaken(this.#moment);
    if (this.#samples.length > 0) watcher.logGrew(this.#samples, this.#wholeLog);
    this.#wake();
  }

  /** Tells somebody nothing any more. */
  leave(watcher: Watcher): void {
    this.#watchers.delete(watcher);
  }

  /** Ends the watch and closes the source. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDone = true;
    this.#wake();
    await this.#ended;
    await this.#source?.[Symbol.asyncDispose]();
  }

  get #wholeLog(): EventLogPart {
    return { events: this.#events, lost: this.#lost, now: this.#now, isAll: true };
  }

  async #run(): Promise<void> {
    /** Milliseconds that the last look took, and the one before: a single slow one, such as the first, says little. */
    let took = [0, 0];
    while (!this.#isDone) {
      // What cannot change is looked at once, and at once.
      if (this.#isStill ? this.#moment !== null : this.#watchers.size === 0) {
        await this.#sleep(null);
        continue;
      }
      const began = performance.now();
      try {
        this.#source ??= await this.#find();
        await this.#look(this.#source);
      } catch (error) {
        await this.#lose(error);
        await this.#sleep(RETRY);
        continue;
      }
      took = [performance.now() - began, took[0]!];
      await this.#sleep(Math.min(Math.max(PAUSE, SHARE * Math.min(...took)), MAX_PAUSE));
    }
  }

  async #find(): Promise<WatchSource> {
    const source = await this.#options.open();
    this.#samples = [];
    this.#events = [];
    this.#last = this.#lost = 0;
    this.#tell({ ...this.#state, state: "live", why: "" });
    return source;
  }

  async #look(source: WatchSource): Promise<void> {
    const isFirst = this.#last === 0;
    try {
      const snapshot = await source.take();
      const judge = new Judge(snapshot);
      const strips = new AddressStrips(snapshot, judge, this.#cache);
      this.#moment = { snapshot, judge, strips, readPage: pageReader(source.client) };
      for (const watcher of this.#watchers) watcher.momentTaken(this.#moment);
    } catch (error) {
      // It goes on changing, and will be slower some time: what was seen last stays.
      if (!(error instanceof TooFastError)) throw error;
    }
    if (source.client !== null) await this.#readLog(source.client, isFirst);
  }

  async #readLog(client: Client, isAll: boolean): Promise<void> {
    const now = Date.now();
    const samples: Sample[] = [];
    if (now - (this.#samples.at(-1)?.[0] ?? 0) >= SAMPLE_PAUSE) {
      samples.push(sampleOf(now, await client.call("stats")));
      this.#samples = [...this.#samples, ...samples].slice(-SAMPLES_KEPT);
    }
    const answer = await readEvents(client, this.#last);
    this.#last = answer.last;
    this.#now = answer.now;
    this.#lost += answer.lost;
    if (answer.events.length > 0) this.#events = [...this.#events, ...answer.events].slice(-EVENTS_KEPT);
    const { events, lost } = answer;
    if (events.length === 0 && samples.length === 0 && !isAll) return;
    for (const watcher of this.#watchers) {
      if (isAll || watcher.isLogIncomplete) watcher.logGrew(this.#samples, this.#wholeLog);
      else watcher.logGrew(samples, { events, lost, now: this.#now, isAll });
    }
  }

  async #lose(error: unknown): Promise<void> {
    const why = error instanceof Error ? error.message : String(error);
    const source = this.#source;
    this.#source = null;
    if (this.#state.state !== "lost") this.#tell({ ...this.#state, state: "lost", why });
    try {
      await source?.[Symbol.asyncDispose]();
    } catch {
      // Whatever is wrong with its end, it is over.
    }
  }

  #tell(state: SourceState): void {
    this.#state = state;
    for (const watcher of this.#watchers) watcher.sourceChanged(state);
  }

  /** Waits for so many milliseconds, or for ever; a watcher that comes, and the end, end it. */
  async #sleep(milliseconds: number | null): Promise<void> {
    if (this.#isDone) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (milliseconds !== null) timer = setTimeout(resolve, milliseconds);
    });
    clearTimeout(timer);
    this.#wake = () => {};
  }
}

function pageReader(client: Client | null): Moment["readPage"] {
  return async (gfn) => {
    if (client === null) return null;
    try {
      const bytes = await client.call("mem_read", gfn * PAGE, PAGE);
      return new Uint32Array(bytes.slice().buffer);
    } catch {
      return null;
    }
  };
}
