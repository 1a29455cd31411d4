/**
 * `inspect regs`: registers by name, with the values that the guest would read now.
 *
 * @module
 */

import type { RegisterState } from "../../inspect/register_list.ts";
import { hex } from "../../inspect/target.ts";
import { EXIT_OK } from "../usage.ts";
import { columns } from "./columns.ts";
import type { InspectCommand, Request } from "./command.ts";
import { InspectError } from "./inspect_error.ts";
import { type Output, visible } from "./output.ts";
import { clientOf, openSource } from "./source.ts";

/** One register. */
interface Register {
  /** Its name in the hardware's documentation. */
  readonly name: string;
  /** Its engine's name; `null` if it is none's. */
  readonly engine: string | null;
  /** Offset in region 0, bytes. */
  readonly offset: number;
  /** Its value now. */
  readonly value: number;
  /** Its value after reset. */
  readonly reset: number;
  /** What a guest's write does. */
  readonly access: string;
  /** What a reader should know. */
  readonly note: string;
}

/** See {@linkcode InspectCommand}. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect regs [NAME] [--changed]

Registers by name, with the values that the guest would read now. NAME is an engine (rcs0, bcs0,
vcs0, vecs0), part of a register's name, or a register's offset; of less than ten registers the notes
are told, too.

  --changed            those only that are not as after reset
`,
  example: `deno task inspect regs rcs0 --changed`,
  json:
    `{"registers": [{"name", "engine" (or null), "offset", "value", "reset", "access", "note"}…]}: offsets and values are numbers.`,
  sources: ["socket", "recording"],
  booleans: ["changed"],
  operands: [0, 1],
  async run({ source, operands: [name], has, json, output }: Request): Promise<number> {
    await using looked = await openSource(source);
    const { rows } = await clientOf(looked).call("registers") as unknown as { rows: RegisterState[] };
    const found = chosen(rows.flatMap(registersOf), name);
    const shown = has("changed") ? found.filter(({ value, reset }) => value !== reset) : found;
    if (json) output.json({ registers: shown });
    else output.lines(lines(shown, output));
    return EXIT_OK;
  },
};

function registersOf({ name, access, reset, note, values }: RegisterState): Register[] {
  return values.map(([offset, value, engine]) => ({
    name: visible(name),
    engine: engine ?? null,
    offset,
    value,
    reset: Number(reset),
    access,
    note,
  }));
}

/** The registers that a name is about. @throws {InspectError} When there is none. */
function chosen(all: readonly Register[], name: string | undefined): Register[] {
  const found = all.filter((register) => name === undefined || isAbout(register, name));
  if (found.length > 0) return found;
  const engines = [...new Set(all.flatMap(({ engine }) => engine ?? []))].join(", ");
  throw new InspectError(
    `no register ${
      JSON.stringify(name)
    }: it is an engine (${engines}), part of a register's name or an offset`,
  );
}

function isAbout({ name, engine, offset }: Register, wanted: string): boolean {
  if (/^0x[0-9a-f]+$/i.test(wanted)) return offset === Number(wanted);
  const text = wanted.toLowerCase();
  return engine === text || name.toLowerCase().includes(text);
}

/** Registers of which the notes are told. */
const MAX_NOTED = 9;

function lines(registers: readonly Register[], output: Output): string[] {
  const rows = registers.map(({ name, engine, offset, value, reset, access }) => [
    value === reset ? " " : "*",
    name,
    engine ?? "",
    hex(offset),
    dword(value),
    value === reset ? "" : `reset ${hex(reset)}`,
    access === "rw" ? "" : access,
  ]);
  const table = columns(
    [["", "NAME", "ENGINE", "OFFSET", "VALUE", "", ""], ...rows],
    ["<", "<", "<", ">", ">", "<", "<"],
    (text, row, column) => {
      if (row === 0) return output.paint("dim", text);
      if (column === 1) return output.paint("name", text);
      return rows[row - 1]![0] === "*" && column === 4 ? output.paint("strong", text) : text;
    },
  );
  if (registers.length > MAX_NOTED) return table;
  const notes = new Map(registers.map(({ name, note }) => [name, note]));
  return [
    ...table,
    ...[...notes].flatMap(([name, note]) => note === "" ? [] : ["", `${name}: ${visible(note)}`]),
  ];
}

/** A register's value, always as wide. */
function dword(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}
