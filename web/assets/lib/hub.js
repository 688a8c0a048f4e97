// The page's one stream. Everything live on any page comes through this client.

import { Watchbox, WatchboxError } from "../../watchbox.js";
import { ApiError, base } from "./api.js";

/** @typedef {import("../../watchbox.d.ts").Message} Message */
/** @typedef {import("../../watchbox.d.ts").Gap} Gap */
/** @typedef {import("../../watchbox.d.ts").State} State */

/** A subscription that survives a new login. @typedef {{filter: string, callback: (message: Message) => void}} Subscription */

/**
 * The connection to the hub. Events: change (of the state), gap (a CustomEvent<Gap>) and resumed.
 *
 * A Watchbox that is closed for good, such as by an expired login, is replaced by open, and all subscriptions go on
 * with the new one.
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
    const subscription = { filter, callback };
    this.#subscriptions.add(subscription);
    if (this.#client.state === "closed") this.open();
    else {
      try {
        await this.#client.join(filter, callback);
      } catch (error) {
        this.#subscriptions.delete(subscription);
        throw error instanceof WatchboxError ? new ApiError(error.message.replace(/^watchbox: /, ""), { status: error.status, code: error.code }) : error;
      }
    }
    return () => {
      if (this.#subscriptions.delete(subscription)) this.#client.leave(filter, callback);
    };
  }

  /** Replaces a client that is closed for good. */
  open() {
    this.#client = this.#newClient();
    for (const { filter, callback } of this.#subscriptions) {
      this.#client.join(filter, callback).catch(() => {}); // the state shows why
    }
  }

  /** Ends the stream and its session, such as before a logout. The subscriptions stay for the next open. */
  async close() {
    await this.#client.close();
  }

  #newClient() {
    const client = new Watchbox(base, { name: "dashboard" });
    client.addEventListener("state", ({ detail: { state, error, delay = 0 } }) => {
      if (client !== this.#client) return;
      this.state = state;
      this.error = error;
      this.retryAt = Date.now() + delay;
      this.dispatchEvent(new Event("change"));
    });
    client.addEventListener("gap", (event) => this.dispatchEvent(new CustomEvent("gap", { detail: event.detail })));
    client.addEventListener("reconnect", () => this.dispatchEvent(new Event("resumed")));
    return client;
  }
}

export const hub = new Connection();
