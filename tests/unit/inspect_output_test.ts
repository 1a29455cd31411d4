import { assertEquals } from "@std/assert";
import { Output } from "../../src/cli/inspect/output.ts";
import { tinted } from "../../src/cli/inspect/tint.ts";

/** A stream that keeps what is written, a few bytes at a time. */
class Kept {
  text = "";
  readonly #isTerminal: boolean;

  constructor(isTerminal: boolean) {
    this.#isTerminal = isTerminal;
  }

  writeSync(bytes: Uint8Array): number {
    const part = bytes.subarray(0, 5);
    this.text += String.fromCharCode(...part);
    return part.length;
  }

  isTerminal(): boolean {
    return this.#isTerminal;
  }
}

Deno.test("Output writes all of a text, however little the stream takes at once", () => {
  const kept = new Kept(false);
  new Output(kept).lines(["one line", "and another"]);
  assertEquals(kept.text, "one line\nand another\n");
});

Deno.test("Output has no colour where nobody looks, or where NO_COLOR says so", () => {
  assertEquals(new Output(new Kept(false), false).paint("wrong", "x"), "x");
  assertEquals(new Output(new Kept(true), true).paint("wrong", "x"), "x");
  assertEquals(new Output(new Kept(true), false).paint("good", "x"), "\x1b[32mx\x1b[39m");
});

Deno.test("Output.json() writes one line of values that JSON has, and no control character", () => {
  const kept = new Kept(false);
  new Output(kept).json({ a: 2n ** 63n, b: new Map([[1, new Uint32Array([2, 3])]]), c: "\x1b\x9b\u202e\n" });
  assertEquals(
    kept.text,
    '{"a":"0x8000000000000000","b":{"1":[2,3]},"c":"\\u001b\\u009b\\u202e\\n"}\n',
  );
});

Deno.test("Output drops what is written after its reader has gone", () => {
  let writes = 0;
  const output = new Output({
    writeSync() {
      writes++;
      throw new Deno.errors.BrokenPipe("gone");
    },
    isTerminal: () => false,
  });
  output.line("one");
  output.line("two");
  assertEquals([output.isClosed, writes], [true, 1]);
});

Deno.test("tinted() lets nothing of a view's text act on a terminal", () => {
  assertEquals(tinted(["RAM \x1b[2J\x9b31m\r\n"], new Output(new Kept(false))), ["RAM ?[2J?31m??"]);
});

Deno.test("tinted() gives a wrong line one colour, and others that of their letter and words", () => {
  const output = new Output(new Kept(true), false);
  assertEquals(tinted(["! PTE[4] is wrong", "= PTE[4] · P"], output), [
    "\x1b[31m\x1b[1m! PTE[4] is wrong\x1b[22m\x1b[39m",
    "\x1b[32m=\x1b[39m \x1b[36mPTE[4]\x1b[39m · P",
  ]);
});
