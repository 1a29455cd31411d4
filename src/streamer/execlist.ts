/**
 * The submission port of one engine (`guest.md` §7): takes pairs of contexts, runs one after the other, and tells the
 * guest how far it is.
 *
 * ```text
 * four stores to ELSP --> a pair --(idle)--> it runs --> its first context, then its second --> idle
 *                                --(its first context is the running one)--> lite restore: it replaces the running pair
 *                                --(else)--> it waits for the running pair to end
 * ```
 *
 * A guest counts: each submission is answered by exactly one entry of the status buffer that says it has begun, each
 * context of the running pair by one that says it has ended.
 *
 * Before a context runs, its page table is pinned and brought up to date; it stays pinned until the context has ended.
 * All of that happens in the engine's turn: a store to the port costs nothing. Where stores to tables are trapped, though,
 * the table is shadowed and pinned with the fourth store, too: the guest's CPU, which waits for that, would otherwise go
 * on and change tables before its VMM was asked to trap.
 *
 * @module
 */

import { pageTableWork } from "../gtt/counters.ts";
import { OK } from "../gtt/errno.ts";
import type { PpgttMm } from "../gtt/mm.ts";
import { ContextImage } from "./context_image.ts";
import type { StreamerParts } from "./data_commands.ts";
import { MODE_IDLE, RING, STOP_RING } from "./engines.ts";
import { CONTEXT_STATUS, StatusBuffer } from "./status_buffer.ts";
import { Streamer, type StreamerFaults } from "./streamer.ts";

const PORT_DWORDS = 4;
const DESCRIPTOR_VALID = 1;
const DESCRIPTOR_PRIVILEGE = 1 << 8;
const CONTEXT_MASK = 0xfffff000;
/** Descriptor, bits 4..3: how the context's addresses are translated. */
const ADDRESSING_SHIFT = 3;
/** The levels of the page table for each addressing mode; 0: not supported. */
const LEVELS: readonly number[] = [0, 3, 0, 4];
/** What beginning a context costs, in commands; each table that is compared or built for it costs one more. */
const BEGIN_COST = 32;

/** RING_CTL: there is a ring, and its size less one page. */
const RING_VALID = 1;
const RING_PAGE = 0x1000;

/** EXECLIST_STATUS. */
const STATUS = {
  slotValid: 1 << 4,
  secondSlotValid: 1 << 3,
  queueFull: 1 << 2,
  slotActive: 1 << 18,
} as const;

/** A context as it was submitted. */
interface Element {
  /** GGTT address of the context. */
  readonly context: number;
  /** What the guest calls it. */
  readonly id: number;
  /** Levels of its page table, 3 or 4. */
  readonly level: number;
  /** Where its commands ended when it was submitted, bytes from the ring's start. */
  readonly tail: number;
  /** Its page table, kept shadowed until it begins; `null` where that is of no use, or could not be. */
  kept: PpgttMm | null;
}

/** One or two contexts that were submitted together. */
type Pair = readonly [Element, Element | null];

/** What an engine's port needs besides what its streamer does. */
export interface ExeclistParts extends StreamerParts {
  /** Told that a context begins, or goes on with more commands; its page table can be looked at. */
  began(context: number, mm: PpgttMm, isGoingOn: boolean): void;
  /** Told that a context has come to its end. */
  completed(context: number): void;
  /** Told that a context was refused; 0: a submission in which there was none. */
  refused(context: number): void;
}

/** The submission port of one engine, and the streamer that runs what comes in by it. */
export class Execlist {
  readonly #parts: ExeclistParts;
  readonly #base: number;
  readonly #image: ContextImage;
  /** A context that is looked at while another one runs. */
  readonly #submitted: ContextImage;
  readonly #buffer: StatusBuffer;
  readonly #streamer: Streamer;
  /** What was stored to the port since it was last complete. */
  readonly #port = new Uint32Array(PORT_DWORDS);
  #stored = 0;
  #running: Pair | null = null;
  /** The context of the running pair that runs. */
  #element: Element | null = null;
  /** What the engine's turn is to begin with. */
  #due: "begin" | "go on" | null = null;
  #waiting: Pair | null = null;
  #mm: PpgttMm | null = null;
  readonly #began = new Uint32Array(2);
  readonly #now = new Uint32Array(2);

  /**
   * An idle engine.
   *
   * @param parts What it works with.
   * @param faults Told of addresses that lead nowhere.
   */
  constructor(parts: ExeclistParts, faults: StreamerFaults) {
    this.#parts = parts;
    this.#base = parts.info.base;
    this.#image = new ContextImage(parts.ggtt, parts.access);
    this.#submitted = new ContextImage(parts.ggtt, parts.access);
    this.#buffer = new StatusBuffer(parts);
    this.#streamer = new Streamer(parts, faults);
  }

  /**
   * Whether a context is there that has not ended.
   *
   * @returns Whether the engine is busy, even if it is halted.
   */
  get isBusy(): boolean {
    return this.#running !== null;
  }

  /**
   * Whether a turn would do something.
   *
   * @returns Whether the engine is busy and neither stopped nor halted.
   */
  get isRunnable(): boolean {
    return this.#running !== null && !this.#isStopped &&
      (this.#due === "begin" || this.#streamer.state !== "halted");
  }

  /**
   * Whether the next turn will most likely do nothing: the engine looks at a semaphore, or goes round in a circle.
   *
   * @returns Whether it may as well come later.
   */
  get isWaiting(): boolean {
    return this.#due === null && (this.#streamer.state === "waiting" || this.#streamer.isSpinning);
  }

  /**
   * For how long the context that runs has run, or the last one did.
   *
   * @returns Ticks of the counter, 32 bits.
   */
  get contextTimestamp(): number {
    if (this.#mm === null) return this.#image.ticks;
    this.#parts.clock.read(this.#now);
    return (this.#image.ticks + this.#now[0]! - this.#began[0]!) >>> 0;
  }

  /**
   * The guest stores to the port; the fourth store submits.
   *
   * @param value 32 bits: of the second context, then of the first, the upper dword before the lower.
   */
  store(value: number): void {
    this.#port[this.#stored++] = value;
    if (this.#stored < PORT_DWORDS) return;
    this.#stored = 0;
    const first = this.#elementOf(this.#port[3]!, this.#port[2]!);
    const second = this.#elementOf(this.#port[1]!, this.#port[0]!);
    if (first === null || second === null || first === "none") {
      this.#parts.refused(0);
      return;
    }
    this.#submit([first, second === "none" ? null : second]);
  }

  /** What was stored to the port and is no whole submission is forgotten. */
  forgetPort(): void {
    this.#stored = 0;
  }

  /**
   * One turn.
   *
   * @param budget Commands at most.
   * @returns What of it is left; below 0 if page tables took more.
   */
  run(budget: number): number {
    const { counters } = this.#parts.gtt;
    let left = budget;
    while (left > 0 && this.isRunnable) {
      if (this.#due !== null) {
        const before = pageTableWork(counters);
        const canRun = this.#prepare(this.#element!);
        left -= BEGIN_COST + pageTableWork(counters) - before;
        if (!canRun || left <= 0) return left;
      }
      left = this.#streamer.run(left);
      if (this.#streamer.state !== "idle") break;
      const before = pageTableWork(counters);
      this.#end(); // which may let a whole tree go
      left -= pageTableWork(counters) - before;
    }
    return left;
  }

  /** The guest wrote MI_MODE: the engine stops, or goes on. */
  modeWritten(): void {
    this.#streamer.isStopped = this.#isStopped;
    this.#showIdle();
  }

  /** Everything that was submitted is dropped; a page table that was pinned is let go. */
  reset(): void {
    this.#stored = 0;
    for (const pair of [this.#running, this.#waiting]) if (pair !== null) this.#release(pair);
    this.#running = this.#waiting = this.#element = null;
    this.#due = null;
    this.#streamer.stop();
    this.#letGo();
    this.modeWritten();
    this.#showStatus();
  }

  get #isStopped(): boolean {
    return (this.#parts.registers.get(this.#base + RING.MI_MODE) & STOP_RING) !== 0;
  }

  /** A descriptor. @returns `"none"` if there is no context in it, `null` if it is wrong. */
  #elementOf(lo: number, hi: number): Element | "none" | null {
    if ((lo & DESCRIPTOR_VALID) === 0) return "none";
    const level = LEVELS[(lo >>> ADDRESSING_SHIFT) & 3]!;
    if ((lo & DESCRIPTOR_PRIVILEGE) === 0 || level === 0) return null;
    const context = (lo & CONTEXT_MASK) >>> 0;
    return { context, id: hi, level, tail: this.#image.tailOf(context), kept: null };
  }

  /** Shadows and pins the page table of a context that is to run, if its guest's stores are trapped. */
  #keep(element: Element | null): void {
    const { gtt } = this.#parts;
    if (element === null || gtt.gvt.tracking !== "trapped" || !this.#submitted.load(element.context)) return;
    const begun = gtt.beginWorkload(element.level, this.#submitted.roots);
    if (typeof begun !== "number") element.kept = begun.mm;
  }

  /** Lets go what was kept for the contexts of a pair. */
  #release(pair: Pair): void {
    for (const element of pair) if (element !== null) this.#releaseOne(element);
  }

  #releaseOne(element: Element): void {
    if (element.kept !== null) this.#parts.gtt.endWorkload(element.kept);
    element.kept = null;
  }

  #submit(pair: Pair): void {
    pair.forEach((element) => this.#keep(element));
    const running = this.#element;
    if (running === null) return this.#start(pair);
    if (running.context === pair[0].context && running.id === pair[0].id) return this.#restore(pair);
    // There is room for one: a guest that submits a third has lost the second.
    if (this.#waiting !== null) {
      this.#parts.refused(this.#waiting[0].context);
      this.#release(this.#waiting);
    }
    this.#waiting = pair;
    this.#showStatus();
  }

  #start(pair: Pair): void {
    this.#take(pair, pair[0], "begin");
    this.#buffer.write(CONTEXT_STATUS.idleToActive, 0);
    this.#buffer.tell();
  }

  /** The new pair goes on with the context that runs: it has more commands. */
  #restore(pair: Pair): void {
    this.#parts.counters.liteRestores++;
    this.#release(this.#running!);
    // One that has not begun yet still has to.
    this.#take(pair, pair[0], this.#due === "begin" ? "begin" : "go on");
    this.#buffer.write(CONTEXT_STATUS.preempted | CONTEXT_STATUS.liteRestore, pair[0].id);
    this.#buffer.tell();
  }

  #take(pair: Pair, element: Element, due: "begin" | "go on"): void {
    this.#running = pair;
    this.#element = element;
    this.#due = due;
    this.#showStatus();
    this.#showIdle();
  }

  /** Begins the context that is next, or goes on with it after a lite restore. @returns Whether it can run. */
  #prepare(element: Element): boolean {
    const isGoingOn = this.#due === "go on";
    this.#due = null;
    if (isGoingOn) {
      this.#releaseOne(element);
      // New commands may use what has been mapped meanwhile.
      if (this.#mm === null || this.#parts.gtt.refreshWorkload(this.#mm, "on use") !== OK) {
        return this.#refuse();
      }
      this.#parts.began(element.context, this.#mm, true);
      this.#streamer.extend(element.tail % this.#image.size);
      this.#parts.registers.set(this.#base + RING.TAIL, element.tail);
      return true;
    }
    if (!this.#image.load(element.context)) return this.#refuse();
    const begun = this.#parts.gtt.beginWorkload(element.level, this.#image.roots, "on use");
    if (typeof begun === "number") return this.#refuse();
    this.#releaseOne(element);
    this.#mm = this.#parts.ppgtt.mm = begun.mm;
    this.#parts.began(element.context, begun.mm, false);
    this.#loadRegisters(element.tail);
    const { start, size, head } = this.#image;
    this.#streamer.begin(element.context, { start, size, head, tail: element.tail % size });
    return true;
  }

  /** The context cannot run: the engine stays as it is until the guest resets it. @returns `false`. */
  #refuse(): false {
    if (this.#element !== null) this.#releaseOne(this.#element);
    this.#parts.refused(this.#element?.context ?? 0);
    this.#streamer.halt();
    return false;
  }

  /** The context has come to the end of its commands. */
  #end(): void {
    const { context, id } = this.#element!;
    this.#saveRegisters();
    this.#image.ticks = this.contextTimestamp;
    this.#image.save(context, this.#streamer.head);
    this.#letGo();
    this.#parts.completed(context);
    const [first, second] = this.#running!;
    const next = this.#element === first ? second : null;
    if (next !== null) {
      this.#take(this.#running!, next, "begin");
      this.#buffer.write(CONTEXT_STATUS.elementSwitch | CONTEXT_STATUS.complete, id);
      this.#buffer.tell();
      return;
    }
    const waiting = this.#waiting;
    this.#running = this.#element = this.#waiting = null;
    this.#buffer.write(CONTEXT_STATUS.activeToIdle | CONTEXT_STATUS.complete, id);
    if (waiting !== null) return this.#start(waiting);
    this.#showStatus();
    this.#showIdle();
    this.#buffer.tell();
  }

  #letGo(): void {
    if (this.#mm === null) return;
    this.#parts.ppgtt.mm = null;
    this.#parts.gtt.endWorkload(this.#mm);
    this.#mm = null;
  }

  /** The context's registers become the engine's. */
  #loadRegisters(tail: number): void {
    const { registers, clock } = this.#parts;
    const { start, size, head, roots, gpr } = this.#image;
    registers.set(this.#base + RING.TAIL, tail);
    registers.set(this.#base + RING.HEAD, head);
    registers.set(this.#base + RING.START, start);
    registers.set(this.#base + RING.CTL, (size - RING_PAGE) | RING_VALID);
    for (let lane = 0; lane < roots.length; lane++) {
      registers.set(this.#base + RING.PDP + 4 * lane, roots[lane]!);
    }
    for (let lane = 0; lane < gpr.length; lane++) {
      registers.set(this.#base + RING.GPR + 4 * lane, gpr[lane]!);
    }
    clock.read(this.#began);
  }

  /** What the context left in the engine's registers becomes its own. */
  #saveRegisters(): void {
    const { gpr } = this.#image;
    for (let lane = 0; lane < gpr.length; lane++) {
      gpr[lane] = this.#parts.registers.get(this.#base + RING.GPR + 4 * lane);
    }
  }

  #showStatus(): void {
    const { registers } = this.#parts;
    const second = this.#running === null ? null : this.#running[1];
    const status = (this.#running === null ? 0 : STATUS.slotValid | STATUS.slotActive) |
      (second === null ? 0 : STATUS.secondSlotValid) | (this.#waiting === null ? 0 : STATUS.queueFull);
    registers.set(this.#base + RING.EXECLIST_STATUS, status);
    registers.set(this.#base + RING.EXECLIST_STATUS_HI, this.#element?.id ?? 0);
  }

  /** Tells in MI_MODE whether the engine does nothing: it has nothing to do, or was stopped. */
  #showIdle(): void {
    const { registers } = this.#parts;
    const mode = registers.get(this.#base + RING.MI_MODE) & ~MODE_IDLE;
    const isIdle = this.#running === null || (mode & STOP_RING) !== 0;
    registers.set(this.#base + RING.MI_MODE, isIdle ? mode | MODE_IDLE : mode);
  }
}
