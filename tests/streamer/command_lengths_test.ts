import { assertEquals } from "@std/assert";
import { END, start, store } from "./commands.ts";
import { type EngineName, Guest } from "./guest.ts";

/** A command that is none: whoever carries it out halts. */
const TRAP = 0xe000_0000;

/** Commands that are skipped, by their first dwords, and their lengths as the manuals have them (`guest.md` §8). */
const SKIPPED:
  readonly (readonly [engine: EngineName, what: string, ...(readonly (readonly [number, number])[])])[] = [
    [
      "rcs0",
      "the state of Linux's golden context",
      ...[[0x7105_050d, 15]] as const, // GPGPU_WALKER, predicated and indirect: flags above its 8 bits of length
      ...[[0x6904_0300, 1], [0x7814_0000, 2], [0x7820_000a, 12], [0x7813_0002, 4], [0x781f_0004, 6]] as const,
      ...[[0x7810_0007, 9], [0x7851_0009, 11], [0x7811_0008, 10], [0x781b_0007, 9], [
        0x781d_0009,
        11,
      ]] as const,
      ...[[0x781e_0003, 5], [0x7812_0002, 4], [0x7850_0003, 5], [0x781c_0002, 4], [0x780c_0000, 2]] as const,
      ...[[0x7852_0003, 5], [0x7830_0000, 2], [0x7831_0000, 2], [0x7832_0000, 2], [0x7833_0000, 2]] as const,
      ...[[0x7919_0000, 2], [0x791a_0000, 2], [0x791b_0000, 2], [0x7912_0000, 2], [0x7916_0000, 2]] as const,
      ...[[0x7815_0009, 11], [0x7819_0009, 11], [0x781a_0009, 11], [0x7816_0009, 11], [
        0x7817_0009,
        11,
      ]] as const,
      ...[[0x7849_0001, 3], [0x784a_0000, 2], [0x784b_0000, 2], [0x7917_0101, 259], [
        0x6101_0011,
        19,
      ]] as const,
      ...[[0x6102_0001, 3], [0x7805_0006, 8], [0x7900_0002, 4], [0x7904_0002, 4], [0x7918_0006, 8]] as const,
      ...[[0x7806_0003, 5], [0x7807_0003, 5], [0x7804_0001, 3], [0x7902_000f, 17], [
        0x790c_000f,
        17,
      ]] as const,
      ...[[0x7907_001f, 33], [0x7808_0083, 133], [0x7809_0043, 69], [0x7855_0003, 5], [
        0x680b_0001,
        1,
      ]] as const,
      ...[[0x780d_0000, 2], [0x780e_0000, 2], [0x780f_0000, 2], [0x7b00_0005, 7]] as const,
    ],
    [
      "rcs0",
      "pipeline commands with other length fields",
      ...[[0x780b_0001, 1], [0x7843_01fe, 512], [0x7847_0101, 259], [0x7839_07fe, 2048], [
        0x783a_0000,
        2,
      ]] as const,
      ...[[0x6103_00f8, 2], [0x6103_0007, 9], [0x7808_0183, 133], [0x78ff_ff00, 2]] as const,
    ],
    ["rcs0", "media and GPGPU commands", [0x7000_0002, 4], [0x7105_000d, 15], [0x7002_0702, 1796]],
    ["bcs0", "pipeline commands", [0x7814_0000, 2], [0x6101_0011, 19], [0x7a00_0004, 6]],
    [
      "vcs0",
      "video commands",
      ...[[0x7000_0003, 5], [0x7000_f003, 5], [0x7182_0ffd, 4095], [0x7600_0702, 1796], [
        0x6800_0005,
        1,
      ]] as const,
    ],
    ["vecs0", "video enhancement commands", [0x7400_0001, 3], [0x7403_f00a, 12]],
    [
      "rcs0",
      "commands of the streamer with one dword",
      ...[[0x0080_0001, 1], [0x0180_00ff, 1], [0x0200_00ff, 1], [0x0280_00ff, 1], [0x0300_00ff, 1]] as const,
      ...[[0x0380_00ff, 1], [0x0400_0001, 1], [0x0480_00ff, 1], [0x0580_00ff, 1], [0x0680_00ff, 1]] as const,
      ...[[0x0700_00ff, 1], [0x0780_00ff, 1]] as const,
    ],
    [
      "rcs0",
      "commands of the streamer with lengths",
      ...[[0x0900_0000, 2], [0x0980_0000, 2], [0x0a00_0001, 3], [0x0b00_0001, 3], [0x0c00_0000, 2]] as const,
      ...[[0x0c80_0000, 2], [0x0d80_0000, 2], [0x1180_0001, 3], [0x1180_03fe, 1024], [
        0x1380_0001,
        3,
      ]] as const,
      ...[[0x1380_03fe, 1024], [0x1400_0002, 4], [0x1400_ffc2, 4], [0x1580_0002, 4], [
        0x1600_0002,
        4,
      ]] as const,
      ...[[0x1680_0002, 4], [0x1f80_00ff, 257]] as const,
    ],
    [
      "bcs0",
      "blits that are not carried out",
      ...[[0x5000_0003, 5], [0x50c0_0004, 6], [0x4400_0008, 10], [0x5f80_00ff, 257], [
        0x5430_0006,
        8,
      ]] as const,
    ],
    ["vcs0", "flushes with the flag above their length", [0x1300_0082, 4], [0x1300_00c1, 3], [
      0x1300_0043,
      5,
    ]],
  ];

for (const [engine, what, ...commands] of SKIPPED) {
  Deno.test(`${engine} skips ${what} exactly`, async () => {
    await using guest = await Guest.start();
    const batch = 0x3000_0000;
    for (let page = 0; page < 5; page++) await guest.table.map(batch + page * 4096, guest.page());
    const put = async (dwords: readonly number[]) => {
      await guest.put(batch, dwords);
      await guest.runRing(engine, start(batch));
    };
    for (const [index, [head, length]] of commands.entries()) {
      const arguments_ = new Array<number>(length - 1).fill(TRAP);
      // A flush's own dwords are an address and data: nothing is asked for.
      await put([head, ...arguments_, ...store(guest.data, index + 1), END]);
      assertEquals(await guest.get(guest.data), [index + 1], `0x${head.toString(16)}`);
    }
  });
}

Deno.test("a command with the longest length in the ring goes round it", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0", { pages: 2 });
  await context.moveTo(0x1f00);
  await context.append([0x7808_00ff, ...new Array<number>(256).fill(TRAP), ...store(guest.data, 1)]);
  await guest.submit("rcs0", context);
  await guest.settle("rcs0");
  assertEquals(await guest.get(guest.data), [1]);
});
