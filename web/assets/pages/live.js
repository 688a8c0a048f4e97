// Live: what is published now, and what was before.

import { errorText } from "../lib/api.js";
import { append, button, download, fill, h, notice, select, setText, visible } from "../lib/dom.js";
import { feed, MAX_ROWS } from "../lib/feed.js";
import { clock, count, dateTime, plural, rate } from "../lib/format.js";
import { setParams } from "../lib/router.js";
import { afterPause, inNextFrame } from "../lib/schedule.js";
import { compile } from "../lib/search.js";
import { GapRow } from "../lib/row.js";
import { curlToken } from "../lib/snippets.js";
import { viewer } from "../lib/viewer.js";
import { Chips } from "../widgets/chips.js";
import { Inspector } from "../widgets/inspector.js";
import { List } from "../widgets/list.js";
import { base } from "../lib/api.js";

/** @typedef {import("../lib/row.js").Row} Row */

const DEFAULT_START = "last=100";

/** @type {[value: string, text: string][]} */
const STARTS = [
  ["now", "from now on"], ["last=100", "last 100"], ["last=1000", "last 1,000"], [`last=${MAX_ROWS}`, "last 10,000"],
  ["since=10m", "since 10 min ago"], ["since=1h", "since 1 h ago"], ["since=24h", "since 24 h ago"],
];

/** @type {[value: string, text: string][]} */
const SEARCHES = [["text", "Text"], ["regexp", "Regexp"], ["path", "JSON path"]];

const PLACEHOLDERS = { text: "Payload or group", regexp: "^ERR.*timeout", path: "sensor.temp > 20" };

/** @param {HTMLElement} view @param {URLSearchParams} params */
export function mount(view, params) {
  const page = new Live(view);
  page.update(params);
  return page;
}

class Live {
  /** @type {Row[]} The rows that match the search. */
  #shown = [];
  /** The number of the first row that was not searched yet. @type {number} */
  #next = 0;
  /** @type {((row: Row) => boolean) | undefined} */
  #match;
  #search = "";
  #follows = true;
  /** How many rows matched while the list stood still. */
  #unseen = 0;
  #onChange = inNextFrame(() => this.#take());
  #onState = () => this.#showState();

  /** @param {HTMLElement} view */
  constructor(view) {
    this.filters = new Chips("Filters", "Add a filter: home/#", (values) => this.#openFeed(values, this.start.value));
    this.start = select(STARTS, { "aria-label": "Start", change: () => this.#openFeed(this.filters.values, this.start.value) });
    this.kind = select(SEARCHES, { "aria-label": "Kind of search", change: () => { this.#searchChanged(); this.query.focus(); } });
    const soon = afterPause(() => this.#searchChanged(), 150);
    this.query = h("input", { type: "search", "aria-label": "Search", "data-search": true, autocomplete: "off", spellcheck: "false", input: soon });
    this.event = h("input", { type: "search", class: "event", "aria-label": "Event name", placeholder: "Event", autocomplete: "off", spellcheck: "false", input: soon });
    this.searchError = h("p", { class: "error-text", role: "alert" });
    this.pause = button("Pause", () => this.#follow(!this.#follows), { icon: "pause" });
    this.unseen = button("", () => this.#follow(true), { icon: "down", class: "main unseen", hidden: true });
    this.counter = h("p", { class: "help counter" });
    this.inspector = new Inspector(() => { this.list.select(undefined); this.list.element.focus(); });
    this.list = new List({
      label: "Messages", create: newRow, render: renderRow,
      onSelect: (row) => {
        if (row) this.#follow(false);
        this.inspector.show(row);
        split.classList.toggle("inspecting", row !== undefined);
      },
      onOpen: () => /** @type {HTMLElement | null} */ (this.inspector.element.querySelector("[role=tab][aria-selected=true]"))?.focus(),
      onScroll: (atEnd) => { if (atEnd !== this.#follows) this.#follow(atEnd); },
    });
    this.empty = h("div", { class: "over" });
    const split = h("div", { class: "split" },
      h("div", { class: "list-box" },
        h("div", { class: "columns live-row", "aria-hidden": "true" }, h("span", {}, "Time"), h("span", {}, "Group"), h("span", {}, "Event"), h("span", {}, "Payload"), h("span", { class: "number" }, "Size")),
        this.list.element, this.empty, this.unseen),
      this.inspector.element);
    append(view,
      h("div", { class: "head live-head" },
        h("h1", {}, "Live"),
        h("div", { class: "bar live-filters" }, this.filters.element, this.start),
        h("div", { class: "bar live-search" }, this.kind, this.query, this.event, this.pause,
          button("Clear", () => this.#clear(), { icon: "clear", class: "quiet" }),
          button("Export", () => this.#export(), { icon: "export", class: "quiet", title: "Save what is shown as ndjson" })),
        this.searchError),
      split,
      h("div", { class: "foot" }, this.counter));
    feed.addEventListener("change", this.#onChange);
    feed.addEventListener("state", this.#onState);
  }

  /** @param {URLSearchParams} params */
  update(params) {
    const filters = params.getAll("filter");
    this.filters.values = filters.length > 0 ? filters : feed.filters.length > 0 ? feed.filters : viewer.defaultFilters;
    const start = params.get("start") ?? (feed.start || DEFAULT_START);
    if (![...this.start.options].some((option) => option.value === start)) this.start.append(h("option", { value: start }, start.replace("=", " ")));
    this.start.value = start;
    const kind = params.get("kind") ?? "text";
    this.kind.value = SEARCHES.some(([name]) => name === kind) ? kind : "text";
    this.query.value = params.get("q") ?? "";
    this.event.value = params.get("event") ?? "";
    this.#openFeed(this.filters.values, start);
    this.#searchChanged();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "Escape") this.list.select(undefined);
    else if (event.key === "p") this.#follow(!this.#follows);
    else if (event.key === "e") this.#export();
  }

  end() {
    feed.removeEventListener("change", this.#onChange);
    feed.removeEventListener("state", this.#onState);
    this.inspector.end();
    this.list.remove();
  }

  /**
   * @param {string[]} filters
   * @param {string} start
   */
  #openFeed(filters, start) {
    setParams("live", { filter: filters, start: start === DEFAULT_START ? undefined : start });
    feed.open(filters, start);
    this.#follow(true);
    this.#showState();
  }

  #searchChanged() {
    const search = { kind: /** @type {any} */ (this.kind.value), query: this.query.value, event: this.event.value.trim() };
    this.query.placeholder = PLACEHOLDERS[/** @type {keyof typeof PLACEHOLDERS} */ (search.kind)];
    setParams("live", { kind: search.kind === "text" ? undefined : search.kind, q: search.query, event: search.event });
    try {
      this.#match = compile(search);
      setText(this.searchError, "");
      this.query.removeAttribute("aria-invalid");
    } catch (error) {
      setText(this.searchError, errorText(error));
      this.query.setAttribute("aria-invalid", "true");
      return;
    }
    const key = JSON.stringify(search);
    if (key === this.#search && this.#shown.length > 0) return;
    this.#search = key;
    this.#all();
  }

  /** Searches all rows again. */
  #all() {
    this.#shown = this.#match ? feed.rows.filter(this.#match) : feed.rows.slice();
    this.#next = feed.removed + feed.rows.length;
    this.#unseen = 0;
    this.list.items = this.#shown;
    if (this.#follows) this.list.toEnd();
    this.#showState();
  }

  /** Takes new rows of the feed. */
  #take() {
    const { rows, removed } = feed;
    const isNew = removed + rows.length < this.#next || rows.length === 0 || this.#next < removed;
    if (isNew && this.#follows) return this.#all();
    const added = rows.slice(Math.max(0, this.#next - removed));
    const matching = this.#match ? added.filter(this.#match) : added;
    this.#next = removed + rows.length;
    if (!this.#follows) this.#unseen += matching.length; // the list stands still, even if the feed removes its rows
    else if (matching.length > 0 || removed > 0) {
      for (const row of matching) this.#shown.push(row);
      this.#dropRemoved(rows[0]);
      this.list.items = this.#shown;
      this.list.toEnd();
    }
    this.#showState();
  }

  /**
   * Removes the rows before the first one of the feed.
   * @param {Row} first
   */
  #dropRemoved(first) {
    const extra = this.#match ? this.#shown.findIndex((row) => row.time >= first.time) : this.#shown.length - feed.rows.length;
    if (extra > 0) this.#shown.splice(0, extra);
  }

  /** @param {boolean} follows */
  #follow(follows) {
    if (follows === this.#follows) return;
    this.#follows = follows;
    if (follows) this.list.select(undefined);
    fill(this.pause, ...button(follows ? "Pause" : "Follow", () => {}, { icon: follows ? "pause" : "play" }).childNodes);
    if (follows) this.#all();
    else this.#showState();
  }

  #clear() {
    feed.clear();
    this.list.select(undefined);
    this.#follow(true);
    this.#all();
  }

  #export() {
    if (this.#shown.length === 0) return;
    download(`watchbox-${dateTime(new Date()).replace(/\D+/g, "-")}.ndjson`, this.#shown.map((row) => row.line + "\n"), "application/x-ndjson");
  }

  #showState() {
    this.unseen.hidden = this.#unseen === 0;
    setText(/** @type {Element} */ (this.unseen.querySelector("span")), `${count(this.#unseen)} new`);
    const kept = plural(feed.rows.length, "message");
    const found = this.#match ? `${count(this.#shown.length)} of ${kept} match` : `${kept} kept`;
    setText(this.counter, `${found}${feed.rows.length === MAX_ROWS ? ` (the newest ${count(MAX_ROWS)})` : ""} · ${count(feed.received)} since the start · ${rate(feed.rate)}${this.#follows ? "" : " · paused"}`);
    this.#showEmpty();
  }

  #showEmpty() {
    const key = this.#shown.length > 0 ? "" : `${feed.state} ${errorText(feed.error ?? "")} ${this.#match !== undefined && feed.rows.length > 0} ${feed.filters.join()}`;
    if (key === this.empty.dataset.key) return;
    this.empty.dataset.key = key;
    this.empty.hidden = key === "";
    if (key === "") return this.empty.replaceChildren();
    const group = feed.filters[0]?.replace(/[+#]/g, "demo") || "demo";
    if (feed.filters.length === 0) fill(this.empty, notice("empty", "No filter", h("p", {}, "Add a filter to see its messages: # is everything, home/# all groups below home.")));
    else if (feed.state === "error") fill(this.empty, notice("error", "These messages cannot be shown", h("p", {}, errorText(feed.error)), button("Try again", () => feed.open(this.filters.values, this.start.value))));
    else if (feed.state === "loading") fill(this.empty, notice("loading", "Loading"));
    else if (this.#match && feed.rows.length > 0) fill(this.empty, notice("empty", "Nothing matches the search"));
    else fill(this.empty, notice("empty", "No messages yet", h("p", {}, "The list is live: whatever is published appears here. Publish on the page Publish, or with"), h("pre", {}, `curl -d hello${curlToken()} '${new URL("v1/groups/" + group, base).href}'`)));
  }
}

function newRow() {
  return h("div", { class: "live-row" }, h("time"), h("span", { class: "cut group" }), h("span", { class: "badges" }), h("span", { class: "cut mono payload" }), h("span", { class: "number size" }));
}

/**
 * @param {HTMLElement} element
 * @param {Row} row
 */
function renderRow(element, row) {
  const [time, group, badges, payload, size] = /** @type {HTMLElement[]} */ ([...element.children]);
  setText(time, clock(row.time));
  element.classList.toggle("gap", row instanceof GapRow);
  badges.replaceChildren();
  if (row instanceof GapRow) {
    setText(group, "gap");
    setText(payload, row.text);
    setText(size, "");
    return;
  }
  const { message } = row;
  setText(group, message.group);
  group.title = visible(message.group);
  if (message.retained) badges.append(h("span", { class: "badge info" }, "retained"));
  if (message.event !== undefined) badges.append(h("span", { class: "badge", title: message.event }, message.event));
  if (row.isBinary) badges.append(h("span", { class: "badge" }, "binary"));
  setText(payload, row.preview);
  setText(size, row.size);
}
