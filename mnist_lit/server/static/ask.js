// Asks the server what is written in a picture; only the newest question is answered.

const LONGEST = 30_000; // milliseconds: then the server counts as gone
const PASSING = [429, 502, 503, 504]; // statuses after which it may go well
let newest = new AbortController();

export const forget = () => newest.abort();

/** Ask until there is a reading, and tell why it takes long; none if the question is forgotten. */
export async function ask(picture, tell) {
  const { signal } = (newest = new AbortController());
  while (!signal.aborted) {
    const { reading, refusal, trouble, seconds } = await attempt(picture, signal);
    if (signal.aborted) break;
    if (reading) return reading;
    if (refusal) throw new Error(refusal);
    tell(`The server ${trouble}. It will be asked again by itself.`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

async function attempt(body, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  signal = AbortSignal.any([signal, AbortSignal.timeout(LONGEST)]);
  try {
    const response = await fetch("v1/read?glyphs=true", { method: "POST", headers, body, signal });
    if (response.ok) return { reading: await response.json() };
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    if (PASSING.includes(response.status)) return { trouble: "is busy", seconds };
    return { refusal: (await response.json()).detail };
  } catch {
    return { trouble: "does not answer", seconds: 1 };
  }
}
