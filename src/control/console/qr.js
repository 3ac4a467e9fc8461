// QR codes (ISO/IEC 18004): bytes, error correction level M, versions 1 to 20, which is 666 bytes.

import { h } from "./dom.js";

// Level M: error correction codewords in a block, and blocks, by version from 1.
const EC_WORDS = [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26];
const BLOCKS = [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16];

// GF(256) with the polynomial x^8 + x^4 + x^3 + x^2 + 1.
const EXP = new Uint8Array(255);
const LOG = new Uint8Array(256);
for (let power = 0, value = 1; power < 255; power++) {
  [EXP[power], LOG[value]] = [value, power];
  value = (value << 1) ^ (value & 0x80 ? 0x11d : 0);
}
const multiply = (a, b) => (a && b ? EXP[(LOG[a] + LOG[b]) % 255] : 0);

/** The remainder of `data` divided by the generator of `count` codewords. */
function correction(data, count) {
  let generator = [1];
  for (let power = 0; power < count; power++) {
    const next = new Array(generator.length + 1).fill(0);
    generator.forEach((factor, index) => {
      next[index] ^= factor;
      next[index + 1] ^= multiply(factor, EXP[power]);
    });
    generator = next;
  }
  const rest = [...data, ...new Array(count).fill(0)];
  for (let at = 0; at < data.length; at++) {
    const factor = rest[at];
    if (factor) generator.forEach((part, index) => (rest[at + index] ^= multiply(part, factor)));
  }
  return rest.slice(data.length);
}

/** Centres of the alignment patterns. */
function alignment(version) {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const step = Math.ceil((version * 4 + 4) / (count * 2 - 2)) * 2;
  const places = [6];
  for (let index = 0; index < count - 1; index++) places.splice(1, 0, version * 4 + 10 - index * step);
  return places;
}

/** Codewords that fit, data and correction. */
function codewords(version) {
  let modules = (16 * version + 128) * version + 64;
  if (version >= 2) {
    const count = Math.floor(version / 7) + 2;
    modules -= (25 * count - 10) * count - 55;
    if (version >= 7) modules -= 36;
  }
  return Math.floor(modules / 8);
}

const dataWords = (version) => codewords(version) - EC_WORDS[version - 1] * BLOCKS[version - 1];

/** Rows of booleans, true for dark; throws if the text is too long. */
export function matrix(text) {
  const bytes = new TextEncoder().encode(text);
  const headBits = (version) => 4 + (version < 10 ? 8 : 16);
  let version = 1;
  while (version <= 20 && headBits(version) + bytes.length * 8 > dataWords(version) * 8) version++;
  if (version > 20) throw new Error("The address is too long for a code.");

  const bits = [];
  const put = (value, count) => {
    for (let bit = count - 1; bit >= 0; bit--) bits.push((value >> bit) & 1);
  };
  put(4, 4);
  put(bytes.length, headBits(version) - 4);
  bytes.forEach((byte) => put(byte, 8));
  const capacity = dataWords(version) * 8;
  put(0, Math.min(4, capacity - bits.length));
  put(0, (8 - (bits.length % 8)) % 8);
  for (let pad = 0xec; bits.length < capacity; pad ^= 0xec ^ 0x11) put(pad, 8);
  const data = [];
  for (let at = 0; at < bits.length; at += 8) data.push(bits.slice(at, at + 8).reduce((word, bit) => (word << 1) | bit, 0));

  return draw(version, interleave(version, data));
}

/** The blocks with their corrections, word by word. */
function interleave(version, data) {
  const [count, correct] = [BLOCKS[version - 1], EC_WORDS[version - 1]];
  const shortWords = Math.floor(data.length / count);
  const longBlocks = data.length % count;
  const blocks = [];
  for (let index = 0, at = 0; index < count; index++) {
    const length = shortWords + (index >= count - longBlocks ? 1 : 0);
    const words = data.slice(at, at + length);
    blocks.push({ words, check: correction(words, correct) });
    at += length;
  }
  const out = [];
  for (let index = 0; index <= shortWords; index++) for (const block of blocks) if (index < block.words.length) out.push(block.words[index]);
  for (let index = 0; index < correct; index++) for (const block of blocks) out.push(block.check[index]);
  return out;
}

const MASKS = [
  (x, y) => (x + y) % 2 === 0,
  (x, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

function draw(version, words) {
  const size = version * 4 + 17;
  const dark = Array.from({ length: size }, () => new Array(size).fill(false));
  const fixed = Array.from({ length: size }, () => new Array(size).fill(false));
  const set = (x, y, value) => {
    if (x < 0 || y < 0 || x >= size || y >= size) return;
    dark[y][x] = value;
    fixed[y][x] = true;
  };
  for (let at = 0; at < size; at++) {
    set(6, at, at % 2 === 0);
    set(at, 6, at % 2 === 0);
  }
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) {
    for (let dy = -4; dy <= 4; dy++) for (let dx = -4; dx <= 4; dx++) {
      const distance = Math.max(Math.abs(dx), Math.abs(dy));
      set(x + dx, y + dy, distance !== 2 && distance !== 4);
    }
  }
  const centres = alignment(version);
  for (const y of centres) for (const x of centres) {
    const corner = (x === 6 && y === 6) || (x === 6 && y === size - 7) || (x === size - 7 && y === 6);
    if (!corner) for (let dy = -2; dy <= 2; dy++) for (let dx = -2; dx <= 2; dx++) set(x + dx, y + dy, Math.max(Math.abs(dx), Math.abs(dy)) !== 1);
  }
  if (version >= 7) {
    let rest = version;
    for (let step = 0; step < 12; step++) rest = (rest << 1) ^ ((rest >> 11) * 0x1f25);
    const value = (version << 12) | rest;
    for (let bit = 0; bit < 18; bit++) {
      const [a, b] = [size - 11 + (bit % 3), Math.floor(bit / 3)];
      set(a, b, Boolean((value >> bit) & 1));
      set(b, a, Boolean((value >> bit) & 1));
    }
  }
  const format = (mask) => {
    // Level M is 00.
    let rest = mask;
    for (let step = 0; step < 10; step++) rest = (rest << 1) ^ ((rest >> 9) * 0x537);
    const value = ((mask << 10) | rest) ^ 0x5412;
    const bit = (index) => Boolean((value >> index) & 1);
    for (let index = 0; index <= 5; index++) set(8, index, bit(index));
    set(8, 7, bit(6));
    set(8, 8, bit(7));
    set(7, 8, bit(8));
    for (let index = 9; index < 15; index++) set(14 - index, 8, bit(index));
    for (let index = 0; index < 8; index++) set(size - 1 - index, 8, bit(index));
    for (let index = 8; index < 15; index++) set(8, size - 15 + index, bit(index));
    set(8, size - 8, true);
  };
  format(0);
  // Upwards and downwards in columns of two, from the right; the timing column is left out.
  let at = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step++) for (const x of [right, right - 1]) {
      const y = ((right + 1) & 2) === 0 ? size - 1 - step : step;
      if (fixed[y][x]) continue;
      dark[y][x] = at < words.length * 8 && Boolean((words[at >> 3] >> (7 - (at & 7))) & 1);
      at++;
    }
  }
  const flip = (mask) => {
    for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) if (!fixed[y][x] && MASKS[mask](x, y)) dark[y][x] = !dark[y][x];
  };
  let [best, least] = [0, Infinity];
  for (let mask = 0; mask < 8; mask++) {
    flip(mask);
    format(mask);
    const found = penalty(dark);
    if (found < least) [best, least] = [mask, found];
    flip(mask);
  }
  flip(best);
  format(best);
  return dark;
}

function penalty(dark) {
  const size = dark.length;
  let [total, count] = [0, 0];
  for (const read of [(a, b) => dark[a][b], (a, b) => dark[b][a]]) {
    for (let a = 0; a < size; a++) {
      let run = 0;
      let line = "";
      for (let b = 0; b < size; b++) {
        line += read(a, b) ? "1" : "0";
        run = b && read(a, b) === read(a, b - 1) ? run + 1 : 1;
        if (run === 5) total += 3;
        else if (run > 5) total += 1;
      }
      for (let b = 0; b + 11 <= size; b++) if (["10111010000", "00001011101"].includes(line.slice(b, b + 11))) total += 40;
    }
  }
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) {
    if (dark[y][x]) count++;
    if (x && y && dark[y][x] === dark[y][x - 1] && dark[y][x] === dark[y - 1][x] && dark[y][x] === dark[y - 1][x - 1]) total += 3;
  }
  return total + Math.floor(Math.abs((count * 20) / (size * size) - 10)) * 10;
}

/** The code of a text as a picture, with its quiet zone. */
export function qr(text) {
  const rows = matrix(text);
  const size = rows.length + 8;
  const path = rows.flatMap((row, y) => row.map((on, x) => (on ? `M${x + 4} ${y + 4}h1v1h-1z` : ""))).join("");
  return h("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "QR code of the address", "shape-rendering": "crispEdges" }, h("rect", { width: size, height: size, fill: "#fff" }), h("path", { d: path, fill: "#000" }));
}
