// Long lists, which the hub gives in pages.

import { get } from "./api.js";

/** How many rows are asked for at first. */
const FIRST_ROWS = 200;

/** How many rows a request asks for at most, and how many more each call of more wants. */
const PAGE = 1000;

/**
 * The first rows of a list, as many as are wanted.
 * @template T
 */
export class Pages {
  /** @type {T[]} */
  rows = [];
  hasMore = false;
  loaded = false;
  #wanted = FIRST_ROWS;
  #turn = 0;

  /** @param {string} path @param {string} member the member of an answer that has the rows @param {(row: T) => string} key */
  constructor(path, member, key) {
    this.path = path;
    this.member = member;
    this.key = key;
  }

  /** From now on, load asks for more rows than there are. */
  more() {
    this.#wanted = this.rows.length + PAGE;
  }

  /**
   * Asks for all rows that are wanted. If it is called again meanwhile, only the last call changes the rows: it knows what
   * is wanted now.
   * @param {Record<string, string | number>} query
   * @param {AbortSignal} [signal]
   * @returns {Promise<boolean>} whether the rows were changed
   */
  async load(query, signal) {
    const turn = ++this.#turn;
    /** @type {Map<string, T>} A row may move to another page between two answers. */
    const rows = new Map();
    let after = "";
    let missing = this.#wanted;
    do {
      const page = await get(this.path, { query: { ...query, limit: Math.min(missing, PAGE), after }, signal });
      if (turn !== this.#turn) return false;
      for (const row of page[this.member]) rows.set(this.key(row), row);
      missing -= page[this.member].length;
      after = page.next ?? "";
    } while (after && missing > 0);
    this.rows = [...rows.values()];
    this.hasMore = after !== "";
    this.loaded = true;
    return true;
  }
}
