// Runs the vectors of `lpref vectors export DIR --op cast --format e4m3 --format e5m2 --format e2m1` against a JavaScript function.
//
//     node run_vectors.js DIR
//
// Exit code 0: all passed; 1: some failed; 2: no vectors for these casts.
"use strict";
const fs = require("fs");
const path = require("path");

// The implementation under test: x -> code of a float format, round to nearest even, saturating. Put your own in its place.
const FORMATS = {
  e4m3: { exponentBits: 4, trailingBits: 3, bias: 7, max: 448, maxCode: 0x7e, nan: 0x7f },
  e5m2: { exponentBits: 5, trailingBits: 2, bias: 15, max: 57344, maxCode: 0x7b, nan: 0x7e },
  e2m1: { exponentBits: 2, trailingBits: 1, bias: 1, max: 6, maxCode: 0x7, nan: null },
};
function cast(x, f) {
  if (Number.isNaN(x)) return f.nan;
  const sign = x < 0 || Object.is(x, -0) ? 1 << (f.exponentBits + f.trailingBits) : 0;
  const a = Math.min(Math.abs(x), f.max);
  let e = 1 - f.bias;
  while (2 ** (e + 1) <= a) e++;
  const scaled = a * 2 ** (f.trailingBits - e); // exact
  let position = Math.floor(scaled);
  const rest = scaled - position;
  if (rest > 0.5 || (rest === 0.5 && position % 2 === 1)) position++;
  position += (e - 1 + f.bias) * 2 ** f.trailingBits; // a carry moves to the next binade
  return sign | Math.min(position, f.maxCode);
}

const folder = process.argv[2] || ".";
const view = new DataView(new ArrayBuffer(4));
let found = 0, failed = 0;
for (const [name, format] of Object.entries(FORMATS)) {
  const file = path.join(folder, `cast-${name}-nearest_even-saturate.jsonl`);
  if (!fs.existsSync(file)) continue;
  const [header, ...cases] = fs.readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));
  if (header.lpref_vectors !== 1 || header.count !== cases.length) throw new Error(`${file}: header`);
  const nans = new Set(header.nan_codes.map(Number));
  let wrong = 0;
  for (const c of cases) {
    view.setUint32(0, Number(c.in));
    const got = cast(view.getFloat32(0), format);
    const want = Number(c.out);
    if (got === want || (nans.has(got) && nans.has(want))) continue;
    if (!wrong++) console.log(`input ${c.in}: got ${got}, expected ${c.out}; catches ${header.catches[c.catches]}`);
  }
  console.log(`${name} revision ${header.revision}: ${wrong} of ${cases.length} differ`);
  found++;
  failed += wrong;
}
if (!found) console.error(`no vectors of ${Object.keys(FORMATS).join(", ")} in ${folder}`);
process.exit(found ? (failed ? 1 : 0) : 2);
