/**
 * Building the guest with the system's C compiler, into a temporary folder.
 *
 * @module
 */

/** The guest could not be built; the message says what to do. */
export class NoGuest extends Error {
  /** Always `"NoGuest"`. */
  override readonly name = "NoGuest";
}

const SOURCES = new URL("guest/", import.meta.url).pathname;
const FLAGS = [
  "-m64 -O1 -Wall -Wextra -ffreestanding -nostdlib -static -fno-pic", // a program without a system below it
  "-mno-red-zone -mgeneral-regs-only", // interrupts use the same stack and save no SSE registers
  "-fno-stack-protector -fcf-protection=none -fno-tree-loop-distribute-patterns", // nothing that needs a library
  "-Wl,--oformat=binary -Wl,--build-id=none",
].flatMap((line) => line.split(" "));

/**
 * Compiles the guest.
 *
 * @returns What to put at 1 MiB; it starts with its first byte.
 * @throws {NoGuest} If there is no compiler, or it fails.
 */
export async function buildGuest(): Promise<Uint8Array<ArrayBuffer>> {
  const folder = await Deno.makeTempDir({ dir: "/tmp", prefix: "vgtt-guest-" });
  try {
    const image = `${folder}/guest.bin`;
    const args = [
      ...FLAGS,
      `-Wl,-T,${SOURCES}guest.ld`,
      "-o",
      image,
      `${SOURCES}start.S`,
      `${SOURCES}guest.c`,
    ];
    const { success, stderr } = await compile(args);
    if (!success) throw new NoGuest(`gcc failed:\n${new TextDecoder().decode(stderr)}`);
    return await Deno.readFile(image);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function compile(args: string[]): Promise<Deno.CommandOutput> {
  try {
    return await new Deno.Command("gcc", { args, stdout: "null", stderr: "piped" }).output();
  } catch (error) {
    // A name that `--allow-run` could not find is not permitted either.
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotCapable)) throw error;
    throw new NoGuest(
      "gcc cannot be run: install it (Debian: apt-get install gcc) and allow it (--allow-run=gcc)",
      {
        cause: error,
      },
    );
  }
}
