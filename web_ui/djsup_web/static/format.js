// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const NONE = "–";

/** A count: exact while it is short. */
export function count(number) {
  return number < 100_000 ? whole.format(number) : compact.format(number);
}

/** A figure that has a decimal only while it is small. */
export function figure(number) {
  if (number === null || number === undefined) return NONE;
  return number !== 0 && number < 10 ? oneDigit.format(number) : whole.format(number);
}

/** Bytes, in the unit that keeps it short. */
export function bytes(number) {
  const mib = number / 1024 / 1024;
  return mib < 1024 ? `${mib < 10 ? oneDigit.format(mib) : whole.format(mib)} MiB` : `${oneDigit.format(mib / 1024)} GiB`;
}

/** A duration in seconds, by its two largest units. */
export function duration(seconds) {
  if (seconds < 1) return `${whole.format(Math.max(0, seconds) * 1000)} ms`;
  if (seconds < 10) return `${oneDigit.format(seconds)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** How long ago, in seconds, calmly: it changes each minute, not each second. */
export function ago(seconds) {
  if (seconds < 10) return "just now";
  if (seconds < 60) return "less than a minute ago";
  return `${duration(seconds)} ago`;
}

/** How long a running request takes, to a tenth of a second. */
export function age(seconds) {
  return seconds < 60 ? `${oneDigit.format(Math.max(0, seconds))} s` : duration(seconds);
}

/** The time of day of an ISO 8601 time, with the date when it is not today's. */
export function clock(iso) {
  const at = new Date(iso);
  const time = at.toLocaleTimeString("en-GB");
  if (at.toDateString() === new Date().toDateString()) return time;
  return `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}`;
}

/** "1 worker", "2 workers". */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
