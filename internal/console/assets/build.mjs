// Copies what the console takes from npm into ../static, and makes one sprite of the icons
// that the pages and the Go files next door name. `make assets` runs it.
import { copyFileSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, "node_modules");
const target = join(here, "..", "static");

for (const name of readdirSync(target)) if (name !== "README") rmSync(join(target, name));

const files = {
  "tabler.css": "@tabler/core/dist/css/tabler.min.css",
  "htmx.js": "htmx.org/dist/htmx.min.js",
  "uplot.js": "uplot/dist/uPlot.iife.min.js",
  "uplot.css": "uplot/dist/uPlot.min.css",
};
for (const [name, from] of Object.entries(files)) {
  const text = readFileSync(join(modules, from), "utf8");
  writeFileSync(join(target, name), text.replace(/\n?(\/\/#|\/\*#) sourceMappingURL=.*$/m, ""));
}

const names = new Set();
const sources = [
  ...readdirSync(join(here, "..", "page")).map((f) => join(here, "..", "page", f)),
  ...readdirSync(join(here, "..")).filter((f) => f.endsWith(".go")).map((f) => join(here, "..", f)),
];
for (const file of sources)
  for (const [, name] of readFileSync(file, "utf8").matchAll(/(?:icon "|Icon:\s*")([a-z0-9-]+)"/g)) names.add(name);

const symbols = [...names].sort().map((name) => {
  const svg = readFileSync(join(modules, "@tabler/icons/icons/outline", name + ".svg"), "utf8");
  const inner = svg.replace(/<!--[\s\S]*?-->/g, "").replace(/^[\s\S]*?<svg[^>]*>/, "").replace(/<\/svg>\s*$/, "").replace(/\s*\n\s*/g, "");
  return `<symbol id="${name}" viewBox="0 0 24 24">${inner}</symbol>`;
});
writeFileSync(join(target, "icons.svg"), `<svg xmlns="http://www.w3.org/2000/svg">${symbols.join("")}</svg>\n`);

for (const [name, from] of [["icons", "@tabler/icons"], ["htmx", "htmx.org"], ["uplot", "uplot"]])
  copyFileSync(join(modules, from, "LICENSE"), join(target, `LICENSE-${name}`));
