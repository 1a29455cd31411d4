/**
 * A test in a real browser: ignored, with the reason, where there is none.
 *
 * @module
 */

import { openSource, type SourceOptions } from "../../src/cli/inspect/source.ts";
import { PageServer } from "../../src/web/page_server.ts";
import { Watch } from "../../src/web/watch.ts";
import { CHROMIUM, TestBrowser } from "./browser.ts";

/** The page's name for each kind of source. */
const KINDS = { socket: "device", recording: "recording", snapshot: "snapshot" } as const;

/** Declares a test. Playwright's own connections live a little longer than the browser, so that only leaks of ours count. */
export function webTest(name: string, run: (browser: TestBrowser) => Promise<void>): void {
  const isIgnored = CHROMIUM.path === null;
  Deno.test({
    name: isIgnored ? `${name} (${CHROMIUM.reason})` : name,
    ignore: isIgnored,
    async fn() {
      await using browser = await TestBrowser.start();
      await run(browser);
    },
  });
}

/** A server of the page, as `inspect web` starts it. */
export class ServedPage implements AsyncDisposable {
  /** Its address. */
  readonly url: string;
  readonly #stack: AsyncDisposableStack;

  private constructor(url: string, stack: AsyncDisposableStack) {
    this.url = url;
    this.#stack = stack;
  }

  /** Starts it. */
  static async start(options: SourceOptions): Promise<ServedPage> {
    await using stack = new AsyncDisposableStack();
    const open = () => openSource(options);
    const watch = stack.use(new Watch(await open(), { kind: KINDS[options.kind], open }));
    const server = stack.use(await PageServer.start(watch));
    return new ServedPage(server.url, stack.move());
  }

  /** Stops it. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** The recording of a stock guest. */
export const RECORDING: SourceOptions = {
  kind: "recording",
  path: new URL("../../examples/debian-6.1-i915.jsonl.gz", import.meta.url).pathname,
  name: "examples/debian-6.1-i915.jsonl.gz",
};
