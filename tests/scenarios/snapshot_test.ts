import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { FRAME_HI, frameOf, PRESENT, PTE } from "../../src/gtt/entry.ts";
import { Mirror } from "../../src/observe/mirror.ts";
import type { Snapshot, TableView } from "../../src/observe/snapshot.ts";
import { loadSnapshot, saveSnapshot, SnapshotFileError } from "../../src/observe/snapshot_file.ts";
import { Attached, refusal } from "./attached.ts";
import { announceTree4, le64, PAGE, ROOTS4, tablePage, TREE4, writePages } from "./guest_pages.ts";

/** Host frames of the guest's RAM begin here. */
const MFN = 0x100000;
const GTT_WINDOW = 0x800000;

/** A mirror of an observer's own. */
async function observe(device: Attached): Promise<Mirror> {
  return new Mirror(await device.connect("observer"));
}

function tableOf(snapshot: Snapshot, gfn: number): TableView {
  const table = [...snapshot.parts.tables.values()].find((each) => each.gfn === gfn);
  assert(table !== undefined, `no table of gfn ${gfn}`);
  return table;
}

/** Tables in which the shadow of a present leaf is not the guest's frame, moved to the host. */
function wrongTables(snapshot: Snapshot): number[] {
  const wrong = (table: TableView) =>
    table.kind === PTE && Array.from({ length: 512 }, (_, index) => index).some((index) => {
      const [lo, hi] = [table.guest![2 * index]!, table.guest![2 * index + 1]!];
      const [shadowLo, shadowHi] = [table.shadow[2 * index]!, table.shadow[2 * index + 1]!];
      if ((lo & PRESENT) === 0) {
        return (shadowLo & PRESENT) !== 0 && snapshot.gfnOf(frameOf(shadowLo, shadowHi)) >= 0;
      }
      return frameOf(shadowLo, shadowHi) !== frameOf(lo, hi) + MFN ||
        (hi & ~FRAME_HI) !== (shadowHi & ~FRAME_HI);
    });
  return [...snapshot.parts.tables.values()].filter(wrong).map(({ gfn }) => gfn);
}

Deno.test("a snapshot has both sides of every table, the address spaces, the GGTT and RAM", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  const { config } = device.vmm.hello;
  const index = Number(config["apertureBase"]) / PAGE + 513;
  await device.vmm.notify("mmio_write", 0, GTT_WINDOW + 8 * index, 8, 0x77001n);
  const track = await device.vmm.call("init_page_track", 0x99);

  const snapshot = await (await observe(device)).take();

  const { parts } = snapshot;
  assertEquals([...parts.tables.values()].map(({ gfn, kind, refs }) => [gfn, kind, refs]).sort(), [
    [0x10, 4, 1],
    [0x11, 3, 1],
    [0x12, 2, 1],
    [0x13, 1, 1],
  ]);
  const leaf = tableOf(snapshot, 0x13);
  assertEquals([leaf.guest![8], leaf.shadow[8]], [0x64083, (MFN + 0x64) * PAGE % 2 ** 32 + 0x83]);
  assertEquals([leaf.isTracked, leaf.isOutOfSync, leaf.seen], [true, false, null]);
  assertEquals(parts.spaces.map(({ id, level, isShadowed }) => [id, level, isShadowed]), [[mm, 4, true]]);
  assertEquals(snapshot.rootTables(parts.spaces[0]!).map(([slot, { gfn }]) => [slot, gfn]), [[0, 0x10]]);
  const chunk = parts.ggtt.get(Math.floor(index / 512))!;
  assertEquals(chunk.guest[2 * (index % 512)], 0x77001);
  assertEquals(frameOf(chunk.host[2 * (index % 512)]!, chunk.host[2 * (index % 512) + 1]!), MFN + 0x77);
  assertEquals(parts.ram.map(({ gpa, mfn, kind }) => [gpa, mfn, kind]), [[0, MFN, "local"]]);
  assertEquals(parts.tracks, [{ gfn: 0x99, track, isEnabled: false }]);
});

Deno.test("the next snapshot costs what has changed, and says how much that is", async () => {
  await using device = await Attached.start();
  await announceTree4(device.vmm);
  const observer = await device.connect("observer");
  let pages = 0;
  const mirror = new Mirror({
    async call(name, ...params) {
      const answer = await observer.call(name, ...params);
      pages += (answer["pages"] as Uint8Array[])[0]!.length / 4;
      return answer;
    },
  });
  await mirror.take();
  pages = 0;
  await mirror.take();
  assertEquals(pages, 0);
  await device.vmm.call("mem_write", 0x13 * PAGE, le64(0x70003, 0x71003));
  const snapshot = await mirror.take();
  assertEquals(pages, 1);
  assertEquals(mirror.changed.get(tableOf(snapshot, 0x13).serial), 2);
});

Deno.test("half a store that waits for the flush is in the snapshot, on the guest's side only", async () => {
  await using device = await Attached.start();
  await announceTree4(device.vmm);
  const mirror = await observe(device);
  await mirror.take();
  await device.vmm.call("mem_write", 0x13 * PAGE + 4 * 8, le64(0x70003).subarray(0, 4));
  const snapshot = await mirror.take();
  const leaf = tableOf(snapshot, 0x13);
  assertEquals([leaf.queued, leaf.guest![8]], [[4], 0x70003]);
  assertEquals(snapshot.scratchName(frameOf(leaf.shadow[8]!, leaf.shadow[9]!)), "sPTE");
});

Deno.test("where nobody traps, a snapshot shows what the guest changed and what the engine knows of it", async () => {
  await using device = await Attached.start({ tracking: "untracked" });
  const { vmm } = device;
  await announceTree4(vmm);
  await vmm.call("sync_oos_pages");
  const mirror = await observe(device);
  const before = tableOf(await mirror.take(), 0x13);
  assertEquals([before.isOutOfSync, before.isLookedAt, before.seen?.[8]], [true, true, 0x64083]);

  await vmm.call("mem_write", 0x13 * PAGE + 4 * 8, le64(0x70003));
  const changed = tableOf(await mirror.take(), 0x13);
  assertEquals([changed.guest![8], changed.seen![8], changed.shadow[8]], [
    0x70003,
    0x64083,
    before.shadow[8],
  ]);

  await vmm.call("sync_oos_pages");
  const after = tableOf(await mirror.take(), 0x13);
  assertEquals([after.seen![8], after.shadow[8]! >>> 12], [0x70003, (MFN + 0x70) % 2 ** 20]);
});

/** Leaf tables of a large tree: so many that a snapshot takes many answers. */
const LEAF_TABLES = 500;
/** The directory of a large tree. */
const DIRECTORY = 0x100;
/** A leaf table that observers come to last, before the directory in memory, which they come to among the first. */
const LAST_LEAF_TABLE = DIRECTORY - 1;
/** A flag that says nothing here. */
const MARK = 0x8;

/** Entries of the directory by index. */
const LEAVES = Array.from(
  { length: LEAF_TABLES },
  (_, index) => (index === LEAF_TABLES - 1 ? LAST_LEAF_TABLE : 0x1000 + index) * PAGE + 3,
);

Deno.test("every snapshot is one moment, although the guest goes on while it is taken", async () => {
  await using device = await Attached.start({ ram: 0x800_0000 });
  const { vmm } = device;
  await writePages(vmm, {
    0x10: tablePage({ 0: 0x11003 }),
    0x11: tablePage({ 0: DIRECTORY * PAGE + 3 }),
    [DIRECTORY]: tablePage(Object.fromEntries(LEAVES.entries())),
  });
  await vmm.call("mm_create", 4, [...ROOTS4]);
  const observer = await device.connect("observer");
  const mirror = new Mirror(observer);
  let isOver = false;
  let stores = 0;
  const guest = (async () => {
    // The end of the last leaf table and the beginning of the directory always change together, in one message.
    while (!isOver) {
      const mark = Math.imul(++stores, 0x9e3779b1) < 0 ? MARK : 0; // no pattern that questions could fall into step with
      const frame = 0x3000 + stores % 0x1000;
      const leaf = frame * PAGE + 3 + mark;
      await vmm.call("mem_write", DIRECTORY * PAGE - 16, le64(leaf, leaf, LEAVES[0]! + mark, LEAVES[1]!));
    }
  })();
  const moments = new Set<number>();
  try {
    for (let take = 0; take < 30; take++) {
      // Of one that knows what was, and of one that asks for everything.
      for (const each of [mirror, new Mirror(observer)]) {
        const snapshot = await each.take();
        assertEquals(wrongTables(snapshot), []);
        const entry = tableOf(snapshot, LAST_LEAF_TABLE).guest!.at(-2)!;
        assertEquals(entry & MARK, tableOf(snapshot, DIRECTORY).guest![0]! & MARK, `after ${stores} stores`);
        moments.add(entry);
      }
    }
  } finally {
    isOver = true;
    await guest;
  }
  assert(moments.size > 5, "the guest went on");
  assertEquals((await mirror.take()).parts, (await new Mirror(observer).take()).parts);
  device.assertSound();
});

Deno.test("an observer hears that the guest took a change back, which the engine never knew of", async () => {
  await using device = await Attached.start({ tracking: "untracked" });
  const { vmm } = device;
  await announceTree4(vmm);
  await vmm.call("sync_oos_pages");
  const mirror = await observe(device);
  const other = await observe(device);
  const leafOf = async (from: Mirror) => tableOf(await from.take(), 0x13).guest![8];
  await other.take();
  for (const entry of [0x64083, 0x70003, 0x64083, 0x64083]) {
    await vmm.call("mem_write", 0x13 * PAGE + 4 * 8, le64(entry));
    assertEquals(await leafOf(mirror), entry);
  }
  assertEquals(await leafOf(other), 0x64083);
});

Deno.test("an observer hears of a change that was taken back while another one asked", async () => {
  await using device = await Attached.start({ tracking: "untracked" });
  const { vmm } = device;
  await announceTree4(vmm);
  await vmm.call("sync_oos_pages");
  const mirror = await observe(device);
  const other = await observe(device);
  const entryAt = 0x13 * PAGE + 4 * 8;
  const leafOf = async (from: Mirror) => tableOf(await from.take(), 0x13).guest![8];
  await leafOf(mirror);
  await leafOf(other);
  await vmm.call("mem_write", entryAt, le64(0x70003));
  assertEquals(await leafOf(mirror), 0x70003);
  // Between the device's question whether the page is another one and its reading it, the guest takes the change back.
  const { host } = device.service.served.device;
  const { readPage } = host;
  host.readPage = (gfn, out) => {
    if (gfn === 0x13) device.service.served.device.ram.write(entryAt, le64(0x64083));
    return readPage.call(host, gfn, out);
  };
  assertEquals(await leafOf(other), 0x64083);
  host.readPage = readPage;
  assertEquals(await leafOf(mirror), 0x64083);
});

Deno.test("an observer hears of a change that was taken back, told in a round that began before its own", async () => {
  await using device = await Attached.start({ tracking: "untracked" });
  const { vmm } = device;
  await announceTree4(vmm);
  await vmm.call("sync_oos_pages");
  const entryAt = 0x13 * PAGE + 4 * 8;
  const mirror = await observe(device);
  const leafOf = async (from: Mirror) => tableOf(await from.take(), 0x13).guest![8];
  const slow = await device.connect("observer");
  let answers = 0;
  const other = new Mirror({
    async call(name, ...params) {
      const answer = await slow.call(name, ...params);
      if (answers++ === 0) {
        await vmm.call("mem_write", entryAt, le64(0x70003));
        assertEquals(await leafOf(mirror), 0x70003);
        await vmm.call("mem_write", entryAt, le64(0x64083));
      }
      return answer;
    },
  });
  assertEquals(await leafOf(other), 0x64083);
  assertEquals(answers > 2, true);
  assertEquals(await leafOf(mirror), 0x64083);
});

Deno.test("an observer hears of a page that came back in sync as it was", async () => {
  await using device = await Attached.start({ device: { oos: true } });
  const { vmm } = device;
  await announceTree4(vmm);
  const entryAt = 0x13 * PAGE + 4 * 8;
  for (let store = 0; store < 10; store++) await vmm.call("mem_write", entryAt, le64(0x64083)); // it leaves sync
  const mirror = await observe(device);
  assertEquals(tableOf(await mirror.take(), 0x13).isOutOfSync, true);
  await vmm.call("mem_write", entryAt, le64(0x70003));
  assertEquals(tableOf(await mirror.take(), 0x13).guest![8], 0x70003);
  await vmm.call("mem_write", entryAt, le64(0x64083));
  await vmm.call("sync_oos_pages");
  const { isOutOfSync, guest } = tableOf(await mirror.take(), 0x13);
  assertEquals([isOutOfSync, guest![8]], [false, 0x64083]);
});

Deno.test("an observer hears of a GGTT entry that changed and came back while it was told", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const { config } = vmm.hello;
  const index = (Number(config["hiddenBase"]) + Number(config["hiddenSize"])) / PAGE - 1; // what is told last
  const store = (entry: number) => vmm.call("mmio_write", 0, GTT_WINDOW + 8 * index, 8, entry);
  await store(0x5001);
  await (await observe(device)).take(); // the device knows what it told
  const observer = await device.connect("observer");
  let answers = 0;
  const mirror = new Mirror({
    async call(name, ...params) {
      const answer = await observer.call(name, ...params);
      if (answers++ === 0) await store(0x6001);
      return answer;
    },
  });
  const entryOf = async () =>
    (await mirror.take()).parts.ggtt.get(Math.floor(index / 512))!.guest[2 * (index % 512)];
  assertEquals(await entryOf(), 0x6001);
  await store(0x5001);
  assertEquals(await entryOf(), 0x5001);
});

Deno.test("tables that are gone are gone from the next snapshot, and another VMM's are others", async () => {
  await using device = await Attached.start();
  await announceTree4(device.vmm);
  const mirror = await observe(device);
  const first = await mirror.take();
  await device.vmm.call("mm_destroy", 0);
  const empty = await mirror.take();
  assertEquals([empty.parts.tables.size, empty.parts.engine], [0, first.parts.engine]);

  await device.vmm.close();
  const next = await device.nextVmm();
  await next.call("ram_map", { gpa: 0, size: 0x400000 });
  await writePages(next, TREE4);
  await next.call("mm_create", 4, [...ROOTS4]);
  const other = await mirror.take();
  assertNotEquals(other.parts.engine, first.parts.engine);
  assertEquals(other.parts.tables.size, 4);
  assert(Math.min(...other.parts.tables.keys()) > Math.max(...first.parts.tables.keys()));
});

Deno.test("any moment and any cursor may be asked for", async () => {
  await using device = await Attached.start();
  await announceTree4(device.vmm);
  const observer = await device.connect("observer");
  for (
    const [since, after] of [[0, 0], [2 ** 53 - 1, 0], [0, 2 ** 53 - 1], [0, 65535], [0, 65536]] as const
  ) {
    const answer = await observer.call("snapshot", since, after, true);
    assertEquals(typeof answer["now"], "number");
  }
  assertEquals((await refusal(observer.call("snapshot", -1, 0, false))).code, "EINVAL");
});

Deno.test("a snapshot can be kept in a file; one that is damaged is refused", async () => {
  await using device = await Attached.start();
  await announceTree4(device.vmm);
  const snapshot = await (await observe(device)).take();
  const path = `${device.folder}/kept`;
  await saveSnapshot(path, snapshot);
  assertEquals((await loadSnapshot(path)).parts, snapshot.parts);
  assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
  // What others may read is replaced by what they may not.
  const open = `${device.folder}/open`;
  Deno.writeTextFileSync(open, "");
  Deno.chmodSync(open, 0o644);
  await saveSnapshot(open, snapshot);
  assertEquals((await loadSnapshot(open)).parts, snapshot.parts);
  assertEquals(Deno.statSync(open).mode! & 0o777, 0o600);

  const bytes = Deno.readFileSync(path);
  for (
    const [name, damaged] of [["cut", bytes.subarray(0, bytes.length / 2)], ["text", le64(1, 2, 3)]] as const
  ) {
    Deno.writeFileSync(`${device.folder}/${name}`, damaged);
    const error = await loadSnapshot(`${device.folder}/${name}`).then(() => null, (cause: Error) => cause);
    assert(error instanceof SnapshotFileError, `${name}: ${error}`);
    assert(error.message.startsWith(`${device.folder}/${name}`));
  }
});

Deno.test("observers may read guest RAM, and nothing else of a VMM's", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, TREE4);
  const observer = await device.connect("observer");
  assertEquals(await observer.call("mem_read", 0x13 * PAGE + 32, 8), le64(0x64083));
  assertEquals((await observer.call("mem_read", 0, 65536)).length, 65536);
  assertEquals((await refusal(observer.call("mem_read", 0, 65537))).code, "E2BIG");
  assertEquals((await refusal(observer.call("mem_write", 0, le64(1)))).code, "EPERM");
});
