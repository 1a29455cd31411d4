/**
 * Which part of an address space a strip shows, and how it moves: pure arithmetic.
 *
 * @module
 */

/** The addresses that a space has. */
export interface Extent {
  /** First address. */
  readonly from: number;
  /** Bytes. */
  readonly bytes: number;
}

/** The part that is shown. */
export interface View {
  /** First address, a multiple of the cells' size. */
  readonly from: number;
  /** Bytes of a cell: a power of two, 4 KiB to 512 GiB. */
  readonly cellBytes: number;
  /** Cells. */
  readonly cells: number;
}

/** Cells of a strip: as many as a table has entries, so that a cell can be an entry of each kind. */
const CELLS = 512;
const PAGE = 4096;
/** Fewest cells of 4 KiB: then each is as wide as a word. */
const MIN_CELLS = 16;

/** Bytes that a view shows. */
export function viewBytes({ cellBytes, cells }: View): number {
  return cellBytes * cells;
}

/**
 * All of a space.
 *
 * @param extent The space.
 *
 * @example Each cell of a whole PPGTT is 512 GiB
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { wholeView } from "./zoom.ts";
 *
 * assertEquals(wholeView({ from: 0, bytes: 2 ** 48 }), { from: 0, cellBytes: 2 ** 39, cells: 512 });
 * assertEquals(wholeView({ from: 0x28000000, bytes: 384 << 20 }), { from: 0x28000000, cellBytes: 2 ** 20, cells: 384 });
 * ```
 */
export function wholeView({ from, bytes }: Extent): View {
  const cellBytes = Math.max(PAGE, 2 ** Math.ceil(Math.log2(bytes / CELLS)));
  return { from, cellBytes, cells: Math.max(1, Math.ceil(bytes / cellBytes)) };
}

/**
 * A view that is larger or smaller by powers of two, around an address that stays where it is.
 *
 * @param extent The space.
 * @param view What is shown.
 * @param steps How often it is halved; negative: doubled.
 * @param around The address.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { wholeView, zoomed } from "./zoom.ts";
 *
 * const space = { from: 0, bytes: 2 ** 32 };
 * const whole = wholeView(space);
 * assertEquals(zoomed(space, whole, 1, 0), { from: 0, cellBytes: 2 ** 22, cells: 512 });
 * assertEquals(zoomed(space, whole, 30, 0), { from: 0, cellBytes: 4096, cells: 16 });
 * assertEquals(zoomed(space, zoomed(space, whole, 5, 2 ** 31), -9, 0), whole);
 * ```
 */
export function zoomed(extent: Extent, view: View, steps: number, around: number): View {
  const share = (around - view.from) / viewBytes(view);
  const span = 2 ** (Math.ceil(Math.log2(viewBytes(view))) - steps);
  return placed(extent, around - share * span, Math.max(span, MIN_CELLS * PAGE));
}

/**
 * A view that is moved.
 *
 * @param extent The space.
 * @param view What is shown.
 * @param bytes How far.
 */
export function moved(extent: Extent, view: View, bytes: number): View {
  const { cellBytes, cells } = view;
  const last = extent.from + extent.bytes - viewBytes(view);
  const from = Math.min(Math.max(view.from + bytes, extent.from), Math.max(last, extent.from));
  return { from: from - from % cellBytes, cellBytes, cells };
}

/**
 * A view of so many bytes.
 *
 * @param extent The space.
 * @param from Where it should begin.
 * @param span How much it should show: a power of two.
 */
export function placed(extent: Extent, from: number, span: number): View {
  const whole = wholeView(extent);
  if (span >= viewBytes(whole)) return whole;
  const cells = Math.min(CELLS, span / PAGE);
  return moved(extent, { from, cellBytes: span / cells, cells }, 0);
}

/** The view of 2 MiB, one table of pages, that an address is in. */
export function tableView(extent: Extent, gma: number): View {
  const span = CELLS * PAGE;
  return placed(extent, gma - gma % span, span);
}
