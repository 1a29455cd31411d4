/**
 * vgtt: an Intel GVT-g vGPU graphics-translation device as a process of its own.
 *
 * Two things can be used as a library:
 * - the **protocol's client**: {@linkcode connect} opens a connection to a running device;
 * - the **engine**: {@linkcode VgpuGtt} is GVT-g's shadow page-table engine over any {@linkcode GttHost}, and
 *   {@linkcode Device} puts a whole vGPU together in this process.
 *
 * @example A device in this process, without a socket
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, GTT_START_OFFSET, OK, REGION_BAR0 } from "./mod.ts";
 *
 * using device = createDevice();
 * device.ram.map({ gpa: 0, size: 0x100000 });
 * const gma = device.config.apertureBase;
 * const entry = GTT_START_OFFSET + gma / 4096 * 8;
 * assertEquals(device.vgpu.write(REGION_BAR0, entry, 8, 0x64001, 0), OK); // the guest maps its frame 0x64
 * assertEquals(device.vgpu.gtt.ggttGmaToGpa(gma + 0x123), 0x64123);
 * ```
 *
 * @module
 */

export * from "./protocol/client.ts";
export * from "./protocol/connect.ts";
export * from "./protocol/errors.ts";
export * from "./protocol/methods.ts";
export * from "./protocol/schema.ts";
export * from "./protocol/u64.ts";
export * from "./src/gtt/address.ts";
export * from "./src/gtt/counters.ts";
export * from "./src/gtt/entry.ts";
export * from "./src/gtt/errno.ts";
export * from "./src/gtt/ggtt.ts";
export * from "./src/gtt/gvt_gtt.ts";
export * from "./src/gtt/host.ts";
export * from "./src/gtt/invariants.ts";
export * from "./src/gtt/large_page.ts";
export * from "./src/gtt/mm.ts";
export * from "./src/gtt/oos.ts";
export * from "./src/gtt/page_copy.ts";
export * from "./src/gtt/page_track.ts";
export * from "./src/gtt/post_shadow.ts";
export * from "./src/gtt/scratch.ts";
export * from "./src/gtt/shadow_table.ts";
export * from "./src/gtt/shadow_tables.ts";
export * from "./src/gtt/translate.ts";
export * from "./src/gtt/tree_sync.ts";
export * from "./src/gtt/vgpu_gtt.ts";
export * from "./src/memory/ram_map.ts";
export * from "./src/streamer/engines.ts";
export * from "./src/streamer/graphics_access.ts";
export * from "./src/streamer/streamer_counters.ts";
export * from "./src/streamer/witness.ts";
export * from "./src/vgpu/aperture.ts";
export * from "./src/vgpu/bar0.ts";
export * from "./src/vgpu/device.ts";
export * from "./src/vgpu/event_log.ts";
export * from "./src/vgpu/fault_injection.ts";
export * from "./src/vgpu/host_ggtt.ts";
export * from "./src/vgpu/interrupt_banks.ts";
export * from "./src/vgpu/interrupts.ts";
export * from "./src/vgpu/pci.ts";
export * from "./src/vgpu/pvinfo.ts";
export * from "./src/vgpu/register_file.ts";
export * from "./src/vgpu/register_table.ts";
export * from "./src/vgpu/registers.ts";
export * from "./src/vgpu/timestamp.ts";
export * from "./src/vgpu/tlb.ts";
export * from "./src/vgpu/vgpu.ts";
export * from "./src/vgpu/vgpu_counters.ts";
export * from "./src/vgpu/vgpu_host.ts";
export * from "./src/vgpu/vgpu_options.ts";
