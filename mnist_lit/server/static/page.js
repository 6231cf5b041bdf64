// The page: what is written or shown goes to the server, and its answer beside it.

import * as answer from "./answer.js";
import { ask, forget } from "./ask.js";
import * as pad from "./pad.js";

const find = (id) => document.getElementById(id);
const START = find("status").textContent.trim();

async function read() {
  const sheet = pad.sheet();
  forget();
  find("hint").hidden = !pad.isEmpty();
  find("clear").ariaDisabled = pad.isEmpty();
  find("undo").ariaDisabled = !pad.canUndo();
  if (pad.isEmpty()) return tell(START, [], false);
  if (sheet.picture) tell("Reading …", [], false);
  try {
    const { bytes, onSheet } = await pad.toRead();
    const reading = sheet === pad.sheet() && (await ask(bytes, tell));
    if (!reading) return;
    const moved = (digit) => ({ ...digit, box: onSheet(digit.box) });
    tell(summary(reading), reading.lines.map((line) => line.map(moved)));
    if (sheet.strokes.length) answer.chooseNear(sheet.strokes.at(-1).at(-1));
  } catch (error) {
    if (sheet === pad.sheet()) tell(error.message);
  }
}

/** Show lines of digits, and say something of them, or why there are none. */
function tell(words, lines = [], isTrouble = !lines.length) {
  answer.show(lines);
  find("status").classList.toggle("trouble", isTrouble);
  if (find("status").textContent !== words) find("status").textContent = words;
}

function summary({ text, lines }) {
  const digits = lines.flat();
  if (!digits.length) return "No digit found. Write larger, or with a clear pen on plain paper.";
  const doubtful = digits.filter((digit) => digit.doubtful).length;
  const count = digits.length === 1 ? "one digit" : `${digits.length} digits`;
  return `${text.replaceAll("\n", ", ")}: ${count}${doubtful ? `, ${doubtful} doubtful` : ""}.`;
}

/** Take a picture that was chosen, photographed, pasted or dropped. */
function take(event) {
  const { files } = event.clipboardData ?? event.dataTransfer ?? event.target;
  if (event.dataTransfer) event.preventDefault(); // or the browser would open it
  find("stage").classList.toggle("over", event.type === "dragover");
  if (files?.length) pad.load(files[0]);
  if (event.target.type === "file") event.target.value = ""; // the same may be chosen again
}

function press(event) {
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) pad.undo();
  else if (event.key === "Escape" || event.key === "Delete") pad.clear();
  else return;
  event.preventDefault();
}

find("pad").addEventListener("turned", read);
find("undo").addEventListener("click", pad.undo);
find("clear").addEventListener("click", pad.clear);
addEventListener("keydown", press);
for (const way of ["change", "paste", "drop", "dragover", "dragleave"]) addEventListener(way, take);
