/**
 * Trapping the guest's stores to single pages, with KVM's memory slots.
 *
 * KVM protects slots, not pages, so RAM is cut into slots at every protected page: `RW`, `RO`, `RW`, … What the device asks for
 * (`page_track`) is only noted; {@linkcode MemorySlots.commit}, called before the guest runs on, compares the slots that there
 * should be with those that there are and replaces what differs. A page that was protected and freed in between costs nothing,
 * and neighbours share a slot.
 *
 * A slot cannot be cut, joined or made read-only: it is deleted and made anew, while the vCPU is not running.
 *
 * @module
 */

import { type GuestRam, PAGE, type RamRegion } from "./guest_ram.ts";
import type { Vm } from "./kvm.ts";

/** A run of pages that are all protected, or all not. */
export interface Slot extends RamRegion {
  /** Whether a store is an exit. */
  readonly isReadOnly: boolean;
}

/** The slots of a virtual machine. */
export class MemorySlots {
  /** Pages whose stores the device wants to know. */
  readonly protectedPages = new Set<number>();
  /** How often a slot was made or deleted. */
  changes = 0;
  /** How long each {@linkcode commit} took that changed something, milliseconds. */
  readonly durations: number[] = [];
  readonly #vm: Vm;
  readonly #ram: GuestRam;
  readonly #maxSlots: number;
  /** The slots that there are, by number; by their text, so that equal ones are found. */
  readonly #slots = new Map<string, number>();
  readonly #freeNumbers: number[] = [];
  #isStale = true;

  /**
   * @param vm A machine without slots.
   * @param ram What its guest is to see.
   * @param maxSlots How many slots there may be.
   */
  constructor(vm: Vm, ram: GuestRam, maxSlots: number) {
    this.#vm = vm;
    this.#ram = ram;
    this.#maxSlots = maxSlots;
  }

  /** How many slots there are. */
  get count(): number {
    return this.#slots.size;
  }

  /** Notes that stores to a page are to be trapped, or no longer. @param gfn The page's number. */
  protect(gfn: number, on: boolean): void {
    if (on) this.protectedPages.add(gfn);
    else this.protectedPages.delete(gfn);
    this.#isStale = true;
  }

  /** Brings the slots up to date. The vCPU must not be running. */
  commit(): void {
    if (!this.#isStale) return;
    this.#isStale = false;
    const begin = performance.now();
    const wanted = new Map(
      planSlots(this.#ram.regions, this.protectedPages, this.#maxSlots).map((slot) => [nameOf(slot), slot]),
    );
    // First delete, then make: slots may not overlap, and there may be no number left.
    for (const [name, number] of this.#slots) {
      if (wanted.has(name)) continue;
      this.#set(number, 0, 0, false);
      this.#slots.delete(name);
      this.#freeNumbers.push(number);
    }
    for (const [name, slot] of wanted) {
      if (this.#slots.has(name)) continue;
      const number = this.#freeNumbers.pop() ?? this.#slots.size;
      this.#set(number, slot.gpa, slot.size, slot.isReadOnly);
      this.#slots.set(name, number);
    }
    this.durations.push(performance.now() - begin);
  }

  #set(number: number, gpa: number, size: number, isReadOnly: boolean): void {
    const address = size === 0 ? 0n : this.#ram.memory.address + BigInt(this.#ram.offsetOf(gpa));
    this.#vm.setSlot(number, gpa, size, address, isReadOnly);
    this.changes++;
  }
}

/**
 * Cuts RAM into slots so that every protected page is in a read-only one.
 *
 * Where that takes more slots than there may be, larger and larger blocks are protected as a whole. That only costs exits:
 * a store to a page that nobody asked for is done by the VMM, and the device is not told.
 *
 * @param regions RAM.
 * @param protectedPages Numbers of protected pages; those that are no RAM do not matter.
 * @param maxSlots How many slots there may be, at least one for each region.
 * @returns The slots in order of address.
 */
export function planSlots(
  regions: readonly RamRegion[],
  protectedPages: Iterable<number>,
  maxSlots: number,
): Slot[] {
  const sorted = [...protectedPages].map((gfn) => gfn * PAGE).sort((a, b) => a - b);
  for (let block = PAGE;; block *= 2) {
    const slots = regions.flatMap((region) => cut(region, sorted, block));
    if (slots.length <= maxSlots) return slots;
    if (slots.length <= regions.length) {
      throw new Error(`${maxSlots} slots are too few for ${regions.length} regions`);
    }
  }
}

/** Cuts a region at the blocks that hold a protected page. */
function cut({ gpa, size }: RamRegion, pages: readonly number[], block: number): Slot[] {
  const slots: Slot[] = [];
  const end = gpa + size;
  let at = gpa;
  const add = (until: number, isReadOnly: boolean) => {
    if (until > at) slots.push({ gpa: at, size: until - at, isReadOnly });
    at = Math.max(at, until);
  };
  // Blocks that touch become one slot: what is cut is the runs of them.
  for (let i = 0; i < pages.length;) {
    const start = Math.max(floor(pages[i]!, block), gpa);
    let stop = floor(pages[i]!, block) + block;
    for (i++; i < pages.length && floor(pages[i]!, block) <= stop; i++) {
      stop = floor(pages[i]!, block) + block;
    }
    if (stop <= gpa || start >= end) continue;
    add(start, false);
    add(Math.min(stop, end), true);
  }
  add(end, false);
  return slots;
}

function floor(address: number, block: number): number {
  return address - address % block;
}

function nameOf({ gpa, size, isReadOnly }: Slot): string {
  return `${gpa} ${size} ${isReadOnly}`;
}
