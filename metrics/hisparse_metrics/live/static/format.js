// Numbers as a person reads them, by the units that Grafana has for the same panels. null is "no data"; zero is zero.

export const NO_DATA = "no data";
export const NOT_LOGGED = "not in the log";

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

function scaled(value, base, units) {
  let index = 0;
  while (Math.abs(value) >= base && index < units.length - 1) {
    value /= base;
    index += 1;
  }
  return `${Number(value.toPrecision(3))} ${units[index]}`;
}

function seconds(value) {
  if (value === 0) return "0 s";
  if (value < 1e-3) return `${Number((value * 1e6).toPrecision(3))} µs`;
  if (value < 1) return `${Number((value * 1e3).toPrecision(3))} ms`;
  return `${Number(value.toPrecision(3))} s`;
}

const FULL = {
  short: (v) => (Math.abs(v) < 100 ? plain : whole).format(v),
  percentunit: (v) => percent.format(v),
  s: seconds,
  binBps: (v) => scaled(v, 1024, ["B/s", "KiB/s", "MiB/s", "GiB/s", "TiB/s"]),
};
const ON_AXIS = { ...FULL, short: (v) => compact.format(v), percentunit: (v) => `${Math.round(v * 100)}%` };

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A value with its unit, in full. */
export function full(value, unit) {
  return isNumber(value) ? (FULL[unit] ?? FULL.short)(value) : NO_DATA;
}

/** A value as an axis shows it. */
export function onAxis(value, unit) {
  return isNumber(value) ? (ON_AXIS[unit] ?? ON_AXIS.short)(value) : "";
}

/** A usage as the decode log prints it. */
export function usage(value) {
  return isNumber(value) ? value.toFixed(2) : "–";
}

/** A count as the decode log prints it, with separators. */
export function count(value) {
  return isNumber(value) ? whole.format(value) : "–";
}

/** How long ago something was. */
export function age(value) {
  if (!isNumber(value)) return "never";
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} d`;
}

/** A time of day, with seconds where the span is short. */
export function clock(time, withSeconds) {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return new Date(time * 1000).toLocaleTimeString("en-GB", withSeconds ? { ...options, second: "2-digit" } : options);
}
