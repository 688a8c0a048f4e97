// JSON and differences as text with colours.

import { h } from "../lib/dom.js";

/** How many lines are shown. */
const MAX_LINES = 2000;

/**
 * Returns JSON as indented text, where numbers are buttons if onNumber is given.
 * @param {unknown} value
 * @param {(path: string[]) => void} [onNumber]
 * @returns {HTMLElement}
 */
export function prettyJSON(value, onNumber) {
  const pre = h("pre", { class: "code", tabindex: 0, "aria-label": "Payload" });
  const writer = new Writer(onNumber);
  writer.write(value, [], "");
  pre.append(...writer.parts);
  return pre;
}

class Writer {
  /** @type {(Node | string)[]} */
  parts = [];
  lines = 0;

  /** @param {((path: string[]) => void) | undefined} onNumber */
  constructor(onNumber) {
    this.onNumber = onNumber;
  }

  /**
   * @param {unknown} value
   * @param {string[]} path
   * @param {string} indent
   */
  write(value, path, indent) {
    if (this.lines > MAX_LINES) return;
    if (typeof value === "object" && value !== null) return this.#writeObject(value, path, indent);
    const text = JSON.stringify(value);
    if (typeof value === "number") this.parts.push(this.#number(text, path));
    else this.parts.push(h("span", { class: typeof value === "string" ? "string" : "word" }, text));
  }

  /**
   * @param {string} text
   * @param {string[]} path
   */
  #number(text, path) {
    const { onNumber } = this;
    if (!onNumber) return h("span", { class: "plot" }, text);
    return h("button", { type: "button", class: "plot", title: "Plot over time", "aria-label": `Plot ${path.join(".") || "the number"}: ${text}`, click: () => onNumber(path) }, text);
  }

  /**
   * @param {object} value
   * @param {string[]} path
   * @param {string} indent
   */
  #writeObject(value, path, indent) {
    const isArray = Array.isArray(value);
    const entries = Object.entries(value);
    const [open, close] = isArray ? "[]" : "{}";
    if (entries.length === 0) return void this.parts.push(open + close);
    this.parts.push(open);
    const inner = indent + "  ";
    for (const [i, [key, member]] of entries.entries()) {
      if (++this.lines > MAX_LINES) {
        this.parts.push(`\n${inner}… cut after ${MAX_LINES} lines`);
        return;
      }
      this.parts.push(`${i ? "," : ""}\n${inner}`);
      if (!isArray) this.parts.push(h("span", { class: "key" }, JSON.stringify(key)), ": ");
      this.write(member, [...path, key], inner);
    }
    this.parts.push(`\n${indent}${close}`);
  }
}

/**
 * Returns the difference of two texts by lines.
 * @param {string} before
 * @param {string} after
 */
export function difference(before, after) {
  const pre = h("pre", { class: "code", tabindex: 0, "aria-label": "Difference" });
  const a = before.split("\n").slice(0, MAX_LINES);
  const b = after.split("\n").slice(0, MAX_LINES);
  for (const [sign, line] of diffLines(a, b)) {
    pre.append(h("span", { class: sign === "-" ? "gone" : sign === "+" ? "new" : undefined }, `${sign} ${line}\n`));
  }
  return pre;
}

/**
 * @param {string[]} a
 * @param {string[]} b
 * @returns {[sign: string, line: string][]}
 */
function diffLines(a, b) {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  return [
    ...a.slice(0, start).map((line) => /** @type {[string, string]} */ ([" ", line])),
    ...common(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ...a.slice(a.length - end).map((line) => /** @type {[string, string]} */ ([" ", line])),
  ];
}

/**
 * Finds the longest common subsequence. Without one in sight, for very different texts, all lines count as changed.
 * @param {string[]} a
 * @param {string[]} b
 * @returns {[sign: string, line: string][]}
 */
function common(a, b) {
  /** @type {[string, string][]} */
  const out = [];
  if (a.length * b.length > 250_000) {
    return [...a.map((line) => /** @type {[string, string]} */ (["-", line])), ...b.map((line) => /** @type {[string, string]} */ (["+", line]))];
  }
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i * width + j] = a[i] === b[j] ? longest[(i + 1) * width + j + 1] + 1 : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { out.push([" ", a[i]]); i++; j++; }
    else if (j >= b.length || i < a.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1]) out.push(["-", a[i++]]);
    else out.push(["+", b[j++]]);
  }
  return out;
}
