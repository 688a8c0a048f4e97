// Publish: sends a message, once or again and again, and keeps drafts in the browser.

import { ApiError, errorText, isTemporary, request } from "../lib/api.js";
import { append, button, copy, field, fill, h, iconButton, select, setText } from "../lib/dom.js";
import { clock, count, plural } from "../lib/format.js";
import { link, setParams } from "../lib/router.js";
import { asCurl, publicationURL } from "../lib/snippets.js";
import { viewer } from "../lib/viewer.js";

/** @typedef {{group: string, kind: "text" | "json" | "base64", payload: string, event: string, ttl: string, meta: string, retain: boolean, key: string}} Draft */

/** failed: the next attempt may succeed, such as after no answer. not sent: the form is wrong. @typedef {"sent" | "refused" | "failed" | "not sent"} Result */

/** @type {Draft} */
const EMPTY = { group: "demo", kind: "text", payload: "hello", event: "", ttl: "", meta: "", retain: false, key: "" };

/** @type {[value: string, text: string][]} */
const KINDS = [["text", "Text"], ["json", "JSON"], ["base64", "Bytes, as base64"]];

const DRAFT = "watchbox draft";
const SAVED = "watchbox saved publications";
const MAX_SAVED = 50;

/** How many results are shown. */
const MAX_RESULTS = 50;

/** @param {HTMLElement} view @param {URLSearchParams} params */
export function mount(view, params) {
  const page = new Publish(view);
  page.update(params);
  return page;
}

class Publish {
  /** @type {ReturnType<typeof setTimeout> | undefined} Set while it repeats. */
  #timer;
  #sent = 0;

  /** @param {HTMLElement} view */
  constructor(view) {
    const input = () => this.#changed();
    const text = (/** @type {import("../lib/dom.js").Attributes} */ more) => h("input", { type: "text", autocomplete: "off", autocapitalize: "none", spellcheck: "false", input, ...more });
    this.group = text({ required: true, maxlength: 255, class: "mono", "data-search": true });
    this.kind = select(KINDS, { change: input });
    this.payload = h("textarea", { rows: 8, spellcheck: "false", input, keydown: (/** @type {KeyboardEvent} */ event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#submit(event); } });
    this.event = text({ placeholder: "none" });
    this.ttl = text({ placeholder: "for ever, or 10m" });
    this.meta = h("textarea", { rows: 2, spellcheck: "false", autocapitalize: "none", placeholder: "name=value, one a line", input });
    this.idempotency = text({ placeholder: "none" });
    this.retain = h("input", { type: "checkbox", change: input });
    this.repeat = h("input", { type: "checkbox" });
    this.every = h("input", { type: "number", min: 0.1, max: 3600, step: 0.1, value: 1, class: "every", "aria-label": "Seconds between two messages" });
    this.check = h("p", { class: "help", role: "status" });
    this.error = h("p", { class: "error-text", role: "alert" });
    this.send = h("button", { class: "main" }, "Publish");
    this.curl = h("pre", { class: "code", tabindex: 0, "aria-label": "The same with curl" });
    this.results = h("ul", { class: "lines results", "aria-label": "Results" });
    this.saved = h("ul", { class: "stack saved" });
    append(view, h("div", { class: "head" }, h("h1", {}, "Publish")),
      h("div", { class: "body columns-2" },
        h("form", { class: "panel stack", submit: (event) => this.#submit(event) },
          field("Group", this.group),
          h("div", { class: "field" }, h("div", { class: "bar spread" }, h("label", { for: (this.payload.id = "payload") }, "Payload"), this.kind), this.payload, this.check),
          h("div", { class: "fields" }, field("Event name", this.event), field("Expires after", this.ttl), field("Idempotency key", this.idempotency)),
          field("Metadata", this.meta),
          h("label", { class: "check" }, this.retain, "Retain: keep it for listeners that join later"),
          h("div", { class: "bar" }, h("label", { class: "check" }, this.repeat, "Repeat every"), this.every, "s"),
          this.error,
          h("div", { class: "bar" }, this.send, button("Save", () => this.#save(), { icon: "save" }), h("a", { class: "button", href: "#/live", click: (/** @type {Event} */ event) => { event.preventDefault(); location.hash = link("live", { filter: this.group.value }); } }, "Watch it live"))),
        h("div", { class: "stack" },
          h("section", { class: "panel stack", "aria-label": "curl" }, h("div", { class: "bar spread" }, h("h2", {}, "The same with curl"), button("Copy", (event) => copy(this.curl.textContent ?? "", /** @type {HTMLElement} */ (event.currentTarget)), { icon: "copy", class: "small" })), this.curl),
          h("section", { class: "panel stack", "aria-label": "Results" }, h("h2", {}, "Results"), this.results),
          h("section", { class: "panel stack", "aria-label": "Saved" }, h("h2", {}, "Saved in this browser"), this.saved))));
    this.kind.setAttribute("aria-label", "Format of the payload");
    fill(this.results, h("li", { class: "soft" }, "Nothing was sent yet."));
    this.#showSaved();
  }

  /** @param {URLSearchParams} params */
  update(params) {
    const group = params.get("group");
    const draft = { ...EMPTY, ...read(DRAFT, EMPTY) };
    this.#fill(group === null ? draft : { ...draft, group });
  }

  end() { this.#stop(); }

  /** @returns {Draft} */
  get #draft() {
    return {
      group: this.group.value, kind: /** @type {Draft["kind"]} */ (this.kind.value), payload: this.payload.value,
      event: this.event.value.trim(), ttl: this.ttl.value.trim(), meta: this.meta.value.trim(), retain: this.retain.checked, key: this.idempotency.value.trim(),
    };
  }

  /** @param {Draft} draft */
  #fill(draft) {
    for (const name of /** @type {const} */ (["group", "kind", "payload", "event", "ttl", "meta"])) this[name].value = String(draft[name]);
    this.idempotency.value = String(draft.key);
    this.retain.checked = draft.retain === true;
    this.#changed();
  }

  #changed() {
    const draft = this.#draft;
    setParams("publish", { group: draft.group });
    write(DRAFT, draft);
    setText(this.error, "");
    let text = "";
    let input = this.meta; // being checked
    try {
      const meta = Object.entries(parseMeta(draft.meta));
      input.removeAttribute("aria-invalid");
      input = this.payload;
      text = asCurl({ ...draft, meta, msg: decodePayload(draft), json: draft.payload });
      const size = body(draft).size;
      setText(this.check, draft.kind === "json" ? `Valid JSON, ${plural(size, "byte")}` : plural(size, "byte"));
      this.check.className = "help";
      input.removeAttribute("aria-invalid");
    } catch (error) {
      setText(this.check, errorText(error));
      this.check.className = "error-text";
      input.setAttribute("aria-invalid", "true");
    }
    setText(this.curl, text || "The message is not complete.");
    const isRefused = draft.group !== "" && !/[+#]/.test(draft.group) && !viewer.mayPublishTo(draft.group);
    if (isRefused) setText(this.error, `Your grant does not allow to publish to ${draft.group}.`);
    this.send.disabled = isRefused && this.#timer === undefined;
  }

  /** @param {Event} event */
  #submit(event) {
    event.preventDefault();
    if (this.#timer !== undefined) return this.#stop();
    if (this.repeat.checked) {
      setText(this.send, "Stop");
      this.#sent = 0;
      this.#loop();
    } else this.#publish();
  }

  async #loop() {
    this.#timer = setTimeout(() => {}, 0);
    const result = await this.#publish();
    if (this.#timer === undefined) return;
    if (result !== "sent" && result !== "failed") return this.#stop();
    if (result === "sent") this.#sent++;
    setText(this.send, `Stop (${count(this.#sent)} sent)`);
    this.#timer = setTimeout(() => this.#loop(), Math.max(100, 1000 * Number(this.every.value) || 1000));
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    setText(this.send, "Publish");
  }

  /** @returns {Promise<Result>} */
  async #publish() {
    const draft = this.#draft;
    const began = performance.now();
    try {
      const content = body(draft);
      const meta = Object.entries(parseMeta(draft.meta)).map(([name, value]) => ["Watchbox-Meta-" + name, asBytes(value)]);
      const headers = { ...Object.fromEntries(meta), "Content-Type": TYPES[draft.kind], ...draft.key && { "Idempotency-Key": draft.key } };
      const response = await request(publicationURL({ ...draft, meta: [], msg: "" }), { method: "POST", body: content, headers });
      const receipt = await response.json();
      const replayed = response.headers.get("Idempotency-Replayed") === "true";
      return this.#result("sent", `${receipt.id} ${replayed ? "was sent before with this key" : "stored"} in ${Math.round(performance.now() - began)} ms`);
    } catch (error) {
      return this.#result(isTemporary(error) ? "failed" : error instanceof ApiError ? "refused" : "not sent", errorText(error));
    }
  }

  /** @param {Result} result @param {string} text */
  #result(result, text) {
    if (!this.results.querySelector("time")) this.results.replaceChildren();
    this.results.prepend(h("li", {}, h("time", {}, clock(new Date())), h("span", { class: `badge ${result === "sent" ? "good" : "bad"}` }, result), h("span", { class: "grow" }, text)));
    while (this.results.childElementCount > MAX_RESULTS) this.results.lastElementChild?.remove();
    return result;
  }

  #save() {
    const draft = this.#draft;
    const others = this.#list().filter((d) => JSON.stringify(d) !== JSON.stringify(draft));
    write(SAVED, [draft, ...others].slice(0, MAX_SAVED));
    this.#showSaved();
  }

  /** @returns {Draft[]} */
  #list() {
    const list = read(SAVED, /** @type {Draft[]} */ ([]));
    return Array.isArray(list) ? list : [];
  }

  #showSaved() {
    const list = this.#list();
    if (list.length === 0) return fill(this.saved, h("li", { class: "soft" }, "None"));
    fill(this.saved, ...list.map((draft) => h("li", { class: "bar" },
      h("button", { type: "button", class: "quiet grow saved-draft", click: () => this.#fill({ ...EMPTY, ...draft }) }, h("span", { class: "cut" }, String(draft.group)), draft.event && h("span", { class: "badge" }, String(draft.event)), h("span", { class: "cut mono soft" }, String(draft.payload).slice(0, 80))),
      iconButton("clear", `Delete ${draft.group}`, () => { write(SAVED, list.filter((d) => d !== draft)); this.#showSaved(); }))));
  }
}

const TYPES = { text: "text/plain; charset=utf-8", json: "application/json", base64: "application/octet-stream" };

/**
 * Returns the names and values in lines such as name=value. A name appears once, because browsers join the values of headers
 * with the same name.
 * @param {string} text
 */
function parseMeta(text) {
  /** @type {Record<string, string>} */
  const meta = Object.create(null);
  for (const line of text.split("\n").map((line) => line.trim()).filter(Boolean)) {
    const [, name, value] = /^([\w.-]+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (name === undefined) throw new Error(`metadata: "${line}" is not a line such as name=value, where the name has letters, digits, -, _ or .`);
    if (Object.hasOwn(meta, name.toLowerCase())) throw new Error(`metadata: ${name} appears twice; this page sends a name once`);
    meta[name.toLowerCase()] = value;
  }
  return meta;
}

/** @param {string} text @returns {string} a character for each byte of its UTF-8, as fetch wants headers */
function asBytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

/** @param {Draft} draft @returns {unknown} what the message's msg will be */
function decodePayload({ kind, payload }) {
  if (kind === "json") return JSON.parse(payload);
  return kind === "base64" ? decodeBase64(payload) : payload;
}

/** @param {Draft} draft */
function body(draft) {
  if (draft.kind === "json") JSON.parse(draft.payload);
  return new Blob([draft.kind === "base64" ? decodeBase64(draft.payload) : draft.payload]);
}

/** @param {string} text */
function decodeBase64(text) {
  try {
    return Uint8Array.from(atob(text.replace(/\s+/g, "")), (c) => c.charCodeAt(0));
  } catch {
    throw new Error("this is not base64");
  }
}

/**
 * Reads what the browser keeps under a key.
 * @template T
 * @param {string} key
 * @param {T} otherwise
 * @returns {T}
 */
function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null") ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** @param {string} key @param {unknown} value */
function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // There is no storage, or it is full: nothing is kept.
  }
}
