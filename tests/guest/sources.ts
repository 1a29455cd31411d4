/**
 * A program in C for the guest: the sources in a folder, compiled into one file that needs no libraries.
 *
 * @module
 */

import { MissingProgramError, run } from "../../examples/qemu/command.ts";

const MISSING = "The programs in the guest are written in C: apt-get install gcc libc6-dev";
const FLAGS = ["-static", "-pthread", "-O1", "-Wall", "-Wextra", "-Werror"];

/** The sources of one program, and what lies beside them. */
export class Sources {
  readonly #folder: URL;

  /** The sources in this folder. */
  constructor(folder: URL) {
    this.#folder = folder;
  }

  /** Whether there are any. */
  get exist(): boolean {
    try {
      return this.#programs().length > 0;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }

  /** All of them, one behind the other: what tells versions apart. */
  text(): string {
    const texts = this.#names().map((name) => {
      return `${name}\n${Deno.readTextFileSync(new URL(name, this.#folder))}`;
    });
    return texts.join("\n");
  }

  /** What one file holds. */
  async file(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return await Deno.readFile(new URL(name, this.#folder));
  }

  /** Compiles them. @param to The program's path. @throws {MissingProgramError} If there is no compiler. */
  async compile(to: string): Promise<void> {
    const files = this.#programs().map((name) => new URL(name, this.#folder).pathname);
    try {
      await run("gcc", [...FLAGS, "-o", to, ...files], MISSING);
    } catch (error) {
      // A program that does not compile is no reason to ignore the tests.
      throw error instanceof MissingProgramError ? error : new Error(String(error));
    }
  }

  #programs(): string[] {
    return this.#names().filter((name) => name.endsWith(".c"));
  }

  #names(): string[] {
    return [...Deno.readDirSync(this.#folder)].map(({ name }) => name).sort();
  }
}
