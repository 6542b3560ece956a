// The split of one rank, or of all: two bars and two figures, in the words of the decode log.
import { make, say, set } from "./dom.js";
import { NOT_LOGGED, NO_DATA, age, count, full, usage } from "./format.js";

const TIERS = [
  { tier: "device", word: "gpu", place: "on the device" },
  { tier: "host", word: "cpu", place: "in host memory" },
];

const panelOf = (vocabulary, column) =>
  vocabulary.groups.flatMap((group) => group.panels).find((panel) => panel.lines.some((line) => line.column === column));

const share = (value) => `${100 * Math.min(value ?? 0, 1)}%`;

class Tier {
  constructor({ tier, word, place }, vocabulary) {
    Object.assign(this, { tier, word, place });
    this.limits = panelOf(vocabulary, `${tier}_usage`).thresholds.filter((limit) => limit.from !== null);
    this.usage = make("strong", { class: "big" });
    this.tokens = make("strong", { class: "big" });
    this.badge = make("span", { class: "badge", hidden: true });
    this.capacity = make("span", { class: "of" });
    this.fill = make("span", { class: `fill ${tier}` });
    this.beyond = make("span", { class: `fill ${tier === "host" ? "reserved" : "spare"}` });
    const ticks = this.limits.map((limit) => {
      const tick = make("span", { class: "tick", title: `threshold ${full(limit.from, "percentunit")}` });
      tick.style.left = `${limit.from * 100}%`;
      tick.style.setProperty("--color", limit.color);
      return tick;
    });
    this.bar = make("div", { class: "bar", role: "meter", "aria-valuemin": "0", "aria-valuemax": "1", "aria-label": `${word} token usage` }, this.beyond, this.fill, ...ticks);
    this.element = make(
      "div",
      { class: `tier ${tier}` },
      make("p", { class: "figures" }, make("span", { class: "word", text: `${word} token usage` }), this.usage, this.badge),
      this.bar,
      make("p", { class: "figures" }, make("span", { class: "word", text: `#${word}-token` }), this.tokens, this.capacity),
    );
  }

  show(values, many) {
    const at = values[`${this.tier}_usage`];
    const tokens = values[`${this.tier}_tokens`];
    const capacity = values[`${this.tier}_capacity`];
    const reserved = Math.max((values[`${this.tier}_committed`] ?? 0) - tokens, 0);
    const spare = values[`${this.tier}_spare`] ?? 0;
    // What worries is what nobody would give back: a device pool that is full of spare is as it should be.
    const judged = values[`${this.tier}_usage_committed`] ?? at;
    say(this.usage, usage(at));
    say(this.tokens, count(tokens));
    this.fill.style.width = share(judged);
    this.beyond.style.width = share(capacity ? (tokens + reserved) / capacity : 0);
    set(this.bar, "aria-valuenow", (at ?? 0).toFixed(3));
    set(this.bar, "aria-valuetext", at == null ? NO_DATA : full(at, "percentunit"));
    const parts = [capacity ? `of ${count(capacity)} ${this.place}` : this.place];
    if (capacity === 0) parts[0] = "this engine has no such pool";
    if (reserved > 0) parts.push(`${count(reserved)} more reserved`);
    if (spare > 0) parts.push(`${count(spare)} of it spare`);
    if (many && at != null) parts.push("usage is of the fullest rank");
    say(this.capacity, parts.join(", "));
    const worst = this.limits.filter((limit) => judged >= limit.from).at(-1);
    this.badge.hidden = judged == null || !worst;
    if (worst) {
      say(this.badge, `above ${full(worst.from, "percentunit")}`);
      this.badge.style.setProperty("--color", worst.color);
    }
  }
}

const TILES = [
  { name: "Hit ratio", of: (v) => full(v.hit_ratio, "percentunit"), column: "hit_ratio" },
  { name: "Generated", of: (v) => perSecond(v.generation), column: "generation" },
  { name: "Prompt", of: (v) => perSecond(v.prompt), column: "prompt" },
  { name: "Host to device", of: (v) => full(v.host_to_device, "binBps"), column: "host_to_device" },
  { name: "Device to host", of: (v) => full(v.device_to_host, "binBps"), column: "device_to_host" },
  { name: "Running, staging, waiting", of: (v) => [v.running, v.staging, v.waiting].map(count).join(" · "), column: "running" },
  { name: "Decode step p50 · p99", of: (v) => pair(v.step_p50, v.step_p99), column: "step_p50" },
  { name: "Swap-in p50 · p99", of: (v) => pair(v.swap_in_p50, v.swap_in_p99), column: "swap_in_p50" },
];

const perSecond = (value) => (value == null ? NO_DATA : `${full(value, "short")} tokens/s`);
const pair = (a, b) => (a == null ? NO_DATA : `${full(a, "s")} · ${full(b, "s")}`);

export class Split {
  constructor(root, vocabulary) {
    this.root = root;
    this.title = make("h2", { id: "split-title", text: "The split now" });
    this.state = make("span", { class: "state" });
    this.facts = make("p", { class: "facts" });
    this.tiers = TIERS.map((tier) => new Tier(tier, vocabulary));
    this.tiles = TILES.map((tile) => ({ ...tile, value: make("dd"), element: make("div", { class: "tile" }) }));
    for (const tile of this.tiles) tile.element.append(make("dt", { text: tile.name }), tile.value);
    this.line = make("code", { class: "line" });
    root.append(
      make("div", { class: "heading" }, this.title, this.state, this.facts),
      make("div", { class: "tiers" }, ...this.tiers.map((tier) => tier.element)),
      make("dl", { class: "tiles" }, ...this.tiles.map((tile) => tile.element)),
      make("p", { class: "as-logged" }, make("span", { class: "word", text: "As the decode log says it" }), this.line),
    );
  }

  /** `rank` is one rank, or null for all `ranks` with their `total`. */
  show({ rank, ranks, total, states, name, missing }) {
    const values = rank ?? total;
    const old = rank !== null && rank.values_age > 0;
    set(this.root, "data-old", old ? "true" : null);
    say(this.title, name);
    for (const tier of this.tiers) tier.show(values, rank === null && ranks.length > 1);
    for (const tile of this.tiles) {
      say(tile.value, missing.has(tile.column) ? NOT_LOGGED : tile.of(values));
    }
    say(this.line, logLine(values));
    this.#state(rank, states);
    const facts = rank ? factsOf(rank) : factsOfAll(ranks);
    say(this.facts, [...(old ? [`last values, ${age(rank.values_age)} old`] : []), ...facts].join(" · "));
  }

  #state(rank, states) {
    const present = Object.entries(states).filter(([, n]) => n > 0);
    set(this.state, "data-state", rank ? rank.state : (present[0]?.[0] ?? null));
    say(this.state, rank ? rank.state : present.map(([state, n]) => `${n} ${state}`).join(", "));
  }
}

function factsOf(rank) {
  const facts = [`last step ${age(rank.step_age)} ago`, `${count(rank.retractions ?? 0)} retractions`];
  if (rank.labels.model_name) facts.push(`model ${rank.labels.model_name}`);
  if (rank.mode) facts.push(rank.mode);
  if (rank.labels.source) facts.push(`from ${rank.labels.source}`);
  if (rank.pool_usage !== null && rank.device_usage === null) {
    facts.push(`its log has no split: #token ${count(rank.pool_tokens)}, token usage ${usage(rank.pool_usage)}`);
  }
  return facts;
}

function factsOfAll(ranks) {
  const busy = ranks.filter((rank) => rank.running > 0 && rank.values_age === 0).map((rank) => rank.step_age ?? 0);
  const models = [...new Set(ranks.map((rank) => rank.labels.model_name).filter(Boolean))];
  const facts = busy.length ? [`longest without a step ${age(Math.max(...busy))}`] : [];
  facts.push(`${count(ranks.reduce((sum, rank) => sum + (rank.retractions ?? 0), 0))} retractions`);
  return models.length > 3 ? [...facts, `${models.length} models`] : [...facts, ...models.map((m) => `model ${m}`)];
}

function logLine(values) {
  const parts = [];
  if (values.running != null) parts.push(`#running-req: ${values.running}`);
  if (values.device_tokens != null) parts.push(`#gpu-token: ${values.device_tokens}, gpu token usage: ${usage(values.device_usage ?? 0)}`);
  if (values.host_tokens != null) parts.push(`#cpu-token: ${values.host_tokens}, cpu token usage: ${usage(values.host_usage ?? 0)}`);
  if (values.generation != null) parts.push(`gen throughput (token/s): ${values.generation.toFixed(1)}`);
  if (values.waiting != null) parts.push(`#queue-req: ${values.waiting}`);
  return parts.length ? parts.join(", ") : NO_DATA;
}
