/**
 * Methods by which a VMM forwards what its guest does: region accesses, guest RAM and stores to it, reset.
 *
 * @module
 */

import { RpcError } from "../../protocol/errors.ts";
import { fromLanes, highLane, lowLane } from "../../protocol/u64.ts";
import { OK } from "../gtt/errno.ts";
import { isAccess, REGION_SIZES } from "../vgpu/vgpu.ts";
import { asRpcError, type Handlers } from "./handlers.ts";
import type { ServedDevice } from "./served_device.ts";

/** The names of these methods. */
export type GuestMethod =
  | "mmio_read"
  | "mmio_write"
  | "mmio_write_many"
  | "ram_map"
  | "ram_unmap"
  | "mem_read"
  | "mem_write"
  | "page_wrote"
  | "reset";

/** The device's own entries under `/proc`: its log and its sockets are no guest RAM. */
const OWN_PROCESS = new RegExp(`^/+proc/+(?:self|thread-self|${Deno.pid})(?:/|$)`);

/** The handlers of these methods. */
export function guestMethods(served: ServedDevice): Handlers<GuestMethod> {
  const value = new Uint32Array(2);
  return {
    mmio_read(region, offset, size) {
      if (served.access.read(region, offset, size, value) !== OK) throw noAccess(region, offset, size);
      return fromLanes(value[0]!, value[1]!);
    },
    mmio_write(region, offset, size, stored) {
      const rc = served.access.write(region, offset, size, lowLane(stored), highLane(stored));
      if (rc !== OK) throw noAccess(region, offset, size);
    },
    mmio_write_many(region, writes) {
      // All or nothing: a call that is refused has stored nothing.
      for (const [offset, size] of writes) {
        if (!isAccess(region, offset, size)) throw noAccess(region, offset, size);
      }
      const { access } = served;
      for (const [offset, size, stored] of writes) {
        access.write(region, offset, size, lowLane(stored), highLane(stored));
      }
    },
    ram_map(options) {
      if (OWN_PROCESS.test(options.path ?? "")) {
        throw new RpcError(
          "EACCES",
          "the path leads into the device's own process: name yours, by its number",
        );
      }
      return asRpcError(() => {
        const { kind, mfn } = served.mapRam(options);
        if (kind === "message") throw new Error("RAM of a kind that nobody asked for");
        return { kind, mfn };
      });
    },
    ram_unmap({ gpa, size }) {
      asRpcError(() => served.unmapRam(gpa, size));
    },
    mem_read(gpa, length) {
      const bytes = new Uint8Array(length);
      if (!served.device.ram.read(gpa, bytes)) throw noRam("read", gpa, length);
      return bytes;
    },
    mem_write(gpa, bytes) {
      const rc = served.device.store(gpa, bytes);
      if (rc === null) throw noRam("write", gpa, bytes.length);
      return rc;
    },
    page_wrote(gpa, size) {
      return served.device.stored(gpa, size);
    },
    reset() {
      served.reset();
    },
  };
}

function noAccess(region: number, offset: number, size: number): RpcError {
  const regionSize = REGION_SIZES.get(region);
  const reason = regionSize === undefined
    ? `there is no region ${region}: there are ${[...REGION_SIZES.keys()].join(", ")}`
    : `the access ends beyond the region's ${regionSize} bytes`;
  return new RpcError("EINVAL", `region ${region}, offset 0x${offset.toString(16)}, size ${size}: ${reason}`);
}

function noRam(what: string, gpa: number, length: number): RpcError {
  return new RpcError(
    "EFAULT",
    `cannot ${what} ${length} bytes at 0x${gpa.toString(16)}: not all of it is ${
      what === "write" ? "writable " : ""
    }guest RAM; add it with ram_map first`,
  );
}
