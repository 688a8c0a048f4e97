// A row of the live list: a message, or a gap.

import { bytes as formatBytes, plural } from "./format.js";

/** @typedef {import("../../watchbox.d.ts").Message} Message */
/** @typedef {import("../../watchbox.d.ts").Gap} Gap */

/** How many characters of a payload the list shows. */
const PREVIEW = 400;

/** How many levels of JSON are shown. Hubs accept 10,000, which is more than a browser's stack takes. */
const MAX_LEVELS = 500;

/**
 * Reports whether a value has more levels than the page can show.
 * @param {unknown} value
 * @returns {boolean}
 */
export function isTooDeep(value, levels = MAX_LEVELS) {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return false;
  return levels === 0 || Object.values(value).some((v) => isTooDeep(v, levels - 1));
}

/** A message with what the page computes about it, when it is needed. */
export class MessageRow {
  /** @type {string | undefined} */
  #text;
  /** @type {string | undefined} */
  #preview;

  /** @param {Message & {retain?: true}} message its msg is a JSON value, or a Uint8Array for bytes that are not UTF-8 */
  constructor(message) {
    this.message = message;
    this.time = new Date(message.time);
    /** Why the page does not show the payload's structure, or "". */
    this.notice = isTooDeep(message.msg) ? `JSON with more than ${MAX_LEVELS} levels, which this page does not show` : "";
  }

  get isBinary() { return this.message.msg instanceof Uint8Array; }

  /** The payload's JSON value; undefined if it has none that can be shown. */
  get value() { return this.isBinary || this.notice ? undefined : this.message.msg; }

  /** The payload as text: a string as it is, any other JSON as the hub sent it. */
  get text() {
    const { msg, json = "" } = this.message;
    if (msg instanceof Uint8Array) return this.#text ??= hexLine(msg, PREVIEW);
    return typeof msg === "string" ? msg : json;
  }

  /** The payload in one line, cut. */
  get preview() {
    return this.#preview ??= this.text.slice(0, PREVIEW).replace(/\s+/g, " ");
  }

  /** The payload in bytes. */
  get bytes() {
    const { msg } = this.message;
    return msg instanceof Uint8Array ? msg : new TextEncoder().encode(this.text);
  }

  get size() { return formatBytes(this.bytes.length); }

  /** The message as the hub's API writes it. */
  get line() {
    const { msg, json, ...others } = this.message;
    const isBytes = msg instanceof Uint8Array;
    const head = JSON.stringify(isBytes ? { ...others, encoding: "base64" } : others);
    return `${head.slice(0, -1)},"msg":${isBytes ? JSON.stringify(base64(msg)) : json}}`;
  }
}

/** Messages that the hub no longer has. */
export class GapRow {
  time = new Date();

  /** @param {Gap} gap */
  constructor(gap) {
    this.gap = gap;
  }

  get text() {
    const { filter, after, oldest, reason } = this.gap;
    const why = { evicted: "they were evicted", epoch: "the hub started a new log", slow: "the listener was too slow" }[reason] ?? reason;
    return `Gap: messages to ${filter} after ${after} are missing, because ${why}.` + (oldest ? ` The next one is ${oldest}.` : "");
  }

  get line() { return JSON.stringify({ gap: this.gap }); }
}

/** @typedef {MessageRow | GapRow} Row */

/** @param {Uint8Array} bytes */
export function base64(bytes) {
  let text = "";
  for (const b of bytes) text += String.fromCharCode(b);
  return btoa(text);
}

/**
 * @param {Uint8Array} bytes
 * @param {number} most
 */
function hexLine(bytes, most) {
  return Array.from(bytes.subarray(0, most), (b) => b.toString(16).padStart(2, "0")).join(" ");
}

/**
 * Returns bytes as lines of 16, each with its offset, hex and ASCII.
 * @param {Uint8Array} bytes
 * @param {number} [most] bytes
 */
export function hexDump(bytes, most = 16_384) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, most); at += 16) {
    const part = bytes.subarray(at, at + 16);
    const hex = Array.from(part, (b) => b.toString(16).padStart(2, "0"));
    const ascii = Array.from(part, (b) => b >= 32 && b < 127 ? String.fromCharCode(b) : ".").join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex.slice(0, 8).join(" ").padEnd(23)}  ${hex.slice(8).join(" ").padEnd(23)}  ${ascii}`);
  }
  if (bytes.length > most) lines.push(`… and ${plural(bytes.length - most, "more byte")}`);
  return lines.join("\n");
}
