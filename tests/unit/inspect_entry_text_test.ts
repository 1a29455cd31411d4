import { assertEquals } from "@std/assert";
import { entryFrame, entryText, flagLetters, hexEntry } from "../../src/observe/entry_text.ts";

Deno.test("flagLetters() names every bit of a PTE, and what has no name", () => {
  assertEquals(flagLetters("PTE", 0x5fff, 0x80000000), "P W U PWT PCD A D PAT G XD +0xe00");
});

Deno.test("flagLetters() tells a directory entry from a large page", () => {
  assertEquals(flagLetters("PDE", 0x5803, 0), "P W IPS");
  assertEquals(flagLetters("PDE", 0x201083, 0), "P W PS PAT");
  assertEquals(flagLetters("PDP", 0x40000083, 0), "P W PS");
  assertEquals(flagLetters("PML4", 0x5083, 0), "P W +0x80"); // bit 7 is nothing there
});

Deno.test("flagLetters() shows bits above the frame", () => {
  assertEquals(flagLetters("PTE", 0x5001, 0x40000000), "P +0x4000000000000000");
  assertEquals(flagLetters("GGTT", 0x5003, 0x4000), "P +0x400000000002");
});

Deno.test("flagLetters() is a dash for nothing", () => {
  assertEquals(flagLetters("PTE", 0, 0), "-");
});

Deno.test("entryText() says what is not present, and still where it leads", () => {
  const { isPresent, frame, words } = entryText("PTE", 0x5002, 0);
  assertEquals([isPresent, frame], [false, 5]);
  assertEquals(words, ["not present", "writable", "caching index 0", "gfn 0x5"]);
});

Deno.test("entryText() takes a root for present if it is not 0", () => {
  assertEquals(entryText("root", 0x5000, 0).isPresent, true);
  assertEquals(entryText("root", 0, 0).isPresent, false);
});

Deno.test("entryText() calls the frame of a shadow a host frame", () => {
  assertEquals(entryText("PTE", 0x5003, 1, "shadow").words.at(-1), "mfn 0x100005");
});

Deno.test("entryFrame() is the first frame of a large page", () => {
  assertEquals(entryFrame("PDE", 0x12345083, 1), 0x112200);
  assertEquals(entryFrame("PDP", 0x7fffffff, 0), 0x40000);
  assertEquals(entryFrame("PTE", 0x12345083, 1), 0x112345);
});

Deno.test("hexEntry() has 16 digits", () => {
  assertEquals(hexEntry(0x83, 0x80000000), "0x8000000000000083");
});
