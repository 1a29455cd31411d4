import { RpcError } from "../../protocol/errors.ts";
import { REPLY_LIMITS } from "../../protocol/limits.ts";
import { Writer } from "../../protocol/writer.ts";

/**
 * What a MessagePack-RPC peer for which there is no room is told before its connection is closed.
 *
 * @param connections How many connections there are.
 * @returns The whole message.
 */
export function refusal(connections: number): Uint8Array<ArrayBuffer> {
  const writer = new Writer(REPLY_LIMITS);
  writer.error(null, new RpcError("EBUSY", `There are ${connections} connections already`));
  return writer.written;
}
