/**
 * The recorder: what came in becomes lines, in order (`protocol/recording.md`).
 *
 * An *event* is whatever makes the device do something: a load, a store, a call, a turn of its engines. What the device
 * learned from outside while it carried the event out, the time and memory that is not its own, is written *before*
 * the event's own line, each with the number of the access that it belongs to. Stores and turns that nothing came
 * between share a line.
 *
 * Whoever looks (a view) makes no event: what it reads is of no account, and no time that it is told is recorded.
 *
 * @module
 */

import type { Tracking } from "../gtt/gvt_gtt.ts";
import type { PageComparison } from "../memory/memory_backing.ts";
import { type AccessLog, RecordingRam } from "../memory/recording_ram.ts";
import type { RamRegion } from "../memory/ram_map.ts";
import type { PageRun } from "../memory/sparse_pages.ts";
import type { Device } from "../vgpu/device.ts";
import { type Header, headerText, type RecordedOptions } from "./header.ts";
import { type ExactTime, exactTime, hex, hexLanes, paramsText, regionName } from "./names.ts";
import { MAX_BUG, MAX_TURNS } from "./recorded_line.ts";
import type { RecordingSink } from "./recording_sink.ts";
import { stateDigest } from "./state_digest.ts";
import { StoreBurst } from "./store_burst.ts";

/** How long what came in may wait to be written, milliseconds, when there is nothing else to do. */
const FLUSH_PAUSE = 10;
/** How often a digest is made although nobody left, milliseconds. */
const DIGEST_PAUSE = 10_000;
/** Shadow tables up to which that takes no more than ten milliseconds or so. */
const MAX_DIGEST_TABLES = 1024;
/** The same for pages of guest memory. */
const MAX_DIGEST_PAGES = 2048;

/** What a recorder may be given. */
export interface RecorderOptions {
  /** The time that the device is told, milliseconds; default: since the process began. */
  readonly now?: () => number;
  /** Compares pages; without it a loop does. */
  readonly compare?: PageComparison | null;
}

/** Records the events of one device. */
export class Recorder implements AccessLog {
  /** Events recorded so far. */
  events = 0;
  /** Accesses to recorded memory since the event began. */
  accesses = 0;
  /** Whether an event is under way. */
  isOpen = false;
  readonly #sink: RecordingSink;
  readonly #now: () => number;
  readonly #compare: PageComparison | null;
  /** Times that were told during the event that is under way, as text. */
  #times = "";
  readonly #time: ExactTime = { value: 0, text: "" };
  readonly #burst = new StoreBurst();
  /** Turns that are held, to share a line. */
  #turns = 0;
  #flushedAt = 0;
  #digestedAt = 0;
  #digestedEvents = 0;

  /**
   * Begins a recording.
   *
   * @param sink Where lines go.
   * @param device The device's options.
   * @param by The program that records.
   * @param options What else it is given.
   */
  constructor(
    sink: RecordingSink,
    device: RecordedOptions,
    by: Header["by"],
    { now = () => performance.now(), compare = null }: RecorderOptions = {},
  ) {
    this.#sink = sink;
    this.#now = now;
    this.#compare = compare;
    this.#flushedAt = this.#digestedAt = performance.now();
    sink.line(headerText(device, by));
  }

  // ---- what the device learns from outside

  /** Guest RAM that is recorded. */
  ram(): RecordingRam {
    return new RecordingRam(this, {}, this.#compare);
  }

  /** The time, milliseconds. */
  now(): number {
    const now = this.#now();
    if (!this.isOpen) return now;
    const time = exactTime(now, this.#time);
    this.#times += this.#times === "" ? time.text : `,${time.text}`;
    return time.value;
  }

  /** See {@linkcode AccessLog.changed}. */
  changed(access: number, gpa: number, runs: readonly PageRun[]): void {
    const set = runs.map(([offset, bytes]) => `[${offset},"${bytes.toHex()}"]`).join();
    this.#line(`{"mem":"${hex(gpa)}","set":[${set}],"at":${access}}`);
  }

  /** See {@linkcode AccessLog.failed}. */
  failed(access: number): void {
    this.#line(`{"fail":${access}}`);
  }

  // ---- events

  /**
   * An event begins.
   *
   * @returns Whether it does; `false` within another one, of which it is a part.
   */
  begin(): boolean {
    if (this.isOpen) return false;
    this.accesses = 0;
    return this.isOpen = true;
  }

  /** The event that began is done; its line follows. */
  end(): void {
    this.isOpen = false;
    if (this.#times !== "") this.#putTimes();
  }

  /** The event that is under way ends with an exception, which is a bug. */
  bug(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    this.#line(`{"bug":${JSON.stringify(text.slice(0, MAX_BUG))}}`);
  }

  /** The guest read. */
  read(region: number, offset: number, size: number, lo: number, hi: number): void {
    this.events++;
    this.#line(readText(region, offset, size, lo, hi, ""));
  }

  /** The guest read although another event was under way, after so many of that one's accesses. */
  readWithin(
    region: number,
    offset: number,
    size: number,
    lo: number,
    hi: number,
    accesses: number,
  ): void {
    this.#line(readText(region, offset, size, lo, hi, `,"at":${accesses}`));
  }

  /** The guest stored. */
  write(region: number, offset: number, size: number, lo: number, hi: number): void {
    this.events++;
    if (!this.#burst.add(region, offset, size, lo, hi)) this.#beginBurst(region, offset, size, lo, hi);
  }

  /** The engines had a turn. */
  turn(): void {
    this.events++;
    if (this.#burst.count > 0 || this.#turns === MAX_TURNS) this.#settle();
    this.#turns++;
  }

  /** The engines dropped what they had. */
  abandon(): void {
    this.#event('{"abandon":true}');
  }

  /** A VMM attached. */
  attach(tracking: Tracking): void {
    this.#event(`{"attach":"${tracking}"}`);
  }

  /** A VMM is gone. */
  detach(): void {
    this.#event('{"detach":true}');
  }

  /** RAM was mapped. */
  map({ gpa, size, mfn, readonly, kind }: RamRegion): void {
    const place = `"gpa":"${hex(gpa)}","size":"${hex(size)}","mfn":"${hex(mfn)}"`;
    this.#event(`{"ram":"map",${place},"readonly":${readonly},"kind":"${kind}"}`);
  }

  /** RAM was unmapped. */
  unmap(gpa: number, size: number): void {
    this.#event(`{"ram":"unmap","gpa":"${hex(gpa)}","size":"${hex(size)}"}`);
  }

  /** The vGPU was reset. */
  reset(): void {
    this.#event('{"reset":true}');
  }

  /** The VMM may have missed an interrupt, which is sent again if it is due. */
  resend(): void {
    this.#event('{"resend":true}');
  }

  /**
   * A method was called.
   *
   * @param method Its name.
   * @param params Its parameters.
   * @param error The code of the error that it was answered with, or `null`.
   */
  call(method: string, params: readonly unknown[], error: string | null): void {
    const failed = error === null ? "" : `,"error":"${error}"`;
    this.#event(`{"call":"${method}","params":${paramsText(params)}${failed}}`);
  }

  // ---- the file

  /** Writes down what the device's state is, for a replay to compare. No event. */
  digest(device: Device): void {
    if (this.#sink.isLost || this.events === this.#digestedEvents) return;
    this.#digestedAt = performance.now();
    this.#digestedEvents = this.events;
    this.#line(`{"digest":${JSON.stringify(stateDigest(device))},"events":${this.events}}`);
  }

  /**
   * There is nothing to do: time to write down what waits.
   *
   * @param device The device.
   * @returns When this is to be called again at the latest, milliseconds from now; `Infinity`: when something happened.
   */
  idle(device: Device): number {
    if (this.#burst.count === 0 && this.#turns === 0 && this.#sink.length === 0) return Infinity;
    const now = performance.now();
    const wait = this.#flushedAt + FLUSH_PAUSE - now;
    if (wait > 0) return wait;
    const { ram, vgpu: { gtt: { parts: { tables } } } } = device;
    const isShort = tables.size <= MAX_DIGEST_TABLES && ram.recordedSize <= MAX_DIGEST_PAGES;
    if (isShort && now > this.#digestedAt + DIGEST_PAUSE) this.digest(device);
    this.flush();
    this.#flushedAt = now;
    return Infinity;
  }

  /** Writes down what waits. */
  flush(): void {
    this.#settle();
    this.#sink.flush();
  }

  /** Apart from the rest, so that what nearly every store does is short. */
  #beginBurst(region: number, offset: number, size: number, lo: number, hi: number): void {
    this.#settle();
    this.#burst.begin(region, size);
    this.#burst.add(region, offset, size, lo, hi);
  }

  #putTimes(): void {
    const times = this.#times;
    this.#times = "";
    this.#line(times.includes(",") ? `{"clock":[${times}]}` : `{"clock":${times}}`);
  }

  #event(line: string): void {
    this.events++;
    this.#line(line);
  }

  #line(text: string): void {
    this.#settle();
    if (this.#times !== "") this.#putTimes();
    this.#sink.line(text);
  }

  /** Turns what is held into a line. */
  #settle(): void {
    if (this.#burst.count > 0) this.#sink.line(this.#burst.take());
    if (this.#turns > 0) {
      this.#sink.line(`{"turn":${this.#turns}}`);
      this.#turns = 0;
    }
  }
}

function readText(
  region: number,
  offset: number,
  size: number,
  lo: number,
  hi: number,
  more: string,
): string {
  const at = `"off":"${hex(offset)}","size":${size}`;
  return `{"r":"${regionName(region)}",${at},"val":"${hexLanes(lo, hi)}"${more}}`;
}
