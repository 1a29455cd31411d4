/**
 * Makes the pictures of the README, on request: `VGTT_SCREENSHOTS=examples/inspect deno task test:web`.
 */

import { assert } from "@std/assert";
import { Showcase } from "./showcase.ts";
import type { WatchedPage } from "./browser.ts";
import { repacked } from "./png.ts";
import { ServedPage, webTest } from "./web_test_case.ts";

const FOLDER = Deno.env.get("VGTT_SCREENSHOTS") ?? "";
/** Milliseconds that the guest works before its picture is taken. */
const WORK = FOLDER === "" ? 1500 : 50_000;
/** Bytes that a picture may have. */
const MAX_BYTES = 200 << 10;
/** What is walked: an entry that was stored behind the device's back. */
const WRONG = "0xcc8000";

webTest("screenshots show a guest at work, and keep small", async (browser) => {
  await using showcase = await Showcase.start();
  const { path } = showcase.guest.device;
  await using server = await ServedPage.start({ kind: "socket", path, name: "/run/vgtt.sock" });
  await using dark = await browser.open(server.url, { scheme: "dark" });
  await using light = await browser.open(server.url, { scheme: "light" });
  const end = performance.now() + WORK;
  while (performance.now() < end) {
    await showcase.work();
    await new Promise((resolve) => setTimeout(resolve, 90));
  }
  await showcase.disturb();
  await pose(dark, showcase.mm);
  await pose(light, showcase.mm);
  for (const [watched, name] of [[dark, "inspect-dark"], [light, "inspect-light"]] as const) {
    const picture = repacked(await watched.page.screenshot());
    assert(picture.length < MAX_BYTES, `${name} has ${picture.length} bytes`);
    if (FOLDER !== "") {
      await Deno.mkdir(FOLDER, { recursive: true });
      await Deno.writeFile(`${FOLDER}/${name}.png`, picture);
    }
    watched.assertQuiet(server.url);
  }
});

/** Shows the first 16 MiB, a walk that goes wrong, and a fault. */
async function pose(watched: WatchedPage, mm: number): Promise<void> {
  const { page } = watched;
  await page.click(`[role=tab]:has-text("PPGTT ${mm}")`);
  await page.fill(".address input", WRONG);
  await page.keyboard.press("Enter");
  await watched.text(".walk .verdict", /wrong/);
  await page.focus(".timeline canvas");
  await page.keyboard.press("End");
  for (let press = 0; press < 600 && !/fault/.test(await watched.text(".details", /#/)); press++) {
    await page.keyboard.press("ArrowLeft");
  }
  await page.focus(".strip canvas");
  for (let press = 0; press < 3; press++) await page.keyboard.press("-");
  for (let press = 0; press < 3; press++) await page.keyboard.press("Shift+ArrowLeft");
  await watched.text(".zoom .range", /^0x0–0xffffff$/);
  await page.hover(".plots");
}
