// @ts-check
// Client of a Watchbox hub for pages, workers and Node: subscribes to groups over one stream, and publishes.
//
//   import { Watchbox } from "./watchbox.js";
//   const wb = new Watchbox();
//   await wb.join("home/#", (m) => console.log(m.group, m.msg));
//   await wb.publish("home/kitchen", "the kettle is on");
//
// A Link keeps one stream to the hub open. A Watchbox is one client of it and has the callbacks and the position
// of the last message. With the option shared, the Watchboxes of several tabs use the Link of one of them; in the other
// tabs a SharedLink takes its place.

/** @typedef {import("./watchbox.d.ts").Options} Options */
/** @typedef {import("./watchbox.d.ts").PublishOptions} PublishOptions */
/** @typedef {import("./watchbox.d.ts").Receipt} Receipt */
/** @typedef {import("./watchbox.d.ts").Message} Message */
/** @typedef {import("./watchbox.d.ts").Gap} Gap */
/** @typedef {import("./watchbox.d.ts").State} State */

/** The longest wait between two attempts, in ms, by default. */
const MAX_DELAY = 30_000;

/** How long an answer, or the opening of a stream, may take, in ms. */
const MAX_SILENCE = 30_000;

/** The slowest upload that does not time out, in bytes per ms: the size of a request extends MAX_SILENCE. */
const MIN_UPLOAD_RATE = 16;

/** How long after a reload the page may join its earlier filters again and resume, in ms. */
const REJOIN_TIME = 10_000;

/** How many messages are kept for each such filter until it is joined. */
const MAX_BACKLOG = 10_000;

/** How often the position is saved while messages come, in ms. It is also saved on pagehide. */
const SAVE_INTERVAL = 1000;

/** The hub ends a stream up to 30 s before its token expires. The rest is time for another attempt to renew it. */
const RENEW_BEFORE = 45_000;

/** The shortest wait between two attempts to renew a token, in ms. */
const MIN_RENEW_WAIT = 100;

/** The longest time that setTimeout can wait, in ms. */
const MAX_TIMER = 2 ** 31 - 1;

/** How long the last request of close() may take, in ms. */
const MAX_GOODBYE = 5000;

/** How long a way to open a stream that is not known to work may take until the first event, in ms. */
const PATIENCE = 1000;

/** The same for a way that has worked: one and a half of a hub's usual heartbeats. */
const LONG_PATIENCE = 22_500;

/** How long a way other than the best is used before the better ones are tried again, in ms. */
const WAY_MEMORY = 3_600_000;

/**
 * How long a poll waits, in s. Proxies often end a request after 30 s. If one does so earlier, the next polls wait for half of
 * that time, but not for less than a second.
 */
const POLL_TIME = 25;

/** The code of the hub's answer to a client that was kicked while it polled. It ends the client as the last event of a stream does. */
const SESSION_ENDED = "session-ended";

/** The most messages in the answer to a poll. */
const POLL_MESSAGES = 1000;

/** How often a call about the own session is repeated while the hub does not know the session: for about three seconds. */
const MOST_UNKNOWN = 6;

/** Upper bound of the delay before the first of these repeats, in ms. */
const UNKNOWN_DELAY = 100;

// ---- ids, groups and errors

/**
 * Reports whether an id is at or before a position. Ids are <epoch>-<seq>, and only those of one epoch can be
 * compared.
 * @param {string} position
 * @param {string} id
 */
function hasReached(position, id) {
  const p = position.lastIndexOf("-");
  const i = id.lastIndexOf("-");
  return p >= 0 && position.slice(0, p) === id.slice(0, i) && Number(id.slice(i + 1)) <= Number(position.slice(p + 1));
}

/**
 * Reports whether a filter matches a group.
 * @param {string} filter
 * @param {string} group
 */
function matches(filter, group) {
  if (filter === group) return true;
  const f = filter.split("/");
  const g = group.split("/");
  if (group.startsWith("$") && (f[0] === "+" || f[0] === "#")) return false;
  for (let i = 0; i < f.length; i++) {
    if (f[i] === "#") return true; // also matches the parent, where g ends here
    if (i >= g.length || f[i] !== "+" && f[i] !== g[i]) return false;
  }
  return f.length === g.length;
}

/**
 * Returns a group or filter as the end of a path, with each level encoded.
 * @param {string} group
 */
function encodePath(group) {
  const levels = group.split("/");
  if (levels.some((level) => level === "" || level === "." || level === "..")) {
    throw new TypeError(`watchbox: "${group}" has an empty level, or a level . or .., which browsers remove`);
  }
  return levels.map(encodeURIComponent).join("/");
}

/** A refusal by the hub, or the reason why it cannot be reached. */
export class WatchboxError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string, retryAfter?: number}} [answer]
   */
  constructor(message, { status = 0, code = "", retryAfter = 0 } = {}) {
    super("watchbox: " + message);
    this.name = "WatchboxError";
    /** The HTTP status; 0 where there was no answer. */
    this.status = status;
    /** The problem's code, which is stable; "" if the answer has none. */
    this.code = code;
    /** How many ms to wait before a retry, if the hub says; otherwise 0. */
    this.retryAfter = retryAfter;
  }

  /** Whether a retry may succeed. */
  get temporary() {
    switch (this.code) {
      case "program-failed": // BeforePublish panicked: it would again
      case "batch-over-rate": // the next attempt would have as many messages
        return false;
    }
    return this.status === 0 || [408, 425, 429].includes(this.status) || this.status >= 500 && this.status !== 501 && this.status !== 507;
  }
}

/**
 * Returns the error for an answer that is not a success.
 * @param {Response} response
 */
async function responseError(response) {
  if (response.type === "opaqueredirect") { // a page may not see its target
    return new WatchboxError("the answer is a redirect: use the address that it leads to", { status: 307 });
  }
  const media = mediaType(response);
  let detail = `the answer is ${response.status} ${response.statusText || media}`;
  let code = "";
  if (media === "application/problem+json") {
    const problem = await response.json();
    detail = problem.detail ?? detail;
    code = problem.code ?? "";
  }
  return new WatchboxError(detail, { status: response.status, code, retryAfter: retryAfter(response) });
}

/**
 * Returns the media type of a response, without parameters.
 * @param {Response} response
 */
function mediaType(response) {
  return (response.headers.get("Content-Type") ?? "").split(";")[0].trim().toLowerCase();
}

/**
 * Returns the wait that a response asks for, in ms, or 0.
 * @param {Response} response
 */
function retryAfter(response) {
  const value = response.headers.get("Retry-After");
  if (!value) return 0;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return ms > 0 ? ms : 0;
}

/** @param {any} answer to a publish */
const isReceipt = (answer) => typeof answer?.id === "string";

/** @param {any} answer to a batch */
const isBatchReceipt = (answer) => isReceipt(answer) && typeof answer.first === "string";

/** @param {any} answer to a request for retained messages */
const isRetainedList = (answer) => Array.isArray(answer?.messages);

/**
 * Returns an error as a WatchboxError. An error of fetch gives no reason.
 * @param {unknown} error
 * @param {string} [what] failed
 */
function toWatchboxError(error, what = "the hub cannot be reached") {
  if (error instanceof WatchboxError) return error;
  return new WatchboxError(what + ": " + (error instanceof Error ? error.message : error));
}

/** Returns 128 random bits, in hex. (crypto.randomUUID does not exist on pages over plain HTTP.) */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

/**
 * Returns a random part of a time that doubles with each failure, so that a thousand clients do not reconnect at
 * once.
 * @param {number} failures in a row
 * @param {number} base in ms
 * @param {number} max in ms
 */
function backoff(failures, base, max) {
  return Math.random() * Math.min(max, base * 2 ** Math.min(failures, 20));
}

/**
 * Waits before the next attempt, or until the signal aborts. If the hub did not ask for a wait, the browser's online
 * event ends it, too.
 * @param {number} retryAfter the wait that the hub asked for, in ms
 * @param {number} ms the wait in addition
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function pause(retryAfter, ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, retryAfter + ms);
    if (retryAfter === 0) globalThis.addEventListener?.("online", done);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}

/**
 * Returns why a signal was aborted. Before Chrome 98 and Safari 15.4 a signal has no reason.
 * @param {AbortSignal} signal
 */
function abortReason(signal) {
  return signal.reason ?? new DOMException("watchbox: aborted", "AbortError");
}

/**
 * Returns the result of a promise, or fails with the reason of the signal if that aborts first.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(abortReason(signal));
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/**
 * Returns a signal that aborts with the first of several, as AbortSignal.any does in newer browsers, or after a
 * time. Call release when the signal is no longer needed.
 * @param {AbortSignal[]} signals
 * @param {number} [ms]
 */
function combineSignals(signals, ms) {
  const controller = new AbortController();
  const abort = () => controller.abort(abortReason(signals.find((signal) => signal.aborted) ?? controller.signal));
  const timeOut = () => controller.abort(new WatchboxError("no answer came in time"));
  const timer = ms === undefined ? undefined : setTimeout(timeOut, ms);
  for (const signal of signals) signal.addEventListener("abort", abort);
  if (signals.some((signal) => signal.aborted)) abort();
  return {
    signal: controller.signal,
    release() {
      clearTimeout(timer);
      for (const signal of signals) signal.removeEventListener("abort", abort);
    },
  };
}

/**
 * @template T
 * @typedef {{promise: Promise<T>, resolve: (value: T) => void, reject: (error: unknown) => void}} Deferred
 */

/**
 * Returns a promise whose rejection is not reported if nothing waits for it.
 * @template T
 * @returns {Deferred<T>}
 */
function deferred() {
  const d = /** @type {Deferred<T>} */ ({});
  d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }));
  d.promise.catch(() => {});
  return d;
}

// ---- requests

/** @param {() => string | Promise<string>} token */
async function callToken(token) {
  try {
    return await token();
  } catch (error) {
    throw toWatchboxError(error, "the page's token function failed");
  }
}

/**
 * Makes requests, with a token if there is one. It does not follow redirects, because they would carry the session's
 * secret and the token to other hosts.
 */
class Requests {
  /**
   * @param {URL} base
   * @param {Options} options
   * @param {AbortSignal} signal
   */
  constructor(base, options, signal) {
    this.base = base;
    this.token = options.token;
    this.maxDelay = options.maxDelay ?? MAX_DELAY;
    this.signal = signal;
    /** Whether the hub has answered once, so that the address is right. */
    this.reachedHub = false;
  }

  /**
   * @param {AbortSignal} signal ends the wait for a token function that does not return
   * @returns {Promise<Record<string, string>>}
   */
  async authorization(signal) {
    const { token } = this;
    const value = typeof token === "function" ? await unlessAborted(callToken(token), signal) : token;
    return value ? { Authorization: "Bearer " + value } : {};
  }

  /**
   * Reports whether an answer is final. Once the hub has answered, an answer that is not its own comes from a
   * proxy while the hub is replaced, or from a network that wants a login: it is temporary.
   * @param {WatchboxError} error
   */
  isFinal(error) {
    if ([204, 401, 403].includes(error.status)) return true;
    return !error.temporary && (error.code !== "" || !this.reachedHub);
  }

  /**
   * Repeats a request until an answer is final, and returns the JSON of a success.
   * @param {string} method
   * @param {string} address relative to the hub
   * @param {{body?: BodyInit, signal?: AbortSignal, headers?: Record<string, string>}} [init]
   * @param {(answer: any) => boolean} [valid] whether the JSON is a hub's; without it, a success has no body
   * @returns {Promise<any>}
   */
  async call(method, address, { signal, ...init } = {}, valid) {
    const combined = combineSignals(signal ? [signal, this.signal] : [this.signal]);
    try {
      for (let failures = 0, renewed = false; ; failures++) {
        const { answer, error } = await this.attempt(method, address, init, combined.signal, valid);
        if (!error) return answer;
        if (combined.signal.aborted) throw abortReason(combined.signal);
        if (error.status === 401 && typeof this.token === "function" && !renewed) {
          renewed = true; // the token may have expired, and a newer one may exist
          continue;
        }
        if (this.isFinal(error)) throw error;
        await pause(error.retryAfter, backoff(failures, 1000, this.maxDelay), combined.signal);
        if (combined.signal.aborted) throw abortReason(combined.signal);
      }
    } finally {
      combined.release();
    }
  }

  /**
   * Makes a request once. It never throws.
   * @param {string} method
   * @param {string} address
   * @param {{body?: BodyInit, headers?: Record<string, string>, cache?: RequestCache}} init
   * @param {AbortSignal} signal
   * @param {(answer: any) => boolean} [valid]
   * @returns {Promise<{answer?: any, headers?: Headers, error?: WatchboxError}>}
   */
  async attempt(method, address, init, signal, valid) {
    const deadline = combineSignals([signal], MAX_SILENCE + bodySize(init.body) / MIN_UPLOAD_RATE);
    try {
      const headers = { ...init.headers, ...await this.authorization(deadline.signal) };
      const response = await fetch(new URL(address, this.base), {
        ...init, method, headers, redirect: "manual", signal: deadline.signal,
      });
      const noContent = [202, 204].includes(response.status);
      const read = READERS.get(mediaType(response));
      if (!response.ok || noContent !== !valid || valid && !read) throw await responseError(response);
      const answer = valid && read?.(await response.text());
      if (valid && !valid(answer)) throw await responseError(response);
      this.reachedHub = true;
      return { answer, headers: response.headers };
    } catch (e) {
      const error = toWatchboxError(e);
      if (error.code) this.reachedHub = true;
      return { error };
    } finally {
      deadline.release();
    }
  }
}

/** @type {Map<string, (text: string) => any>} How to read an answer, by its media type. */
const READERS = new Map([["application/json", JSON.parse], ["application/x-ndjson", parseList]]);

/**
 * Reads a list of messages and gaps in lines. Each message keeps its line.
 * @param {string} text
 */
function parseList(text) {
  /** @type {{messages: Listed[], gaps: object[]}} */
  const list = { messages: [], gaps: [] };
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const { id, retained, gap, ...end } = JSON.parse(line);
    if (id) list.messages.push({ id, retained, line });
    else if (gap) list.gaps.push(gap);
    else Object.assign(list, end);
  }
  return list;
}

/** A message of a list, which is not read yet. @typedef {{id: string, retained?: true, line: string}} Listed */

/** @param {any} body */
function bodySize(body) {
  return body?.size ?? body?.byteLength ?? body?.length ?? 0;
}

// ---- one connection

/**
 * A block of an event stream. A block without data is a heartbeat: it has an id and is no event.
 * @typedef {{type: string, data?: string, id: string}} Block
 */

/**
 * Returns a parser that takes an event stream in pieces, cut anywhere (WHATWG HTML, 9.2.6).
 * @param {(block: Block) => void} onBlock
 * @param {(ms: number) => void} onRetry
 * @returns {(text: string) => void}
 */
function parser(onBlock, onRetry) {
  let partial = "";
  let afterCR = false;
  let type = "";
  let id = "";
  /** @type {string[]} */
  let data = [];

  /** @param {string} line */
  const takeLine = (line) => {
    if (line === "") {
      onBlock({ type: type || "message", data: data.length ? data.join("\n") : undefined, id });
      type = "";
      data = [];
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") data.push(value);
    else if (name === "event") type = value;
    else if (name === "id" && !value.includes("\0")) id = value;
    else if (name === "retry" && /^\d+$/.test(value)) onRetry(Number(value));
  };

  return (text) => {
    if (text === "") return;
    const skipLF = afterCR && text[0] === "\n"; // the second half of a line end
    afterCR = text.endsWith("\r");
    const lines = (skipLF ? text.slice(1) : text).split(/\r\n|\r|\n/);
    lines[0] = partial + lines[0];
    partial = lines.pop() ?? "";
    lines.forEach(takeLine);
  };
}

/**
 * How a connection ended. reconnect: at once; byFetch: and by fetch, to learn why it was refused.
 * @typedef {{error: WatchboxError, final?: boolean, reconnect?: boolean, byFetch?: boolean}} ConnectionEnd
 */

/**
 * Returns how a connection ends that the hub ends for a reason.
 * @param {string} reason
 * @returns {ConnectionEnd}
 */
function endByHub(reason) {
  return { error: new WatchboxError(`the hub ended the stream: ${reason}`, { code: reason }), final: endsSession(reason) };
}

/** @param {string} [code] @returns {boolean} whether it says that a session was ended on purpose */
function endsSession(code) {
  return code === "kicked" || code === "ended" || code === SESSION_ENDED;
}

/**
 * What a connection reports: received bytes, blocks, reconnection times, and its end.
 * @typedef {{onBytes: () => void, onBlock: (block: Block) => void, onRetry: (ms: number) => void, onEnd: (end: ConnectionEnd) => void}} Sink
 */

/**
 * Opens a stream by fetch, which sees heartbeats and the reason of a refusal. A POST has the query in its body.
 * @param {Requests} requests
 * @param {"GET" | "POST"} method
 * @param {URL} url
 * @param {Record<string, string>} headers
 * @param {Sink} sink
 * @returns {() => void} closes it
 */
function listenByFetch(requests, method, url, headers, sink) {
  const stop = new AbortController();
  const run = async () => {
    const address = new URL(url);
    if (method === "POST") address.search = "";
    const response = await fetch(address, {
      method, body: method === "POST" ? new URLSearchParams(url.search) : undefined,
      headers: { ...headers, ...await requests.authorization(stop.signal), Accept: "text/event-stream" }, cache: "no-store", redirect: "manual", signal: stop.signal,
    });
    if (!response.ok) throw await responseError(response);
    const media = mediaType(response);
    if (response.status !== 200 || media !== "text/event-stream" || !response.body) {
      const what = response.status === 204 ? "the hub refuses the client for good (204)" : `the answer is not an event stream (${response.status} ${media})`;
      throw new WatchboxError(what, { status: response.status });
    }
    const parse = parser(sink.onBlock, sink.onRetry);
    const decoder = new TextDecoder();
    const body = response.body.getReader();
    for (;;) {
      const { value, done } = await body.read();
      if (done || stop.signal.aborted) break;
      sink.onBytes();
      parse(decoder.decode(value, { stream: true }));
    }
    throw new WatchboxError("the hub ended the stream");
  };
  run().catch((error) => {
    const e = toWatchboxError(error);
    sink.onEnd({ error: e, final: requests.isFinal(e) });
  });
  return () => stop.abort();
}

/**
 * Opens a stream by EventSource, which shows neither heartbeats, nor events whose name was not given, nor the
 * reason of a refusal.
 * @param {URL} url
 * @param {string[]} names event names beside the hub's own
 * @param {Sink} sink
 * @returns {() => void} closes it
 */
function listenByEventSource(url, names, sink) {
  const source = new EventSource(url);
  for (const type of new Set(["message", "session", "gap", "bye", ...names])) {
    source.addEventListener(type, (event) => {
      if (event instanceof MessageEvent) sink.onBlock({ type, data: event.data, id: event.lastEventId });
    });
  }
  source.addEventListener("error", (event) => {
    if (event instanceof MessageEvent) return; // a message with that event name
    const refused = source.readyState === EventSource.CLOSED;
    source.close(); // by itself it would reconnect with its first filters, without a random delay
    sink.onEnd({ error: new WatchboxError("the stream is lost"), reconnect: refused, byFetch: refused });
  });
  return () => source.close();
}

/** @param {string} s a duration in Go's format: 15s, 1m0s, 100ms */
function parseDuration(s) {
  let ms = 0;
  for (const [, n, unit] of s.matchAll(/([\d.]+)(h|ms|m|s)/g)) {
    ms += Number(n) * ({ h: 3_600_000, m: 60_000, s: 1000 }[unit] ?? 1);
  }
  return ms;
}

// ---- proxies that hold streams back

/**
 * The ways to open a stream, the best first: one by EventSource or by the GET of fetch, the same by POST, which some
 * proxies pass on at once, and long polling, which all do.
 */
const STREAM = 0;
const POST = 1;
const POLL = 2;

/** Which way to open a stream works, kept in localStorage for the pages of this origin. */
class Ways {
  #key;
  #way = STREAM;
  #worked = false;
  #until = 0;
  #patience = PATIENCE; // longer on a slow network

  /** @param {string} key */
  constructor(key) {
    this.#key = key;
    try {
      const { way, until } = JSON.parse(localStorage.getItem(key) ?? "{}");
      if ((way === POST || way === POLL) && until > Date.now()) {
        this.#way = way;
        this.#until = until;
        this.#worked = true;
      }
    } catch {
      // There is no storage: the page finds out anew.
    }
  }

  /** @returns {{way: number, patience: number}} the way to begin with, and how long it may take, in ms */
  plan() {
    if (this.#way !== STREAM && Date.now() > this.#until) {
      this.#way = STREAM;
      this.#worked = false;
    }
    return { way: this.#way, patience: this.#worked ? LONG_PATIENCE : this.#patience };
  }

  /** How long any other way may take, in ms. */
  get patience() { return this.#patience; }

  /** @param {number} way that has worked */
  remember(way) {
    if (this.#worked && this.#way === way) return;
    this.#set(way, true);
  }

  /**
   * Tries the way after this one next, because a proxy let only its first bytes through.
   * @param {number} way
   */
  forsake(way) {
    if (this.#way === way && way < POLL) this.#set(way + 1, false);
  }

  /**
   * Is more patient from now on, and tries all ways again, because a short request took that long.
   * @param {number} took in ms
   * @returns {boolean} whether it was not patient enough
   */
  slow(took) {
    if (took <= this.#patience || this.#patience >= LONG_PATIENCE) return false;
    this.#patience = Math.min(4 * took, LONG_PATIENCE);
    this.#set(STREAM, false);
    return true;
  }

  /**
   * @param {number} way
   * @param {boolean} worked
   */
  #set(way, worked) {
    this.#way = way;
    this.#worked = worked;
    this.#until = Date.now() + WAY_MEMORY;
    try {
      if (way === STREAM) localStorage.removeItem(this.#key);
      else localStorage.setItem(this.#key, JSON.stringify({ way, until: this.#until }));
    } catch {
      // There is no storage, or it is full.
    }
  }
}

/**
 * Reports whether an answer to a POST or a poll is not that of a hub that knows the request: a proxy may refuse it, and an
 * older hub does.
 * @param {WatchboxError} error
 */
function isForeign({ status, code }) {
  return [404, 405, 415, 501].includes(status) || code === "parameter-unknown" || status >= 200 && status < 500 && code === "" && ![204, 401, 408, 425, 429].includes(status);
}

/** @param {any} answer to a poll */
const isPollAnswer = (answer) => Array.isArray(answer?.messages) && typeof answer.next === "string";

/** Makes long polls, and reports what they return as the blocks of a stream. */
class Poller {
  #stop = new AbortController();
  /** Ends the poll that waits, because the filters change. */
  #wake = new AbortController();
  /** @type {{filter: string, done: Deferred<void>}[]} */
  #joins = [];
  #requests;
  #filters;
  #query;
  #headers;
  #sink;
  #position;
  #wait = POLL_TIME;

  /**
   * @param {Requests} requests
   * @param {string[]} filters
   * @param {Record<string, string>} query of each poll
   * @param {Record<string, string>} start query of the first poll
   * @param {string} position to resume at, or ""
   * @param {Record<string, string>} headers
   * @param {Sink} sink
   */
  constructor(requests, filters, query, start, position, headers, sink) {
    this.#requests = requests;
    this.#filters = [...filters];
    this.#query = query;
    this.#headers = headers;
    this.#sink = sink;
    this.#position = position;
    this.#run(start).catch((error) => {
      const e = toWatchboxError(error);
      for (const { done } of this.#joins.splice(0)) done.reject(e);
      sink.onEnd({ error: e, final: this.#requests.isFinal(e) });
    });
  }

  close() {
    this.#stop.abort();
    for (const { done } of this.#joins.splice(0)) done.reject(abortReason(this.#stop.signal));
  }

  /**
   * Adds a filter from now on, after its retained messages.
   * @param {string} filter
   * @returns {Promise<void>}
   */
  join(filter) {
    /** @type {Deferred<void>} */
    const done = deferred();
    this.#joins.push({ filter, done });
    this.#wake.abort();
    return done.promise;
  }

  /** @param {string} filter */
  leave(filter) {
    this.#filters = this.#filters.filter((f) => f !== filter); // the hub ends the poll that waits
  }

  /** @param {Record<string, string>} start */
  async #run(start) {
    const first = await this.#poll(this.#filters, start, 0);
    // Messages that the first poll brings lie before its position.
    const id = this.#position || (start.last === "0" ? first.next : "");
    this.#sink.onBlock({ type: "session", data: JSON.stringify({ uid: first.uid, heartbeat: POLL_TIME + "s" }), id });
    this.#report(first);
    while (!this.#stop.signal.aborted) {
      await this.#addFilters();
      this.#wake = new AbortController();
      if (this.#joins.length) continue;
      const wake = this.#wake.signal;
      const begun = Date.now();
      try {
        this.#report(await this.#poll(this.#filters, { since: this.#position }, this.#wait, wake));
      } catch (error) {
        const ended = error instanceof WatchboxError && error.code === SESSION_ENDED; // the hub may say so only once
        if (wake.aborted && !ended) continue;
        const waited = (Date.now() - begun) / 1000;
        const cut = error instanceof WatchboxError && (error.status === 0 || error.status === 504) && waited / 2 >= 1;
        if (!cut || this.#stop.signal.aborted) throw error;
        this.#wait = Math.min(this.#wait, waited) / 2;
      }
    }
  }

  /** Adds the filters that wait. At the old position, messages from before the join would lie ahead: so it reads up to now first. */
  async #addFilters() {
    for (const { filter, done } of this.#joins.splice(0)) {
      try {
        for (let more = this.#filters.length > 0; more;) {
          const answer = await this.#poll(this.#filters, { since: this.#position }, 0);
          this.#report(answer);
          more = answer.messages.length >= POLL_MESSAGES;
        }
        const { messages } = await this.#poll([filter], { last: "0", retained: "true" }, 0);
        // A message that was retained behind the position comes as a new one.
        const retained = messages.filter((/** @type {Listed} */ m) => hasReached(this.#position, m.id));
        this.#report({ messages: retained, next: this.#position });
        if (!this.#filters.includes(filter)) this.#filters.push(filter);
        done.resolve();
      } catch (e) {
        const error = toWatchboxError(e);
        done.reject(error);
        if (!this.#requests.isFinal(error) || error.code === SESSION_ENDED) throw error;
      }
    }
  }

  /**
   * @param {string[]} filters
   * @param {Record<string, string>} query
   * @param {number} wait in s
   * @param {AbortSignal} [wake]
   * @returns {Promise<any>}
   */
  async #poll(filters, query, wait, wake) {
    const q = new URLSearchParams({ ...this.#query, ...query, wait: wait + "s", limit: String(POLL_MESSAGES) });
    for (const f of filters) q.append("group", f);
    const combined = combineSignals(wake ? [this.#stop.signal, wake] : [this.#stop.signal]);
    try {
      const headers = { ...this.#headers, Accept: "application/x-ndjson" };
      const { answer, error } = await this.#requests.attempt("GET", "v1/history?" + q, { headers, cache: "no-store" }, combined.signal, isPollAnswer);
      if (error) throw error;
      return answer;
    } finally {
      combined.release();
    }
  }

  /**
   * Reports an answer as blocks.
   * @param {{messages: Listed[], gaps?: object[], next: string}} answer
   */
  #report({ messages, gaps = [], next }) {
    if (this.#stop.signal.aborted) return;
    this.#sink.onBytes();
    const oldest = messages.find((m) => !m.retained);
    for (const gap of gaps) this.#sink.onBlock({ type: "gap", data: JSON.stringify(gap), id: oldest ? idBefore(oldest.id) : next });
    for (const m of messages) this.#sink.onBlock({ type: "message", data: m.line, id: m.retained ? "" : m.id });
    this.#position = next;
    this.#sink.onBlock({ type: "message", data: undefined, id: next });
  }
}

/**
 * Returns the position just before a message.
 * @param {string} id
 */
function idBefore(id) {
  const dash = id.lastIndexOf("-");
  return id.slice(0, dash + 1) + (Number(id.slice(dash + 1)) - 1);
}

// ---- the stream

/**
 * What a Link reports to its clients.
 * @typedef {{kind: "state", state: State, uid: string, position: string, error?: WatchboxError, delay?: number}
 *   | {kind: "message", message: Message}
 *   | {kind: "gap", gap: Gap, id: string}
 *   | {kind: "position", id: string}
 *   | {kind: "unrenewed", error: WatchboxError, delay: number}} LinkEvent
 */

/**
 * Called when a filter is on the open stream, before its first message, or with the error that keeps it off the
 * stream.
 * @typedef {(error?: WatchboxError) => void} Done
 */

/**
 * A filter of a link. subscribed: it is or was on the stream, so that resuming includes it.
 * @typedef {{waiting: Done[], subscribed: boolean}} Entry
 */

/**
 * Calls all waiting functions of an entry, once.
 * @param {{waiting: Done[]}} entry
 * @param {WatchboxError} [error]
 */
function settle(entry, error) {
  for (const done of entry.waiting.splice(0)) done(error);
}

/** One stream of one session for any number of filters. It reconnects and resumes by itself. */
class Link {
  /** @type {Map<string, Entry>} */
  #filters = new Map();
  #position = "";
  #uid = "";
  #retryTime = 1000; // the reconnection time from the hub, in ms
  #byFetch; // whether the next connection uses fetch
  #ways;
  /** @type {Poller | undefined} Set while the open stream polls. */
  #poller;
  #oneByOne = false; // request filters one by one, because one of several was refused
  /** @type {AbortController | undefined} Stops #run; undefined if it does not run. */
  #running;
  /** @type {AbortController | undefined} Ends the calls that belong to one connection. */
  #connection;
  /** @type {((end: ConnectionEnd) => void) | undefined} */
  #endConnection;
  /** @type {Promise<unknown>} The last change of the open stream. Changes are made in order. */
  #lastChange = Promise.resolve();

  /** @type {State} */
  state = "idle";
  /** @type {WatchboxError | undefined} Why the link is closed for good. */
  error;

  /**
   * @param {Requests} requests
   * @param {Options} options
   * @param {string} secret
   * @param {number} gatherTime how long to wait for more filters before opening a stream, in ms
   * @param {(event: LinkEvent) => void} onEvent
   */
  constructor(requests, options, secret, gatherTime, onEvent) {
    this.requests = requests;
    this.options = options;
    this.secret = secret;
    this.gatherTime = gatherTime;
    this.onEvent = onEvent;
    this.#byFetch = options.transport !== "eventsource" || options.token !== undefined;
    this.#ways = new Ways("watchbox way " + requests.base);
  }

  /**
   * Adds a filter: from now on, after the retained messages; or after an id.
   * @param {string} filter
   * @param {string} after an id, or ""
   * @param {Done} done
   */
  add(filter, after, done) {
    if (this.error) return done(this.error);
    let f = this.#filters.get(filter);
    if (!f) this.#filters.set(filter, f = { waiting: [], subscribed: false });
    f.waiting.push(done);
    if (after) this.#resume(f, after);
    else if (this.state === "open") this.#change("PUT", filter); // again, if it is on the stream already, to get the retained messages
    if (!this.#running) {
      this.#running = new AbortController();
      this.#run(this.#running.signal);
    }
  }

  /**
   * @param {Entry} f
   * @param {string} after
   */
  #resume(f, after) {
    const behind = this.#position === "" || !hasReached(after, this.#position);
    if (f.subscribed && !behind && this.state === "open") return settle(f);
    f.subscribed = true;
    if (behind) this.#position = after;
    this.#endConnection?.({ error: new WatchboxError("the stream restarts at an earlier position"), reconnect: true });
  }

  /** @param {string} filter */
  remove(filter) {
    const f = this.#filters.get(filter);
    if (!f) return;
    this.#filters.delete(filter);
    settle(f);
    if (this.#filters.size === 0) this.stop();
    else if (this.state === "open") this.#change("DELETE", filter);
  }

  /** Closes the stream. The next filter that is added opens a new one. */
  stop() {
    this.#running?.abort();
    this.#running = undefined;
    this.#endConnection?.({ error: new WatchboxError("the stream was closed") });
    for (const f of this.#filters.values()) settle(f);
    this.#filters.clear();
    this.#position = "";
    if (this.state !== "closed") this.#setState("idle");
  }

  /** Reports the current state again, for a new tab. */
  reportState() {
    this.#setState(this.state, this.error);
  }

  /** @param {AbortSignal} stopped */
  async #run(stopped) {
    const maxDelay = this.options.maxDelay ?? MAX_DELAY;
    let failures = 0;
    let renewed = false;
    for (;;) {
      await (this.gatherTime && pause(0, this.gatherTime, stopped)); // more filters may be joined meanwhile
      if (stopped.aborted) return;
      this.#setState("connecting");
      const { end, lasted } = await this.#connect();
      if (stopped.aborted) return;
      renewed &&= lasted < 0;
      if (end.error.status === 401 && typeof this.options.token === "function" && !renewed) {
        renewed = true; // the token may have expired, and a newer one may exist
        continue;
      }
      if (end.reconnect) continue;
      if (this.#handleRefusedFilter(end.error)) {
        if (stopped.aborted) return;
        continue;
      }
      if (end.final) return this.#close(end.error);
      // A connection that lasted longer than the wait for it counts as a success.
      failures = lasted > Math.min(maxDelay, this.#retryTime * 2 ** failures) ? 0 : failures + 1;
      const { retryAfter } = end.error;
      const delay = backoff(failures, this.#retryTime, maxDelay);
      this.#setState("waiting", end.error, retryAfter + delay);
      await pause(retryAfter, delay, stopped);
    }
  }

  /**
   * Runs one connection to its end.
   * @returns {Promise<{end: ConnectionEnd, lasted: number}>} lasted: ms that it was open, or -1
   */
  async #connect() {
    const attempt = new AbortController();
    /** @type {Deferred<ConnectionEnd>} */
    const ended = deferred();
    const subscribed = [...this.#filters].filter(([, f]) => f.subscribed).map(([filter]) => filter);
    // If there is nothing to resume, all filters start now. Otherwise new filters are added when the stream is open:
    // with an old id they would also get messages from before they were joined.
    const filters = subscribed.length ? subscribed : [...this.#filters.keys()].slice(0, this.#oneByOne ? 1 : undefined);
    const byFetch = this.#byFetch;
    /** @param {ConnectionEnd} end */
    const finish = (end) => {
      attempt.abort(); // ignore everything that still arrives
      ended.resolve(end.error.code === SESSION_ENDED ? endByHub("kicked") : end);
    };
    let opened = 0;
    let more = false; // whether something came after the first bytes
    const watch = watchdog((late) => {
      if (opened && !more && late < PATIENCE) this.#ways.forsake(way);
      finish({ error: new WatchboxError("nothing was received for too long: the connection is dead, or a proxy holds the stream back") });
    });
    this.#connection = attempt;
    this.#endConnection = finish;
    let { way, patience } = this.#ways.plan();
    /** @type {(() => void)[]} Close the listeners. Silent ones stay until another is open, so that the session is not lost. */
    const closers = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    let current = 0;
    const listen = () => {
      const listener = ++current;
      const begun = Date.now();
      const next = () => {
        if (listener !== current || opened || attempt.signal.aborted) return;
        way++;
        patience = this.#ways.patience;
        listen();
      };
      clearTimeout(timer);
      timer = way < POLL && patience ? setTimeout(next, patience) : undefined;
      closers.push(this.#listen(way, byFetch, filters, subscribed.length > 0, {
        onBytes: () => {
          if (listener !== current || !opened) return; // bytes before the session event do not count
          more = true;
          watch.received();
        },
        onRetry: (ms) => { this.#retryTime = Math.max(ms, 1); },
        onEnd: (end) => {
          if (listener !== current) return;
          if (opened || way === STREAM || !isForeign(end.error)) return finish(end);
          if (way < POLL) return next();
          way = STREAM; // an older hub: wait for its stream
          patience = 0;
          this.#ways.remember(STREAM);
          listen();
        },
        onBlock: (block) => {
          if (attempt.signal.aborted || listener !== current) return;
          if (block.type !== "session") return this.#onBlock(block);
          if (way === POLL && this.#ways.slow(Date.now() - begun)) { // the network is slow, and no proxy holds streams back
            for (const close of closers.splice(0)) close();
            ({ way, patience } = this.#ways.plan());
            return listen();
          }
          clearTimeout(timer);
          this.#ways.remember(way);
          for (const close of closers.splice(0, closers.length - 1)) close();
          const { uid, heartbeat, expires_in: left } = JSON.parse(block.data ?? "");
          opened = Date.now();
          this.requests.reachedHub = true;
          const every = parseDuration(heartbeat);
          watch.setLimit(byFetch || way !== STREAM ? Math.max(1.5 * every, every + 1000) + (way === POLL ? MAX_SILENCE : 0) : 0); // an EventSource does not show heartbeats
          this.#onSession(uid, block.id, filters);
          if (left > 0 && typeof this.options.token !== "string") this.#renew(1000 * left, attempt.signal);
        },
      }));
    };
    listen();
    const end = await ended.promise;
    clearTimeout(timer);
    watch.setLimit(0);
    for (const close of closers) close();
    this.#poller = undefined;
    this.#endConnection = undefined;
    this.#byFetch = end.byFetch || this.options.transport !== "eventsource" || this.options.token !== undefined;
    return { end, lasted: opened ? Date.now() - opened : -1 };
  }

  /**
   * @param {number} way
   * @param {boolean} byFetch
   * @param {string[]} filters
   * @param {boolean} resumes
   * @param {Sink} sink
   * @returns {() => void} closes it
   */
  #listen(way, byFetch, filters, resumes, sink) {
    const { echo, since, last, events } = this.options;
    const position = resumes ? this.#position : "";
    /** @type {Record<string, string>} */
    const start = {};
    if (!resumes && since !== undefined) start.since = since;
    if (!resumes && last !== undefined) start.last = String(last);
    /** @type {Record<string, string>} */
    const query = echo === false ? { echo: "false" } : {};
    if (way === POLL) {
      const now = { last: "0", retained: "true" };
      const first = position ? { since: position } : Object.keys(start).length ? start : now;
      const poller = this.#poller = new Poller(this.requests, filters, query, first, position, { "Watchbox-Session": this.secret }, sink);
      return () => poller.close();
    }
    const url = new URL("v1/events", this.requests.base);
    const q = url.searchParams;
    for (const f of filters) q.append("group", f);
    for (const [name, value] of Object.entries({ ...query, ...start })) q.set(name, value);
    if (byFetch || way === POST) { // unlike URLs, headers are not written to logs
      const headers = { "Watchbox-Session": this.secret, ...position && { "Last-Event-ID": position } };
      return listenByFetch(this.requests, way === POST ? "POST" : "GET", url, headers, sink);
    }
    q.set("session", this.secret);
    if (position) q.set("last_event_id", position);
    return listenByEventSource(url, events ?? [], sink);
  }

  /**
   * @param {string} uid
   * @param {string} id
   * @param {string[]} filters
   */
  #onSession(uid, id, filters) {
    this.#uid = uid;
    // After a resume this id is not the position yet: a gap before it may still be reported.
    if (this.#position === "") this.#position = id;
    this.#oneByOne = false;
    for (const filter of filters) {
      const f = this.#filters.get(filter);
      if (f) {
        f.subscribed = true;
        settle(f);
      }
    }
    this.#setState("open");
    for (const filter of filters) if (!this.#filters.has(filter)) this.#change("DELETE", filter); // left while the stream was opening
    for (const [filter, f] of this.#filters) if (!f.subscribed) this.#change("PUT", filter);
  }

  /**
   * Prevents the end of the open stream with its token: before the token expires, it sends the one that the page's
   * function then returns, or lets the browser send its cookie. If that fails or gives no more time, it tries again until
   * the token expires. Then the stream ends and resumes with the token of that time.
   * @param {number} left ms until the token expires
   * @param {AbortSignal} signal of the connection
   */
  async #renew(left, signal) {
    const address = `v1/sessions/${this.#uid}/token`;
    let end = Date.now() + left;
    let wait = renewIn(left);
    while (wait > 0) {
      await waitUntil(Date.now() + Math.max(wait, MIN_RENEW_WAIT), signal);
      if (signal.aborted) return;
      const asked = Date.now();
      const { headers, error } = await this.requests.attempt("PUT", address, { headers: { "Watchbox-Session": this.secret } }, signal);
      if (signal.aborted) return;
      const seconds = headers?.get("Watchbox-Expires-In");
      if (!error && !seconds) return; // the new token does not expire
      const next = error ? 0 : asked + 1000 * Number(seconds);
      const renewed = next > end + 1000; // the hub rounds to seconds
      end = Math.max(end, next);
      left = end - Date.now();
      wait = renewed ? renewIn(left) : Math.max(left / 2, error?.retryAfter ?? 0);
      if (error) this.onEvent({ kind: "unrenewed", error, delay: wait });
    }
  }

  /** @param {Block} block */
  #onBlock({ type, data, id }) {
    if (type === "bye") {
      this.#endConnection?.(endByHub(JSON.parse(data ?? "").reason));
      return;
    }
    if (data === undefined) this.onEvent({ kind: "position", id });
    else if (type === "gap") this.onEvent({ kind: "gap", gap: JSON.parse(data), id });
    else this.onEvent({ kind: "message", message: readMessage(data) });
    this.#position = id || this.#position;
  }

  /**
   * Changes the filters of the open stream. If it breaks meanwhile, it reconnects with the right filters.
   * @param {"PUT" | "DELETE"} method
   * @param {string} filter
   */
  #change(method, filter) {
    const signal = /** @type {AbortController} */ (this.#connection).signal;
    const change = async () => {
      const f = this.#filters.get(filter);
      if (signal.aborted || (f === undefined) === (method === "PUT")) return; // undone meanwhile
      try {
        if (method === "DELETE") this.#poller?.leave(filter);
        if (method === "PUT" && this.#poller) await this.#poller.join(filter);
        else {
          await this.requests.call(method, `v1/sessions/${this.#uid}/groups/${encodePath(filter)}`, {
            headers: { "Watchbox-Session": this.secret }, signal,
          });
        }
        if (f && !signal.aborted) {
          f.subscribed = true;
          settle(f);
        }
      } catch (e) {
        const error = toWatchboxError(e);
        if (signal.aborted) return;
        if (error.code === "no-stream" || error.code === "session-unknown") {
          this.#endConnection?.({ error: new WatchboxError("the hub does not know the stream") });
        } else if (error.code === SESSION_ENDED) this.#endConnection?.({ error, final: true });
        else if (f) {
          if (!f.subscribed) this.#filters.delete(filter);
          settle(f, error);
        }
      }
    };
    this.#lastChange = this.#lastChange.then(change);
  }

  /**
   * If one of several filters was refused, requests them one by one. Drops a filter that was refused
   * alone. Does nothing if a filter was accepted before.
   * @param {WatchboxError} error
   * @returns {boolean} whether it handled the error
   */
  #handleRefusedFilter(error) {
    const [first, second] = this.#filters;
    if (!error.code.startsWith("filter-") || [...this.#filters.values()].some((f) => f.subscribed)) return false;
    if (!this.#oneByOne && second) {
      this.#oneByOne = true;
      return true;
    }
    this.#filters.delete(first[0]);
    settle(first[1], error);
    if (!second) this.stop();
    return true;
  }

  /** @param {WatchboxError} error */
  #close(error) {
    this.error = error;
    for (const f of this.#filters.values()) settle(f, error);
    this.#setState("closed", error);
  }

  /**
   * @param {State} state
   * @param {WatchboxError} [error]
   * @param {number} [delay]
   */
  #setState(state, error, delay) {
    this.state = state;
    this.onEvent({ kind: "state", state, uid: this.#uid, position: this.#position, error, delay });
  }
}

/**
 * Returns the wait before a token is renewed. A stream may have been opened late in the life of its token, whose end is
 * then near.
 * @param {number} left ms until it expires
 */
function renewIn(left) {
  return Math.max(left / 2, Math.min(0.9 * left, left - RENEW_BEFORE));
}

/**
 * Waits until a time, or until the signal aborts.
 * @param {number} time
 * @param {AbortSignal} signal
 */
async function waitUntil(time, signal) {
  for (let left; (left = time - Date.now()) > 0 && !signal.aborted;) await pause(Math.min(left, MAX_TIMER), 0, signal);
}

/**
 * Calls onSilence when received was not called for a time, with how late it is in ms: a computer may have slept.
 * @param {(late: number) => void} onSilence
 */
function watchdog(onSilence) {
  let limit = MAX_SILENCE;
  let last = Date.now();
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;
  const check = () => {
    const left = last + limit - Date.now();
    if (left > 0) timer = setTimeout(check, left);
    else onSilence(-left);
  };
  check();
  return {
    received() { last = Date.now(); },
    /** @param {number} ms 0: no longer */
    setLimit(ms) {
      limit = ms;
      clearTimeout(timer);
      if (ms > 0) check();
    },
  };
}

// ---- one stream for several tabs

/**
 * The messages between tabs. The leader announces itself, forwards the events of its link, and answers requests, which
 * have numbers. after is "" for a filter that starts now.
 * @typedef {{leader: string, from: string, to?: string} | {event: object, from: string} | {hello: string} | {bye: string}
 *   | {answer: number, to: string, error?: ReturnType<typeof serializeError>}
 *   | {request: number, from: string, add: string, after: string} | {from: string, remove: string}} TabMessage
 */

/** @param {WatchboxError} e in a form that can be sent to another tab */
function serializeError({ message, status, code, retryAfter }) {
  return { message: message.replace(/^watchbox: /, ""), status, code, retryAfter };
}

/** @param {ReturnType<typeof serializeError>} e from another tab */
function deserializeError(e) {
  return new WatchboxError(e.message, e);
}

/** Uses the link of the tab that leads, instead of a Link of its own. */
class SharedLink {
  #tabId = randomId();
  #channel;
  #resign = new AbortController();
  /** @type {Deferred<unknown>} Resolved when another tab may lead. */
  #resigned = deferred();
  /** @type {Set<string>} The tabs that this one has followed. */
  #leaders = new Set();
  /** @type {Link | undefined} Set if this tab leads. */
  #link;
  /** @type {Map<string, Set<string>>} The filters of the other tabs, if this one leads. */
  #otherTabs = new Map();
  /** @type {Map<string, {waiting: Done[], after: string, active: boolean, request: number}>} The filters of this tab. */
  #filters = new Map();
  #lastRequest = 0;
  #secret;
  /** @type {Deferred<string>} The session's secret, which the leader knows. */
  #leaderSecret = deferred();

  /**
   * @param {string} name of the channel and the lock
   * @param {string} secret used if no tab leads yet
   * @param {(secret: string, onEvent: (event: LinkEvent) => void) => Link} open
   * @param {(event: LinkEvent) => void} onEvent
   * @param {() => string} position of the client of this tab
   */
  constructor(name, secret, open, onEvent, position) {
    this.#secret = secret;
    this.open = open;
    this.onEvent = onEvent;
    this.position = position;
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = (event) => this.#receive(event.data);
    this.#send({ hello: this.#tabId });
    // The lock passes to another tab when this one closes, crashes or resigns.
    navigator.locks.request(name, { signal: this.#resign.signal }, () => this.#lead()).catch(() => {});
  }

  /** @returns {Promise<string>} */
  get secret() {
    return this.#leaderSecret.promise;
  }

  /** Whether no other tab uses the session. */
  get isOnlyTab() {
    return this.#link !== undefined && this.#otherTabs.size === 0;
  }

  /** Whether this tab has the stream, or tries to open it. */
  get hasStream() {
    return this.#link !== undefined && this.#link.state !== "idle" && this.#link.state !== "closed";
  }

  /**
   * @param {string} filter
   * @param {string} after
   * @param {Done} done
   */
  add(filter, after, done) {
    const f = this.#filters.get(filter) ?? { waiting: [], after, active: false, request: 0 };
    this.#filters.set(filter, f);
    f.waiting.push(done);
    this.#request(filter, f);
  }

  /**
   * @param {string} filter
   * @param {{after: string, active: boolean, request: number}} f
   */
  #request(filter, f) {
    const request = f.request = ++this.#lastRequest;
    if (this.#link) this.#link.add(filter, f.after, (error) => this.#answered(request, error));
    else this.#send({ request, from: this.#tabId, add: filter, after: f.after });
  }

  /**
   * @param {number} request
   * @param {WatchboxError} [error]
   */
  #answered(request, error) {
    for (const [filter, f] of this.#filters) {
      if (f.request !== request) continue;
      f.request = 0;
      f.after = "";
      f.active ||= !error;
      if (!f.active) this.#filters.delete(filter);
      settle(f, error);
    }
  }

  /** Asks a new leader for all filters. Those that were active resume at the position. */
  #requestAll() {
    for (const [filter, f] of this.#filters) {
      if (f.active) f.after = this.position();
      this.#request(filter, f);
    }
  }

  /**
   * Handles an event of the link. While a filter waits to resume after an id, the link has not gone back there yet, and
   * its messages until then will come again.
   * @param {LinkEvent} event
   */
  #forward(event) {
    if (event.kind === "state" || ![...this.#filters.values()].some((f) => f.request && f.after)) this.onEvent(event);
  }

  /** @param {string} filter */
  remove(filter) {
    const f = this.#filters.get(filter);
    if (!f) return;
    this.#filters.delete(filter);
    settle(f);
    if (this.#link) this.#removeUnused(filter);
    else this.#send({ from: this.#tabId, remove: filter });
  }

  /**
   * Removes a filter from the link unless a tab needs it.
   * @param {string} filter
   */
  #removeUnused(filter) {
    if (this.#filters.has(filter) || [...this.#otherTabs.values()].some((t) => t.has(filter))) return;
    this.#link?.remove(filter);
  }

  /**
   * Leaves the other tabs. One of them becomes the leader.
   * @param {Promise<void>} [end] is waited for before that
   */
  stop(end) {
    this.#resign.abort();
    this.#resigned.resolve(end);
    this.#send({ bye: this.#tabId });
    this.#channel.onmessage = null;
    this.#channel.close();
    this.#link?.stop();
    for (const f of this.#filters.values()) settle(f);
  }

  /** @returns {Promise<unknown>} resolved when this tab no longer leads */
  #lead() {
    this.#link = this.open(this.#secret, (event) => {
      if (this.#resign.signal.aborted) return; // this tab has resigned, and another leads
      this.#send({ event: "error" in event && event.error ? { ...event, error: serializeError(event.error) } : event, from: this.#tabId });
      this.#forward(event);
    });
    this.#leaderSecret.resolve(this.#secret);
    this.#send({ leader: this.#secret, from: this.#tabId });
    this.#requestAll();
    return this.#resigned.promise;
  }

  /** @param {TabMessage} message */
  #send(message) {
    this.#channel.postMessage(message);
  }

  /** @param {any} message a TabMessage, distinguished by its members */
  #receive(message) {
    const { event } = message;
    if (event) {
      // The lock may pass to a tab before this message reaches it. So the end of the session closes each tab that has followed the sender, also
      // one that leads.
      const counts = event.state !== "closed" ? !this.#link : this.#leaders.has(message.from) && (!this.#link || endsSession(event.error?.code));
      if (counts) this.#forward(event.error ? { ...event, error: deserializeError(event.error) } : event);
    } else if (this.#link) this.#serve(this.#link, message);
    else if (message.leader) {
      this.#leaders.add(message.from);
      this.#secret = message.leader;
      this.#leaderSecret.resolve(message.leader);
      if (message.to === undefined || message.to === this.#tabId) this.#requestAll();
    } else if (message.to === this.#tabId) this.#answered(message.answer, message.error && deserializeError(message.error));
  }

  /**
   * @param {Link} link
   * @param {any} message
   */
  #serve(link, message) {
    if (message.hello) {
      this.#otherTabs.set(message.hello, new Set());
      this.#send({ leader: this.#secret, from: this.#tabId, to: message.hello });
      link.reportState();
    } else if (message.bye) {
      const filters = this.#otherTabs.get(message.bye) ?? [];
      this.#otherTabs.delete(message.bye);
      for (const filter of filters) this.#removeUnused(filter);
    } else if (message.remove) {
      this.#otherTabs.get(message.from)?.delete(message.remove);
      this.#removeUnused(message.remove);
    } else if (message.add) {
      const filters = this.#otherTabs.get(message.from) ?? new Set();
      this.#otherTabs.set(message.from, filters.add(message.add));
      link.add(message.add, message.after, (error) => {
        if (this.#resign.signal.aborted) return; // the tab asks the next leader
        if (error) filters.delete(message.add);
        this.#send({ answer: message.request, to: message.from, error: error && serializeError(error) });
      });
    }
  }
}

// ---- state kept over a reload

/** @typedef {{id: string, filters: string[], backlog: [string, Message[]][], secret?: string}} Saved */

/** The keys in use on this page. A second client with the same key stores nothing. */
const keysInUse = new Set();

/** The state that a client keeps in its tab's sessionStorage for the next page. */
class TabStorage {
  #key;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {string} key */
  constructor(key) {
    this.#key = keysInUse.has(key) ? "" : key;
    keysInUse.add(key);
  }

  /** @returns {Saved} */
  load() {
    /** @type {Saved} */
    const empty = { id: "", filters: [], backlog: [] };
    try {
      return this.#key ? { ...empty, ...JSON.parse(sessionStorage.getItem(this.#key) ?? "{}") } : empty;
    } catch {
      return empty; // no storage, or content of something else
    }
  }

  /** @param {Saved} saved */
  save(saved) {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (!this.#key) return;
    try {
      sessionStorage.setItem(this.#key, JSON.stringify(saved));
    } catch {
      // Storage is full or not available: a reload then starts without state.
    }
  }

  /** @param {() => Saved} saved */
  saveSoon(saved) {
    this.#timer ??= setTimeout(() => this.save(saved()), SAVE_INTERVAL);
  }

  clear() {
    clearTimeout(this.#timer);
    if (!this.#key) return;
    keysInUse.delete(this.#key);
    try {
      sessionStorage.removeItem(this.#key);
    } catch {
      // There is no storage.
    }
  }
}

// ---- the client

/**
 * A callback and what it has received so far. backlog: messages that wait for it.
 * @typedef {{filter: string, callback: (message: any) => void, resumed: boolean, firstId: string,
 *   retainedIds: Map<string, string>, backlog?: Message[]}} Join
 */

/** A client of a hub, documented in watchbox.d.ts. */
export class Watchbox extends EventTarget {
  #base;
  #options;
  #requests;
  #storage;
  #secret;
  #closed = new AbortController();
  /** @type {Link | SharedLink | undefined} */
  #link;
  /** @type {Set<Join>} */
  #joins = new Set();
  /** @type {Map<string, Message[]>} Filters that the page before this one had joined and this one has not yet. */
  #unclaimed = new Map();
  /** @type {Map<string, Promise<void>>} Filters that resume. */
  #resumes = new Map();
  #position = "";
  #uid = "";
  /** @type {State} */
  #state = "idle";
  #wasOpen = false; // whether the stream has been open
  #lost = false; // whether a loss was reported
  /** @type {{group: string, value: unknown, options: import("./watchbox.d.ts").WillOptions} | undefined} */
  #will;
  /** @type {Set<string>} The gaps reported at the position. */
  #gaps = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #rejoinTimer;

  /**
   * @param {string | URL} [url]
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#base = url === undefined ? new URL(".", import.meta.url) : new URL(url, globalThis.location?.href);
    this.#base.search = this.#base.hash = "";
    if (!this.#base.pathname.endsWith("/")) this.#base.pathname += "/";
    this.#options = options;
    this.#requests = new Requests(this.#base, options, this.#closed.signal);
    this.#storage = new TabStorage(this.#name);
    const saved = this.#storage.load();
    this.#position = saved.id;
    this.#requests.reachedHub = saved.id !== ""; // the page before this one had a stream
    const backlog = new Map(saved.backlog);
    for (const filter of saved.filters) this.#unclaimed.set(filter, backlog.get(filter) ?? []);
    // The secret is stored only while no page uses it. A duplicated tab copies the storage, and with the secret
    // it would change the filters of this session.
    this.#secret = options.session ?? saved.secret ?? randomId();
    if (saved.secret) this.#storage.save({ ...saved, secret: undefined });
    globalThis.addEventListener?.("pagehide", this.#onPageHide);
    globalThis.addEventListener?.("pageshow", this.#onPageShow);
  }

  /** Identifies this hub in storage and between tabs. */
  get #name() {
    return `watchbox ${this.#base} ${this.#options.name ?? ""}`;
  }

  get url() { return this.#base.href; }
  get uid() { return this.#uid; }
  get state() { return this.#state; }

  /**
   * @param {string} filter
   * @param {(message: any) => void} callback
   */
  async join(filter, callback) {
    if (this.#closed.signal.aborted) throw abortReason(this.#closed.signal);
    encodePath(filter);
    const link = this.#ensureLink();
    const backlog = this.#unclaimed.get(filter);
    /** @type {Join} */
    const join = { filter, callback, resumed: backlog !== undefined, firstId: "", retainedIds: new Map(), backlog };
    this.#unclaimed.delete(filter);
    this.#joins.add(join);
    if (backlog) queueMicrotask(() => this.#deliverBacklog(join)); // after join has returned its promise
    this.#storage.saveSoon(this.#stateToSave);
    try {
      await (backlog ? this.#resumes.get(filter) : addFilter(link, filter, ""));
    } catch (error) {
      this.#joins.delete(join);
      throw error;
    }
    return { filter, leave: () => this.#removeJoin(join) };
  }

  /**
   * @param {string} filter
   * @param {(message: any) => void} [callback]
   */
  leave(filter, callback) {
    for (const join of [...this.#joins]) {
      if (join.filter === filter && (callback === undefined || callback === join.callback)) this.#removeJoin(join);
    }
  }

  /**
   * @param {string} group
   * @param {unknown} [value]
   * @param {PublishOptions} [options]
   * @returns {Promise<Receipt>}
   */
  async publish(group, value, { event, ttl, retain, meta, signal } = {}) {
    if (meta?.length) { // a browser's headers would join the values of one name
      const { id, time } = await this.publishBatch([{ group, msg: value, event, ttl, retain, meta }], { signal });
      return { id, group, time };
    }
    const q = new URLSearchParams();
    if (event !== undefined) q.set("event", event);
    if (ttl !== undefined) q.set("ttl", String(formatDuration(ttl)));
    if (retain) q.set("retain", "true");
    return this.#post(`v1/groups/${encodePath(group)}?${q}`, encodeBody(value), signal, isReceipt);
  }

  /**
   * @param {import("./watchbox.d.ts").BatchMessage[]} messages
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<import("./watchbox.d.ts").BatchReceipt>}
   */
  async publishBatch(messages, { signal } = {}) {
    const lines = await Promise.all(messages.map(encodeMessage));
    return this.#post("v1/messages", { body: lines.map((m) => JSON.stringify(m) + "\n").join(""), type: "application/x-ndjson" }, signal, isBatchReceipt);
  }

  /**
   * @param {string} filter
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Message[]>}
   */
  async retained(filter, { signal } = {}) {
    const headers = { Accept: "application/json", "Watchbox-Session": await this.#currentSecret() };
    const { messages } = await this.#requests.call("GET", "v1/retained/" + encodePath(filter), { headers, signal }, isRetainedList);
    return messages.map(decodeMessage);
  }

  /**
   * @param {unknown} value
   * @param {{signal?: AbortSignal}} [options]
   */
  async send(value, { signal } = {}) {
    await this.#post("v1/server", encodeBody(value), signal);
  }

  /**
   * @param {string} uid
   * @param {unknown} value
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Receipt>}
   */
  async sendTo(uid, value, { signal } = {}) {
    return this.#post("v1/sessions/" + encodeURIComponent(uid), encodeBody(value), signal, isReceipt);
  }

  /**
   * @param {string} group
   * @param {unknown} value
   * @param {import("./watchbox.d.ts").WillOptions} [options]
   */
  async setWill(group, value, options = {}) {
    this.#will = { group, value, options };
    await this.#waitUntilOpen();
    await this.#sendWill();
  }

  async clearWill() {
    this.#will = undefined;
    await this.#waitUntilOpen();
    await this.#sendWill();
  }

  async close() {
    if (this.#closed.signal.aborted) return;
    const link = this.#link;
    const last = link !== undefined && (link instanceof Link || link.isOnlyTab);
    this.#shutDown(undefined);
    this.#closed.abort(new DOMException("watchbox: closed", "AbortError"));
    if (last) await this.#endSession();
  }

  /** Ends the session at the hub at once, without a will. */
  async #endSession() {
    if (!this.#uid) return;
    const deadline = combineSignals([], MAX_GOODBYE);
    try {
      await fetch(new URL("v1/sessions/" + this.#uid, this.#base), {
        method: "DELETE", keepalive: true, redirect: "manual", signal: deadline.signal,
        headers: { ...await this.#requests.authorization(deadline.signal), "Watchbox-Session": this.#secret },
      });
    } catch {
      // The session ends by its timeout.
    } finally {
      deadline.release();
    }
  }

  /** @returns {Link | SharedLink} the owner of the stream, with all filters that resume */
  #ensureLink() {
    if (this.#link) return this.#link;
    const filters = new Set([...this.#unclaimed.keys(), ...[...this.#joins].map((join) => join.filter)]);
    /** @type {(event: LinkEvent) => void} */
    const onEvent = (event) => { if (this.#link === link) this.#onLinkEvent(event); };
    const shares = this.#options.shared && globalThis.navigator?.locks && globalThis.BroadcastChannel;
    const link = shares
      ? new SharedLink(this.#name, this.#secret, this.#linkOpener(50), onEvent, () => this.#position)
      : this.#linkOpener(0)(this.#secret, onEvent);
    this.#link = link;
    if (link instanceof SharedLink) link.secret.then((secret) => { this.#secret = secret; });
    this.#resumes.clear();
    for (const filter of filters) {
      const resumes = addFilter(link, filter, this.#position);
      resumes.catch(() => {}); // join reports the error
      this.#resumes.set(filter, resumes);
    }
    return link;
  }

  /**
   * @param {number} gatherTime
   * @returns {(secret: string, onEvent: (event: LinkEvent) => void) => Link}
   */
  #linkOpener(gatherTime) {
    return (secret, onEvent) => new Link(this.#requests, this.#options, secret, gatherTime, onEvent);
  }

  /** @param {Join} join */
  #removeJoin(join) {
    if (!this.#joins.delete(join) || [...this.#joins].some((j) => j.filter === join.filter)) return;
    this.#link?.remove(join.filter);
    if (this.#joins.size + this.#unclaimed.size === 0) this.#position = ""; // the next join starts without a position
    this.#storage.saveSoon(this.#stateToSave);
  }

  // ---- events of the link

  /** @param {LinkEvent} event */
  #onLinkEvent(event) {
    switch (event.kind) {
      case "state":
        return this.#onState(event);
      case "gap":
        return this.#onGap(event.gap, event.id);
      case "position":
        return this.#advance(event.id);
      case "unrenewed":
        return this.#emit("unrenewed", { error: event.error, delay: event.delay });
    }
    const { message } = event;
    if (!message.retained && hasReached(this.#position, message.id)) return; // delivered before
    if (message.group.startsWith("$session/")) this.#emit("direct", decodeMessage(message));
    for (const join of [...this.#joins]) {
      if (matches(join.filter, message.group)) this.#deliver(join, message);
    }
    if (message.retained) return; // the id of a retained message is not a position
    for (const [filter, backlog] of this.#unclaimed) {
      if (matches(filter, message.group) && backlog.push(message) > MAX_BACKLOG) this.#forgetFilter(filter);
    }
    this.#advance(message.id);
  }

  /**
   * @param {Join} join
   * @param {Message} message
   */
  #deliver(join, message) {
    if (message.retained) {
      // It is sent for a new join. Earlier joins have received it, as a retained or a live message.
      const received = join.resumed || join.retainedIds.get(message.group) === message.id || hasReached(message.id, join.firstId);
      if (received) return;
      join.retainedIds.set(message.group, message.id);
    } else if (!hasReached(message.id, join.firstId)) join.firstId = message.id; // the first message of its epoch
    if (join.backlog) join.backlog.push(message);
    else this.#callBack(join, message);
  }

  /**
   * @param {Join} join
   * @param {Message} message
   */
  #callBack(join, message) {
    if (!this.#joins.has(join)) return; // left by another callback
    try {
      join.callback(decodeMessage(message));
    } catch (error) {
      queueMicrotask(() => { throw error; }); // report the page's error, and run the other callbacks
    }
  }

  /** @param {Join} join */
  #deliverBacklog(join) {
    const backlog = join.backlog ?? [];
    join.backlog = undefined;
    for (const message of backlog) this.#callBack(join, message);
  }

  /**
   * @param {Gap} gap
   * @param {string} id
   */
  #onGap(gap, id) {
    const key = JSON.stringify([gap.filter, gap.after, id]);
    if (this.#gaps.has(key) || this.#gaps.size === 0 && hasReached(this.#position, id)) return;
    this.#advance(id);
    this.#gaps.add(key);
    const own = [...this.#joins].some((join) => join.filter === gap.filter) || this.#unclaimed.has(gap.filter);
    if (own) this.#emit("gap", gap);
  }

  /** @param {string} id */
  #advance(id) {
    if (id === this.#position) return;
    this.#position = id;
    this.#gaps.clear();
    this.#storage.saveSoon(this.#stateToSave);
  }

  /** @param {LinkEvent & {kind: "state"}} event */
  #onState({ state, uid, position, error, delay }) {
    if (this.#state === "closed") return;
    this.#uid = uid || this.#uid;
    this.#position ||= position;
    if (state === "closed") return this.#shutDown(error);
    const changed = state !== this.#state;
    this.#state = state;
    if (state === "waiting") this.#reportLoss(error, delay);
    if (changed || state === "waiting") this.#emit("state", { state, error, delay });
    if (state !== "open" || !changed) return;
    this.#requests.reachedHub = true; // also if another tab has the stream
    this.#rejoinTimer ??= setTimeout(() => [...this.#unclaimed.keys()].forEach((filter) => this.#forgetFilter(filter)), REJOIN_TIME);
    if (this.#will) this.#sendWill().catch(() => {}); // a restarted hub has forgotten it; setWill has reported errors
    if (this.#lost) this.#emit("reconnect", { uid: this.#uid });
    else if (!this.#wasOpen) this.#emit("open", { uid: this.#uid });
    this.#wasOpen = true;
    this.#lost = false;
  }

  /**
   * Reports a loss, once.
   * @param {WatchboxError} [error]
   * @param {number} [delay]
   */
  #reportLoss(error, delay) {
    if (!this.#wasOpen || this.#lost) return;
    this.#lost = true;
    this.#emit("disconnect", { error, delay });
  }

  /**
   * Closes the client for good: because of an error, or by close().
   * @param {WatchboxError} [error]
   */
  #shutDown(error) {
    if (error) {
      this.#reportLoss(error);
      // The next page may be accepted, but not as a session that was kicked.
      this.#storage.save({ ...this.#stateToSave(), secret: error.code === "kicked" ? undefined : this.#secret });
    } else this.#storage.clear();
    const link = this.#link;
    this.#link = undefined;
    // If this tab leads and its own stream did not fail, the message of an earlier leader came late: the session that this tab may have
    // opened since ends before another tab leads.
    if (error && link instanceof SharedLink && link.hasStream) link.stop(this.#endSession());
    else link?.stop();
    this.#state = "closed";
    clearTimeout(this.#rejoinTimer);
    this.#joins.clear();
    globalThis.removeEventListener?.("pagehide", this.#onPageHide);
    globalThis.removeEventListener?.("pageshow", this.#onPageShow);
    this.#emit("state", { state: "closed", error });
    this.#emit("closed", { error });
    if (error) this.#closed.abort(error);
  }

  /**
   * Drops a filter that the page before this one had joined and this one has not.
   * @param {string} filter
   */
  #forgetFilter(filter) {
    this.#unclaimed.delete(filter);
    if (![...this.#joins].some((join) => join.filter === filter)) this.#link?.remove(filter);
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // ---- page lifecycle

  /** @returns {Saved} */
  #stateToSave = () => ({
    id: this.#position,
    filters: [...new Set([...[...this.#joins].map((join) => join.filter), ...this.#unclaimed.keys()])],
    backlog: [...this.#unclaimed].filter(([, backlog]) => backlog.length > 0),
  });

  /** Stops and saves the position, so that the next page, or this one if it is shown again, resumes there. */
  #onPageHide = () => {
    this.#storage.save({ ...this.#stateToSave(), secret: this.#secret });
    const link = this.#link;
    this.#link = undefined;
    link?.stop();
  };

  /** @param {Event} event */
  #onPageShow = (event) => {
    if (!(/** @type {PageTransitionEvent} */ (event).persisted)) return;
    this.#storage.save(this.#stateToSave());
    if (this.#joins.size > 0) this.#ensureLink();
  };

  // ---- publishing

  /**
   * @param {string} address
   * @param {{body?: BodyInit, type?: string}} content
   * @param {AbortSignal} [signal]
   * @param {(answer: any) => boolean} [valid] as for Requests.call
   */
  async #post(address, { body, type }, signal, valid) {
    const headers = {
      ...type && { "Content-Type": type },
      "Idempotency-Key": randomId(), // makes retries safe
      "Watchbox-Session": await this.#currentSecret(),
    };
    return this.#requests.call("POST", address, { body, headers, signal }, valid);
  }

  /** The session's secret: that of the leading tab, if there is one. */
  async #currentSecret() {
    const link = this.#options.shared ? this.#ensureLink() : undefined;
    return link instanceof SharedLink ? link.secret : this.#secret;
  }

  /**
   * Sends the current will to the hub, or that there is none. Several hubs may not know yet of a stream that one of them has opened
   * while it could not be stored: the call is repeated. A repeat sends the will that is current then.
   */
  async #sendWill() {
    for (let failures = 0; ; failures++) {
      try {
        return await (this.#will ? this.#putWill(this.#will) : this.#callSession("DELETE", "will"));
      } catch (error) {
        const unknown = error instanceof WatchboxError && error.code === "session-unknown";
        if (!unknown || failures === MOST_UNKNOWN) throw error;
      }
      await pause(0, backoff(failures, UNKNOWN_DELAY, this.#requests.maxDelay), this.#closed.signal);
      await this.#waitUntilOpen();
    }
  }

  /** @param {{group: string, value: unknown, options: import("./watchbox.d.ts").WillOptions}} will */
  async #putWill({ group, value, options: { delay, ttl, event, retain, meta } }) {
    const will = { ...await encodeMessage({ group, msg: value, event, retain, ttl, meta }), delay: formatDuration(delay) };
    await this.#callSession("PUT", "will", { body: JSON.stringify(will), headers: { "Content-Type": "application/json" } });
  }

  /**
   * Calls a resource of the own session.
   * @param {string} method
   * @param {string} what
   * @param {{body?: string, headers?: Record<string, string>}} [init]
   */
  async #callSession(method, what, init = {}) {
    const headers = { ...init.headers, "Watchbox-Session": await this.#currentSecret() };
    return this.#requests.call(method, `v1/sessions/${this.#uid}/${what}`, { ...init, headers });
  }

  /** @returns {Promise<void>} */
  #waitUntilOpen() {
    return new Promise((resolve, reject) => {
      const check = () => {
        if (this.#state !== "open" && this.#state !== "closed") return;
        this.removeEventListener("state", check);
        if (this.#state === "open") resolve();
        else reject(abortReason(this.#closed.signal));
      };
      this.addEventListener("state", check);
      check();
    });
  }
}

/**
 * Adds a filter to a link.
 * @param {Link | SharedLink} link
 * @param {string} filter
 * @param {string} after
 * @returns {Promise<void>}
 */
function addFilter(link, filter, after) {
  return new Promise((resolve, reject) => link.add(filter, after, (error) => error ? reject(error) : resolve()));
}

/** @param {number | string | undefined} d ms, or in the hub's format */
function formatDuration(d) {
  return typeof d === "number" ? d + "ms" : d;
}

/**
 * Returns a value as the body of a request: bytes as they are, undefined as no body, anything else as JSON.
 * @param {any} value
 * @returns {{body?: BodyInit, type?: string}}
 */
function encodeBody(value) {
  if (value === undefined) return {};
  if (value instanceof Blob || value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
    return { body: /** @type {BodyInit} */ (value), type: "application/octet-stream" };
  }
  const body = JSON.stringify(value);
  if (body === undefined) throw new TypeError(`watchbox: a ${typeof value} cannot be JSON`);
  return { body, type: "application/json" };
}

/**
 * Returns a message as it is sent in a batch or as a will.
 * @param {import("./watchbox.d.ts").BatchMessage} message
 */
async function encodeMessage({ group, msg = "", event, ttl, retain, meta }) {
  encodePath(group);
  /** @type {any} */
  const m = { group, msg, event, ttl: formatDuration(ttl), retain, meta };
  if (msg instanceof Blob || msg instanceof ArrayBuffer || ArrayBuffer.isView(msg)) {
    m.msg = toBase64(new Uint8Array(await new Blob([/** @type {BlobPart} */ (msg)]).arrayBuffer()));
    m.encoding = "base64";
  } else if (JSON.stringify(msg) === undefined) throw new TypeError(`watchbox: a ${typeof msg} cannot be JSON`);
  return m;
}

/** @param {Uint8Array} bytes */
function toBase64(bytes) {
  let text = "";
  for (const b of bytes) text += String.fromCharCode(b);
  return btoa(text);
}

/** What stands before the payload. No string can hold it, because strings escape their quotes. */
const PAYLOAD = ',"msg":';

/**
 * Reads a message as the hub writes it. Its payload is the last member, and the first one that may have members itself.
 * @param {string} text
 * @returns {any}
 */
function readMessage(text) {
  const message = JSON.parse(text);
  if (message.encoding === undefined) message.json = text.slice(text.indexOf(PAYLOAD) + PAYLOAD.length, text.lastIndexOf("}"));
  return message;
}

/** @param {string} text */
export function parseMessage(text) {
  return decodeMessage(readMessage(text));
}

/**
 * Returns a message as callbacks get it, with base64 decoded.
 * @param {any} message
 * @returns {Message}
 */
function decodeMessage({ encoding, ...message }) {
  if (encoding === "base64") message.msg = Uint8Array.from(atob(message.msg), (c) => c.charCodeAt(0));
  return message;
}
