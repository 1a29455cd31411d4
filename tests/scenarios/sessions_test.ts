import { assertEquals, assertRejects } from "@std/assert";
import { Client } from "../../protocol/client.ts";
import { encode } from "../../protocol/codec.ts";
import { ConnectionError, type RpcError } from "../../protocol/errors.ts";
import { METHODS } from "../../protocol/methods.ts";
import { Attached, refusal } from "./attached.ts";
import { announceTree4, GMA4, le64, PAGE, ROOTS4, TREE4, writePages } from "./guest_pages.ts";

const ENTRY = 0x800000 + 8 * 0x4000;

Deno.test("hello tells what the device is", async () => {
  await using device = await Attached.start({ device: { deviceId: 0x5912, fences: 2 } });
  const { hello } = device.vmm;
  assertEquals([hello.protocol, hello.role, hello.debug], [1, "vmm", false]);
  assertEquals(hello.regions, [
    { index: 0, size: 0x1000000 },
    { index: 2, size: 0x10000000 },
    { index: 7, size: 256 },
  ]);
  assertEquals(hello.config, {
    deviceId: 0x5912,
    apertureBase: 64 << 20,
    apertureSize: 64 << 20,
    hiddenBase: 640 << 20,
    hiddenSize: 384 << 20,
    fences: 2,
    hugePages: false,
    oos: false,
  });
});

Deno.test("a second VMM gets EBUSY, may look meanwhile, and has its turn on the same connection later", async () => {
  await using device = await Attached.start();
  await using second = new Client(await Deno.connect({ transport: "unix", path: device.path }));
  assertEquals((await refusal(second.call("hello", { protocol: 1, role: "vmm" }))).code, "EBUSY");
  assertEquals((await refusal(second.call("stats"))).code, "EPROTO"); // not said hello yet
  assertEquals(await device.vmm.call("mmio_read", 0, 0x78008, 2), 1);

  await device.vmm.close();
  await using next = await device.nextVmm();
  assertEquals(await next.call("mmio_read", 0, 0x78008, 2), 1);
});

Deno.test("an observer sees the VMM's tables and can change nothing", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  const observer = await device.connect("observer");
  for (const method of ["state", "stats"] as const) {
    assertEquals(await observer.call(method), await device.vmm.call(method));
  }
  assertEquals(await observer.call("tree", mm), await device.vmm.call("tree", mm));
  assertEquals(await observer.call("translate", mm, GMA4), await device.vmm.call("translate", mm, GMA4));
  assertEquals(await observer.call("gma_to_gpa", mm, GMA4), 0x64000);

  const before = await observer.call("stats");
  assertEquals((await refusal(observer.call("mmio_read", 0, 0, 4))).code, "EPERM");
  assertEquals((await refusal(observer.call("mmio_write", 0, 0x78808, 4, 1))).code, "EPERM");
  assertEquals((await refusal(observer.call("mem_write", 0x13020, le64(0)))).code, "EPERM");
  assertEquals((await refusal(observer.call("mm_destroy", mm))).code, "EPERM");
  assertEquals((await refusal(observer.call("reset"))).code, "EPERM");
  assertEquals((await refusal(observer.call("ram_unmap", { gpa: 0, size: 0x400000 }))).code, "EPERM");
  assertEquals((await refusal(observer.call("debug_poke", 0x13020, le64(0)))).code, "ENOSYS");
  assertEquals(await observer.call("stats"), before);
});

Deno.test("only the methods that look are an observer's", () => {
  const open = Object.entries(METHODS).filter(([, { caller }]) => caller === "any").map(([name]) => name);
  assertEquals(open.sort(), [
    "events",
    "gma_to_gpa",
    "hello",
    "mem_read",
    "registers",
    "snapshot",
    "state",
    "stats",
    "translate",
    "tree",
  ]);
});

Deno.test("an observer's notification changes nothing", async () => {
  await using device = await Attached.start();
  const observer = await device.connect("observer");
  observer.notify("mmio_write", 0, 0x2000, 4, 5);
  await observer.call("stats");
  assertEquals(await device.vmm.call("mmio_read", 0, 0x2000, 4), 0);
});

Deno.test("debug_init is refused to who does not drive a device that somebody drives", async () => {
  await using device = await Attached.start({ debug: true });
  const mm = await announceTree4(device.vmm);
  const observer = await device.connect("observer");
  const config = {
    apertureBase: 0,
    apertureSize: 4096,
    hiddenBase: 8192,
    hiddenSize: 4096,
    ggttTotal: 65536,
    mappableEnd: 8192,
    oosPool: 0,
    ramPages: 0,
  };

  assertEquals((await refusal(observer.call("debug_init", config))).code, "EBUSY");
  assertEquals(await device.vmm.call("gma_to_gpa", mm, GMA4), 0x64000); // with its RAM
  await observer.call("debug_raise", "gt0", 1); // what leaves the guest its device is an observer's, too

  await device.vmm.call("debug_init", config);
  assertEquals((await refusal(device.vmm.call("gma_to_gpa", mm, GMA4))).code, "ENOENT");
  await device.vmm.close();
  // Nobody drives it any more, as soon as the device has seen that.
  const code = () => observer.call("debug_init", config).then(() => "", ({ code }: RpcError) => code);
  let answer = await code();
  for (let left = 1000; answer === "EBUSY" && left > 0; left--) answer = await code();
  assertEquals(answer, "");
});

Deno.test("an observer's end changes nothing", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  const observer = await device.connect("observer");
  await observer.close();
  assertEquals(await device.vmm.call("gma_to_gpa", mm, GMA4), 0x64000);
});

Deno.test("an observer may be there before any VMM, and many at once", async () => {
  await using device = await Attached.start();
  await device.vmm.close();
  const observers = await Promise.all(Array.from({ length: 8 }, () => device.connect("observer")));
  const next = await device.nextVmm();
  await next.call("ram_map", { gpa: 0, size: 0x400000 });
  const mm = await announceTree4(next);
  for (const observer of observers) assertEquals(await observer.call("gma_to_gpa", mm, GMA4), 0x64000);
});

Deno.test("a VMM that closes leaves a fresh device to the next", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  await vmm.call("init_page_track", 0x40);
  await vmm.call("mmio_write", 0, ENTRY, 8, 0x64001);
  await vmm.call("mmio_write", 0, 0x2000, 4, 0x1234);
  await vmm.call("mmio_write", 7, 0x10, 4, 0xfd000000);
  await vmm.call("mmio_write", 0, 0x78808, 4, 1); // failsafe
  await vmm.close();

  const next = await device.nextVmm();
  const stats = await next.call("stats");
  assertEquals([stats["mms"], stats["shadowTables"], stats["protectedFrames"], stats["ramRegions"]], [
    0,
    0,
    0,
    0,
  ]);
  assertEquals([stats["failsafes"], (await next.call("state"))["failsafe"]], [0, false]);
  assertEquals(await next.call("mmio_read", 0, ENTRY, 8), 0); // not even the guest's view of the GGTT
  assertEquals(await next.call("gma_to_gpa", "ggtt", 0x4000000), 0);
  assertEquals(await next.call("mmio_read", 0, 0x2000, 4), 0);
  assertEquals(await next.call("mmio_read", 7, 0x10, 4), 4);
  assertEquals(await next.call("mmio_read", 0, 0x78000, 8), 0x4776544776544776n);
  assertEquals((await refusal(next.call("mem_read", 0, 8))).code, "EFAULT");
  assertEquals((await refusal(next.call("mm_pin", mm))).code, "ENOENT");
  assertEquals((await refusal(next.call("enable_page_track", 0))).code, "ENOENT");
  device.assertSound();
});

Deno.test("a VMM lost in the middle of a message leaves a fresh device; an observer lives on", async () => {
  await using device = await Attached.start();
  await device.vmm.close();
  const observer = await device.connect("observer");
  const first = await device.nextVmm();
  await first.close();

  // A VMM by hand: hello, RAM, a tree, then the beginning of a call and nothing more.
  const tree = Object.entries(TREE4).map(([gfn, page]) => [0, 2, "mem_write", [Number(gfn) * PAGE, page]]);
  const messages = [
    [0, 0, "hello", [{ protocol: 1, role: "vmm" }]],
    [0, 1, "ram_map", [{ gpa: 0, size: 0x400000 }]],
    ...tree,
    [0, 3, "mm_create", [4, ROOTS4]],
  ];
  for (let tries = 0;; tries++) {
    using conn = await Deno.connect({ transport: "unix", path: device.path });
    const bytes = messages.map((message) => encode(message));
    for (const part of bytes) {
      for (let sent = 0; sent < part.length;) sent += await conn.write(part.subarray(sent));
    }
    await conn.write(encode([0, 4, "mem_read", [0, 4096]]).subarray(0, 9));
    // The tree is there once the observer sees it; before that, the first VMM's end may not have been seen.
    if (await seesTree(observer)) break;
    assertEquals(tries < 100, true, "the device never accepted the VMM");
  }

  const next = await device.nextVmm();
  const stats = await next.call("stats");
  assertEquals([stats["mms"], stats["shadowTables"], stats["ramRegions"]], [0, 0, 0]);
  assertEquals(((await observer.call("state"))["mms"] as unknown[]).length, 0);
  device.assertSound();
});

/** Whether an observer comes to see a page table within some round trips. */
async function seesTree(observer: Client): Promise<boolean> {
  for (let tries = 0; tries < 1000; tries++) {
    if (((await observer.call("state"))["mms"] as unknown[]).length === 1) return true;
  }
  return false;
}

Deno.test("a VMM whose stream is malformed loses the device; an observer lives on", async () => {
  await using device = await Attached.start();
  const observer = await device.connect("observer");
  await announceTree4(device.vmm);
  await device.vmm.close();
  using conn = await Deno.connect({ transport: "unix", path: device.path });
  await conn.write(new Uint8Array([0xc1]));
  const reply = new Uint8Array(4096);
  assertEquals((await conn.read(reply))! > 0, true); // a last error
  assertEquals(await conn.read(reply), null);
  await device.nextVmm();
  assertEquals((await observer.call("state"))["mms"], []);
});

Deno.test("calls that wait when the device stops are rejected", async () => {
  let call: Promise<unknown> = Promise.resolve();
  {
    await using device = await Attached.start();
    const observer = await device.connect("observer");
    await observer.call("stats");
    await observer.close();
    call = observer.call("stats");
    await assertRejects(() => call, ConnectionError);
  }
});

Deno.test("calls of two connections are each carried out whole", async () => {
  await using device = await Attached.start();
  const observer = await device.connect("observer");
  await writePages(device.vmm, TREE4);
  // While page tables come and go, an observer sees either all four tables or none.
  const seen = new Set<number>();
  const changes = (async () => {
    for (let i = 0; i < 50; i++) {
      await device.vmm.call("mm_destroy", await device.vmm.call("mm_create", 4, [...ROOTS4]));
    }
  })();
  for (let i = 0; i < 100; i++) seen.add((await observer.call("stats"))["shadowTables"]!);
  await changes;
  assertEquals([...seen].every((tables) => tables === 0 || tables === 4), true);
});
