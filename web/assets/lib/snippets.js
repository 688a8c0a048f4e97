// A message, or a publication, as a command or a program that sends it.

import { base as hubURL, encodePath } from "./api.js";
import { hasLargeInteger, indent } from "./json.js";
import { base64 } from "./row.js";
import { viewer } from "./viewer.js";

/**
 * @typedef {object} Publication
 * @property {string} group
 * @property {unknown} msg text, a Uint8Array, or another JSON value
 * @property {string} [json] the text of that value
 * @property {string} [event]
 * @property {[string, string][]} [meta]
 * @property {string} [ttl]
 * @property {boolean} [retain]
 * @property {string} [key] idempotency key
 */

/** @param {string} text as one word of a shell */
function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** @param {Publication} p */
export function publicationURL({ group, event, ttl, retain }) {
  const url = new URL("v1/groups/" + encodePath(group), hubURL);
  if (event) url.searchParams.set("event", event);
  if (ttl) url.searchParams.set("ttl", ttl);
  if (retain) url.searchParams.set("retain", "true");
  return url.href.replaceAll("'", "%27");
}

/**
 * Returns the pairs of metadata that a client may send: not the server's own.
 * @param {Publication} p
 */
function ownMeta({ meta = [] }) {
  return meta.filter(([name]) => name !== "" && !name.startsWith("$"));
}

/** Returns the header with the viewer's token, which scripts cannot read: the shell has it. */
export function curlToken() {
  return viewer.hasToken ? ' -H "Authorization: Bearer $WATCHBOX_TOKEN"' : "";
}

/** @param {Publication} p */
export function asCurl(p) {
  const url = quote(publicationURL(p));
  const meta = ownMeta(p).map(([name, value]) => value === "" ? `Watchbox-Meta-${name};` : `Watchbox-Meta-${name}: ${value}`);
  const key = [...meta, ...p.key ? ["Idempotency-Key: " + p.key] : []].map((header) => " -H " + quote(header)).join("") + curlToken();
  const { msg, json = "" } = p;
  if (msg instanceof Uint8Array) return `echo ${base64(msg)} | base64 -d | curl --data-binary @- -H 'Content-Type: application/octet-stream'${key} ${url}`;
  if (typeof msg === "string") return `curl --data-raw ${quote(msg)} -H 'Content-Type: text/plain; charset=utf-8'${key} ${url}`;
  return `curl --data-raw ${quote(json)} -H 'Content-Type: application/json'${key} ${url}`;
}

/** @param {string} text as a string literal of Go */
function goString(text) {
  return text.includes("`") || /[^\t\n\x20-\x7e\u00a0-\uffff]/u.test(text) ? goQuoted(text) : "`" + text + "`";
}

/** @param {string} text */
function goQuoted(text) {
  return `"${text.replace(/["\\]/g, "\\$&").replaceAll("\n", "\\n").replace(/[\u0000-\u001f\u007f]/g, (c) => "\\x" + c.charCodeAt(0).toString(16).padStart(2, "0"))}"`;
}

/** @param {Publication} p */
export function asGo(p) {
  const { msg, json = "", group, event, ttl, retain } = p;
  const value = msg instanceof Uint8Array ? `[]byte{${[...msg].join(", ")}}` : typeof msg === "string" ? goString(msg) : `json.RawMessage(${goString(json)})`;
  const options = [event && `client.Event(${goQuoted(event)})`, ...ownMeta(p).map(([name, value]) => `client.Meta(${goQuoted(name)}, ${goQuoted(value)})`), ttl && `client.TTL(${goDuration(ttl)})`, retain && "client.Retain()"].filter(Boolean);
  return `c, err := client.New(${goQuoted(hubURL.href)})
if err != nil {
	log.Fatal(err)
}
defer c.Close()
id, err := c.Publish(ctx, ${goQuoted(group)}, ${[value, ...options].join(", ")})`;
}

/** @param {string} text such as 90s or 10m */
function goDuration(text) {
  const [, n, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(text) ?? [];
  const units = { ms: "time.Millisecond", s: "time.Second", m: "time.Minute", h: "time.Hour", d: "24*time.Hour" };
  return n ? `${n}*${units[/** @type {keyof typeof units} */ (unit)]}` : text;
}

/** @param {Publication} p */
export function asJavaScript(p) {
  const { msg, json = "", group, event, ttl, retain } = p;
  const value = msg instanceof Uint8Array ? `Uint8Array.of(${[...msg].join(", ")})` : typeof msg === "string" ? JSON.stringify(msg) : indent(json);
  const rounds = typeof msg !== "string" && hasLargeInteger(json) ? "\n// JavaScript rounds integers beyond 2^53. curl and Go send all their digits." : "";
  const meta = ownMeta(p);
  const options = Object.fromEntries(Object.entries({ event, ttl, retain, meta: meta.length > 0 && meta }).filter(([, v]) => v));
  const more = Object.keys(options).length > 0 ? ", " + JSON.stringify(options) : "";
  return `import { Watchbox } from ${JSON.stringify(new URL("watchbox.js", hubURL).href)};
const wb = new Watchbox();${rounds}
await wb.publish(${JSON.stringify(group)}, ${value}${more});`;
}
