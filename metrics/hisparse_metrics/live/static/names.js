// What ranks are called: as short as they can be told apart by.

const SHORT = { dp_rank: "dp", pp_rank: "pp", tp_rank: "tp", ep_rank: "ep" };

function part(label, value) {
  if (label in SHORT) return `${SHORT[label]} ${value}`;
  if (label.endsWith("_rank")) return `${label.slice(0, -5)} ${value}`;
  return label === "source" ? value.split("/").pop() : value;
}

/** Return a name for each rank's id: the engine, and every other label in which ranks differ. */
export function namesOf(ranks) {
  const labels = [...new Set(ranks.flatMap((rank) => Object.keys(rank.labels)))];
  const differing = labels.filter(
    (label) => label !== "engine_name" && label !== "model_name" && new Set(ranks.map((r) => r.labels[label])).size > 1,
  );
  return new Map(
    ranks.map((rank) => {
      const parts = differing.filter((label) => rank.labels[label]).map((label) => part(label, rank.labels[label]));
      return [rank.id, [rank.labels.engine_name || "engine", ...parts].join(" ")];
    }),
  );
}

/** Return the table of ranks as objects, one a rank. */
export function ranksOf(answer) {
  const { fields, rows } = answer.ranks;
  return rows.map((row) => Object.fromEntries(fields.map((field, index) => [field, row[index]])));
}
