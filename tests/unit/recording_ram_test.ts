import { assertEquals, assertThrows } from "@std/assert";
import { PageCopy } from "../../src/gtt/page_copy.ts";
import type { Backing, BackingKind } from "../../src/memory/backing.ts";
import { MemoryBacking } from "../../src/memory/memory_backing.ts";
import { type AccessLog, RecordingRam } from "../../src/memory/recording_ram.ts";
import { ReplayRam } from "../../src/memory/replay_ram.ts";
import type { RamMap } from "../../src/memory/ram_map.ts";
import { SparseBacking } from "../../src/memory/sparse_backing.ts";
import { PageLimitError, type PageRun } from "../../src/memory/sparse_pages.ts";
import { Random } from "../model/random.ts";

const PAGE = 4096;
const PAGES = 6;
/** Where memory of others begins; below it is the device's own. */
const SHARED = 2 * PAGE;

type Found = { readonly gpa: number; readonly runs: readonly PageRun[] } | "failed";

/** What was recorded, by access. */
class Log implements AccessLog {
  isOpen = true;
  accesses = 0;
  readonly found: [access: number, what: Found][] = [];

  changed(access: number, gpa: number, runs: readonly PageRun[]): void {
    this.found.push([access, { gpa, runs }]);
  }

  failed(access: number): void {
    this.found.push([access, "failed"]);
  }
}

/** Memory whose owner never rests: it is another after each look at it. */
class Restless extends SparseBacking {
  readonly #random = new Random(7);

  override readEntry(at: number, out: Uint32Array): boolean {
    return super.readEntry(at, out) && this.#change(at);
  }

  override holdsPage(at: number, copy: PageCopy): boolean {
    const holds = super.holdsPage(at, copy);
    this.#change(at);
    return holds;
  }

  override read(at: number, out: Uint8Array): boolean {
    return super.read(at, out) && this.#change(at);
  }

  #change(at: number): boolean {
    this.pages.set(at, new Uint8Array(this.#random.below(64)).fill(this.#random.below(2)));
    return true;
  }
}

/** The same, of memory of this process: it is another after each look and each copy. */
class RestlessMemory extends MemoryBacking {
  readonly #random = new Random(7);
  readonly #memory: Uint8Array;

  constructor(buffer: ArrayBuffer) {
    super("mapped", buffer, false);
    this.#memory = new Uint8Array(buffer);
  }

  override copyFrom(source: MemoryBacking, from: number, to: number, length: number): boolean {
    return super.copyFrom(source, from, to, length) && this.#change(from) && this.#change(to);
  }

  override holdsPage(at: number, copy: PageCopy): boolean {
    const holds = super.holdsPage(at, copy);
    this.#change(at);
    return holds;
  }

  override read(at: number, out: Uint8Array): boolean {
    return super.read(at, out) && this.#change(at);
  }

  #change(at: number): boolean {
    const end = at + this.#random.below(64);
    this.#memory.fill(this.#random.below(2), at, end);
    return true;
  }
}

/** RAM of the device's own, and RAM whose owner changes it whenever he likes. */
function recordedRam(
  kind: BackingKind,
  log: Log,
  given: Backing | null = null,
): { ram: RecordingRam; change: (at: number, bytes: Uint8Array) => void } {
  const size = (PAGES - 2) * PAGE;
  const buffer = new ArrayBuffer(size);
  const isMapped = kind === "mapped" && given === null;
  const sparse = new SparseBacking(kind, size, false);
  const ram = new RecordingRam(log);
  ram.map({ gpa: 0, size: SHARED });
  ram.map({
    gpa: SHARED,
    size,
    backing: given ?? (isMapped ? new MemoryBacking(kind, buffer, false) : sparse),
  });
  const change = (at: number, bytes: Uint8Array) => {
    if (isMapped) new Uint8Array(buffer).set(bytes, at);
    else sparse.pages.set(at, bytes);
  };
  return { ram, change };
}

/** The same RAM in a replay. */
function replayedRam(kind: BackingKind, { found }: Log): ReplayRam {
  let access = 0;
  const ram: ReplayRam = new ReplayRam({
    next() {
      const now = found.filter(([number]) => number === access + 1).map(([, what]) => what);
      access++;
      for (const what of now) {
        if (what === "failed") continue;
        for (const [offset, bytes] of what.runs) ram.change(what.gpa + offset, bytes);
      }
      return !now.includes("failed");
    },
  });
  const own = { gpa: 0, size: SHARED, mfn: 0x100, readonly: false, kind: "local" } as const;
  const shared = { gpa: SHARED, size: (PAGES - 2) * PAGE, mfn: 0x200, readonly: false, kind };
  for (const region of [own, shared]) ram.map(ram.optionsOf(region));
  return ram;
}

/** One access of the device's, the same for the same random numbers. @returns What it came to. */
function access(ram: RamMap, random: Random): unknown {
  const isWhole = random.below(3) === 0;
  const gpa = isWhole ? PAGE * random.below(PAGES) : random.below(PAGES * PAGE + 64);
  const bytes = new Uint8Array(
    isWhole
      ? PAGE * (1 + random.below(2))
      : random.below(3) === 0
      ? random.below(2 * PAGE)
      : random.below(16),
  );
  const lanes = new Uint32Array(1024);
  switch (random.below(7)) {
    case 0:
      return [ram.read(gpa, bytes), bytes];
    case 1:
      return ram.write(gpa, bytes.fill(random.below(256)));
    case 2:
      return ram.readDword(gpa - gpa % 4);
    case 3:
      return [ram.readEntry(gpa - gpa % 8, lanes), lanes[0], lanes[1]];
    case 4:
      return [ram.readPage(Math.floor(gpa / PAGE), lanes), lanes.slice()];
    case 5:
      return ram.holdsPage(Math.floor(gpa / PAGE), new PageCopy(lanes.fill(random.below(2))));
    default:
      return ram.copy(gpa, isWhole ? PAGE * random.below(PAGES) : random.below(PAGES * PAGE), bytes.length);
  }
}

for (const kind of ["mapped", "file", "message"] as const) {
  Deno.test(`a replay's RAM gives what RAM of kind ${kind} gave, whoever changed it between accesses`, () => {
    for (let seed = 1; seed <= 20; seed++) {
      const log = new Log();
      const { ram, change } = recordedRam(kind, log);
      const [device, guest] = [new Random(seed), new Random(seed + 1000)];
      const recorded = Array.from({ length: 200 }, () => {
        const bytes = new Uint8Array(guest.below(PAGE)).fill(guest.below(3));
        if (guest.below(3) === 0) change(guest.below((PAGES - 3) * PAGE), bytes);
        return access(ram, device);
      });
      const again = new Random(seed);
      const replay = replayedRam(kind, log);
      for (const [number, expected] of recorded.entries()) {
        assertEquals(access(replay, again), expected, `seed ${seed}, access ${number}`);
      }
    }
  });
}

const SHARED_BYTES = (PAGES - 2) * PAGE;

for (
  const [what, kind, backing] of [
    ["RAM of kind mapped", "mapped", () => new Restless("mapped", SHARED_BYTES, false)],
    ["RAM of kind file", "file", () => new Restless("file", SHARED_BYTES, false)],
    ["RAM of kind message", "message", () => new Restless("message", SHARED_BYTES, false)],
    ["memory of this process", "mapped", () => new RestlessMemory(new ArrayBuffer(SHARED_BYTES))],
  ] as const
) {
  Deno.test(`a replay's RAM gives what ${what} gave that changes while it is looked at`, () => {
    for (let seed = 1; seed <= 20; seed++) {
      const log = new Log();
      const { ram } = recordedRam(kind, log, backing());
      const [device, again] = [new Random(seed), new Random(seed)];
      const recorded = Array.from({ length: 300 }, () => access(ram, device));
      const replay = replayedRam(kind, log);
      for (const [number, expected] of recorded.entries()) {
        assertEquals(access(replay, again), expected, `seed ${seed}, access ${number}`);
      }
    }
  });
}

Deno.test("RecordingRam records a change once, and what the device writes never", () => {
  const log = new Log();
  const { ram, change } = recordedRam("mapped", log);
  change(8, Uint8Array.of(1, 2, 3, 4));
  ram.readDword(SHARED + 8);
  ram.read(SHARED, new Uint8Array(32));
  ram.write(SHARED + 16, Uint8Array.of(9));
  ram.readPage(SHARED / PAGE, new Uint32Array(1024));
  assertEquals(log.found, [[1, { gpa: SHARED, runs: [[8, Uint8Array.of(1, 2, 3, 4)]] }]]);
  assertEquals(log.accesses, 4);
});

Deno.test("RecordingRam counts neither the device's own memory nor a view's accesses", () => {
  const log = new Log();
  const { ram, change } = recordedRam("mapped", log);
  change(0, Uint8Array.of(1));
  ram.read(0, new Uint8Array(64));
  ram.write(0, new Uint8Array(64));
  log.isOpen = false;
  ram.read(SHARED, new Uint8Array(64));
  assertEquals([log.accesses, log.found], [0, []]);
});

Deno.test("RecordingRam records that memory could not be had, and forgets what is unmapped", () => {
  const log = new Log();
  using ram = new RecordingRam(log);
  ram.map({ gpa: 0, size: PAGE, remote: { read: () => false, write: () => false } });
  assertEquals([ram.read(0, new Uint8Array(4)), ram.write(0, new Uint8Array(4))], [false, false]);
  ram.unmap(0, PAGE);
  assertEquals(ram.read(0, new Uint8Array(4)), false);
  assertEquals([log.found, log.accesses], [[[1, "failed"], [2, "failed"]], 2]);
});

Deno.test("ReplayRam takes room for so many pages and no more, until some are unmapped", () => {
  using ram = new ReplayRam({ next: () => true }, 2);
  const region = { gpa: 0, size: 8 * PAGE, mfn: 0x100, readonly: false, kind: "mapped" } as const;
  ram.map(ram.optionsOf(region));
  for (const page of [0, 1, 0]) ram.change(page * PAGE, Uint8Array.of(1));
  assertThrows(() => ram.change(2 * PAGE, Uint8Array.of(1)), PageLimitError, "more than 2 pages");
  assertThrows(() => ram.write(3 * PAGE, Uint8Array.of(1)), PageLimitError);
  assertEquals(ram.readDword(7 * PAGE), 0); // takes none
  ram.unmap(0, 8 * PAGE);
  ram.map(ram.optionsOf(region));
  assertEquals(ram.change(2 * PAGE, Uint8Array.of(1)), true);
});
