// A peer for session tests: reads what a session or a socket says.

import { assert } from "@std/assert";
import { decode } from "../../protocol/codec.ts";
import { REPLY_LIMITS } from "../../protocol/limits.ts";
import { NEED_MORE, REFUSED, Scanner } from "../../protocol/scan.ts";
import type { RpcSession } from "../../src/server/rpc_session.ts";
import { concat } from "./protocol_wire.ts";

/** Every message in some bytes, which must be whole and without fault. */
export function messagesIn(bytes: Uint8Array): unknown[] {
  const scanner = new Scanner(REPLY_LIMITS);
  const messages: unknown[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = scanner.scan(bytes, at, bytes.length);
    assert(length !== NEED_MORE && length !== REFUSED && scanner.fault === null, String(scanner.fault));
    messages.push(decode(bytes, at, at + length));
    at += length;
  }
  return messages;
}

/** Everything a session has to say now. */
export function takeAll(session: RpcSession): Uint8Array<ArrayBuffer> {
  const pieces: Uint8Array[] = [];
  for (let out = session.takeOutput(); out !== null; out = session.takeOutput()) pieces.push(out.slice());
  return concat(...pieces);
}

/** Everything a session has to say now, as messages. */
export function decodeAll(session: RpcSession): unknown[] {
  return messagesIn(takeAll(session));
}
