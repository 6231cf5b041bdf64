// Corrections: saved by the server, or collected here and downloaded as a ZIP file for `collect`.

import { find, make } from "./result.js";

const corrections = new Map(); // by glyph; the last one counts
let areSaved = false; // by the server
let failure = "";

/** Correct a digit; the digit that was read may also be confirmed. */
export async function correct({ digit, glyph, read = digit }) {
  corrections.set(JSON.stringify(glyph), { digit, read_as: read, glyph });
  if (areSaved) {
    const body = JSON.stringify({ digit, read_as: read, glyph });
    const headers = { "Content-Type": "application/json" };
    failure = await fetch("v1/corrections", { method: "POST", headers, body })
      .then((response) => (response.ok ? "" : response.json().then(({ detail }) => detail)))
      .catch(() => "The server does not respond: the correction is not saved.");
  }
  report();
}

function report() {
  const count = corrections.size === 1 ? "One correction" : `${corrections.size} corrections`;
  const where = areSaved ? "saved on the server" : "kept until you leave this page";
  find("corrections").hidden = !corrections.size;
  find("kept").textContent = failure || `${count}, ${where}.`;
  find("kept").classList.toggle("trouble", Boolean(failure));
}

async function download() {
  const files = await Promise.all([...corrections.values()].map(entry));
  const blob = new Blob(zipped(files.flat()), { type: "application/zip" });
  const link = make("a", { href: URL.createObjectURL(blob), download: "corrections.zip" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** The image of a correction and its origin: names and contents of two files. */
async function entry({ digit, read_as, glyph }) {
  const canvas = make("canvas", { width: 28, height: 28 });
  const pixels = new ImageData(28, 28);
  const level = (ink) => Math.round(255 * ink);
  glyph.flat().forEach((ink, i) => pixels.data.set([...Array(3).fill(level(ink)), 255], 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const png = await new Promise((resolve) => canvas.toBlob(resolve));
  const image = new Uint8Array(await png.arrayBuffer());
  const name = `${digit}/${crc32(image).toString(16).padStart(16, "0")}`;
  const date = new Date().toISOString().slice(0, 10);
  const origin = JSON.stringify({ label: digit, source: "page", read_as, date });
  return [[`${name}.png`, image], [`${name}.json`, new TextEncoder().encode(origin)]];
}

/** The parts of a ZIP file without compression (PKWARE, APPNOTE.TXT, 4.3). */
function zipped(files) {
  const [parts, directory] = [[], []];
  let offset = 0;
  for (const [path, content] of files) {
    const name = new TextEncoder().encode(path);
    // Version 2.0, no flags, no compression, 1980-01-01, checksum, sizes, length of the name.
    const common = [[20, 2], [0, 2], [0, 2], [0, 2], [33, 2], [crc32(content), 4]];
    common.push([content.length, 4], [content.length, 4], [name.length, 2], [0, 2]);
    const header = bytes([[0x04034b50, 4], ...common]);
    const rest = [[0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]];
    directory.push(bytes([[0x02014b50, 4], [20, 2], ...common, ...rest]), name);
    parts.push(header, name, content);
    offset += header.length + name.length + content.length;
  }
  const size = directory.reduce((sum, each) => sum + each.length, 0);
  const counts = [[0, 2], [0, 2], [files.length, 2], [files.length, 2]];
  return [...parts, ...directory, bytes([[0x06054b50, 4], ...counts, [size, 4], [offset, 4], [0, 2]])];
}

/** Little-endian numbers: pairs of a value and its number of bytes. */
function bytes(numbers) {
  return Uint8Array.from(numbers.flatMap(([value, n]) => [...Array(n)].map((_, i) => value >>> (8 * i))));
}

function crc32(content) {
  let crc = -1;
  for (const byte of content) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 && 0xedb88320);
  }
  return ~crc >>> 0;
}

find("download").addEventListener("click", download);
fetch("v1/corrections")
  .then((response) => response.json())
  .then(({ saved }) => (areSaved = saved))
  .catch(() => {}) // then they stay here
  .finally(() => {
    find("saving").hidden = !areSaved;
    find("download").hidden = areSaved;
  });
