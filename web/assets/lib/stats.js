// The hub's figures over the last hour: what it keeps of $sys/stats, and what comes through the stream.

import { get, isTemporary } from "./api.js";
import { checkReadable } from "./feed.js";
import { hub } from "./hub.js";
import { retry } from "./schedule.js";

/**
 * @typedef {object} Figures
 * @property {string} version
 * @property {number} uptime in s
 * @property {boolean} ready
 * @property {string} [why] not ready
 * @property {number} hubs
 * @property {number} interval in s, which the rates and latencies cover
 * @property {Record<string, number>} [rates] per second; absent in the first one after a start
 * @property {{publish: Latency, delivery: Latency}} [latency] in ms
 * @property {{held: number, slow: number}} now
 * @property {Bound} memory
 * @property {Bound} [disk]
 * @property {Record<string, number>} [closed] streams that have ended, by reason
 */
/** @typedef {{used: number, max?: number}} Bound without a max, there is none */
/** @typedef {{count: number, p50?: number, p99?: number}} Latency */
/** @typedef {{time: number, stats: Figures & Record<string, any>}} Point time: in s since 1970 */

const HOUR = 3600;

/** How many points are drawn. More would not be seen. */
const MAX_POINTS = 1200;

/** After how many seconds without figures a hub counts as silent. It writes them every five. */
const SILENT = 30;

/** Events: change. */
class Stats extends EventTarget {
  /** @type {Map<string, Point[]>} by the id of the hub; "" for a hub that is alone */
  #points = new Map();
  /** The id of the hub whose figures are wanted; the first one that is not silent, if it has none. */
  wanted = "";
  /** @type {unknown} */
  error;
  loaded = false;
  #isOpen = false;
  #stopRetry = () => {};

  /** Follows the figures from now on. The page's stream is open as long as it has something to follow. */
  async open() {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#stopRetry();
    let leave = () => {};
    try {
      await checkReadable([STATS]);
      /** @type {any[] | undefined} */
      let early = [];
      leave = await hub.join(STATS, (message) => {
        if (early) early.push(message);
        else this.#add(message);
      });
      const { messages } = await get("v1/history/" + encodeURIComponent(STATS), { query: { since: "1h" } });
      const last = messages.at(-1)?.time ?? "";
      for (const m of [...messages, ...early.filter((m) => m.time > last)]) this.#push(m);
      early = undefined;
      this.loaded = true;
      this.error = undefined;
    } catch (error) {
      leave();
      this.error = error;
      this.#isOpen = false;
      if (isTemporary(error)) this.#stopRetry = retry(async () => { await this.open(); return true; });
    }
    this.dispatchEvent(new Event("change"));
  }

  /** Forgets all, because the connection was replaced. */
  reset() {
    this.#stopRetry();
    this.#points.clear();
    this.#isOpen = this.loaded = false;
    this.error = undefined;
  }

  /** The ids of the hubs that share the log. */
  get hubs() { return [...this.#points.keys()].sort(); }

  /** The hub whose figures are shown. */
  get shown() { return this.#points.has(this.wanted) ? this.wanted : this.hubs.find((id) => !this.#isSilent(id)) ?? ""; }

  /** Whether the hub that is shown writes no figures any more, while others do. */
  get isSilent() { return this.#isSilent(this.shown); }

  /** @param {string} id */
  #isSilent(id) {
    const last = (/** @type {Point[]} */ points) => points.at(-1)?.time ?? -Infinity;
    return Math.max(...[...this.#points.values()].map(last)) - last(this.#points.get(id) ?? []) > SILENT;
  }

  get points() { return this.#points.get(this.shown) ?? []; }

  get latest() { return this.points.at(-1)?.stats; }

  /** @param {any} message */
  #add(message) {
    this.#push(message);
    this.dispatchEvent(new Event("change"));
  }

  /** @param {any} message */
  #push(message) {
    const time = Date.parse(message.time) / 1000;
    const id = message.group.slice(GROUP.length + 1);
    const points = this.#points.get(id) ?? [];
    this.#points.set(id, points);
    points.push({ time, stats: message.msg });
    for (const [hub, list] of this.#points) {
      while (list.length > 0 && list[0].time < time - HOUR) list.shift();
      if (list.length === 0) this.#points.delete(hub);
    }
  }

  /**
   * Returns the values of the hour for a chart. Where the hub was not running, there is a hole.
   * @param {...(stats: Figures & Record<string, any>) => number | undefined} values
   * @returns {import("../widgets/chart.js").ChartData}
   */
  series(...values) {
    const points = this.points;
    const step = Math.ceil(points.length / MAX_POINTS);
    /** @type {number[]} */
    const times = [];
    /** @type {(number | null)[][]} */
    const out = values.map(() => []);
    let before = Infinity;
    for (let i = points.length % step; i < points.length; i += step) {
      const group = points.slice(i, i + step);
      const { time } = group[group.length - 1];
      if (time - before > 30) {
        times.push((time + before) / 2);
        for (const list of out) list.push(null);
      }
      before = time;
      times.push(time);
      values.forEach((value, k) => {
        const known = group.map(({ stats }) => value(stats)).filter((v) => v !== undefined);
        out[k].push(known.length > 0 ? Math.max(...known) : null);
      });
    }
    return [times, ...out];
  }
}

/** The group of a hub's figures. Each of several hubs has one below it. */
const GROUP = "$sys/stats";
const STATS = GROUP + "/#";

export const stats = new Stats();
