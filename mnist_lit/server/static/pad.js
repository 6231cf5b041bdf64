// The sheet: strokes of a pen, or a picture, on a canvas; and the picture of it that is sent.
// Tells the canvas with an event "turned" when there is another sheet.

import { chooseNear, make } from "./answer.js";

const PEN = 7; // in pixels of CSS, as all lengths that do not say otherwise
const TAP = 4; // a shorter stroke chooses what it touches
const MARGIN = 32; // white paper around the strokes that are sent
const LONGEST = 500; // pixels of what is sent: more take longer, and are read no better

const canvas = document.getElementById("pad");
let sheets = [{ strokes: [] }]; // the last is shown, the others can be had back
let view; // from lengths of the sheet to those of the canvas
let pen; // that draws: its pointer, and its points [x, y] in lengths of the sheet

export const sheet = () => sheets.at(-1);
export const isEmpty = () => !sheet().picture && !sheet().strokes.length;
export const canUndo = () => sheets.length > 1;
export const undo = () => canUndo() && turn(() => sheets.pop());
export const clear = () => isEmpty() || turn(() => sheets.push({ strokes: [] }));

/** Show a picture; one that the browser cannot decode is sent nevertheless. */
export async function load(picture) {
  const sheet = { strokes: [], picture, width: 1, height: 1 };
  const others = sheets.filter((each) => !each.picture); // one takes memory enough
  turn(() => (sheets = [...others, sheet]));
  const bitmap = await createImageBitmap(picture).catch(() => undefined);
  if (bitmap) Object.assign(sheet, { width: bitmap.width, height: bitmap.height, bitmap });
  show();
}

function turn(action) {
  action();
  show();
  canvas.dispatchEvent(new Event("turned"));
}

/** The bytes of what is to be read, and what brings boxes in its pixels to lengths of the sheet. */
export async function toRead() {
  const { strokes, picture } = sheet();
  const refuse = () => {
    throw new Error("This is no file that can be read. Choose a picture.");
  };
  if (picture) return { bytes: await picture.arrayBuffer().catch(refuse), onSheet: (box) => box };
  const most = (max, axis) => max(...strokes.map((points) => max(...points.map((at) => at[axis]))));
  const [left, top] = [most(Math.min, 0) - MARGIN, most(Math.min, 1) - MARGIN];
  const [right, bottom] = [most(Math.max, 0) + MARGIN, most(Math.max, 1) + MARGIN];
  const zoom = Math.min(1, LONGEST / Math.max(right - left, bottom - top));
  const [width, height] = [zoom * (right - left), zoom * (bottom - top)];
  const paper = make("canvas", { width, height });
  const brush = paper.getContext("2d", { willReadFrequently: true });
  brush.fillStyle = "white";
  brush.fillRect(0, 0, width, height);
  brush.setTransform(zoom, 0, 0, zoom, -zoom * left, -zoom * top);
  draw(brush, strokes, "black");
  const onSheet = (box) => box.map((edge, i) => edge / zoom + (i % 2 ? top : left));
  const code = atob(paper.toDataURL().split(",")[1]); // toBlob waits up to a second for idleness
  return { bytes: Uint8Array.from(code, (byte) => byte.charCodeAt(0)), onSheet };
}

function show() {
  const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio];
  if (isEmpty() && !pen) Object.assign(sheet(), { width, height });
  const { strokes, picture, bitmap, ...size } = sheet();
  const scale = Math.min(width / size.width, height / size.height);
  view = { scale, x: (width - scale * size.width) / 2, y: (height - scale * size.height) / 2 };
  canvas.parentElement.style = `--scale: ${scale}; --x: ${view.x}; --y: ${view.y}`;
  canvas.classList.toggle("still", Boolean(picture));
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  const brush = canvas.getContext("2d");
  brush.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * view.x, ratio * view.y);
  brush.imageSmoothingQuality = "high";
  if (bitmap) brush.drawImage(bitmap, 0, 0);
  const all = pen && !picture ? [...strokes, pen.points] : strokes;
  draw(brush, all, getComputedStyle(canvas).color);
}

function draw(brush, strokes, colour) {
  [brush.strokeStyle, brush.lineWidth] = [colour, PEN];
  brush.lineCap = brush.lineJoin = "round";
  brush.beginPath();
  for (const points of strokes) {
    brush.moveTo(...points[0]);
    points.forEach(([x, y], i) => {
      const [nextX, nextY] = points[i + 1] ?? [x, y];
      brush.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    });
  }
  brush.stroke();
}

function begin(event) {
  if (pen || event.button) return;
  canvas.setPointerCapture(event.pointerId);
  pen = { id: event.pointerId, points: [] };
  go(event);
}

function go(event) {
  if (pen?.id !== event.pointerId) return;
  const events = event.getCoalescedEvents?.() ?? []; // without TLS there are none
  pen.points.push(...(events.length ? events : [event]).map(at));
  show();
}

function end(event) {
  if (pen?.id !== event.pointerId) return;
  const { points } = pen;
  pen = undefined;
  const [x, y] = points[0];
  const isTap = points.every((point) => Math.hypot(point[0] - x, point[1] - y) * view.scale < TAP);
  const isDrawn = event.type === "pointerup" && !(isTap && chooseNear(points[0], 0));
  if (!isDrawn || sheet().picture) return show();
  turn(() => sheets.push({ ...sheet(), strokes: [...sheet().strokes, points] }));
}

/** Where a pointer is on the sheet; not beyond the canvas, where nothing is seen. */
function at({ clientX, clientY }) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const x = Math.min(Math.max(clientX - left, 0), width);
  const y = Math.min(Math.max(clientY - top, 0), height);
  return [(x - view.x) / view.scale, (y - view.y) / view.scale];
}

canvas.addEventListener("pointerdown", begin);
canvas.addEventListener("pointermove", go);
canvas.addEventListener("pointerup", end);
canvas.addEventListener("lostpointercapture", end);
new ResizeObserver(show).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
