// Numbers, times and sizes as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** @param {number} n */
export function bytes(n) {
  let unit = 0;
  for (; n >= 1024 && unit < UNITS.length - 1; unit++) n /= 1024;
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${UNITS[unit]}`;
}

/** @param {number} n */
export function count(n) {
  return Math.round(n).toLocaleString("en");
}

/** @param {number} n with a unit of thousands where there is little room */
export function shortCount(n) {
  if (n < 10_000) return count(n);
  if (n < 1e6) return `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)}k`;
  return `${(n / 1e6).toFixed(1)}M`;
}

/** @param {number} perSecond */
export function rate(perSecond) {
  if (perSecond === 0) return "0/s";
  if (perSecond < 0.005) return "< 0.01/s";
  if (perSecond < 10) return `${perSecond.toFixed(perSecond < 0.1 ? 2 : 1)}/s`;
  return `${shortCount(perSecond)}/s`;
}

/**
 * @param {number} n
 * @param {string} one the noun
 * @param {string} [many] its plural
 */
export function plural(n, one, many = one + "s") {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/**
 * @param {number} seconds
 * @returns {string}
 */
export function duration(seconds) {
  if (seconds < 1) return milliseconds(seconds * 1000);
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor(s / 3600) % 24} h`;
}

/**
 * @param {number} ms
 * @returns {string}
 */
export function milliseconds(ms) {
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 10_000 ? `${Math.round(ms)} ms` : duration(ms / 1000);
}

/**
 * @param {number} value
 * @param {number} [length]
 */
const pad = (value, length = 2) => String(value).padStart(length, "0");

/** @param {Date} t as 12:03:04.567, in the viewer's time zone */
export function clock(t) {
  return `${pad(t.getHours())}:${pad(t.getMinutes())}:${pad(t.getSeconds())}.${pad(t.getMilliseconds(), 3)}`;
}

/** @param {Date} t as 2026-11-28 12:03:04 */
export function dateTime(t) {
  return `${t.getFullYear()}-${pad(t.getMonth() + 1)}-${pad(t.getDate())} ${pad(t.getHours())}:${pad(t.getMinutes())}:${pad(t.getSeconds())}`;
}

/**
 * @param {Date} t
 * @param {number} [now] in ms
 */
export function ago(t, now = Date.now()) {
  const seconds = Math.max(0, (now - t.getTime()) / 1000);
  if (seconds < 1) return "now";
  return `${seconds < 600 ? duration(seconds) : duration(seconds).replace(/ min \d+ s$/, " min")} ago`;
}
