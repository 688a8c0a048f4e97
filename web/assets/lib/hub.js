// The page's one stream. Everything live on any page comes through this client.

import { Watchbox, WatchboxError } from "../../watchbox.js";
import { ApiError, base } from "./api.js";

/** @typedef {import("../../watchbox.d.ts").Message} Message */
/** @typedef {import("../../watchbox.d.ts").Gap} Gap */
/** @typedef {import("../../watchbox.d.ts").State} State */

/** @typedef {{filter: string, callback: (message: Message) => void}} Subscription */

/**
 * The connection to the hub. Events: change (of the state), gap (a CustomEvent<Gap>), resumed, and replaced.
 *
 * A Watchbox that is closed for good, such as by an expired login, or that has the session of another subject, is replaced
 * by open. All subscriptions end then, because the viewer may have other rights and messages may have been missed: their
 * owners begin again at the event replaced.
 */
class Connection extends EventTarget {
  /** @type {State} */
  state = "idle";
  /** @type {WatchboxError | undefined} Why it is waiting or closed. */
  error;
  /** When the next attempt is made, in ms since 1970. */
  retryAt = 0;
  /** @type {Set<Subscription>} */
  #subscriptions = new Set();
  /** Ends the listeners of the client. */
  #listening = new AbortController();
  #client = this.#newClient();

  get uid() { return this.#client.uid; }

  /**
   * Subscribes until the returned function is called. Fails if the hub refuses the filter. A filter that the viewer may
   * not read would end the whole stream while it is opened, so check that before (checkReadable).
   * @param {string} filter
   * @param {(message: Message) => void} callback
   * @returns {Promise<() => void>}
   */
  async join(filter, callback) {
    if (this.#client.state === "closed") this.open();
    const subscription = { filter, callback };
    this.#subscriptions.add(subscription);
    try {
      await this.#client.join(filter, callback);
    } catch (error) {
      this.#subscriptions.delete(subscription);
      throw error instanceof WatchboxError ? new ApiError(error.message.replace(/^watchbox: /, ""), { status: error.status, code: error.code }) : error;
    }
    return () => {
      if (this.#subscriptions.delete(subscription)) this.#client.leave(filter, callback);
    };
  }

  /** Replaces the client by one with a new session. */
  open() {
    this.#subscriptions.clear();
    this.#listening.abort();
    this.#client.close(); // does nothing if it is closed
    this.#client = this.#newClient();
    this.#setState("idle");
    this.dispatchEvent(new Event("replaced"));
  }

  /** Ends the stream and its session, such as before a logout. */
  async close() {
    await this.#client.close();
  }

  #newClient() {
    const client = new Watchbox(base, { name: "dashboard" });
    const { signal } = this.#listening = new AbortController();
    client.addEventListener("state", ({ detail: { state, error, delay } }) => this.#setState(state, error, delay), { signal });
    client.addEventListener("gap", (event) => this.dispatchEvent(new CustomEvent("gap", { detail: event.detail })), { signal });
    client.addEventListener("reconnect", () => this.dispatchEvent(new Event("resumed")), { signal });
    return client;
  }

  /**
   * @param {State} state
   * @param {WatchboxError} [error]
   * @param {number} [delay] until the next attempt, in ms
   */
  #setState(state, error, delay = 0) {
    this.state = state;
    this.error = error;
    this.retryAt = Date.now() + delay;
    this.dispatchEvent(new Event("change"));
  }
}

export const hub = new Connection();
