/**
 * Shapes of wire values: what the method table (`methods.ts`) is written in. A shape knows its notation for the
 * documentation, its TypeScript type, and how to say what is wrong with a value.
 *
 * A shape checks, it never converts: what passed the check is what the method receives.
 *
 * @module
 */

import { MAX_ADDRESS, MAX_FRAME, MAX_PATH_BYTES } from "./limits.ts";

/** A shape whose values have the TypeScript type `T`. */
export interface Schema<T> {
  /** How the documentation writes it, e.g. `"uint 0..8"`. */
  readonly type: string;
  /** Never set: it carries `T` for the types. */
  readonly of?: T;
  /** For a shape that takes unsigned integers, and of other values bigints at most: which. */
  readonly range?: IntegerRange;
  /**
   * What is wrong with a decoded value.
   *
   * @param value Anything a message can carry; `undefined` for a missing element or field.
   * @returns `null` if it fits, else the rest of a sentence, beginning with a path or a space.
   */
  problem(value: unknown): string | null;
}

/** Some of the integers from 0 to 2^53-1. */
export interface IntegerRange {
  /** The smallest. */
  readonly min: number;
  /** The largest. */
  readonly max: number;
  /** The only ones; `null`: all of them. */
  readonly among: readonly number[] | null;
}

/** The TypeScript type of a shape. */
export type TypeOf<S> = S extends Schema<infer T> ? T : never;

/** A field that may be absent. */
export interface OptionalField<T> {
  /** The shape of the value when there is one. */
  readonly optional: Schema<T>;
}

/** The fields of a record: shapes, or {@linkcode optional} shapes. */
export type Fields = Readonly<Record<string, Schema<unknown> | OptionalField<unknown>>>;

/** The TypeScript type of a record with these fields. */
export type RecordOf<F extends Fields> =
  & { readonly [K in keyof F as F[K] extends OptionalField<unknown> ? never : K]: TypeOf<F[K]> }
  & { readonly [K in keyof F as F[K] extends OptionalField<unknown> ? K : never]?: OptionalTypeOf<F[K]> };

/** The TypeScript type of an {@linkcode optional} field's value. */
export type OptionalTypeOf<O> = O extends OptionalField<infer T> ? T : never;

const encoder = new TextEncoder();

/** Peer-supplied text in a message is cut to this many characters: enough to recognise a typing mistake. */
const QUOTED_CHARACTERS = 40;

/**
 * Names a value in an error message, briefly whatever its size.
 *
 * @param value Any decoded value; `undefined` means there is none.
 * @returns A few words.
 */
export function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "nil";
  if (typeof value === "string") return JSON.stringify(value.slice(0, QUOTED_CHARACTERS));
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "object") return "a map";
  return String(value);
}

/** Bytes of a text in UTF-8. */
function utf8Length(text: string): number {
  return encoder.encode(text).length;
}

function leaf<T>(type: string, fits: (value: unknown) => boolean, rule = type): Schema<T> {
  return { type, problem: (value) => fits(value) ? null : ` must be ${rule}: got ${describe(value)}` };
}

/**
 * An unsigned integer in a range within 0 … 2^53−1.
 *
 * @param min Smallest value.
 * @param max Largest value.
 * @param type Another notation than `uint min..max`.
 * @returns The shape.
 */
export function uint(min: number, max: number, type = `uint ${min}..${max}`): Schema<number> {
  const rule = type.startsWith("uint") ? type : `${type} (uint ${min}..${max})`;
  const shape = leaf<number>(
    type,
    (v) => typeof v === "number" && v >= min && v <= max && Number.isInteger(v),
    rule,
  );
  return { ...shape, range: { min, max, among: null } };
}

/**
 * One of a few values, all numbers or all strings.
 *
 * @param values The values, in the order the documentation gives them.
 * @returns The shape.
 */
export function oneOf<const V extends number | string>(...values: readonly V[]): Schema<V> {
  const names = values.map((value) => JSON.stringify(value));
  const rule = `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
  const shape = leaf<V>(names.join(" or "), (v) => (values as readonly unknown[]).includes(v), rule);
  const numbers = values.filter((value): value is V & number => typeof value === "number");
  if (numbers.length < values.length) return shape;
  return { ...shape, range: { min: Math.min(...numbers), max: Math.max(...numbers), among: numbers } };
}

/**
 * Bytes.
 *
 * @param max Most bytes.
 * @returns The shape.
 */
export function bytes(max: number): Schema<Uint8Array> {
  return leaf(`bytes ≤ ${max}`, (v) => v instanceof Uint8Array && v.length <= max);
}

/**
 * An array of one kind of element.
 *
 * @param element The element's shape.
 * @param max Most elements.
 * @param min Fewest elements.
 * @returns The shape.
 */
export function array<T>(element: Schema<T>, max: number, min = 0): Schema<readonly T[]> {
  const count = min === max ? `${max} ×` : `≤ ${max} ×`;
  const type = `[${count} ${element.type}]`;
  const rule = `an array of ${min === max ? max : `at most ${max}`}`;
  return {
    type,
    problem(value) {
      if (!Array.isArray(value) || value.length > max || value.length < min) {
        return ` must be ${rule}: got ${describe(value)}`;
      }
      for (let i = 0; i < value.length; i++) {
        const wrong = element.problem(value[i]);
        if (wrong !== null) return `[${i}]${wrong}`;
      }
      return null;
    },
  };
}

/**
 * An array of a fixed number of differing elements.
 *
 * @param elements Name and shape of each element.
 * @returns The shape.
 */
export function tuple<const E extends readonly Param<unknown>[]>(...elements: E): Schema<TupleOf<E>> {
  return {
    type: `[${elements.map(({ name }) => name).join(", ")}]`,
    problem(value) {
      if (!Array.isArray(value) || value.length !== elements.length) {
        return ` must be an array of ${elements.length}: got ${describe(value)}`;
      }
      return elementsProblem(elements, value);
    },
  };
}

/** A named element of a {@linkcode tuple} or parameter list. */
export interface Param<T> {
  /** The name in documentation and error messages. */
  readonly name: string;
  /** What it may be. */
  readonly schema: Schema<T>;
}

/** The TypeScript types of a parameter list, as a tuple. */
export type TupleOf<E extends readonly Param<unknown>[]> = {
  readonly [I in keyof E]: E[I] extends Param<infer T> ? T : never;
};

/**
 * A named element.
 *
 * @param name The name in documentation and error messages.
 * @param schema What it may be.
 * @returns Both.
 */
export function param<T>(name: string, schema: Schema<T>): Param<T> {
  return { name, schema };
}

/**
 * What is wrong with the elements of an array that has the right length.
 *
 * @param elements Name and shape of each element.
 * @param values As many values.
 * @returns `null`, or the rest of a sentence beginning with the element's index.
 */
export function elementsProblem(
  elements: readonly Param<unknown>[],
  values: readonly unknown[],
): string | null {
  for (let i = 0; i < elements.length; i++) {
    const { name, schema } = elements[i]!;
    const wrong = schema.problem(values[i]);
    if (wrong !== null) return `[${i}] (${name})${wrong}`;
  }
  return null;
}

/** Whether a decoded value is a map. */
function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
    !(value instanceof Uint8Array);
}

/**
 * A map with known fields; any other field is refused.
 *
 * @param fields The fields by name.
 * @returns The shape.
 */
export function record<const F extends Fields>(fields: F): Schema<RecordOf<F>> {
  const known = openRecord(fields);
  return {
    type: known.type,
    problem(value) {
      const wrong = known.problem(value);
      if (wrong !== null) return wrong;
      const unknown = Object.keys(value as object).find((name) => !Object.hasOwn(fields, name));
      return unknown === undefined ? null : ` must not have a field ${describe(unknown)}`;
    },
  };
}

/**
 * A map with known fields and perhaps others, which later versions may have added: what a client receives.
 *
 * @param fields The known fields by name.
 * @returns The shape.
 */
export function openRecord<const F extends Fields>(fields: F): Schema<RecordOf<F>> {
  const schemas = Object.entries(fields).map(([name, field]) =>
    "optional" in field
      ? { name, schema: field.optional, isRequired: false }
      : { name, schema: field, isRequired: true }
  );
  const type = schemas.map((f) => `${f.name}${f.isRequired ? "" : "?"}: ${f.schema.type}`).join(", ");
  return {
    type: `{${type}}`,
    problem(value) {
      if (!isMap(value)) return ` must be a map: got ${describe(value)}`;
      for (const { name, schema, isRequired } of schemas) {
        if (!Object.hasOwn(value, name)) {
          if (isRequired) return `.${name} must be given: ${schema.type}`;
          continue;
        }
        const wrong = schema.problem(value[name]);
        if (wrong !== null) return `.${name}${wrong}`;
      }
      return null;
    },
  };
}

/**
 * A field of a {@linkcode record} that may be absent. Nil is not the same as absent and is refused.
 *
 * @param schema The shape of the value when there is one.
 * @returns The field.
 */
export function optional<T>(schema: Schema<T>): OptionalField<T> {
  return { optional: schema };
}

/**
 * A map from any names to one kind of value.
 *
 * @param schema The shape of the values.
 * @returns The shape.
 */
export function mapOf<T>(schema: Schema<T>): Schema<Readonly<Record<string, T>>> {
  return {
    type: `{name: ${schema.type}}`,
    problem(value) {
      if (!isMap(value)) return ` must be a map: got ${describe(value)}`;
      for (const name of Object.keys(value)) {
        const wrong = schema.problem(value[name]);
        if (wrong !== null) return `[${describe(name)}]${wrong}`;
      }
      return null;
    },
  };
}

/**
 * A value or nil.
 *
 * @param schema The shape of the value.
 * @returns The shape.
 */
export function nullable<T>(schema: Schema<T>): Schema<T | null> {
  return { type: `${schema.type} or nil`, problem: (value) => value === null ? null : schema.problem(value) };
}

/** Nil. */
export const nil: Schema<null> = leaf("nil", (v) => v === null);
/** A truth value. */
export const bool: Schema<boolean> = leaf("bool", (v) => typeof v === "boolean");
/** Text; its length in bytes is bounded by the scan (`limits.ts`). */
export const string: Schema<string> = leaf("string", (v) => typeof v === "string");
/** A path that a system call can take and that means the same in every process: absolute. */
export const path: Schema<string> = leaf(
  "path",
  (v) => typeof v === "string" && v.startsWith("/") && utf8Length(v) <= MAX_PATH_BYTES && !v.includes("\0"),
  `an absolute path of at most ${MAX_PATH_BYTES} bytes without NUL`,
);
/** Anything a message can carry. */
export const value: Schema<unknown> = leaf("value", (v) => v !== undefined);
/** A signed 32-bit integer: a return code. */
export const int: Schema<number> = leaf("int", (v) => typeof v === "number" && (v | 0) === v);
/** An unsigned 8-bit integer. */
export const u8: Schema<number> = uint(0, 0xff, "u8");
/** An unsigned 32-bit integer. */
export const u32: Schema<number> = uint(0, 0xffff_ffff, "u32");
/** A counter, exact as a `number`. */
export const count: Schema<number> = uint(0, Number.MAX_SAFE_INTEGER, "uint");
/** An address, offset or size in bytes, below 2^52. */
export const address: Schema<number> = uint(0, MAX_ADDRESS, "address");
/** A frame number or an index of a page-sized thing, below 2^40. */
export const frame: Schema<number> = uint(0, MAX_FRAME, "frame");
/** An unsigned 64-bit integer: a `number` up to 2^53, a `bigint` above. */
export const u64: Schema<number | bigint> = {
  ...leaf<number | bigint>(
    "u64",
    (v) =>
      typeof v === "number"
        ? v >= 0 && Number.isInteger(v)
        : typeof v === "bigint" && v >= 0n && v <= 0xffff_ffff_ffff_ffffn,
  ),
  // Values from 2^53 on fit as well: no number has them.
  range: { min: 0, max: Number.MAX_SAFE_INTEGER, among: null },
};
/** The four root pointers of a PPGTT; with level 4 only the first counts (`engine.md` §15, 7). */
export const roots: Schema<readonly (number | bigint)[]> = array(u64, 4, 4);
/** The handle of an address space: a PPGTT's number, or the GGTT. */
export const space: Schema<number | "ggtt"> = leaf(
  'mm or "ggtt"',
  (v) => v === "ggtt" || u32.problem(v) === null,
  'u32 or "ggtt"',
);
