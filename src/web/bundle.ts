/**
 * Makes the page's script of its source, when the command starts and in memory: nothing that is made, and nothing of
 * others, is kept in the project.
 *
 * @module
 */

/** What this file uses of the runtime's bundler, which needs `--unstable-bundle`. */
interface Bundler {
  bundle?(options: {
    entrypoints: string[];
    platform: "browser";
    write: false;
    minify: boolean;
  }): Promise<{
    success: boolean;
    errors: readonly { text: string }[];
    outputFiles?: readonly { text(): string }[];
  }>;
}

/** The page cannot be made; the message says why. */
export class BundleError extends Error {
  /** Always `"BundleError"`. */
  override readonly name = "BundleError";
}

/**
 * Bundles the page with the packages that it uses.
 *
 * @returns JavaScript.
 * @throws {BundleError} When that fails.
 */
export async function bundlePage(): Promise<string> {
  const { bundle } = Deno as Bundler;
  if (bundle === undefined) {
    throw new BundleError("The page needs the runtime's bundler: give --unstable-bundle");
  }
  const entry = decodeURIComponent(new URL("page/main.tsx", import.meta.url).pathname);
  let result: Awaited<ReturnType<typeof bundle>>;
  try {
    result = await bundle({ entrypoints: [entry], platform: "browser", write: false, minify: true });
  } catch (cause) {
    throw new BundleError(`Cannot make the page: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
  const [file] = result.outputFiles ?? [];
  if (!result.success || file === undefined) {
    throw new BundleError(`Cannot make the page: ${result.errors.map(({ text }) => text).join("; ")}`);
  }
  return file.text();
}
