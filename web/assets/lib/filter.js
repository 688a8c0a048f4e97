// Groups and filters: levels joined by /, where + matches one level and a final # any number of them.

/**
 * Reports whether a filter matches a group.
 * @param {string} filter
 * @param {string} group
 */
export function filterMatches(filter, group) {
  const f = filter.split("/");
  const g = group.split("/");
  if (group.startsWith("$") && (f[0] === "+" || f[0] === "#")) return false;
  for (let i = 0; i < f.length; i++) {
    if (f[i] === "#") return true;
    if (i >= g.length || f[i] !== "+" && f[i] !== g[i]) return false;
  }
  return f.length === g.length;
}
