// The state of the page is in the fragment of its URL, as in #/live?filter=home/%23. A fragment never leaves the
// browser, and needs no route on the hub.

/** @typedef {{page: string, params: URLSearchParams}} Route */

/** @returns {Route} */
export function current() {
  const [path = "", query = ""] = splitOnce(location.hash.replace(/^#\/?/, ""), "?");
  return { page: path, params: new URLSearchParams(query) };
}

/**
 * @param {string} text
 * @param {string} at
 */
function splitOnce(text, at) {
  const i = text.indexOf(at);
  return i < 0 ? [text] : [text.slice(0, i), text.slice(i + 1)];
}

/**
 * Returns the link to a page.
 * @param {string} page
 * @param {Record<string, string | string[] | undefined> | URLSearchParams} [params]
 */
export function link(page, params = {}) {
  const q = params instanceof URLSearchParams ? params : new URLSearchParams();
  if (!(params instanceof URLSearchParams)) {
    for (const [name, value] of Object.entries(params)) {
      for (const v of Array.isArray(value) ? value : [value]) if (v !== undefined && v !== "") q.append(name, v);
    }
  }
  const query = q.toString().replaceAll("%2F", "/").replaceAll("%24", "$").replaceAll("%2B", "%2B");
  return `#/${page}${query && "?" + query}`;
}

/**
 * Shows a page. It becomes an entry of the browser's history.
 * @param {string} page
 * @param {Record<string, string | string[] | undefined>} [params]
 */
export function go(page, params) {
  location.hash = link(page, params);
}

/**
 * Changes the parameters of a page, without an entry in the browser's history, unless another page is shown by now.
 * @param {string} name of the page
 * @param {Record<string, string | string[] | undefined>} changes "" or undefined removes a parameter
 */
export function setParams(name, changes) {
  const { page, params } = current();
  if (page !== name && page !== "") return;
  for (const [key, value] of Object.entries(changes)) {
    params.delete(key);
    for (const v of Array.isArray(value) ? value : [value]) if (v !== undefined && v !== "") params.append(key, v);
  }
  const to = link(name, params);
  if (to !== location.hash) history.replaceState(null, "", to);
}
