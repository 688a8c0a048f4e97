// Everything about one message.

import { clock, dateTime, plural } from "../lib/format.js";
import { button, copy, fill, h, iconButton } from "../lib/dom.js";
import { feed } from "../lib/feed.js";
import { link } from "../lib/router.js";
import { GapRow, hexDump, isTooDeep, MessageRow } from "../lib/row.js";
import { valueAt, writePath } from "../lib/search.js";
import { asCurl, asGo, asJavaScript } from "../lib/snippets.js";
import { indent } from "../lib/json.js";
import { inNextFrame } from "../lib/schedule.js";
import { viewer } from "../lib/viewer.js";
import { Chart } from "./chart.js";
import { difference, MAX_LINES, prettyJSON } from "./json.js";

/** @typedef {import("../lib/row.js").Row} Row */

const VIEWS = [["pretty", "Pretty"], ["raw", "Raw"], ["hex", "Hex"], ["diff", "Changes"]];

/** How many characters of a payload are shown as they are. */
const MAX_RAW = 200_000;

export class Inspector {
  /** @type {Row | undefined} */
  #row;
  #view = "pretty";
  /** @type {string[] | undefined} The path of the number that is plotted. */
  #plotted;
  /** @type {Chart | undefined} */
  #chart;
  #drawSoon = inNextFrame(() => this.#drawChart());
  #onFeed = () => { if (this.#chart) this.#drawSoon(); };

  /**
   * @param {() => void} close
   */
  constructor(close) {
    this.close = close;
    this.element = h("section", { class: "inspector", "aria-label": "Message", hidden: true });
    feed.addEventListener("change", this.#onFeed);
  }

  end() {
    feed.removeEventListener("change", this.#onFeed);
    this.#chart?.end();
  }

  /** @param {Row | undefined} row undefined closes it */
  show(row) {
    const sameGroup = row instanceof MessageRow && this.#row instanceof MessageRow && row.message.group === this.#row.message.group;
    if (!sameGroup) this.#plotted = undefined;
    this.#row = row;
    this.element.hidden = row === undefined;
    if (row) this.#draw(row);
  }

  /** @param {Row} row */
  #draw(row) {
    this.#chart?.end();
    this.#chart = undefined;
    const head = (/** @type {string} */ title) => h("div", { class: "bar spread" }, h("h2", { class: "grow cut", title }, title), iconButton("close", "Close (Escape)", this.close));
    if (row instanceof GapRow) {
      const { filter, after, oldest, reason } = row.gap;
      fill(this.element, head("Gap"), h("p", { class: "strip warn" }, row.text),
        pairs([["Filter", filter], ["After", after], ["Oldest held", oldest ?? "none"], ["Reason", reason], ["Noticed", dateTime(row.time)]]));
      return;
    }
    const m = row.message;
    fill(this.element, head(m.group),
      pairs([
        ["Group", h("a", { href: link("groups", { group: m.group }) }, m.group)],
        ["Id", m.id],
        ["Time", `${dateTime(row.time)}.${clock(row.time).slice(-3)}`],
        ["Event", m.event],
        ["Sender", m.uid ? viewer.isAdmin ? h("a", { href: link("listeners", { uid: m.uid }) }, m.uid) : m.uid : "no session"],
        ["Size", `${row.size} (${plural(row.bytes.length, "byte")})`],
        ["Expires", m.expires && dateTime(new Date(m.expires))],
        ["Retained", m.retained ? "yes, from before the page listened" : /** @type {any} */ (m).retain ? "yes" : undefined],
        ...(m.meta ?? []).map(([name, value]) => /** @type {[string, string]} */ ([`Meta ${name}`, value || "empty"])),
        ...Object.entries(m).filter(([name]) => !KNOWN.has(name)).map(([name, value]) => /** @type {[string, string]} */ ([name, JSON.stringify(value)])),
      ]),
      this.#tabs(row),
      h("div", { class: "bar" },
        button("Payload", (event) => copy(row.text, /** @type {HTMLElement} */ (event.currentTarget)), { icon: "copy", class: "small" }),
        ...COPIES.map(([name, write]) => button(name, (event) => copy(write(/** @type {any} */ (m)), /** @type {HTMLElement} */ (event.currentTarget)), { icon: "copy", class: "small", "aria-label": `Copy as ${name}` }))),
      this.#plotted && this.#newChart(row));
    if (this.#chart) this.#drawChart();
  }

  /** @param {MessageRow} row */
  #tabs(row) {
    const panel = h("div", { id: "inspector-panel", role: "tabpanel", "aria-label": "Payload" }, this.#payload(row));
    const tabs = VIEWS.map(([view, title]) => h("button", {
      type: "button", role: "tab", "aria-selected": String(view === this.#view), "aria-controls": "inspector-panel", tabindex: view === this.#view ? 0 : -1,
      click: () => { this.#view = view; this.#draw(row); /** @type {HTMLElement | null} */ (this.element.querySelector("[aria-selected=true]"))?.focus(); },
    }, title));
    const keydown = (/** @type {KeyboardEvent} */ event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) tabs[(VIEWS.findIndex(([view]) => view === this.#view) + step + tabs.length) % tabs.length].click();
    };
    return h("div", { class: "stack" }, h("div", { class: "tabs", role: "tablist", "aria-label": "Views of the payload", keydown }, ...tabs), panel);
  }

  /** @param {MessageRow} row */
  #payload(row) {
    const text = (/** @type {string} */ s) => h("pre", { class: "code", tabindex: 0, "aria-label": "Payload" }, s.slice(0, MAX_RAW) || " ", s.length > MAX_RAW && `\n… and ${plural(s.length - MAX_RAW, "more character")}`);
    switch (this.#view) {
      case "raw": return text(row.text);
      case "hex": return text(hexDump(row.bytes));
      case "diff": return this.#changes(row);
    }
    if (row.isBinary) return text(hexDump(row.bytes));
    if (row.notice) return text(row.notice);
    if (typeof row.value !== "string") return prettyJSON(row.text, (path) => this.#plot(row, path));
    return isObject(row.value) ? prettyJSON(row.value) : text(row.value);
  }

  /** @param {MessageRow} row */
  #changes(row) {
    const at = feed.rows.indexOf(row);
    for (let i = at - 1; i >= 0; i--) {
      const other = feed.rows[i];
      if (!(other instanceof MessageRow) || other.message.group !== row.message.group) continue;
      return h("div", { class: "stack" }, h("p", { class: "help" }, `Since ${clock(other.time)}, ${other.message.id}`), difference(lines(other), lines(row)));
    }
    return h("p", { class: "help" }, "There is no earlier message of this group in the list.");
  }

  /**
   * @param {MessageRow} row
   * @param {string[]} path
   */
  #plot(row, path) {
    this.#plotted = path;
    this.#draw(row);
    this.#chart?.element.scrollIntoView({ block: "nearest" });
  }

  /** @param {MessageRow} row */
  #newChart(row) {
    const name = writePath(this.#plotted ?? []);
    this.#chart = new Chart(`${name} of ${row.message.group} over time`, [{ label: name, color: "--main" }], (v) => String(Number(v.toPrecision(6))));
    return h("div", { class: "stack" }, h("h3", {}, `${name} over time`), this.#chart.element);
  }

  #drawChart() {
    const path = this.#plotted;
    if (!this.#chart || !path || !(this.#row instanceof MessageRow)) return;
    const { group } = this.#row.message;
    /** @type {number[]} */
    const times = [];
    /** @type {(number | null)[]} */
    const values = [];
    for (const row of feed.rows) {
      if (!(row instanceof MessageRow) || row.message.group !== group) continue;
      const value = valueAt(row.value, path);
      if (typeof value !== "number") continue;
      times.push(row.time.getTime() / 1000);
      values.push(value);
    }
    this.#chart.set([times, values]);
  }
}

/** Members of a message that have a line of their own. */
const KNOWN = new Set(["id", "group", "event", "uid", "time", "expires", "retain", "retained", "meta", "msg", "json"]);

/** @type {[name: string, write: typeof asCurl][]} */
const COPIES = [["curl", asCurl], ["Go", asGo], ["JavaScript", asJavaScript]];

/**
 * Returns names with their values, without those that have none.
 * @param {[name: string, value: string | Node | undefined][]} list
 */
export function pairs(list) {
  return h("dl", { class: "pairs" }, ...list.filter(([, value]) => value !== undefined && value !== "").flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/**
 * Reports whether a text is a JSON object or array that can be shown.
 * @param {string} text
 */
function isObject(text) {
  if (!/^\s*[[{]/.test(text)) return false;
  try {
    return !isTooDeep(JSON.parse(text));
  } catch {
    return false;
  }
}

/** @param {MessageRow} row */
function lines(row) {
  if (row.isBinary) return hexDump(row.bytes);
  return typeof row.message.msg === "string" || row.notice ? row.text : indent(row.text, MAX_LINES);
}
