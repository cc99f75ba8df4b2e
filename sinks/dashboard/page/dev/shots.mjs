// Pictures of the page against the mock server, for looking at: `node dev/shots.mjs DIRECTORY [NAME…]`. Build first.
// Fails when the page logs an error, breaks its policy, or is wider than its window.
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [directory, ...only] = process.argv.slice(2);
if (!directory) throw new Error("Say where the pictures go: node dev/shots.mjs DIRECTORY");
const BROWSER = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const WIDE = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };

/** name: [scene, tab, window, theme, what to do before the picture] */
const SHOTS = {
  "network-wide-light": ["cascade", "network", WIDE, "light"],
  "network-wide-dark": ["cascade", "network", WIDE, "dark"],
  "network-phone-light": ["cascade", "network", PHONE, "light"],
  "network-phone-dark": ["cascade", "network", PHONE, "dark"],
  "network-tablet-light": ["cascade", "network", { width: 820, height: 1180 }, "light"],
  "occupancy-tablet-dark": ["calm", "occupancy", { width: 820, height: 1180 }, "dark"],
  "calm-wide-light": ["calm", "network", WIDE, "light"],
  "degraded-wide-dark": ["degraded", "network", WIDE, "dark", single],
  "many-wide-light": ["many", "network", WIDE, "light"],
  "many-tiny-dark": ["many", "network", { width: 360, height: 740 }, "dark"],
  "huge-light": ["cascade", "network", { width: 2560, height: 1440 }, "light"],
  "huge-occupancy-dark": ["calm", "occupancy", { width: 2560, height: 1440 }, "dark"],
  "occupancy-wide-light": ["calm", "occupancy", WIDE, "light"],
  "occupancy-wide-dark": ["calm", "occupancy", WIDE, "dark"],
  "occupancy-phone-light": ["calm", "occupancy", PHONE, "light"],
  "occupancy-phone-dark": ["cascade", "occupancy", PHONE, "dark"],
  "occupancy-frozen-light": ["cascade", "occupancy", WIDE, "light"],
  "history-wide-light": ["calm", "network", WIDE, "light", week],
  "details-wide-light": ["cascade", "network", WIDE, "light", details],
  "details-phone-dark": ["cascade", "network", PHONE, "dark", details],
  "mute-wide-light": ["cascade", "network", WIDE, "light", mute],
  "explain-wide-light": ["cascade", "network", WIDE, "light", explain],
  "explain-wide-dark": ["cascade", "network", WIDE, "dark", explain],
  "explain-phone-light": ["cascade", "network", PHONE, "light", explain],
  "explain-phone-dark": ["cascade", "network", PHONE, "dark", explain],
  "explain-session-light": ["calm", "occupancy", WIDE, "light", explainSession],
  "explain-failure-dark": ["calm", "network", PHONE, "dark", explainFailure],
  "explain-loading-light": ["calm", "network", WIDE, "light", explainLoading],
  "alerts-wide-light": ["attacked", "alerts", WIDE, "light"],
  "alerts-wide-dark": ["attacked", "alerts", WIDE, "dark"],
  "alerts-phone-light": ["attacked", "alerts", PHONE, "light"],
  "alerts-phone-dark": ["attacked", "alerts", PHONE, "dark"],
  "alerts-tablet-dark": ["attacked", "alerts", { width: 820, height: 1180 }, "dark"],
  "alerts-huge-light": ["attacked", "alerts", { width: 2560, height: 1440 }, "light"],
  "alerts-expanded-wide-light": ["attacked", "alerts", WIDE, "light", expandAlert],
  "alerts-expanded-phone-dark": ["attacked", "alerts", PHONE, "dark", expandAlert],
  "alerts-explain-wide-dark": ["attacked", "alerts", WIDE, "dark", explainAlert],
  "alerts-searched-phone-light": ["attacked", "alerts", PHONE, "light", searchAlerts],
  "alerts-empty-wide-light": ["calm", "alerts", WIDE, "light"],
  "alerts-empty-phone-dark": ["calm", "alerts", PHONE, "dark"],
  "attacked-network-wide-light": ["attacked", "network", WIDE, "light"],
  "attacked-network-phone-dark": ["attacked", "network", PHONE, "dark"],
  "attacked-unseen-wide-dark": ["flood", "occupancy", WIDE, "dark"],
  "maintenance-wide-light": ["calm", "network", WIDE, "light", maintenance],
  "maintenance-phone-dark": ["calm", "network", PHONE, "dark", maintenance],
  "catching-up-wide-light": ["catching", "network", WIDE, "light"],
  "strange-wide-light": ["strange", "network", WIDE, "light"],
  "strange-health-dark": ["strange", "network", PHONE, "dark", health],
  "health-wide-dark": ["calm", "network", WIDE, "dark", health],
  "pc-wide-light": ["calm", "occupancy", WIDE, "light", pc],
  "empty-wide-light": ["empty", "network", WIDE, "light"],
  "empty-phone-dark": ["empty", "occupancy", PHONE, "dark"],
  "readonly-wide-dark": ["readonly", "network", WIDE, "dark"],
  "reconnecting-wide-light": ["cascade", "network", WIDE, "light", cut],
  "disconnected-wide-light": ["cascade", "network", WIDE, "light", cutLong],
  "disconnected-phone-dark": ["calm", "occupancy", PHONE, "dark", cutLong],
  "refused-wide-light": ["refuse", "network", WIDE, "light"],
};

const profile = await mkdtemp(join(tmpdir(), "watchfold-shots-"));
await mkdir(directory, { recursive: true });
const browser = await chromium.launchPersistentContext(profile, { executablePath: BROWSER, args: FLAGS, headless: true });
const faults = [];
let port = 8_100;
for (const [name, shot] of Object.entries(SHOTS)) {
  if (only.length > 0 && !only.some((part) => name.includes(part))) continue;
  await take(name, ...shot);
}
await browser.close();
await rm(profile, { recursive: true, force: true });
for (const fault of faults) console.error(fault);
process.exit(faults.length > 0 ? 1 : 0);

async function take(name, scene, tab, size, theme, act) {
  const mock = await serve(scene, ++port);
  const page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(`${name}: ${error.message}`));
  page.on("console", (message) => {
    const expected = mock.cut || scene === "refuse"; // Failed connections are what these pictures are about.
    if (message.type() === "error" && !expected) faults.push(`${name}: ${message.text()}`);
  });
  await page.setViewportSize(size);
  await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
  await page.goto(`http://127.0.0.1:${port}/#${tab}`);
  await page.waitForSelector(scene === "refuse" ? "text=no access" : scene === "catching" ? "text=reads what its log holds" : "#content .panel, #content .cards");
  await page.waitForTimeout(2_600);
  if (act) await act(page, mock);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) faults.push(`${name}: ${wide} px wider than its window`);
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.screenshot({ path: join(directory, `${name}.png`), fullPage: !act || act === cut || act === cutLong || act === week || act === single || act === details || act === maintenance || act === expandAlert || act === searchAlerts });
  console.log(name, "|", await page.title());
  await page.close();
  mock.stop();
}

function serve(scene, at) {
  const asked = scene === "refuse" ? ["--refuse"] : scene === "catching" ? ["--catching-up"] : ["--scene", scene];
  const child = spawn(process.execPath, [new URL("mock.mjs", import.meta.url).pathname, "--port", String(at), ...asked]);
  const mock = { cut: false, stop: () => child.kill() };
  child.stderr.on("data", (text) => faults.push(`mock ${scene}: ${text}`));
  return new Promise((resolve) => child.stdout.once("data", () => resolve(mock)));
}

async function single(page) {
  await page.selectOption("select", "internet");
  await page.waitForTimeout(400);
}
async function week(page) {
  await page.selectOption("select", "internet");
  await page.getByRole("radio", { name: "7 d" }).click();
  await page.waitForTimeout(1_200);
  await page.locator(".chart").first().hover({ position: { x: 420, y: 90 } });
}
async function details(page) {
  await page.locator("button.expand").first().click();
  await page.locator("button.expand").nth(4).click();
  await page.getByRole("button", { name: "Acknowledge router" }).last().click();
}
async function mute(page) {
  await page.getByRole("button", { name: /Mute router/ }).first().click();
}
async function health(page) {
  await page.getByRole("button", { name: /stages (advance|needs? a look)/ }).click();
  await page.waitForTimeout(500);
}
async function explain(page) {
  await page.getByRole("button", { name: "Explain router is down" }).first().click();
  await page.getByText("Records that caused it").waitFor();
  await page.waitForTimeout(300);
}
async function expandAlert(page) {
  await page.getByRole("button", { name: /DNS tunnel/ }).first().click();
  await page.getByRole("list", { name: "Alerts" }).getByRole("button", { name: /Port scan/ }).first().click();
}
async function explainAlert(page) {
  await page.getByRole("button", { name: /^Explain Port scan/ }).first().click();
  await page.getByText("Records that caused it").waitFor();
  await page.waitForTimeout(300);
}
async function searchAlerts(page) {
  await page.getByLabel("Search alerts").fill("nothing is called so");
  await page.getByText("Nothing like that here").scrollIntoViewIfNeeded();
}
async function explainSession(page) {
  await page.getByRole("button", { name: /Explain session of/ }).nth(3).click();
  await page.getByText("Records that caused it").waitFor();
}
async function explainFailure(page) {
  await page.getByRole("button", { name: /^Explain/ }).nth(1).click();
  await page.getByText("could not be explained").waitFor();
}
async function explainLoading(page) {
  await page.getByRole("button", { name: /^Explain/ }).first().click();
  await page.waitForTimeout(500);
}
async function maintenance(page) {
  await page.getByRole("button", { name: "Plan maintenance" }).click();
  await page.getByRole("checkbox", { name: "router" }).check();
  await page.getByLabel("Reason").fill("New firmware");
  await page.getByLabel("Reason").scrollIntoViewIfNeeded();
}
async function pc(page) {
  await page.locator("button.tile", { hasText: "Tournament" }).click();
  await page.waitForTimeout(500);
}
async function cut(page, mock) {
  mock.cut = true;
  mock.stop();
  await page.waitForTimeout(6_000);
}
async function cutLong(page, mock) {
  mock.cut = true;
  mock.stop();
  await page.waitForSelector("text=No connection to Watchfold", { timeout: 45_000 });
}
