/**
 * Commands, contexts, tables and register writes of a guest that means harm, from small pools so that they meet.
 *
 * @module
 */

import type { Random } from "../model/random.ts";
import { FOREIGN, HIDDEN } from "../streamer/guest.ts";

/** Bytes a page. */
const PAGE = 4096;
/** The first of the frames that the hostile guest uses; nothing that it says names others below 1 GiB. */
export const FIRST_FRAME = 0x200;
/** How many there are. */
export const FRAMES = 128;
/** Where they are in the GGTT, in order; the last of them is all that is mapped there at first. */
export const GLOBAL = HIDDEN + (16 << 20);
/** Contexts of two pages each, from {@linkcode FIRST_FRAME} on. */
export const CONTEXTS = 8;
/** The first page of rings, of which each context has two. */
export const RINGS = 2 * CONTEXTS;
/** The first page of page tables: roots, and one table of each lower level. */
export const TABLES = 4 * CONTEXTS;
/** Page tables: four roots, then the others. */
export const TABLE_COUNT = 16;
/** The first page of batches and data. */
export const BATCHES = TABLES + TABLE_COUNT;

/** Offsets of registers from an engine's base: those that act, and one that does not. */
const ENGINE_OFFSETS = [
  0x30,
  0x34,
  0x80,
  0x9c,
  0xa8,
  0xb0,
  0xb4,
  0xd0,
  0x234,
  0x270,
  0x29c,
  0x358,
  0x370,
  0x3a0,
  0x600,
];
const BASES = [0x2000, 0x12000, 0x1a000, 0x22000];
/** Registers around them. */
const OTHER_OFFSETS = [
  0x4080,
  0x4094,
  0x4260,
  0x44200,
  0x44304,
  0x44308,
  0x4430c,
  0x78838,
  0x78818,
  0x100000,
  0x45404,
];

/** First dwords of commands that do something, of which bits are changed now and then. */
const HEADS = [
  ...[0x1000_0002, 0x1020_0003, 0x1040_0002, 0x1000_0021, 0x1080_0001, 0x10a0_0001, 0x1100_0001, 0x1100_0007],
  ...[0x1200_0002, 0x1240_0002, 0x1480_0002, 0x14c0_0002, 0x1500_0001, 0x1300_4002, 0x1320_4003, 0x1300_c103],
  ...[0x1700_0003, 0x1760_0003, 0x1780_0501, 0x1788_2e01, 0x1784_0709, 0x17c4_0509, 0x0d00_0005, 0x0600_0082],
  ...[0x0e00_8002, 0x0e00_c002, 0x1b20_0002, 0x1880_0101, 0x18c0_0101, 0x1880_0001, 0x1880_8101, 0x0500_0000],
  ...[0x0100_0000, 0x0280_0000, 0x0000_0000, 0x7a00_0004, 0x5430_0005, 0x54f0_0008, 0x5080_0008, 0x7808_0003],
];

/** What a hostile guest says, one thing after another. */
export class HostileCommands {
  readonly #random: Random;

  /** From this source. */
  constructor(random: Random) {
    this.#random = random;
  }

  /** Any dword. */
  dword(): number {
    const random = this.#random;
    const kind = random.below(10);
    if (kind < 3) return random.pick([0, 0, 1, 2, 4, 0x40, 0xfff, 0x1000, 0x8000_0000, 0xffff_ffff]);
    if (kind < 6) return this.entry();
    if (kind < 8) return this.address()[0];
    if (kind < 9) return random.pick(HEADS);
    // Above 1 GiB: no frame that holds a canary.
    return (0x4000_0000 + random.below(0x4000_0000)) * 2 % 2 ** 32 + random.below(2);
  }

  /** A frame of the guest's, as an entry or a root. */
  entry(): number {
    const random = this.#random;
    const frame = FIRST_FRAME + random.below(FRAMES);
    return frame * PAGE + random.pick([3, 3, 3, 3, 1, 0, 0x83, 0x803, 0x19]);
  }

  /** An entry of a table: mostly one that leads to the next level's. */
  tableEntry(table: number): [lo: number, hi: number] {
    const random = this.#random;
    const next = table < 4 ? 4 : table < 12 ? 4 * Math.floor(table / 4) + 4 : FRAMES;
    const isOrdinary = random.chance(0.95);
    const page = next < 16 ? TABLES + next + random.below(4) : random.below(FRAMES);
    const lo = isOrdinary ? (FIRST_FRAME + page) * PAGE + random.pick([3, 3, 3, 1]) : this.dword();
    return [lo, random.chance(0.02) ? random.pick([1, 0x7f, 0xffff_ffff]) : 0];
  }

  /** A graphics address: of either table, of none, at edges. */
  address(): [lo: number, hi: number] {
    const random = this.#random;
    const offset = random.pick([0, 4, 8, 0x40, 0x7c, 0xff8, 0xffc, 0xffe, 0x123, 4 * random.below(1024)]);
    const kind = random.below(12);
    if (kind < 6) return [random.below(FRAMES) * PAGE + offset, random.pick([0, 0, 0, 0, 0xffff])];
    if (kind < 10) return [GLOBAL + random.below(FRAMES) * PAGE + offset, 0];
    if (kind < 11) return [random.pick([FOREIGN, 0xffff_fffc, HIDDEN - 4, 0xffff_f000]) + offset % 4, 0];
    return [random.pick([0, 0xffff_fffc, 0x2345_6000]), random.pick([1, 0xffff, 0x7fff, 0xffff_ffff])];
  }

  /** Commands, mostly such as there are, with an end of some kind. */
  commands(): number[] {
    const random = this.#random;
    const dwords: number[] = [];
    const count = 1 + random.below(12);
    for (let i = 0; i < count; i++) dwords.push(...this.#command());
    const [lo, hi] = this.address();
    dwords.push(...random.pick([[0x0500_0000], [0x0500_0000], [0x0280_0000, 0x1880_0101, lo, hi], []]));
    return dwords;
  }

  #command(): number[] {
    const random = this.#random;
    let head = random.pick(HEADS);
    if (random.chance(0.05)) head = (head ^ 1 << random.below(32)) >>> 0;
    const isShort = head >>> 29 === 0 && head >>> 23 < 0x10;
    const length = isShort ? 0 : Math.min((head & 0xff) + 1, 40);
    const dwords = [head];
    for (let i = 0; i < length; i++) {
      if (random.chance(0.4) && i + 1 < length) dwords.push(...this.address());
      else {dwords.push(
          random.chance(0.3) ? this.register() : random.chance(0.2) ? this.blitDword() : this.dword(),
        );}
    }
    return dwords.slice(0, length + 1);
  }

  /** Corners, pitches and raster operations. */
  blitDword(): number {
    const random = this.#random;
    return random.pick([
      0x03cc_1000,
      0x03f0_0040,
      0x0366_8010,
      0x0001_0001,
      0x0010_0400,
      0x7fff_7fff,
      0x8000_8000,
      0x40,
    ]);
  }

  /** Offset of a register. */
  register(): number {
    const random = this.#random;
    if (random.chance(0.1)) return 4 * random.below(0x80000);
    return random.chance(0.8) ? random.pick(BASES) + random.pick(ENGINE_OFFSETS) : random.pick(OTHER_OFFSETS);
  }

  /** A value for a register, also for those that need one of their own. */
  registerValue(offset: number): number {
    const random = this.#random;
    if (offset === 0x78818) return random.pick([2, 3, 4, 4, 5, 5, 9]);
    if (offset === 0x78838) return (FIRST_FRAME + TABLES + random.below(4)) * PAGE;
    if ((offset & 0xfff) === 0x80) return GLOBAL + random.below(FRAMES) * PAGE;
    return random.pick([0x0100_0100, 0x0100_0000, 0x8000_8000, 0xffff_0505, 0, 1, this.dword()]);
  }

  /** The lower half of a descriptor. */
  descriptor(): number {
    const random = this.#random;
    const flags = random.chance(0.9) ? random.pick([0x119, 0x119, 0x109]) : random.below(4096);
    const page = random.chance(0.9) ? 2 * random.below(CONTEXTS) : random.below(FRAMES);
    return GLOBAL + page * PAGE + flags;
  }
}
