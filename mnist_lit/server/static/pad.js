// The drawing area: strokes or a picture on a canvas, and the image of them for the server.
// Dispatches "turned" on the canvas whenever the current sheet is replaced.

import { chooseNear, find, make } from "./result.js";

const PEN = 7; // width in CSS pixels, the unit of all lengths unless noted
const TAP = 4; // a shorter stroke selects the digit below it
const MARGIN = 32; // white space around the strokes
const LONGEST = 500; // pixels of the image: larger ones are slower and no more accurate

const canvas = find("pad");
let sheets = [{ strokes: [] }]; // the last is shown, the others are for undo
let view; // transforms sheet to canvas coordinates
let pen; // the pointer that draws, and its points [x, y] in sheet coordinates

export const sheet = () => sheets.at(-1);
export const isEmpty = () => !sheet().picture && !sheet().strokes.length;
export const canUndo = () => sheets.length > 1;
export const undo = () => canUndo() && turn(() => sheets.pop());
export const clear = () => isEmpty() || turn(() => sheets.push({ strokes: [] }));

/** Load a picture; it is sent even if the browser cannot display it. */
export async function load(picture) {
  const sheet = { strokes: [], picture, width: 1, height: 1 };
  const others = sheets.filter((each) => !each.picture); // keeping more would take too much memory
  turn(() => (sheets = [...others, sheet]));
  const bitmap = await createImageBitmap(picture).catch(() => null);
  Object.assign(sheet, bitmap && { width: bitmap.width, height: bitmap.height }, { bitmap });
  show();
}

function turn(action) {
  action();
  show();
  canvas.dispatchEvent(new Event("turned"));
}

/** The bytes of the image for the server, and a function from its boxes to sheet coordinates. */
export async function toRead() {
  const { strokes, picture } = sheet();
  const bytes = await picture?.arrayBuffer().catch(() => undefined); // reading a folder fails
  if (picture && !bytes?.byteLength) throw new Error("This is an empty file or a folder.");
  if (picture) return { bytes, onSheet: (box) => box };
  const most = (max, axis) => max(...strokes.map((points) => max(...points.map((at) => at[axis]))));
  const [left, top] = [most(Math.min, 0) - MARGIN, most(Math.min, 1) - MARGIN];
  const [right, bottom] = [most(Math.max, 0) + MARGIN, most(Math.max, 1) + MARGIN];
  const zoom = Math.min(1, LONGEST / Math.max(right - left, bottom - top));
  const paper = make("canvas", { width: zoom * (right - left), height: zoom * (bottom - top) });
  const brush = paper.getContext("2d", { willReadFrequently: true });
  brush.fillStyle = "white";
  brush.fillRect(0, 0, paper.width, paper.height);
  brush.setTransform(zoom, 0, 0, zoom, -zoom * left, -zoom * top);
  draw(brush, strokes, "black");
  const onSheet = (box) => box.map((edge, i) => edge / zoom + (i % 2 ? top : left));
  const code = atob(paper.toDataURL().split(",")[1]); // toBlob may wait a second until idle
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
  find("unshown").textContent = bitmap === null ? `Your browser cannot display ${picture.name}.` : "";
  const shown = pen && !picture ? [...strokes, pen.points] : strokes;
  draw(brush, shown, getComputedStyle(canvas).color);
}

function draw(brush, strokes, color) {
  [brush.strokeStyle, brush.lineWidth] = [color, PEN];
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
  const { pointerId: id, pointerType: kind, isPrimary, button } = event;
  if (pen?.kind === kind) pen = undefined; // two fingers are a gesture
  if (pen || button || !isPrimary) return show();
  canvas.setPointerCapture(id);
  pen = { id, kind, points: [] };
  go(event);
}

function go(event) {
  if (pen?.id !== event.pointerId) return;
  const events = event.getCoalescedEvents?.() ?? []; // missing without TLS
  pen.points.push(...(events.length ? events : [event]).map(at));
  show();
}

function end(event) {
  if (pen?.id !== event.pointerId) return;
  const { points: [[x, y]], points } = pen;
  pen = undefined;
  const isTap = points.every((point) => Math.hypot(point[0] - x, point[1] - y) * view.scale < TAP);
  const isDrawn = event.type === "pointerup" && !(isTap && chooseNear([x, y], 0));
  if (!isDrawn || sheet().picture) return show();
  turn(() => sheets.push({ ...sheet(), strokes: [...sheet().strokes, points] }));
}

/** The position of a pointer in sheet coordinates, kept within the canvas. */
function at({ clientX, clientY }) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const x = Math.min(Math.max(clientX - left, 0), width);
  const y = Math.min(Math.max(clientY - top, 0), height);
  return [(x - view.x) / view.scale, (y - view.y) / view.scale];
}

const acts = { pointerdown: begin, pointermove: go, pointerup: end, lostpointercapture: end };
for (const type in acts) canvas.addEventListener(type, acts[type]);
new ResizeObserver(show).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
