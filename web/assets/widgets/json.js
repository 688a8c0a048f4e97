// JSON and differences as text with colours.

import { h } from "../lib/dom.js";
import { parts } from "../lib/json.js";

/** How many lines are shown. */
export const MAX_LINES = 2000;

/**
 * Returns JSON as indented text, where numbers are buttons if onNumber is given.
 * @param {string} json
 * @param {(path: string[]) => void} [onNumber]
 * @returns {HTMLElement}
 */
export function prettyJSON(json, onNumber) {
  /** @type {(Node | string)[]} */
  const out = [];
  let lines = 1;
  for (const { kind, text, path = [] } of parts(json)) {
    if (kind === "mark" && text.includes("\n") && ++lines > MAX_LINES) {
      out.push(`\n… cut after ${MAX_LINES} lines`);
      break;
    }
    if (kind === "mark") out.push(text);
    else if (kind === "number") out.push(number(text, path, onNumber));
    else out.push(h("span", { class: kind }, kind === "word" ? text : JSON.stringify(JSON.parse(text)))); // é instead of \u00e9
  }
  return h("pre", { class: "code", tabindex: 0, "aria-label": "Payload" }, ...out);
}

/**
 * @param {string} text
 * @param {string[]} path
 * @param {(path: string[]) => void} [onNumber]
 */
function number(text, path, onNumber) {
  if (!onNumber) return h("span", { class: "plot" }, text);
  return h("button", { type: "button", class: "plot", title: "Plot over time", "aria-label": `Plot ${path.join(".") || "the number"}: ${text}`, click: () => onNumber(path) }, text);
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
