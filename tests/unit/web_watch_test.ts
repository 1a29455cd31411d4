import { assert, assertEquals } from "@std/assert";
import { TooFastError } from "../../src/observe/mirror.ts";
import type { Snapshot } from "../../src/observe/snapshot.ts";
import type { SourceState } from "../../src/web/messages.ts";
import { Watch, type Watcher, type WatchSource } from "../../src/web/watch.ts";
import { sketch } from "./inspect_snapshot.ts";

/** A source that counts how often it is looked at, and does as it is told. */
class CountedSource implements WatchSource {
  readonly name = "counted";
  readonly client = null;
  looks = 0;
  isClosed = false;
  /** What the next looks throw. */
  error: Error | null = null;
  readonly #milliseconds: number;

  constructor(milliseconds = 0) {
    this.#milliseconds = milliseconds;
  }

  async take(): Promise<Snapshot> {
    this.looks++;
    if (this.error !== null) throw this.error;
    if (this.#milliseconds > 0) await pause(this.#milliseconds);
    return sketch({});
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}

/** Keeps what it is told. */
class Told implements Watcher {
  readonly isLogIncomplete = false;
  readonly states: SourceState["state"][] = [];
  moments = 0;
  sourceChanged({ state }: SourceState): void {
    this.states.push(state);
  }
  momentTaken(): void {
    this.moments++;
  }
  logGrew(): void {}
}

async function pause(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Waits until something is so. */
async function until(isSo: () => boolean): Promise<void> {
  for (let left = 500; !isSo(); left--) {
    assert(left > 0, "it never came to that");
    await pause(10);
  }
}

Deno.test("watch looks at a device while somebody watches, and not otherwise", async () => {
  const source = new CountedSource();
  await using watch = new Watch(source, { kind: "device", open: () => Promise.resolve(source) });
  await pause(300);
  assertEquals(source.looks, 0);
  const watcher = new Told();
  watch.join(watcher);
  await until(() => watcher.moments >= 2);
  watch.leave(watcher);
  await pause(250); // a look that was under way
  const { looks } = source;
  await pause(500);
  assertEquals(source.looks, looks);
});

Deno.test("watch looks once at what cannot change, and tells it whoever comes", async () => {
  const source = new CountedSource();
  await using watch = new Watch(source, { kind: "recording", open: () => Promise.resolve(source) });
  await until(() => watch.moment !== null);
  for (const watcher of [new Told(), new Told()]) {
    watch.join(watcher);
    assertEquals([watcher.states, watcher.moments], [["still"], 1]);
  }
  await pause(300);
  assertEquals(source.looks, 1);
});

Deno.test("watch leaves a device that needs long to answer most of its time", async () => {
  const source = new CountedSource(120);
  await using watch = new Watch(source, { kind: "device", open: () => Promise.resolve(source) });
  const watcher = new Told();
  watch.join(watcher);
  await until(() => watcher.moments >= 2);
  const { looks } = source;
  await pause(500);
  assert(source.looks <= looks + 1, "no more than one look in half a second");
});

Deno.test("watch keeps what it saw last of a guest that is too fast", async () => {
  const source = new CountedSource();
  await using watch = new Watch(source, { kind: "device", open: () => Promise.resolve(source) });
  const watcher = new Told();
  watch.join(watcher);
  await until(() => watcher.moments >= 1);
  source.error = new TooFastError("too fast");
  const { looks } = source;
  await until(() => source.looks > looks + 1);
  assertEquals([watcher.states, source.isClosed], [["live"], false]);
});

Deno.test("watch looks for a device that is lost until there is one", async () => {
  const [first, second] = [new CountedSource(), new CountedSource()];
  let tries = 0;
  const open = () => ++tries < 3 ? Promise.reject(new Error("nobody listens")) : Promise.resolve(second);
  await using watch = new Watch(first, { kind: "device", open });
  const watcher = new Told();
  watch.join(watcher);
  await until(() => watcher.moments >= 1);
  first.error = new Error("it is gone");
  await until(() => second.looks > 0);
  assertEquals([watcher.states, tries, first.isClosed], [["live", "lost", "live"], 3, true]);
});
