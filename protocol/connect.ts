/**
 * Opens a connection to a device's Unix socket. The only file of this folder that needs Deno.
 *
 * @module
 */

import { type ByteStream, Client, type ClientOptions } from "./client.ts";

/**
 * Connects to a device and says `hello`.
 *
 * Needs `--allow-read`, `--allow-write` and `--allow-net=unix:PATH` for the socket's path.
 *
 * @param target The path of the device's socket, or an open stream.
 * @param options Who is calling.
 * @returns A client that is ready; `await using` closes it.
 * @throws {RpcError} EBUSY if there is a VMM already, or what else the device answered.
 * @throws {ConnectionError} If the stream ends.
 * @throws {Deno.errors.NotFound} If there is no such socket, or another of Deno's errors if it cannot be opened.
 *
 * @example Driving a device
 * ```ts ignore
 * import { connect } from "./connect.ts";
 *
 * await using device = await connect("/run/vgtt.sock", { role: "vmm", client: "example" });
 * device.on("page_track", (gfn, on) => console.log(on ? "trap" : "untrap", gfn));
 * await device.call("ram_map", { gpa: 0, size: 0x20_0000 });
 * await device.notify("mmio_write", 0, 0x80_0000, 8, 0x1003n); // a posted write
 * console.log(await device.call("stats"));
 * ```
 *
 * @example A stream of one's own
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { connect } from "./connect.ts";
 * import { ConnectionError } from "./errors.ts";
 *
 * const conn = { // which ends before the device said anything
 *   read: () => Promise.resolve(null),
 *   write: (bytes: Uint8Array) => Promise.resolve(bytes.length),
 *   close() {},
 * };
 * await assertRejects(() => connect({ conn }), ConnectionError, "closed by the device");
 * ```
 */
export async function connect(
  target: string | { readonly conn: ByteStream },
  options: ClientOptions = {},
): Promise<Client> {
  const stream = typeof target === "string"
    ? await Deno.connect({ transport: "unix", path: target })
    : target.conn;
  return await Client.open(stream, options);
}
