// One chart a panel of the vocabulary. All share the time axis, the cursor and the marks of what happened.
/* global uPlot */
import { make, say, set } from "./dom.js";
import { NOT_LOGGED, clock, full, onAxis } from "./format.js";

const HEIGHT = 190;
const YOUNGEST = 60; // seconds that are shown at least
const KIBI = [0, 1, 2, 3, 4].flatMap((power) => [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map((step) => step * 1024 ** power));
const MARKS = { restart: "restart", down: "down", exporter: "exporter restarted" };
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const shade = (color, share) => `color-mix(in srgb, ${color} ${share * 100}%, transparent)`;

class Chart {
  constructor(panel, store, sync) {
    this.panel = panel;
    this.store = store;
    this.sync = sync;
    this.plot = null;
    this.values = panel.lines.map(() => make("output", { class: "value" }));
    this.at = make("span", { class: "at" });
    this.canvas = make("div", { class: "plot", tabindex: "0", role: "group" });
    this.note = make("p", { class: "empty", hidden: true });
    this.element = make(
      "figure",
      { class: "card chart", id: `chart-${panel.id}` },
      make(
        "figcaption",
        {},
        make("h3", { text: panel.title }),
        this.at,
        make("details", {}, make("summary", { text: "About", "aria-label": `About ${panel.title}` }), make("p", { text: panel.description })),
      ),
      make("div", { class: "plot-box" }, this.canvas, this.note),
      make("ul", { class: "legend" }, ...panel.lines.map((line, i) => this.#legend(line, this.values[i]))),
    );
    this.canvas.addEventListener("keydown", (event) => this.#move(event));
    this.canvas.addEventListener("blur", () => this.plot?.setCursor({ left: -10, top: -10 }));
    new ResizeObserver(() => this.#fit()).observe(this.canvas);
  }

  #legend(line, value) {
    const swatch = make("span", { class: line.dashed ? "swatch dashed" : "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--color", line.color);
    return make("li", {}, swatch, make("span", { text: line.name }), value);
  }

  /** Draw anew what the store has now; `rebuild` when the look or the kind of rows has changed. */
  draw(rebuild) {
    if (rebuild || this.plot === null) this.#build();
    else this.plot.setData(this.#data(), true);
    this.#explain();
    if (this.plot.cursor.idx == null) this.#show(null);
  }

  #data() {
    const { time, parts, coarse } = this.store;
    const lines = this.panel.lines.map((line) => line.column);
    const around = coarse ? lines.flatMap((column) => [parts.high[column], parts.low[column]]) : [];
    return [time, ...lines.map((column) => parts.value[column]), ...around];
  }

  #build() {
    this.plot?.destroy();
    const { panel, store } = this;
    const lines = panel.lines;
    const series = lines.map((line) => ({
      stroke: line.color,
      width: line.dashed ? 1.5 : 2,
      dash: line.dashed ? [8, 6] : undefined,
      fill: line.dashed || lines.length > 1 ? undefined : shade(line.color, 0.1),
      points: { size: 5, fill: line.color, filter: (u, index, show) => (show ? null : alone(u.data[index])) },
    }));
    const around = store.coarse ? lines.flatMap(() => [bare(), bare()]) : [];
    const bands = store.coarse
      ? lines.map((line, i) => ({ series: [lines.length + 2 * i + 1, lines.length + 2 * i + 2], fill: shade(line.color, 0.32) }))
      : [];
    this.plot = new uPlot(
      {
        width: Math.max(this.canvas.clientWidth, 100),
        height: HEIGHT,
        series: [{}, ...series, ...around],
        bands,
        legend: { show: false },
        cursor: { sync: { key: this.sync.key }, drag: { x: false, y: false }, points: { size: 7 } },
        scales: { x: { time: true, range: () => this.#span() }, y: { range: (u, low, high) => this.#range(high) } },
        axes: this.#axes(),
        hooks: { drawAxes: [(u) => this.#limits(u)], draw: [(u) => this.#marks(u)], setCursor: [(u) => this.#show(u.cursor.idx)] },
      },
      this.#data(),
      this.canvas,
    );
  }

  #axes() {
    const bytes = this.panel.unit === "binBps" ? { incrs: KIBI } : {};
    const look = { stroke: css("--quiet"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, font: `12px ${css("--font")}` };
    return [
      { ...look, space: 72, size: 32, gap: 9, values: (u, splits) => splits.map((time) => clock(time, splits.length > 1 && splits[1] - splits[0] < 60)) },
      { ...look, ...bytes, size: (u, words) => 18 + 6.8 * Math.max(4, ...(words ?? []).map((word) => word.length)), space: 36, values: (u, splits) => splits.map((value) => onAxis(value, this.panel.unit)) },
    ];
  }

  // A young history fills the width; from then on the window moves along.
  #span() {
    const { end, seconds, time } = this.store;
    return [Math.max(end - seconds, Math.min(time[0] ?? end, end - YOUNGEST)), end];
  }

  #range(high) {
    if (this.panel.max !== null) return [0, this.panel.max];
    return [0, high > 0 ? high * 1.08 : 1];
  }

  // The levels at which Grafana's panel changes colour and its alerts fire.
  #limits(u) {
    for (const limit of this.panel.thresholds) {
      if (limit.from === null) continue;
      const y = Math.round(u.valToPos(limit.from, "y", true));
      const color = limit.color || this.panel.thresholds.find((t) => t.from === null)?.color || css("--quiet");
      this.#rule(u, [u.bbox.left, y, u.bbox.left + u.bbox.width, y], color, onAxis(limit.from, this.panel.unit));
    }
  }

  // Marks that would lie on each other, as of eight ranks that restart at once, become one.
  #marks(u) {
    const [from, to] = this.#span();
    let free = -Infinity;
    for (const event of this.store.events) {
      if (event.time < from || event.time > to) continue;
      const x = Math.round(u.valToPos(event.time, "x", true));
      if (x < free) continue;
      free = x + 62 * devicePixelRatio;
      this.#rule(u, [x, u.bbox.top, x, u.bbox.top + u.bbox.height], css("--text"), MARKS[event.kind] ?? event.kind);
    }
  }

  // A dashed line with a word at its end. A dark or light edge keeps every colour visible on either background.
  #rule(u, [x1, y1, x2, y2], color, word) {
    const { ctx } = u;
    const dpr = devicePixelRatio;
    ctx.save();
    ctx.setLineDash([5 * dpr, 4 * dpr]);
    for (const [stroke, width] of [[css("--edge"), 4 * dpr], [color, 2 * dpr]]) {
      ctx.strokeStyle = stroke;
      ctx.lineWidth = width;
      ctx.beginPath();
      ctx.moveTo(x1, y1);
      ctx.lineTo(x2, y2);
      ctx.stroke();
    }
    ctx.setLineDash([]);
    ctx.font = `${11 * dpr}px ${css("--font")}`;
    ctx.textAlign = "left";
    ctx.textBaseline = y1 === y2 ? "bottom" : "top";
    ctx.lineWidth = 3 * dpr;
    ctx.strokeStyle = css("--card");
    ctx.fillStyle = css("--text");
    const width = ctx.measureText(word).width;
    const left = Math.min(y1 === y2 ? x2 - width - 3 * dpr : x1 + 4 * dpr, u.bbox.left + u.bbox.width - width - 2 * dpr);
    ctx.strokeText(word, left, y1 - (y1 === y2 ? dpr : -2 * dpr));
    ctx.fillText(word, left, y1 - (y1 === y2 ? dpr : -2 * dpr));
    ctx.restore();
  }

  // The figures beside the legend: at the cursor, or now.
  #show(index) {
    say(this.at, index == null ? "" : clock(this.store.time[index], this.store.seconds <= 3600));
    this.panel.lines.forEach((line, i) => {
      const value = index == null ? this.store.now[line.column] : this.store.parts.value[line.column][index];
      say(this.values[i], this.store.missing.has(line.column) ? NOT_LOGGED : full(value, this.panel.unit));
    });
    if (index == null) {
      const now = this.panel.lines.map((line, i) => `${line.name} ${this.values[i].textContent}`).join(", ");
      set(this.canvas, "aria-label", `${this.panel.title}: ${now}. Arrow keys read earlier values.`);
    }
  }

  // Why there is nothing to see, where there is nothing.
  #explain() {
    const columns = this.panel.lines.map((line) => line.column);
    const never = columns.every((column) => this.store.missing.has(column));
    const empty = !columns.some((column) => this.store.has(column));
    this.note.hidden = !empty;
    if (!empty) return;
    const words = never
      ? "SGLang's log does not say this."
      : "Nothing in this window. A gap means no data; it is not zero.";
    say(this.note, words);
  }

  #fit() {
    const width = this.canvas.clientWidth;
    if (this.plot && width > 0 && Math.abs(width - this.plot.width) >= 1) this.plot.setSize({ width, height: HEIGHT });
  }

  #move(event) {
    const last = this.store.time.length - 1;
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") this.plot.setCursor({ left: -10, top: -10 });
    if (!(event.key in steps) || last < 0) return;
    event.preventDefault();
    const from = this.plot.cursor.idx ?? last;
    const to = Math.min(last, Math.max(0, from + steps[event.key]));
    const left = this.plot.valToPos(this.store.time[to], "x");
    this.plot.setCursor({ left, top: this.plot.over.clientHeight / 2 });
    const spoken = this.panel.lines.map((line, i) => `${line.name} ${this.values[i].textContent}`).join(", ");
    set(this.canvas, "aria-label", `${this.panel.title} at ${this.at.textContent}: ${spoken}`);
  }
}

const bare = () => ({ width: 0, points: { show: false } });

// Values between two gaps would not be seen as a line: they get a point each.
function alone(values) {
  const found = [...values.keys()].filter((i) => values[i] !== null && values[i - 1] == null && values[i + 1] == null);
  return found.length ? found : null;
}

export class Charts {
  constructor(root, groups, store) {
    this.store = store;
    const sync = uPlot.sync("hisparse");
    this.all = [];
    for (const group of groups) {
      const charts = group.panels.map((panel) => new Chart(panel, store, sync));
      this.all.push(...charts);
      const id = `group-${this.all.length}`;
      const grid = make("div", { class: "grid" }, ...charts.map((chart) => chart.element));
      root.append(make("section", { "aria-labelledby": id }, make("h2", { id, text: group.title }), grid));
    }
    this.kind = null;
    addEventListener("themechange", () => this.draw(true));
  }

  draw(rebuild = false) {
    if (this.store.cursor === null) return;
    const kind = `${this.store.coarse} ${this.store.seconds}`;
    for (const chart of this.all) chart.draw(rebuild || kind !== this.kind);
    this.kind = kind;
  }
}
