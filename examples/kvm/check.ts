/**
 * Guest walk = shadow walk: what the guest's own tables say, compared with where the device's shadow leads.
 *
 * The check sees what a VMM sees: the guest's memory, and its stores to the GTT window and to PVINFO, from which it knows the
 * GGTT and the page tables that the guest has announced.
 *
 * @module
 */

import { type DeviceLink, GTT_WINDOW, onWire, Region } from "./device_link.ts";
import { type GuestRam, PAGE } from "./guest_ram.ts";
import { type AddressSpace, tellingAddresses, walk } from "./guest_walk.ts";

/** What one check found. */
export interface CheckResult {
  /** Page tables that are announced. */
  readonly spaces: number;
  /** Addresses compared. */
  readonly checked: number;
  /** Those that lead elsewhere. */
  readonly wrong: number;
  /** What is wrong with the first few. */
  readonly problems: readonly string[];
}

/** Registers of the PVINFO page, as offsets in region 0. */
const PVINFO = { WINDOWS: 0x7_8040, NOTIFY: 0x7_8818, PDP: 0x7_8838, END: 0x7_8858 } as const;
/** Notifications by which a guest announces or takes back a page table: its level and whether it begins. */
const NOTIFICATIONS = new Map<bigint, readonly [level: number, begins: boolean]>([
  [2n, [3, true]],
  [3n, [3, false]],
  [4n, [4, true]],
  [5n, [4, false]],
]);
const PRESENT = 1n;
const FRAME = 0x3fff_ffff_f000n;
/** Addresses looked at in one page table. */
const MOST = 4000;
const MOST_PROBLEMS = 5;
/** Where in a page: anywhere would do. */
const OFFSET = 0x2a8n;

/** Where the device says that an address leads. */
interface Told {
  /** By the guest's tables, as the device reads them. */
  readonly guest: number | null;
  /** By the shadow: a host frame, or the name of a scratch page. */
  readonly shadow: string | null;
}

/** Compares a device with its guest. */
export class TranslationCheck {
  /** Page tables that the guest has announced and not taken back. */
  readonly spaces: AddressSpace[] = [];
  readonly #device: DeviceLink;
  readonly #ram: GuestRam;
  /** Host frame of the first page of each region of RAM. */
  readonly #hostFrames: readonly number[];
  readonly #pdp = new DataView(new ArrayBuffer(PVINFO.END - PVINFO.PDP));
  readonly #ggtt = new Map<number, bigint>();

  /**
   * @param device A connection as VMM.
   * @param ram Guest RAM.
   * @param hostFrames What `ram_map` answered as `mfn`, region by region.
   */
  constructor(device: DeviceLink, ram: GuestRam, hostFrames: readonly number[]) {
    this.#device = device;
    this.#ram = ram;
    this.#hostFrames = hostFrames;
  }

  /** The guest stores to a region of the device. */
  sawStore(region: number, offset: number, size: number, value: bigint): void {
    if (region !== Region.REGISTERS) return;
    if (offset >= GTT_WINDOW) this.#sawGgtt(offset - GTT_WINDOW, size, value);
    else if (offset >= PVINFO.PDP && offset + size <= PVINFO.END) {
      for (let i = 0; i < size; i++) {
        this.#pdp.setUint8(offset - PVINFO.PDP + i, Number(value >> BigInt(8 * i) & 0xffn));
      }
    } else if (offset === PVINFO.NOTIFY) this.#sawNotification(value);
  }

  #sawGgtt(at: number, size: number, value: bigint): void {
    const shift = BigInt(8 * (at % 8));
    const mask = (1n << BigInt(8 * size)) - 1n << shift;
    const index = Math.floor(at / 8);
    this.#ggtt.set(index, (this.#ggtt.get(index) ?? 0n) & ~mask | value << shift);
  }

  #sawNotification(code: bigint): void {
    const notification = NOTIFICATIONS.get(code);
    if (notification === undefined) return;
    const [level, begins] = notification;
    const roots = [0, 8, 16, 24].map((at) => this.#pdp.getBigUint64(at, true));
    const used = level === 4 ? 1 : 4;
    const isSame = (space: AddressSpace) =>
      space.level === level && space.roots.slice(0, used).every((root, i) => root === roots[i]);
    const known = this.spaces.findIndex(isSame);
    if (begins && known < 0) this.spaces.push({ level, roots });
    if (!begins && known >= 0) this.spaces.splice(known, 1);
  }

  /** What precedes a workload: half stores and tables out of sync are carried out, for every page table. */
  async submit(): Promise<void> {
    for (const { level, roots } of this.spaces) {
      await this.#device.call("submit", level, roots.map(onWire) as [number, number, number, number]);
    }
  }

  /** Compares everything. */
  async compare(): Promise<CheckResult> {
    const problems: string[] = [];
    let checked = 0;
    let wrong = 0;
    const tell = (problem: string | null) => {
      checked++;
      if (problem !== null && wrong++ < MOST_PROBLEMS) problems.push(problem);
    };
    (await this.#compareGgtt()).forEach(tell);
    for (const space of this.spaces) (await this.#compareSpace(space)).forEach(tell);
    return { spaces: this.spaces.length, checked, wrong, problems };
  }

  /** One line or `null` for each entry that the guest stored. */
  async #compareGgtt(): Promise<(string | null)[]> {
    const read = (offset: number) =>
      this.#device.read(Region.REGISTERS, PVINFO.WINDOWS + offset, 4).then(Number);
    const [low, lowSize, high, highSize] = await Promise.all([0, 4, 8, 12].map(read));
    const isOurs = (gma: number) =>
      gma >= low! && gma < low! + lowSize! || gma >= high! && gma < high! + highSize!;
    return await Promise.all([...this.#ggtt].map(([index, stored]) => {
      const gma = index * PAGE;
      // Stores outside the vGPU's parts are dropped.
      const entry = isOurs(gma) ? stored : null;
      const gpa = entry === null || (entry & PRESENT) === 0n ? null : Number(entry & FRAME | OFFSET);
      // The GGTT's gma_to_gpa does not ask whether an entry is present.
      const translated = entry === null ? null : Number(entry & FRAME | OFFSET);
      return this.#compareOne("ggtt", BigInt(gma), gpa, translated);
    }));
  }

  /** One line or `null` for each address of a page table that tells something. */
  async #compareSpace(space: AddressSpace): Promise<(string | null)[]> {
    const roots = space.roots.map(onWire) as [number, number, number, number];
    const mm = await this.#device.call("mm_find", space.level, roots);
    if (mm === null) {
      return [`the device does not know the ${space.level}-level table at 0x${space.roots[0]!.toString(16)}`];
    }
    return await Promise.all(
      tellingAddresses(this.#ram, space, MOST).map((gma) => {
        const gpa = walk(this.#ram, space, gma | OFFSET);
        return this.#compareOne(mm, gma, gpa, gpa);
      }),
    );
  }

  /**
   * @param space The handle of an mm, or the GGTT.
   * @param gma Address of a page.
   * @param gpa Where its byte {@linkcode OFFSET} leads by the guest's tables, or `null`.
   * @param translated What `gma_to_gpa` should answer.
   */
  async #compareOne(
    space: number | "ggtt",
    gma: bigint,
    gpa: number | null,
    translated: number | null,
  ): Promise<string | null> {
    const address = onWire(gma | OFFSET);
    const [told, found] = await Promise.all([
      this.#device.call("translate", space, address) as Promise<unknown> as Promise<Told>,
      this.#device.call("gma_to_gpa", space, address),
    ]);
    const wanted = gpa === null ? null : this.#hostFrame(gpa);
    const isScratch = told.shadow === null || !told.shadow.startsWith("0x");
    const isRight = (wanted === null ? isScratch : told.shadow === `0x${wanted.toString(16)}`) &&
      told.guest === gpa && found === translated;
    if (isRight) return null;
    return `${space === "ggtt" ? "GGTT" : `mm ${space}`}, 0x${gma.toString(16)}: the guest's tables say ${
      text(gpa)
    }, ` +
      `host frame ${text(wanted)}; the device says ${
        text(told.guest)
      }, host frame ${told.shadow}, gma_to_gpa ${text(found)}`;
  }

  /** The host frame of a guest address, or `null` if that is no RAM. */
  #hostFrame(gpa: number): number | null {
    const at = this.#ram.regions.findIndex((region) => gpa >= region.gpa && gpa < region.gpa + region.size);
    return at < 0 ? null : this.#hostFrames[at]! + Math.floor((gpa - this.#ram.regions[at]!.gpa) / PAGE);
  }
}

function text(value: number | bigint | null): string {
  return value === null ? "nothing" : `0x${value.toString(16)}`;
}
