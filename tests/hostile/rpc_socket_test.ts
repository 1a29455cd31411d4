// Hostile peers on real sockets: the VMM goes on undisturbed, and the loop with it.

import { assert, assertEquals } from "@std/assert";
import { encode } from "../../protocol/codec.ts";
import { Random } from "../model/random.ts";
import { messagesIn } from "../unit/protocol_peer.ts";
import { FakeDevice, readAll, writeAll } from "../unit/protocol_socket.ts";
import { concat } from "../unit/protocol_wire.ts";

const HELLO = encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);
const OBSERVE = encode([0, 0, "hello", [{ protocol: 1, role: "observer" }]]);

/** A device with a VMM that makes a call after each step and must be answered rightly. */
async function withVmm(
  steps: (device: FakeDevice, check: () => Promise<void>) => Promise<void>,
): Promise<void> {
  await using device = await FakeDevice.start();
  device.service.records = false;
  await using vmm = await device.connect({ role: "vmm" });
  let value = 0;
  await steps(device, async () => {
    await vmm.notify("mmio_write", 0, 8, 8, ++value);
    assertEquals(await vmm.call("mmio_read", 0, 8, 8), value);
  });
}

Deno.test("garbage gets one last error and the end, and the VMM notices nothing", () =>
  withVmm(async (device, check) => {
    const random = new Random(1);
    for (let round = 0; round < 40; round++) {
      using conn = await device.dial();
      // Never the beginning of an array, so that it is malformed at once.
      await writeAll(conn, Uint8Array.from({ length: 1 + random.below(5000) }, () => random.below(0x80)));
      const [[type, id, error], ...more] = messagesIn(await readAll(conn)) as [
        [number, null, { code: string }],
      ];
      assertEquals([type, id, error.code, more.length], [1, null, "EPROTO", 0]);
      await check();
    }
  }));

Deno.test("connections that come and go at once cost nothing", () =>
  withVmm(async (device, check) => {
    for (let round = 0; round < 100; round++) {
      (await device.dial()).close();
      const conn = await device.dial();
      await writeAll(conn, OBSERVE.subarray(0, round % OBSERVE.length));
      conn.close();
    }
    await check();
    using last = await device.dial();
    await writeAll(last, OBSERVE);
    assert((await last.read(new Uint8Array(1000)))! > 0);
  }));

Deno.test("a peer that sends one byte at a time gets its answer", () =>
  withVmm(async (device, check) => {
    using conn = await device.dial();
    for (const byte of concat(OBSERVE, encode([0, 1, "stats", []]))) {
      await writeAll(conn, Uint8Array.of(byte));
    }
    await check();
    await conn.closeWrite();
    assertEquals((messagesIn(await readAll(conn)) as unknown[][]).map(([, id]) => id), [0, 1]);
  }));

Deno.test("a peer that leaves a message unfinished holds up nobody", () =>
  withVmm(async (device, check) => {
    using conn = await device.dial();
    await writeAll(conn, concat(OBSERVE, encode([0, 1, "stats", []]).subarray(0, 4)));
    for (let i = 0; i < 20; i++) await check();
  }));

Deno.test("a peer that calls, does not read and goes disturbs nobody", () =>
  withVmm(async (device, check) => {
    for (let round = 0; round < 5; round++) {
      const conn = await device.dial();
      await writeAll(
        conn,
        concat(OBSERVE, ...Array.from({ length: 2000 }, (_, i) => encode([0, i, "stats", []]))),
      );
      await check();
      conn.close();
      await check();
    }
  }));

Deno.test("a second VMM is refused again and again, and each may ask again", () =>
  withVmm(async (device, check) => {
    using conn = await device.dial();
    await writeAll(conn, concat(...Array.from({ length: 50 }, () => HELLO), OBSERVE));
    await conn.closeWrite();
    const answers = messagesIn(await readAll(conn)) as [1, number, { code: string } | null][];
    assertEquals(answers.map(([, , error]) => error?.code ?? "ok"), [...new Array(50).fill("EBUSY"), "ok"]);
    await check();
  }));

Deno.test("a VMM that breaks the stream makes room for the next", async () => {
  await using device = await FakeDevice.start();
  for (let round = 0; round < 20; round++) {
    using conn = await device.dial();
    await writeAll(conn, concat(HELLO, Uint8Array.of(0xc1), HELLO));
    const answers = messagesIn(await readAll(conn)) as [1, number | null, { code: string } | null][];
    assertEquals(answers.map(([, , error]) => error?.code ?? "ok"), ["ok", "EPROTO"]);
  }
  assertEquals(device.service.vmm, null);
});
