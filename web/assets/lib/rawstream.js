// A stream as a client that one writes would see it: the request, the answer, and each line.

import { errorText } from "./api.js";

/** kind: request and answer with their headers; the names of the fields; comment; block for the empty line at its end. @typedef {{kind: string, time: Date, text: string}} Line */

/**
 * @typedef {object} RawOptions
 * @property {URL} url
 * @property {URLSearchParams} query
 * @property {string} method GET sends the query in the URL, POST as a form
 * @property {string} lastId
 * @property {string} token "" for none
 * @property {boolean} anonymous whether the browser's cookies are left out
 * @property {() => boolean} reconnects
 * @property {(line: Line) => void} onLine
 * @property {(text: string) => void} onState
 * @property {() => void} onEnd
 */

export class RawStream {
  bytes = 0;
  blocks = 0;
  /** Reconnection time in ms. */
  retry = 1000;
  #stop = new AbortController();
  #id = ""; // of the block that is not complete

  /** @param {RawOptions} options */
  constructor(options) {
    this.options = options;
    this.lastId = options.lastId;
  }

  stop() {
    this.#stop.abort();
  }

  /** Opens the stream, and again when it ends, until it is stopped or refused. */
  async run() {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let again = false;
      try {
        again = await this.#connect(signal);
      } catch (error) {
        if (signal.aborted) break;
        again = true;
        this.#line("error", errorText(error));
      }
      if (!again || !this.options.reconnects()) break;
      this.#line("state", `reconnecting in ${this.retry} ms with Last-Event-ID ${this.lastId || "none"}`);
      this.options.onState(`Reconnecting in ${this.retry} ms`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, this.retry);
        signal.addEventListener("abort", () => { clearTimeout(timer); resolve(undefined); }, { once: true });
      });
    }
    this.#line("state", "closed");
    this.options.onState("Closed");
    this.options.onEnd();
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<boolean>} whether a client would connect again
   */
  async #connect(signal) {
    const { url, query, method, token, anonymous } = this.options;
    const target = new URL(url);
    /** @type {Record<string, string>} */
    const headers = { Accept: "text/event-stream" };
    if (this.lastId) headers["Last-Event-ID"] = this.lastId;
    if (method === "GET") target.search = query.toString();
    this.#line("request", `${method} ${target.pathname}${target.search}`);
    if (method === "POST") this.#line("request", `  ${query}`);
    for (const [name, value] of Object.entries(headers)) this.#line("request", `  ${name}: ${value}`);
    if (token) {
      headers.Authorization = `Bearer ${token}`;
      this.#line("request", "  Authorization: Bearer …");
    }
    this.options.onState("Connecting");
    const response = await fetch(target, { method, headers, body: method === "POST" ? query : undefined, signal, cache: "no-store", redirect: "manual", credentials: token || anonymous ? "omit" : "same-origin" });
    this.#line(response.ok ? "answer" : "error", `${response.status} ${response.statusText}`);
    for (const [name, value] of response.headers) this.#line("answer", `  ${name}: ${value}`);
    const isStream = response.status === 200 && (response.headers.get("Content-Type") ?? "").startsWith("text/event-stream");
    if (!isStream || !response.body) {
      for (const line of (await response.text()).split("\n")) this.#line("error", line);
      return response.status >= 500 || response.status === 429;
    }
    this.options.onState("Open");
    await this.#read(response.body.getReader());
    this.#line("state", "the hub has ended the answer");
    return true;
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
  async #read(reader) {
    const decoder = new TextDecoder();
    let partial = "";
    let cr = false;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      this.bytes += value.length;
      let text = decoder.decode(value, { stream: true });
      if (cr && text.startsWith("\n")) text = text.slice(1);
      cr = text.endsWith("\r");
      const lines = (partial + text).split(/\r\n|\r|\n/);
      partial = lines.pop() ?? "";
      for (const line of lines) this.#take(line);
      this.options.onState("Open");
    }
    if (partial) this.#line("error", `cut off: ${partial}`);
  }

  /** @param {string} line */
  #take(line) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (line === "") {
      this.blocks++;
      this.lastId = this.#id || this.lastId;
    } else if (name === "id") this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    this.#line(line === "" ? "block" : name === "" ? "comment" : name, line);
  }

  /** @param {string} kind @param {string} text */
  #line(kind, text) {
    this.options.onLine({ kind, time: new Date(), text });
  }
}
