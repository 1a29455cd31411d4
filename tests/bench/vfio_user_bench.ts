/**
 * What a vfio-user message costs in the session and the device behind it, without a socket.
 *
 * Each iteration does a batch, so that the harness costs nothing: divide the time by the number in the name.
 *
 * @module
 */

import { Command, HeaderFlag } from "../../protocol/vfio_user.ts";
import { ServedDevice } from "../../src/server/served_device.ts";
import { VfioUserSession } from "../../src/server/vfio_user_session.ts";
import { access, concat, message, store, storeMany, version } from "../vfio_user/wire.ts";

const BATCH = 512;
/** Stores that QEMU puts into one message at most, by and large. */
const STORES = 64;
const POSTED = { flags: HeaderFlag.NO_REPLY };
/** The GTT entry of the vGPU's first page. */
const ENTRY = 0x80_0000 + (64 << 20) / 4096 * 8;

/** A session whose peer drives the device. */
function attached(): VfioUserSession {
  const descriptors = { close() {}, isEventfd: () => false, signal() {} };
  const session = new VfioUserSession(new ServedDevice({}, false), { id: 1, descriptors });
  session.receive(version());
  session.takeOutput();
  return session;
}

/** Hands a message over again and again and takes what is answered. */
function bench(name: string, bytes: Uint8Array, times: number): void {
  const session = attached();
  Deno.bench({
    name,
    group: "vfio-user",
    fn() {
      for (let i = 0; i < times; i++) {
        session.receive(bytes);
        session.takeOutput();
      }
    },
  });
}

bench(
  `REGION_READ of a register, 4 bytes, one a message x${BATCH}`,
  message(Command.REGION_READ, access(0, 0x2030, 4)),
  BATCH,
);
bench(
  `REGION_READ of PVINFO, 8 bytes, one a message x${BATCH}`,
  message(Command.REGION_READ, access(0, 0x78000, 8)),
  BATCH,
);
bench(
  `REGION_READ of configuration space, all of it x${BATCH}`,
  message(Command.REGION_READ, access(7, 0, 256)),
  BATCH,
);
bench(
  `posted REGION_WRITE of a register, one a message x${BATCH}`,
  message(Command.REGION_WRITE, store(0, 0x2030, 4, 1), POSTED),
  BATCH,
);
bench(
  `posted REGION_WRITE of a GTT entry, one a message x${BATCH}`,
  message(Command.REGION_WRITE, store(0, ENTRY, 8, 0x5001), POSTED),
  BATCH,
);
bench(
  `posted REGION_WRITE of a GTT entry, ${STORES} a receive x${BATCH}`,
  concat(
    Array.from({ length: STORES }, () => message(Command.REGION_WRITE, store(0, ENTRY, 8, 0x5001), POSTED)),
  ),
  BATCH / STORES,
);
bench(
  `REGION_WRITE_MULTI of GTT entries, ${STORES} a message x${BATCH}`,
  message(
    Command.REGION_WRITE_MULTI,
    storeMany(...Array.from({ length: STORES }, (_, index) => [0, ENTRY + 8 * index, 8, 0x5001] as const)),
    POSTED,
  ),
  BATCH / STORES,
);
