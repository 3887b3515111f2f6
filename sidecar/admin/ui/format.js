// Formats numbers, durations and times. They are based on the daemon's clock, not on the browser's.

let offset = 0;

/** Learns the difference to the daemon's clock. A `Date` header has whole seconds, so small differences are ignored. */
export function learnClock(header) {
  const theirs = Date.parse(header ?? "");
  if (Number.isNaN(theirs)) return;
  const found = theirs + 500 - Date.now();
  offset = Math.abs(found) < 2500 ? 0 : found;
}

/** The current time of the daemon's clock, in milliseconds. */
export const now = () => Date.now() + offset;

export const NONE = "–";

export function number(value, digits = 0) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** 0, 0.4, 12.3, 1,234: three digits are enough. */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0";
  if (value < 0.05) return "<0.1";
  return value < 100 ? number(value, 1) : number(value);
}

export function percent(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 100) return "100 %";
  if (value === 0) return "0 %";
  // Never rounded up to 100 %.
  const digits = value > 99 ? 2 : 1;
  const cut = Math.floor(value * 10 ** digits) / 10 ** digits;
  return `${number(cut, digits)} %`;
}

export function millis(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 10) return number(value, 1);
  return number(value);
}

/** 850 ms, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds < 0) seconds = 0;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (big, bigUnit, small, smallUnit) => (small ? `${big} ${bigUnit} ${small} ${smallUnit}` : `${big} ${bigUnit}`);
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return two(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return two(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

export const age = (time) => duration((now() - Date.parse(time)) / 1000);

/** Seconds until a time, never below 0. */
export const left = (time) => Math.max(0, (Date.parse(time) - now()) / 1000);

/** 0:07, 4:12, 1:02:03. */
export function countdown(time) {
  const whole = Math.ceil(left(time));
  const two = (n) => String(n).padStart(2, "0");
  const [hours, minutes, seconds] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minuteFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** The time of day in the user's time zone; with the date, if it is not today. */
export function clock(time) {
  const date = new Date(time);
  const today = new Date(now());
  const text = clockFormat.format(date);
  return date.toDateString() === today.toDateString() ? text : `${dayFormat.format(date)} ${text}`;
}

export const minute = (unixSeconds) => minuteFormat.format(new Date(unixSeconds * 1000));

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** A policy value in the notation of the file. */
export function yaml(value) {
  if (value === null) return "off";
  if (Array.isArray(value)) return value.length ? value.map(yaml).join(", ") : "[]";
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([key, one]) => `${key}: ${yaml(one)}`).join(", ")}}`;
  }
  return String(value);
}
