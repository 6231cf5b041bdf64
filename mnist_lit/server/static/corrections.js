// Corrections: saved by the server, or collected here and downloaded as a ZIP file for `collect`.

import { find, make } from "./result.js";

const corrections = new Map(); // by glyph; the last one counts
let areSaved = false; // by the server
let sending = Promise.resolve(); // one after another
let failure = "";

/** Correct a digit, or confirm it; with null, it is none, and an earlier correction is taken back. */
export function correct({ digit, glyph, read = digit }) {
  const key = JSON.stringify(glyph);
  if (digit === null && !corrections.has(key)) return;
  corrections.set(key, { digit, read_as: read, glyph });
  if (areSaved) sending = sending.then(send).then(report);
  else report();
}

const unsaved = () => [...corrections.values()].filter(({ isSaved }) => !isSaved);
const labeled = (some) => some.filter(({ digit }) => digit !== null);

/** Send what is not saved, also what an earlier request failed to. */
async function send() {
  failure = "";
  const headers = { "Content-Type": "application/json" };
  for (const correction of unsaved()) {
    const body = JSON.stringify(correction);
    const problem = await fetch("v1/corrections", { method: "POST", headers, body })
      .then((response) => (response.ok ? "" : response.json().then(({ detail }) => detail)))
      .catch(() => "The server does not respond.");
    if (problem) failure = problem;
    else correction.isSaved = true;
  }
}

function report() {
  const [all, rest] = [labeled([...corrections.values()]), unsaved()];
  const count = (some) => (some.length === 1 ? "One correction" : `${some.length} corrections`);
  const where = areSaved ? "saved on the server" : "kept until you leave this page";
  find("corrections").hidden = !all.length && !failure;
  find("kept").textContent = failure ? `${count(rest)} not saved. ${failure}` : `${count(all)}, ${where}.`;
  find("kept").classList.toggle("trouble", Boolean(failure));
  find("download").hidden = !labeled(rest).length;
}

async function download() {
  const files = await Promise.all(labeled(unsaved()).map(entry));
  const blob = new Blob(zipped(files.flat()), { type: "application/zip" });
  const link = make("a", { href: URL.createObjectURL(blob), download: "corrections.zip" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** The image of a correction and its origin: names and contents of two files. */
async function entry({ digit, read_as, glyph }) {
  const canvas = make("canvas", { width: 28, height: 28 });
  const pixels = new ImageData(28, 28);
  glyph.flat().forEach((ink, i) => pixels.data.set([...Array(3).fill(Math.round(255 * ink)), 255], 4 * i));
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
fetch("v1/corrections").then((response) => response.json())
  .then(({ saved }) => (find("saving").hidden = !(areSaved = saved)))
  .catch(() => {}); // then they stay here
