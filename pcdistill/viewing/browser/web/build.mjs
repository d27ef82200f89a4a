// Makes viewer.bundle.js of main.js, its neighbours and three.js: `npm ci && npm run build`.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

// What the bundle is made of. The digest in its first line tells whether it is up to date, that in the second one
// whether it is what was made of them.
const SOURCES = ["main.js", "clouds.js", "data.js", "layout.js", "orbit.js", "panel.js", "package-lock.json"];

const digest = createHash("sha256");
for (const name of SOURCES) digest.update(readFileSync(name));
const licence = readFileSync("node_modules/three/LICENSE", "utf8").trim();
const version = JSON.parse(readFileSync("node_modules/three/package.json", "utf8")).version;
const made = await build({
  entryPoints: ["main.js"],
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  legalComments: "none",
  write: false,
});
// A page holds the bundle in a <script> element, which this would end.
const code = made.outputFiles[0].text.replaceAll("</script", "<\\/script");
const own = createHash("sha256").update(code).digest("hex");
const head = `/* sources ${digest.digest("hex")}\ncode ${own}\n\nContains three.js ${version}:\n\n${licence}\n*/\n`;
writeFileSync("viewer.bundle.js", head + code);
