// The messages of the page Live. The feed goes on while other pages are shown.

import { ApiError, get, getMessages, isTemporary } from "./api.js";
import { hub } from "./hub.js";
import { GapRow, MessageRow } from "./row.js";
import { retry } from "./schedule.js";

/** @typedef {import("./row.js").Row} Row */
/** @typedef {import("./hub.js").Message} Message */

/** How many rows are kept. */
export const MAX_ROWS = 10_000;

/** How often the rate is computed, in ms. */
const RATE_EVERY = 2000;

/** How many characters of payloads are kept, so that large messages do not fill the memory of the browser. */
const MAX_TEXT = 64 << 20;

/** A start: now, all, last=N, or since= with a duration such as 10m. @typedef {string} Start */

/** Events: change (of rows) and state. */
class Feed extends EventTarget {
  /** @type {Row[]} The newest rows, oldest first. */
  rows = [];
  /** How many rows were removed at the front since the start, so that row i is the number removed + i. */
  removed = 0;
  /** How many messages have come since the start. */
  received = 0;
  /** Messages a second, lately. */
  rate = 0;
  /** @type {string[]} */
  filters = [];
  start = "";
  /** @type {"idle" | "loading" | "live" | "error"} */
  state = "idle";
  /** @type {unknown} */
  error;
  /** @type {(() => void)[]} */
  #leave = [];
  #run = new AbortController();
  /** @type {Set<string>} The ids in rows. */
  #ids = new Set();
  #rateFrom = { time: 0, received: 0 };
  #text = 0; // characters in rows

  constructor() {
    super();
    hub.addEventListener("gap", (event) => {
      const { detail } = /** @type {CustomEvent} */ (event);
      if (this.filters.includes(detail.filter)) this.#add([new GapRow(detail)]);
    });
    hub.addEventListener("replaced", () => this.#restart());
  }

  /**
   * Shows the messages of other filters, or from another start. The same ones again change nothing.
   * @param {string[]} filters
   * @param {Start} start
   */
  async open(filters, start) {
    if (this.state !== "idle" && this.state !== "error" && start === this.start && filters.join("\n") === this.filters.join("\n")) return;
    this.#run.abort();
    const run = this.#run = new AbortController();
    for (const leave of this.#leave.splice(0)) leave();
    this.filters = filters;
    this.start = start;
    this.clear();
    this.received = this.rate = 0;
    this.#rateFrom = { time: Date.now(), received: 0 };
    this.#setState("loading");
    try {
      await this.#load(run.signal);
      if (run.signal.aborted) return;
      this.#rateFrom = { time: Date.now(), received: this.received }; // what was before does not count
      this.#setState("live");
    } catch (error) {
      if (run.signal.aborted) return;
      for (const leave of this.#leave.splice(0)) leave();
      this.#setState("error", error);
      if (isTemporary(error)) this.#retry(run.signal);
    }
  }

  /** Begins again when the hub answers. @param {AbortSignal} signal of the run that has failed */
  #retry(signal) {
    signal.addEventListener("abort", retry(async () => {
      const answers = await checkReadable(this.filters, signal).then(() => true, (error) => !isTemporary(error));
      if (answers) this.open(this.filters, this.start);
      return answers;
    }));
  }

  /** Begins again after the connection was replaced. */
  #restart() {
    if (this.state === "idle") return;
    this.state = "idle";
    this.open(this.filters, this.start);
  }

  /** Removes all rows. */
  clear() {
    this.removed += this.rows.length;
    this.rows = [];
    this.#text = 0;
    this.#ids.clear();
    this.#changed();
  }

  /**
   * Joins first and reads the history then, so that no message is missing in between.
   * @param {AbortSignal} signal
   */
  async #load(signal) {
    if (this.filters.length === 0) return;
    await checkReadable(this.filters, signal);
    /** @type {Message[] | undefined} */
    let early = [];
    for (const filter of this.filters) {
      const leave = await hub.join(filter, (message) => {
        if (early) early.push(message);
        else this.#add(this.#rowsOf([message]));
      });
      if (signal.aborted) return leave();
      this.#leave.push(leave);
    }
    const history = this.start === "now" ? [] : await this.#history(signal);
    if (signal.aborted) return;
    const retained = this.#rowsOf(early.filter((m) => m.retained)); // without those of the history
    this.#add([...retained, ...history]);
    this.#add(this.#rowsOf(early.filter((m) => !m.retained)));
    early = undefined;
  }

  /**
   * Reads the newest messages that the hub holds, as many as are kept here at most, and the gaps before them.
   * @param {AbortSignal} signal
   * @returns {Promise<Row[]>} in order
   */
  async #history(signal) {
    const [kind, value = ""] = this.start.split("=");
    const last = kind === "last" ? Math.min(Number(value) || 100, MAX_ROWS) : MAX_ROWS;
    const { messages, headers } = await getMessages("v1/history", { query: { group: this.filters, last }, signal });
    const now = Date.parse(headers.get("Date") ?? "") || Date.now(); // the hub's clock
    if (kind !== "since") return this.#rowsOf(messages);
    const from = now - parseDuration(value);
    const { gaps } = await getMessages("v1/history", { query: { group: this.filters, since: value, limit: 1 }, signal }); // last has none
    return [...gaps.map((gap) => new GapRow(gap)), ...this.#rowsOf(messages.filter((m) => Date.parse(m.time) >= from))];
  }

  /**
   * Returns the rows of messages that the feed does not have yet: a message may match several filters.
   * @param {Message[]} messages
   */
  #rowsOf(messages) {
    const rows = [];
    for (const message of messages) {
      if (this.#ids.has(message.id)) continue;
      this.#ids.add(message.id);
      rows.push(new MessageRow(message));
    }
    return rows;
  }

  /** @param {Row[]} rows */
  #add(rows) {
    this.received += rows.length;
    for (const row of rows) {
      this.rows.push(row);
      this.#text += row.text.length;
    }
    let extra = Math.max(0, this.rows.length - MAX_ROWS);
    for (let i = 0; i < extra; i++) this.#text -= this.rows[i].text.length;
    while (this.#text > MAX_TEXT && extra < this.rows.length - 1) this.#text -= this.rows[extra++].text.length;
    if (extra > 0) {
      for (const row of this.rows.splice(0, extra)) if (row instanceof MessageRow) this.#ids.delete(row.message.id);
      this.removed += extra;
    }
    this.#changed();
  }

  #changed() {
    const now = Date.now();
    const { time, received } = this.#rateFrom;
    if (now - time >= RATE_EVERY) {
      this.rate = this.state === "live" ? 1000 * (this.received - received) / (now - time) : 0;
      this.#rateFrom = { time: now, received: this.received };
    }
    this.dispatchEvent(new Event("change"));
  }

  /**
   * @param {Feed["state"]} state
   * @param {unknown} [error]
   */
  #setState(state, error) {
    this.state = state;
    this.error = error;
    this.dispatchEvent(new Event("state"));
  }
}

/**
 * Fails if the viewer may not read a filter, or if it is not one.
 * @param {string[]} filters
 * @param {AbortSignal} [signal]
 */
export async function checkReadable(filters, signal) {
  await get("v1/history", { query: { group: filters, last: 1 }, signal });
}

/**
 * @param {string} text such as 90s, 10m, 1h or 7d
 * @returns {number} ms
 */
function parseDuration(text) {
  const [, n, unit] = /^(\d+)(s|m|h|d)$/.exec(text) ?? [];
  if (!n) throw new ApiError(`"${text}" is not a duration such as 10m or 1h`);
  return Number(n) * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[/** @type {"s" | "m" | "h" | "d"} */ (unit)];
}

export const feed = new Feed();
