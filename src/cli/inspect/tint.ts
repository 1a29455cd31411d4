/**
 * Colour for lines that a view made. The lines say everything in letters and words; the colour only helps the eye to find
 * what matters.
 *
 * @module
 */

import { CLASS_LETTERS } from "../../observe/reasons.ts";
import { brokenLine } from "./broken_line.ts";
import { type Output, type Tone, visible } from "./output.ts";

/** The colour of a verdict's letter, and whether the whole line has it. */
const VERDICTS: Readonly<Record<string, readonly [tone: Tone, isWhole: boolean]>> = {
  [CLASS_LETTERS.same]: ["good", false],
  [CLASS_LETTERS.expected]: ["dim", true],
  [CLASS_LETTERS.pending]: ["warning", true],
  [CLASS_LETTERS.wrong]: ["wrong", true],
};

/** Words that matter in other lines. The first rule that fits a place has it. */
const WORDS: readonly (readonly [RegExp, Tone])[] = [
  [/\b[1-9][\d,]* wrong\b/, "wrong"],
  [/\b[1-9][\d,]* pending\b|\bout of sync\b|\bnot looked at\b/, "warning"],
  [/\b(?:PML4|PDP|PDE|PTE|GGTT)\b(?:\[[\d–]+\])?/, "name"],
];

const ANY = new RegExp(WORDS.map(([{ source }]) => `(${source})`).join("|"), "g");

/**
 * Colours lines, and breaks those that are too long for a terminal.
 *
 * @param lines Lines of a view, which may begin with a verdict's letter and a space.
 * @param output Where they go; where there is no colour, and no terminal, they stay as they are.
 * @returns The lines.
 */
export function tinted(lines: readonly string[], output: Output): string[] {
  const { columns } = output.size;
  return lines.map(visible).flatMap((line) => {
    const [tone, isWhole] = (line[1] === " " ? VERDICTS[line[0]!] : undefined) ?? [null, false];
    const pieces = output.isTerminal ? brokenLine(line, columns) : [line];
    return pieces.map((piece, at) => {
      if (tone !== null && isWhole) return output.paint(tone, piece);
      if (tone === null || at > 0) return words(piece, output);
      return output.paint(tone, piece[0]!) + words(piece.slice(1), output);
    });
  });
}

function words(text: string, output: Output): string {
  return text.replace(ANY, (found, ...groups) => {
    const rule = groups.slice(0, WORDS.length).findIndex((group) => group !== undefined);
    return output.paint(WORDS[rule]![1], found);
  });
}
