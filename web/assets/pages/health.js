// Health: whether the hub is well, and how it was in the last hour.

import { ApiError, errorText, get } from "../lib/api.js";
import { append, button, fill, fillChanged, h, notice } from "../lib/dom.js";
import { bytes, count, dateTime, duration, milliseconds, plural, rate, shortCount } from "../lib/format.js";
import { hub } from "../lib/hub.js";
import { link } from "../lib/router.js";
import { inNextFrame, whileVisible } from "../lib/schedule.js";
import { stats } from "../lib/stats.js";
import { viewer } from "../lib/viewer.js";
import { Chart } from "../widgets/chart.js";

/** @typedef {import("../lib/stats.js").Figures & Record<string, any>} Stats */
/** @typedef {{title: string, series: import("../widgets/chart.js").Series[], format: (value: number) => string, values: ((s: Stats) => number | undefined)[]}} ChartOf */

/** How often the charts are drawn, in ms. */
const DRAW_EVERY = 2000;

/** @type {ChartOf[]} */
const CHARTS = [
  { title: "Messages", format: rate, series: [{ label: "in", color: "--main" }, { label: "out", color: "--info" }], values: [(s) => s.rates?.in, (s) => s.rates?.out] },
  { title: "Bytes", format: (v) => bytes(v) + "/s", series: [{ label: "in", color: "--main" }, { label: "out", color: "--info" }], values: [(s) => s.rates?.in_bytes, (s) => s.rates?.out_bytes] },
  { title: "Publish latency", format: milliseconds, series: [{ label: "p50", color: "--main" }, { label: "p99", color: "--info" }], values: [(s) => s.latency?.publish.p50, (s) => s.latency?.publish.p99] },
  { title: "Delivery latency", format: milliseconds, series: [{ label: "p50", color: "--main" }, { label: "p99", color: "--info" }], values: [(s) => s.latency?.delivery.p50, (s) => s.latency?.delivery.p99] },
  { title: "Streams", format: shortCount, series: [{ label: "open", color: "--main" }, { label: "opened a second", color: "--info" }], values: [(s) => s.watchbox_streams, (s) => s.rates?.opened] },
  { title: "Trouble", format: shortCount, series: [{ label: "held publishers", color: "--main" }, { label: "slow sockets", color: "--info" }, { label: "gaps a second", color: "--warn" }], values: [(s) => s.now?.held, (s) => s.now?.slow, (s) => s.rates?.gaps] },
  { title: "History", format: bytes, series: [{ label: "in memory", color: "--main" }, { label: "on disk", color: "--info" }], values: [(s) => s.memory?.used, (s) => s.disk?.used] },
];

/** @param {HTMLElement} view */
export function mount(view) {
  return viewer.isAdmin ? new Health(view) : new Readiness(view);
}

class Health {
  #charts = CHARTS.map((c) => ({ ...c, chart: new Chart(`${c.title} over the last hour`, c.series, c.format) }));
  #drawn = 0;
  #onChange = inNextFrame(() => this.#show());

  /** @param {HTMLElement} view */
  constructor(view) {
    this.state = h("div", { class: "stack", role: "status" });
    this.tiles = h("dl", { class: "tiles" });
    this.ends = h("div", { class: "panel stack", hidden: true });
    this.charts = h("div", { class: "charts" }, ...this.#charts.map(({ title, chart }) => h("div", { class: "panel stack" }, h("h2", {}, title), chart.element)));
    this.hubs = h("select", { "aria-label": "Hub", hidden: true, onchange: () => { stats.wanted = this.hubs.value; this.#drawn = 0; this.#show(); } });
    this.body = h("div", { class: "body stack" }, this.state, this.tiles, this.charts, this.ends);
    append(view, h("div", { class: "head" }, h("h1", {}, "Health"), this.hubs, h("a", { href: "metrics", class: "button" }, "Metrics"), h("a", { href: "openapi.yaml", class: "button" }, "openapi.yaml")), this.body);
    fill(this.state, notice("loading", "Loading"));
    this.tiles.hidden = this.charts.hidden = true;
    stats.addEventListener("change", this.#onChange);
    hub.addEventListener("change", this.#onChange);
    stats.open();
    this.#onChange();
  }

  end() {
    stats.removeEventListener("change", this.#onChange);
    hub.removeEventListener("change", this.#onChange);
    for (const { chart } of this.#charts) chart.end();
  }

  #show() {
    const { latest, error, loaded } = stats;
    this.#showHubs();
    this.tiles.hidden = this.charts.hidden = !latest;
    if (error) return fillChanged(this.state, notice("error", "The figures cannot be shown", h("p", {}, errorText(error)), button("Try again", () => stats.open())));
    if (!latest) return fill(this.state, loaded ? notice("empty", "No figures yet", h("p", {}, "The hub writes the first ones in a few seconds.")) : notice("loading", "Loading"));
    const old = whyOld();
    fill(this.state,
      old && h("p", { class: "strip bad" }, `These figures are from ${dateTime(new Date(1000 * (stats.points.at(-1)?.time ?? 0)))}: ${old}.`),
      latest.ready === false && h("p", { class: "strip bad" }, `The hub is not ready: ${latest.why ?? "no reason given"}`));
    fill(this.tiles, ...tiles(latest, old !== ""));
    this.#showEnds(latest);
    if (Date.now() - this.#drawn < DRAW_EVERY) return;
    this.#drawn = Date.now();
    for (const { chart, values } of this.#charts) chart.set(stats.series(...values));
  }

  /** Offers the hubs of a cluster. */
  #showHubs() {
    const { hubs, shown } = stats;
    this.hubs.hidden = hubs.length < 2;
    if (hubs.join() !== [...this.hubs.options].map((o) => o.value).join()) {
      fill(this.hubs, ...hubs.map((id) => h("option", { value: id }, `hub ${id}`)));
    }
    if (this.hubs.value !== shown) this.hubs.value = shown;
  }

  /** @param {Stats} latest */
  #showEnds({ closed = {} }) {
    const list = Object.entries(closed).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
    this.ends.hidden = list.length === 0;
    fill(this.ends, h("h2", {}, "Why streams ended since the start"),
      h("dl", { class: "pairs" }, ...list.flatMap(([reason, n]) => [h("dt", {}, reason), h("dd", {}, count(n))])));
  }
}

/** Returns why there are no newer figures, or "". */
function whyOld() {
  if (hub.state !== "open") return "the page is not connected to the hub";
  return stats.isSilent ? "this hub has written none since then" : "";
}

/**
 * Returns the tiles with the newest figures.
 * @param {Stats} s
 * @param {boolean} isOld whether the hub may be in another state by now
 */
function tiles(s, isOld) {
  const { rates = {}, latency, now = { held: 0, slow: 0 }, memory, disk } = s;
  return [
    tile("State", isOld ? "Unknown" : s.ready === false ? "Not ready" : "Ready", s.version ? `version ${s.version}` : "", { kind: isOld || s.ready === false ? "bad" : "" }),
    s.uptime !== undefined && tile("Uptime", duration(s.uptime), s.hubs > 1 ? `${count(s.hubs)} hubs in the cluster` : "1 hub"),
    tile("Listeners", shortCount(s.watchbox_streams ?? 0), plural(s.watchbox_sessions ?? 0, "session"), { to: link("listeners") }),
    (s.watchbox_mqtt_connections || s.watchbox_positions) && tile("MQTT clients", shortCount(s.watchbox_mqtt_connections ?? 0), `${shortCount(s.watchbox_positions ?? 0)} positions kept`, { to: link("listeners") }),
    tile("Messages in", rate(rates.in ?? 0), `${bytes(rates.in_bytes ?? 0)}/s`, { to: link("groups", { sort: "rate", list: "flat" }) }),
    tile("Messages out", rate(rates.out ?? 0), `${bytes(rates.out_bytes ?? 0)}/s`),
    latencyTile("Publish latency", latency?.publish, s.interval),
    latencyTile("Delivery latency", latency?.delivery, s.interval),
    tile("Held publishers", count(now.held), "wait for slow delivery", { kind: now.held > 0 ? "warn" : "" }),
    tile("Slow sockets", count(now.slow), "are full", { kind: now.slow > 0 ? "warn" : "", to: link("listeners") }),
    tile("Gaps", rate(rates.gaps ?? 0), "told to listeners", { kind: (rates.gaps ?? 0) > 0 ? "warn" : "" }),
    tile("Evicted", rate(rates.evicted ?? 0), `${shortCount(s.watchbox_messages_held ?? 0)} ${s.watchbox_messages_held === 1 ? "message" : "messages"} held`),
    memory && meter("Memory", memory),
    disk && meter("Disk", disk),
  ];
}

/**
 * @param {string} name
 * @param {string} value
 * @param {string} note
 * @param {{kind?: string, to?: string}} [more]
 */
function tile(name, value, note, { kind = "", to } = {}) {
  return h("div", { class: `tile ${kind}` }, h("dt", {}, to ? h("a", { href: to }, name) : name), h("dd", { class: "tile-value" }, value), h("dd", { class: "tile-note", title: note }, note));
}

/** @param {string} name @param {import("../lib/stats.js").Latency | undefined} latency @param {number} interval in s */
function latencyTile(name, latency, interval) {
  if (latency?.p50 === undefined) return tile(name, "–", `nothing in the last ${Math.round(interval)} s`);
  return tile(name, milliseconds(latency.p50), `p99 ${milliseconds(latency.p99 ?? 0)}`);
}

/** @param {string} name @param {import("../lib/stats.js").Bound} bound */
function meter(name, { used, max }) {
  if (!max) return tile(name, bytes(used), "without a limit");
  const share = Math.min(1, used / max);
  const bar = h("div");
  bar.style.width = `${100 * share}%`;
  return h("div", { class: `tile ${share > 0.95 ? "warn" : ""}` }, h("dt", {}, name), h("dd", { class: "tile-value" }, bytes(used)),
    h("dd", { class: "tile-note" }, `${Math.round(100 * share)} % of ${bytes(max)}`), h("dd", { class: "meter", "aria-hidden": "true" }, bar));
}

/** What viewers without rights for administration see. */
class Readiness {
  #stop;

  /** @param {HTMLElement} view */
  constructor(view) {
    const body = h("div", { class: "body stack" });
    append(view, h("div", { class: "head" }, h("h1", {}, "Health")), body);
    this.#stop = whileVisible(async (signal) => {
      try {
        await get("readyz", { signal });
        fill(body, h("dl", { class: "tiles" }, tile("State", "Ready", "the hub accepts messages")), h("p", { class: "soft" }, "The figures need a token with admin."));
      } catch (error) {
        if (signal.aborted) return;
        fill(body, notice("error", error instanceof ApiError && error.status === 503 ? "The hub is not ready" : "The hub does not answer", h("p", {}, errorText(error))));
      }
    }, 5000);
  }

  end() { this.#stop(); }
}
