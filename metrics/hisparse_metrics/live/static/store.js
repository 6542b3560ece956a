// The rows of the chosen window and rank, as the endpoint sends them: appended by row number, joined across a restart of
// the exporter, trimmed to the window. Knows no element.

const instanceOf = (cursor) => cursor.slice(0, 8);

export class Store {
  constructor(columns) {
    this.columns = columns;
    this.clear();
  }

  clear() {
    this.time = [];
    this.parts = { value: this.#empty(), low: this.#empty(), high: this.#empty() };
    this.events = [];
    this.cursor = null;
    this.shift = 0; // row number + shift = index
    this.coarse = false;
    this.end = 0;
    this.seconds = 900;
    this.missing = new Set();
    this.now = {}; // the exact values of this moment; none of what is not true any more
  }

  #empty() {
    return Object.fromEntries(this.columns.map((column) => [column, []]));
  }

  /** Take in an answer of the window and rank that this store is about. */
  apply(answer) {
    if (answer.complete) this.#begin(answer);
    let at = answer.first + this.shift;
    if (at > this.time.length) {
      this.shift -= at - this.time.length;
      at = this.time.length;
    }
    this.#truncate(at);
    this.#append(answer.rows);
    this.events.push(...answer.events);
    this.cursor = answer.cursor;
    this.seconds = answer.seconds;
    this.end = answer.time;
    this.missing = new Set(answer.never);
    this.#trim(answer.time - answer.seconds);
  }

  #begin(answer) {
    const other = this.cursor !== null && instanceOf(this.cursor) !== instanceOf(answer.cursor);
    if (!other) this.clear();
    this.coarse = answer.resolution > 1;
    if (other) this.#joinTo(answer);
    this.shift = this.time.length - answer.first;
  }

  // Another exporter process answers: what this page has seen before it stays, with a gap in between.
  #joinTo(answer) {
    const first = answer.rows.time[0] ?? answer.time;
    const kept = this.time.findIndex((time) => time >= first);
    this.#truncate(kept < 0 ? this.time.length : kept);
    if (this.time.length === 0) return;
    this.events.push({ time: first, kind: "exporter", rank: "all" });
    this.time.push((this.time.at(-1) + first) / 2);
    for (const part of Object.values(this.parts)) for (const column of this.columns) part[column].push(null);
  }

  #truncate(length) {
    this.time.length = length;
    for (const part of Object.values(this.parts)) for (const column of this.columns) part[column].length = length;
  }

  #append(rows) {
    this.time.push(...rows.time);
    for (const column of this.columns) {
      const sent = rows.columns[column];
      for (const [name, part] of Object.entries(this.parts)) part[column].push(...(sent[name] ?? sent.value));
    }
  }

  #trim(oldest) {
    const kept = this.time.findIndex((time) => time >= oldest);
    const gone = kept < 0 ? 0 : kept;
    this.events = this.events.filter((event) => event.time >= oldest);
    if (gone === 0) return;
    this.time.splice(0, gone);
    for (const part of Object.values(this.parts)) for (const column of this.columns) part[column].splice(0, gone);
    this.shift -= gone;
  }

  /** Whether a column has any value in the window. */
  has(column) {
    return this.parts.value[column].some((value) => value !== null);
  }

  /** Lowest, average and highest of a column in the window. */
  summary(column) {
    const known = (part) => this.parts[part][column].filter((value) => value !== null);
    const values = known("value");
    if (values.length === 0) return { low: null, average: null, high: null };
    return {
      low: known("low").reduce((a, b) => Math.min(a, b)),
      average: values.reduce((a, b) => a + b, 0) / values.length,
      high: known("high").reduce((a, b) => Math.max(a, b)),
    };
  }
}
