import { assert, assertEquals, assertMatch } from "@std/assert";
import type { WatchedPage } from "./browser.ts";
import { RECORDING, ServedPage, webTest } from "./web_test_case.ts";

/** What has the keyboard's focus: its role and name. */
async function focused({ page }: WatchedPage): Promise<string> {
  return await page.evaluate<string>(
    `[document.activeElement.getAttribute("role"), document.activeElement.getAttribute("aria-label") ??
      document.activeElement.textContent].join(" ")`,
  );
}

/** The page's background. */
async function background({ page }: WatchedPage): Promise<string> {
  return await page.evaluate<string>("getComputedStyle(document.body).backgroundColor");
}

webTest("page shows a recorded guest's tables, and walks what is clicked", async (browser) => {
  await using server = await ServedPage.start(RECORDING);
  await using watched = await browser.open(server.url);
  const { page } = watched;
  await watched.text("[role=tab][aria-selected=true]", /PPGTT 3.*5 pages/);
  assertEquals(await page.locator("[role=tab]").count(), 7);
  await watched.text(".pill", /replayed/);
  await watched.text(".facts", /spaces 5.*tables 11/);
  await page.click(".buttons button:has-text('mapped ›')");
  await watched.text(".row[aria-selected=true]", /PTE\[\d\].*gfn 0x1e/);
  await watched.text(".walk .verdict", /same.*both agree/);
  await page.click(".row:has-text('PTE[5–511]')");
  await watched.text(".walk header", /0x5000/);
  await watched.text(".walk .end", /gpa 0x1d30000/); // the guest's scratch page
  await page.click("[role=tab]:has-text('Hidden')");
  await watched.text(".tree", /GGTT\[\d+–\d+\]/);
  watched.assertQuiet(server.url);
});

webTest("a click on the map walks the page under the pointer", async (browser) => {
  await using server = await ServedPage.start(RECORDING);
  await using watched = await browser.open(server.url);
  const { page } = watched;
  await watched.text("[role=tab][aria-selected=true]", /PPGTT 3/);
  await page.click(".buttons button:has-text('mapped ›')");
  await watched.text(".zoom", /one cell is 4 KiB/);
  const canvas = page.locator(".strip canvas");
  const { width } = (await canvas.boundingBox())!;
  await canvas.hover({ position: { x: width * (2.5 / 512), y: 40 } });
  await watched.text("#hover", /0x2000 4 KiBPTE\[2\]guest0x1e5c · P PAT.*shadow0x101e5c · P PAT/);
  await canvas.click({ position: { x: width * (2.5 / 512), y: 40 } });
  await watched.text(".walk header b", /^0x2000$/);
  await watched.text(".walk .end", /gpa 0x1e5c000.*hpa 0x101e5c000/);
  watched.assertQuiet(server.url);
});

webTest("everything can be done by keyboard, with the focus to be seen", async (browser) => {
  await using server = await ServedPage.start(RECORDING);
  await using watched = await browser.open(server.url);
  const { page } = watched;
  await watched.text("[role=tab][aria-selected=true]", /PPGTT 3/);
  const order: string[] = [];
  for (let press = 0; press < 12; press++) {
    await page.keyboard.press("Tab");
    order.push(await focused(watched));
  }
  assertMatch(
    order.join("; "),
    /auto; tab PPGTT 3.*; .*all;.*zoom out;.*zoom in;.*slider addresses of PPGTT 3; treeitem root 0/,
  );
  const outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle");
  assertEquals(outline, "solid");
  // The map: look closer, go on, walk.
  await page.focus(".strip canvas");
  for (let press = 0; press < 27; press++) await page.keyboard.press("+");
  await watched.text(".zoom", /one cell is 4 KiB/);
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await watched.text("#hover", /^0x2000/);
  await page.keyboard.press("Enter");
  await watched.text(".walk header b", /0x2000/);
  await page.keyboard.press("0");
  await watched.text(".zoom", /one cell is 512 GiB/);
  // The tree: fold, unfold.
  await page.focus("[role=treeitem]");
  const rows = await page.locator("[role=treeitem]").count();
  await page.keyboard.press("ArrowLeft");
  await watched.text("[role=treeitem][aria-expanded=false]", /root 0/);
  await page.keyboard.press("ArrowRight");
  await watched.text("[role=treeitem][aria-expanded=true]", /root 0/);
  assertEquals(await page.locator("[role=treeitem]").count(), rows);
  await page.keyboard.press("ArrowDown");
  assertMatch(await focused(watched), /treeitem.*PML4\[0\]/);
  // The spaces.
  await page.focus("[role=tab][aria-selected=true]");
  await page.keyboard.press("ArrowLeft");
  await watched.text("[role=tab][aria-selected=true]", /PPGTT 2/);
  watched.assertQuiet(server.url);
});

webTest("page is dark or light as the system is, or as the switch says", async (browser) => {
  await using server = await ServedPage.start(RECORDING);
  await using dark = await browser.open(server.url, { scheme: "dark" });
  await using light = await browser.open(server.url, { scheme: "light" });
  await dark.text(".pill", /replayed/);
  await light.text(".pill", /replayed/);
  const [night, day] = [await background(dark), await background(light)];
  assert(night !== day);
  await light.page.click(".top button:has-text('auto')");
  await light.text(".top", /dark/);
  assertEquals(await background(light), night);
  await light.page.click(".top button:has-text('dark')");
  assertEquals(await background(light), day);
});

webTest("nothing on the page moves when values change or a pointer passes", async (browser) => {
  await using server = await ServedPage.start(RECORDING);
  await using watched = await browser.open(server.url);
  const { page } = watched;
  await watched.text("[role=tab][aria-selected=true]", /PPGTT 3/);
  const boxes = async () => {
    const panels = await page.locator(".panel, .strip canvas, .hover, .zoom .legend").all();
    return await Promise.all(panels.map((panel) => panel.boundingBox()));
  };
  const before = await boxes();
  await page.hover(".strip canvas", { position: { x: 600, y: 60 } });
  await page.click(".buttons button:has-text('mapped ›')");
  await watched.text(".walk .verdict", /same/);
  await page.focus(".timeline canvas");
  await page.keyboard.press("Home");
  await watched.text(".details", /#1 at/);
  assertEquals(await boxes(), before);
  const overflow = await page.evaluate<number[]>(
    "[document.documentElement.scrollWidth - innerWidth, document.documentElement.scrollHeight - innerHeight]",
  );
  assertEquals(overflow, [0, 0]);
});
