/**
 * The envelope: MessagePack-RPC's three kinds of message, nothing added.
 *
 * @module
 */

/** A call that is answered. Method and parameters are not checked yet. */
export type Request = readonly [type: 0, id: number, method: unknown, params: unknown];
/** The answer to a call: one of error and result is nil. */
export type Response = readonly [type: 1, id: number | null, error: unknown, result: unknown];
/** A call that is not answered. Method and parameters are not checked yet. */
export type Notification = readonly [type: 2, method: unknown, params: unknown];
/** Any of the three. */
export type Envelope = Request | Response | Notification;

/**
 * Reads the envelope of a decoded message.
 *
 * @param message A decoded message.
 * @returns The same array, typed; `null` if it is none of the three: no array, another length, another type, or an
 * id that is no u32. Only a response may have nil for its id: the last error of a stream.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseEnvelope } from "./messages.ts";
 *
 * assertEquals(parseEnvelope([0, 1, "stats", []])?.[0], 0);
 * assertEquals(parseEnvelope([0, -1, "stats", []]), null);
 * ```
 */
export function parseEnvelope(message: unknown): Envelope | null {
  if (!Array.isArray(message)) return null;
  switch (message[0]) {
    case 0:
      return message.length === 4 && isId(message[1]) ? message as unknown as Request : null;
    case 1:
      return message.length === 4 && (message[1] === null || isId(message[1]))
        ? message as unknown as Response
        : null;
    case 2:
      return message.length === 3 ? message as unknown as Notification : null;
    default:
      return null;
  }
}

function isId(id: unknown): boolean {
  return typeof id === "number" && id >>> 0 === id;
}
