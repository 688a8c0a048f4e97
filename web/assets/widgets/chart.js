// A chart over time, drawn by uPlot.

import { h, setText } from "../lib/dom.js";

/** @typedef {import("uplot")} UPlot */
/** @typedef {{label: string, color: string}} Series color: the name of a custom property */

/**
 * The data of a chart: the times in seconds since 1970, and the values of each series.
 * @typedef {[number[], ...(number | null)[][]]} ChartData
 */

const uPlotURL = new URL("../vendor/uplot/uPlot.esm.js", import.meta.url).href;

export class Chart {
  /** @type {UPlot | undefined} */
  #plot;
  #canvas = h("div", { class: "chart-canvas" });
  #legend = h("p", { class: "legend" });
  /** @type {ChartData | undefined} */
  #data;
  #watch = new ResizeObserver(() => this.#resize());
  #ended = false;
  #onTheme = () => { this.#plot?.destroy(); this.#plot = undefined; if (this.#data) this.set(this.#data); };

  /**
   * @param {string} title
   * @param {Series[]} series
   * @param {(value: number) => string} format
   * @param {number} [height]
   */
  constructor(title, series, format, height = 160) {
    this.series = series;
    this.format = format;
    this.height = height;
    this.element = h("figure", { class: "chart", role: "img", "aria-label": title }, this.#canvas, this.#legend);
    this.#watch.observe(this.#canvas);
    addEventListener("themechange", this.#onTheme);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.#onTheme);
  }

  /** @param {ChartData} data */
  async set(data) {
    this.#data = data;
    if (this.#plot) {
      this.#plot.setData(/** @type {any} */ (data));
      return this.#showLegend(null);
    }
    const { default: UPlot } = await import(uPlotURL);
    if (this.#plot || this.#ended || !this.#canvas.isConnected) return;
    this.#plot = new UPlot(this.#options(), /** @type {any} */ (this.#data), this.#canvas);
    this.#showLegend(null);
  }

  end() {
    this.#ended = true;
    this.#watch.disconnect();
    removeEventListener("themechange", this.#onTheme);
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.#onTheme);
    this.#plot?.destroy();
  }

  /** @returns {any} */
  #options() {
    const style = getComputedStyle(this.element);
    const color = (/** @type {string} */ name) => resolveColor(style.getPropertyValue(name));
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    return {
      width: Math.max(this.#canvas.clientWidth, 100), height: this.height,
      legend: { show: false },
      padding: [8, 18, 0, 0], // room for half of the last time
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      hooks: { setCursor: [(/** @type {UPlot} */ u) => this.#showLegend(u.cursor.idx ?? null)] },
      scales: { y: { range: (/** @type {UPlot} */ _, /** @type {number} */ min, /** @type {number} */ max) => range(min, max) } },
      axes: [
        { ...axis, size: 26, space: 70, values: [[3600, "{HH}:{mm}"], [60, "{HH}:{mm}"], [1, "{HH}:{mm}:{ss}"], [0.001, "{HH}:{mm}:{ss}"]].map(([n, f]) => [n, f, null, null, null, null, null, null, 1]) },
        { ...axis, size: 62, values: (/** @type {UPlot} */ _, /** @type {number[]} */ values) => values.map((v) => this.format(v)) },
      ],
      series: [{}, ...this.series.map((s) => ({ label: s.label, stroke: color(s.color), width: 1.75, points: { show: (this.#data?.[0].length ?? 0) < 3 } }))],
    };
  }

  #resize() {
    const width = this.#canvas.clientWidth;
    if (width > 0) this.#plot?.setSize({ width, height: this.height });
  }

  /** @param {number | null} index of the value under the pointer, or the last one */
  #showLegend(index) {
    if (!this.#data) return;
    const at = index ?? this.#data[0].length - 1;
    while (this.#legend.childElementCount < this.series.length) {
      this.#legend.append(h("span", { class: `series-${this.#legend.childElementCount}` }));
    }
    this.series.forEach((s, i) => {
      const value = this.#data?.[i + 1][at];
      setText(this.#legend.children[i], `${s.label} ${value === null || value === undefined ? "–" : this.format(value)}`);
    });
  }
}

/**
 * Returns the range of the y axis: from zero, unless the values are far from it or below.
 * @param {number} min
 * @param {number} max
 * @returns {[number, number]}
 */
function range(min, max) {
  if (min === null || max === null || !Number.isFinite(min)) return [0, 1];
  const low = min < 0 || min > max / 2 && max > 0 ? min - (max - min || Math.abs(max) || 1) * 0.1 : 0;
  return [low, max === low ? low + 1 : max + (max - low) * 0.08];
}

/**
 * Returns a colour as a canvas understands it: a custom property may be light-dark().
 * @param {string} value
 */
function resolveColor(value) {
  const probe = h("span", { hidden: true });
  document.body.append(probe);
  probe.style.color = value;
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}
