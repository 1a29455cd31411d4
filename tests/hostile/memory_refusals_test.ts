import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { openWithDeno } from "../../src/memory/deno_file.ts";
import { openWithLibc } from "../../src/memory/libc_file.ts";
import {
  HOST_PAGE_MFN_BASE,
  type OpenFile,
  RamError,
  RamMap,
  type RamRegionOptions,
} from "../../src/memory/ram_map.ts";
import { MAX_LOCAL_BYTES, MAX_REGION_BYTES, MAX_REGIONS } from "../../src/memory/ram_region.ts";
import {
  cPath,
  eighthFreeDescriptor,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  Guest,
  KINDS,
  libc,
  memfd,
  MFD_HUGETLB,
  TEMP,
  temporaryFile,
  testKinds,
  testWith,
} from "../unit/memory_kinds.ts";

const PAGE = 4096;
const SHARED = KINDS.filter((kind) => kind.source !== null);

/** Maps what must be refused; checks that the map is as it was. */
function refuse(ram: RamMap, options: RamRegionOptions): [string, string] {
  const before = ram.regions;
  const error = assertThrows(() => ram.map(options), RamError);
  assertEquals(ram.regions, before);
  return [error.code, error.message];
}

const NEVER: OpenFile = () => {
  throw new Error("a region that breaks a rule must be refused before its file is opened");
};

const BAD_NUMBERS: [string, RamRegionOptions, string][] = [
  ["an unaligned address", { gpa: 0x1008, size: PAGE }, "address 0x1008 is not a multiple of 4096"],
  ["an unaligned size", { gpa: 0x1000, size: 4097 }, "size 0x1001 is not a multiple of 4096"],
  [
    "an unaligned file offset",
    { gpa: 0, size: PAGE, path: "/f", offset: 8 },
    "file offset 0x8 is not a multiple",
  ],
  ["no size", { gpa: 0x1000, size: 0 }, "size is 0"],
  ["a negative address", { gpa: -PAGE, size: PAGE }, "address is not a number of bytes"],
  ["a negative size", { gpa: 0, size: -PAGE }, "size is not a number of bytes"],
  [
    "a negative file offset",
    { gpa: 0, size: PAGE, path: "/f", offset: -PAGE },
    "file offset is not a number",
  ],
  ["an address that is no number", { gpa: NaN, size: PAGE }, "address is not a number of bytes"],
  ["an endless size", { gpa: 0, size: Infinity }, "size is not a number of bytes"],
  ["an address beyond 2^53", { gpa: 2 ** 60, size: PAGE }, "address is not a number of bytes"],
  [
    "a size beyond the largest",
    { gpa: 0, size: MAX_REGION_BYTES + PAGE },
    "a region has at most 1099511627776",
  ],
  [
    "an end beyond 2^46",
    { gpa: 2 ** 46 - PAGE, size: 2 * PAGE, mfn: 1 },
    "guest addresses end at 0x400000000000",
  ],
  ["an address beyond 2^46", { gpa: 2 ** 50, size: PAGE, mfn: 1 }, "guest addresses end at 0x400000000000"],
  [
    "a file offset beyond 2^53",
    { gpa: 0, size: PAGE, path: "/f", offset: 2 ** 53 - PAGE },
    "beyond what a file",
  ],
  ["a file offset without a file", { gpa: 0, size: PAGE, offset: PAGE }, "a file offset without a file:"],
  ["a negative host frame", { gpa: 0, size: PAGE, mfn: -1 }, "mfn is not a frame number"],
  ["a broken host frame", { gpa: 0, size: PAGE, mfn: 0.5 }, "mfn is not a frame number"],
  [
    "host frames beyond 2^34",
    { gpa: 0, size: 2 * PAGE, mfn: 2 ** 34 - 1 },
    "frame numbers end at 0x400000000",
  ],
  ["the device's host frames", { gpa: 0, size: PAGE, mfn: HOST_PAGE_MFN_BASE }, "the device's own pages"],
  [
    "host frames up to the device's",
    { gpa: 0, size: 2 * PAGE, mfn: HOST_PAGE_MFN_BASE - 1 },
    "give a lower mfn",
  ],
  [
    "default host frames beyond 2^34",
    { gpa: 2 ** 46 - PAGE, size: PAGE },
    "frame numbers end at 0x400000000",
  ],
  [
    "default host frames that are the device's",
    { gpa: (HOST_PAGE_MFN_BASE - 0x10_0000) * PAGE, size: PAGE },
    "those from 0x300000000 on are the device's own pages",
  ],
  ["an empty path", { gpa: 0, size: PAGE, path: "" }, "the path is empty"],
  ["a NUL in the path", { gpa: 0, size: PAGE, path: "/tmp/a\0b" }, "the path contains a NUL character"],
  ["a relative path", { gpa: 0, size: PAGE, path: "ram" }, "the path is relative"],
  ["an endless path", { gpa: 0, size: PAGE, path: `/${"é".repeat(2048)}` }, "longer than 4095 bytes"],
];

for (const [what, options, message] of BAD_NUMBERS) {
  Deno.test(`map() refuses ${what}`, () => {
    using ram = new RamMap({ openFile: NEVER });

    const [code, text] = refuse(ram, options);

    assertEquals(code, "EINVAL");
    assertMatch(text, /^Cannot map RAM at (0x[0-9a-f]+|\(no number of bytes\)): /);
    assert(text.includes(message), text);
  });
}

Deno.test("map() refuses values of a wrong type", () => {
  using ram = new RamMap({ openFile: NEVER });
  const wrong = ["4096", null, {}, [4096], 4096n, true] as unknown as number[];

  for (const value of wrong) {
    assertEquals(refuse(ram, { gpa: value, size: PAGE })[0], "EINVAL");
    assertEquals(refuse(ram, { gpa: 0, size: value })[0], "EINVAL");
    assertEquals(refuse(ram, { gpa: 0, size: PAGE, path: 5 as unknown as string })[0], "EINVAL");
  }
});

Deno.test("map() refuses guest ranges that overlap, and says which region is there", () => {
  using ram = new RamMap();
  ram.map({ gpa: 0x10_0000, size: 4 * PAGE });
  ram.map({ gpa: 0x20_0000, size: PAGE });
  const overlapping: [number, number][] = [
    [0x10_0000, 4 * PAGE],
    [0x10_1000, PAGE],
    [0x10_3000, 2 * PAGE],
    [0xf_f000, 2 * PAGE],
    [0xf_f000, 8 * PAGE],
    [0, 2 ** 30],
  ];

  for (const [gpa, size] of overlapping) {
    assertEquals(refuse(ram, { gpa, size, mfn: 0 }), [
      "EEXIST",
      `Cannot map RAM at 0x${gpa.toString(16)}: it overlaps the region at 0x100000, size 0x4000`,
    ]);
  }
  assertEquals(ram.map({ gpa: 0x10_4000, size: PAGE }).gpa, 0x10_4000);
  assertEquals(ram.map({ gpa: 0xf_f000, size: PAGE }).gpa, 0xf_f000);
});

Deno.test("map() refuses host frames that overlap, and says whose they are", () => {
  using ram = new RamMap();
  ram.map({ gpa: 0, size: 4 * PAGE, mfn: 0x10_0100 });

  for (const mfn of [0x10_00ff, 0x10_0100, 0x10_0103]) {
    assertEquals(refuse(ram, { gpa: 2 ** 40, size: 2 * PAGE, mfn }), [
      "EEXIST",
      `Cannot map RAM at 0x10000000000: its host frames, from 0x${mfn.toString(16)}, ` +
      "overlap those of the region at 0x0, size 0x4000, from 0x100100: give another mfn",
    ]);
  }
  assertEquals(refuse(ram, { gpa: 0x10_0000, size: PAGE })[0], "EEXIST", "by the default mfn");
  assertEquals(ram.map({ gpa: 2 ** 40, size: 2 * PAGE, mfn: 0x10_0104 }).mfn, 0x10_0104);
});

Deno.test("map() refuses one region too many", () => {
  using ram = new RamMap();
  for (let i = 0; i < MAX_REGIONS; i++) ram.map({ gpa: i * 2 * PAGE, size: PAGE });

  assertEquals(refuse(ram, { gpa: 2 ** 40, size: PAGE }), [
    "ENOSPC",
    "Cannot map RAM at 0x10000000000: there are 256 regions already: unmap one first",
  ]);
  ram.unmap(0, PAGE);
  assertEquals(ram.map({ gpa: 2 ** 40, size: PAGE }).gpa, 2 ** 40);
});

Deno.test("map() refuses more local RAM than the limit", () => {
  using ram = new RamMap();
  ram.map({ gpa: 0, size: PAGE });

  assertEquals(refuse(ram, { gpa: 2 ** 40, size: MAX_LOCAL_BYTES }), [
    "ENOMEM",
    "Cannot map RAM at 0x10000000000: local RAM would be 17179873280 bytes, the limit is 17179869184: " +
    "share the RAM as a file",
  ]);
});

Deno.test("unmap() refuses what is not exactly a region, and names the nearest", () => {
  using ram = new RamMap();
  ram.map({ gpa: 0x10_0000, size: 4 * PAGE });
  ram.map({ gpa: 0x90_0000, size: PAGE });
  const wrong: [number, number, string][] = [
    [0x10_0000, PAGE, "0x100000, size 0x4000"],
    [0x10_1000, 3 * PAGE, "0x100000, size 0x4000"],
    [0, 4 * PAGE, "0x100000, size 0x4000"],
    [0x8f_f000, PAGE, "0x900000, size 0x1000"],
    [2 ** 45, PAGE, "0x900000, size 0x1000"],
  ];

  for (const [gpa, size, nearest] of wrong) {
    const error = assertThrows(() => ram.unmap(gpa, size), RamError, `the nearest is ${nearest}`);
    assertEquals(error.code, "ENOENT");
  }
  assertEquals(ram.regions.length, 2);
});

Deno.test("unmap() survives every kind of number", () => {
  using ram = new RamMap();
  for (const number of [NaN, -1, Infinity, 0.5, 2 ** 60]) {
    assertThrows(() => ram.unmap(number, PAGE), RamError, "no RAM is mapped");
    assertThrows(() => ram.unmap(0, number), RamError, "no RAM is mapped");
  }
});

Deno.test("accesses outside of RAM fail for every kind of number", () => {
  using ram = new RamMap();
  ram.map({ gpa: 0, size: PAGE });
  const lanes = new Uint32Array(1024).fill(7);
  const bytes = new Uint8Array(8).fill(7);

  for (const number of [NaN, -1, -8, -PAGE, Infinity, -Infinity, 2 ** 46, 2 ** 53, 2 ** 60]) {
    assertEquals(ram.read(number, bytes), false);
    assertEquals(ram.write(number, bytes), false);
    assertEquals(ram.readEntry(number, lanes), false);
    assertEquals(ram.readPage(number, lanes), false);
    assertEquals([ram.isRam(number), ram.mfnOf(number), ram.gfnOf(number)], [false, -1, -1]);
  }
  assert(lanes.every((lane) => lane === 7) && bytes.every((byte) => byte === 7));
});

testKinds("map() refuses a file that is too small", SHARED, (kind) => {
  using source = kind.source?.(4 * PAGE) ?? null;
  using ram = new RamMap({ openFile: kind.openFile });
  const path = source?.path;

  assertEquals(refuse(ram, { gpa: 0x2000, size: 5 * PAGE, path }), [
    "EINVAL",
    "Cannot map RAM at 0x2000: file is 16384 bytes: need 20480",
  ]);
  assertEquals(refuse(ram, { gpa: 0, size: 2 * PAGE, path, offset: 3 * PAGE }), [
    "EINVAL",
    "Cannot map RAM at 0x0: file is 16384 bytes: need 20480",
  ]);
  assertEquals(refuse(ram, { gpa: 0, size: PAGE, path, offset: 2 ** 45 })[0], "EINVAL");
  assertEquals(ram.map({ gpa: 0, size: PAGE, path, offset: 3 * PAGE }).size, PAGE);
});

testKinds("map() leaves no descriptor behind when it fails", SHARED, (kind) => {
  using source = kind.source?.(PAGE) ?? null;
  using ram = new RamMap({ openFile: kind.openFile });
  const before = eighthFreeDescriptor();

  for (let i = 0; i < 64; i++) {
    refuse(ram, { gpa: 0, size: 2 * PAGE, path: source?.path });
    refuse(ram, { gpa: 0, size: PAGE, path: TEMP });
    refuse(ram, { gpa: 0, size: PAGE, path: `${TEMP}/vgtt-no-such-file` });
  }

  assert(eighthFreeDescriptor() < before + 32, "descriptors leak");
});

testKinds("unmap() and clear() leave no descriptor behind", SHARED, (kind) => {
  using guest = new Guest(kind);
  const source = guest.map(0, PAGE);
  const before = eighthFreeDescriptor();

  for (let i = 0; i < 64; i++) {
    guest.ram.map({ gpa: PAGE, size: PAGE, path: source?.path });
    guest.ram.map({ gpa: 2 * PAGE, size: PAGE, path: source?.path });
    guest.ram.unmap(PAGE, PAGE);
    guest.ram.clear();
  }

  assert(eighthFreeDescriptor() < before + 32, "descriptors leak");
});

testWith("ffi", "unmap() gives up the mapping: the file can be sealed against writing then", () => {
  using file = memfd(PAGE, F_SEAL_SHRINK);
  using ram = new RamMap({ openFile: openWithLibc });
  ram.map({ gpa: 0, size: PAGE, path: file.path });
  const whileMapped = libc().fcntl(file.fd, F_ADD_SEALS, F_SEAL_WRITE);

  ram.unmap(0, PAGE);

  assertEquals([whileMapped, libc().fcntl(file.fd, F_ADD_SEALS, F_SEAL_WRITE)], [-1, 0]);
});

testKinds("a read-only backing refuses to be written, by itself as well", SHARED, (kind) => {
  using source = kind.source?.(PAGE) ?? null;
  const backing = kind.openFile(source?.path ?? "", true, 0, PAGE);

  assertEquals(backing.write(0, new Uint8Array(8)), false); // a store to memory mapped read-only would kill
  assertEquals(backing.readEntry(0, new Uint32Array(2)), true);
  backing.close();
});

/** Ways to open files, for paths that are wrong in both. */
const OPENERS: [string, "files" | "both", OpenFile][] = [
  ["Deno", "files", openWithDeno],
  ["libc", "both", openWithLibc],
];

for (const [name, needs, openFile] of OPENERS) {
  testWith(needs, `map() refuses a folder [${name}]`, () => {
    using ram = new RamMap({ openFile });

    assertEquals(refuse(ram, { gpa: 0, size: PAGE, path: TEMP }), [
      "EINVAL",
      "Cannot map RAM at 0x0: the path is a directory: only a regular file or a memfd can be RAM",
    ]);
  });

  testWith(needs, `map() refuses a file that does not exist, and quotes its name [${name}]`, () => {
    using ram = new RamMap({ openFile });

    const [code, message] = refuse(ram, { gpa: 0, size: PAGE, path: `${TEMP}/vgtt-\x1b[2J\n\u202e-none` });

    assertEquals(code, "ENOENT");
    assertMatch(message, /cannot open "\/tmp\/vgtt-\\u001b\[2J\\n\\u202e-none": /);
  });

  testWith(needs, `map() refuses a path through a file [${name}]`, () => {
    using file = temporaryFile(PAGE);
    using ram = new RamMap({ openFile });

    assertEquals(refuse(ram, { gpa: 0, size: PAGE, path: `${file.path}/ram` })[0], "ENOENT");
  });

  testWith(needs, `map() refuses a name that is too long [${name}]`, () => {
    using ram = new RamMap({ openFile });

    const [code, message] = refuse(ram, { gpa: 0, size: PAGE, path: `${TEMP}/${"x".repeat(1000)}` });

    assertEquals(code, "EINVAL");
    assert(message.length < 300, "the message repeats the whole path");
  });

  testWith("both", `map() refuses a loop of symbolic links [${name}]`, () => {
    using folder = temporaryFolder();
    libc().symlink(cPath("loop"), cPath(`${folder.path}/loop`));
    using ram = new RamMap({ openFile });

    assertEquals(refuse(ram, { gpa: 0, size: PAGE, path: `${folder.path}/loop` })[0], "EINVAL");
  });

  testWith("both", `map() refuses a pipe without waiting for its other end [${name}]`, () => {
    using folder = temporaryFolder();
    libc().mkfifo(cPath(`${folder.path}/pipe`), 0o600);
    using ram = new RamMap({ openFile });

    for (const readonly of [true, false]) {
      const [code, message] = refuse(ram, { gpa: 0, size: PAGE, path: `${folder.path}/pipe`, readonly });
      assertEquals([code, message.includes("the path is a pipe")], ["EINVAL", true]);
    }
  });

  testWith("both", `map() refuses a socket [${name}]`, () => {
    using folder = temporaryFolder();
    libc().mknod(cPath(`${folder.path}/socket`), S_IFSOCK | 0o600, 0n);
    using ram = new RamMap({ openFile });

    assertEquals(refuse(ram, { gpa: 0, size: PAGE, path: `${folder.path}/socket` }), [
      "EINVAL",
      "Cannot map RAM at 0x0: the path is a socket: only a regular file or a memfd can be RAM",
    ]);
  });
}

/** Paths that only libc gets to see. */
const NO_STORAGE: [string, () => { path: string; close: () => void }, string][] = [
  ["a character device", () => ({ path: "/dev/zero", close: () => {} }), "the path is a device"],
  [
    "the descriptor of a socket",
    () => ofDescriptor(libc().socket(AF_UNIX, SOCK_STREAM, 0)),
    "the path is a socket",
  ],
  ["the descriptor of an eventfd", () => ofDescriptor(libc().eventfd(0, 0)), "the path is no file"],
  [
    "a file of the kernel's",
    () => ({ path: "/proc/version", close: () => {} }),
    "the path is a switch of the kernel's",
  ],
  ["the memory of the process", () => ({ path: "/proc/self/mem", close: () => {} }), "the path is a switch"],
];

for (const [what, make, message] of NO_STORAGE) {
  testWith("ffi", `map() refuses ${what}`, () => {
    using ram = new RamMap({ openFile: openWithLibc });
    const { path, close } = make();

    const [code, text] = refuse(ram, { gpa: 0, size: PAGE, path });

    close();
    assertEquals(code, "EINVAL");
    assert(text.includes(message), text);
  });
}

testWith("ffi", "map() refuses a descriptor that is closed", () => {
  using ram = new RamMap({ openFile: openWithLibc });
  const { path, close } = ofDescriptor(libc().eventfd(0, 0));
  close();

  assertEquals(refuse(ram, { gpa: 0, size: PAGE, path })[0], "ENOENT");
});

testWith("ffi", "map() refuses a memfd that is sealed against writing, except read-only", () => {
  for (const seals of [F_SEAL_WRITE, F_SEAL_WRITE | F_SEAL_SHRINK, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK]) {
    using file = memfd(PAGE, seals);
    using ram = new RamMap({ openFile: openWithLibc });

    assertEquals(refuse(ram, { gpa: 0, size: PAGE, path: file.path }), [
      "EACCES",
      "Cannot map RAM at 0x0: file is sealed against writing: map it with readonly true",
    ]);
    assertEquals(ram.map({ gpa: 0, size: PAGE, path: file.path, readonly: true }).readonly, true);
    assertEquals(ram.readEntry(0, new Uint32Array(2)), true);
    assertEquals(ram.write(0, new Uint8Array(8)), false);
  }
});

testWith(
  "ffi",
  "a memfd of huge pages is never mapped: an access kills when the system has none left",
  () => {
    using file = memfd(2 ** 21, F_SEAL_SHRINK, MFD_HUGETLB);
    using ram = new RamMap({ openFile: openWithLibc });

    assertEquals(refuse(ram, { gpa: 0, size: PAGE, path: file.path })[0], "EINVAL");
    assertEquals(ram.map({ gpa: 0, size: PAGE, path: file.path, readonly: true }).kind, "file");
    assertEquals(ram.readEntry(8, new Uint32Array(2)), true);
  },
);

testWith("ffi", "write() fails when a memfd is sealed against writing later", () => {
  using file = memfd(PAGE);
  using ram = new RamMap({ openFile: openWithLibc });
  ram.map({ gpa: 0, size: PAGE, path: file.path });

  libc().fcntl(file.fd, F_ADD_SEALS, F_SEAL_WRITE);

  assertEquals(ram.write(0, new Uint8Array(8)), false);
  assertEquals(ram.readEntry(0, new Uint32Array(2)), true);
});

testWith("ffi", "map() reports EMFILE when no descriptor is left, and works again later", () => {
  using file = memfd(PAGE, F_SEAL_SHRINK);
  using ram = new RamMap({ openFile: openWithLibc });
  const restore = allowNoMoreDescriptors();

  const [code, message] = refuse(ram, { gpa: 0, size: PAGE, path: file.path });

  restore();
  assertEquals([code, message.includes("the process has no file descriptor left")], ["EMFILE", true]);
  assertEquals(ram.map({ gpa: 0, size: PAGE, path: file.path }).kind, "mapped");
});

testWith("both", "map() refuses to write a file that is being executed", () => {
  using ram = new RamMap({ openFile: openWithLibc });

  const [code] = refuse(ram, { gpa: 0, size: PAGE, path: Deno.execPath() });

  assertEquals(code, "EACCES");
});

const S_IFSOCK = 0o140000, AF_UNIX = 1, SOCK_STREAM = 1, RLIMIT_NOFILE = 7, F_ADD_SEALS = 1033;

function ofDescriptor(fd: number): { path: string; close: () => void } {
  return { path: `/proc/self/fd/${fd}`, close: () => void libc().close(fd) };
}

function temporaryFolder(): { path: string } & Disposable {
  const path = Deno.makeTempDirSync({ dir: TEMP, prefix: "vgtt-ram-" });
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

/** Lowers the soft limit; the result raises it again. */
function allowNoMoreDescriptors(): () => void {
  const limit = new BigUint64Array(2);
  libc().getrlimit(RLIMIT_NOFILE, limit);
  const before = limit[0] ?? 0n;
  const set = (soft: bigint) => {
    limit[0] = soft;
    libc().setrlimit(RLIMIT_NOFILE, limit);
  };
  set(0n);
  return () => set(before);
}
