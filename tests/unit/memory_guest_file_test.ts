import { assertEquals, assertThrows } from "@std/assert";
import { allocateLocal } from "../../src/memory/local.ts";
import { RamError, RamMap } from "../../src/memory/ram_map.ts";
import {
  cPath,
  F_SEAL_SHRINK,
  hasFiles,
  libc,
  memfd,
  TEMP,
  temporaryFile,
  testWith,
} from "./memory_kinds.ts";

const PAGE = 4096;

/** What the device has when it is started without --allow-ffi. */
const WITHOUT_FFI: Deno.PermissionOptionsObject = {
  ffi: false,
  read: hasFiles ? [TEMP] : false,
  write: hasFiles ? [TEMP] : false,
};

testWith("ffi", "a sealed memfd is mapped when FFI is allowed", () => {
  using file = memfd(PAGE, F_SEAL_SHRINK);
  using ram = new RamMap();

  assertEquals(ram.map({ gpa: 0, size: PAGE, path: file.path }).kind, "mapped");
});

testWith("ffi", "an unsealed memfd is read by position, so shrinking it hurts nobody", () => {
  using file = memfd(PAGE);
  using ram = new RamMap();
  ram.map({ gpa: 0, size: PAGE, path: file.path });

  file.resize(0);

  assertEquals(ram.regions[0]?.kind, "file");
  assertEquals(ram.readEntry(0, new Uint32Array(2)), false);
});

testWith("ffi", "a mapped memfd cannot be shrunk by its owner", () => {
  using file = memfd(PAGE, F_SEAL_SHRINK);
  using ram = new RamMap();
  ram.map({ gpa: 0, size: PAGE, path: file.path });

  file.resize(0);

  assertEquals(ram.readEntry(PAGE - 8, new Uint32Array(2)), true);
});

testWith("ffi", "mapped RAM outlives its owner's descriptor", () => {
  const file = memfd(PAGE, F_SEAL_SHRINK);
  file.poke(0, new Uint8Array([5]));
  using ram = new RamMap();
  ram.map({ gpa: 0, size: PAGE, path: file.path });
  file[Symbol.dispose]();
  const entry = new Uint32Array(2);

  assertEquals(ram.readEntry(0, entry), true);
  assertEquals(entry[0], 5);
});

testWith("both", "an ordinary file is read by position also when FFI is allowed", () => {
  using file = temporaryFile(PAGE);
  using ram = new RamMap();

  assertEquals(ram.map({ gpa: 0, size: PAGE, path: file.path }).kind, "file");
});

testWith("both", "map() refuses a descriptor that appends, unless it is only read", () => {
  const O_RDWR = 2, O_APPEND = 0x400;
  using file = temporaryFile(PAGE);
  using ram = new RamMap();
  for (const flags of [O_APPEND, O_RDWR | O_APPEND]) {
    const fd = libc().open(cPath(file.path), flags);
    assertEquals(ram.map({ gpa: 0, size: PAGE, fd, readonly: flags !== O_APPEND }).readonly, true);
    ram.clear();
  }
  const fd = libc().open(cPath(file.path), O_RDWR | O_APPEND);

  const error = assertThrows(() => ram.map({ gpa: 0x5000, size: PAGE, fd }), RamError);

  assertEquals(error.code, "EINVAL");
  assertEquals(
    error.message,
    "Cannot map RAM at 0x5000: the descriptor appends: every store would go to the end of the file: " +
      "open it without O_APPEND",
  );
  assertEquals(libc().close(fd), 0, "the descriptor is still the caller's");
  assertEquals(Deno.statSync(file.path).size, PAGE);
});

Deno.test({
  name: `an ordinary file is RAM without FFI${
    hasFiles ? "" : " [skipped, needs --allow-read --allow-write]"
  }`,
  ignore: !hasFiles,
  permissions: WITHOUT_FFI,
  fn() {
    using file = temporaryFile(PAGE);
    using ram = new RamMap();

    assertEquals(ram.map({ gpa: 0, size: PAGE, path: file.path }).kind, "file");
    assertEquals(ram.write(8, new Uint8Array([1])), true);
    assertEquals(file.peek(8, 1), new Uint8Array([1]));
  },
});

for (const path of ["/dev/shm/guest-ram", `/proc/${Deno.pid}/fd/1`]) {
  Deno.test({
    name: `map() says that ${path.slice(0, 6)}… needs --allow-ffi when that is missing`,
    permissions: WITHOUT_FFI,
    fn() {
      using ram = new RamMap();

      const error = assertThrows(() => ram.map({ gpa: 0x5000, size: PAGE, path }), RamError);

      assertEquals(error.code, "EACCES");
      assertEquals(
        error.message,
        `Cannot map RAM at 0x5000: no permission for "${path}": ` +
          "Deno keeps this folder closed: start the device with --allow-ffi",
      );
    },
  });
}

for (
  const [readonly, flags] of [[true, "--allow-read"], [false, "--allow-read and --allow-write"]] as const
) {
  Deno.test({
    name: `map() asks for ${flags} when a file is closed to the device`,
    permissions: "none",
    fn() {
      using ram = new RamMap();

      const error = assertThrows(() => ram.map({ gpa: 0, size: PAGE, path: "/var/ram", readonly }), RamError);

      assertEquals(error.code, "EACCES");
      assertEquals(
        error.message,
        `Cannot map RAM at 0x0: no permission for "/var/ram": start the device with ${flags} for it, ` +
          "or with --allow-ffi",
      );
    },
  });
}

Deno.test("allocateLocal() reports ENOMEM when the system has not that much", () => {
  for (const size of [2 ** 44, 2 ** 50]) {
    const error = assertThrows(() => allocateLocal(size, false), RamError, `does not grant ${size} bytes`);
    assertEquals(error.code, "ENOMEM");
  }
});
