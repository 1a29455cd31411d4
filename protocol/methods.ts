/**
 * The method table: every call and notification of the protocol, once, as data. The TypeScript types of the
 * client and of the device, the validation of parameters and the table in `README.md` all derive from it.
 *
 * A method named like a function of the engine is that function (`engine.md`); a negative return code of the
 * function becomes an error reply, so a result is what it returned when it succeeded.
 *
 * @module
 */

import { RpcError } from "./errors.ts";
import { MAX_BYTES, MAX_WRITES } from "./limits.ts";
import {
  address,
  array,
  bool,
  bytes,
  count,
  elementsProblem,
  frame,
  int,
  mapOf,
  nil,
  nullable,
  oneOf,
  openRecord,
  optional,
  type Param,
  param,
  path,
  record,
  roots,
  type Schema,
  space,
  string,
  tuple,
  type TupleOf,
  u32,
  u64,
  u8,
  uint,
  value,
} from "./schema.ts";

/**
 * Who may call a method: `any` role, the `vmm` only, or any role on a device started with `--debug`.
 */
export type Caller = "any" | "vmm" | "debug";

/** One row of the method table. */
export interface Method<P extends readonly Param<unknown>[] = readonly Param<unknown>[], R = unknown> {
  /** Who may call it. */
  readonly caller: Caller;
  /** The parameters in order; all are required. */
  readonly params: P;
  /** The result of success. Only a method whose result is nil may be sent as a notification. */
  readonly result: Schema<R>;
  /** One line of documentation. */
  readonly doc: string;
}

/** A notification from the device to the VMM. */
export interface Notice<P extends readonly Param<unknown>[] = readonly Param<unknown>[]> {
  /** The parameters in order. */
  readonly params: P;
  /** One line of documentation. */
  readonly doc: string;
}

function method<const P extends readonly Param<unknown>[], R>(
  caller: Caller,
  params: P,
  result: Schema<R>,
  doc: string,
): Method<P, R> {
  return { caller, params, result, doc };
}

function notice<const P extends readonly Param<unknown>[]>(params: P, doc: string): Notice<P> {
  return { params, doc };
}

/** Who a connection belongs to. */
export type Role = "vmm" | "observer";

const role = oneOf("vmm", "observer");
const tracking = oneOf("trapped", "untracked");
const region = param("region", uint(0, 8));
const offset = param("offset", address);
const size = param("size", oneOf(1, 2, 4, 8));
const gpa = param("gpa", address);
const gfn = param("gfn", frame);
const data = param("data", bytes(MAX_BYTES));
const mm = param("mm", u32);
const level = param("level", u8);
const track = param("track", u32);
const off = param("off", address);
const width = param("bytes", u8);
const gma = param("gma", u64);
const addr = param("addr", u64);
const index = param("index", frame);
const rootList = param("roots", roots);

/**
 * Every method by name.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { METHODS } from "./methods.ts";
 *
 * assertEquals(METHODS.mmio_read.caller, "vmm");
 * assertEquals(METHODS.mmio_read.params.map(({ name }) => name), ["region", "offset", "size"]);
 * ```
 */
export const METHODS = {
  hello: method(
    "any",
    [param(
      "hello",
      openRecord({ protocol: u32, role, client: optional(string), tracking: optional(tracking) }),
    )],
    openRecord({
      protocol: u32,
      server: string,
      role,
      debug: bool,
      regions: array(openRecord({ index: uint(0, 8), size: address }), 9),
      config: mapOf(value),
    }),
    "Opens the session; must be the first call. A second VMM gets EBUSY and may try again.",
  ),

  mmio_read: method("vmm", [region, offset, size], u64, "A guest load from a region of the device."),
  mmio_write: method("vmm", [region, offset, size, param("value", u64)], nil, "A guest store to a region."),
  mmio_write_many: method(
    "vmm",
    [region, param("writes", array(tuple(offset, size, param("value", u64)), MAX_WRITES))],
    nil,
    "Stores to one region, in order.",
  ),

  ram_map: method(
    "vmm",
    [param(
      "ram",
      record({
        gpa: address,
        size: address,
        path: optional(path),
        offset: optional(address),
        readonly: optional(bool),
        mfn: optional(frame),
      }),
    )],
    openRecord({ kind: oneOf("local", "file", "mapped"), mfn: frame }),
    "Adds guest RAM: the device's own without a path, else a file's. `mfn` is the host frame of its first page.",
  ),
  ram_unmap: method(
    "vmm",
    [param("ram", record({ gpa: address, size: address }))],
    nil,
    "Removes RAM that was added with exactly this address and size.",
  ),
  mem_read: method("any", [gpa, param("length", uint(0, MAX_BYTES))], bytes(MAX_BYTES), "Reads guest RAM."),
  mem_write: method(
    "vmm",
    [gpa, data],
    int,
    "A guest store: RAM first, then the page tracks (§4). The result is what they returned: 0, a negative errno, " +
      "or a user track's own value.",
  ),
  page_wrote: method(
    "vmm",
    [gpa, param("size", uint(0, MAX_BYTES))],
    int,
    "The VMM trapped a store that already reached shared RAM: only the page tracks. Result as mem_write.",
  ),

  reset: method("vmm", [], nil, "Resets the vGPU as a PCI function reset does."),
  submit: method(
    "vmm",
    [level, rootList],
    openRecord({ mm: u32, created: bool }),
    "What precedes a workload: find or create and reference, pin, sync, flush, unpin, unreference. An mm that " +
      "this call created (`created`) has ended again by the reply.",
  ),

  gvt_init_gtt: method("vmm", [], nil, "intel_gvt_init_gtt."),
  gvt_clean_gtt: method("vmm", [], nil, "intel_gvt_clean_gtt."),
  vgpu_init_gtt: method("vmm", [], nil, "intel_vgpu_init_gtt."),
  vgpu_clean_gtt: method("vmm", [], nil, "intel_vgpu_clean_gtt."),
  reset_ggtt: method("vmm", [], nil, "intel_vgpu_reset_ggtt."),
  reset_gtt: method("vmm", [], nil, "intel_vgpu_reset_gtt. Every mm handle is dead afterwards."),
  sync_oos_pages: method("vmm", [], nil, "intel_vgpu_sync_oos_pages."),
  flush_post_shadow: method("vmm", [], nil, "intel_vgpu_flush_post_shadow."),

  gtt_mmio_read: method(
    "vmm",
    [off, width],
    u64,
    "intel_vgpu_emulate_gtt_mmio_read; `off` is the device's MMIO offset.",
  ),
  gtt_mmio_write: method(
    "vmm",
    [off, width, param("value", u64)],
    nil,
    "intel_vgpu_emulate_gtt_mmio_write.",
  ),

  mm_create: method(
    "vmm",
    [level, param("roots", nullable(roots))],
    u32,
    "intel_vgpu_create_mm for a PPGTT; with nil, one without roots. The result is the mm's handle.",
  ),
  mm_destroy: method("vmm", [mm], nil, "intel_vgpu_destroy_mm, whatever its references."),
  mm_pin: method("vmm", [mm], nil, "intel_vgpu_pin_mm."),
  mm_unpin: method("vmm", [mm], nil, "intel_vgpu_unpin_mm."),
  mm_ref: method("vmm", [mm], nil, "Takes a reference."),
  mm_unref: method("vmm", [mm], count, "Drops a reference; the result is how many are left, 0: destroyed."),
  mm_find: method("vmm", [level, rootList], nullable(u32), "intel_vgpu_find_ppgtt_mm; nil: none."),
  g2v_create_ppgtt_mm: method("vmm", [level], nil, "intel_vgpu_g2v_create_ppgtt_mm; roots from PVINFO."),
  g2v_destroy_ppgtt_mm: method("vmm", [level], nil, "intel_vgpu_g2v_destroy_ppgtt_mm; roots from PVINFO."),
  gma_to_gpa: method(
    "any",
    [param("space", space), gma],
    nullable(u64),
    "intel_vgpu_gma_to_gpa; nil: INVALID_ADDR.",
  ),

  init_page_track: method("vmm", [gfn], u32, "intel_vgpu_init_page_track; the result is the track's handle."),
  clean_page_track: method("vmm", [track], nil, "intel_vgpu_clean_page_track."),
  enable_page_track: method("vmm", [track], nil, "Starts trapping the frame's stores for this track."),
  disable_page_track: method("vmm", [track], nil, "Stops trapping them for this track."),
  find_tracked_page: method(
    "vmm",
    [gfn],
    nullable(openRecord({ kind: oneOf("user", "ppgtt"), tracked: bool, track: optional(u32) })),
    "intel_vgpu_find_tracked_page; `track` is the handle of a user track.",
  ),

  ggtt_validate_range: method(
    "vmm",
    [addr, param("size", u64)],
    bool,
    "Whether a range lies within one window.",
  ),
  ggtt_gmadr_g2h: method("vmm", [addr], u64, "Guest address to host address."),
  ggtt_gmadr_h2g: method("vmm", [addr], u64, "Host address to guest address (`engine.md` §13, 4)."),
  ggtt_index_g2h: method("vmm", [index], u64, "Guest entry index to host entry index."),
  ggtt_index_h2g: method("vmm", [index], u64, "Host entry index to guest entry index."),

  stats: method("any", [], mapOf(count), "Counters and sizes, see below."),
  state: method("any", [], mapOf(value), "The engine's lists, as trace comparisons use them."),
  tree: method("any", [mm], mapOf(value), "One shadow tree, folded: a table already printed is only named."),
  translate: method(
    "any",
    [param("space", space), gma],
    mapOf(value),
    "One walk of guest and shadow, step by step.",
  ),
  registers: method("any", [], mapOf(value), "Every register that has a name, with its value."),
  snapshot: method(
    "any",
    [param("since", count), param("after", count), param("recheck", bool)],
    mapOf(value),
    "What has changed in page tables since a moment, guest and shadow, in bounded pieces (§4.1).",
  ),
  events: method(
    "any",
    [param("since", count)],
    mapOf(value),
    "What happened since event number `since`: notifications, submissions, syncs, faults, resets.",
  ),

  debug_init: method(
    "debug",
    [param("config", mapOf(value))],
    nil,
    "A fresh engine with this configuration, not yet initialised. EBUSY while another VMM drives the device.",
  ),
  debug_inject: method(
    "debug",
    [param(
      "fault",
      record({ kind: string, gfn: optional(frame), on: optional(bool), n: optional(int) }),
    )],
    nil,
    "Makes host services fail.",
  ),
  debug_poke: method("debug", [gpa, data], nil, "Stores to RAM behind the engine's back: no track is told."),
  debug_observe: method("debug", [], mapOf(value), "What a trace compares after each step."),
  debug_host_ggtt: method("debug", [index], mapOf(value), "One entry of the host's GGTT."),
  debug_scratch: method("debug", [], array(value, 64), "The scratch pages."),
  debug_set_pdps: method("debug", [rootList], nil, "Sets the PVINFO root registers without notifying."),
  debug_raise: method(
    "debug",
    [param("bank", string), param("bits", u32)],
    nil,
    "Raises interrupt events in a bank (`guest.md` §6), as the hardware behind it would.",
  ),
};

/** Every notification from the device to the VMM, by name. */
export const NOTICES = {
  page_track: notice(
    [gfn, param("on", bool)],
    "The VMM is to start (true) or stop trapping the guest's stores to this frame.",
  ),
  irq: notice([param("vector", u32)], "The device sends this MSI message; there is one, 0."),
  intx: notice([param("asserted", bool)], "The device raises (true) or lowers its interrupt line, INTA."),
  tracked_write: notice([track, gfn, gpa, param("size", u32)], "A store hit a page with a user's track."),
};

/** The name of a method. */
export type MethodName = keyof typeof METHODS;
/** The name of a notification from the device. */
export type NoticeName = keyof typeof NOTICES;
/** The parameters of a method, as a tuple. */
export type Params<M extends MethodName> = TupleOf<(typeof METHODS)[M]["params"]>;
/** The result of a method. */
export type Result<M extends MethodName> = (typeof METHODS)[M] extends
  Method<readonly Param<unknown>[], infer R> ? R : never;
/** The parameters of a notification, as a tuple. */
export type NoticeParams<N extends NoticeName> = TupleOf<(typeof NOTICES)[N]["params"]>;
/** The methods that may be sent as notifications: those whose result is nil. */
export type PostableName = { [M in MethodName]: Result<M> extends null ? M : never }[MethodName];

// A Map, so that "constructor" and "__proto__" are no methods.
const BY_NAME = new Map<string, Method>(Object.entries(METHODS));

/**
 * The row of a method.
 *
 * @param name A name as received.
 * @returns The row, or `undefined`.
 */
export function findMethod(name: string): Method | undefined {
  return BY_NAME.get(name);
}

/**
 * Checks the parameters of a call.
 *
 * @param name The method's name, for the message.
 * @param row The method's row, or a notification's.
 * @param params What was received.
 * @throws {RpcError} EINVAL that names the first parameter that is wrong.
 */
export function checkParams(
  name: string,
  row: Pick<Method, "params">,
  params: unknown,
): asserts params is readonly unknown[] {
  if (!Array.isArray(params)) throw new RpcError("EINVAL", `${name}: params must be an array`);
  const { length } = row.params;
  if (params.length !== length) {
    const list = row.params.map((p) => p.name).join(", ");
    throw new RpcError("EINVAL", `${name}: params must be [${list}]: got an array of ${params.length}`);
  }
  const wrong = elementsProblem(row.params, params);
  if (wrong !== null) throw new RpcError("EINVAL", `${name}: params${wrong}`);
}
