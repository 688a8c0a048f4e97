// One group: what it holds, its policy, retained message, listeners and history.

import { encodePath, errorText, get, getMessages, isTemporary, request } from "../lib/api.js";
import { announce, button, confirm, field, fill, h, iconButton, select, setText } from "../lib/dom.js";
import { bytes, clock, count, plural, rate } from "../lib/format.js";
import { link } from "../lib/router.js";
import { MessageRow } from "../lib/row.js";
import { retry, whileVisible } from "../lib/schedule.js";
import { viewer } from "../lib/viewer.js";
import { pairs } from "./inspector.js";

/** How many messages of the history are shown. */
const HISTORY = 10;

/** How many listeners are shown. */
const LISTENERS = 20;

const REFRESH_EVERY = 3000;

export class GroupPanel {
  /** @type {string | undefined} */
  #group;
  #stop = () => {};

  /**
   * @param {() => void} close
   * @param {() => void} onChange called when the group was changed here
   */
  constructor(close, onChange) {
    this.close = close;
    this.onChange = onChange;
    this.element = h("section", { class: "inspector", "aria-label": "Group", hidden: true });
  }

  end() {
    this.#stop();
  }

  /** @param {string | undefined} group undefined closes it */
  show(group) {
    if (group === this.#group) return;
    this.#group = group;
    this.element.hidden = group === undefined;
    if (group !== undefined) this.#load(group);
    else this.#stop();
  }

  /** @param {string} group */
  #load(group) {
    this.#stop();
    fill(this.element, this.#head(group));
    const path = encodePath(group);
    /** @param {string} title @param {(signal: AbortSignal) => Promise<HTMLElement>} load @returns a function that loads the part, and returns whether the hub has answered */
    const part = (title, load) => {
      const box = h("div", { class: "stack" });
      this.element.append(box);
      /** @type {HTMLElement | undefined} */
      let shown;
      return async (/** @type {AbortSignal} */ signal) => {
        let content;
        let done = true;
        try {
          content = await load(signal);
        } catch (error) {
          content = h("p", { class: "error-text" }, errorText(error));
          done = !isTemporary(error);
        }
        if (!signal.aborted && !shown?.isEqualNode(content)) { // what stays the same keeps the focus
          shown = content;
          fill(box, title && h("h3", {}, title), content);
        }
        return done;
      };
    };
    const live = [
      part("", async (signal) => figures(await get("v1/groups", { query: { filter: group }, signal }))),
      part("Retained message", async (signal) => this.#retained(group, await getMessages("v1/retained/" + path, { signal }))),
      part("Newest messages", async (signal) => messages(group, await getMessages("v1/history/" + path, { query: { last: HISTORY }, signal }))),
      part("Listeners", async (signal) => listeners(await get("v1/presence/" + path, { signal }))),
    ];
    const once = viewer.isAdmin ? [part("Policy", (signal) => this.#policy(group, signal)), part("Purge", async () => this.#purge(group))] : [];
    const ended = new AbortController();
    const { signal } = ended;
    for (const load of once) load(signal).then((done) => { if (!done && !signal.aborted) signal.addEventListener("abort", retry(() => load(signal))); });
    const stop = whileVisible(async (signal) => { await Promise.all(live.map((load) => load(signal))); }, REFRESH_EVERY);
    this.#stop = () => {
      ended.abort();
      stop();
    };
  }

  /** @param {string} group */
  #head(group) {
    return h("div", { class: "stack" },
      h("div", { class: "bar spread" }, h("h2", { class: "grow cut", title: group }, group), iconButton("close", "Close (Escape)", this.close)),
      h("div", { class: "bar" },
        h("a", { class: "button", href: link("live", { filter: group }) }, "Live"),
        h("a", { class: "button", href: link("live", { filter: `${group}/#` }) }, "Live, all below"),
        viewer.mayPublishTo(group) && h("a", { class: "button", href: link("publish", { group }) }, "Publish")));
  }

  /** @param {string} group @param {{messages: any[]}} answer */
  #retained(group, answer) {
    if (answer.messages.length === 0) return h("p", { class: "soft" }, "None");
    const row = new MessageRow(answer.messages[0]);
    return h("div", { class: "stack" }, h("pre", { class: "code short", tabindex: 0, "aria-label": "Retained message" }, row.text.slice(0, 5000)),
      h("div", { class: "bar spread" }, h("span", { class: "help" }, `${clock(row.time)} · ${row.size}`),
        viewer.mayPublishTo(group) && button("Clear", () => this.#change("Clear the retained message?", `Listeners that join ${group} later get no value until the next retained message.`, "Clear", "Cleared",
          () => request("v1/groups/" + encodePath(group), { method: "POST", query: { retain: true } })), { icon: "clear", class: "small danger" })));
  }

  /** @param {string} group */
  #purge(group) {
    const purge = (/** @type {string} */ filter, /** @type {string} */ what) => this.#change("Purge?", `All messages of ${what} are deleted for everyone, its retained messages too. This cannot be undone.`, "Purge", "Purged",
      () => request("v1/groups/" + encodePath(filter), { method: "DELETE" }));
    return h("div", { class: "bar" },
      button("Purge this group", () => purge(group, group), { icon: "clear", class: "small danger" }),
      button("And all below", () => purge(`${group}/#`, `${group} and all groups below it`), { icon: "clear", class: "small danger" }));
  }

  /**
   * Asks, changes something, and shows the group again.
   * @param {string} title
   * @param {string} text
   * @param {string} yes
   * @param {string} done
   * @param {() => Promise<unknown>} change
   */
  async #change(title, text, yes, done, change) {
    if (!await confirm(title, text, yes)) return;
    try {
      await change();
      announce(done);
    } catch (error) {
      announce(errorText(error), "error");
    }
    if (this.#group !== undefined) this.#load(this.#group);
    this.onChange();
  }

  /** @param {string} group @param {AbortSignal} signal */
  async #policy(group, signal) {
    const path = "v1/policies/" + encodePath(group);
    const [own, inherited] = await Promise.all(["own", "inherited"].map((part) => get(path, { query: { part }, signal })));
    const error = h("p", { class: "error-text", role: "alert" });
    const fields = PROPERTIES.map((p) => ({ ...p, control: control(p, own[p.name], inherited[p.name]) }));
    const submit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      setText(error, "");
      const policy = Object.fromEntries(fields.filter((f) => f.control.value.trim() !== "").map((f) => [f.name, f.read(f.control.value.trim())]));
      try {
        await request(path, { method: "PUT", json: policy });
        announce("Policy saved");
        this.#load(group);
      } catch (e) {
        setText(error, errorText(e));
      }
    };
    return h("form", { class: "stack", submit },
      h("p", { class: "help" }, "An empty field is inherited: it shows the value. 0 means no limit."),
      h("div", { class: "fields" }, ...fields.map((f) => field(f.title, f.control))),
      error, h("div", { class: "bar" }, h("button", { class: "small" }, "Save the policy")));
  }
}

/** @typedef {{name: string, title: string, values?: string[], read: (text: string) => unknown}} Property */

/** @type {Property[]} */
const PROPERTIES = [
  { name: "max_messages", title: "Messages at most", read: number },
  { name: "max_bytes", title: "Bytes at most", read: number },
  { name: "max_age", title: "Age at most, as 24h", read: String },
  { name: "coalesce", title: "Coalesce, as 100ms", read: String },
  { name: "store", title: "Store", values: ["memory", "disk"], read: String },
  { name: "slow", title: "Slow listeners", values: ["catch-up", "skip", "disconnect"], read: String },
  { name: "compress", title: "Compress", values: ["true", "false"], read: (text) => text === "true" },
];

/** @param {string} text @returns {number | string} a number, or what the hub should refuse */
function number(text) {
  return /^\d+$/.test(text) ? Number(text) : text;
}

/**
 * Returns the control of a property.
 * @param {Property} p
 * @param {unknown} own undefined: it is inherited
 * @param {unknown} inherited
 */
function control(p, own, inherited) {
  const value = own === undefined ? "" : String(own);
  if (p.values) return select([["", `inherited: ${inherited}`], ...p.values.map((v) => /** @type {[string, string]} */ ([v, v]))], { value });
  return h("input", { type: "text", value, placeholder: String(inherited), autocomplete: "off", spellcheck: "false" });
}

/** @param {{groups: import("../pages/groups.js").Group[]}} answer */
function figures({ groups: [group] }) {
  if (!group) return h("p", { class: "soft" }, "This group holds no messages.");
  return pairs([
    ["Messages", count(group.messages)], ["Size", bytes(group.bytes)], ["Rate", rate(group.rate)], ["Listeners", count(group.subscribers)],
    ["Oldest id", group.oldest], ["Newest id", group.newest],
  ]);
}

/** @param {string} group @param {{messages: any[]}} answer */
function messages(group, answer) {
  if (answer.messages.length === 0) return h("p", { class: "soft" }, "None");
  const rows = answer.messages.map((m) => new MessageRow(m)).reverse();
  return h("div", { class: "stack" },
    h("ul", { class: "lines" }, ...rows.map((row) => h("li", {}, h("time", {}, clock(row.time)), h("span", { class: "mono cut" }, row.preview)))),
    h("a", { href: link("live", { filter: group, start: "last=10000" }) }, "All of them in Live"));
}

/** @param {{presence: {uid: string, state: string}[]}} answer */
function listeners({ presence }) {
  if (presence.length === 0) return h("p", { class: "soft" }, "Nobody listens.");
  const list = presence.slice(0, LISTENERS).map(({ uid, state }) => h("li", {},
    viewer.isAdmin ? h("a", { href: link("listeners", { uid }), class: "mono" }, uid) : h("span", { class: "mono" }, uid), state === "lost" && h("span", { class: "badge warn" }, "lost")));
  const more = presence.length - list.length;
  return h("ul", { class: "lines" }, ...list, more > 0 && h("li", { class: "soft" }, `and ${plural(more, "other")}`));
}
