import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { PTE, type ShadowTable, type TreeSync } from "../../mod.ts";
import { le64, PAGE } from "../scenarios/guest_pages.ts";
import { END, spinner, start, store } from "./commands.ts";
import { Guest } from "./guest.ts";

/** An address, and the indexes that lead to it. */
const GMA = 0x112_3456_7000;
const PATH = "root 0 > PML4[2] > PDP[72] > PDE[418] > PTE[359]";

/** A guest whose mapping of {@linkcode GMA} was used, and what its device logs. */
async function witnessed(
  tracking: "trapped" | "untracked" = "trapped",
): Promise<[guest: Guest, lines: string[], page: number]> {
  const lines: string[] = [];
  const log = (level: string, message: string, fields?: Readonly<Record<string, unknown>>) => {
    if (level === "error") lines.push(`${message}: ${fields?.["what"] ?? fields?.["error"]}`);
  };
  const guest = await Guest.start({ log, tracking });
  const page = guest.page();
  await guest.table.announce();
  await guest.table.map(GMA, page);
  await guest.runBatch("rcs0", store(GMA, 1));
  assertEquals(lines, []);
  return [guest, lines, page];
}

for (
  const [what, bits, lane] of [
    ["frame", 0x4000, 0],
    ["write bit", 0x2, 0],
    ["present bit", 0x1, 0],
    ["upper half", 0x1, 1],
  ] as const
) {
  Deno.test(`the witness finds an entry of the shadow with another ${what}, and tells the whole way to it`, async () => {
    const [guest, lines] = await witnessed();
    await using _ = guest;
    const { tables } = guest.device.engine.parts;
    const frame = await guest.table.directoryOf(GMA, 1) / PAGE;
    const table = [...tables.all()].find(({ gfn }) => gfn === frame)!;
    const index = Math.floor(GMA / PAGE) % 512;
    table.lanes[2 * index + lane]! ^= bits;
    await guest.runBatch("bcs0", [END]);
    table.lanes[2 * index + lane]! ^= bits;
    guest.expectedMismatches = 1;
    assertEquals(lines.length, 1);
    assertStringIncludes(lines[0]!, "a shadow table is not what the guest's says: mm 0, for bcs0: " + PATH);
    assertEquals(await guest.device.counter("verifyMismatches"), 1);
  });
}

Deno.test("the witness finds a directory that leads to another table", async () => {
  const [guest, lines] = await witnessed();
  await using _ = guest;
  const { tables } = guest.device.engine.parts;
  const frame = await guest.table.directoryOf(GMA, 2) / PAGE;
  const table = [...tables.all()].find(({ gfn }) => gfn === frame)!;
  const index = Math.floor(GMA / 2 ** 21) % 512;
  table.lanes[2 * index]! ^= 0x1000;
  await guest.runBatch("rcs0", [END]);
  table.lanes[2 * index]! ^= 0x1000;
  guest.expectedMismatches = 1;
  assertEquals(lines.length, 1);
  assertStringIncludes(lines[0]!, PATH.slice(0, PATH.lastIndexOf(" > ")) + ": the guest's entry 0x");
});

Deno.test("the witness looks at lite restores, too", async () => {
  const [guest, lines] = await witnessed();
  await using _ = guest;
  await guest.startBatch("rcs0", spinner(guest.batch));
  await guest.stall();
  const { tables } = guest.device.engine.parts;
  const frame = await guest.table.directoryOf(GMA, 1) / PAGE;
  const table = [...tables.all()].find(({ gfn }) => gfn === frame)!;
  const index = Math.floor(GMA / PAGE) % 512;
  table.lanes[2 * index]! ^= 0x4000;
  await guest.startRing("rcs0", start(guest.batch));
  await guest.stall();
  table.lanes[2 * index]! ^= 0x4000;
  await guest.put(guest.batch, [END]);
  await guest.settle("rcs0");
  guest.expectedMismatches = 1;
  assertEquals(lines.length, 1);
});

Deno.test("the witness finds a store that nobody trapped", async () => {
  const [guest, lines] = await witnessed();
  await using _ = guest;
  const entry = await guest.table.entryOf(GMA);
  guest.device.service.served.device.ram.write(entry, le64(guest.page() + 3)); // behind the VMM's back
  await guest.runBatch("rcs0", [END]);
  guest.expectedMismatches = 1;
  assertEquals(lines.length, 1);
  assertStringIncludes(lines[0]!, PATH);
});

Deno.test("the same store is no mistake where nobody has to trap it", async () => {
  const [guest, lines, page] = await witnessed("untracked");
  await using _ = guest;
  const other = guest.page();
  guest.device.service.served.device.ram.write(await guest.table.entryOf(GMA), le64(other + 3));
  await guest.runBatch("rcs0", store(GMA, 2));
  assertEquals([lines, await guest.words(page, 1), await guest.words(other, 1)], [[], [1], [2]]);
  assert(await guest.device.counter("verifiedTranslations") > 4);
});

/** What the witness says of a guest that nobody traps, after a fault of the device's own was made up. */
async function findsUntracked(
  fault: (trees: TreeSync, table: ShadowTable, guest: Guest) => unknown,
  expected: string,
): Promise<void> {
  const [guest, lines] = await witnessed("untracked");
  await using _ = guest;
  const { trees, tables } = guest.device.engine.parts;
  const table = tables.find(await guest.table.directoryOf(GMA, 1) / PAGE, PTE)!;
  await fault(trees!, table, guest);
  await guest.runBatch("rcs0", store(GMA, 2));
  guest.expectedMismatches = guest.device.service.served.witnessed.verifyMismatches;
  assert(guest.expectedMismatches >= 1);
  assertStringIncludes(lines.join("\n"), expected);
}

Deno.test("the witness finds a shadow that says something else than what was seen", async () => {
  await findsUntracked(
    (_, table) => table.lanes[2 * (Math.floor(GMA / PAGE) % 512)]! ^= 0x1000,
    `0x11234567000 leads to gfn 0x`,
  );
});

Deno.test("the witness finds a table that nobody looked at again", async () => {
  const change = async (trees: TreeSync, table: ShadowTable, guest: Guest) => {
    const look = trees.look.bind(trees);
    trees.look = (each) => each === table ? undefined : look(each);
    await guest.table.map(GMA, guest.page());
  };
  await findsUntracked(
    change,
    `${PATH.replace(" 0 ", " ")}: the table was not compared since the last invalidation`,
  );
});

Deno.test("the witness finds a context that begins without an invalidation", async () => {
  await findsUntracked((trees) => trees.invalidate = () => {}, "it began without an invalidation");
});

Deno.test("the witness finds a comparison that misses a change", async () => {
  const change = async (_trees: TreeSync, table: ShadowTable, guest: Guest) => {
    const { host } = guest.device.service.served.device;
    host.holdsPage = (gfn, _copy) => gfn === table.gfn;
    await guest.table.map(GMA, guest.page());
  };
  await findsUntracked(change, "again and again");
});

Deno.test("a device that is not asked to verify counts nothing", async () => {
  await using guest = await Guest.start({ device: { verify: false } });
  await guest.runBatch("rcs0", store(guest.data, 1));
  assertEquals([await guest.device.counter("verifiedSubmissions"), await guest.get(guest.data)], [0, [1]]);
});
