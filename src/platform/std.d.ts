// Types of the @std modules in use. They reach us through an npm package that ships the code without its
// declarations (README, "Packages"); with the jsr: specifiers this file is not needed.

declare module "@std/assert" {
  /** Fails unless `expr` is truthy. */
  export function assert(expr: unknown, msg?: string): asserts expr;
  /** Fails unless the two values are deeply equal. */
  export function assertEquals<T>(actual: T, expected: T, msg?: string): void;
  /** Fails if the two values are deeply equal. */
  export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void;
  /** Fails unless `actual` contains `expected`. */
  export function assertStringIncludes(actual: string, expected: string, msg?: string): void;
  /** Fails unless `actual` matches `expected`. */
  export function assertMatch(actual: string, expected: RegExp, msg?: string): void;
  /** Fails unless `actual` contains everything in `expected`. */
  export function assertObjectMatch(
    actual: Record<PropertyKey, unknown>,
    expected: Record<PropertyKey, unknown>,
    msg?: string,
  ): void;
  /** Fails unless `fn` throws an error of this class whose message contains `msgIncludes`. */
  export function assertThrows<E extends Error = Error>(
    fn: () => unknown,
    // deno-lint-ignore no-explicit-any -- the constructor's own parameters do not matter here
    ErrorClass: abstract new (...args: any[]) => E,
    msgIncludes?: string,
    msg?: string,
  ): E;
  /** Fails unless `fn` rejects with an error of this class whose message contains `msgIncludes`. */
  export function assertRejects<E extends Error = Error>(
    fn: () => PromiseLike<unknown>,
    // deno-lint-ignore no-explicit-any -- the constructor's own parameters do not matter here
    ErrorClass: abstract new (...args: any[]) => E,
    msgIncludes?: string,
    msg?: string,
  ): Promise<E>;
}

declare module "@std/cli/parse-args" {
  /** What `parseArgs` should recognise. */
  export interface ParseOptions {
    boolean?: readonly string[];
    string?: readonly string[];
    collect?: readonly string[];
    default?: Readonly<Record<string, unknown>>;
    alias?: Readonly<Record<string, string | readonly string[]>>;
    stopEarly?: boolean;
    unknown?: (arg: string, key?: string, value?: unknown) => unknown;
  }
  /** Parses command-line arguments. */
  export function parseArgs(
    args: readonly string[],
    options?: ParseOptions,
  ): { _: (string | number)[] } & Record<string, unknown>;
}

declare module "@std/streams" {
  /** Splits a stream of text into lines. */
  export class TextLineStream extends TransformStream<string, string> {
    constructor(options?: { allowCR?: boolean });
  }
  /** The whole stream as one array of bytes. */
  export function toBytes(stream: ReadableStream<Uint8Array>): Promise<Uint8Array<ArrayBuffer>>;
  /** The whole stream as text. */
  export function toText(stream: ReadableStream): Promise<string>;
}
