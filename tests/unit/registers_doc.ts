/**
 * `src/vgpu/registers.md`: what it has to say. `deno task registers` writes it.
 *
 * @module
 */

import { registersMarkdown } from "../../src/inspect/register_list.ts";
import { ENGINES } from "../../src/streamer/engines.ts";
import { REGISTERS } from "../../src/vgpu/registers.ts";

/** Where the file is. */
export const REGISTERS_DOC = new URL("../../src/vgpu/registers.md", import.meta.url);

/** What it says. */
export function registersDoc(): string {
  const bases = ENGINES.map(({ name, base }) => `\`${name}\` 0x${base.toString(16)}`).join(", ");
  return `# Registers

Written by \`deno task registers\` from the table in [\`registers.ts\`](registers.ts); a test fails when it is not
what the table says. All other registers of region 0 keep what is written and do nothing, but for those of
PVINFO ([\`guest.md\`](guest.md) §2). What an access means is in \`guest.md\` §5.1, what acts in §5 to §9.

B is an engine's base: ${bases}. An empty cell under
_writable_: all bits, or none, as the access says. _commands_ are those of engines that may store to it: all,
those with privilege (§8.1), or none.

<!-- deno-fmt-ignore-start -->

${registersMarkdown(REGISTERS, ENGINES)}
<!-- deno-fmt-ignore-end -->
`;
}

if (import.meta.main) Deno.writeTextFileSync(REGISTERS_DOC, registersDoc());
