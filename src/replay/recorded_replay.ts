/**
 * Replays a recording with a header: the device learns from outside what it learned then, and does the same.
 *
 * @module
 */

import { RpcError } from "../../protocol/errors.ts";
import { type AccessScript, ReplayRam } from "../memory/replay_ram.ts";
import { PageLimitError } from "../memory/sparse_pages.ts";
import type { Header } from "../recording/header.ts";
import { hex, regionName } from "../recording/names.ts";
import { parseLine, type ReadLine, type RecordedLine, type WriteLine } from "../recording/recorded_line.ts";
import { stateDigest } from "../recording/state_digest.ts";
import { DeviceService } from "../server/device_service.ts";
import type { DeviceInputs, ServedDevice } from "../server/served_device.ts";
import { SilentVmm } from "./silent_vmm.ts";

/** Differences that are told: after the first everything may differ. */
const MAX_DIFFERENCES = 20;

/** Times that one event's device asks for at most: a turn's commands ask twice each or so. */
const MAX_TIMES = 65_536;
/**
 * Bytes that are taken at most by what a device learned in one event: surfaces that it copied in a turn are the most of
 * it, and they have some dozen megabytes each.
 */
const MAX_LEARNED = 2 ** 29;
/** Lines that say so at most. */
const MAX_FINDINGS = 262_144;
/** What a line takes in memory, and each of its runs, besides their bytes. */
const LINE_BYTES = 256;
const RUN_BYTES = 192;
/** Characters of a name of a part of the state, and how many names are told. */
const MAX_PART = 64;
const MAX_PARTS = 20;

/** What an access of the event that comes next is to find. */
type Finding = Extract<RecordedLine, { kind: "memory" | "fail" | "read" }>;

/** A device that does again what a recording says. */
export class RecordedReplay implements DeviceInputs, AccessScript {
  /** The device. */
  readonly service: DeviceService;
  /** Events replayed. */
  events = 0;
  /** Digests that were compared. */
  digests = 0;
  /** What was different. */
  readonly differences: { line: number; text: string }[] = [];
  readonly #most: number;
  #ram: ReplayRam | null = null;
  #line = 1;
  // ---- what was recorded of the event that comes next, or is under way
  readonly #findings = new Map<number, Finding[]>();
  #times: number[] = [];
  #room = MAX_LEARNED;
  #found = 0;
  #bug: string | null = null;
  #isInEvent = false;
  #accesses = 0;
  #lastTime = 0;
  readonly #value = new Uint32Array(2);

  /**
   * A fresh device.
   *
   * @param header What device it is.
   * @param most Events to replay at most.
   * @throws {RangeError} When there is no such device.
   */
  constructor({ device: { debug, ...options } }: Header, most: number) {
    this.#most = most;
    this.service = new DeviceService(options, debug, { inputs: this });
  }

  get #served(): ServedDevice {
    return this.service.served;
  }

  /** Whether so many events were replayed as were asked for. */
  get isDone(): boolean {
    return this.events >= this.#most;
  }

  /**
   * Replays a line.
   *
   * @param number Its number, from 1.
   * @param text The line.
   * @throws {Error} When it cannot be understood, or cannot be what was recorded.
   */
  play(number: number, text: string): void {
    this.#line = number;
    const line = parseLine(text);
    switch (line.kind) {
      case "memory":
      case "fail":
        return this.#find(line);
      case "read":
        return line.at === null ? this.#event(() => this.#read(line)) : this.#find(line);
      case "write":
        return this.#write(line);
      case "clock":
        return this.#hear(line.times);
      case "bug":
        this.#bug = line.text;
        return;
      case "digest":
        return this.#compare(line);
      case "turn":
        return this.#repeat(line.count, () => this.#served.run());
      default:
        return this.#event(() => this.#other(line));
    }
  }

  // ---- what the device learns from outside

  /** RAM that is as it was when it was accessed. */
  ram(): ReplayRam {
    return this.#ram = new ReplayRam(this);
  }

  /** The time that it was. */
  now(): number {
    const next = this.#isInEvent ? this.#times.shift() : this.#lastTime;
    if (next === undefined) this.#differ("the device asked for the time once more than it did");
    return this.#lastTime = next ?? this.#lastTime;
  }

  /** See {@linkcode AccessScript.next}. */
  next(): boolean {
    const access = ++this.#accesses;
    const findings = this.#findings.get(access);
    if (findings === undefined) return true;
    this.#findings.delete(access);
    let succeeds = true;
    for (const finding of findings) {
      if (finding.kind === "memory") this.#change(finding.gpa, finding.runs);
      else if (finding.kind === "read") this.#read(finding);
      else succeeds = false;
    }
    return succeeds;
  }

  #hear(times: readonly number[]): void {
    if (this.#times.length + times.length > MAX_TIMES) {
      throw new Error(`the device asked for the time more than ${MAX_TIMES} times in one event`);
    }
    this.#times.push(...times);
  }

  #find(finding: Finding): void {
    if (finding.at === null) {
      if (finding.kind === "memory") this.#change(finding.gpa, finding.runs);
      return;
    }
    this.#room -= roomOf(finding);
    if (this.#room < 0 || ++this.#found > MAX_FINDINGS) {
      throw new Error("the device learned more in one event than is kept of one");
    }
    const others = this.#findings.get(finding.at);
    if (others === undefined) this.#findings.set(finding.at, [finding]);
    else others.push(finding);
  }

  #change(gpa: number, runs: readonly (readonly [offset: number, bytes: Uint8Array])[]): void {
    for (const [offset, bytes] of runs) {
      if (this.#ram?.change(gpa + offset, bytes) !== true) {
        throw new ImpossibleError(`there is no RAM that could change at ${hex(gpa)}`);
      }
    }
  }

  // ---- events

  #event(run: () => void): void {
    if (this.isDone) return;
    this.events++;
    this.#accesses = 0;
    this.#isInEvent = true;
    try {
      run();
      if (this.#bug !== null) this.#differ(`there was an internal error: ${this.#bug}`);
    } catch (error) {
      if (error instanceof ImpossibleError || error instanceof PageLimitError) throw error;
      if (this.#bug === null) this.#differ(`internal error: ${error instanceof Error ? error.stack : error}`);
    } finally {
      this.#isInEvent = false;
      this.#forget();
    }
  }

  /** What was recorded of an event is done with it, and should have been used up. */
  #forget(): void {
    this.#bug = null;
    this.#room = MAX_LEARNED;
    this.#found = 0;
    if (this.#findings.size > 0) {
      const [access] = this.#findings.keys();
      this.#differ(`the device accessed memory ${this.#accesses} times, but ${access} times or more then`);
      this.#findings.clear();
    }
    if (this.#times.length > 0) {
      this.#differ("the device asked for the time less often than it did");
      this.#times = [];
    }
  }

  #repeat(count: number, run: () => void): void {
    for (let done = 0; done < count && !this.isDone; done++) this.#event(run);
  }

  #read({ region, offset, size, value: expected }: ReadLine): void {
    const value = this.#value;
    value.fill(0);
    if (this.#served.device.vgpu.read(region, offset, size, value) < 0) throw noAccess(region, offset, size);
    const actual = size === 8 ? BigInt(value[1]!) << 32n | BigInt(value[0]!) : BigInt(value[0]!);
    if (actual === expected) return;
    const where = `${size} bytes of ${regionName(region)} at ${hex(offset)}`;
    this.#differ(`${where} were 0x${expected.toString(16)}, are 0x${actual.toString(16)}`);
  }

  #write({ region, size, count, offsetOf, lowOf, highOf }: WriteLine): void {
    let index = 0;
    this.#repeat(count, () => {
      const at = index++;
      const rc = this.#served.device.vgpu.write(region, offsetOf(at), size, lowOf(at), highOf(at));
      if (rc < 0) throw noAccess(region, offsetOf(at), size);
    });
  }

  #other(
    line: Exclude<RecordedLine, Finding | { kind: "write" | "turn" | "clock" | "bug" | "digest" }>,
  ): void {
    const served = this.#served;
    switch (line.kind) {
      case "attach":
        if (!served.attach(new SilentVmm(line.tracking))) {
          throw new ImpossibleError("a VMM is attached already");
        }
        return;
      case "detach":
        if (served.vmm === null) throw new ImpossibleError("no VMM is attached");
        return served.detach(served.vmm);
      case "map":
        return possible(() => void served.mapRam(this.#ram!.optionsOf(line.region)));
      case "unmap":
        return possible(() => served.unmapRam(line.gpa, line.size));
      case "reset":
        return served.reset();
      case "resend":
        return served.resendInterrupts();
      case "abandon":
        return served.abandon();
      case "call":
        return this.#call(line.method, line.params, line.error);
    }
  }

  #call(method: string, params: readonly unknown[], expected: string | null): void {
    let actual: string | null = null;
    try {
      this.service.repeat(method, params);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      actual = error.code;
    }
    if (actual !== expected && this.#bug === null) {
      this.#differ(`${method} was answered ${expected ?? "well"}, is ${actual ?? "well"}`);
    }
  }

  // ---- comparisons

  #compare({ parts, events }: Extract<RecordedLine, { kind: "digest" }>): void {
    this.digests++;
    if (events !== this.events) this.#differ(`there were ${events} events, are ${this.events}`);
    const actual = stateDigest(this.#served.device);
    for (const [part, digest] of Object.entries(actual)) {
      if (Object.hasOwn(parts, part) && parts[part] !== digest) this.#differ(`state differs: ${part}`);
    }
    // All parts, and no others: else something was not compared.
    const others = [...new Set(Object.keys(actual)).symmetricDifference(new Set(Object.keys(parts)))];
    if (others.length === 0) return;
    const names = others.map((part) => part.slice(0, MAX_PART)).slice(0, MAX_PARTS).join(", ");
    this.#differ(`only one of the two has these parts of the state: ${names}`);
  }

  #differ(text: string): void {
    if (this.differences.length < MAX_DIFFERENCES) this.differences.push({ line: this.#line, text });
  }
}

/** What a finding takes in memory, bytes, or somewhat more. */
function roomOf(finding: Finding): number {
  if (finding.kind !== "memory") return LINE_BYTES;
  return finding.runs.reduce((sum, [, bytes]) => sum + RUN_BYTES + bytes.length, LINE_BYTES);
}

/** A line that no device can have recorded. */
class ImpossibleError extends Error {}

function noAccess(region: number, offset: number, size: number): ImpossibleError {
  return new ImpossibleError(`${regionName(region)} has no access of ${size} bytes at ${hex(offset)}`);
}

/** Runs something that may refuse what was recorded. */
function possible(run: () => void): void {
  try {
    run();
  } catch (cause) {
    throw new ImpossibleError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}
