// Groups: the tree of groups with what they hold and how busy they are.

import { encodePath, errorText, getMessages, isTemporary } from "../lib/api.js";
import { append, button, fill, fillChanged, h, icon, notice, setText, visible } from "../lib/dom.js";
import { bytes, count, plural, rate, shortCount } from "../lib/format.js";
import { Pages } from "../lib/pages.js";
import { MessageRow } from "../lib/row.js";
import { setParams } from "../lib/router.js";
import { afterPause, whileVisible } from "../lib/schedule.js";
import { GroupPanel } from "../widgets/group.js";
import { List } from "../widgets/list.js";

/**
 * A group in an answer. groups and below: how many groups the row covers, and how many of them lie below its name.
 * @typedef {{group: string, messages: number, bytes: number, rate: number, subscribers: number, retained: boolean,
 *   oldest?: string, newest?: string, groups?: number, below?: number}} Group
 */

/** A row of the list: a group, or the end of a level of which there is more. */
class Node {
  /** @type {Level | undefined} The groups below, once they were asked for. */
  level;
  isOpen = false;
  /** @type {MessageRow | undefined} */
  last;
  lastOf = ""; // the id of the newest message when last was asked for
  flashes = false;

  /** @param {Group} group @param {number} depth */
  constructor(group, depth) {
    this.group = group;
    this.depth = depth;
  }

  get canOpen() { return (this.group.below ?? 0) > 0; }
}

class More {
  /** @param {Level} level */
  constructor(level) { this.level = level; }
}

const REFRESH_EVERY = 3000;

/** The groups below a prefix, or those that a search finds. */
class Level {
  /** @type {Node[]} */
  nodes = [];
  /** @type {Pages<Group>} */
  #pages = new Pages("v1/groups", "groups", (group) => group.group);

  /** @param {Record<string, string | number>} query @param {number} depth */
  constructor(query, depth) {
    this.query = query;
    this.depth = depth;
  }

  get hasMore() { return this.#pages.hasMore; }
  get loaded() { return this.#pages.loaded; }

  /** @param {string} sort @param {AbortSignal} [signal] */
  async load(sort, signal) {
    if (!await this.#pages.load({ ...this.query, sort }, signal)) return;
    const known = new Map(this.nodes.map((node) => [node.group.group, node]));
    this.nodes = this.#pages.rows.map((group) => {
      const node = known.get(group.group);
      if (!node) return new Node(group, this.depth);
      node.flashes = node.group.newest !== group.newest;
      node.group = group;
      return node;
    });
  }

  /** @param {string} sort */
  async loadMore(sort) {
    this.#pages.more();
    await this.load(sort);
  }
}

/** @type {[sort: string, title: string, className: string][]} */
const COLUMNS = [["name", "Group", ""], ["messages", "Messages", "number"], ["bytes", "Size", "number"], ["rate", "Rate", "number"], ["subscribers", "Listeners", "number"], ["newest", "Last value", ""]];

/** @param {HTMLElement} view @param {URLSearchParams} params */
export function mount(view, params) {
  const page = new Groups(view);
  page.update(params);
  return page;
}

class Groups {
  #sort = "name";
  #top = new Level({}, 0);
  #stop = () => {};
  /** @type {unknown} */
  #error;
  #values = new LastValues(() => this.list.refresh());

  /** @param {HTMLElement} view */
  constructor(view) {
    this.search = h("input", {
      type: "search", "data-search": true, "aria-label": "Find groups", placeholder: "Find: home/ki or +/temp", autocomplete: "off", autocapitalize: "none", spellcheck: "false",
      input: afterPause(() => this.#search(), 250),
    });
    this.flat = h("input", { type: "checkbox", change: () => { setParams("groups", { list: this.flat.checked ? "flat" : undefined }); this.#restart(); } });
    this.system = h("input", { type: "checkbox", change: () => { setParams("groups", { system: this.system.checked ? "yes" : undefined }); this.#restart(); } });
    this.summary = h("p", { class: "sub" });
    this.columns = h("div", { class: "columns group-row" });
    this.panel = new GroupPanel(() => { this.list.select(undefined); this.list.element.focus(); }, () => this.#refresh());
    /** @type {List<Node | More>} */
    this.list = new List({
      label: "Groups", isTree: true, create: newRow,
      render: (row, node) => this.#render(row, node),
      onSelect: (node) => {
        if (node instanceof More) return void this.#more(node.level);
        setParams("groups", { group: node?.group.group });
        this.#showPanel(node?.group.group);
      },
      onOpen: (node) => { if (node instanceof Node) this.#toggle(node); },
      onKey: (event, node) => {
        if (!(node instanceof Node)) return;
        if (event.key === "ArrowRight" && node.canOpen && !node.isOpen || event.key === "ArrowLeft" && node.isOpen) this.#toggle(node);
      },
    });
    this.over = h("div", { class: "over" });
    this.split = h("div", { class: "split" }, h("div", { class: "list-box" }, this.columns, this.list.element, this.over), this.panel.element);
    append(view,
      h("div", { class: "head" }, h("h1", {}, "Groups"),
        h("div", { class: "bar find" }, this.search,
          h("label", { class: "check" }, this.flat, "Flat list"),
          h("label", { class: "check" }, this.system, "System")),
        this.summary),
      this.split);
  }

  /** @param {URLSearchParams} params */
  update(params) {
    const sort = params.get("sort") ?? "name";
    this.#sort = COLUMNS.some(([name]) => name === sort) ? sort : "name";
    this.search.value = params.get("q") ?? "";
    this.flat.checked = params.get("list") === "flat";
    this.system.checked = params.get("system") === "yes";
    this.#restart();
    this.#showPanel(params.get("group") ?? undefined);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "Escape") this.list.select(undefined);
  }

  end() {
    this.#stop();
    this.panel.end();
    this.list.remove();
  }

  #search() {
    setParams("groups", { q: this.search.value });
    this.#restart();
  }

  /** Begins again, with another search or order. */
  #restart() {
    this.#stop();
    this.#showColumns();
    const q = this.search.value.trim();
    const prefix = q === "" && this.system.checked ? "$" : q;
    /** @type {Record<string, string | number>} */
    const query = /[+#]/.test(q) ? { filter: q } : { prefix };
    const tree = q === "" && !this.flat.checked;
    if (tree) query.depth = 1;
    this.list.element.classList.toggle("flat", !tree);
    this.#top = new Level(query, 0);
    this.#stop = whileVisible((signal) => this.#refresh(signal), REFRESH_EVERY);
  }

  /** @param {AbortSignal} [signal] */
  async #refresh(signal) {
    const top = this.#top;
    /** @param {Level} level @returns {Promise<unknown>} */
    const load = async (level) => {
      await level.load(this.#sort, signal);
      return Promise.all(level.nodes.filter((node) => node.isOpen && node.level).map((node) => load(/** @type {Level} */ (node.level))));
    };
    try {
      await load(top);
      this.#error = undefined;
    } catch (error) {
      if (signal?.aborted) return;
      this.#error = error;
    }
    if (top === this.#top) this.#show();
  }

  #show() {
    /** @type {(Node | More)[]} */
    const items = [];
    const add = (/** @type {Level} */ level) => {
      for (const node of level.nodes) {
        items.push(node);
        if (node.isOpen && node.level) add(node.level);
      }
      if (level.hasMore) items.push(new More(level));
    };
    add(this.#top);
    this.list.items = items;
    const nodes = this.#top.nodes;
    const groups = nodes.reduce((n, { group }) => n + (group.groups ?? 1), 0);
    const sum = (/** @type {"messages" | "bytes" | "rate"} */ key) => nodes.reduce((n, { group }) => n + group[key], 0);
    setText(this.summary, this.#error ? "" : `${this.#top.hasMore ? `The first ${count(groups)} groups: ` : `${plural(groups, "group")} · `}${plural(sum("messages"), "message")} · ${bytes(sum("bytes"))} · ${rate(sum("rate"))}`);
    this.over.hidden = items.length > 0 && !this.#error;
    if (this.over.hidden) return;
    if (this.#error) fillChanged(this.over, notice("error", "The groups cannot be shown", h("p", {}, errorText(this.#error)), button("Try again", () => this.#refresh())));
    else if (!this.#top.loaded) fill(this.over, notice("loading", "Loading"));
    else if (this.search.value) fill(this.over, notice("empty", "No group matches", h("p", {}, "Groups exist while they hold messages. Without + and #, the search is for the beginning of the name.")));
    else fill(this.over, notice("empty", "No groups yet", h("p", {}, "A group exists as soon as something is published to it.")));
  }

  /** @param {Node} node */
  async #toggle(node) {
    if (!node.canOpen) return;
    node.isOpen = !node.isOpen;
    if (node.isOpen && !node.level) {
      node.level = new Level({ prefix: node.group.group + "/", depth: 1 }, node.depth + 1);
      try {
        await node.level.load(this.#sort);
      } catch (error) {
        this.#error = error;
      }
    }
    this.#show();
  }

  /** @param {Level} level */
  async #more(level) {
    try {
      await level.loadMore(this.#sort);
    } catch (error) {
      this.#error = error;
    }
    this.#show();
  }

  /** @param {string | undefined} group */
  #showPanel(group) {
    this.panel.show(group);
    this.split.classList.toggle("inspecting", group !== undefined);
  }

  #showColumns() {
    fill(this.columns, ...COLUMNS.map(([sort, title, className]) => h("button", {
      type: "button", class: className, "aria-pressed": String(sort === this.#sort), title: `Sort by ${sort === "newest" ? "time of the last message" : title.toLowerCase()}`,
      click: () => { this.#sort = sort; setParams("groups", { sort: sort === "name" ? undefined : sort }); this.#restart(); },
    }, title, sort === this.#sort ? " ↓" : "")));
  }

  /** @param {HTMLElement} row @param {Node | More} node */
  #render(row, node) {
    const [name, messages, size, speed, listeners, value] = /** @type {HTMLElement[]} */ ([...row.children]);
    if (node instanceof More) {
      fill(name, `Show more (${count(node.level.nodes.length)} so far)`);
      for (const cell of [messages, size, speed, listeners, value]) setText(cell, "");
      delete messages.dataset.unit;
      delete listeners.dataset.unit;
      listeners.title = "";
      return;
    }
    const { group } = node;
    const text = node.depth > 0 ? group.group.slice(group.group.lastIndexOf("/") + 1) : group.group;
    row.title = visible(group.group);
    row.setAttribute("aria-level", String(node.depth + 1));
    if (node.canOpen) row.setAttribute("aria-expanded", String(node.isOpen));
    else row.removeAttribute("aria-expanded");
    fill(name,
      h("span", { class: `indent-${Math.min(node.depth, 8)}` }),
      node.canOpen
        ? h("span", { class: `expand${node.isOpen ? " open" : ""}`, click: (/** @type {Event} */ event) => { event.stopPropagation(); this.#toggle(node); } }, icon("right"))
        : h("span", { class: "expand" }),
      h("span", { class: "cut" }, text),
      (group.below ?? 0) > 0 && h("span", { class: "badge" }, count(group.below ?? 0)),
      group.retained && h("span", { class: "badge info", title: "has a retained message" }, "R"));
    setText(messages, shortCount(group.messages));
    messages.dataset.unit = group.messages === 1 ? "message" : "messages"; // shown on a phone
    listeners.dataset.unit = group.subscribers === 1 ? "listener" : "listeners";
    setText(size, bytes(group.bytes));
    setText(speed, rate(group.rate));
    speed.classList.toggle("soft", group.rate === 0);
    setText(listeners, count(group.subscribers));
    listeners.title = (group.groups ?? 1) > 1 ? `added up over ${plural(group.groups ?? 1, "group")}` : "";
    setText(value, this.#values.of(node));
    if (node.flashes) {
      node.flashes = false;
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) row.animate([{ backgroundColor: "color-mix(in srgb, var(--main) 30%, transparent)" }, {}], 900);
    }
  }
}

/** Asks for the last messages of the groups in view, two at a time. */
class LastValues {
  /** @type {Node[]} */
  #waiting = [];
  #running = 0;

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
  }

  /** @param {Node} node */
  of(node) {
    const { group } = node;
    const isLeaf = (group.below ?? 0) === 0;
    if (isLeaf && group.newest && group.newest !== node.lastOf && !this.#waiting.includes(node)) {
      this.#waiting.push(node);
      if (this.#waiting.length > 60) this.#waiting.shift();
      this.#next();
    }
    return isLeaf ? node.last?.preview ?? "" : "";
  }

  async #next() {
    const node = this.#running < 2 && !document.hidden ? this.#waiting.pop() : undefined;
    if (!node) return;
    this.#running++;
    node.lastOf = node.group.newest ?? "";
    try {
      const { messages } = await getMessages("v1/history/" + encodePath(node.group.group), { query: { last: 1 } });
      if (messages.length > 0) node.last = new MessageRow(messages[0]);
      this.onChange();
    } catch (error) {
      if (isTemporary(error)) node.lastOf = ""; // the next answer about the groups asks again
    } finally {
      this.#running--;
      this.#next();
    }
  }
}

function newRow() {
  return h("div", { class: "group-row" }, h("span", { class: "name" }), h("span", { class: "number" }), h("span", { class: "number" }), h("span", { class: "number" }), h("span", { class: "number" }), h("span", { class: "cut mono value" }));
}
