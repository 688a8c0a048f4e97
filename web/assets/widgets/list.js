// A list of any length, of which only the visible rows exist. Rows are reused while it scrolls.

import { h } from "../lib/dom.js";

/** How many rows exist beyond each edge, so that scrolling does not show blank ones. */
const MARGIN = 4;

/**
 * @template T
 * @typedef {object} ListOptions
 * @property {string} label
 * @property {boolean} [isTree] whether the rows are a tree; render then sets aria-level and aria-expanded
 * @property {() => HTMLElement} create returns an empty row
 * @property {(row: HTMLElement, item: T) => void} render fills a row, which may show another item so far
 * @property {(item: T | undefined) => void} [onSelect] the chosen item has changed
 * @property {(item: T) => void} [onOpen] Enter or a double click
 * @property {(event: KeyboardEvent, item: T) => void} [onKey] other keys, on the chosen item
 * @property {(atEnd: boolean) => void} [onScroll] the user has scrolled
 */

/** @template T */
export class List {
  /** @type {T[]} */
  #items = [];
  /** @type {T | undefined} */
  #selected;
  /** @type {Map<number, HTMLElement>} The rows by their index. */
  #rows = new Map();
  /** @type {WeakMap<HTMLElement, T>} What the rows show, which may not be among the items any more until the next frame. */
  #shown = new WeakMap();
  /** @type {HTMLElement[]} Rows that are not in use. */
  #spare = [];
  #size = h("div", { class: "list-size", role: "presentation" });
  #rowHeight = 0;
  #frame = 0;
  #scrollTo = NaN; // where the list itself has scrolled to
  #watch;
  /** How many rows were filled, for tests. */
  work = 0;

  /** @param {ListOptions<T>} options */
  constructor(options) {
    this.options = options;
    this.element = h("div", {
      class: "list", role: options.isTree ? "tree" : "listbox", tabindex: 0, "aria-label": options.label,
      scroll: () => this.#onScroll(), keydown: (event) => this.#onKey(event),
      click: (event) => this.#choose(event), dblclick: (event) => { if (this.#choose(event) !== undefined) this.#open(); },
    }, this.#size);
    this.#watch = new ResizeObserver(() => this.#measure());
    this.#watch.observe(this.element);
  }

  get selected() { return this.#selected; }
  get items() { return this.#items; }

  /** Whether the end of the list is in view. */
  get atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < 4;
  }

  /** @param {T[]} items an array that the owner may change before it calls refresh */
  set items(items) {
    this.#items = items;
    this.refresh();
  }

  /** Draws the list again in the next frame. */
  refresh() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw(true);
    });
  }

  /**
   * Scrolls to the end.
   */
  toEnd() {
    this.#layOut();
    this.#scroll(this.element.scrollHeight);
  }

  /**
   * Moves the view by rows, because that many were removed before it.
   * @param {number} rows
   */
  shift(rows) {
    this.#scroll(Math.max(0, this.element.scrollTop - rows * this.#rowHeight));
  }

  /** @param {T | undefined} item */
  select(item) {
    if (item === this.#selected) return;
    this.#selected = item;
    this.refresh();
    this.options.onSelect?.(item);
  }

  /** Ends the list. */
  remove() {
    cancelAnimationFrame(this.#frame);
    this.#watch.disconnect();
    this.element.remove();
  }

  #measure() {
    this.#rowHeight = parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 28;
    this.refresh();
  }

  /** @param {number} top */
  #scroll(top) {
    this.element.scrollTop = top;
    this.#scrollTo = this.element.scrollTop;
  }

  #layOut() {
    this.#size.style.height = `${this.#items.length * this.#rowHeight}px`;
  }

  #onScroll() {
    const own = Math.abs(this.element.scrollTop - this.#scrollTo) < 2;
    this.#scrollTo = NaN;
    if (!own) this.options.onScroll?.(this.atEnd);
    this.#draw(false);
  }

  /** @param {boolean} changed whether visible rows may show something else now */
  #draw(changed) {
    if (!this.#rowHeight) return;
    if (changed) this.#layOut();
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / this.#rowHeight) - MARGIN);
    const end = Math.min(this.#items.length, Math.ceil((scrollTop + clientHeight) / this.#rowHeight) + MARGIN);
    for (const [index, row] of this.#rows) {
      if (index >= first && index < end) continue;
      this.#rows.delete(index);
      this.#spare.push(row);
    }
    for (let index = first; index < end; index++) {
      const old = this.#rows.get(index);
      if (old && !changed) continue;
      const row = old ?? this.#takeRow(index);
      this.#fill(row, index);
    }
    for (const row of this.#spare) row.hidden = true;
    const at = this.#selected === undefined ? -1 : this.#items.indexOf(this.#selected);
    const chosen = this.#rows.get(at);
    if (chosen) this.element.setAttribute("aria-activedescendant", chosen.id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /** @param {number} index */
  #takeRow(index) {
    const row = this.#spare.pop() ?? this.#newRow();
    row.hidden = false;
    row.style.transform = `translateY(${index * this.#rowHeight}px)`;
    this.#rows.set(index, row);
    return row;
  }

  #newRow() {
    const row = this.options.create();
    row.classList.add("list-row");
    row.setAttribute("role", this.options.isTree ? "treeitem" : "option");
    row.id = `row-${++lastRow}`;
    this.#size.append(row);
    return row;
  }

  /**
   * @param {HTMLElement} row
   * @param {number} index
   */
  #fill(row, index) {
    const item = this.#items[index];
    row.style.transform = `translateY(${index * this.#rowHeight}px)`;
    row.dataset.index = String(index);
    row.setAttribute("aria-posinset", String(index + 1));
    row.setAttribute("aria-setsize", String(this.#items.length));
    row.setAttribute("aria-selected", String(item === this.#selected));
    this.options.render(row, item);
    this.#shown.set(row, item);
    this.work++;
  }

  /** @param {MouseEvent} event */
  #choose(event) {
    const row = /** @type {Element} */ (event.target).closest(".list-row");
    const item = row instanceof HTMLElement ? this.#shown.get(row) : undefined;
    if (item !== undefined) this.select(item);
    return item;
  }

  #open() {
    if (this.#selected !== undefined) this.options.onOpen?.(this.#selected);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.element) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / (this.#rowHeight || 1)) - 1);
    const at = this.#selected === undefined ? -1 : this.#items.indexOf(this.#selected);
    /** @type {Record<string, number>} */
    const moves = {
      ArrowDown: at + 1, ArrowUp: at < 0 ? this.#items.length - 1 : at - 1, PageDown: at + page, PageUp: at - page,
      Home: 0, End: this.#items.length - 1,
    };
    if (event.key in moves) {
      event.preventDefault();
      this.#moveTo(moves[event.key]);
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.#open();
    } else if (this.#selected !== undefined) this.options.onKey?.(event, this.#selected);
  }

  /** @param {number} index */
  #moveTo(index) {
    if (this.#items.length === 0) return;
    index = Math.min(Math.max(index, 0), this.#items.length - 1);
    const top = index * this.#rowHeight;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + this.#rowHeight > scrollTop + clientHeight) this.element.scrollTop = top + this.#rowHeight - clientHeight;
    this.select(this.#items[index]);
  }
}

let lastRow = 0;
