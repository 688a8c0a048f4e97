// Functions for the test pages: two kinds of clients, with one log of received messages and events.
const parameters = new URLSearchParams(location.search);
if (parameters.has("old")) { // features that the oldest browsers of docs/CLIENTS.md lack
  for (const [owner, ...names] of [
    [AbortSignal, "any", "timeout", "abort"], [AbortSignal.prototype, "reason", "throwIfAborted"],
    [Array, "fromAsync"], [Array.prototype, "at", "findLast", "findLastIndex", "toSorted", "toReversed", "with", "group"],
    [String.prototype, "at", "isWellFormed", "toWellFormed"], [Object, "hasOwn", "groupBy"], [Map, "groupBy"], [Promise, "withResolvers", "try"],
    [globalThis, "structuredClone", "TextDecoderStream", "TextEncoderStream", "BroadcastChannel", "scheduler", "reportError", "Iterator"],
    [crypto, "randomUUID"], [Crypto.prototype, "randomUUID"], [Navigator.prototype, "locks"], [URL, "canParse", "parse"],
    [ReadableStream, "from"], [ReadableStream.prototype, "values", Symbol.asyncIterator], [Response, "json"], [Uint8Array, "fromBase64"],
    [Uint8Array.prototype, "toBase64"], [Set.prototype, "union", "intersection", "difference"],
  ]) for (const name of names) delete owner[name];
}
// A reloaded page has ten seconds to join again. This limit is off, because a slow machine may need longer and no test needs it.
const { setTimeout: later } = window;
window.setTimeout = (f, ms, ...args) => ms === 10_000 ? 0 : later(f, ms, ...args);

// On a slow machine a request may take as long as on a slow network. With still, the clock does not show it.
if (parameters.has("still")) {
  const start = Date.now();
  Date.now = () => start;
}

/** Makes the page wait for the first way to open a stream, however long it takes. */
function patient() {
  const { setTimeout: later } = window;
  window.setTimeout = (f, ms, ...args) => ms === 1000 ? 0 : later(f, ms, ...args);
}

/** Returns a function that turns the page's clock forward. Timeouts longer than least ms fire early, to look at the clock. */
function clock(least) {
  const { now } = Date;
  const { setTimeout: later } = window;
  let ahead = 0;
  Date.now = () => now() + ahead;
  window.setTimeout = (f, ms, ...args) => later(f, ms > least ? 100 : ms, ...args);
  return (ms) => { ahead += ms; };
}

const hub = new URL(parameters.get("hub") ?? "/", location.href);
const { Watchbox, WatchboxError } = await import(new URL("watchbox.js", hub).href);

/** The payloads of received messages, and all other events as [event, detail]. */
const received = [];
const events = [];

/** Listens with the browser's EventSource. */
function eventSource(path) {
  const source = new EventSource(new URL(path, hub));
  source.onopen = () => events.push(["open"]);
  source.onerror = () => events.push(["error"]);
  source.onmessage = (event) => received.push(JSON.parse(event.data).msg);
  source.addEventListener("gap", (event) => events.push(["gap", JSON.parse(event.data)]));
  return source;
}

/** Makes a Watchbox whose events are logged. */
function watchbox(options) {
  const wb = new Watchbox(undefined, { maxDelay: 200, ...options });
  for (const type of ["open", "disconnect", "reconnect", "gap", "direct", "closed", "unrenewed", "state"]) {
    wb.addEventListener(type, ({ detail }) => events.push([type, { ...detail, error: detail.error?.message, status: detail.error?.status }]));
  }
  return wb;
}

window.t = {
  Watchbox, WatchboxError, clock, patient, received, events, hub, eventSource, watchbox,
  receive: (m) => received.push(m.msg),
  count: (type) => events.filter(([t]) => t === type).length,
  ready: true,
};
