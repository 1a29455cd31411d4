import { assertEquals } from "@std/assert";
import { createDevice } from "../../mod.ts";
import { type AddressSpace, GraphicsAccess, NOWHERE } from "../../src/streamer/graphics_access.ts";
import { Random } from "../model/random.ts";
import { counting, Guest, KINDS, testKinds } from "./memory_kinds.ts";

const PAGE = 4096;
/** Pages of the address space: each leads to a frame of its own, some of which follow one another, or nowhere. */
const FRAMES = [7, 8, 2, NOWHERE, 11, 4, 5, 6, 0] as const;
const READ_ONLY_PAGE = 4;
const BASE = 2 ** 47 + 8 * PAGE;
const END = FRAMES.length * PAGE;
/** RAM is two regions that touch: frames 0 to 5, and 6 to 11. */
const REGION_BYTES = 6 * PAGE;

/** An address space whose translations are known by hand. */
class Space implements AddressSpace {
  resolve(gma: number, forWriting: boolean): number {
    const page = Math.floor((gma - BASE) / PAGE);
    const frame = FRAMES[page] ?? NOWHERE;
    if (frame === NOWHERE || (forWriting && page === READ_ONLY_PAGE)) return NOWHERE;
    return frame * PAGE + (gma - BASE) % PAGE;
  }
}

/** What the space holds, by the byte. */
class Model {
  readonly bytes = counting(END);

  constructor() {
    this.bytes.fill(0, 3 * PAGE, 4 * PAGE);
  }

  /** Copies as if everything had been read before. */
  copy(from: number, to: number, size: number): void {
    const before = this.bytes.slice(from, from + size);
    for (let i = 0; i < size; i++) {
      const page = Math.floor((to + i) / PAGE);
      if (FRAMES[page] !== NOWHERE && page !== READ_ONLY_PAGE) this.bytes[to + i] = before[i]!;
    }
  }
}

/** Memory of a kind that holds what a new model does, and a way to it. */
function start(guest: Guest) {
  const device = createDevice();
  guest.map(0, REGION_BYTES);
  guest.map(REGION_BYTES, REGION_BYTES);
  const model = new Model();
  FRAMES.forEach((frame, page) => {
    if (frame !== NOWHERE) {
      guest.ram.write(frame * PAGE, model.bytes.subarray(page * PAGE, (page + 1) * PAGE));
    }
  });
  const counters = { csBadReads: 0, csBadWrites: 0 };
  return {
    model,
    counters,
    access: new GraphicsAccess(device.vgpu.gtt, guest.ram, counters),
    space: new Space(),
  };
}

/** Everything that the space holds. */
function contents(access: GraphicsAccess, space: Space): Uint8Array {
  const bytes = new Uint8Array(END);
  access.read(space, BASE, bytes);
  return bytes;
}

testKinds("copy() is as if everything had been read before, wherever it goes", KINDS, (kind) => {
  using guest = new Guest(kind);
  const { model, access, space } = start(guest);
  const random = new Random(11);
  for (let run = 0; run < 200; run++) {
    const size = 1 + random.below(random.pick([16, 300, PAGE, 3 * PAGE]));
    const [from, to] = [random.below(END - size), random.below(END - size)];
    const isBackward = to > from;

    access.copy(space, BASE + from, BASE + to, size, isBackward);

    model.copy(from, to, size);
    assertEquals(contents(access, space), model.bytes, `${size} bytes from ${from} to ${to}`);
  }
});

testKinds("copy() reads 0 where nothing is mapped, and says so once a piece", KINDS, (kind) => {
  using guest = new Guest(kind);
  const { access, space, counters } = start(guest);
  const out = new Uint8Array(6);

  access.copy(space, BASE + 3 * PAGE - 3, BASE + 5, 6, false);

  access.read(space, BASE + 5, out);
  assertEquals(out, Uint8Array.of(...counting(3 * PAGE).slice(-3), 0, 0, 0));
  assertEquals(counters, { csBadReads: 1, csBadWrites: 0 });
  assertEquals([access.faultAddress, access.faultSpace === space], [BASE + 3 * PAGE, true]);
});

testKinds(
  "copy() drops what leads nowhere, which is a fault, or to a read-only page, which is none",
  KINDS,
  (kind) => {
    using guest = new Guest(kind);
    const { access, space, counters, model } = start(guest);

    access.copy(space, BASE, BASE + READ_ONLY_PAGE * PAGE, PAGE, false);
    assertEquals([counters.csBadReads, counters.csBadWrites, access.faultAddress], [0, 1, NOWHERE]);
    access.copy(space, BASE, BASE + 3 * PAGE, PAGE, false);
    assertEquals([counters.csBadReads, counters.csBadWrites, access.faultAddress], [0, 2, BASE + 3 * PAGE]);

    assertEquals(contents(access, space), model.bytes);
  },
);

Deno.test("copy() tells whoever tracks a page of what was stored there", () => {
  using device = createDevice();
  device.mapRam({ gpa: 0, size: 12 * PAGE });
  const { gtt } = device.vgpu;
  const access = new GraphicsAccess(gtt, device.ram, { csBadReads: 0, csBadWrites: 0 });
  const stores: number[][] = [];
  gtt.enablePageTrack(gtt.initPageTrack(8, (_, gpa, bytes) => (stores.push([gpa, bytes]), 0)));

  access.copy(new Space(), BASE + 100, BASE + PAGE + 8, 8, false);
  access.copy(new Space(), BASE + 100, BASE + PAGE + 6, 8, false);
  access.copy(new Space(), BASE + 100, BASE + PAGE - 10, 30, false);

  assertEquals(stores, [[8 * PAGE + 8, 8], [8 * PAGE + 6, 8], [8 * PAGE, 20]]);
});
