// The hub's figures over the last hour: what it keeps of $sys/stats, and what comes through the stream.

import { get } from "./api.js";
import { checkReadable } from "./feed.js";
import { hub } from "./hub.js";

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

/** Events: change. */
class Stats extends EventTarget {
  /** @type {Point[]} */
  points = [];
  /** @type {unknown} */
  error;
  loaded = false;
  #isOpen = false;

  /** Follows the figures from now on. The page's stream is open as long as it has something to follow. */
  async open() {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.error = undefined;
    try {
      await checkReadable([STATS]);
      /** @type {any[] | undefined} */
      let early = [];
      await hub.join(STATS, (message) => {
        if (early) early.push(message);
        else this.#add(message);
      });
      const { messages } = await get("v1/history/" + STATS, { query: { since: "1h" } });
      const last = messages.at(-1)?.time ?? "";
      for (const m of [...messages, ...early.filter((m) => m.time > last)]) this.#push(m);
      early = undefined;
      this.loaded = true;
    } catch (error) {
      this.error = error;
      this.#isOpen = false;
    }
    this.dispatchEvent(new Event("change"));
  }

  get latest() { return this.points.at(-1)?.stats; }

  /** @param {any} message */
  #add(message) {
    this.#push(message);
    this.dispatchEvent(new Event("change"));
  }

  /** @param {any} message */
  #push(message) {
    const time = Date.parse(message.time) / 1000;
    this.points.push({ time, stats: message.msg });
    while (this.points.length > 0 && this.points[0].time < time - HOUR) this.points.shift();
  }

  /**
   * Returns the values of the hour for a chart. Where the hub was not running, there is a hole.
   * @param {...(stats: Figures & Record<string, any>) => number | undefined} values
   * @returns {import("../widgets/chart.js").ChartData}
   */
  series(...values) {
    const step = Math.ceil(this.points.length / MAX_POINTS);
    /** @type {number[]} */
    const times = [];
    /** @type {(number | null)[][]} */
    const out = values.map(() => []);
    let before = Infinity;
    for (let i = this.points.length % step; i < this.points.length; i += step) {
      const group = this.points.slice(i, i + step);
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

const STATS = "$sys/stats";

export const stats = new Stats();
