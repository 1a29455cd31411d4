// Devices that record what VMMs do over MessagePack-RPC, and replays of that.

import { assertEquals, assertStringIncludes } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { connect } from "../../protocol/connect.ts";
import { loadLibc } from "../../src/platform/libc.ts";
import { announceTree3, announceTree4, GMA4, le32, le64, PAGE, ROOTS4, TREE4 } from "./guest_pages.ts";
import { DeviceProcess, run, spawn, TempFolder } from "./process.ts";
import { assertReplays, lookAt, type Moment } from "./recorded.ts";

loadLibc(); // here and not in the first test that maps a file, which would seem to leak it

const RAM_BYTES = 0x400000;
const TLB_INVALIDATE = 0x4260;
const GTT_WINDOW = 0x800000;
/** The first entry of the vGPU's own aperture. */
const OWN_ENTRY = GTT_WINDOW + 8 * 0x4000;

/** A device that records, with a VMM and an observer. */
class Recorded implements AsyncDisposable {
  readonly recording: string;
  readonly ramFile: string;
  readonly moments: Moment[] = [];
  #clients: Client[] = [];

  private constructor(readonly folder: TempFolder, readonly device: DeviceProcess) {
    this.recording = `${folder.path}/recording.jsonl`;
    this.ramFile = `${folder.path}/ram`;
  }

  static async start(...args: readonly string[]): Promise<Recorded> {
    const folder = new TempFolder();
    const paths = ["--socket-path", `${folder.path}/s`, "--record", `${folder.path}/recording.jsonl`];
    return new Recorded(folder, await DeviceProcess.start(...paths, ...args));
  }

  async attach(tracking: "trapped" | "untracked" = "trapped"): Promise<Client> {
    const vmm = await connect(`${this.folder.path}/s`, { role: "vmm", tracking });
    this.#clients.push(vmm);
    return vmm;
  }

  /** Maps RAM in a file that the guest writes behind the device's back. */
  async shareRam(vmm: Client): Promise<void> {
    Deno.writeFileSync(this.ramFile, new Uint8Array(RAM_BYTES));
    await vmm.call("ram_map", { gpa: 0, size: RAM_BYTES, path: this.ramFile });
  }

  guestWrites(gpa: number, bytes: Uint8Array): void {
    using file = Deno.openSync(this.ramFile, { write: true });
    file.seekSync(gpa, Deno.SeekMode.Start);
    file.writeSync(bytes);
  }

  /** Keeps what an observer sees now. */
  async look(): Promise<void> {
    await using observer = await connect(`${this.folder.path}/s`);
    this.moments.push(await lookAt(observer));
  }

  /** Closes every connection and stops the device. */
  async stop(): Promise<void> {
    for (const client of this.#clients.splice(0)) await client.close();
    assertEquals((await this.device.stop()).code, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) await client.close();
    await this.device[Symbol.asyncDispose]();
    await this.folder[Symbol.asyncDispose]();
  }
}

Deno.test("a VMM with RAM of the device's own is replayed, to each moment and to its end", async () => {
  await using recorded = await Recorded.start("--oos", "--debug");
  const vmm = await recorded.attach();
  await vmm.call("ram_map", { gpa: 0, size: RAM_BYTES });
  await announceTree4(vmm);
  await recorded.look();
  for (let i = 0; i < 3000; i++) await vmm.notify("mmio_write", 0, OWN_ENTRY + 8 * i, 8, i * PAGE + 1);
  for (const frame of [0x70, 0x71, 0x72]) {
    await vmm.call("mem_write", 0x13 * PAGE + 32, le64(frame * PAGE + 3));
  }
  await vmm.call("mem_write", 0x13 * PAGE + 40, le32(0x75003));
  await recorded.look();
  await vmm.call("submit", 4, [...ROOTS4]);
  await vmm.call("debug_inject", { kind: "alloc", n: 1 });
  await announceTree3(vmm); // takes the first tree's shadow
  await vmm.call("mmio_read", 0, 0x2358, 4); // the time
  await recorded.look();
  await vmm.call("reset");
  await announceTree4(vmm);
  await recorded.look();
  await recorded.stop();
  assertEquals(Deno.statSync(recorded.recording).mode! & 0o777, 0o600);
  assertEquals(await assertReplays(recorded.recording, recorded.moments) > 3000, true);
});

for (const tracking of ["trapped", "untracked"] as const) {
  Deno.test(`a VMM with RAM in a file is replayed, ${tracking}, though nobody says what changes there`, async () => {
    await using recorded = await Recorded.start("--verify");
    const vmm = await recorded.attach(tracking);
    await recorded.shareRam(vmm);
    for (const [gfn, page] of Object.entries(TREE4)) recorded.guestWrites(Number(gfn) * PAGE, page);
    const mm = await vmm.call("mm_create", 4, [...ROOTS4]);
    await recorded.look();
    for (let frame = 0x70; frame < 0x80; frame++) {
      recorded.guestWrites(0x13 * PAGE + 4 * 8, le64(frame * PAGE + 3));
      if (tracking === "trapped") await vmm.call("page_wrote", 0x13 * PAGE + 4 * 8, 8);
      else await vmm.call("mmio_write", 0, TLB_INVALIDATE, 4, 1);
      await vmm.call("translate", mm, BigInt(GMA4));
      await vmm.call("submit", 4, [...ROOTS4]);
    }
    await recorded.look();
    await vmm.call("mmio_write", 2, 0, 8, 5); // through the aperture
    await vmm.call("ram_unmap", { gpa: 0, size: RAM_BYTES });
    await recorded.look();
    await recorded.stop();
    await assertReplays(recorded.recording, recorded.moments);
  });
}

Deno.test("VMMs one after the other are in one recording", async () => {
  await using recorded = await Recorded.start();
  for (const tracking of ["untracked", "trapped"] as const) {
    const vmm = await recorded.attach(tracking);
    await vmm.call("ram_map", { gpa: 0, size: RAM_BYTES });
    await announceTree4(vmm);
    await recorded.look();
    await vmm.close();
    await recorded.device.log.find((line) => line.includes("vmm gone"));
  }
  await recorded.stop();
  await assertReplays(recorded.recording, recorded.moments);
});

Deno.test("deno task replay says what differs in a recording that was tampered with", async () => {
  await using recorded = await Recorded.start();
  const vmm = await recorded.attach();
  await vmm.call("ram_map", { gpa: 0, size: RAM_BYTES });
  await announceTree4(vmm);
  await vmm.call("mmio_read", 7, 0, 4);
  await recorded.stop();
  const good = await run("replay", [recorded.recording]);
  assertStringIncludes(good.stdout, "state compared 1 times)\n1 passed, 0 failed");

  const text = Deno.readTextFileSync(recorded.recording);
  const other = `${recorded.folder.path}/other.jsonl`;
  const gfn13 = "0300070000000000";
  Deno.writeTextFileSync(other, text.replace("8340060000000000", gfn13).replace("0x19128086", "0x19128087"));
  const { code, stdout } = await run("replay", [other]);
  assertEquals(code, 1);
  assertStringIncludes(stdout, "4 bytes of config at 0x0 were 0x19128087, are 0x19128086");
  assertStringIncludes(stdout, "state differs: shadow tables");
  assertStringIncludes(stdout, "0 passed, 1 failed");

  Deno.writeTextFileSync(other, text.replace('{"detach":true}', '{"detach":'));
  const broken = await run("replay", [other]);
  assertEquals(broken.code, 1);
  assertStringIncludes(broken.stdout, `line ${text.split("\n").length - 1}: `);
});

Deno.test("a device that was killed leaves a recording that is replayed up to its last whole line", async () => {
  await using recorded = await Recorded.start();
  const vmm = await recorded.attach();
  await vmm.call("ram_map", { gpa: 0, size: RAM_BYTES });
  await announceTree4(vmm);
  await recorded.look();
  const written = async () => (await Deno.readTextFile(recorded.recording)).includes('"mm_create"');
  while (!await written()) await new Promise((resolve) => setTimeout(resolve, 5));
  await recorded.device.stop("SIGKILL");
  Deno.writeTextFileSync(recorded.recording, '{"ws":"bar0","si', { append: true });
  const { code, stdout } = await run("replay", [recorded.recording]);
  assertStringIncludes(stdout, "; its last line was cut off)");
  assertEquals(code, 0);
});

Deno.test("start --record overwrites nothing, and leaves nothing when it cannot listen", async () => {
  await using folder = new TempFolder();
  Deno.writeTextFileSync(`${folder.path}/old`, "precious");
  const refused = await run("start", ["--socket-path", `${folder.path}/s`, "--record", `${folder.path}/old`]);
  assertEquals([refused.code, Deno.readTextFileSync(`${folder.path}/old`)], [1, "precious"]);
  assertStringIncludes(refused.stderr, "there is such a file already");
  const deaf = await run("start", ["--socket-path", `${folder.path}/no/s`, "--record", `${folder.path}/new`]);
  assertEquals([deaf.code, folder.names()], [1, ["old"]]);
});

Deno.test("replay --listen lets observers look at the device as it was", async () => {
  await using recorded = await Recorded.start();
  const vmm = await recorded.attach();
  await vmm.call("ram_map", { gpa: 0, size: RAM_BYTES });
  const mm = await announceTree4(vmm);
  await recorded.look();
  const [{ events, sight }] = recorded.moments as [Moment];
  await vmm.call("mm_destroy", mm);
  await recorded.stop();

  const path = `${recorded.folder.path}/look`;
  await using shown = spawn("replay", ["--to", `${events}`, "--listen", path, recorded.recording]);
  await shown.stdout.find((line) => line.includes("listening"));
  {
    await using observer = await connect(path);
    assertEquals((await lookAt(observer)).sight, sight);
  }
  assertEquals((await shown.stop()).code, 0);
});
