// A clock and a network for watchbox.js without a browser: time passes only in pass, and requests are answered by a function.

/** A request that the client has made. @typedef {{kind: string, method: string, url: URL, query: URLSearchParams, signal: AbortSignal}} Request */

export const second = 1000;
export const minute = 60 * second;

let now = 0;
let timers = new Map();
let lastTimer = 0;

globalThis.setTimeout = (f, ms = 0, ...args) => {
  timers.set(++lastTimer, { at: now + ms, f: () => f(...args) });
  return lastTimer;
};
globalThis.clearTimeout = (id) => { timers.delete(id); };
Date.now = () => 1_800_000_000_000 + now;

/** Returns the time on the clock in ms. */
export const time = () => now;

const { setImmediate } = globalThis;

/** Lets everything happen that needs no time. It is all done by microtasks. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Lets time pass, and everything happen that it brings. @param {number} ms */
export async function pass(ms) {
  for (const end = now + ms; ;) {
    await settle();
    const [id, next] = [...timers].reduce((a, b) => b[1].at < a[1].at ? b : a, [0, { at: Infinity, f: () => {} }]);
    if (next.at > end) {
      now = end;
      return settle();
    }
    timers.delete(id);
    now = Math.max(now, next.at);
    next.f();
  }
}

class Storage extends Map {
  getItem(key) { return this.get(key) ?? null; }
  setItem(key, value) { this.set(key, value); }
  removeItem(key) { this.delete(key); }
}

/** The requests so far, by kind: GET and POST of a stream, first and next poll, join and leave. */
let requests = [];
let answer = () => undefined;

/** Returns the kinds of the requests since the last call, without others. */
export function seen() {
  const list = requests.filter((kind) => kind !== "other");
  requests = [];
  return list.join(" ");
}

/**
 * Starts anew: without timers and storage, and with another network.
 * @param {(request: Request) => object | undefined} f answers, later or never if it returns undefined
 */
export function begin(f) {
  timers = new Map();
  requests = [];
  answer = f;
  globalThis.localStorage = new Storage();
  globalThis.sessionStorage = new Storage();
}

function kindOf(method, { pathname }, query) {
  if (pathname === "/v1/events") return method;
  if (pathname === "/v1/history") return query.get("wait") === "0s" ? "poll" : "wait";
  if (pathname.includes("/groups/")) return method === "PUT" ? "join" : "leave";
  return "other";
}

globalThis.fetch = (address, { method = "GET", signal, body } = {}) => {
  const url = new URL(address);
  const query = method === "POST" && body instanceof URLSearchParams ? body : url.searchParams;
  const kind = kindOf(method, url, query);
  requests.push(kind);
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) return abort();
    const given = answer({ kind, method, url, query, signal });
    if (given === undefined) return;
    signal?.addEventListener("abort", () => given.abort?.(signal.reason));
    if (given.after) setTimeout(() => resolve(given), given.after);
    else resolve(given);
  });
};

/** @param {number} status @param {string} media @param {string} text */
function response(status, media, text) {
  return {
    status, ok: status >= 200 && status < 300, type: "basic", statusText: "", headers: new Headers(media ? { "Content-Type": media } : {}),
    text: async () => text, json: async () => JSON.parse(text),
  };
}

export const done = () => response(204, "", "");
export const problem = (status, code) => response(status, "application/problem+json", JSON.stringify({ code, detail: code }));
export const broken = () => response(502, "text/html", "");

/** The answer to a poll. @param {object[]} messages @param {string} next */
export function list(messages, next) {
  return response(200, "application/x-ndjson", [...messages, { next, uid: "u" }].map((m) => JSON.stringify(m) + "\n").join(""));
}

/** An event stream that begins with a session event. write and end continue it. */
export function stream() {
  const chunks = [];
  let wake = () => {};
  let failed;
  const add = (chunk) => { chunks.push(chunk); wake(); };
  const read = async () => {
    while (chunks.length === 0 && !failed) await new Promise((resolve) => { wake = resolve; });
    if (failed) throw failed;
    const text = chunks.shift();
    return text === undefined ? { done: true } : { value: new TextEncoder().encode(text) };
  };
  const s = {
    ...response(200, "text/event-stream", ""), body: { getReader: () => ({ read }) },
    abort(reason) { failed = reason; wake(); },
    write: (text) => add(text),
    end: () => add(undefined),
  };
  s.write(`event: session\nid: x-1\ndata: {"uid":"u","heartbeat":"15s"}\n\n`);
  return s;
}

/** @param {string} id @param {string} group */
export const message = (id, group) => ({ id, group, time: "2026-11-28T12:00:00.000Z", msg: id });

/** A message as an event. @param {string} id @param {string} group */
export const event = (id, group) => `id: ${id}\ndata: ${JSON.stringify(message(id, group))}\n\n`;
