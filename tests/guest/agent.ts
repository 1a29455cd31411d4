/**
 * The host's end of the agent in the guest (`guest/agent.h`).
 *
 * @module
 */

import { within } from "./deadline.ts";
import { LineSocket } from "./line_socket.ts";

const DEADLINE = 60_000;
/** How much longer than its limit a program may take to end, and its answer to come. */
const PROGRAM_DEADLINE = 90_000;

/** How long a guest's accesses took, by its own clock. */
export interface Times {
  /** How many there were. */
  readonly count: number;
  /** Nanoseconds of all together. */
  readonly total: number;
  /** Nanoseconds of the longest. */
  readonly longest: number;
  /** Where the longest was: region and offset. */
  readonly place: string;
}

/** A vGPU's place in the guest's address space. */
export interface Bar {
  /** Guest physical address. */
  readonly gpa: number;
  /** Bytes. */
  readonly size: number;
}

/** How a program in the guest ended. */
export interface Ended {
  /** Its exit status, as shells tell it: 127 if there is no such program, 128 and more if a signal ended it. */
  readonly code: number;
  /** Whether it was killed because its time was up. */
  readonly isLate: boolean;
  /** How long it ran, by the guest's clock. */
  readonly ms: number;
  /** What it printed on standard output and standard error; the middle of much is left out. */
  readonly output: string;
}

/** Width of an access, bytes. */
export type Size = 1 | 2 | 4 | 8;

/** An agent that takes one command at a time. */
export class Agent implements Disposable {
  readonly #socket: LineSocket;
  readonly #context: () => string;

  private constructor(socket: LineSocket, context: () => string) {
    this.#socket = socket;
    this.#context = context;
  }

  /**
   * Waits until the agent runs.
   *
   * @param path The socket of its serial line.
   * @param ms How long the guest may take to boot.
   * @param context What an error says besides: the console's end.
   */
  static async open(path: string, ms: number, context: () => string): Promise<Agent> {
    const agent = new Agent(await LineSocket.open(path, ms), context);
    await agent.ready(ms);
    return agent;
  }

  /** Waits until the agent says that it is ready: at the beginning, and again after a reset of the machine. */
  async ready(ms: number): Promise<void> {
    const wait = async () => {
      while (!(await this.#socket.next()).endsWith("ok ready"));
    };
    await within(ms, () => `the agent in the guest is not ready\n${this.#context()}`, wait());
  }

  /** Sends a command whose answer nobody waits for, because there will be none. */
  async begin(...words: readonly (string | number | bigint)[]): Promise<void> {
    await this.#socket.send(line(words));
  }

  /** Runs a command. @returns The words of its answer. @throws {Error} If it failed in the guest. */
  async command(...words: readonly (string | number | bigint)[]): Promise<string> {
    return await this.#ask(DEADLINE, line(words));
  }

  async #ask(ms: number, sent: string): Promise<string> {
    const talk = async () => {
      await this.#socket.send(sent);
      return await this.#socket.next();
    };
    const answer = await within(ms, () => `no answer to ${sent}\n${this.#context()}`, talk());
    if (answer.startsWith("ok ")) return answer.slice("ok ".length);
    throw new Error(`${sent}: the guest answers ${answer}\n${this.#context()}`);
  }

  /** Chooses the vGPU. @returns Its name in the guest and its identity. */
  async find(): Promise<{ name: string; vendor: number; device: number; class: number; revision: number }> {
    const [name, ...numbers] = (await this.command("find")).split(" ");
    const [vendor, device, classCode, revision] = numbers.map((word) => parseInt(word, 16));
    return { name: name!, vendor: vendor!, device: device!, class: classCode!, revision: revision! };
  }

  /** Enables the vGPU and maps its BARs. @returns Them by number. */
  async map(): Promise<Map<number, Bar>> {
    const bars = (await this.command("map")).split(" ").filter((word) => word !== "");
    return new Map(bars.map((bar) => {
      const [index, gpa, size] = bar.split(":").map((word) => parseInt(word, 16));
      return [index!, { gpa: gpa!, size: size! }];
    }));
  }

  /** A load from a BAR. */
  async read(bar: number, offset: number, size: Size): Promise<bigint> {
    return hex(await this.command("r", bar, offset, size));
  }

  /** A store to a BAR. */
  async write(bar: number, offset: number, size: Size, value: number | bigint): Promise<void> {
    await this.command("w", bar, offset, size, value);
  }

  /** A load from configuration space. */
  async readConfig(offset: number, size: Size): Promise<bigint> {
    return hex(await this.command("config", offset, size));
  }

  /** A store to configuration space. */
  async writeConfig(offset: number, size: Size, value: number | bigint): Promise<void> {
    await this.command("configw", offset, size, value);
  }

  /** Takes pages of the guest's RAM, full of zeroes. @returns Their guest physical addresses. */
  async pages(count: number): Promise<bigint[]> {
    return (await this.command("alloc", count)).split(" ").map(hex);
  }

  /** A load from the guest's RAM. */
  async peek(gpa: bigint, size: Size): Promise<bigint> {
    return hex(await this.command("peek", gpa, size));
  }

  /** A store to the guest's RAM. */
  async poke(gpa: bigint, size: Size, value: number | bigint): Promise<void> {
    await this.command("poke", gpa, size, value);
  }

  /** Fills a page of the guest's RAM with 512 values, each `step` more than the last. */
  async fill(gpa: bigint, value: bigint, step = 0n): Promise<void> {
    await this.command("fill", gpa, value, step);
  }

  /** The text of a file in the guest. */
  async file(path: string): Promise<string> {
    return lines(await this.command("cat", path));
  }

  /** Whether there is such a file in the guest that can be read. */
  async has(path: string): Promise<boolean> {
    try {
      await this.command("cat", path);
      return true;
    } catch {
      return false;
    }
  }

  /** Writes a word to a file in the guest. */
  async echo(path: string, word: string): Promise<void> {
    await this.command("echo", path, word);
  }

  /** Loads a module. */
  async insmod(path: string): Promise<void> {
    await this.command("insmod", path);
  }

  /** What the kernel has said since this was asked last, a line each. */
  async kernelLog(): Promise<string[]> {
    let text = "";
    for (;;) {
      const more = lines(await this.command("log"));
      if (more === "") return text.split("\n").filter((line) => line !== "");
      text += more;
    }
  }

  /**
   * Starts a program; others may be started before it has ended.
   *
   * @param ms How long it may run.
   * @param path Its path.
   * @param args Its arguments, without spaces.
   * @returns A function that waits for its end; the agent takes no other command meanwhile.
   */
  async start(ms: number, path: string, ...args: readonly string[]): Promise<() => Promise<Ended>> {
    const started = await this.command("start", ms, path, ...args);
    return async () => {
      const answer = await this.#ask(ms + PROGRAM_DEADLINE, `wait ${started}`);
      const [, code, late, time, output] = /^(\S+) (\S+) (\S+) (.*)$/.exec(answer)!;
      const [status, isLate, took] = [code, late, time].map((word) => parseInt(word!, 16));
      return { code: status!, isLate: isLate === 1, ms: took!, output: lines(output!) };
    };
  }

  /** Runs a program to its end. Parameters are those of {@linkcode Agent.start}. */
  async run(ms: number, path: string, ...args: readonly string[]): Promise<Ended> {
    return await (await this.start(ms, path, ...args))();
  }

  /** How long accesses took since this was asked last. */
  async times(): Promise<Times> {
    const [count, total, longest, bar, offset] = (await this.command("times")).split(" ")
      .map((word) => parseInt(word, 16));
    const place = `BAR ${bar} offset 0x${offset!.toString(16)}`;
    return { count: count!, total: total!, longest: longest!, place };
  }

  /** Hangs up. */
  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }
}

function line(words: readonly (string | number | bigint)[]): string {
  return words.map((word) => typeof word === "string" ? word : word.toString(16)).join(" ");
}

/** A text that came as one line. */
function lines(text: string): string {
  return text.replaceAll("|", "\n");
}

function hex(word: string): bigint {
  return BigInt(`0x${word}`);
}
