import { assert } from "@std/assert";
import { connect } from "../../protocol/connect.ts";
import { announceTree4 } from "../scenarios/guest_pages.ts";
import { Showcase } from "./showcase.ts";
import { OtherDevice } from "./other_device.ts";
import { ServedPage, webTest } from "./web_test_case.ts";

/** A device's socket, as a source. */
function socket(path: string) {
  return { kind: "socket", path, name: path } as const;
}

webTest("page shows a guest's store within a second", async (browser) => {
  await using showcase = await Showcase.start();
  await using server = await ServedPage.start(socket(showcase.guest.device.path));
  await using watched = await browser.open(server.url);
  await watched.text(".pill", /live/);
  await watched.page.click(`[role=tab]:has-text("PPGTT ${showcase.mm}")`);
  await watched.page.fill(".address input", "0x3000");
  await watched.page.keyboard.press("Enter");
  await watched.text(".walk .end", /nothing/);
  await showcase.storeEntry(3, 0x3e5);
  await watched.text(".walk .end", /gpa 0x3e5000.*hpa 0x1003e5000/, 1000);
  watched.assertQuiet(server.url);
});

webTest("page tells what waits, what leads nowhere and what is wrong", async (browser) => {
  await using showcase = await Showcase.start();
  await using server = await ServedPage.start(socket(showcase.guest.device.path));
  await using watched = await browser.open(server.url);
  await watched.text("[role=tab][aria-selected=true]", new RegExp(`PPGTT ${showcase.mm}`));
  await watched.text("[role=tab][aria-selected=true]", /! 16 wrong/);
  const walks = [
    ["0xcc8000", /wrong.*guest says gpa .*, shadow says gpa .*, because/],
    ["0xa78000", /pending.*out of sync/],
    ["0x600000", /expected.*split/],
    ["0x400000", /same.*both agree/],
    ["0xe64000", /no RAM/],
  ] as const;
  for (const [gma, sentence] of walks) {
    await watched.page.fill(".address input", gma);
    await watched.page.keyboard.press("Enter");
    await watched.text(".walk header b", new RegExp(gma));
    await watched.text(".walk .verdict", sentence);
  }
  watched.assertQuiet(server.url);
});

webTest("page tells what happens, and details of an event that is picked", async (browser) => {
  await using showcase = await Showcase.start();
  await using server = await ServedPage.start(socket(showcase.guest.device.path));
  await using watched = await browser.open(server.url);
  await watched.text(".pill", /live/);
  for (let round = 0; round < 12; round++) await showcase.work();
  await watched.text(".events header", /[1-9]\d+ events/);
  await watched.page.focus(".timeline canvas");
  await watched.page.keyboard.press("End");
  const last = await watched.text(".details", /#\d+ at/);
  await watched.page.keyboard.press("ArrowLeft");
  const before = await watched.text(".details", /#\d+ at/);
  assert(last !== before);
  await watched.text(".events header button", /run on/);
  await watched.text(".plots figure:nth-child(2) .now", /rcs0[1-9]/);
  watched.assertQuiet(server.url);
});

webTest("page stays at the moment at which it is paused", async (browser) => {
  await using showcase = await Showcase.start();
  await using server = await ServedPage.start(socket(showcase.guest.device.path));
  await using watched = await browser.open(server.url);
  await watched.text("[role=tab][aria-selected=true]", new RegExp(`PPGTT ${showcase.mm}`));
  await watched.page.fill(".address input", "0x3000");
  await watched.page.keyboard.press("Enter");
  await watched.text(".walk .end", /nothing/);
  await watched.page.click(".top button:has-text('pause')");
  await watched.text(".pill", /paused/);
  await showcase.storeEntry(3, 0x3e5);
  await watched.page.fill(".address input", "0x14000"); // still walks, in that moment
  await watched.page.keyboard.press("Enter");
  await watched.text(".walk .end", /nothing/);
  await watched.page.fill(".address input", "0x3000");
  await watched.page.keyboard.press("Enter");
  await watched.text(".walk header b", /0x3000/);
  await watched.text(".walk .end", /nothing/);
  await watched.page.click(".top button:has-text('go on')");
  await watched.text(".walk .end", /gpa 0x3e5000/, 1000);
});

webTest("page tells that a device is lost, and shows the next one at its place", async (browser) => {
  const folder = await Deno.makeTempDir({ dir: "/tmp", prefix: "vgtt-" });
  try {
    const path = `${folder}/s`;
    const first = await OtherDevice.start(path);
    await using server = await ServedPage.start(socket(path));
    await using watched = await browser.open(server.url);
    await watched.text(".pill", /live/);
    await first[Symbol.asyncDispose]();
    await watched.text(".pill", /device lost/);
    await watched.text(".why", /how it was: ./);
    await using _second = await OtherDevice.start(path);
    await watched.text(".pill", /live/);
    await using vmm = await connect(path, { role: "vmm" });
    await vmm.call("ram_map", { gpa: 0, size: 0x400000 });
    await announceTree4(vmm);
    await watched.text("[role=tab][aria-selected=true]", /PPGTT 0.*2 pages/);
    watched.assertQuiet(server.url);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
