// The page: sends drawings and pictures to the server and shows the digits that it recognizes.

import { chooseNear, chosen, find, show } from "./result.js";
import { cancel, request } from "./client.js";
import { correct } from "./corrections.js";
import * as pad from "./pad.js";

const START = find("status").textContent.trim();
let shown; // the reading, with boxes in sheet coordinates

async function read() {
  const sheet = pad.sheet();
  cancel();
  find("hint").hidden = !pad.isEmpty();
  find("clear").ariaDisabled = pad.isEmpty();
  find("undo").ariaDisabled = !pad.canUndo();
  if (pad.isEmpty()) return tell(START, [], false);
  if (sheet.picture) tell("Reading …", [], false);
  try {
    const { bytes, onSheet } = await pad.toRead();
    const reading = sheet === pad.sheet() && (await request(bytes, tell));
    if (!reading) return;
    const moved = (digit) => ({ ...digit, box: onSheet(digit.box) });
    shown = { ...reading, lines: reading.lines.map((line) => line.map(moved)) };
    tell(summary(shown, sheet), shown.lines);
    if (sheet.strokes.length) chooseNear(sheet.strokes.at(-1).at(-1));
  } catch (error) {
    if (sheet === pad.sheet()) tell(error.message);
  }
}

/** Correct the selected digit: to 0 to 9, or to none. */
function fix(digit) {
  const each = chosen();
  if (!each) return;
  each.read ??= each.digit;
  if (digit === undefined) each.isNone = true;
  else Object.assign(each, { digit, doubtful: false });
  correct({ ...each, digit: digit ?? null });
  const left = shown.lines.map((line) => line.filter(({ isNone }) => !isNone));
  tell(summary(shown, pad.sheet()), left.filter((line) => line.length), false, each);
}

/** Show lines of digits and a message about them. */
function tell(message, lines = [], isTrouble = !lines.length, selected = undefined) {
  show(lines, selected);
  find("status").classList.toggle("trouble", isTrouble);
  if (find("status").textContent !== message) find("status").textContent = message;
}

function summary({ text, rotation, lines }, { picture }) {
  const all = lines.flat();
  const digits = all.filter(({ isNone }) => !isNone);
  if (all.length && !digits.length) return "No digits.";
  const better = picture ? "Move closer, or use better light." : "Draw larger.";
  if (!digits.length) return `No digits found. ${better}`;
  const doubtful = digits.filter((digit) => digit.doubtful).length;
  const count = digits.length === 1 ? "one digit" : `${digits.length} digits`;
  const parts = [count, doubtful && `${doubtful} doubtful`, rotation && `turned by ${rotation}°`];
  const rest = all.values();
  const current = text.replace(/\d/g, () => {
    const { digit, isNone } = rest.next().value;
    return isNone ? "" : digit;
  });
  const words = current.split("\n").map((line) => line.trim().replace(/ +/g, " "));
  return `${words.filter(Boolean).join(", ")}: ${parts.filter(Boolean).join(", ")}.${picture ? " Clear it to draw." : ""}`;
}

/** Load a picture that was chosen, photographed, pasted or dropped. */
function take(event) {
  const { files } = event.clipboardData ?? event.dataTransfer ?? event.target;
  if (event.dataTransfer) event.preventDefault(); // otherwise the browser opens it
  find("stage").classList.toggle("over", event.type === "dragover");
  if (files?.length) pad.load(files[0]);
  if (event.target.type === "file") event.target.value = ""; // so that the same file can be chosen again
}

function press(event) {
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) pad.undo();
  else if (/^\d$/.test(event.key) && !event.ctrlKey && !event.metaKey) fix(Number(event.key));
  else if (event.key === "Backspace") fix();
  else if (event.key === "Escape" || event.key === "Delete") pad.clear();
  else return;
  event.preventDefault();
}

find("pad").addEventListener("turned", read);
for (const name of ["undo", "clear"]) find(name).addEventListener("click", pad[name]);
addEventListener("keydown", press);
find("bars").addEventListener("click", ({ target }) => {
  const row = target.closest("li");
  if (row) fix([...row.parentElement.children].indexOf(row));
});
find("none").addEventListener("click", () => fix());
for (const way of ["change", "paste", "drop", "dragover", "dragleave"]) addEventListener(way, take);
