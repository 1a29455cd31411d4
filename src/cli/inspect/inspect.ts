/**
 * `inspect`: looks into a device from another process, at page tables as they are now. One file for each sub-command, of
 * which only the one that was asked for is loaded.
 *
 * Everything here is a client of the protocol in the role of an observer: the guest cannot be hurt.
 *
 * @module
 */

import { ConnectionError, RpcError } from "../../../protocol/errors.ts";
import { FormatError, TooFastError } from "../../observe/mirror.ts";
import { AttachError } from "../attach.ts";
import { loadLater } from "../load_later.ts";
import { print, say } from "../terminal.ts";
import { EXIT_FAILED, EXIT_OK, UsageError } from "../usage.ts";
import { helpText, type InspectCommand, parseRequest } from "./command.ts";
import { InspectError } from "./inspect_error.ts";
import { Output, visible } from "./output.ts";

const INSPECT_USAGE = `Usage: deno task inspect COMMAND [OPTION]…

Looks into a device that runs, from outside and without disturbing its guest.

  ls               what there is: address spaces, tables, GGTT, RAM
  tree [MM]        shadow tables of an address space, folded, the guest's beside them
  ggtt             the global GTT, folded, the guest's beside the host's
  walk MM GMA      one address through the guest's tables and the shadow; walk ggtt GMA too
  diff [MM]        every entry of which the shadow is not what the guest's makes it; exit status 1 on a wrong one
  who GFN          what a guest frame is: which entries lead to it, which table it is
  top              what happens, each second
  regs [NAME]      registers by name, with their values
  events           what the guest announces, submits and does wrong, as it happens
  save FILE        keep the page tables as they are now in a file
  web              all this as a page for a browser

Each has --help, with an example; most take --json, --recording FILE and --snapshot FILE.
`;

/** The sub-commands; each is `command` of the file of its name. */
const NAMES = ["ls", "tree", "ggtt", "walk", "diff", "who", "top", "regs", "events", "save", "web"] as const;

/** Runs `inspect`. @returns The exit status. @throws {UsageError} When the command line is wrong. */
export async function inspect([name = "", ...args]: readonly string[]): Promise<number> {
  if (name === "--help" || name === "help") {
    print(INSPECT_USAGE);
    return EXIT_OK;
  }
  if (!NAMES.includes(name as typeof NAMES[number])) {
    const what = name === "" ? "inspect needs a command" : `inspect has no command ${JSON.stringify(name)}`;
    throw new UsageError(`${what}\n\n${INSPECT_USAGE}`);
  }
  const { command } = await loadLater<{ command: InspectCommand }>(`inspect/${name}.ts`);
  const request = parseRequest(name, command, args, new Output());
  if (request === "help") {
    print(helpText(command));
    return EXIT_OK;
  }
  try {
    return await command.run(request);
  } catch (error) {
    if (request.output.isClosed) return EXIT_OK;
    const message = explanation(error);
    if (message === null) throw error;
    say(message);
    return EXIT_FAILED;
  }
}

/** What to tell the user; `null` for a bug, of which the trace helps. */
function explanation(error: unknown): string | null {
  const isExplained = [AttachError, FormatError, InspectError, TooFastError].some((kind) =>
    error instanceof kind
  );
  if (isExplained) return visible((error as Error).message);
  if (error instanceof ConnectionError) return `the device is gone: ${visible(error.message)}`;
  if (!(error instanceof RpcError)) return null;
  if (error.code === "ENOSYS" || error.code === "EPERM") {
    return `the device is of an earlier version, which cannot be inspected like this: ${
      visible(error.message)
    }`;
  }
  return `the device refused: ${visible(error.message)}`;
}
