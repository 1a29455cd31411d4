import { assert, assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { RpcError } from "../../protocol/errors.ts";
import { type MethodName, METHODS } from "../../protocol/methods.ts";
import { Random } from "../model/random.ts";
import { Attached } from "../scenarios/attached.ts";
import { PAGE } from "../scenarios/guest_pages.ts";
import { assertContained } from "./isolation.ts";

/** Calls of one run. */
const CALLS = 4000;
/** Pages of guest RAM that hold tables and are stored to. */
const FRAMES = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x20, 0x3f] as const;
/** Two regions that come and go, one of which takes the other's host frames. */
const REGIONS = [{ gpa: 0x40000, size: 0x4000 }, { gpa: 0x80000, size: 0x4000, mfn: 0x100040 }] as const;
const LOW_RAM = 0x40000;

type Value = number | bigint;

/** Parameters from small pools, so that calls hit what earlier ones made. */
class Parameters {
  readonly #random: Random;
  /** The newest handles that the device gave. */
  #newestMm = 0;
  #newestTrack = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Takes note of a call's result, so that later calls name handles that exist. */
  learn(method: MethodName, result: unknown): void {
    if (method === "mm_create") this.#newestMm = result as number;
    if (method === "init_page_track") this.#newestTrack = result as number;
  }

  /** The parameters of one call of a method. */
  of(method: MethodName): unknown[] {
    if (method === "ram_map") return [this.#random.pick([...REGIONS, { gpa: 0, size: LOW_RAM }])];
    if (method === "ram_unmap") {
      const { gpa, size } = this.#random.pick(REGIONS);
      return [{ gpa, size }];
    }
    return METHODS[method].params.map(({ name }) => this.#named(name));
  }

  #named(name: string): unknown {
    const random = this.#random;
    switch (name) {
      case "region":
        return random.pick([0, 0, 0, 2, 2, 7, 1, 8]);
      case "offset":
        return random.pick([
          ...WINDOW,
          ...PVINFO,
          ...ACTING,
          0,
          0x10,
          0x90,
          0xff,
          0x1000 * random.below(32),
          0xfffff8,
          2 ** 40,
        ]);
      case "size":
        return random.pick([1, 2, 4, 4, 8, 8]);
      case "off":
        return random.pick([...WINDOW, 0x800000 + random.below(64), 0, 2 ** 45]);
      case "bytes":
        return random.pick([4, 8, 8, 1, 16]);
      case "value":
        return random.chance(0.3) ? random.below(9) : this.#entry();
      case "writes":
        return Array.from(
          { length: random.below(5) },
          () => [random.pick([...WINDOW, ...PVINFO]), random.pick([4, 8]), this.#entry()],
        );
      case "gpa":
        return this.#gpa();
      case "length":
        return random.pick([0, 1, 8, PAGE, 3 * PAGE]);
      case "data":
        return this.#data();
      case "level":
        return random.pick([3, 3, 4, 4, 4, 0, 5]);
      case "roots":
        return random.chance(0.05)
          ? [0, 0, 0, 0]
          : [0, 1, 2, 3].map((slot) => slot === 0 || random.chance(0.4) ? this.#root() : 0);
      case "mm":
        return this.#recent(this.#newestMm);
      case "track":
        return this.#recent(this.#newestTrack);
      case "space":
        return random.chance(0.3) ? "ggtt" : this.#recent(this.#newestMm);
      case "gma":
      case "addr":
        return random.pick<Value>([
          0,
          0x604000,
          0x8060_4000,
          0x80_8060_4000,
          0x1000,
          0x10000000,
          2n ** 64n - 1n,
          2 ** 47,
        ]);
      case "gfn":
        return random.pick([...FRAMES, 0x41, 0x81, 0x999, 2 ** 40 - 1]);
      case "index":
        return random.pick([0, 1, 0x10000, 0xfffff, 2 ** 40 - 1]);
      case "fault":
        return this.#fault();
      case "bank":
        return random.pick(["gt0", "gt1", "pch", "none"]);
      case "bits":
        return random.pick([1, 0x101, 0xffff_ffff]);
      case "since":
        return random.pick([0, 1, 100, 2 ** 53 - 1]);
      case "after":
        return random.pick([0, 1, 65535, 65536, 65537, 2 ** 53 - 1]);
      case "recheck":
        return random.chance(0.5);
      default:
        throw new Error(`no pool for a parameter named ${name}`);
    }
  }

  #recent(newest: number): number {
    return this.#random.chance(0.1) ? this.#random.below(100) : Math.max(0, newest - this.#random.below(6));
  }

  #gpa(): number {
    const random = this.#random;
    if (random.chance(0.05)) return random.pick([0x40000, 0x41008, 0x80000, 0x800000, 2 ** 46, 2 ** 52 - 1]);
    const within = random.chance(0.1)
      ? random.below(PAGE)
      : 8 * random.pick([0, 1, 2, 3, 4, 511]) + random.pick([0, 0, 0, 4]);
    return random.pick(FRAMES) * PAGE + within;
  }

  #data(): Uint8Array {
    const random = this.#random;
    if (random.chance(0.05)) return new Uint8Array(random.pick([0, 1, 3, 12, 100, PAGE]));
    const words = BigUint64Array.from({ length: random.pick([1, 1, 1, 2, 4]) }, () => BigInt(this.#entry()));
    return new Uint8Array(words.buffer).subarray(0, random.chance(0.25) ? 4 : words.byteLength);
  }

  #root(): Value {
    return this.#random.pick(FRAMES) * PAGE + this.#random.pick([0, 1, 3, 0x80, 0x81]);
  }

  #entry(): Value {
    const random = this.#random;
    if (random.chance(0.02)) {
      return random.pick<Value>([0, 1, 0x81, 2n ** 64n - 1n, 0x999003, 0x3fff_ffff_f003, 0x40003, 0x80003]);
    }
    return random.pick(FRAMES) * PAGE + random.pick([0, 1, 3, 3, 3, 0x3, 0x803]) +
      (random.chance(0.005) ? 0x80 : 0);
  }

  #fault(): unknown {
    const random = this.#random;
    const kind = random.pick([
      "invalid",
      "p2m",
      "read",
      "wp",
      "unwp",
      "alloc",
      "dma",
      "failsafe",
      "trackrc",
      "nothing",
    ]);
    if (["alloc", "dma"].includes(kind)) return { kind, n: random.below(3) };
    if (kind === "failsafe") return { kind, n: random.pick([0, 0, 0, 1]) };
    if (kind === "trackrc") return { kind, n: random.pick([0, -5]) };
    return { kind, gfn: random.pick(FRAMES), on: random.chance(0.15) };
  }
}

/** Entries of the GTT window around the edges of the vGPU's parts, aligned and not. */
const WINDOW = [0x800000, 0x800004, 0x800008, 0x800002, 0x8007f8, 0x800800, 0x880000, 0x8807f8] as const;
/** PVINFO registers; 0x808, which ends all emulation, is rare. */
const PVINFO = [0x78000, 0x78838, 0x78838, 0x7883c, 0x78840, 0x78818, 0x78818, 0x78ffc] as const;

/** Registers that act: the master of interrupts, a bank, TLB invalidation, reset. */
const ACTING = [0x44200, 0x44304, 0x44308, 0x4430c, 0x4260, 0x941c] as const;

/** Counters that tell that a run came to everything. */
const REACHED = [
  "mmsCreated",
  "tablesBuilt",
  "trappedStores",
  "flushed",
  "badTrappedStores",
  "ggttWrites",
] as const;

/** Rare methods: they undo what makes the others interesting. */
const RARE: readonly MethodName[] = [
  "reset",
  "reset_gtt",
  "vgpu_clean_gtt",
  "gvt_clean_gtt",
  "ram_unmap",
  "ram_map",
];

const METHOD_NAMES = (Object.keys(METHODS) as MethodName[]).filter((name) =>
  name !== "hello" && name !== "debug_init"
);
/** What a guest does most. */
const FREQUENT: readonly MethodName[] = [
  "mem_write",
  "mem_write",
  "mm_create",
  "debug_poke",
  "submit",
  "page_wrote",
];

function pickMethod(random: Random): MethodName {
  const method = random.chance(0.4) ? random.pick(FREQUENT) : random.pick(METHOD_NAMES);
  return RARE.includes(method) && random.chance(0.95) ? "mem_write" : method;
}

/** Calls a method; whatever is wrong with it is told by a typed error that blames the caller, not the device. */
async function attempt(
  client: Client,
  method: MethodName,
  parameters: Parameters,
  params: readonly unknown[],
): Promise<void> {
  try {
    parameters.learn(method, await client.call(method, ...params as never));
  } catch (error) {
    assert(error instanceof RpcError, `${method}: ${error}`);
    assert(
      !["EIO", "EPROTO", "ENOSYS", "EPERM"].includes(error.code),
      `${method}: ${error.code}: ${error.message}`,
    );
  }
}

for (const [seed, oos] of [[1, false], [2, true], [3, true]] as const) {
  Deno.test(`any calls with any parameters keep the device sound, seed ${seed}${oos ? ", out of sync" : ""}`, async () => {
    const windows = { apertureBase: 0, apertureSize: 1 << 20, hiddenBase: 256 << 20, hiddenSize: 1 << 20 };
    await using device = await Attached.start({
      device: { ...windows, oos, oosPoolPages: 2 },
      debug: true,
      ram: LOW_RAM,
    });
    const { vmm } = device;
    const observer = await device.connect("observer");
    const random = new Random(seed);
    const parameters = new Parameters(random);
    for (const region of REGIONS.slice(0, 1)) await vmm.call("ram_map", region);
    for (let i = 0; i < CALLS; i++) {
      const method = pickMethod(random);
      const params = parameters.of(method);
      await attempt(vmm, method, parameters, params);
      try {
        assertContained(device.service);
      } catch (error) {
        throw new Error(`after call ${i}, ${method} ${describe(params)}`, { cause: error });
      }
      if (i % 100 === 0) {
        assertEquals(typeof (await observer.call("stats"))["mms"], "number");
        await vmm.call("gvt_init_gtt").catch(() => {});
        await vmm.call("vgpu_init_gtt").catch(() => {});
        await vmm.call("debug_inject", { kind: "failsafe", n: 0 });
      }
    }
    // Enough of it did something.
    const stats = await observer.call("stats");
    for (const name of REACHED) assert(stats[name]! > 5, `${name}: ${stats[name]}`);
    if (oos) assert(stats["outOfSync"]! > 5, `outOfSync: ${stats["outOfSync"]}`);
  });
}

function describe(params: readonly unknown[]): string {
  return JSON.stringify(params, (_key, value: unknown) => {
    return typeof value === "bigint"
      ? `0x${value.toString(16)}`
      : value instanceof Uint8Array
      ? value.toHex()
      : value;
  });
}
