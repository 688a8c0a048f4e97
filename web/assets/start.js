// The start page: listens to a group with an EventSource, publishes with a POST, and logs both.
// Data is never parsed as HTML; it is added as text.

/** How many lines the log keeps. */
const MAX_LINES = 500;

/** How many characters of a payload a line shows. */
const MAX_TEXT = 4000;

/** How long to wait before reconnecting, in ms, if the server does not say. */
const RETRY_MS = 5000;

/** The hub's address. The page is at its root, wherever the hub is mounted. */
const base = new URL(".", location.href);

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T} the element, which the page has
 */
const $ = (id) => /** @type {T} */ (document.getElementById(id));

// ---- groups and addresses

/**
 * Returns the address of a group or filter. Each level is encoded by itself. The slashes between
 * them are part of the path.
 * @param {string} group
 * @returns {URL}
 * @throws {Error} if the group cannot be written as an address
 */
function address(group) {
  const levels = group.split("/");
  if (levels.some((level) => level === "." || level === "..")) {
    throw new Error(`"${group}" has a level . or .., which browsers remove from addresses`);
  }
  let path;
  try {
    // The curl lines put the address in single quotes.
    path = levels.map((level) => encodeURIComponent(level).replaceAll("'", "%27")).join("/");
  } catch {
    throw new Error("the group has an incomplete character (half of a surrogate pair)");
  }
  return new URL("v1/groups/" + path, base);
}

/**
 * Returns a readable reason for an answer that is not a success.
 * @param {Response} response
 * @returns {Promise<string>}
 */
async function responseError(response) {
  const type = response.headers.get("Content-Type") ?? "";
  const status = `${response.status} ${response.statusText}`.trim();
  if (!type.startsWith("application/problem+json")) return status;
  const problem = await response.json().catch(() => ({}));
  return problem.detail ? `${problem.detail} (${problem.code ?? status})` : status;
}

/**
 * @param {unknown} error from address, fetch or this file
 * @returns {string} a readable reason
 */
function errorText(error) {
  if (error instanceof TypeError) return "the server cannot be reached"; // fetch gives no reason
  return error instanceof Error ? error.message : String(error);
}

/**
 * Shows an error below a form, or hides it.
 * @param {string} id
 * @param {string} text "" for none
 */
function showError(id, text) {
  const element = $(id);
  element.textContent = text;
  element.hidden = text === "";
}

// ---- the log

/** @type {HTMLElement[]} Lines that are added in the next frame. */
let waiting = [];

/** How many messages were received since the log was cleared. */
let received = 0;

/**
 * @param {string} tag
 * @param {string} className
 * @param {string} text
 * @returns {HTMLElement}
 */
function element(tag, className, text) {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

/**
 * Adds a line to the log. Lines are added together in the next frame, so that many cost one layout.
 * @param {{kind: string, time: Date, group?: string, marks?: string[], text: string, id?: string}} line
 */
function addLine({ kind, time, group, marks = [], text, id }) {
  const row = element("div", "line " + kind, "");
  const clock = element("time", "", timeOfDay(time));
  clock.setAttribute("datetime", time.toISOString());
  clock.title = id ? `${time.toLocaleString()} · id ${id}` : time.toLocaleString();
  const head = element("span", "head", "");
  head.append(clock);
  if (group !== undefined) head.append(" ", element("span", "group", group));
  for (const mark of marks) head.append(" ", element("span", "mark", mark));
  const more = text.length - MAX_TEXT;
  row.append(head, " ", element("span", "text", more > 0 ? text.slice(0, MAX_TEXT) : text));
  if (more > 0) row.append(" ", element("span", "mark", `and ${more} more characters`));
  waiting.push(row);
  if (waiting.length > MAX_LINES) waiting.shift(); // animation frames do not run in a background tab
  if (waiting.length === 1) requestAnimationFrame(flush);
}

/** Adds the waiting lines to the log. If its end was in view, scrolls to the new end. */
function flush() {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  log.append(...waiting);
  waiting = [];
  while (log.childElementCount > MAX_LINES) log.firstElementChild?.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
  showCount();
}

function showCount() {
  $("empty").hidden = $("log").childElementCount > 0;
  $("count").textContent = received === 0
    ? `The last ${MAX_LINES} lines are kept here.`
    : `${received.toLocaleString("en")} ${received === 1 ? "message" : "messages"}; the last ${MAX_LINES} lines are kept here.`;
}

/**
 * @param {Date} time
 * @returns {string} the local time of day, with milliseconds
 */
function timeOfDay(time) {
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.` +
    String(time.getMilliseconds()).padStart(3, "0");
}

/**
 * Adds a message in the wire format.
 * @param {string} data
 */
function addMessage(data) {
  const m = JSON.parse(data);
  const marks = [];
  if (m.retained) marks.push("retained");
  if (m.encoding) marks.push(m.encoding);
  received++;
  addLine({
    kind: "message", time: new Date(m.time), group: m.group, marks, id: m.id,
    text: typeof m.msg === "string" ? m.msg : JSON.stringify(m.msg),
  });
}

/**
 * Adds an event about the stream. It never shows the session's secret.
 * @param {"session" | "gap" | "bye"} kind
 * @param {string} data
 */
function addEvent(kind, data) {
  const d = JSON.parse(data);
  const texts = {
    session: () => `listening as ${d.uid}, heartbeat ${d.heartbeat}`,
    gap: () => `messages to ${d.filter} after ${d.after} can no longer be delivered: ${d.reason}` +
      (d.oldest ? `; the next is ${d.oldest}` : ""),
    bye: () => `the server ended the stream: ${d.reason}`,
  };
  addLine({ kind, time: new Date(), marks: [kind], text: texts[kind]() });
}

// ---- listening

/** One subscription, from Listen to Stop. */
class Listener {
  /** @param {URL} url */
  constructor(url) {
    this.url = url;
    this.lastId = "";
    this.stopped = new AbortController();
    this.source = this.open();
  }

  /**
   * Opens the stream, after the last id if there is one.
   * @returns {EventSource}
   */
  open() {
    const url = new URL(this.url);
    if (this.lastId) url.searchParams.set("last_event_id", this.lastId);
    const source = new EventSource(url);
    source.onopen = () => {
      showError("listen-error", "");
      showState("open");
    };
    source.onerror = () => this.failed(source);
    source.onmessage = (event) => this.received(event, () => addMessage(event.data));
    for (const kind of /** @type {const} */ (["session", "gap", "bye"])) {
      source.addEventListener(kind, (event) => this.received(event, () => addEvent(kind, event.data)));
    }
    return source;
  }

  /**
   * @param {MessageEvent} event
   * @param {() => void} add
   */
  received(event, add) {
    this.lastId = event.lastEventId || this.lastId;
    add();
  }

  /** @param {EventSource} source */
  async failed(source) {
    showState("reconnecting");
    if (source.readyState !== EventSource.CLOSED) return; // EventSource reconnects by itself
    const { text, retry } = await this.probe();
    if (this.stopped.signal.aborted) return;
    showError("listen-error", text);
    if (retry === undefined) {
      stop();
      return;
    }
    this.timer = setTimeout(() => { this.source = this.open(); }, retry);
  }

  /**
   * Repeats the request by fetch, because an EventSource does not give the reason of a refusal.
   * @returns {Promise<{text: string, retry?: number}>} retry: ms until the next attempt; undefined for none
   */
  async probe() {
    const request = new AbortController(); // Safari before 17.4 has no AbortSignal.any
    const abort = () => request.abort();
    this.stopped.signal.addEventListener("abort", abort);
    try {
      const response = await fetch(this.url, {
        headers: { Accept: "text/event-stream" }, cache: "no-store", signal: request.signal,
      });
      const type = response.headers.get("Content-Type") ?? "";
      if (type.startsWith("text/event-stream")) return { text: "", retry: RETRY_MS }; // it works again
      if (response.ok) return { text: `the answer is not an event stream (${response.status} ${type})` };
      const after = Number(response.headers.get("Retry-After"));
      const retry = after > 0 ? after * 1000 : response.status >= 500 ? RETRY_MS : undefined;
      return { text: await responseError(response), retry };
    } catch {
      return { text: "the server cannot be reached", retry: RETRY_MS };
    } finally {
      this.stopped.signal.removeEventListener("abort", abort);
      abort(); // the answer may be a stream
    }
  }

  stop() {
    this.stopped.abort();
    clearTimeout(this.timer);
    this.source.close();
  }
}

/** @type {Listener | undefined} */
let listener;

function listen() {
  showError("listen-error", "");
  try {
    const url = address(group());
    showState("connecting");
    listener = new Listener(url);
  } catch (error) {
    stop();
    showError("listen-error", errorText(error));
  }
}

function stop() {
  listener?.stop();
  listener = undefined;
  showState("closed");
}

/** @param {"connecting" | "open" | "reconnecting" | "closed"} state */
function showState(state) {
  $("state").textContent = state;
  $("state").dataset.state = state;
  $("toggle").textContent = state === "closed" ? "Listen" : "Stop";
}

// ---- sending

async function send() {
  const message = /** @type {HTMLTextAreaElement} */ ($("message"));
  const sent = $("sent");
  showError("send-error", "");
  sent.textContent = "";
  try {
    const response = await fetch(address(group()), {
      method: "POST", headers: { "Content-Type": "text/plain; charset=utf-8" }, body: message.value,
    });
    if (!response.ok) throw new Error(await responseError(response));
    const receipt = await response.json();
    sent.textContent = `Sent as ${receipt.id}` + (listener ? "" : ": listen to see it arrive");
    message.value = "";
  } catch (error) {
    showError("send-error", errorText(error));
  }
  message.focus();
}

// ---- the page

/** @returns {string} the group or filter in the input */
function group() {
  return /** @type {HTMLInputElement} */ ($("group")).value;
}

/** Updates what depends on the group. */
function showGroup() {
  $("target").textContent = group() || "…";
  let url = "";
  try {
    url = address(group()).href;
  } catch {
    // Listen and Send show the error.
  }
  $("curl-listen").textContent = url && `curl -N '${url}'`;
  $("curl-send").textContent = url && `curl -d 'hello' '${url}'`;
}

/** @param {HTMLButtonElement} button */
async function copy(button) {
  const source = $(button.dataset.copy ?? "");
  let done = true;
  try {
    await navigator.clipboard.writeText(source.textContent ?? "");
  } catch {
    getSelection()?.selectAllChildren(source); // over plain HTTP, only pages on localhost have a clipboard
    done = false;
  }
  button.textContent = done ? "Copied" : "Selected";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

$("address").textContent = base.href;

$("group").addEventListener("input", () => {
  if (listener) stop();
  showError("listen-error", "");
  showError("send-error", "");
  showGroup();
});
$("listen").addEventListener("submit", (event) => {
  event.preventDefault();
  if (listener) stop();
  else listen();
});
$("send").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  /** @type {HTMLFormElement} */ ($("send")).requestSubmit();
});
$("clear").addEventListener("click", () => {
  waiting = [];
  received = 0;
  $("log").replaceChildren();
  showCount();
});
for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-copy]"))) {
  button.addEventListener("click", () => copy(button));
}
addEventListener("pagehide", stop);

showGroup();
showCount();
