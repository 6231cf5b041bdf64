// The page: sends drawings and pictures to the server and shows the digits that it recognizes.

import { chooseNear, find, show } from "./result.js";
import { cancel, request } from "./client.js";
import * as pad from "./pad.js";

const START = find("status").textContent.trim();

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
    tell(summary(reading, sheet), reading.lines.map((line) => line.map(moved)));
    if (sheet.strokes.length) chooseNear(sheet.strokes.at(-1).at(-1));
  } catch (error) {
    if (sheet === pad.sheet()) tell(error.message);
  }
}

/** Show lines of digits and a message about them. */
function tell(message, lines = [], isTrouble = !lines.length) {
  show(lines);
  find("status").classList.toggle("trouble", isTrouble);
  if (find("status").textContent !== message) find("status").textContent = message;
}

function summary({ text, rotation, lines }, { picture }) {
  const digits = lines.flat();
  const better = picture ? "Move closer, or use better light." : "Draw larger.";
  if (!digits.length) return `No digits found. ${better}`;
  const doubtful = digits.filter((digit) => digit.doubtful).length;
  const count = digits.length === 1 ? "one digit" : `${digits.length} digits`;
  const parts = [count, doubtful && `${doubtful} doubtful`, rotation && `turned by ${rotation}°`];
  return `${text.replaceAll("\n", ", ")}: ${parts.filter(Boolean).join(", ")}.${picture ? " Clear it to draw." : ""}`;
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
  else if (event.key === "Escape" || event.key === "Delete") pad.clear();
  else return;
  event.preventDefault();
}

find("pad").addEventListener("turned", read);
for (const name of ["undo", "clear"]) find(name).addEventListener("click", pad[name]);
addEventListener("keydown", press);
for (const way of ["change", "paste", "drop", "dragover", "dragleave"]) addEventListener(way, take);
