// Searches in messages: by text, regular expression, JSON path and event name.

import { MessageRow } from "./row.js";

/** @typedef {import("./row.js").Row} Row */
/** @typedef {{kind: "text" | "regexp" | "path", query: string, event: string}} Search */

/**
 * Returns the function that tells whether a row is shown. Gaps are always shown.
 * @param {Search} search
 * @returns {((row: Row) => boolean) | undefined} undefined: all rows are shown
 * @throws {Error} if the query is not valid
 */
export function compile({ kind, query, event }) {
  const test = query === "" ? undefined : TESTS[kind](query);
  if (!test && event === "") return undefined;
  return (row) => !(row instanceof MessageRow) || (event === "" || (row.message.event ?? "message") === event) && (!test || test(row));
}

/** @type {Record<Search["kind"], (query: string) => (row: MessageRow) => boolean>} */
const TESTS = {
  text(query) {
    const q = query.toLowerCase();
    return (row) => row.text.toLowerCase().includes(q) || row.message.group.toLowerCase().includes(q);
  },
  regexp(query) {
    const re = new RegExp(query, "u");
    return (row) => re.test(row.text);
  },
  path(query) {
    const { path, operator, operand } = parseCondition(query);
    const compare = COMPARISONS[operator];
    return (row) => {
      const value = valueAt(row.value, path);
      return value !== undefined && compare(value, operand);
    };
  },
};

/** @type {Record<string, (value: unknown, operand: unknown) => boolean>} */
const COMPARISONS = {
  "": () => true,
  "=": (a, b) => same(a, b),
  "!=": (a, b) => !same(a, b),
  "<": (a, b) => typeof a === typeof b && /** @type {any} */ (a) < /** @type {any} */ (b),
  "<=": (a, b) => typeof a === typeof b && /** @type {any} */ (a) <= /** @type {any} */ (b),
  ">": (a, b) => typeof a === typeof b && /** @type {any} */ (a) > /** @type {any} */ (b),
  ">=": (a, b) => typeof a === typeof b && /** @type {any} */ (a) >= /** @type {any} */ (b),
  "~": (a, b) => (typeof a === "string" ? a : JSON.stringify(a)).includes(String(b)),
};

/**
 * @param {unknown} a
 * @param {unknown} b
 */
function same(a, b) {
  return a === b || String(a) === String(b) || JSON.stringify(a) === JSON.stringify(b);
}

/**
 * Reads a condition such as: temp, sensor.temp > 20, items[0].name = "kettle", text ~ boils
 * @param {string} text
 */
function parseCondition(text) {
  const m = /^\s*(\$?[^<>=!~]*?)\s*(?:(!=|<=|>=|<|>|=|~)\s*(.*?))?\s*$/su.exec(text.replace("==", "="));
  if (!m) throw new Error("a JSON path is such as sensor.temp > 20");
  const [, path, operator = "", operand = ""] = m;
  return { path: parsePath(path), operator, operand: parseOperand(operand) };
}

/** @param {string} text */
function parseOperand(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * Reads a path such as $.a.b[0]["c d"].
 * @param {string} text
 * @returns {string[]}
 * @throws {Error}
 */
export function parsePath(text) {
  const rest = text.replace(/^\$\.?/, "");
  const keys = [];
  const part = /\.?([^.[\]]+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]/suy;
  while (part.lastIndex < rest.length) {
    const m = part.exec(rest);
    if (!m) throw new Error(`"${text}" is not a JSON path such as sensor.temp or items[0].name`);
    keys.push(m[1] ?? m[2] ?? JSON.parse(`"${m[3]}"`));
  }
  return keys;
}

/** @param {string[]} path as parsePath reads it */
export function writePath(path) {
  if (path.length === 0) return "$";
  return path.map((key, i) => /^\d+$/.test(key) ? `[${key}]` : /^[^.[\]"\s]+$/u.test(key) ? (i ? "." : "") + key : `[${JSON.stringify(key)}]`).join("");
}

/**
 * Returns the value at a path, or undefined.
 * @param {unknown} value
 * @param {string[]} path
 */
export function valueAt(value, path) {
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = /** @type {any} */ (value)[key];
  }
  return value;
}
