// Try it: opens a stream as any client would and shows each line of it, for people who write a client.

import { base, errorText } from "../lib/api.js";
import { append, button, field, fill, h, iconButton, notice, select, setText } from "../lib/dom.js";
import { bytes, clock, count, plural } from "../lib/format.js";
import { setParams } from "../lib/router.js";
import { hexDump } from "../lib/row.js";
import { RawStream } from "../lib/rawstream.js";
import { Chips } from "../widgets/chips.js";
import { List } from "../widgets/list.js";

/** @typedef {import("../lib/rawstream.js").Line} Line */

/** How many lines are kept. */
const MAX_LINES = 5000;

/** @param {HTMLElement} view @param {URLSearchParams} params */
export function mount(view, params) {
  const page = new TryIt(view);
  page.update(params);
  return page;
}

class TryIt {
  /** @type {Line[]} */
  #lines = [];
  /** @type {RawStream | undefined} */
  #stream;
  #follows = true;

  /** @param {HTMLElement} view */
  constructor(view) {
    const text = (/** @type {import("../lib/dom.js").Attributes} */ more) => h("input", { type: "text", autocomplete: "off", autocapitalize: "none", spellcheck: "false", class: "mono", ...more });
    this.filters = new Chips("Filters", "home/#", (values) => setParams("try", { filter: values }));
    this.as = select([["", "as I am"], ["token", "with a token"], ["none", "without a token"]], { change: () => { this.tokenField.hidden = this.as.value !== "token"; } });
    this.token = h("input", { type: "password", autocomplete: "off" });
    this.tokenField = field("Token", this.token);
    this.tokenField.hidden = true;
    this.lastId = text({ placeholder: "none" });
    this.since = text({ placeholder: "now, 10m, all" });
    this.last = text({ placeholder: "0", inputmode: "numeric" });
    this.heartbeat = text({ placeholder: "the hub's" });
    this.format = select([["", "json"], ["raw", "raw"]]);
    this.method = select([["GET", "GET"], ["POST", "POST"]]);
    this.reconnect = h("input", { type: "checkbox", checked: true });
    this.toggle = h("button", { class: "main" }, "Open");
    this.summary = h("p", { class: "help grow", role: "status" }, "Not open");
    /** @type {List<Line>} */
    this.list = new List({
      label: "Lines of the stream", create: () => h("div", { class: "raw-row" }, h("time"), h("span", { class: "cut mono" })), render: renderLine,
      onSelect: (line) => this.#inspect(line),
      onScroll: (atEnd) => { this.#follows = atEnd; },
    });
    this.over = h("div", { class: "over" }, notice("empty", "No stream", h("p", {}, "Open one to see what the hub sends: every line, heartbeats and reconnects.")));
    this.detail = h("section", { class: "inspector", "aria-label": "Line", hidden: true });
    append(view,
      h("form", { class: "head try-head", submit: (event) => { event.preventDefault(); this.#toggle(); } },
        h("h1", {}, "Try it"),
        h("div", { class: "fields" },
          h("div", { class: "field wide" }, h("span", { class: "label" }, "Filters"), this.filters.element),
          field("Who", this.as), this.tokenField, field("Last-Event-ID", this.lastId), field("since", this.since), field("last", this.last), field("heartbeat", this.heartbeat), field("format", this.format), field("Method", this.method)),
        h("div", { class: "bar" }, this.toggle, h("label", { class: "check" }, this.reconnect, "Reconnect, with the last id"), this.summary, button("Clear", () => this.#clear(), { icon: "clear", class: "quiet" }))),
      h("div", { class: "split" }, h("div", { class: "list-box" }, this.list.element, this.over), this.detail));
  }

  /** @param {URLSearchParams} params */
  update(params) {
    this.filters.values = params.has("filter") ? params.getAll("filter") : ["#"];
    this.lastId.value = params.get("id") ?? this.lastId.value;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "Escape") this.list.select(undefined);
  }

  end() {
    this.#stream?.stop();
    this.list.remove();
  }

  #toggle() {
    if (this.#stream) return this.#stop();
    const query = new URLSearchParams(this.filters.values.map((filter) => ["group", filter]));
    for (const name of /** @type {const} */ (["since", "last", "heartbeat", "format"])) if (this[name].value.trim()) query.set(name, this[name].value.trim());
    setText(this.toggle, "Close");
    this.#follows = true;
    this.#stream = new RawStream({
      url: new URL("v1/events", base), query, method: this.method.value, lastId: this.lastId.value.trim(),
      token: this.as.value === "token" ? this.token.value.trim() : "", anonymous: this.as.value === "none", reconnects: () => this.reconnect.checked,
      onLine: (line) => this.#add(line), onState: (text) => this.#showState(text), onEnd: () => this.#stop(),
    });
    this.#stream.run().catch((error) => this.#add({ kind: "error", time: new Date(), text: errorText(error) }));
  }

  #stop() {
    this.#stream?.stop();
    this.#stream = undefined;
    setText(this.toggle, "Open");
  }

  /** @param {Line} line */
  #add(line) {
    this.#lines.push(line);
    if (this.#lines.length > MAX_LINES) this.#lines.splice(0, this.#lines.length - MAX_LINES);
    this.over.hidden = true;
    this.list.items = this.#lines;
    if (this.#follows) this.list.toEnd();
  }

  /** @param {string} text */
  #showState(text) {
    const { bytes: n, blocks, lastId, retry } = this.#stream ?? { bytes: 0, blocks: 0, lastId: "", retry: 0 };
    setText(this.summary, `${text} · ${bytes(n)} · ${plural(blocks, "block")} · retry ${count(retry)} ms · last id ${lastId || "none"}`);
  }

  #clear() {
    this.#lines = [];
    this.list.items = this.#lines;
    this.list.select(undefined);
    this.over.hidden = false;
  }

  /** @param {Line} line @returns {string} all lines of its block */
  #blockOf(line) {
    const isOutside = (/** @type {Line | undefined} */ l) => !l || ["block", "request", "answer", "state", "error"].includes(l.kind);
    const at = this.#lines.indexOf(line);
    let first = at;
    while (!isOutside(this.#lines[first - 1])) first--;
    let end = at;
    while (!isOutside(this.#lines[end])) end++;
    return this.#lines.slice(first, Math.max(end, at + 1)).map((l) => l.text).join("\n");
  }

  /** @param {Line | undefined} line */
  #inspect(line) {
    this.detail.hidden = line === undefined;
    if (line) this.#follows = false;
    if (line) {
      fill(this.detail, h("div", { class: "bar spread" }, h("h2", {}, `${clock(line.time)} ${line.kind}`), iconButton("close", "Close (Escape)", () => { this.list.select(undefined); this.list.element.focus(); })),
        h("pre", { class: "code", tabindex: 0, "aria-label": "Block" }, this.#blockOf(line)),
        h("h3", {}, "The line in hex"),
        h("pre", { class: "code", tabindex: 0, "aria-label": "Hex" }, hexDump(new TextEncoder().encode(line.text), 4096) || "an empty line: the end of a block"));
    }
  }
}

/** @param {HTMLElement} row @param {Line} line */
function renderLine(row, line) {
  const [time, text] = /** @type {HTMLElement[]} */ ([...row.children]);
  setText(time, clock(line.time));
  setText(text, line.text.slice(0, 500) || " ");
  row.dataset.kind = line.kind;
}
