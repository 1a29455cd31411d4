/**
 * Loads a file of this folder when it is needed. A name in `import()` itself would not do: what the runtime can read there
 * is looked for when the program starts, with everything that it imports, whether it is needed or not.
 *
 * @param name The file's name.
 * @returns What it exports.
 */
export async function loadLater<Exports>(name: string): Promise<Exports> {
  return await import(new URL(name, import.meta.url).href) as Exports;
}
