// The result: digits to select, boxes around them, and details of the selected digit.

export const find = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const tone = (digit) => (digit.doubtful ? "doubtful" : "sure");
const mark = (digit) => (digit.doubtful ? "?" : "");
let digits = []; // in reading order
let selected; // one of them

export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export const chosen = () => selected;

/** Show lines of digits, with boxes in sheet coordinates, and select one, or the first. */
export function show(lines, chosen) {
  digits = lines.flat();
  const rows = lines.map((line) => make("div", {}, ...line.map(option)));
  find("digits").replaceChildren(find("digits").firstElementChild, ...rows);
  const columns = Math.max(2, ...lines.map((line) => line.length));
  find("digits").style = `--columns: ${columns}; --rows: ${lines.length || 1}`;
  find("boxes").replaceChildren(...digits.map(box));
  choose(Math.max(digits.indexOf(chosen), 0));
}

function option(each) {
  const ariaLabel = `${each.digit}, ${tone(each)}, ${percent(each.probability)}`;
  const input = make("input", { type: "radio", name: "digit", className: "unseen", ariaLabel });
  input.addEventListener("change", () => choose(digits.indexOf(each)));
  return make("label", { className: tone(each) }, input, each.digit, make("sup", {}, mark(each)));
}

function box(each) {
  const [left, top, right, bottom] = each.box;
  const style = `--left: ${left}; --top: ${top}; --right: ${right}; --bottom: ${bottom}`;
  return make("div", { className: tone(each), style }, make("b", {}, each.digit, mark(each)));
}

/** Select the digit nearest to a point of the sheet; whether one is near enough. */
export function chooseNear([x, y], limit = Infinity) {
  const distances = digits.map(({ box: [left, top, right, bottom] }) =>
    Math.hypot(Math.max(left - x, 0, x - right), Math.max(top - y, 0, y - bottom)),
  );
  const least = Math.min(...distances);
  if (least <= limit) choose(distances.indexOf(least));
  return least <= limit;
}

function choose(index) {
  const chosen = (selected = digits[index]);
  [...find("boxes").children].forEach((each, i) => each.classList.toggle("chosen", i === index));
  document.querySelectorAll("#digits input").forEach((each, i) => (each.checked = i === index));
  [...find("bars").children].forEach((row, digit) => {
    const share = chosen?.probabilities[digit] ?? 0;
    row.className = digit === chosen?.digit ? tone(chosen) : "";
    row.querySelector("i").style.width = `${100 * share}%`;
    row.firstElementChild.disabled = !chosen;
    row.lastElementChild.textContent = chosen ? percent(share) : "";
  });
  find("correcting").hidden = !chosen;
  find("chosen").textContent = `Probabilities ${chosen ? `of this ${chosen.digit}` : ""}`;
  drawGlyph(chosen);
}

function drawGlyph(chosen) {
  const pixels = new ImageData(28, 28);
  const paint = (ink, i) => pixels.data.set([255 * ink, 255 * ink, 255 * ink, 255], 4 * i);
  chosen?.glyph.flat().forEach(paint);
  find("glyph").getContext("2d").putImageData(pixels, 0, 0);
}
