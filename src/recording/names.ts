/**
 * How numbers, bytes and regions are written in a recording (`protocol/recording.md` §1).
 *
 * @module
 */

import { REGION_APERTURE, REGION_BAR0, REGION_CONFIG } from "../vgpu/vgpu.ts";

/** The names of regions. */
export const REGIONS: Readonly<Record<string, number>> = {
  bar0: REGION_BAR0,
  aperture: REGION_APERTURE,
  config: REGION_CONFIG,
};

const NAMES = new Map(Object.entries(REGIONS).map(([name, region]) => [region, name]));

/** The name of a region that exists. */
export function regionName(region: number): string {
  return NAMES.get(region)!;
}

/** A number as hexadecimal text. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** A value of two lanes as hexadecimal text. */
export function hexLanes(lo: number, hi: number): string {
  return hi === 0 ? `0x${lo.toString(16)}` : `0x${hi.toString(16)}${lo.toString(16).padStart(8, "0")}`;
}

/** A time, and how it is written. */
export interface ExactTime {
  /** Milliseconds. */
  value: number;
  /** The same. */
  text: string;
}

const NANOSECONDS = 1_000_000;
/** Three decimal digits each: putting them together takes a third of what it takes to find a number's shortest text. */
const THREE_DIGITS = Array.from({ length: 1000 }, (_, index) => String(index).padStart(3, "0"));

/**
 * A time in whole nanoseconds, with a text that is read as this very number.
 *
 * @param now Milliseconds, 0 or more.
 * @param into Where it is put.
 * @returns The same object.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { exactTime } from "./names.ts";
 *
 * const { value, text } = exactTime(205.5212811, { value: 0, text: "" });
 * assertEquals([value, text, Number(text)], [205.521281, "205.521281", value]);
 * ```
 */
export function exactTime(now: number, into: ExactTime): ExactTime {
  const whole = Math.floor(now * NANOSECONDS);
  const milliseconds = Math.floor(whole / NANOSECONDS);
  const rest = whole - milliseconds * NANOSECONDS;
  // Both are integers: the quotient is the number nearest to the text, as the text's reader finds it.
  into.value = whole / NANOSECONDS;
  into.text = `${milliseconds}.${THREE_DIGITS[rest / 1000 | 0]}${THREE_DIGITS[rest % 1000]}`;
  return into;
}

/** A value as `JSON.stringify` may write it: bytes and integers beyond 2^53 have a form of their own. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return { $int: value.toString() };
  return value instanceof Uint8Array ? { $bytes: value.toHex() } : value;
}

/** The parameters of a call as JSON. */
export function paramsText(params: readonly unknown[]): string {
  return JSON.stringify(params, plain);
}

/**
 * The parameters of a call from JSON.
 *
 * @param value What `JSON.parse` made of it.
 * @throws {Error} When bytes or an integer are written wrongly.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { paramsText, paramValue } from "./names.ts";
 *
 * const params = [4096, Uint8Array.of(1, 0xab), 2n ** 63n, { gpa: null }];
 * assertEquals(paramsText(params), '[4096,{"$bytes":"01ab"},{"$int":"9223372036854775808"},{"gpa":null}]');
 * assertEquals(paramValue(JSON.parse(paramsText(params))), params);
 * ```
 */
export function paramValue(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(paramValue);
  const { $bytes, $int } = value as { $bytes?: unknown; $int?: unknown };
  if (typeof $bytes === "string") return Uint8Array.fromHex($bytes);
  if (typeof $int === "string") return BigInt($int);
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, paramValue(each)]));
}
