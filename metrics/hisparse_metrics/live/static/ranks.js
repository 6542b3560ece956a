// Every rank in a table, worst first. Choosing one shows it above and in the charts.
import { make, say, set } from "./dom.js";
import { NOT_LOGGED, NO_DATA, age, count, full, usage } from "./format.js";

const FEW = 12;

const COLUMNS = [
  { name: "State", cell: stateCell },
  { name: "Engine", cell: null },
  { name: "Device", cell: (cell, rank) => tierCell(cell, rank, "device") },
  { name: "Host", cell: (cell, rank) => tierCell(cell, rank, "host") },
  { name: "Hit ratio", cell: (cell, rank) => say(cell, rank.kind === "log" ? NOT_LOGGED : full(rank.hit_ratio, "percentunit")) },
  { name: "Tokens/s", cell: (cell, rank) => say(cell, full(rank.generation, "short")) },
  { name: "Run · stage · wait", cell: (cell, rank) => say(cell, [rank.running, rank.staging, rank.waiting].map(count).join(" · ")) },
  { name: "Last step", cell: (cell, rank) => say(cell, age(rank.step_age)) },
  { name: "Retractions", cell: (cell, rank) => say(cell, count(rank.retractions ?? 0)) },
  { name: "Model", cell: (cell, rank) => say(cell, rank.labels.model_name || "–") },
];

function stateCell(cell, rank) {
  const badge = cell.firstElementChild ?? cell.appendChild(make("span", { class: "state" }));
  set(badge, "data-state", rank.state);
  say(badge, rank.values_age > 0 ? `${rank.state}, values ${age(rank.values_age)} old` : rank.state);
}

function tierCell(cell, rank, tier) {
  if (!cell.firstElementChild) {
    cell.append(make("span", { class: "bar small", "aria-hidden": "true" }, make("span", { class: `fill ${tier}` })), make("span"));
  }
  const [bar, text] = cell.children;
  bar.firstElementChild.style.width = `${100 * Math.min(rank[`${tier}_usage`] ?? 0, 1)}%`;
  const tokens = rank[`${tier}_tokens`];
  say(text, tokens === null ? NO_DATA : `${usage(rank[`${tier}_usage`])} ${count(tokens)}`);
}

export class Ranks {
  constructor(root, choose) {
    this.root = root;
    this.choose = choose;
    this.rows = new Map();
    this.shown = [];
    this.showsAll = false;
    this.filter = make("input", { type: "search", placeholder: "Filter by name or state", "aria-label": "Filter engines" });
    this.more = make("button", { type: "button" });
    this.summary = make("p", { class: "facts" });
    this.body = make("tbody");
    this.tools = make("div", { class: "tools" }, this.filter, this.more);
    root.append(
      make("div", { class: "heading" }, make("h2", { id: "ranks-title", text: "Engines" }), this.summary, this.tools),
      make("div", { class: "card" }, make(
        "table",
        { class: "ranks" },
        make("thead", {}, make("tr", {}, ...COLUMNS.map((column) => make("th", { scope: "col", text: column.name })))),
        this.body,
      )),
    );
    this.filter.addEventListener("input", () => this.#draw());
    this.more.addEventListener("click", () => {
      this.showsAll = !this.showsAll;
      this.#draw();
    });
  }

  show({ ranks, names, chosen, leftOut, states }) {
    this.state = { ranks, names, chosen, leftOut };
    this.root.hidden = ranks.length < 2;
    if (this.root.hidden) return;
    const counts = Object.entries(states).filter(([, n]) => n > 0).map(([state, n]) => `${n} ${state}`);
    say(this.summary, `${ranks.length + leftOut} ranks: ${counts.join(", ")}`);
    this.#draw();
  }

  #draw() {
    const { ranks, names, chosen, leftOut } = this.state;
    const words = this.filter.value.trim().toLowerCase();
    const found = ranks.filter((rank) => `${names.get(rank.id)} ${rank.state} ${rank.labels.model_name}`.toLowerCase().includes(words));
    const shown = this.showsAll ? found : found.slice(0, FEW);
    this.tools.hidden = ranks.length <= FEW;
    this.more.hidden = found.length <= FEW;
    say(this.more, this.showsAll ? `Show the worst ${FEW}` : `Show all ${found.length}${leftOut ? ` of ${ranks.length + leftOut}` : ""}`);
    const ids = new Set(shown.map((rank) => rank.id));
    for (const [id, row] of this.rows) {
      if (!ids.has(id)) {
        row.element.remove();
        this.rows.delete(id);
      }
    }
    shown.forEach((rank, index) => this.#row(rank, index, names.get(rank.id), chosen === rank.id));
  }

  #row(rank, index, name, isChosen) {
    const row = this.rows.get(rank.id) ?? this.#make(rank.id);
    if (this.body.children[index] !== row.element) this.body.insertBefore(row.element, this.body.children[index] ?? null);
    say(row.button, name);
    set(row.button, "aria-pressed", isChosen ? "true" : "false");
    set(row.element, "data-old", rank.values_age > 0 ? "true" : null);
    COLUMNS.forEach((column, i) => column.cell?.(row.cells[i], rank));
  }

  #make(id) {
    const button = make("button", { type: "button", class: "name" });
    button.addEventListener("click", () => this.choose(this.state.chosen === id ? "all" : id));
    const cells = COLUMNS.map(({ name, cell }) =>
      cell ? make("td", { "data-name": name }) : make("th", { scope: "row", "data-name": name }, button),
    );
    const row = { button, cells, element: make("tr", {}, ...cells) };
    this.rows.set(id, row);
    return row;
  }
}
