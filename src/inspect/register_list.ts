/**
 * The table of registers for people: as rows of text, as Markdown, and with the values of now. Registers that are the
 * same at each engine are told by their distance from the engine's *base*, B.
 *
 * @module
 */

import type { Access, RegisterRow, RegisterTable } from "../vgpu/register_table.ts";
import { hex } from "./target.ts";

/** An engine whose registers are at the same distance from its base as those of the others. */
export interface EngineBase {
  /** Its name. */
  readonly name: string;
  /** Offset of its registers in region 0, bytes. */
  readonly base: number;
}

/** A row of the table as text. */
export interface RegisterText {
  /** The register's name. */
  readonly name: string;
  /** Where it is: offsets, runs of offsets, `B+` for one at each engine. */
  readonly at: string;
  /** What a guest's write does. */
  readonly access: Access;
  /** Its value after reset. */
  readonly reset: string;
  /** Bits that a write can change; empty where all or none can, as the access says. */
  readonly writable: string;
  /** Which commands of an engine may store to it. */
  readonly commands: "all" | "privileged" | "none";
  /** What a reader should know. */
  readonly note: string;
}

/** A register now: its offset, its value, and the name of its engine, if it is one's. */
export type RegisterValue = [offset: number, value: number, engine?: string];

/** A row of the table with the values of now. */
export interface RegisterState extends RegisterText {
  /** Its registers. */
  readonly values: readonly RegisterValue[];
}

/** Bytes of registers that belong to an engine. */
const ENGINE_BYTES = 0x800;
const ALL = 0xffffffff;
/** Offsets that make a run. */
const MIN_RUN = 3;

/**
 * The rows of a table as text.
 *
 * @param table The table.
 * @param engines The engines that have registers in it.
 * @returns A row for each row of the table, in its order.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { RegisterTable } from "../../mod.ts";
 * import { registerTexts } from "./register_list.ts";
 *
 * const engines = [{ name: "rcs0", base: 0x2000 }, { name: "bcs0", base: 0x22000 }];
 * const table = new RegisterTable([
 *   { name: "TAIL", offsets: [0x2030, 0x22030], access: "rw", note: "" },
 *   { name: "IMR", offsets: [0x44304, 0x44314, 0x44324, 0xc4004], access: "rw", reset: 0xffffffff, note: "" },
 * ]);
 * assertEquals(registerTexts(table, engines).map(({ at, reset }) => [at, reset]), [
 *   ["B+0x30", "0x0"],
 *   ["0x44304–0x44324 by 0x10, 0xc4004", "0xffffffff"],
 * ]);
 * ```
 */
export function registerTexts(table: RegisterTable, engines: readonly EngineBase[]): RegisterText[] {
  return table.rows.map((row) => ({
    name: row.name,
    at: placesText(row.offsets, engines),
    access: row.access,
    reset: hex(row.reset),
    writable: writableText(row),
    commands: commandsText(row),
    note: row.note,
  }));
}

/**
 * The rows of a table with the values of now.
 *
 * @param table The table.
 * @param engines The engines that have registers in it.
 * @param load Reads a register by its offset.
 * @returns A row for each row of the table, in its order.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { RegisterTable } from "../../mod.ts";
 * import { registerStates } from "./register_list.ts";
 *
 * const table = new RegisterTable([{ name: "TAIL", offsets: [0x2030, 0x22030], access: "rw", note: "" }]);
 * const [tail] = registerStates(table, [{ name: "rcs0", base: 0x2000 }], (offset) => offset / 0x10);
 * assertEquals(tail?.values, [[0x2030, 0x203, "rcs0"], [0x22030, 0x2203]]);
 * ```
 */
export function registerStates(
  table: RegisterTable,
  engines: readonly EngineBase[],
  load: (offset: number) => number,
): RegisterState[] {
  const texts = registerTexts(table, engines);
  return table.rows.map(({ offsets }, index) => ({
    ...texts[index]!,
    values: offsets.map((offset) => {
      const engine = engines.find(({ base }) => isOfEngine(offset, base));
      return engine === undefined ? [offset, load(offset)] : [offset, load(offset), engine.name];
    }),
  }));
}

/**
 * A table as a table in Markdown.
 *
 * @param table The table.
 * @param engines The engines that have registers in it.
 * @returns Lines, each with its end.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { RegisterTable } from "../../mod.ts";
 * import { registersMarkdown } from "./register_list.ts";
 *
 * const table = new RegisterTable([{ name: "GDRST", offsets: [0x941c], access: "trigger", block: "b", note: "resets" }]);
 * assertEquals(registersMarkdown(table, []).split("\n")[2], "| GDRST | 0x941c | `trigger` | 0x0 | | none | resets |");
 * ```
 */
export function registersMarkdown(table: RegisterTable, engines: readonly EngineBase[]): string {
  const rows = registerTexts(table, engines).map(({ name, at, access, reset, writable, commands, note }) => {
    const bits = writable === "" ? "" : ` ${writable}`;
    return `| ${name} | ${at} | \`${access}\` | ${reset} |${bits} | ${commands} | ${note} |\n`;
  });
  const heads =
    "| register | offset | access | reset | writable | commands | what |\n|---|---|---|---|---|---|---|\n";
  return heads + rows.join("");
}

/** Offsets as text, those of engines as distances from B. */
function placesText(offsets: readonly number[], engines: readonly EngineBase[]): string {
  const distances = engines.map(({ base }) =>
    runsText(offsets.filter((offset) => isOfEngine(offset, base)).map((offset) => offset - base), "B+")
  );
  const [first = ""] = distances;
  if (first !== "" && distances.every((text) => text === first)) return first;
  return runsText(offsets, "");
}

/** Offsets as text: those that follow one another at equal distances as runs. */
function runsText(offsets: readonly number[], prefix: string): string {
  const texts: string[] = [];
  const text = (index: number) => `${prefix}${hex(offsets[index]!)}`;
  for (let from = 0; from < offsets.length;) {
    const step = offsets[from + 1]! - offsets[from]!;
    let to = from;
    while (step > 0 && offsets[to + 1]! - offsets[to]! === step) to++;
    if (to - from + 1 < MIN_RUN) {
      texts.push(text(from++));
      continue;
    }
    texts.push(`${text(from)}–${text(to)}${step === 4 ? "" : ` by ${hex(step)}`}`);
    from = to + 1;
  }
  return texts.join(", ");
}

function writableText({ access, writable }: RegisterRow): string {
  const keepsNothing = access === "ro" || access === "live" || access === "trigger";
  if (keepsNothing || writable === ALL) return "";
  return hex(writable >>> 0);
}

/** As `RegisterFile.storeQuietly` decides. */
function commandsText({ access, block, privileged }: RegisterRow): RegisterText["commands"] {
  if (block !== undefined || access === "ro") return "none";
  return privileged === true ? "privileged" : "all";
}

function isOfEngine(offset: number, base: number): boolean {
  return offset >= base && offset < base + ENGINE_BYTES;
}
