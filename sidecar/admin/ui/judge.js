// Decides what is wrong with a service, how bad it is, and why. Table, summary and title all use this verdict.

import { countdown, duration, age, now, percent, plural } from "./format.js";

const FAILING_BELOW = 90;
const DEGRADED_BELOW = 99;
const RECENT_S = 300; // a failure younger than this gives a hint, unless there was a success since
const WINDOW_S = 10; // the window of the rates
const NO_CAUSE = new Set(["ok", "circuit_open", "client_disconnect", "bad_request", "loop", "unknown_service"]); // these do not explain a failure of the service

/** Breaker -> {shape, word, extra}, as the table and the panels show it. */
export function breakerWords(breaker) {
  if (!breaker || breaker.mode === "off") return { shape: "idle", word: "off", extra: "" };
  const until = breaker.forced_until ? countdown(breaker.forced_until) : "";
  if (breaker.forced === "open") return { shape: "lock", word: "forced open", extra: until };
  if (breaker.forced === "closed") return { shape: "lock", word: "forced closed", extra: until };
  const since = breaker.since ? age(breaker.since) : "";
  const observed = breaker.mode === "observe" ? " (observe)" : "";
  if (breaker.state === "open") return { shape: "bad", word: `open${observed}`, extra: since };
  if (breaker.state === "half_open") return { shape: "half", word: `half-open${observed}`, extra: since };
  return { shape: "ok", word: `closed${observed}`, extra: "" };
}

function aboutBreaker(breaker, say) {
  if (breaker.forced) {
    const until = breaker.forced_until ? `, ${countdown(breaker.forced_until)} left` : "";
    const means = breaker.forced === "open" ? "every request is refused" : "no request is refused";
    say(breaker.forced === "open" ? 3 : 2, `breaker forced ${breaker.forced} by an operator${until}: ${means}`);
  } else if (breaker.state === "open") {
    const probe = breaker.retry_after_s > 0 ? `, next probe in ${duration(breaker.retry_after_s)}` : ", the next request is a probe";
    if (breaker.mode === "observe") say(2, `breaker would be open for ${age(breaker.since)} (mode observe)`);
    else say(4, `breaker open for ${age(breaker.since)}${probe}`);
  } else if (breaker.state === "half_open") {
    say(2, `breaker half-open for ${age(breaker.since)}, probing`);
  }
}

function aboutEndpoints(found, say) {
  if (found.total === 0) say(4, "no endpoint known");
  else if (found.available === 0) say(4, `none of ${plural(found.total, "endpoint")} available`);
  if (found.panic) say(3, "panic: too few endpoints are healthy, so all are used");
  if (found.available > 0 && found.available < found.total) {
    const why = [];
    if (found.ejected) why.push(`${found.ejected} ejected`);
    if (found.healthy < found.total) why.push(`${found.total - found.healthy} unhealthy or drained`);
    const because = why.length ? `: ${why.join(", ")}` : "";
    say(1, `${found.total - found.available} of ${found.total} endpoints unavailable${because}`);
  }
}

/** The most frequent reason in several {reason: count}; null if no reason explains a failure. */
function mostFrequent(...counts) {
  const sums = new Map();
  for (const [reason, count] of counts.flatMap((one) => Object.entries(one ?? {}))) {
    if (!NO_CAUSE.has(reason) && count > 0) sums.set(reason, (sums.get(reason) ?? 0) + count);
  }
  return [...sums].sort((a, b) => b[1] - a[1])[0]?.[0] ?? null;
}

/** The reason why the service's requests fail: the newest one that is known, or null. */
function causeOf({ recent_reasons: recent, last_failure: last, reasons, attempts = [] }) {
  const newest = mostFrequent(recent) ?? (last && !NO_CAUSE.has(last.reason) ? last.reason : null);
  return newest ?? mostFrequent(reasons) ?? mostFrequent(...attempts.map((endpoint) => endpoint.reasons)) ?? last?.reason ?? null;
}

/** A hint at a failure of the last minutes without a known success since; empty if there is none. */
function lastFailure({ name, rates, last_failure: last }, history) {
  if (!last || rates.success_rate !== null) return "";
  const at = Date.parse(last.at) / 1000;
  if (now() / 1000 - at > RECENT_S || history?.succeededSince(name, at + WINDOW_S)) return "";
  return `last failure ${age(last.at)} ago: ${last.reason}`;
}

/**
 * ServiceSummary -> {rank (0 healthy .. 4 failing), level, word, cause, reasons: the worst first}.
 * `history` has the successes before the window. `service.attempts` are the endpoints, if they are known.
 */
export function judge(service, history = null) {
  const found = [];
  const say = (rank, text) => found.push({ rank, text });
  const cause = causeOf(service);
  const because = cause ? `: ${cause}` : "";
  if (service.breaker && service.breaker.mode !== "off") aboutBreaker(service.breaker, say);
  aboutEndpoints(service.endpoints, say);
  const success = service.rates.success_rate;
  if (success !== null && success < FAILING_BELOW) say(3, `${percent(success)} of requests succeed${because}`);
  else if (success !== null && success < DEGRADED_BELOW) say(1, `${percent(success)} of requests succeed${because}`);
  const budget = service.budget;
  if (budget && budget.min_per_second + budget.ratio > 0 && budget.balance < 1) say(1, "retry budget is used up");
  found.sort((a, b) => b.rank - a.rank);
  const rank = found[0]?.rank ?? 0;
  const opened = service.breaker?.state === "open" && !service.breaker.forced;
  const explained = cause !== null && found.some((one) => one.text.endsWith(because));
  if (opened && cause !== null && !explained) found.push({ rank: 0, text: `requests failed with ${cause}` });
  const hint = lastFailure(service, history);
  const level = rank >= 3 ? "bad" : rank > 0 ? "warn" : success === null ? "idle" : "ok";
  const word = { bad: "failing", warn: "degraded", idle: "no requests", ok: "healthy" }[level];
  return { rank, level, word, cause: explained || opened ? cause : null, hint, reasons: [...found.map((one) => one.text), ...(hint ? [hint] : [])] };
}

/** Endpoint of a detail -> {shape, word, extra}. */
export function endpointWords(endpoint) {
  const until = endpoint.forced_until ? `${countdown(endpoint.forced_until)} left` : "";
  if (endpoint.drained) return { shape: "pause", word: "drained", extra: until };
  if (endpoint.ejected) {
    const back = endpoint.forced_until ?? endpoint.ejected_until;
    return { shape: "bad", word: "ejected", extra: back ? `back in ${countdown(back)}` : "" };
  }
  if (!endpoint.healthy) return { shape: "warn", word: "unhealthy", extra: "" };
  if (endpoint.skipped_until) return { shape: "warn", word: "skipped", extra: countdown(endpoint.skipped_until) };
  if (!endpoint.available) return { shape: "warn", word: "unavailable", extra: "" };
  return { shape: "ok", word: "available", extra: "" };
}
