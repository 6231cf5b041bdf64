// Asks the server what is written in a picture; only the newest question is answered.

const PATIENCE = 10_000; // milliseconds without an answer, until that is said
const PASSING = [429, 502, 504]; // statuses after which it may go well, as with 503 if it says when
let newest = new AbortController();

export const forget = () => newest.abort();

/** Ask until there is a reading, and tell why it takes long; none if the question is forgotten. */
export async function ask(picture, tell) {
  const { signal } = (newest = new AbortController());
  while (!signal.aborted) {
    const slow = setTimeout(tell, PATIENCE, "The server takes long. Its answer is awaited.");
    const { reading, refusal, trouble, seconds } = await attempt(picture, signal);
    clearTimeout(slow);
    if (signal.aborted) break;
    if (reading) return reading;
    if (refusal) throw new Error(refusal);
    tell(`The server ${trouble}. It will be asked again by itself.`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

async function attempt(body, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  try {
    const response = await fetch("v1/read?glyphs=true", { method: "POST", headers, body, signal });
    const { ok, status } = response;
    const [wait, kind] = ["Retry-After", "Content-Type"].map((name) => response.headers.get(name));
    const isPassing = PASSING.includes(status) || (status === 503 && wait);
    if (isPassing) return { trouble: "is busy", seconds: Number(wait) || 1 };
    const answer = /json/.test(kind) && (await response.json()); // a proxy may answer, too
    if (ok && answer) return { reading: answer };
    const why = status === 413 ? "is too large for the server" : `was refused (status ${status})`;
    return { refusal: answer.detail ?? `The picture ${why}.` };
  } catch {
    return { trouble: "does not answer", seconds: 1 };
  }
}
