/**
 * A real browser, without a window, and pages in it that are watched: nothing may go wrong in them, and nobody else may be
 * asked for anything.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { type Browser, chromium, type Page } from "playwright-core";

/** What Chromium is called where it is installed. */
const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/** Milliseconds between looks at a page. */
const POLL = 20;
/** Whose user may not use Chromium's sandbox. */
const ROOT = 0;

/** Where Chromium is, or why it cannot be had. */
export const CHROMIUM: { readonly path: string | null; readonly reason: string } = findChromium();

function findChromium(): typeof CHROMIUM {
  for (const folder of (Deno.env.get("PATH") ?? "").split(":")) {
    for (const name of NAMES) {
      try {
        if (Deno.statSync(`${folder}/${name}`).isFile) return { path: `${folder}/${name}`, reason: "" };
      } catch {
        // It is not in this folder.
      }
    }
  }
  return { path: null, reason: "there is no Chromium: apt install chromium" };
}

/** How a page is opened. */
export interface PageOptions {
  /** What the system prefers. */
  readonly scheme?: "dark" | "light";
}

/** A page, with what went on in it. */
export class WatchedPage implements AsyncDisposable {
  /** The page. */
  readonly page: Page;
  /** Addresses that it asked. */
  readonly requests: string[] = [];
  /** What went wrong in it. */
  readonly errors: string[] = [];

  /** @param page A new page. */
  constructor(page: Page) {
    this.page = page;
    page.on("request", (request) => this.requests.push(request.url()));
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") this.errors.push(message.text());
    });
    page.on("pageerror", (error) => this.errors.push(error.message));
  }

  /** Text of the first element that a selector finds, when it is as wanted; fails if it never is. */
  async text(selector: string, wanted: RegExp, timeout = 5000): Promise<string> {
    // The page's own rules forbid what Playwright would do to wait in it.
    const deadline = performance.now() + timeout;
    for (;;) {
      const text = await this.#textNow(selector);
      if (wanted.test(text)) return text;
      if (performance.now() > deadline) {
        throw new Error(`${selector} should match ${wanted}: ${JSON.stringify(text)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL));
    }
  }

  async #textNow(selector: string): Promise<string> {
    const found = this.page.locator(selector);
    return await found.count() === 0 ? "" : await found.first().textContent() ?? "";
  }

  /** Checks that nothing went wrong, and that only this server was asked. */
  assertQuiet(server: string): void {
    assertEquals(this.errors, []);
    const { origin } = new URL(server);
    const strangers = this.requests.filter((url) =>
      new URL(url).origin !== origin && !url.startsWith("data:")
    );
    assertEquals(strangers, []);
  }

  /** Closes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.page.close();
  }
}

/** A browser. */
export class TestBrowser implements AsyncDisposable {
  readonly #browser: Browser;

  private constructor(browser: Browser) {
    this.#browser = browser;
  }

  /** Starts it. */
  static async start(): Promise<TestBrowser> {
    if (CHROMIUM.path === null) throw new Error(CHROMIUM.reason);
    const args = Deno.uid() === ROOT ? ["--no-sandbox"] : [];
    return new TestBrowser(await chromium.launch({ executablePath: CHROMIUM.path, args }));
  }

  /** Opens a page of 1280 × 800. */
  async open(url: string, { scheme = "dark" }: PageOptions = {}): Promise<WatchedPage> {
    const options = { viewport: { width: 1280, height: 800 }, colorScheme: scheme } as const;
    const watched = new WatchedPage(await this.#browser.newPage(options));
    await watched.page.goto(url);
    return watched;
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close();
  }
}
