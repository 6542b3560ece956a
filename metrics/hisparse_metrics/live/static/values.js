// Every line of every chart as a row of numbers: the same, for who does not see the charts.
import { make, say } from "./dom.js";
import { NOT_LOGGED, clock, full } from "./format.js";

const WORDS = { restart: "restarted", down: "went down", exporter: "is answered by another exporter process" };

export class Values {
  constructor(root, groups) {
    this.events = make("ul", { class: "events" });
    this.happened = make("div", { hidden: true }, make("h3", { text: "What happened" }), this.events);
    this.rows = groups.flatMap((group) => group.panels).flatMap((panel) => panel.lines.map((line) => this.#row(panel, line)));
    const head = ["Chart", "Series", "Now", "Lowest", "Average", "Highest"];
    root.append(
      make("h2", { id: "values-title", text: "Values now, and over the window" }),
      make("div", { class: "card" }, make(
        "table",
        { class: "values" },
        make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col", text })))),
        make("tbody", {}, ...this.rows.map((row) => row.element)),
      ), this.happened),
    );
  }

  #row(panel, line) {
    const swatch = make("span", { class: line.dashed ? "swatch dashed" : "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--color", line.color);
    const cells = ["Now", "Lowest", "Average", "Highest"].map((name) => make("td", { "data-name": name }));
    const title = make("th", { scope: "row", title: line.metrics.join(", ") }, swatch, line.name, make("span", { class: "of-chart", "aria-hidden": "true", text: panel.title }));
    const element = make("tr", { "data-column": line.column }, make("td", { text: panel.title }), title, ...cells);
    return { panel, line, cells, element };
  }

  show(store, names) {
    for (const { panel, line, cells } of this.rows) {
      const { low, average, high } = store.summary(line.column);
      [store.now[line.column], low, average, high].forEach((value, i) => say(cells[i], store.missing.has(line.column) ? NOT_LOGGED : full(value, panel.unit)));
    }
    const events = store.events.slice(-20).reverse();
    this.happened.hidden = events.length === 0;
    const texts = events.map((event) => `${clock(event.time, true)} ${names.get(event.rank) ?? "the page"} ${WORDS[event.kind] ?? event.kind}`);
    while (this.events.children.length > texts.length) this.events.lastElementChild.remove();
    texts.forEach((text, i) => say(this.events.children[i] ?? this.events.appendChild(make("li")), text));
  }
}
