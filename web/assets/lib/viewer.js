// Who looks at the page, and what the grant allows.

import { ApiError, base, errorText, get, isTemporary, request } from "./api.js";
import { hub } from "./hub.js";
import { filterMatches } from "./filter.js";
import { retry } from "./schedule.js";

/**
 * @typedef {object} Grant
 * @property {string[]} subscribe
 * @property {string[]} publish
 * @property {boolean} admin
 * @property {string} [subject]
 * @property {boolean} [anonymous]
 * @property {string} [expires]
 */

/** Tells the other tabs of a login or a logout, which concern them, too: tabs share their cookies. */
const otherTabs = new BroadcastChannel("watchbox login " + base);

/** Events: change. */
class Viewer extends EventTarget {
  /** @type {Grant} */
  grant = { subscribe: [], publish: [], admin: false };
  /** @type {"loading" | "known" | "login" | "error"} login: the hub wants a token */
  state = "loading";
  /** @type {unknown} */
  error;
  #stopRetry = () => {};

  constructor() {
    super();
    otherTabs.onmessage = ({ data }) => data === "logout" ? this.#forget() : this.load();
  }

  get isAdmin() { return this.grant.admin; }

  /** Whether the hub knows who this is, so that a logout makes sense. */
  get hasToken() { return this.grant.subject !== undefined && !this.grant.anonymous; }

  /** Whether the hub distinguishes callers: without authentication everyone may do everything. */
  get needsTokens() { return this.hasToken || this.grant.anonymous === true; }

  /** Whether anything may be published. */
  get mayPublish() { return this.grant.publish.length > 0; }

  /** @param {string} group */
  mayPublishTo(group) {
    if (!this.needsTokens) return true;
    return this.grant.publish.some((filter) => filterMatches(filter, group));
  }

  /** What Live shows if nothing else is asked for. */
  get defaultFilters() {
    const { subscribe } = this.grant;
    return subscribe.length === 0 ? ["#"] : subscribe.filter((filter) => !filter.includes("{") && !filter.startsWith("$")).slice(0, 8);
  }

  /** Asks what the grant is, until the hub answers. */
  async load() {
    this.#stopRetry();
    if (!await this.#ask()) this.#stopRetry = retry(() => this.#ask());
  }

  /** @returns {Promise<boolean>} whether the hub has answered */
  async #ask() {
    try {
      this.grant = await get("v1/explain", { query: { action: "admin" } });
      this.#become("known");
      return true;
    } catch (error) {
      const later = isTemporary(error);
      if (later && this.state !== "known") this.#become("error", error); // a grant that is known stays
      if (!later) this.#become(error instanceof ApiError && error.status === 401 ? "login" : "error", error);
      return !later;
    }
  }

  /**
   * @param {Viewer["state"]} state
   * @param {unknown} [error]
   */
  #become(state, error) {
    const isSame = state === "error" && this.state === state && errorText(this.error) === errorText(error);
    this.state = state;
    this.error = error;
    if (!isSame) this.dispatchEvent(new Event("change"));
  }

  /**
   * Puts a token into a cookie that scripts cannot read.
   * @param {string} token
   */
  async login(token) {
    if (!/^[\x21-\x7e]+$/.test(token)) throw new ApiError("a token has no spaces and only ASCII characters");
    await request("v1/login", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
    otherTabs.postMessage("login");
    await this.load();
    if (hub.state === "closed") hub.open();
  }

  async logout() {
    await hub.close();
    try {
      await request("v1/login", { method: "DELETE" });
    } catch (error) {
      hub.open();
      throw error;
    }
    otherTabs.postMessage("logout");
    location.reload(); // so that nothing of what was shown stays
  }

  async #forget() {
    await hub.close();
    location.reload();
  }
}

export const viewer = new Viewer();
