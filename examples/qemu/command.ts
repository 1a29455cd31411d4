/**
 * Running a program to its end.
 *
 * @module
 */

/** Something is missing or went wrong that the user can do something about; the message says what. */
export class HelpfulError extends Error {
  override readonly name: string = "HelpfulError";
}

/** A program is not there. */
export class MissingProgramError extends HelpfulError {
  override readonly name = "MissingProgramError";
}

/** How to run a program. */
export interface RunOptions {
  /** Where it runs. Default `/`. */
  readonly cwd?: string;
  /** Ends it with SIGTERM. */
  readonly signal?: AbortSignal | undefined;
}

/** How many of a program's last lines an error shows. */
const TAIL = 5;

/**
 * Runs a program.
 *
 * @param program Its name or path.
 * @param args Its arguments.
 * @param missing What to tell the user when there is no such program.
 * @param where Where it runs, and what ends it early.
 * @returns What it printed on standard output.
 * @throws {MissingProgramError} When there is none.
 * @throws {HelpfulError} When it fails or is ended; with the last lines that it said.
 */
export async function run(
  program: string,
  args: readonly string[],
  missing: string,
  where: RunOptions = {},
): Promise<string> {
  const { code, stdout, stderr } = await output(program, args, missing, where);
  if (code === 0) return stdout;
  const tail = (stderr + stdout).trimEnd().split("\n").slice(-TAIL).join("\n  ");
  throw new HelpfulError(`${program} ${args[0] ?? ""} failed with ${code}:\n  ${tail}`);
}

/** As {@link run}, for a program whose failing is no error. */
export async function output(
  program: string,
  args: readonly string[],
  missing: string,
  where: RunOptions = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await rawOutput(program, args, missing, where);
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/** As {@link output}, for a program that prints no text. */
export async function rawOutput(
  program: string,
  args: readonly string[],
  missing: string,
  { cwd = "/", signal }: RunOptions = {},
): Promise<Deno.CommandOutput> {
  signal?.throwIfAborted();
  const command = new Deno.Command(program, {
    args: [...args],
    cwd,
    env: { LC_ALL: "C" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    return await command.output();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new MissingProgramError(missing);
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new HelpfulError(`${program} is no program that you may run`);
    }
    throw error;
  }
}

/** A command as a shell takes it. */
export function shellLine(program: string, args: readonly string[]): string {
  const quote = (word: string) => /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
  return [program, ...args].map(quote).join(" ");
}
