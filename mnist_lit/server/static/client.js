// The client of the API: only the newest request is completed.

const SLOW = 10_000; // milliseconds until the user is told to wait
const TRANSIENT = [429, 502, 504]; // worth a retry, like 503 with Retry-After
let newest = new AbortController();

export const cancel = () => newest.abort();

/** Retry until there is a reading, reporting delays; undefined if the request is canceled. */
export async function request(picture, tell) {
  const { signal } = (newest = new AbortController());
  while (!signal.aborted) {
    const slow = setTimeout(tell, SLOW, "The server is slow. Please wait.");
    const { reading, refusal, trouble, seconds } = await attempt(picture, signal);
    clearTimeout(slow);
    if (signal.aborted) break;
    if (reading) return reading;
    if (refusal) throw new Error(refusal);
    tell(`The server ${trouble}. Retrying automatically.`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

async function attempt(body, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  try {
    const response = await fetch("v1/read?glyphs=true", { method: "POST", headers, body, signal });
    const { ok, status } = response;
    const [wait, kind] = ["Retry-After", "Content-Type"].map((name) => response.headers.get(name));
    const isTransient = TRANSIENT.includes(status) || (status === 503 && wait);
    if (isTransient) return { trouble: "is busy", seconds: Number(wait) || 1 };
    const json = /json/.test(kind) && (await response.json()); // a proxy's pages are HTML
    if (ok && json) return { reading: json };
    const why = status === 413 ? "is too large for the server" : `was refused (status ${status})`;
    return { refusal: json.detail ?? `The picture ${why}.` };
  } catch {
    return { trouble: "does not respond", seconds: 1 };
  }
}
