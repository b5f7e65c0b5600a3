// How does a test drive a real browser? A command a line on stdin, an answer a line on stdout, both JSON.
//
//   {"do":"open","url":"…"}  ─►  {"value":…}  or  {"error":"… with what the page showed"}
//
// It knows the page by what people see: the text of the screen, the status line, the title. Every wait has a bound; the
// end of stdin ends the browser. Started as: node driver.js PATH_OF_CHROMIUM

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const WAIT_MS_MAX = 20_000;
const LIFE_MS_MAX = 240_000;

const flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP workspace.test 127.0.0.1"];
// Chromium's own sandbox is not for root.
if (process.getuid() === 0) flags.push("--no-sandbox");

setTimeout(() => process.exit(3), LIFE_MS_MAX).unref();
const browser = await chromium.launch({ executablePath: process.argv[2], args: flags });
const context = await browser.newContext({ viewport: { width: 1000, height: 600 }, colorScheme: "light" });
const page = await context.newPage();
page.setDefaultTimeout(WAIT_MS_MAX);

/** What the page sent over its WebSockets since the last look, and what it complained of. */
let sent = [];
let complaints = [];
page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => sent.push(payload.toString("latin1"))));
page.on("pageerror", (error) => complaints.push(error.message));
page.on("console", (message) => {
  // The page asks on while the server is away, and Chromium tells each failure.
  if (message.type() === "error" && !/Failed to load resource|WebSocket connection/.test(message.text())) complaints.push(message.text());
});

/** The visible lines of the terminal, and the status line. Runs in the page. */
const look = () => {
  const lines = [...document.querySelectorAll(".xterm-rows > div")].map((row) => row.textContent.replaceAll("\u00a0", " ").trimEnd());
  const visible = (id) => {
    const element = document.getElementById(id);
    return element?.checkVisibility() ? element.textContent.trim() : "";
  };
  const bar = document.querySelector("footer")?.getBoundingClientRect();
  return {
    screen: lines.join("\n").trimEnd(),
    status: visible("status"),
    notice: visible("notice"),
    wrong: visible("key-wrong"),
    button: visible("action"),
    asks: document.getElementById("key-form")?.checkVisibility() ?? false,
    bar: bar ? [bar.top, bar.height] : [],
    overflow: document.documentElement.scrollWidth > innerWidth,
    typing: document.activeElement?.className === "xterm-helper-textarea",
    ground: getComputedStyle(document.body).backgroundColor,
    title: document.title,
    url: location.href,
  };
};

/** Waits until `part` of what is seen contains `text`, or no more. */
async function until(part, text, present) {
  const end = performance.now() + WAIT_MS_MAX;
  for (;;) {
    const now = await page.evaluate(look);
    if (now[part].includes(text) === present) return now;
    if (performance.now() > end) throw new Error(`${part} ${present ? "lacks" : "still has"} ${JSON.stringify(text)}`);
    await page.evaluate(() => new Promise(requestAnimationFrame));
  }
}

const verbs = {
  open: ({ url }) => page.goto(url).then((response) => response?.status()),
  reload: () => page.reload().then((response) => response?.status()),
  type: ({ text }) => page.keyboard.type(text),
  press: ({ key }) => page.keyboard.press(key),
  doubleClick: ({ x, y }) => page.mouse.dblclick(x, y),
  until: ({ part, text, present }) => until(part, text, present),
  size: ({ width, height }) => page.setViewportSize({ width, height }),
  scheme: ({ scheme }) => page.emulateMedia({ colorScheme: scheme }),
  picture: ({ path }) => page.screenshot({ path }).then(() => null),
  look: () => page.evaluate(look),
  sent: () => sent.splice(0),
  complaints: () => complaints.splice(0),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    console.log(JSON.stringify({ value: (await verbs[command.do](command)) ?? null }));
  } catch (error) {
    const seen = await page.evaluate(look).catch(String);
    console.log(JSON.stringify({ error: `${command.do}: ${error.message}\n${JSON.stringify(seen, null, 2)}` }));
  }
}
await browser.close();
