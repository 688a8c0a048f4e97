// Listeners: who is connected, the slowest first.

import { errorText } from "../lib/api.js";
import { append, button, fill, fillChanged, h, notice, select, setText, visible } from "../lib/dom.js";
import { ago, bytes, count, plural, shortCount } from "../lib/format.js";
import { hub } from "../lib/hub.js";
import { Pages } from "../lib/pages.js";
import { setParams } from "../lib/router.js";
import { afterPause, whileVisible } from "../lib/schedule.js";
import { stats } from "../lib/stats.js";
import { List } from "../widgets/list.js";
import { SessionPanel } from "../widgets/session.js";

/**
 * @typedef {{uid: string, subject?: string, state: "here" | "lost" | "away", since: string, lost?: string, address: string,
 *   user_agent: string, protocol?: string, client_id?: string, filters: string[], streams: number, lag: Amount, sent: Amount,
 *   disconnects?: {time: string, reason: string}[], position?: string, unacknowledged?: number, expires?: string}} Session
 */
/** @typedef {{messages: number, bytes: number}} Amount */

const REFRESH_EVERY = 3000;

/** The hub counts lag up to about this many bytes. */
const MAX_LAG = 1 << 20;

/** Instead of an order: the sessions that are gone, and kept for MQTT clients. */
const AWAY = "away";

/** @type {[sort: string, text: string][]} */
const SORTS = [["lag", "Slowest first"], ["sent", "Most sent first"], ["since", "Oldest first"], [AWAY, "Away"]];

/** @param {HTMLElement} view @param {URLSearchParams} params */
export function mount(view, params) {
  const page = new Listeners(view);
  page.update(params);
  return page;
}

class Listeners {
  #sessions = newPages();
  /** @type {unknown} */
  #error;
  #stop = () => {};

  /** @param {HTMLElement} view */
  constructor(view) {
    this.sort = select(SORTS, { "aria-label": "Order", change: () => { setParams("listeners", { sort: this.sort.value === "lag" ? undefined : this.sort.value }); this.#restart(); } });
    this.search = h("input", {
      type: "search", "data-search": true, "aria-label": "Find listeners", placeholder: "Find: address, subject, filter, agent", autocomplete: "off", spellcheck: "false",
      input: afterPause(() => { setParams("listeners", { q: this.search.value }); this.#show(); }, 150),
    });
    this.summary = h("p", { class: "sub" });
    this.panel = new SessionPanel(() => { this.list.select(undefined); setParams("listeners", { uid: undefined }); this.#showPanel(undefined); this.list.element.focus(); }, () => this.#refresh());
    /** @type {List<Session>} */
    this.list = new List({
      label: "Listeners", create: newRow, render: renderRow,
      onSelect: (session) => {
        if (!session) return;
        setParams("listeners", { uid: session.uid });
        this.#showPanel(session.uid, session);
      },
    });
    this.over = h("div", { class: "over" });
    this.more = button("Show more", () => this.#more(), { class: "small", hidden: true });
    this.split = h("div", { class: "split" },
      h("div", { class: "list-box" },
        h("div", { class: "columns session-row", "aria-hidden": "true" }, ...["Listener", "Address", "Client", "Filters", "Since", "Sent", "Behind", "Last end"].map((title, i) => h("span", { class: i === 5 || i === 6 ? "number" : "" }, title))),
        this.list.element, this.over),
      this.panel.element);
    append(view,
      h("div", { class: "head" }, h("h1", {}, "Listeners"), h("div", { class: "bar find" }, this.search, this.sort), this.summary),
      this.split, h("div", { class: "foot bar" }, this.more));
  }

  /** @param {URLSearchParams} params */
  update(params) {
    const sort = params.get("sort") ?? "lag";
    this.sort.value = SORTS.some(([name]) => name === sort) ? sort : "lag";
    this.search.value = params.get("q") ?? "";
    this.#restart();
    this.#showPanel(params.get("uid") ?? undefined);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "Escape") this.panel.close();
  }

  end() {
    this.#stop();
    this.panel.end();
    this.list.remove();
  }

  #restart() {
    this.#stop();
    this.#sessions = newPages();
    this.#stop = whileVisible((signal) => this.#refresh(signal), REFRESH_EVERY);
  }

  /** @param {AbortSignal} [signal] */
  async #refresh(signal) {
    const sessions = this.#sessions;
    try {
      await sessions.load(this.sort.value === AWAY ? { state: AWAY } : { sort: this.sort.value }, signal);
      this.#error = undefined;
    } catch (error) {
      if (signal?.aborted) return;
      this.#error = error;
    }
    if (sessions === this.#sessions) this.#show();
  }

  #more() {
    this.#sessions.more();
    this.#refresh();
  }

  #show() {
    const { rows, hasMore, loaded } = this.#sessions;
    const q = this.search.value.trim().toLowerCase();
    const found = q === "" ? rows : rows.filter((s) => [s.uid, s.subject ?? "", s.address, s.user_agent, s.protocol ?? "", s.client_id ?? "", ...s.filters].some((text) => text.toLowerCase().includes(q)));
    const chosen = rows.find((s) => s.uid === this.panel.uid);
    this.list.items = found;
    if (chosen && found.includes(chosen)) this.list.select(chosen);
    else this.panel.show(this.panel.uid, chosen);
    setText(this.summary, loaded ? this.#summary() + (q ? ` · ${count(found.length)} found` : "") : "");
    this.more.hidden = !hasMore;
    this.over.hidden = found.length > 0 && !this.#error;
    if (this.over.hidden) return;
    if (this.#error) fillChanged(this.over, notice("error", "The listeners cannot be shown", h("p", {}, errorText(this.#error)), button("Try again", () => this.#refresh())));
    else if (!loaded) fill(this.over, notice("loading", "Loading"));
    else fill(this.over, notice("empty", q ? "No listener matches" : "Nobody listens",
      q && hasMore && h("p", {}, `The search covers the ${count(rows.length)} sessions that are loaded. Show more loads others.`)));
  }

  /** Returns what the loaded sessions are. */
  #summary() {
    const { rows, hasMore } = this.#sessions;
    const isAway = this.sort.value === AWAY;
    const all = isAway ? 0 : stats.latest?.watchbox_sessions ?? 0;
    const which = !hasMore ? `${plural(rows.length, "session")} · ` : `The first ${count(rows.length)}${all > rows.length ? ` of ${count(all)}` : ""} sessions: `;
    const states = [`${count(rows.filter((s) => s.lag.messages > 0).length)} behind`, ...isAway ? [] : [`${count(rows.filter((s) => s.state === "lost").length)} lost`]];
    return which + states.join(" · ");
  }

  /** @param {string | undefined} uid @param {Session} [session] */
  #showPanel(uid, session) {
    this.panel.show(uid, session ?? this.#sessions.rows.find((s) => s.uid === uid));
    this.split.classList.toggle("inspecting", uid !== undefined);
  }
}

/** @returns {Pages<Session>} */
function newPages() {
  return new Pages("v1/sessions", "sessions", (session) => session.uid);
}

function newRow() {
  return h("div", { class: "session-row" }, h("span", { class: "name" }), h("span", { class: "cut" }), h("span", { class: "cut client" }), h("span", { class: "cut mono filters" }), h("span"), h("span", { class: "number" }), h("span", { class: "number lag" }), h("span", { class: "last" }));
}

/** @param {Amount} lag */
export function lagText(lag) {
  if (lag.messages === 0) return "0";
  const more = lag.bytes >= MAX_LAG ? "> " : "";
  return `${more}${shortCount(lag.messages)} · ${more}${bytes(Math.min(lag.bytes, MAX_LAG))}`;
}

/** @param {Amount} lag */
export function lagSentence(lag) {
  return `${lag.bytes >= MAX_LAG ? "more than " : ""}${plural(lag.messages, "message")}, ${bytes(Math.min(lag.bytes, MAX_LAG))}`;
}

/** @param {HTMLElement} row @param {Session} s */
function renderRow(row, s) {
  const [name, address, client, filters, since, sent, lag, last] = /** @type {HTMLElement[]} */ ([...row.children]);
  fill(name,
    h("span", { class: `dot ${s.state}`, title: s.state }),
    h("span", { class: `cut${s.subject ? "" : " mono"}` }, s.subject || s.uid.slice(0, 8)),
    s.uid === hub.uid && h("span", { class: "badge info" }, "this page"),
    s.state !== "here" && h("span", { class: "badge warn" }, s.state));
  row.title = visible(`${s.uid}\n${s.client_id ?? s.user_agent}\n${s.protocol ?? ""}`);
  setText(address, s.address);
  setText(filters, s.filters.join("  "));
  setText(client, s.client_id ?? s.user_agent);
  setText(since, ago(new Date(s.since)));
  setText(sent, shortCount(s.sent.messages));
  setText(lag, lagText(s.lag));
  lag.classList.toggle("behind", s.lag.messages > 0);
  fill(last, s.disconnects && h("span", { class: "badge", title: `${s.disconnects[0].reason}, ${ago(new Date(s.disconnects[0].time))}` }, s.disconnects[0].reason));
}
