// Calls of the hub's HTTP API, with the viewer's own rights: the browser sends the cookie of the login.

import { parseMessage } from "../../watchbox.js";

/** The hub's address. The page is at its root, wherever the hub is mounted. */
export const base = new URL(".", location.href.replace(/[?#].*/, ""));

/** A refusal of the hub, or no answer at all. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string, [member: string]: unknown}} [problem]
   */
  constructor(message, problem = {}) {
    super(message);
    this.name = "ApiError";
    this.problem = problem;
    this.status = problem.status ?? 0; // 0: there was no answer
    this.code = problem.code ?? "";
  }

  /** Whether the viewer's grant does not allow it. */
  get isForbidden() { return this.status === 401 || this.status === 403; }
}

/**
 * Returns a group or filter as the end of a path, with each level encoded.
 * @param {string} group
 */
export function encodePath(group) {
  const levels = group.split("/");
  if (levels.some((level) => level === "." || level === "..")) {
    throw new ApiError(`"${group}" has a level . or .., which browsers remove from addresses`);
  }
  try {
    // Commands put the address in single quotes.
    return levels.map((level) => encodeURIComponent(level).replaceAll("'", "%27")).join("/");
  } catch {
    throw new ApiError("the group has an incomplete character (half of a surrogate pair)");
  }
}

/**
 * @typedef {object} Call
 * @property {string} [method]
 * @property {BodyInit} [body]
 * @property {unknown} [json] the body as JSON
 * @property {Record<string, string>} [headers]
 * @property {Record<string, string | number | boolean | string[] | undefined>} [query] an array is a parameter for each value
 * @property {AbortSignal} [signal]
 */

/**
 * Makes a request and returns the response of a success.
 * @param {string} path below the hub's address
 * @param {Call} [call]
 * @returns {Promise<Response>}
 */
export async function request(path, { method = "GET", body, json, headers = {}, query = {}, signal } = {}) {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(query)) {
    for (const v of Array.isArray(value) ? value : [value]) if (v !== undefined && v !== "") url.searchParams.append(name, String(v));
  }
  if (json !== undefined) {
    body = JSON.stringify(json);
    headers = { ...headers, "Content-Type": "application/json" };
  }
  let response;
  try {
    response = await fetch(url, { method, body, headers, signal, cache: "no-store", redirect: "error" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("the hub cannot be reached"); // fetch gives no reason
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** @param {Response} response */
async function problemOf(response) {
  const status = `${response.status} ${response.statusText}`.trim();
  if (!(response.headers.get("Content-Type") ?? "").startsWith("application/problem+json")) {
    return new ApiError(`the answer is ${status}`, { status: response.status });
  }
  const problem = await response.json().catch(() => ({}));
  return new ApiError(problem.detail ?? status, { ...problem, status: response.status });
}

/**
 * Makes a request and returns the JSON of its answer.
 * @template [T=any]
 * @param {string} path
 * @param {Call} [call]
 * @returns {Promise<T>}
 */
export async function get(path, call) {
  const response = await request(path, call);
  return response.json();
}

/**
 * Makes a request for a list of messages.
 * @param {string} path
 * @param {Call} [call]
 * @returns {Promise<{messages: import("../../watchbox.d.ts").Message[], gaps: import("../../watchbox.d.ts").Gap[], headers: Headers}>}
 */
export async function getMessages(path, call) {
  const response = await request(path, { ...call, headers: { Accept: "application/x-ndjson" } });
  const lines = (await response.text()).split("\n");
  return {
    messages: lines.filter((line) => line.startsWith('{"id":')).map(parseMessage),
    gaps: lines.filter((line) => line.startsWith('{"gap":')).map((line) => JSON.parse(line).gap),
    headers: response.headers,
  };
}

/**
 * Reports whether the hub, or a proxy before it, may have another answer later.
 * @param {unknown} error
 */
export function isTemporary(error) {
  return error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);
}

/**
 * @param {unknown} error
 * @returns {string} a readable reason
 */
export function errorText(error) {
  if (error instanceof ApiError) return error.code ? `${error.message} (${error.code})` : error.message;
  return (error instanceof Error ? error.message : String(error)).replace(/^watchbox: /, "");
}
