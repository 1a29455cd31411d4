/**
 * What a VMM says to the device in a measurement, and what it must be answered: bytes, for programs in C that know
 * neither protocol. The answers are those of a session of this process, which is the same code as the device's.
 *
 * @module
 */

import { encode } from "../../protocol/codec.ts";
import { Command, HeaderFlag } from "../../protocol/vfio_user.ts";
import type { ByteSession } from "../../src/server/byte_session.ts";
import { DeviceService } from "../../src/server/device_service.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { ServedDevice } from "../../src/server/served_device.ts";
import { VfioUserSession } from "../../src/server/vfio_user_session.ts";
import { GTT_START_OFFSET } from "../../src/gtt/ggtt.ts";
import { PVINFO_OFFSET } from "../../src/vgpu/pvinfo.ts";
import { DEFAULT_VGPU } from "../../src/vgpu/vgpu_options.ts";
import { access, concat, dmaMap, message, storeMany, version } from "../vfio_user/wire.ts";

/** What is spoken. */
export type Protocol = "rpc" | "vfio-user";

/** What a client sends and what it must get for it. */
export interface Conversation {
  /** Attaches and maps guest RAM. */
  readonly hello: Uint8Array;
  /** The answer to that. */
  readonly helloAnswer: Uint8Array;
  /** A load of four bytes of PVINFO. */
  readonly ask: Uint8Array;
  /** The answer to that. */
  readonly askAnswer: Uint8Array;
  /** Stores to the GGTT that nobody is told the end of. */
  readonly posted: Uint8Array;
  /** Stores in it. */
  readonly stores: number;
  /** Bytes of it that hold {@linkcode BATCH} stores. */
  readonly batchBytes: number;
  /** Bytes of it that hold one store; `null` if stores are not sent one by one. */
  readonly storeBytes: number | null;
  /** The session of this process, attached: what it takes is what the device takes without a socket. */
  readonly session: ByteSession;
}

/** Stores that are sent together: as many as QEMU puts into one message at most (`VFIO_USER_MULTI_MAX`). */
export const BATCH = 200;

const RAM_BYTES = 64 << 20;
const PAGE = 4096;
const REGION = 0;
/** The first GTT entry of the vGPU's aperture, and how many there are. */
const FIRST_ENTRY = DEFAULT_VGPU.apertureBase / PAGE;
const ENTRIES = DEFAULT_VGPU.apertureSize / PAGE;
const BATCHES = Math.floor(ENTRIES / BATCH);
/** Times that every entry is stored, so that each store changes one. */
const VALUES = 2;

/** Every entry of the aperture, with one value and then another, in batches. */
function stores(): (readonly [offset: number, value: number])[][] {
  return Array.from({ length: VALUES * BATCHES }, (_, batch) =>
    Array.from({ length: BATCH }, (_, at) => {
      const index = batch % BATCHES * BATCH + at;
      const frame = 0x1000 + (batch < BATCHES ? 0 : 0x1000) + index % 0x1000;
      return [GTT_START_OFFSET + 8 * (FIRST_ENTRY + index), frame * PAGE + 1] as const;
    }));
}

/**
 * What a VMM says.
 *
 * @param protocol What it speaks.
 * @returns The bytes.
 */
export function conversation(protocol: Protocol): Conversation {
  return protocol === "rpc" ? rpcConversation() : vfioUserConversation();
}

function rpcConversation(): Conversation {
  const hello = concat([
    encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]),
    encode([0, 1, "ram_map", [{ gpa: 0, size: RAM_BYTES }]]),
  ]);
  const ask = encode([0, 2, "mmio_read", [REGION, PVINFO_OFFSET, 4]]);
  const batches = stores().map((batch) =>
    concat(batch.map(([offset, value]) => encode([2, "mmio_write", [REGION, offset, 8, value]])))
  );
  const batchBytes = batches[0]!.length;
  const session = new RpcSession(new DeviceService(), { id: 1 });
  return {
    hello,
    ask,
    ...answersOf(session, hello, ask),
    posted: concat(batches),
    stores: batches.length * BATCH,
    batchBytes,
    storeBytes: batchBytes / BATCH,
    session,
  };
}

function vfioUserConversation(): Conversation {
  const hello = concat([version(), message(Command.DMA_MAP, dmaMap(0, RAM_BYTES))]);
  const ask = message(Command.REGION_READ, access(REGION, PVINFO_OFFSET, 4));
  const batches = stores().map((batch) => {
    const entries = batch.map(([offset, value]) => [REGION, offset, 8, value] as const);
    return message(Command.REGION_WRITE_MULTI, storeMany(...entries), { flags: HeaderFlag.NO_REPLY });
  });
  const descriptors = { close() {}, isEventfd: () => false, signal() {} };
  const session = new VfioUserSession(new ServedDevice({}, false), { id: 1, descriptors });
  return {
    hello,
    ask,
    ...answersOf(session, hello, ask),
    posted: concat(batches),
    stores: batches.length * BATCH,
    batchBytes: batches[0]!.length,
    storeBytes: null,
    session,
  };
}

/** What a session answers. */
function answersOf(
  session: ByteSession,
  hello: Uint8Array,
  ask: Uint8Array,
): Pick<Conversation, "helloAnswer" | "askAnswer"> {
  const answer = (bytes: Uint8Array) => {
    session.receive(bytes);
    return session.takeOutput()!.slice();
  };
  return { helloAnswer: answer(hello), askAnswer: answer(ask) };
}

/**
 * Writes the files that the programs in C read.
 *
 * @param folder An empty folder.
 * @param said The bytes.
 */
export function writeConversation(folder: string, said: Conversation): void {
  const { hello, helloAnswer, ask, askAnswer, posted } = said;
  const files = { "hello": hello, "hello.answer": helloAnswer, "ask": ask, "ask.answer": askAnswer, posted };
  for (const [name, bytes] of Object.entries(files)) Deno.writeFileSync(`${folder}/${name}`, bytes);
}
