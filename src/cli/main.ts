/**
 * The command line: one command a file, of which only the one that was asked for is loaded.
 *
 * @module
 */

import { loadLater } from "./load_later.ts";
import { print, say } from "./terminal.ts";
import { EXIT_FAILED, EXIT_OK, EXIT_USAGE, UsageError } from "./usage.ts";

const USAGE = `Usage: vgtt COMMAND [OPTION]…

  start    run the device for a VMM until SIGTERM (start --help)
  demo     start a device, replay a real guest's session, check every translation
  replay   replay traces and recordings against a device (replay --help)
  inspect  look into a device from outside: page tables, registers, what happens (inspect --help)
`;

/** Runs a command. @returns The exit status. */
type Command = (args: readonly string[]) => Promise<number>;

const COMMANDS: ReadonlyMap<string, () => Promise<Command>> = new Map([
  ["start", async () => (await loadLater<typeof import("./start.ts")>("start.ts")).start],
  ["demo", async () => (await loadLater<typeof import("./demo.ts")>("demo.ts")).demo],
  ["replay", async () => (await loadLater<typeof import("./replay.ts")>("replay.ts")).replay],
  [
    "inspect",
    async () => (await loadLater<typeof import("./inspect/inspect.ts")>("inspect/inspect.ts")).inspect,
  ],
]);

async function main([name = "", ...args]: readonly string[]): Promise<number> {
  if (name === "--help" || name === "help") {
    print(USAGE);
    return EXIT_OK;
  }
  const command = COMMANDS.get(name);
  try {
    if (command === undefined) throw new UsageError(`no command ${JSON.stringify(name)}\n\n${USAGE}`);
    return await (await command())(args);
  } catch (error) {
    if (error instanceof UsageError) {
      say(error.message);
      return EXIT_USAGE;
    }
    // The host's refusals say what they are about; anything else is a bug, and its trace is what helps.
    say(isHostError(error) ? `Cannot go on: ${error.message}` : error);
    return EXIT_FAILED;
  }
}

/** Whether the system, or a permission that was not given, stopped the command. */
function isHostError(error: unknown): error is Error {
  return Object.values(Deno.errors).some((kind) => error instanceof kind);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
