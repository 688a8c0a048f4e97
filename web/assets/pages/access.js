// Access: API tokens, revocations, and why something is allowed or denied.

import { ApiError, errorText, get, isTemporary, request } from "../lib/api.js";
import { announce, append, button, confirm, copy, field, fill, fillChanged, h, notice, select, setText } from "../lib/dom.js";
import { dateTime } from "../lib/format.js";
import { setParams } from "../lib/router.js";
import { retry } from "../lib/schedule.js";
import { viewer } from "../lib/viewer.js";
import { pairs } from "../widgets/inspector.js";

/** @typedef {{name: string, subscribe?: string[], publish?: string[], admin?: boolean, created: string, expires?: string}} Token */

/** @param {HTMLElement} view @param {URLSearchParams} params */
export function mount(view, params) {
  const tokens = viewer.isAdmin ? new Tokens() : undefined;
  append(view, h("div", { class: "head" }, h("h1", {}, "Access")),
    h("div", { class: "body columns-2" },
      h("div", { class: "stack" }, explainPanel(params), ownPanel()),
      h("div", { class: "stack" }, tokens?.element, viewer.isAdmin && revocationPanel())));
  return { end: () => tokens?.end() };
}

// ---- why is this denied

/** @param {URLSearchParams} params */
function explainPanel(params) {
  const whose = select([["", "My own token"], ["token", "A token that I have"], ...viewer.isAdmin ? /** @type {[string, string][]} */ ([["name", "An API token, by its name"], ["grant", "A grant, written out"], ["anonymous", "A caller without a token"]]) : []], { value: params.get("whose") ?? "" });
  const token = h("input", { type: "password", autocomplete: "off" });
  const name = h("input", { type: "text", autocomplete: "off", value: params.get("name") ?? "" });
  const grant = h("textarea", { rows: 3, spellcheck: "false", value: '{"sub":"anna","subscribe":["home/#"],"publish":[],"admin":false}' });
  const action = select([["subscribe", "Subscribe to a filter"], ["publish", "Publish to a group"], ["admin", "Administer"]], { value: params.get("action") ?? "subscribe" });
  const target = h("input", { type: "text", class: "mono", autocomplete: "off", spellcheck: "false", value: params.get("target") ?? "" });
  const result = h("div", { class: "stack", role: "status" });
  const fields = { token: field("Token", token, "It is sent to this hub only, and not kept."), name: field("Name of the API token", name), grant: field("Grant, as the claim watchbox of a JWT", grant) };
  const targetField = field("Filter or group", target);
  const show = () => {
    for (const [key, element] of Object.entries(fields)) element.hidden = whose.value !== key;
    targetField.hidden = action.value === "admin";
    target.required = !targetField.hidden;
  };
  whose.addEventListener("change", show);
  action.addEventListener("change", show);
  show();
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setParams("access", { whose: whose.value, name: whose.value === "name" ? name.value : undefined, action: action.value, target: target.value });
    const query = {
      action: action.value,
      filter: action.value === "subscribe" ? target.value : undefined, group: action.value === "publish" ? target.value : undefined,
      token: whose.value === "name" ? name.value : undefined, grant: whose.value === "grant" ? grant.value : undefined, anonymous: whose.value === "anonymous" ? true : undefined,
    };
    /** @type {Record<string, string>} */
    const headers = whose.value === "token" ? { "Watchbox-Explain": token.value.trim() } : {};
    try {
      fill(result, explanation(await get("v1/explain", { query, headers })));
    } catch (error) {
      fill(result, h("p", { class: "strip bad" }, errorText(error)));
    }
  };
  return h("form", { class: "panel stack", submit }, h("h2", {}, "Why is this denied?"),
    h("div", { class: "fields" }, field("Whose", whose), field("What", action)),
    fields.token, fields.name, fields.grant, targetField,
    h("div", { class: "bar" }, h("button", { class: "main" }, "Explain")), result);
}

/** @param {any} answer */
function explanation(answer) {
  return h("div", { class: "stack" },
    h("p", { class: `strip ${answer.allowed ? "good" : "bad"}` }, h("strong", {}, answer.allowed ? "Allowed: " : "Denied: "), answer.reason),
    grantPairs(answer, [["Rule", answer.rule], ["The request gets", answer.code]]));
}

/** @param {any} grant @param {[string, string | undefined][]} [first] */
function grantPairs(grant, first = []) {
  return pairs([...first,
    ["Subject", grant.anonymous ? "none: without a token" : grant.subject],
    ["May subscribe to", list(grant.subscribe)], ["May publish to", list(grant.publish)], ["Admin", grant.admin ? "yes" : "no"],
    ["Expires", grant.expires && dateTime(new Date(grant.expires))]]);
}

/** @param {string[] | undefined} filters */
function list(filters = []) {
  return filters.length === 0 ? "nothing" : h("span", {}, ...filters.map((f) => h("code", { class: "badge" }, f)));
}

function ownPanel() {
  return h("section", { class: "panel stack", "aria-label": "My grant" }, h("h2", {}, "What I may do"), grantPairs(viewer.grant));
}

// ---- API tokens

class Tokens {
  #body = h("div", { class: "stack" });
  #stopRetry = () => {};

  constructor() {
    this.element = h("section", { class: "panel stack", "aria-label": "API tokens" }, h("h2", {}, "API tokens"), this.#body);
    this.#load();
  }

  end() { this.#stopRetry(); }

  async #load() {
    this.#stopRetry();
    if (!await this.#ask()) this.#stopRetry = retry(() => this.#ask());
  }

  /** @returns {Promise<boolean>} whether the hub has answered */
  async #ask() {
    const load = () => this.#load();
    try {
      const { tokens } = await get("v1/tokens");
      fill(this.#body, tokenTable(tokens, load), createForm(load));
      return true;
    } catch (error) {
      const off = error instanceof ApiError && error.status === 404;
      fillChanged(this.#body, off ? h("p", { class: "soft" }, "This hub has no token file. Start it with --token-file FILE, and create the first token by watchbox token create.") : notice("error", "The tokens cannot be shown", h("p", {}, errorText(error)), button("Try again", load)));
      return !isTemporary(error);
    }
  }
}

/** @param {Token[]} tokens @param {() => void} reload */
function tokenTable(tokens, reload) {
  if (tokens.length === 0) return h("p", { class: "soft" }, "None");
  const revoke = async (/** @type {string} */ name) => {
    if (!await confirm("Revoke this token?", `Requests with the token ${name} are refused from then on, and its streams end.`, "Revoke")) return;
    try {
      await request("v1/tokens/" + encodeURIComponent(name), { method: "DELETE" });
      announce("Revoked");
    } catch (error) {
      announce(errorText(error), "error");
    }
    reload();
  };
  return h("div", { class: "table tokens" }, h("table", {},
    h("thead", {}, h("tr", {}, ...["Name", "Subscribe", "Publish", "Expires", ""].map((t) => h("th", { scope: "col" }, t || h("span", { class: "off-screen" }, "Revoke"))))),
    h("tbody", {}, ...tokens.map((t) => h("tr", {},
      h("td", {}, t.name, " ", t.admin && h("span", { class: "badge warn" }, "admin")), h("td", { "data-label": "Subscribe" }, list(t.subscribe)), h("td", { "data-label": "Publish" }, list(t.publish)),
      h("td", { "data-label": "Expires" }, t.expires ? dateTime(new Date(t.expires)) : "never"),
      h("td", { class: "number" }, button("Revoke", () => revoke(t.name), { class: "small danger", "aria-label": `Revoke ${t.name}` })))))));
}

/** @param {() => void} reload */
function createForm(reload) {
  const text = (/** @type {string} */ placeholder) => h("input", { type: "text", class: "mono", autocomplete: "off", spellcheck: "false", placeholder });
  const name = text("phone");
  name.required = true;
  const subscribe = text("home/# public/#");
  const publish = text("home/phone");
  const expires = text("never, or 720h");
  const admin = h("input", { type: "checkbox" });
  const error = h("p", { class: "error-text", role: "alert" });
  const made = h("div", { class: "stack", role: "status" });
  const filters = (/** @type {HTMLInputElement} */ input) => input.value.split(/\s+/).filter(Boolean);
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setText(error, "");
    try {
      const answer = await get("v1/tokens", { method: "POST", json: { name: name.value.trim(), subscribe: filters(subscribe), publish: filters(publish), admin: admin.checked, ...expires.value.trim() && { expires: expires.value.trim() } } });
      fill(made, h("p", { class: "strip" }, "This is the token. It is shown once: the hub keeps only its hash."),
        h("div", { class: "bar" }, h("code", { class: "code grow" }, answer.token), button("Copy", (e) => copy(answer.token, /** @type {HTMLElement} */ (e.currentTarget)), { icon: "copy" }), button("Done", reload)));
    } catch (e) {
      setText(error, errorText(e));
    }
  };
  return h("form", { class: "stack", submit }, h("h3", {}, "New token"),
    h("div", { class: "fields" }, field("Name", name), field("Expires after", expires), field("May subscribe to", subscribe), field("May publish to", publish)),
    h("label", { class: "check" }, admin, "Admin: sessions, policies, purges, tokens, metrics"), error,
    h("div", { class: "bar" }, h("button", {}, "Create")), made);
}

// ---- JWTs

function revocationPanel() {
  const kind = select([["jti", "One token, by its id (jti)"], ["sub", "All tokens of a subject, issued before now"]]);
  const value = h("input", { type: "text", required: true, autocomplete: "off" });
  const result = h("p", { class: "help", role: "status" });
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await request("v1/revocations", { method: "POST", json: kind.value === "jti" ? { jti: value.value } : { sub: value.value, before: new Date().toISOString() } });
      setText(result, `Revoked. Open streams with such a token end now.`);
      value.value = "";
    } catch (error) {
      setText(result, errorText(error));
    }
  };
  return h("form", { class: "panel stack", submit }, h("h2", {}, "Revoke JWTs"), h("div", { class: "fields" }, field("Which", kind), field("Id or subject", value)), h("div", { class: "bar" }, h("button", { class: "danger" }, "Revoke")), result);
}
