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
// tabs a Shared takes its place.

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

/** The slowest upload that does not time out, in bytes per ms. The size of a request extends MAX_SILENCE. */
const SLOWEST = 16;

/** How long after a reload the page may join its earlier filters again and resume, in ms. */
const REJOIN = 10_000;

/** How many messages are kept for each such filter until it is joined. */
const MAX_BACKLOG = 10_000;

/** How often the position is saved while messages come, in ms. It is also saved on pagehide. */
const SAVE = 1000;

// ---- ids, groups and errors

/**
 * Reports whether an id is at or before a position. Ids are <epoch>-<seq>, and only those of one epoch can be
 * compared.
 * @param {string} position
 * @param {string} id
 */
function reached(position, id) {
  const p = position.lastIndexOf("-");
  const i = id.lastIndexOf("-");
  return p >= 0 && position.slice(0, p) === id.slice(0, i) && Number(id.slice(i + 1)) <= Number(position.slice(p + 1));
}

/**
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
function path(group) {
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
    return this.status === 0 || [408, 425, 429].includes(this.status) || this.status >= 500 && this.status !== 501 && this.status !== 507 &&
      this.code !== "program-failed"; // BeforePublish panicked: it would again
  }
}

/**
 * Returns the error for an answer that is not a success.
 * @param {Response} response
 */
async function refusal(response) {
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

/** @param {Response} response */
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
const isList = (answer) => Array.isArray(answer?.messages);

/** @param {unknown} error of fetch, which gives no reason */
function failure(error) {
  if (error instanceof WatchboxError) return error;
  return new WatchboxError("the hub cannot be reached: " + (error instanceof Error ? error.message : error));
}

/** Returns 128 random bits. (crypto.randomUUID does not exist on pages over plain HTTP.) */
function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

/**
 * Returns a random part of a time that doubles with each failure, so that a thousand clients do not reconnect at
 * once.
 * @param {number} failures in a row
 * @param {number} base in ms
 * @param {number} most in ms
 */
function backoff(failures, base, most) {
  return Math.random() * Math.min(most, base * 2 ** Math.min(failures, 20));
}

/**
 * Waits before the next attempt, or until the signal aborts. If the hub did not ask for a wait, the browser's event
 * online ends it, too.
 * @param {number} asked by the hub, in ms
 * @param {number} ms in addition
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function pause(asked, ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, asked + ms);
    if (asked === 0) globalThis.addEventListener?.("online", done);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}

/** @param {AbortSignal} signal has its reason since Chrome 98 and Safari 15.4 */
function reason(signal) {
  return signal.reason ?? new DOMException("watchbox: aborted", "AbortError");
}

/**
 * Returns a signal that aborts with the first of several, as AbortSignal.any does in newer browsers, or after a
 * time. Call release when the signal is no longer needed.
 * @param {AbortSignal[]} signals
 * @param {number} [ms]
 */
function combine(signals, ms) {
  const own = new AbortController();
  const abort = () => own.abort(reason(signals.find((signal) => signal.aborted) ?? own.signal));
  const late = () => own.abort(new WatchboxError("no answer came in time"));
  const timer = ms === undefined ? undefined : setTimeout(late, ms);
  for (const signal of signals) signal.addEventListener("abort", abort);
  if (signals.some((signal) => signal.aborted)) abort();
  return {
    signal: own.signal,
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
    this.met = false;
  }

  /** @returns {Promise<Record<string, string>>} */
  async authorization() {
    const token = typeof this.token === "function" ? await this.token() : this.token;
    return token ? { Authorization: "Bearer " + token } : {};
  }

  /**
   * Reports whether an answer is final. Once the hub has answered, an answer that is not its own comes from a
   * proxy while the hub is replaced, or from a network that wants a login: it is temporary.
   * @param {WatchboxError} error
   */
  final(error) {
    if ([204, 401, 403].includes(error.status)) return true;
    return !error.temporary && (error.code !== "" || !this.met);
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
    const both = combine(signal ? [signal, this.signal] : [this.signal]);
    try {
      for (let failures = 0, renewed = false; ; failures++) {
        const { answer, error } = await this.#once(method, address, init, both.signal, valid);
        if (!error) return answer;
        if (both.signal.aborted) throw reason(both.signal);
        if (error.status === 401 && typeof this.token === "function" && !renewed) {
          renewed = true; // the token may have expired, and a newer one may exist
          continue;
        }
        if (this.final(error)) throw error;
        await pause(error.retryAfter, backoff(failures, 1000, this.maxDelay), both.signal);
        if (both.signal.aborted) throw reason(both.signal);
      }
    } finally {
      both.release();
    }
  }

  /**
   * @param {string} method
   * @param {string} address
   * @param {{body?: BodyInit, headers?: Record<string, string>}} init
   * @param {AbortSignal} signal
   * @param {(answer: any) => boolean} [valid]
   * @returns {Promise<{answer?: any, error?: WatchboxError}>}
   */
  async #once(method, address, init, signal, valid) {
    const limit = combine([signal], MAX_SILENCE + size(init.body) / SLOWEST);
    try {
      const headers = { ...init.headers, ...await this.authorization() };
      const response = await fetch(new URL(address, this.base), {
        ...init, method, headers, redirect: "manual", signal: limit.signal,
      });
      const bare = [202, 204].includes(response.status);
      if (!response.ok || bare !== !valid || valid && mediaType(response) !== "application/json") throw await refusal(response);
      const answer = valid && await response.json();
      if (valid && !valid(answer)) throw await refusal(response);
      this.met = true;
      return { answer };
    } catch (e) {
      const error = failure(e);
      if (error.code) this.met = true;
      return { error };
    } finally {
      limit.release();
    }
  }
}

/** @param {any} body */
function size(body) {
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
  let rest = "";
  let afterCR = false;
  let type = "";
  let id = "";
  /** @type {string[]} */
  let data = [];

  /** @param {string} line */
  const take = (line) => {
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
    const skip = afterCR && text[0] === "\n"; // the second half of a line end
    afterCR = text.endsWith("\r");
    const lines = (skip ? text.slice(1) : text).split(/\r\n|\r|\n/);
    lines[0] = rest + lines[0];
    rest = lines.pop() ?? "";
    lines.forEach(take);
  };
}

/**
 * How a connection ended. again: reconnect at once; byFetch: and by fetch, to learn why it was refused.
 * @typedef {{error: WatchboxError, final?: boolean, again?: boolean, byFetch?: boolean}} End
 */

/**
 * What a connection reports: received bytes, blocks, reconnection times, and its end.
 * @typedef {{alive: () => void, block: (block: Block) => void, retry: (ms: number) => void, ended: (end: End) => void}} Sink
 */

/**
 * Opens a stream by fetch, which sees heartbeats and the reason of a refusal.
 * @param {Requests} caller
 * @param {URL} url
 * @param {Promise<Record<string, string>>} headers
 * @param {Sink} sink
 * @returns {() => void} closes it
 */
function listenByFetch(caller, url, headers, sink) {
  const stop = new AbortController();
  const run = async () => {
    const response = await fetch(url, {
      headers: { ...await headers, Accept: "text/event-stream" }, cache: "no-store", redirect: "manual", signal: stop.signal,
    });
    if (!response.ok) throw await refusal(response);
    const media = mediaType(response);
    if (response.status !== 200 || media !== "text/event-stream" || !response.body) {
      const what = response.status === 204 ? "the hub refuses the client for good (204)" : `the answer is not an event stream (${response.status} ${media})`;
      throw new WatchboxError(what, { status: response.status });
    }
    const parse = parser(sink.block, sink.retry);
    const decoder = new TextDecoder();
    const body = response.body.getReader();
    for (;;) {
      const { value, done } = await body.read();
      if (done || stop.signal.aborted) break;
      sink.alive();
      parse(decoder.decode(value, { stream: true }));
    }
    throw new WatchboxError("the hub ended the stream");
  };
  run().catch((error) => {
    const e = failure(error);
    sink.ended({ error: e, final: caller.final(e) });
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
      if (event instanceof MessageEvent) sink.block({ type, data: event.data, id: event.lastEventId });
    });
  }
  source.addEventListener("error", (event) => {
    if (event instanceof MessageEvent) return; // a message with that event name
    const refused = source.readyState === EventSource.CLOSED;
    source.close(); // by itself it would reconnect with its first filters, without a random delay
    sink.ended({ error: new WatchboxError("the stream is lost"), again: refused, byFetch: refused });
  });
  return () => source.close();
}

/** @param {string} s a duration in Go's format: 15s, 1m0s, 100ms */
function milliseconds(s) {
  let ms = 0;
  for (const [, n, unit] of s.matchAll(/([\d.]+)(h|ms|m|s)/g)) {
    ms += Number(n) * ({ h: 3_600_000, m: 60_000, s: 1000 }[unit] ?? 1);
  }
  return ms;
}

// ---- the stream

/**
 * What a Link reports to its clients.
 * @typedef {{kind: "state", state: State, uid: string, position: string, error?: WatchboxError, delay?: number}
 *   | {kind: "message", message: Message}
 *   | {kind: "gap", gap: Gap, id: string}
 *   | {kind: "position", id: string}} News
 */

/**
 * Called when a filter is on the open stream, before its first message, or with the error that keeps it off the
 * stream.
 * @typedef {(error?: WatchboxError) => void} Done
 */

/**
 * A filter of a link. kept: it is or was on the stream, so that resuming includes it.
 * @typedef {{waiting: Done[], kept: boolean}} Entry
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
  #base = 1000; // the reconnection time from the hub, in ms
  #byFetch; // whether the next connection uses fetch
  #alone = false; // request filters one by one, because one of several was refused
  /** @type {AbortController | undefined} Stops #run; undefined if it does not run. */
  #running;
  /** @type {AbortController | undefined} Ends the calls that belong to one connection. */
  #attempt;
  /** @type {((end: End) => void) | undefined} */
  #end;
  /** @type {Promise<unknown>} The last change of the open stream. Changes are made in order. */
  #changes = Promise.resolve();

  /** @type {State} */
  state = "idle";
  /** @type {WatchboxError | undefined} Why the link is closed for good. */
  error;

  /**
   * @param {Requests} caller
   * @param {Options} options
   * @param {string} secret
   * @param {number} settle how long to wait for more filters before opening a stream, in ms
   * @param {(news: News) => void} tell
   */
  constructor(caller, options, secret, settle, tell) {
    this.caller = caller;
    this.options = options;
    this.secret = secret;
    this.settle = settle;
    this.tell = tell;
    this.#byFetch = options.transport !== "eventsource" || options.token !== undefined;
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
    if (!f) this.#filters.set(filter, f = { waiting: [], kept: false });
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
    const behind = this.#position === "" || !reached(after, this.#position);
    if (f.kept && !behind && this.state === "open") return settle(f);
    f.kept = true;
    if (behind) this.#position = after;
    this.#end?.({ error: new WatchboxError("the stream restarts at an earlier position"), again: true });
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
    this.#end?.({ error: new WatchboxError("the stream was closed") });
    for (const f of this.#filters.values()) settle(f);
    this.#filters.clear();
    this.#position = "";
    if (this.state !== "closed") this.#become("idle");
  }

  /** Reports the current state again, for a new tab. */
  repeat() {
    this.#become(this.state, this.error);
  }

  /** @param {AbortSignal} stopped */
  async #run(stopped) {
    const most = this.options.maxDelay ?? MAX_DELAY;
    let failures = 0;
    let renewed = false;
    for (;;) {
      await (this.settle && pause(0, this.settle, stopped)); // more filters may be joined meanwhile
      if (stopped.aborted) return;
      this.#become("connecting");
      const { end, lasted } = await this.#connect();
      if (stopped.aborted) return;
      renewed &&= lasted < 0;
      if (end.error.status === 401 && typeof this.options.token === "function" && !renewed) {
        renewed = true; // the token may have expired, and a newer one may exist
        continue;
      }
      if (end.again) continue;
      if (this.#narrow(end.error)) {
        if (stopped.aborted) return;
        continue;
      }
      if (end.final) return this.#close(end.error);
      // A connection that lasted longer than the wait for it counts as a success.
      failures = lasted > Math.min(most, this.#base * 2 ** failures) ? 0 : failures + 1;
      const { retryAfter } = end.error;
      const delay = backoff(failures, this.#base, most);
      this.#become("waiting", end.error, retryAfter + delay);
      await pause(retryAfter, delay, stopped);
    }
  }

  /**
   * Runs one connection to its end.
   * @returns {Promise<{end: End, lasted: number}>} lasted: ms that it was open, or -1
   */
  async #connect() {
    const attempt = new AbortController();
    /** @type {Deferred<End>} */
    const ended = deferred();
    const kept = [...this.#filters].filter(([, f]) => f.kept).map(([filter]) => filter);
    // If there is nothing to resume, all filters start now. Otherwise new filters are added when the stream is open:
    // with an old id they would also get messages from before they were joined.
    const filters = kept.length ? kept : [...this.#filters.keys()].slice(0, this.#alone ? 1 : undefined);
    const byFetch = this.#byFetch;
    /** @param {End} end */
    const finish = (end) => {
      attempt.abort(); // ignore everything that still arrives
      ended.resolve(end);
    };
    const watch = watchdog(() => finish({ error: new WatchboxError("nothing was received for too long: the connection is dead") }));
    let opened = 0;
    this.#attempt = attempt;
    this.#end = finish;
    const close = this.#listen(byFetch, filters, kept.length > 0, {
      alive: () => { if (opened) watch.alive(); }, // bytes before the session event do not count
      retry: (ms) => { this.#base = Math.max(ms, 1); },
      ended: finish,
      block: (block) => {
        if (attempt.signal.aborted) return;
        if (block.type !== "session") return this.#block(block);
        const { uid, heartbeat } = JSON.parse(block.data ?? "");
        opened = Date.now();
        this.caller.met = true;
        watch.set(byFetch ? 3 * milliseconds(heartbeat) : 0); // an EventSource does not show heartbeats
        this.#opened(uid, block.id, filters);
      },
    });
    const end = await ended.promise;
    watch.set(0);
    close();
    this.#end = undefined;
    this.#byFetch = end.byFetch || this.options.transport !== "eventsource" || this.options.token !== undefined;
    return { end, lasted: opened ? Date.now() - opened : -1 };
  }

  /**
   * @param {boolean} byFetch
   * @param {string[]} filters
   * @param {boolean} resumes
   * @param {Sink} sink
   * @returns {() => void} closes it
   */
  #listen(byFetch, filters, resumes, sink) {
    const url = new URL("v1/events", this.caller.base);
    const q = url.searchParams;
    for (const f of filters) q.append("group", f);
    if (this.options.echo === false) q.set("echo", "false");
    if (!resumes && this.options.since !== undefined) q.set("since", this.options.since);
    if (!resumes && this.options.last !== undefined) q.set("last", String(this.options.last));
    const position = resumes ? this.#position : "";
    if (byFetch) { // unlike URLs, headers are not written to logs
      const headers = this.caller.authorization().then((h) => ({
        ...h, "Watchbox-Session": this.secret, ...position && { "Last-Event-ID": position },
      }));
      return listenByFetch(this.caller, url, headers, sink);
    }
    q.set("session", this.secret);
    if (position) q.set("last_event_id", position);
    return listenByEventSource(url, this.options.events ?? [], sink);
  }

  /**
   * @param {string} uid
   * @param {string} id
   * @param {string[]} filters
   */
  #opened(uid, id, filters) {
    this.#uid = uid;
    // After a resume this id is not the position yet: a gap before it may still be reported.
    if (this.#position === "") this.#position = id;
    this.#alone = false;
    for (const filter of filters) {
      const f = this.#filters.get(filter);
      if (f) {
        f.kept = true;
        settle(f);
      }
    }
    this.#become("open");
    for (const filter of filters) if (!this.#filters.has(filter)) this.#change("DELETE", filter); // left while the stream was opening
    for (const [filter, f] of this.#filters) if (!f.kept) this.#change("PUT", filter);
  }

  /** @param {Block} block */
  #block({ type, data, id }) {
    if (type === "bye") {
      const { reason } = JSON.parse(data ?? "");
      const final = reason === "kicked" || reason === "ended"; // the session was ended on purpose
      this.#end?.({ error: new WatchboxError(`the hub ended the stream: ${reason}`, { code: reason }), final });
      return;
    }
    if (data === undefined) this.tell({ kind: "position", id });
    else if (type === "gap") this.tell({ kind: "gap", gap: JSON.parse(data), id });
    else this.tell({ kind: "message", message: JSON.parse(data) });
    this.#position = id || this.#position;
  }

  /**
   * Changes the filters of the open stream. If it breaks meanwhile, it reconnects with the right filters.
   * @param {"PUT" | "DELETE"} method
   * @param {string} filter
   */
  #change(method, filter) {
    const signal = /** @type {AbortController} */ (this.#attempt).signal;
    const change = async () => {
      const f = this.#filters.get(filter);
      if (signal.aborted || (f === undefined) === (method === "PUT")) return; // undone meanwhile
      try {
        await this.caller.call(method, `v1/sessions/${this.#uid}/groups/${path(filter)}`, {
          headers: { "Watchbox-Session": this.secret }, signal,
        });
        if (f && !signal.aborted) {
          f.kept = true;
          settle(f);
        }
      } catch (e) {
        const error = failure(e);
        if (signal.aborted) return;
        if (error.code === "no-stream" || error.code === "session-unknown") {
          this.#end?.({ error: new WatchboxError("the hub does not know the stream") });
        } else if (f) {
          if (!f.kept) this.#filters.delete(filter);
          settle(f, error);
        }
      }
    };
    this.#changes = this.#changes.then(change);
  }

  /**
   * If one of several filters was refused, requests them one by one. Drops a filter that was refused
   * alone. Does nothing if a filter was accepted before.
   * @param {WatchboxError} error
   * @returns {boolean} whether it handled the error
   */
  #narrow(error) {
    const [first, second] = this.#filters;
    if (!error.code.startsWith("filter-") || [...this.#filters.values()].some((f) => f.kept)) return false;
    if (!this.#alone && second) {
      this.#alone = true;
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
    this.#become("closed", error);
  }

  /**
   * @param {State} state
   * @param {WatchboxError} [error]
   * @param {number} [delay]
   */
  #become(state, error, delay) {
    this.state = state;
    this.tell({ kind: "state", state, uid: this.#uid, position: this.#position, error, delay });
  }
}

/**
 * Calls dead when alive was not called for a time.
 * @param {() => void} dead
 */
function watchdog(dead) {
  let silence = MAX_SILENCE;
  let last = Date.now();
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;
  const look = () => {
    const left = last + silence - Date.now();
    if (left > 0) timer = setTimeout(look, left);
    else dead();
  };
  look();
  return {
    alive() { last = Date.now(); },
    /** @param {number} ms 0: no longer */
    set(ms) {
      silence = ms;
      clearTimeout(timer);
      if (ms > 0) look();
    },
  };
}

// ---- one stream for several tabs

/**
 * The messages between tabs. The leader announces itself, forwards news, and answers; the others ask it. after is ""
 * for a filter that starts now.
 * @typedef {{leads: string, to?: string} | {news: object} | {hello: string} | {bye: string}
 *   | {answer: number, to: string, error?: ReturnType<typeof plain>}
 *   | {ask: number, from: string, add: string, after: string} | {from: string, remove: string}} Word
 */

/** @param {WatchboxError} e in a form that can be sent to another tab */
function plain({ message, status, code, retryAfter }) {
  return { message: message.replace(/^watchbox: /, ""), status, code, retryAfter };
}

/** @param {ReturnType<typeof plain>} e from another tab */
function wrap(e) {
  return new WatchboxError(e.message, e);
}

/** Uses the link of the tab that leads, in place of an own Link. */
class Shared {
  #tab = random();
  #channel;
  #resign = new AbortController();
  /** @type {Link | undefined} Set if this tab leads. */
  #link;
  /** @type {Map<string, Set<string>>} The filters of the other tabs, if this one leads. */
  #tabs = new Map();
  /** @type {Map<string, {waiting: Done[], after: string, had: boolean, ask: number}>} The filters of this tab. */
  #filters = new Map();
  #asks = 0;
  #secret;
  /** @type {Deferred<string>} The session's secret, which the leader knows. */
  #known = deferred();

  /**
   * @param {string} name of the channel and the lock
   * @param {string} secret used if no tab leads yet
   * @param {(secret: string, tell: (news: News) => void) => Link} open
   * @param {(news: News) => void} tell
   * @param {() => string} position of the client of this tab
   */
  constructor(name, secret, open, tell, position) {
    this.#secret = secret;
    this.open = open;
    this.tell = tell;
    this.position = position;
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = (event) => this.#hear(event.data);
    this.#say({ hello: this.#tab });
    // The lock passes to another tab when this one closes, crashes or resigns.
    navigator.locks.request(name, { signal: this.#resign.signal }, () => this.#lead()).catch(() => {});
  }

  /** @returns {Promise<string>} */
  get secret() {
    return this.#known.promise;
  }

  /** Whether no other tab uses the session. */
  get alone() {
    return this.#link !== undefined && this.#tabs.size === 0;
  }

  /**
   * @param {string} filter
   * @param {string} after
   * @param {Done} done
   */
  add(filter, after, done) {
    const f = this.#filters.get(filter) ?? { waiting: [], after, had: false, ask: 0 };
    this.#filters.set(filter, f);
    f.waiting.push(done);
    this.#ask(filter, f);
  }

  /**
   * @param {string} filter
   * @param {{after: string, had: boolean, ask: number}} f
   */
  #ask(filter, f) {
    const ask = f.ask = ++this.#asks;
    if (this.#link) this.#link.add(filter, f.after, (error) => this.#answered(ask, error));
    else this.#say({ ask, from: this.#tab, add: filter, after: f.after });
  }

  /**
   * @param {number} ask
   * @param {WatchboxError} [error]
   */
  #answered(ask, error) {
    for (const [filter, f] of this.#filters) {
      if (f.ask !== ask) continue;
      f.ask = 0;
      f.after = "";
      f.had ||= !error;
      if (!f.had) this.#filters.delete(filter);
      settle(f, error);
    }
  }

  /** Asks a new leader for all filters. Those that were active resume at the position. */
  #again() {
    for (const [filter, f] of this.#filters) {
      if (f.had) f.after = this.position();
      this.#ask(filter, f);
    }
  }

  /**
   * Handles news of the link. While a filter waits to resume after an id, the link has not gone back there yet, and
   * its messages until then will come again.
   * @param {News} news
   */
  #news(news) {
    if (news.kind === "state" || ![...this.#filters.values()].some((f) => f.ask && f.after)) this.tell(news);
  }

  /** @param {string} filter */
  remove(filter) {
    const f = this.#filters.get(filter);
    if (!f) return;
    this.#filters.delete(filter);
    settle(f);
    if (this.#link) this.#drop(filter);
    else this.#say({ from: this.#tab, remove: filter });
  }

  /**
   * Removes a filter from the link unless a tab needs it.
   * @param {string} filter
   */
  #drop(filter) {
    if (this.#filters.has(filter) || [...this.#tabs.values()].some((t) => t.has(filter))) return;
    this.#link?.remove(filter);
  }

  /** Leaves the other tabs. One of them becomes the leader. */
  stop() {
    this.#resign.abort();
    this.#say({ bye: this.#tab });
    this.#channel.onmessage = null;
    this.#channel.close();
    this.#link?.stop();
    for (const f of this.#filters.values()) settle(f);
  }

  /** @returns {Promise<void>} resolved when this tab no longer leads */
  #lead() {
    this.#link = this.open(this.#secret, (news) => {
      if (this.#resign.signal.aborted) return; // this tab has resigned, and another leads
      this.#say({ news: news.kind === "state" && news.error ? { ...news, error: plain(news.error) } : news });
      this.#news(news);
    });
    this.#known.resolve(this.#secret);
    this.#say({ leads: this.#secret });
    this.#again();
    return new Promise((resolve) => this.#resign.signal.addEventListener("abort", () => resolve()));
  }

  /** @param {Word} word */
  #say(word) {
    this.#channel.postMessage(word);
  }

  /** @param {any} word a Word, distinguished by its members */
  #hear(word) {
    if (this.#link) this.#serve(this.#link, word);
    else if (word.leads) {
      this.#secret = word.leads;
      this.#known.resolve(word.leads);
      if (word.to === undefined || word.to === this.#tab) this.#again();
    } else if (word.news) {
      const { news } = word;
      this.#news(news.error ? { ...news, error: wrap(news.error) } : news);
    } else if (word.to === this.#tab) this.#answered(word.answer, word.error && wrap(word.error));
  }

  /**
   * @param {Link} link
   * @param {any} word
   */
  #serve(link, word) {
    if (word.hello) {
      this.#tabs.set(word.hello, new Set());
      this.#say({ leads: this.#secret, to: word.hello });
      link.repeat();
    } else if (word.bye) {
      const filters = this.#tabs.get(word.bye) ?? [];
      this.#tabs.delete(word.bye);
      for (const filter of filters) this.#drop(filter);
    } else if (word.remove) {
      this.#tabs.get(word.from)?.delete(word.remove);
      this.#drop(word.remove);
    } else if (word.add) {
      const filters = this.#tabs.get(word.from) ?? new Set();
      this.#tabs.set(word.from, filters.add(word.add));
      link.add(word.add, word.after, (error) => {
        if (error) filters.delete(word.add);
        this.#say({ answer: word.ask, to: word.from, error: error && plain(error) });
      });
    }
  }
}

// ---- state kept over a reload

/** @typedef {{id: string, filters: string[], backlog: [string, Message[]][], secret?: string}} Saved */

/** The keys in use on this page. A second client with the same key stores nothing. */
const inUse = new Set();

/** The state that a client keeps in its tab's sessionStorage for the next page. */
class Memory {
  #key;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {string} key */
  constructor(key) {
    this.#key = inUse.has(key) ? "" : key;
    inUse.add(key);
  }

  /** @returns {Saved} */
  load() {
    /** @type {Saved} */
    const nothing = { id: "", filters: [], backlog: [] };
    try {
      return this.#key ? { ...nothing, ...JSON.parse(sessionStorage.getItem(this.#key) ?? "{}") } : nothing;
    } catch {
      return nothing; // no storage, or content of something else
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
    this.#timer ??= setTimeout(() => this.save(saved()), SAVE);
  }

  clear() {
    clearTimeout(this.#timer);
    if (!this.#key) return;
    inUse.delete(this.#key);
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
 * @typedef {{filter: string, callback: (message: any) => void, resumed: boolean, first: string,
 *   retained: Map<string, string>, backlog?: Message[]}} Join
 */

/** A client of a hub, documented in watchbox.d.ts. */
export class Watchbox extends EventTarget {
  #base;
  #options;
  #caller;
  #memory;
  #secret;
  #closed = new AbortController();
  /** @type {Link | Shared | undefined} */
  #hub;
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
  #letGo;

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
    this.#caller = new Requests(this.#base, options, this.#closed.signal);
    this.#memory = new Memory(this.#name);
    const saved = this.#memory.load();
    this.#position = saved.id;
    this.#caller.met = saved.id !== ""; // the page before this one had a stream
    const backlog = new Map(saved.backlog);
    for (const filter of saved.filters) this.#unclaimed.set(filter, backlog.get(filter) ?? []);
    // The secret is stored only while no page uses it. A duplicated tab copies the storage, and with the secret
    // it would change the filters of this session.
    this.#secret = options.session ?? saved.secret ?? random();
    if (saved.secret) this.#memory.save({ ...saved, secret: undefined });
    globalThis.addEventListener?.("pagehide", this.#hide);
    globalThis.addEventListener?.("pageshow", this.#show);
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
    if (this.#closed.signal.aborted) throw reason(this.#closed.signal);
    path(filter);
    const hub = this.#begin();
    const backlog = this.#unclaimed.get(filter);
    /** @type {Join} */
    const join = { filter, callback, resumed: backlog !== undefined, first: "", retained: new Map(), backlog };
    this.#unclaimed.delete(filter);
    this.#joins.add(join);
    if (backlog) queueMicrotask(() => this.#catchUp(join)); // after join has returned its promise
    this.#memory.saveSoon(this.#saved);
    try {
      await (backlog ? this.#resumes.get(filter) : added(hub, filter, ""));
    } catch (error) {
      this.#joins.delete(join);
      throw error;
    }
    return { filter, leave: () => this.#remove(join) };
  }

  /**
   * @param {string} filter
   * @param {(message: any) => void} [callback]
   */
  leave(filter, callback) {
    for (const join of [...this.#joins]) {
      if (join.filter === filter && (callback === undefined || callback === join.callback)) this.#remove(join);
    }
  }

  /**
   * @param {string} group
   * @param {unknown} [value]
   * @param {PublishOptions} [options]
   * @returns {Promise<Receipt>}
   */
  async publish(group, value, { event, ttl, retain, signal } = {}) {
    const q = new URLSearchParams();
    if (event !== undefined) q.set("event", event);
    if (ttl !== undefined) q.set("ttl", String(duration(ttl)));
    if (retain) q.set("retain", "true");
    return this.#post(`v1/groups/${path(group)}?${q}`, encode(value), signal, isReceipt);
  }

  /**
   * @param {import("./watchbox.d.ts").BatchMessage[]} messages
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<import("./watchbox.d.ts").BatchReceipt>}
   */
  async publishBatch(messages, { signal } = {}) {
    const lines = await Promise.all(messages.map(draft));
    return this.#post("v1/messages", { body: lines.map((m) => JSON.stringify(m) + "\n").join(""), type: "application/x-ndjson" }, signal, isBatchReceipt);
  }

  /**
   * @param {string} filter
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Message[]>}
   */
  async retained(filter, { signal } = {}) {
    const headers = { Accept: "application/json", "Watchbox-Session": await this.#session() };
    const { messages } = await this.#caller.call("GET", "v1/retained/" + path(filter), { headers, signal }, isList);
    return messages.map(decode);
  }

  /**
   * @param {unknown} value
   * @param {{signal?: AbortSignal}} [options]
   */
  async send(value, { signal } = {}) {
    await this.#post("v1/server", encode(value), signal);
  }

  /**
   * @param {string} uid
   * @param {unknown} value
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Receipt>}
   */
  async sendTo(uid, value, { signal } = {}) {
    return this.#post("v1/sessions/" + encodeURIComponent(uid), encode(value), signal, isReceipt);
  }

  /**
   * @param {string} group
   * @param {unknown} value
   * @param {import("./watchbox.d.ts").WillOptions} [options]
   */
  async setWill(group, value, options = {}) {
    this.#will = { group, value, options };
    await this.#untilOpen();
    await this.#putWill();
  }

  async clearWill() {
    this.#will = undefined;
    await this.#untilOpen();
    await this.#own("DELETE", "will");
  }

  async close() {
    if (this.#closed.signal.aborted) return;
    const hub = this.#hub;
    const last = hub !== undefined && (hub instanceof Link || hub.alone);
    this.#end(undefined);
    this.#closed.abort(new DOMException("watchbox: closed", "AbortError"));
    if (!last || !this.#uid) return;
    try { // ends the session at the hub at once, without a will
      await fetch(new URL("v1/sessions/" + this.#uid, this.#base), {
        method: "DELETE", keepalive: true, redirect: "manual",
        headers: { ...await this.#caller.authorization(), "Watchbox-Session": this.#secret },
      });
    } catch {
      // The session ends by its timeout.
    }
  }

  /** @returns {Link | Shared} the owner of the stream, with all filters that resume */
  #begin() {
    if (this.#hub) return this.#hub;
    const filters = new Set([...this.#unclaimed.keys(), ...[...this.#joins].map((join) => join.filter)]);
    /** @type {(news: News) => void} */
    const tell = (news) => { if (this.#hub === hub) this.#hear(news); };
    const shares = this.#options.shared && globalThis.navigator?.locks && globalThis.BroadcastChannel;
    const hub = shares
      ? new Shared(this.#name, this.#secret, this.#open(50), tell, () => this.#position)
      : this.#open(0)(this.#secret, tell);
    this.#hub = hub;
    if (hub instanceof Shared) hub.secret.then((secret) => { this.#secret = secret; });
    this.#resumes.clear();
    for (const filter of filters) {
      const resumes = added(hub, filter, this.#position);
      resumes.catch(() => {}); // join reports the error
      this.#resumes.set(filter, resumes);
    }
    return hub;
  }

  /**
   * @param {number} settle
   * @returns {(secret: string, tell: (news: News) => void) => Link}
   */
  #open(settle) {
    return (secret, tell) => new Link(this.#caller, this.#options, secret, settle, tell);
  }

  /** @param {Join} join */
  #remove(join) {
    if (!this.#joins.delete(join) || [...this.#joins].some((j) => j.filter === join.filter)) return;
    this.#hub?.remove(join.filter);
    if (this.#joins.size + this.#unclaimed.size === 0) this.#position = ""; // the next join starts without a position
    this.#memory.saveSoon(this.#saved);
  }

  // ---- news of the stream

  /** @param {News} news */
  #hear(news) {
    switch (news.kind) {
      case "state":
        return this.#become(news);
      case "gap":
        return this.#gap(news.gap, news.id);
      case "position":
        return this.#reach(news.id);
    }
    const { message } = news;
    if (!message.retained && reached(this.#position, message.id)) return; // delivered before
    if (message.group.startsWith("$session/")) this.#emit("direct", decode(message));
    for (const join of [...this.#joins]) {
      if (matches(join.filter, message.group)) this.#deliver(join, message);
    }
    if (message.retained) return; // the id of a retained message is not a position
    for (const [filter, backlog] of this.#unclaimed) {
      if (matches(filter, message.group) && backlog.push(message) > MAX_BACKLOG) this.#forget(filter);
    }
    this.#reach(message.id);
  }

  /**
   * @param {Join} join
   * @param {Message} message
   */
  #deliver(join, message) {
    if (message.retained) {
      // It is sent for a new join. Earlier joins have received it, as a retained or a live message.
      const had = join.resumed || join.retained.get(message.group) === message.id || reached(message.id, join.first);
      if (had) return;
      join.retained.set(message.group, message.id);
    } else if (!reached(message.id, join.first)) join.first = message.id; // the first message of its epoch
    if (join.backlog) join.backlog.push(message);
    else this.#call(join, message);
  }

  /**
   * @param {Join} join
   * @param {Message} message
   */
  #call(join, message) {
    if (!this.#joins.has(join)) return; // left by another callback
    try {
      join.callback(decode(message));
    } catch (error) {
      queueMicrotask(() => { throw error; }); // report the page's error, and run the other callbacks
    }
  }

  /** @param {Join} join */
  #catchUp(join) {
    const backlog = join.backlog ?? [];
    join.backlog = undefined;
    for (const message of backlog) this.#call(join, message);
  }

  /**
   * @param {Gap} gap
   * @param {string} id
   */
  #gap(gap, id) {
    const key = JSON.stringify([gap.filter, gap.after, id]);
    if (this.#gaps.has(key) || this.#gaps.size === 0 && reached(this.#position, id)) return;
    this.#reach(id);
    this.#gaps.add(key);
    const own = [...this.#joins].some((join) => join.filter === gap.filter) || this.#unclaimed.has(gap.filter);
    if (own) this.#emit("gap", gap);
  }

  /** @param {string} id */
  #reach(id) {
    if (id === this.#position) return;
    this.#position = id;
    this.#gaps.clear();
    this.#memory.saveSoon(this.#saved);
  }

  /** @param {News & {kind: "state"}} news */
  #become({ state, uid, position, error, delay }) {
    if (this.#state === "closed") return;
    this.#uid = uid || this.#uid;
    this.#position ||= position;
    if (state === "closed") return this.#end(error);
    const changed = state !== this.#state;
    this.#state = state;
    if (state === "waiting") this.#lose(error, delay);
    if (changed || state === "waiting") this.#emit("state", { state, error, delay });
    if (state !== "open" || !changed) return;
    this.#caller.met = true; // also if another tab has the stream
    this.#letGo ??= setTimeout(() => [...this.#unclaimed.keys()].forEach((filter) => this.#forget(filter)), REJOIN);
    if (this.#will) this.#putWill().catch(() => {}); // a restarted hub has forgotten it; setWill has reported errors
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
  #lose(error, delay) {
    if (!this.#wasOpen || this.#lost) return;
    this.#lost = true;
    this.#emit("disconnect", { error, delay });
  }

  /**
   * Closes the client for good: because of an error, or by close().
   * @param {WatchboxError} [error]
   */
  #end(error) {
    if (error) {
      this.#lose(error);
      this.#memory.save({ ...this.#saved(), secret: this.#secret }); // the next page may be accepted
    } else this.#memory.clear();
    const hub = this.#hub;
    this.#hub = undefined;
    hub?.stop();
    this.#state = "closed";
    clearTimeout(this.#letGo);
    this.#joins.clear();
    globalThis.removeEventListener?.("pagehide", this.#hide);
    globalThis.removeEventListener?.("pageshow", this.#show);
    this.#emit("state", { state: "closed", error });
    this.#emit("closed", { error });
    if (error) this.#closed.abort(error);
  }

  /**
   * Drops a filter that the page before this one had joined and this one has not.
   * @param {string} filter
   */
  #forget(filter) {
    this.#unclaimed.delete(filter);
    if (![...this.#joins].some((join) => join.filter === filter)) this.#hub?.remove(filter);
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
  #saved = () => ({
    id: this.#position,
    filters: [...new Set([...[...this.#joins].map((join) => join.filter), ...this.#unclaimed.keys()])],
    backlog: [...this.#unclaimed].filter(([, backlog]) => backlog.length > 0),
  });

  /** Stops and saves the position, so that the next page, or this one if it is shown again, resumes there. */
  #hide = () => {
    this.#memory.save({ ...this.#saved(), secret: this.#secret });
    const hub = this.#hub;
    this.#hub = undefined;
    hub?.stop();
  };

  /** @param {Event} event */
  #show = (event) => {
    if (!(/** @type {PageTransitionEvent} */ (event).persisted)) return;
    this.#memory.save(this.#saved());
    if (this.#joins.size > 0) this.#begin();
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
      "Idempotency-Key": random(), // makes retries safe
      "Watchbox-Session": await this.#session(),
    };
    return this.#caller.call("POST", address, { body, headers, signal }, valid);
  }

  /** The session's secret: that of the leading tab, if there is one. */
  async #session() {
    const hub = this.#options.shared ? this.#begin() : undefined;
    return hub instanceof Shared ? hub.secret : this.#secret;
  }

  async #putWill() {
    if (!this.#will) return;
    const { group, value, options: { delay, ttl, event, retain } } = this.#will;
    const will = { ...await draft({ group, msg: value, event, retain, ttl }), delay: duration(delay) };
    await this.#own("PUT", "will", { body: JSON.stringify(will), headers: { "Content-Type": "application/json" } });
  }

  /**
   * Calls a resource of the own session.
   * @param {string} method
   * @param {string} what
   * @param {{body?: string, headers?: Record<string, string>}} [init]
   */
  async #own(method, what, init = {}) {
    const headers = { ...init.headers, "Watchbox-Session": await this.#session() };
    return this.#caller.call(method, `v1/sessions/${this.#uid}/${what}`, { ...init, headers });
  }

  /** @returns {Promise<void>} */
  #untilOpen() {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (this.#state !== "open" && this.#state !== "closed") return;
        this.removeEventListener("state", look);
        if (this.#state === "open") resolve();
        else reject(reason(this.#closed.signal));
      };
      this.addEventListener("state", look);
      look();
    });
  }
}

/**
 * Adds a filter to a hub.
 * @param {Link | Shared} hub
 * @param {string} filter
 * @param {string} after
 * @returns {Promise<void>}
 */
function added(hub, filter, after) {
  return new Promise((resolve, reject) => hub.add(filter, after, (error) => error ? reject(error) : resolve()));
}

/** @param {number | string | undefined} d ms, or in the hub's format */
function duration(d) {
  return typeof d === "number" ? d + "ms" : d;
}

/**
 * Returns a value as the body of a request: bytes as they are, undefined as no body, anything else as JSON.
 * @param {any} value
 * @returns {{body?: BodyInit, type?: string}}
 */
function encode(value) {
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
async function draft({ group, msg = "", event, ttl, retain }) {
  path(group);
  /** @type {any} */
  const m = { group, msg, event, ttl: duration(ttl), retain };
  if (msg instanceof Blob || msg instanceof ArrayBuffer || ArrayBuffer.isView(msg)) {
    m.msg = base64(new Uint8Array(await new Blob([/** @type {BlobPart} */ (msg)]).arrayBuffer()));
    m.encoding = "base64";
  } else if (JSON.stringify(msg) === undefined) throw new TypeError(`watchbox: a ${typeof msg} cannot be JSON`);
  return m;
}

/** @param {Uint8Array} bytes */
function base64(bytes) {
  let text = "";
  for (const b of bytes) text += String.fromCharCode(b);
  return btoa(text);
}

/**
 * Returns a message as callbacks get it, with base64 decoded.
 * @param {any} message
 * @returns {Message}
 */
function decode({ encoding, ...message }) {
  if (encoding === "base64") message.msg = Uint8Array.from(atob(message.msg), (c) => c.charCodeAt(0));
  return message;
}
