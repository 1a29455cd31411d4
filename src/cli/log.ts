/**
 * The log of a device process: lines on standard error, as text or JSON, limited in rate.
 *
 * @module
 */

import type { Log, LogLevel } from "../server/rpc_session.ts";
import { UsageError } from "./usage.ts";

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];
/** Lines a second; what is more is only counted. A peer can provoke lines, but not fill a disk. */
const MAX_LINES_PER_SECOND = 50;

/** How to log. */
export interface LogOptions {
  /** One JSON object a line, or text. */
  readonly format: "text" | "json";
  /** The least level that is written. */
  readonly level: LogLevel;
}

/**
 * Reads `--log`.
 *
 * @param text For example `format=json,level=debug`; empty for the defaults.
 * @throws {UsageError} Saying what is wrong.
 */
export function parseLogOptions(text: string): LogOptions {
  let format: LogOptions["format"] = "text";
  let level: LogLevel = "info";
  for (const part of text.split(",").filter((each) => each !== "")) {
    const [key, value = ""] = part.split("=");
    if (key === "format" && (value === "text" || value === "json")) format = value;
    else if (key === "level" && LEVELS.includes(value as LogLevel)) level = value as LogLevel;
    else {throw new UsageError(
        `--log takes format=text|json and level=${LEVELS.join("|")}: got ${JSON.stringify(part)}`,
      );}
  }
  return { format, level };
}

/**
 * Makes a log.
 *
 * @param options How to log.
 * @param write Takes one line without its end.
 * @param now The time, milliseconds.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { makeLog } from "./log.ts";
 *
 * const lines: string[] = [];
 * const log = makeLog({ format: "text", level: "info" }, (line) => lines.push(line), () => 0);
 * log("debug", "not written");
 * log("warn", "stream refused", { session: 3, why: "too\ndeep" });
 * assertEquals(lines, ['1970-01-01T00:00:00.000Z warn stream refused session=3 why="too\\ndeep"']);
 * ```
 */
export function makeLog(
  options: LogOptions,
  write: (line: string) => void,
  now: () => number = Date.now,
): Log {
  const least = LEVELS.indexOf(options.level);
  let second = -1;
  let lines = 0;
  let dropped = 0;
  return (level, message, fields = {}) => {
    if (LEVELS.indexOf(level) < least) return;
    const time = now();
    if (Math.floor(time / 1000) !== second) {
      second = Math.floor(time / 1000);
      lines = 0;
      if (dropped > 0) write(format(options, time, "warn", "log lines dropped", { lines: dropped }));
      dropped = 0;
    }
    if (++lines > MAX_LINES_PER_SECOND) dropped++;
    else write(format(options, time, level, message, fields));
  };
}

function format(
  options: LogOptions,
  time: number,
  level: LogLevel,
  message: string,
  fields: Readonly<Record<string, string | number | boolean>>,
): string {
  const stamp = new Date(time).toISOString();
  if (options.format === "json") return JSON.stringify({ time: stamp, level, message, ...fields });
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
  return `${stamp} ${level} ${message}${pairs.join("")}`;
}
