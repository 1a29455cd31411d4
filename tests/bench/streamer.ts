/**
 * The command streamers and the blitter: a guest in this process submits over and over, and the engines have their turns
 * as a server's loop would give them when no message waits.
 *
 * The guest's frames are in no order, as those of a guest that has run for long, so nothing gains from neighbours; where
 * they are in order the row says so.
 *
 * @module
 */

import { END } from "../streamer/commands.ts";
import {
  BlitterGuest,
  copy,
  fastCopy,
  fill,
  FRAMES,
  FROM,
  PAGE,
  plainMachine,
  ROWS,
  STEPS,
  SURFACE_BYTES,
  TO,
} from "./blitter_guest.ts";
import { nanoseconds, report, reportOnly } from "./sample.ts";

/** What memcpy makes of as many bytes as a surface has, MB/s. */
function memcpyRate(): number {
  const [from, to] = [new Uint8Array(SURFACE_BYTES).fill(1), new Uint8Array(SURFACE_BYTES).fill(2)];
  return 1e3 / nanoseconds(BLITS * SURFACE_BYTES, () => {
    for (let i = 0; i < BLITS; i++) to.set(from);
  });
}

/** Empty batches a second. */
function batchRows(tracking: "trapped" | "untracked"): void {
  const guest = new BlitterGuest(plainMachine(tracking));
  guest.setBatch([END]);
  for (
    const [name, submissions, steps] of [
      ["empty batches, each submitted by itself", 1000, 1],
      ["empty batches, 255 in a submission", 10, STEPS - 1],
    ] as const
  ) {
    const each = nanoseconds(submissions * steps, () => {
      for (let i = 0; i < submissions; i++) guest.run(steps);
    });
    reportOnly(`${name}, ${tracking}`, "/s", 1e9 / each);
  }
  guest.check();
  guest.device[Symbol.dispose]();
}

/** Bytes a second by the blitter, beside memcpy. */
function blitRows(): void {
  const guest = new BlitterGuest(plainMachine("trapped"));
  const rate = (command: readonly number[], bytes: number) => {
    guest.setBatch([...command, END]);
    return 1e3 / nanoseconds(BLITS * bytes, () => {
      for (let i = 0; i < BLITS; i++) guest.run(1);
    });
  };
  const [wide, short] = [PAGE / 4, SHORT_ROW / 4];
  for (
    const [name, command] of [
      ["XY_SRC_COPY_BLT, 1024 × 1024 pixels of 32 bits", copy(TO, FROM, wide)],
      ["XY_FAST_COPY_BLT, the same", fastCopy(TO, FROM, wide)],
      ["XY_COLOR_BLT, the same", fill(TO, wide)],
    ] as const
  ) {
    report({
      name,
      unit: "MB/s",
      ours: rate(command, SURFACE_BYTES),
      reference: memcpyRate(),
      against: "memcpy",
      target: 4,
      isRate: true,
    });
  }
  const further = rate(copy(TO + 100, FROM, wide), SURFACE_BYTES);
  reportOnly("XY_SRC_COPY_BLT, 4 MiB to 100 bytes further in their pages", "MB/s", further);
  reportOnly("XY_SRC_COPY_BLT, rows of 64 bytes", "MB/s", rate(copy(TO, FROM, short), SHORT_ROW * ROWS));
  reportOnly("XY_COLOR_BLT, rows of 64 bytes", "MB/s", rate(fill(TO, short), SHORT_ROW * ROWS));
  guest.check();
  guest.device[Symbol.dispose]();
}

/** The same copy where a surface's frames follow one another. */
function orderedRow(): void {
  const guest = new BlitterGuest(
    plainMachine("trapped"),
    Int32Array.from({ length: FRAMES - 1 }, (_, index) => index + 1),
  );
  guest.setBatch([...copy(TO, FROM, PAGE / 4), END]);
  const each = nanoseconds(BLITS * SURFACE_BYTES, () => {
    for (let i = 0; i < BLITS; i++) guest.run(1);
  });
  reportOnly("XY_SRC_COPY_BLT, 4 MiB, frames in order", "MB/s", 1e3 / each);
  guest.check();
  guest.device[Symbol.dispose]();
}

/** Bytes of a short row: a character's, or a cursor's. */
const SHORT_ROW = 64;
/** Blits that are timed as one. */
const BLITS = 8;

batchRows("trapped");
batchRows("untracked");
blitRows();
orderedRow();
