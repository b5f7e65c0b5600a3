// How do the sources become the one file that the server carries?
//
//   src/page.html + page.css + xterm.css + main.ts (bundled) -> dist/terminal.html
//
// Everything is inline. The page's policy stands in its head and allows this one script, by its hash; net/build.rs
// reads it there and sends it as a header too, with what a page cannot say of itself (frame-ancestors).

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";

const bundled = async (entry, more) => {
  const options = { entryPoints: [entry], bundle: true, minify: true, write: false, target: "es2022", ...more };
  return (await build(options)).outputFiles[0].text.trim();
};

const script = await bundled("src/main.ts", { format: "iife", legalComments: "none" });
const style = await bundled("src/page.css", { legalComments: "none" });
const hash = createHash("sha256").update(script).digest("base64");
const policy = [
  "default-src 'none'",
  `script-src 'sha256-${hash}'`,
  // xterm.js writes the sizes and colours of its cells into style elements.
  "style-src 'unsafe-inline'",
  "img-src data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

const parts = { policy, style, script, licences: await licences(["@xterm/xterm", "@xterm/addon-fit", "@xterm/addon-unicode11"]) };
const page = (await readFile("src/page.html", "utf8")).replace(/\{\{(\w+)\}\}/g, (_, name) => parts[name]);
for (const text of [script, style]) {
  if (/<\/(script|style)|<!--/i.test(text)) throw new Error("an inline part would end its element early");
}
await mkdir("dist", { recursive: true });
await writeFile("dist/terminal.html.new", page);
// Whole or not at all: a cargo build may read it at any time.
await rename("dist/terminal.html.new", "dist/terminal.html");
console.log(`dist/terminal.html: ${Math.ceil(Buffer.byteLength(page) / 1024)} KiB`);

// What is bundled keeps its licence.
async function licences(packages) {
  const texts = packages.map((name) => readFile(`node_modules/${name}/LICENSE`, "utf8").then((text) => `${name}\n${text}`));
  return (await Promise.all(texts)).join("\n").replaceAll("--", "- -");
}
