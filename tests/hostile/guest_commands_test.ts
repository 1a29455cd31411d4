import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../src/vgpu/device.ts";
import { Random } from "../model/random.ts";
import { ENGINE_NAMES, ENGINES, GDRST, Guest } from "../streamer/guest.ts";
import {
  BATCHES,
  CONTEXTS,
  FIRST_FRAME,
  FRAMES,
  GLOBAL,
  HostileCommands,
  RINGS,
  TABLE_COUNT,
  TABLES,
} from "./hostile_commands.ts";
import { assertContained } from "./isolation.ts";

const PAGE = 4096;
/** Steps of one run. */
const STEPS = 12_000;
/** Steps between two looks at everything. */
const LOOK = 40;
/** What pages that nobody may touch are full of. */
const CANARY = 0xc5;
/** Frames of such pages: around those of the hostile guest, and in RAM that may only be read. */
const CANARIES = [[0x1f0, 16], [FIRST_FRAME + FRAMES, 128], [0x400, 16]] as const;
const READ_ONLY = 0x7fff_0000;
/** RAM that comes and goes. */
const MOVING = { gpa: 0x1000_0000, size: 16 * PAGE };
/** Accesses to guest memory of a turn: see `tests/streamer/turns_test.ts`; by four engines. */
const MAX_ACCESSES = 4 * 256 * 20;

/** What a run must have come to, so that it means something. */
const REACHED = [
  "csCommands",
  "csFaults",
  "csBadReads",
  "csBadWrites",
  "csBlits",
  "csBadRegisterWrites",
] as const;

/** A guest that does what a random generator says. */
class HostileGuest {
  readonly guest: Guest;
  readonly commands: HostileCommands;
  readonly #random: Random;
  readonly #tails = new Array<number>(CONTEXTS).fill(0);

  constructor(guest: Guest, random: Random) {
    this.guest = guest;
    this.#random = random;
    this.commands = new HostileCommands(random);
  }

  get device(): Device {
    return this.guest.device.service.served.device;
  }

  /** Builds what later steps spoil: contexts, page tables, and a GGTT that leads to all of it. */
  build(): void {
    for (let page = 0; page < FRAMES; page++) this.#mapGlobal(page, (FIRST_FRAME + page) * PAGE + 1);
    for (let context = 0; context < CONTEXTS; context++) this.#writeContext(context);
    for (let table = 0; table < TABLE_COUNT; table++) {
      const isLeaf = table >= 12;
      const page = new BigUint64Array(PAGE / 8);
      for (let index = 0; index < (isLeaf ? FRAMES : 4); index++) {
        const next = isLeaf ? index : TABLES + 4 * Math.floor(table / 4) + 4 + index;
        page[index] = BigInt((FIRST_FRAME + next) * PAGE + 3);
      }
      this.device.store((FIRST_FRAME + TABLES + table) * PAGE, new Uint8Array(page.buffer));
    }
  }

  /** One thing that the guest does. */
  step(): void {
    const random = this.#random;
    const { commands, device } = this;
    switch (
      random.weighted({ batch: 25, ring: 25, store: 12, table: 8, global: 6, register: 16, submit: 8 })
    ) {
      case "batch":
        return this.#write(
          BATCHES + random.below(FRAMES - BATCHES),
          4 * random.below(900),
          commands.commands(),
        );
      case "ring":
        return this.#submitCommands(random.below(CONTEXTS));
      case "store":
        return this.#write(random.below(FRAMES), 4 * random.below(1023), [commands.dword()]);
      case "table": {
        const table = random.below(TABLE_COUNT);
        return this.#store(TABLES + table, 8 * random.below(FRAMES), ...commands.tableEntry(table));
      }
      case "global":
        return this.#mapGlobal(
          random.below(FRAMES),
          random.chance(0.9) ? commands.entry() | 1 : commands.dword(),
        );
      case "register": {
        const offset = commands.register();
        device.vgpu.write(0, offset, 4, commands.registerValue(offset), 0);
        return;
      }
      default:
        return this.#submit(commands.descriptor(), random.chance(0.2) ? commands.descriptor() : 0);
    }
  }

  /** What a driver does when engines hang: resets them, and makes contexts anew. */
  recover(): void {
    const { vgpu } = this.device;
    const mask = this.#random.chance(0.7) ? 1 : this.#random.below(32);
    vgpu.write(0, GDRST, 4, mask, 0);
    for (const engine of ENGINE_NAMES) {
      vgpu.write(0, ENGINES[engine].base + 0x29c, 4, 0x8000_8000, 0);
      vgpu.write(0, ENGINES[engine].base + 0x9c, 4, 0x0100_0000, 0);
    }
    vgpu.write(0, 0x4094, 4, 0, 0);
    this.build();
  }

  #writeContext(context: number): void {
    this.#tails[context] = 0;
    const values: readonly (readonly [number, number])[] = [
      ...[[0x03, 0x000f_0008], [0x05, 0], [0x07, 0], [0x09, GLOBAL + (RINGS + 2 * context) * PAGE]] as const,
      ...[[0x0b, 0x1001], [0x31, 0], [0x33, (FIRST_FRAME + TABLES + context % 4) * PAGE]] as const,
    ];
    for (const [index, value] of values) this.#write(2 * context + 1, 4 * index, [value]);
  }

  #submitCommands(context: number): void {
    const random = this.#random;
    const [lo, hi] = [(BATCHES + random.below(FRAMES - BATCHES)) * PAGE + 4 * random.below(900), 0];
    const commands = random.chance(0.6) ? [0x1880_0101, lo, hi, 0] : this.commands.commands();
    const tail = this.#tails[context]!;
    for (const [index, dword] of commands.entries()) {
      const at = (tail + 4 * index) % (2 * PAGE);
      this.#write(RINGS + 2 * context + Math.floor(at / PAGE), at % PAGE, [dword]);
    }
    this.#tails[context] = (tail + 4 * commands.length + 7 & ~7) % (2 * PAGE);
    this.#write(2 * context + 1, 4 * 7, [
      random.chance(0.97) ? this.#tails[context]! : this.commands.dword(),
    ]);
    this.#submit(GLOBAL + 2 * context * PAGE + 0x119, 0, 0x20 * context + 0x20);
  }

  #submit(first: number, second: number, id = 0x20 * this.#random.below(8)): void {
    const at = ENGINES[this.#random.pick(ENGINE_NAMES)].base + 0x230;
    for (const dword of [second === 0 ? 0 : 0x7e0, second, id, first]) {
      this.device.vgpu.write(0, at, 4, dword, 0);
    }
  }

  #write(page: number, offset: number, dwords: readonly number[]): void {
    for (const [index, dword] of dwords.entries()) {
      const at = offset + 4 * index;
      if (at >= PAGE) return;
      this.device.store((FIRST_FRAME + page) * PAGE + at, new Uint8Array(Uint32Array.of(dword).buffer));
    }
  }

  #store(page: number, offset: number, lo: number, hi: number): void {
    this.device.store((FIRST_FRAME + page) * PAGE + offset, new Uint8Array(Uint32Array.of(lo, hi).buffer));
  }

  #mapGlobal(page: number, entry: number): void {
    this.device.vgpu.write(0, 0x80_0000 + 8 * (GLOBAL / PAGE + page), 8, entry, 0);
  }
}

/** Fills pages that nobody may touch, and gives a check that nobody did. */
async function plantCanaries(guest: Guest): Promise<() => Promise<void>> {
  const path = `${guest.device.folder}/rom`;
  await Deno.writeFile(path, new Uint8Array(16 * PAGE).fill(CANARY));
  await guest.vmm.call("ram_map", { gpa: READ_ONLY, size: 16 * PAGE, path, readonly: true });
  await guest.vmm.call("ram_map", { gpa: 0x40_0000, size: 16 * PAGE });
  for (const [frame, count] of CANARIES) {
    await guest.vmm.call("mem_write", frame * PAGE, new Uint8Array(count * PAGE).fill(CANARY));
  }
  return async () => {
    for (const [frame, count] of [...CANARIES, [READ_ONLY / PAGE, 16] as const]) {
      const bytes = await guest.vmm.call("mem_read", frame * PAGE, count * PAGE);
      const touched = bytes.findIndex((byte) => byte !== CANARY);
      assertEquals(touched, -1, `frame 0x${frame.toString(16)}, byte ${touched}`);
    }
    const file = await Deno.readFile(path);
    assertEquals(file.every((byte) => byte === CANARY), true);
  };
}

/** Gives a turn, and counts the accesses to memory that engines make in it. */
function turn(device: Device): void {
  const { ram, vgpu } = device;
  let accesses = 0;
  const { read, write } = ram;
  ram.read = (gpa, out) => (accesses++, read.call(ram, gpa, out));
  ram.write = (gpa, bytes) => (accesses++, write.call(ram, gpa, bytes));
  try {
    vgpu.runEngines(256);
  } finally {
    ram.read = read;
    ram.write = write;
  }
  assert(accesses <= MAX_ACCESSES, `${accesses} accesses in a turn`);
}

for (
  const [seed, what, options] of [
    [1, "a guest whose stores are trapped", {}],
    [2, "a guest whose tables go out of sync", { device: { oos: true } }],
    [3, "a guest whose stores nobody traps", { tracking: "untracked" }],
    [4, "a guest with huge pages", { device: { hugePages: true } }],
    [5, "a guest with huge pages whose stores nobody traps", {
      device: { hugePages: true },
      tracking: "untracked",
    }],
  ] as const
) {
  Deno.test(`any commands of ${what} stay within its memory, and engines recover`, async () => {
    await using guest = await Guest.start(options);
    const assertUntouched = await plantCanaries(guest);
    const random = new Random(seed);
    const hostile = new HostileGuest(guest, random);
    hostile.build();
    const { device } = hostile;
    // Where stores are trapped, one bad entry is enough for a whole table to be refused.
    const recovers = "tracking" in options ? 0.02 : 0.1;
    let hasMoving = false;
    for (let i = 0; i < STEPS; i++) {
      hostile.step();
      if (random.chance(0.3)) turn(device);
      if (random.chance(recovers)) hostile.recover();
      if (random.chance(0.002)) {
        if (hasMoving) device.unmapRam(MOVING.gpa, MOVING.size);
        else device.mapRam(MOVING);
        hasMoving = !hasMoving;
      }
      if (i % LOOK !== 0) continue;
      assertContained(guest.device.service);
      guest.interrupts(); // lets the loop go round
      await guest.readAt(GDRST);
    }
    await assertUntouched();
    const stats = await guest.vmm.call("stats");
    for (const name of REACHED) assert(stats[name]! > 20, `${name}: ${stats[name]}`);
    const runs = ENGINE_NAMES.map((engine) =>
      stats[`submissions${engine[0]!.toUpperCase()}${engine.slice(1)}`]!
    );
    assert(runs.every((count) => count > 20), `${runs}`);

    // Where stores are trapped, an entry that was refused leaves the shadow as it was (`engine.md` §13, 15 and 19).
    if (!("tracking" in options)) guest.expectedMismatches = stats["verifyMismatches"]!;
    guest.expectedLate = null; // its batches write to its own tables
    // Whatever it did, a reset of all engines is enough for a driver that means well.
    await guest.writeAt(GDRST, 1);
    await guest.writeAt(0x4094, 0);
    for (const engine of ENGINE_NAMES) {
      await guest.resume(engine, await guest.mapGlobal(guest.statusPages[engine]));
      await guest.assertWorks(engine);
    }
    assertContained(guest.device.service);
  });
}
