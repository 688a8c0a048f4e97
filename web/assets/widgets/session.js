// One session: its streams, why they ended, a message to it, and its end.

import { ApiError, errorText, get, request } from "../lib/api.js";
import { announce, button, confirm, fill, h, iconButton, setText } from "../lib/dom.js";
import { ago, bytes, count, dateTime, plural } from "../lib/format.js";
import { hub } from "../lib/hub.js";
import { link } from "../lib/router.js";
import { lagSentence, lagText } from "../pages/listeners.js";
import { viewer } from "../lib/viewer.js";
import { pairs } from "./inspector.js";

/** @typedef {import("../pages/listeners.js").Session} Session */

export class SessionPanel {
  /** @type {string | undefined} */
  uid;
  #shown = ""; // what the figures show
  #gone = false;
  #figures = h("div", { class: "stack" });
  #request = new AbortController();

  /**
   * @param {() => void} close
   * @param {() => void} onChange called when the session was changed here
   */
  constructor(close, onChange) {
    this.close = close;
    this.onChange = onChange;
    this.element = h("section", { class: "inspector", "aria-label": "Session", hidden: true });
  }

  end() {
    this.#request.abort();
  }

  /**
   * Shows a session, or its newest state.
   * @param {string | undefined} uid undefined closes it
   * @param {Session} [session] what is known about it; without, the hub is asked
   */
  show(uid, session) {
    const isNew = uid !== this.uid;
    this.uid = uid;
    this.element.hidden = uid === undefined;
    if (uid === undefined) return this.#request.abort();
    if (isNew) this.#draw(uid);
    if (session) this.#showFigures(session);
    else if (!this.#gone) this.#load(uid);
  }

  /** @param {string} uid */
  async #load(uid) {
    this.#request.abort();
    const { signal } = this.#request = new AbortController();
    try {
      this.#showFigures(await get("v1/sessions/" + encodeURIComponent(uid), { signal }));
    } catch (error) {
      if (signal.aborted) return;
      this.#gone = error instanceof ApiError && error.status === 404;
      this.#shown = "";
      fill(this.#figures, h("p", { class: `strip ${this.#gone ? "warn" : "bad"}` }, this.#gone ? "This session is gone." : errorText(error)));
    }
  }

  /** @param {string} uid */
  #draw(uid) {
    this.#shown = "";
    this.#gone = false;
    this.#figures.replaceChildren();
    fill(this.element,
      h("div", { class: "bar spread" }, h("h2", { class: "grow cut mono", title: uid }, uid), iconButton("close", "Close (Escape)", this.close)),
      this.#figures,
      viewer.mayPublishTo("$session/" + uid) && directForm(uid),
      viewer.isAdmin && h("div", { class: "bar" }, button("Kick", () => this.#kick(uid), { class: "danger small" }), h("span", { class: "help grow" }, "Ends the session. Clients of this project then stay away; others may come back with a new session.")));
  }

  /** @param {Session} s */
  #showFigures(s) {
    const key = JSON.stringify(s);
    if (key === this.#shown) return;
    this.#shown = key;
    fill(this.#figures,
      s.uid === hub.uid && h("p", { class: "strip" }, "This is the session of the page that you look at."),
      s.lag.messages > 0 && h("p", { class: "strip warn" }, `Behind by ${lagSentence(s.lag)}: the client, or the network to it, takes less than is published.`),
      pairs([
        ["State", s.lost ? `${s.state} ${ago(new Date(s.lost))}` : "connected"],
        ["Kept", s.state === "away" ? (s.expires ? `until ${dateTime(new Date(s.expires))}` : "for ever") : undefined],
        ["Subject", s.subject], ["Client id", s.client_id], ["Address", s.address], ["Agent", s.client_id === undefined ? s.user_agent || "none" : undefined], ["Protocol", s.protocol],
        ["Position", s.position], ["Unacknowledged", s.unacknowledged === undefined ? undefined : count(s.unacknowledged)],
        ["Since", `${dateTime(new Date(s.since))} (${ago(new Date(s.since))})`], ["Streams", count(s.streams)],
        ["Sent", `${plural(s.sent.messages, "message")}, ${bytes(s.sent.bytes)}`], ["Behind", lagText(s.lag)],
      ]),
      h("h3", {}, "Filters"),
      h("ul", { class: "lines" }, ...s.filters.map((f) => h("li", {}, h("a", { class: "mono", href: link("live", { filter: f }) }, f)))),
      h("h3", {}, "Last ends of its streams"),
      s.disconnects?.length
        ? h("ul", { class: "lines" }, ...s.disconnects.map((d) => h("li", {}, h("time", {}, dateTime(new Date(d.time))), h("span", { class: "badge" }, d.reason), h("span", { class: "help" }, REASONS[d.reason] ?? ""))))
        : h("p", { class: "soft" }, "None since it began"));
  }

  /** @param {string} uid */
  async #kick(uid) {
    if (!await confirm("End this session?", uid === hub.uid ? "It is the session of this page." : `The streams of ${uid} are closed.`, "Kick")) return;
    try {
      await request("v1/sessions/" + encodeURIComponent(uid), { method: "DELETE" });
      announce("The session was ended");
      this.#load(uid);
    } catch (error) {
      announce(errorText(error), "error");
    }
    this.onChange();
  }
}

/** What the reasons of an end mean. @type {Record<string, string>} */
const REASONS = {
  closed: "the client closed the connection",
  timeout: "the network no longer took data",
  slow: "the client read too slowly",
  heartbeat: "the client sent no sign of life",
  kicked: "an administrator ended the session",
  ended: "the client ended the session",
  "token-expired": "the token has expired",
  "token-revoked": "the token was revoked",
  forbidden: "the new token does not allow the filters",
};

/** @param {string} uid */
function directForm(uid) {
  const text = h("input", { type: "text", class: "grow", "aria-label": "Message to this session", placeholder: "Message to this session, as text or JSON", required: true, autocomplete: "off" });
  const result = h("p", { class: "help", role: "status" });
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const body = text.value;
    try {
      const receipt = await get("v1/sessions/" + encodeURIComponent(uid), { method: "POST", body, headers: { "Content-Type": isJSON(body) ? "application/json" : "text/plain; charset=utf-8" } });
      setText(result, `Sent as ${receipt.id}`);
      text.value = "";
    } catch (error) {
      setText(result, errorText(error));
    }
  };
  return h("form", { class: "stack", submit }, h("div", { class: "bar" }, text, h("button", { class: "small" }, "Send")), result);
}

/** @param {string} text */
function isJSON(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
