// Drives the real page of the real command in Chromium, and asks the test around it to change the world: it writes
// `world <what>` to standard output and waits for `done` on standard input. Arguments: the link with its token, and the
// directory for pictures. Ends with an error when something is not seen in time, or the page logs an error.
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../../sinks/dashboard/page/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const [link, pictures] = process.argv.slice(2);
const BROWSER = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
/** How often a key is pressed until it has to have had its effect: 10 s. */
const KEY_PRESSES_MAX = 100;
const WINDOWS = { wide: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };
/** How long anything may take on a loaded machine, in milliseconds. */
const LIMIT = 60_000;

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const faults = [];
/** While the command is killed, failing connections are expected. */
let severed = false;

await mkdir(pictures, { recursive: true });
const profile = await mkdtemp(join(tmpdir(), "watchfold-browser-"));
const browser = await chromium.launchPersistentContext(profile, { executablePath: BROWSER, args: FLAGS, headless: true, reducedMotion: "reduce" });
const page = await browser.newPage();
page.setDefaultTimeout(LIMIT);
page.on("pageerror", (error) => faults.push(`uncaught: ${error.message}`));
page.on("console", (message) => {
  if (message.type() === "error" && !severed) faults.push(`logged: ${message.text()}`);
});
try {
  await opens();
  await followsAnOutage();
  await plansMaintenance();
  await looksAtAlerts();
  await looksAtHealth();
  await saysWhatItCannotShow();
  await followsPcs();
  await showsACascade();
  await comesBackAfterAKill();
} catch (error) {
  await page.screenshot({ path: join(pictures, "failed.png"), fullPage: true }).catch(() => {});
  faults.push(String(error.stack ?? error));
} finally {
  await browser.close();
  await rm(profile, { recursive: true, force: true });
}
for (const fault of faults) console.error(fault);
process.exit(faults.length > 0 ? 1 : 0);

async function opens() {
  const foreign = await page.request.get(new URL("/api/v1/state", link).href, { failOnStatusCode: false });
  check(foreign.status() === 401, "without the token nothing is told");
  await page.goto(link);
  await seen("the page is live", page.locator(".connection.live"));
  check(!page.url().includes("token"), "the token does not stay in the address");
  for (const name of ["router", "server", "internet"]) await seen(`${name} is up`, card(name, "Up", "good"));
  await picture("calm-empty", "occupancy");
}

/** The card turns red, the incident appears and is acknowledged, and both go when the server is back. */
async function followsAnOutage() {
  await tab("Network");
  await world("server down");
  await seen("the card turns red", card("server", "Down", "bad"));
  const open = page.locator("ul[aria-label='Open incidents'] > li", { hasText: "server is down" });
  await seen("the incident appears", open);
  await open.getByRole("button", { name: "Acknowledge server" }).click();
  await open.getByLabel("Note for server").fill("The cleaner pulled the plug");
  await open.getByRole("button", { name: "Acknowledge", exact: true }).click();
  await seen("it is acknowledged", open.getByText(/^Acknowledged/));
  await seen("with its note", open.getByText("The cleaner pulled the plug"));
  await picture("outage", "network");
  await world("server up");
  await seen("the card is green again", card("server", "Up", "good"));
  await gone("the incident is closed", open);
  await seen("it is in the list", page.getByText("Outage, closed").first());
  await explains();
}

/** The same as `watchfold explain`, derived from the log that is being written. */
async function explains() {
  await page.getByRole("button", { name: "Explain server was down" }).first().click();
  const panel = page.getByRole("dialog", { name: "Why: server was down" });
  for (const step of ["Incident opened", "Acknowledged", "Incident closed"]) await seen(`the step: ${step}`, panel.getByText(step, { exact: true }));
  await seen("what it was held against", panel.getByText(/^Down for .* It counts as an incident from/));
  await seen("and the setting", panel.getByText("network.min_incident"));
  await seen("the probes that failed", panel.getByText("no answer").first());
  const all = panel.getByRole("button", { name: /^Show all/ });
  if (await all.isVisible()) await all.click();
  await seen("what the operator said", panel.getByText("owner acknowledged it: The cleaner pulled the plug"));
  await lookAt("explained");
  await page.keyboard.press("Escape");
  await gone("the panel is closed", panel);
}

/** A window is planned, is there, and is taken back. */
async function plansMaintenance() {
  await tab("Network");
  await page.getByRole("button", { name: "Plan maintenance" }).click();
  await page.getByRole("checkbox", { name: "internet" }).check();
  await page.getByLabel("Reason").fill("New line");
  await page.getByRole("button", { name: "Plan it" }).click();
  const window = page.locator("ul[aria-label='Maintenance windows'] > li", { hasText: "New line" });
  await seen("the window is there", window.getByText("Now", { exact: true }));
  await lookAt("maintenance");
  await window.getByRole("button", { name: "Cancel maintenance: internet" }).click();
  await window.getByRole("button", { name: "Yes, cancel it" }).click();
  await gone("the window is taken back", window);
}

/** Nothing captures packets here: the tab says how it stands, and how to narrow what there would be. */
async function looksAtAlerts() {
  await tab("Alerts");
  await seen("that the threat is not known", page.getByRole("region", { name: "Threat" }).getByText("Not monitored"));
  await seen("the alerts", page.getByRole("heading", { name: "Alerts", exact: true }));
  await page.getByLabel("Search alerts").fill("203.0.113.9");
  await seen("that nothing is like that", page.getByText("Nothing like that here"));
  await page.getByRole("button", { name: "Show all" }).click();
  await lookAt("alerts");
}

/** The age of the data is there at every width, and the keyboard reaches the end of the panel. */
async function looksAtHealth() {
  for (const [window, size] of Object.entries({ ...WINDOWS, between: { width: 1100, height: 500 } })) {
    await page.setViewportSize(size);
    await seen(`the age of the data, ${window}`, page.locator(".connection .age"));
  }
  await page.getByRole("button", { name: /stages? (advances?|needs?)/ }).click();
  const panel = page.getByRole("dialog", { name: "Health" });
  await seen("a sink that is not configured", panel.getByText("not configured").first());
  // The panel may grow after the key: stages are reported while the process runs.
  for (let left = KEY_PRESSES_MAX; !(await page.evaluate(isScrolledToItsEnd)); left--) {
    if (left === 0) throw new Error(`the Health panel did not scroll by keyboard: ${await page.evaluate(whereIsFocus)}`);
    await page.keyboard.press("End");
    await page.waitForTimeout(100);
  }
  await page.keyboard.press("Escape");
  await gone("the panel is closed", panel);
  await page.setViewportSize(WINDOWS.wide);
}

function isScrolledToItsEnd() {
  const content = document.querySelector("dialog[open] .content");
  return content !== null && content.scrollTop > 0 && content.scrollTop + content.clientHeight >= content.scrollHeight - 2;
}

function whereIsFocus() {
  const content = document.querySelector("dialog[open] .content");
  return `${document.activeElement?.outerHTML.slice(0, 200)}; ${content?.scrollTop} + ${content?.clientHeight} of ${content?.scrollHeight}`;
}

/** What breaks the folding, and what breaks the showing: neither leaves an old page under a green "Live". */
async function saysWhatItCannotShow() {
  for (const [what, change] of Object.entries({ read: { target: null }, shown: { stages: null } })) {
    const other = await browser.newPage();
    await other.routeWebSocket(/\/stream/, (line) => {
      const server = line.connectToServer();
      server.onMessage((message) => {
        line.send(message);
        if (JSON.parse(message).type !== "snapshot") return;
        const broken = { type: "delta", position: { events: 1e12, observations: 1e12 }, now: new Date().toISOString(), changes: [change] };
        line.send(JSON.stringify(broken));
      });
    });
    await other.goto(link);
    await seen(`what cannot be ${what}`, other.getByRole("alert").filter({ hasText: "This page cannot show the state of the site" }));
    await other.close();
  }
}

async function followsPcs() {
  await tab("Occupancy");
  check((await page.locator("button.tile").count()) === 20, "20 PCs are shown");
  await world("pcs up");
  await seen("the first PC appears", page.locator("button.tile.present").first());
  await counted("all PCs are here", page.locator("button.tile.present"), 20);
  await seen("the count follows", page.locator(".figure .current", { hasText: /^20$/ }));
  const silent = page.locator("button.tile", { hasText: "PC-5" }).first();
  await seen("one that drops echo is seen by ARP", silent.getByText("ARP"));
  check((await silent.getByText("Echo").count()) === 0, "and by ARP only");
  await world("pc3 down");
  const left = page.locator("button.tile", { has: page.locator(".name", { hasText: /^PC-3$/ }) });
  await seen("a PC leaves", left.and(page.locator(".absent")));
  await counted("its session is over", page.locator(".figure .current", { hasText: /^19$/ }), 1);
  await picture("busy", "occupancy");
  await picture("calm", "network");
}

async function showsACascade() {
  await tab("Network");
  await world("router down");
  await seen("the router's card turns red", card("router", "Down", "bad"));
  for (const name of ["server", "internet"]) await seen(`${name} is held`, card(name, "Suppressed", "held"));
  await seen("one incident", page.locator("ul[aria-label='Open incidents'] > li", { hasText: "router is down" }));
  check((await page.locator("ul[aria-label='Open incidents'] > li").count()) === 1, "one cause, one incident");
  await picture("cascade", "network");
  await picture("cascade", "occupancy");
  await tab("Network");
  await world("router up");
  for (const name of ["router", "server", "internet"]) await seen(`${name} is up again`, card(name, "Up", "good"));
}

async function comesBackAfterAKill() {
  severed = true;
  await world("kill");
  await seen("the page says that it is cut off", page.getByRole("alert").filter({ hasText: "Watchfold" }));
  await picture("cut", "network");
  await world("start");
  await seen("the page is live again", page.locator(".connection.live"));
  severed = false;
  await gone("nothing says otherwise", page.getByRole("alert").filter({ hasText: "Watchfold" }));
  await tab("Network");
  await counted("what was before is still here", page.getByText("Outage, closed"), 2);
  await world("server down");
  await seen("and it follows again", card("server", "Down", "bad"));
  await world("server up");
  await seen("both ways", card("server", "Up", "good"));
}

function card(name, word, tone) {
  return page.locator(`article.card.tone-${tone}[aria-label='${name}: ${word}']`);
}

async function tab(name) {
  await page.getByRole("tab", { name }).click();
}

async function world(what) {
  process.stdout.write(`world ${what}\n`);
  const { value } = await answers.next();
  if (value !== "done") throw new Error(`${what}: the test around answered ${value}`);
}

async function seen(what, locator) {
  const began = Date.now();
  await locator.waitFor({ state: "visible" }).catch((error) => {
    throw new Error(`not seen: ${what}\n${error.message}`);
  });
  process.stdout.write(`${what}: after ${Date.now() - began} ms\n`);
}

async function gone(what, locator) {
  await locator.waitFor({ state: "hidden" }).catch((error) => {
    throw new Error(`still there: ${what}\n${error.message}`);
  });
}

async function counted(what, locator, count) {
  const began = Date.now();
  while ((await locator.count()) !== count) {
    if (Date.now() - began > LIMIT) throw new Error(`${what}: ${await locator.count()} and not ${count}`);
    await page.waitForTimeout(100);
  }
}

function check(holds, what) {
  if (!holds) throw new Error(`does not hold: ${what}`);
}

async function picture(name, view) {
  await tab(view === "network" ? "Network" : "Occupancy");
  await lookAt(`${name}-${view}`);
}

/** Wide and narrow, light and dark; nothing may be wider than its window. */
async function lookAt(name) {
  for (const [window, size] of Object.entries(WINDOWS)) {
    await page.setViewportSize(size);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      // Charts follow their window a frame or two later.
      const fits = page.waitForFunction(() => document.documentElement.scrollWidth <= window.innerWidth, null, { timeout: 5_000 });
      await fits.catch(() => faults.push(`${name}, ${window}: wider than its window`));
      await page.screenshot({ path: join(pictures, `${name}-${window}-${colorScheme}.png`), fullPage: true });
    }
  }
  await page.setViewportSize(WINDOWS.wide);
}
