/**
 * What a call costs over a real Unix socket, client and device in one process.
 *
 * @module
 */

import { connect } from "../../mod.ts";
import { OwnDevice } from "../../src/cli/own_device.ts";

const POSTED = 10_000;
const GTT_ENTRY = 0x800000 + 0x4000 * 8;

const folder = await Deno.makeTempDir({ dir: "/tmp", prefix: "vgtt-bench-" });
const device = await OwnDevice.start(`${folder}/device.sock`, false);
const client = await connect(device.path, { role: "vmm", client: "bench" });
await client.call("ram_map", { gpa: 0, size: 64 << 20 });

Deno.bench("mmio_read, round trip", async () => {
  await client.call("mmio_read", 0, 0x78000, 4);
});

Deno.bench(`${POSTED} posted GGTT stores`, async () => {
  for (let i = 0; i < POSTED; i++) {
    await client.notify("mmio_write", 0, GTT_ENTRY + 8 * (i % 512), 8, 0x1000001);
  }
  await client.call("mmio_read", 0, 0x78000, 4);
});

globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
