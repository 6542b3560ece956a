// The live page: what is chosen, and who draws it. Everything comes from one endpoint and one vocabulary.
import { Charts } from "./charts.js";
import { make, say, set } from "./dom.js";
import { clock } from "./format.js";
import { Feed } from "./feed.js";
import { namesOf, ranksOf } from "./names.js";
import { Ranks } from "./ranks.js";
import { Split } from "./split.js";
import { Store } from "./store.js";
import { Values } from "./values.js";

const { files, api } = document.documentElement.dataset;
const page = files.split("/").pop();
const byId = (id) => document.getElementById(id);

const vocabulary = await (await fetch(`${files}/vocabulary.json`)).json();
for (const [name, color] of Object.entries(vocabulary.colors)) {
  document.documentElement.style.setProperty(`--${name}`, color);
}
const panels = vocabulary.groups.flatMap((group) => group.panels);
const store = new Store([...new Set(panels.flatMap((panel) => panel.lines.map((line) => line.column)))]);

const chosen = { window: "15m", rank: "all", paused: false };
const split = new Split(byId("split"), vocabulary);
const ranksTable = new Ranks(byId("ranks"), chooseRank);
const charts = new Charts(byId("charts"), vocabulary.groups, store);
const values = new Values(byId("values"), vocabulary.groups);
const feed = new Feed(api, {
  query: () => new URLSearchParams({ window: chosen.window, rank: chosen.rank, ...(store.cursor && { since: store.cursor }) }),
  take,
  trouble,
});

function take(answer) {
  if (answer.page !== page) return reloadFor(answer.page);
  store.apply(answer);
  const ranks = ranksOf(answer);
  const names = namesOf(ranks);
  const only = ranks.length === 1 && answer.left_out === 0 ? ranks[0] : null;
  const rank = ranks.find((each) => each.id === chosen.rank) ?? only;
  store.now = rank === null ? answer.total : rank.values_age > 0 ? {} : rank;
  say(byId("status"), chosen.paused ? `Paused at ${clock(answer.time, true)}` : "Live");
  set(byId("status"), "data-state", chosen.paused ? "paused" : "live");
  notice(ranks, answer, rank);
  split.show({ rank, ranks, total: answer.total, states: answer.states, missing: new Set(rank?.kind === "log" || !rank ? answer.never : []),
    name: rank ? names.get(rank.id) : "All engines" });
  byId("split").hidden = ranks.length === 0;
  ranksTable.show({ ranks, names, chosen: chosen.rank, leftOut: answer.left_out, states: answer.states });
  options(ranks, names);
  charts.draw();
  values.show(store, names);
}

function notice(ranks, answer, rank) {
  const element = byId("notice");
  const words =
    ranks.length === 0
      ? "No engine yet. This page fills in as soon as one publishes its stats page, or its log is read."
      : rank && !answer.recorded && chosen.rank !== "all"
        ? "This rank has values, but no history of its own: the first 32 ranks have one. Choose All for every rank together."
        : "";
  say(element, words);
  element.hidden = !words;
}

function trouble(text, status) {
  if (status === 404 && chosen.rank !== "all") return chooseRank("all");
  set(byId("status"), "data-state", "lost");
  say(byId("status"), `${text}; trying again. What you see is from ${store.end ? clock(store.end, true) : "before"}.`);
}

// The exporter was replaced by another release: its page is another one. Once only, whatever it answers.
function reloadFor(version) {
  feed.stop();
  const key = "hisparse-reloaded-for";
  let reloaded = version;
  try {
    reloaded = sessionStorage.getItem(key);
    sessionStorage.setItem(key, version);
  } catch { /* no storage: ask instead of risking a loop */ }
  if (reloaded !== version) return location.reload();
  say(byId("status"), "This exporter is another release: load the page again.");
  return set(byId("status"), "data-state", "lost");
}

function options(ranks, names) {
  const select = byId("rank");
  byId("rank-pick").hidden = ranks.length < 2;
  const wanted = [["all", `All ${ranks.length} ranks`], ...[...names].sort((a, b) => a[1].localeCompare(b[1], "en", { numeric: true }))];
  const now = [...select.options].map((option) => [option.value, option.textContent]);
  if (JSON.stringify(now) !== JSON.stringify(wanted)) {
    select.replaceChildren(...wanted.map(([value, text]) => make("option", { value, text })));
  }
  if (select.value !== chosen.rank) select.value = chosen.rank;
}

function restart() {
  store.clear();
  feed.ask();
}

function chooseRank(id) {
  chosen.rank = id;
  restart();
}

byId("rank").addEventListener("change", (event) => chooseRank(event.target.value));
byId("window").addEventListener("change", (event) => {
  chosen.window = event.target.value;
  restart();
});
byId("pause").addEventListener("click", () => {
  chosen.paused = !chosen.paused;
  set(byId("pause"), "aria-pressed", String(chosen.paused));
  say(byId("pause"), chosen.paused ? "Resume" : "Pause");
  if (chosen.paused) {
    feed.stop();
    set(byId("status"), "data-state", "paused");
    say(byId("status"), `Paused at ${store.end ? clock(store.end, true) : "the start"}`);
  } else feed.start();
});
say(
  byId("about-history"),
  `Kept in memory: every second of the last 15 minutes, 10 s for an hour, 60 s for a day, with lowest and highest. Rates are of one second here; Grafana and the alerts average them over ${vocabulary.rate_window}. Quantiles look back 10 s.`,
);
feed.start();
