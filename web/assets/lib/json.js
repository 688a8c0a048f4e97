// JSON as text whose numbers keep all their digits, and strings their escapes.

/** A part of JSON. Numbers have their path. @typedef {{kind: "mark" | "key" | "string" | "number" | "word", text: string, path?: string[]}} Part */

const TOKEN = /["[\]{},:]|[^\s[\]{},:"]+/g;

/**
 * Splits JSON into its tokens. A regular expression for whole strings would exceed the stack for long ones.
 * @param {string} json
 */
function* tokens(json) {
  const token = new RegExp(TOKEN);
  for (let m; (m = token.exec(json));) {
    if (m[0] !== '"') yield m[0];
    else {
      let end = token.lastIndex;
      while (end < json.length && json[end] !== '"') end += json[end] === "\\" ? 2 : 1;
      token.lastIndex = end + 1;
      yield json.slice(m.index, end + 1);
    }
  }
}

/**
 * Splits JSON into its parts, with line breaks and indentation in its marks.
 * @param {string} json
 * @returns {Generator<Part>}
 */
export function* parts(json) {
  /** @type {{isObject: boolean, key: string}[]} */
  const open = [];
  const lineBreak = () => "\n" + "  ".repeat(open.length);
  let before = "";
  for (const token of tokens(json)) {
    const isFirst = before === "{" || before === "[";
    const closes = token === "}" || token === "]";
    if (closes) open.pop();
    if (closes !== isFirst) yield { kind: "mark", text: lineBreak() };
    const top = open.at(-1);
    if (closes) yield { kind: "mark", text: token };
    else if (token === "{" || token === "[") {
      open.push({ isObject: token === "{", key: "0" });
      yield { kind: "mark", text: token };
    } else if (token === ",") {
      if (top && !top.isObject) top.key = String(Number(top.key) + 1);
      yield { kind: "mark", text: "," + lineBreak() };
    } else if (token === ":") yield { kind: "mark", text: ": " };
    else if (token[0] !== '"') yield /[-\d]/.test(token[0]) ? { kind: "number", text: token, path: open.map(({ key }) => key) } : { kind: "word", text: token };
    else if (top?.isObject && (isFirst || before === ",")) {
      top.key = JSON.parse(token);
      yield { kind: "key", text: token };
    } else yield { kind: "string", text: token };
    before = token;
  }
}

/**
 * Returns JSON with indentation, cut after some lines.
 * @param {string} json
 * @param {number} [most] lines
 */
export function indent(json, most = Infinity) {
  let out = "";
  let lines = 0;
  for (const { kind, text } of parts(json)) {
    if (kind === "mark" && text.includes("\n") && ++lines >= most) break;
    out += text;
  }
  return out;
}

/**
 * Reports whether JSON has an integer that JavaScript rounds.
 * @param {string} json
 */
export function hasLargeInteger(json) {
  for (const { kind, text } of parts(json)) {
    if (kind === "number" && /^-?\d+$/.test(text) && !Number.isSafeInteger(Number(text))) return true;
  }
  return false;
}
