// Overview of all services: what needs attention and why, then one line for each service.

import { Spark } from "./charts.js";
import { Rows, h, renew, saying, setAttr, setClass, setState, setText, shape } from "./dom.js";
import { NONE, millis, number, percent, plural, rate } from "./format.js";
import { breakerWords, judge } from "./judge.js";

const SORT = "sidecar.sort";
const QUIET_MS = 4000; // rows keep their places for this time after the user last moved over them
const SHOWN_REASONS = 6;
const SHOWN_PIPS = 8;
const COLUMNS = [
  ["Service", ""], ["Breaker", ""], ["Success", "num"], ["Requests/s", "num"], ["", "chart wide"], ["p50 / p99 ms", "num"], ["", "chart wider"],
  ["Retries/s", "num"], ["Budget left", "num"], ["Endpoints", ""],
];

const urgency = ({ rank, hint }) => rank + (hint ? 0.5 : 0);
const linkTo = (name) => `#/services/${encodeURIComponent(name)}`;

function pips(endpoints) {
  const shares = endpoints.shares ?? [];
  if (!shares.length || shares.length > SHOWN_PIPS) return null;
  const most = Math.max(...shares.map(({ share }) => share ?? 0));
  return h("span", { class: "pips", "aria-hidden": "true" },
    ...shares.map(({ available, share: found }) => {
      const share = available || endpoints.panic ? found : null; // the share from before it became unavailable no longer counts
      const bar = h("b", {});
      bar.style.height = most ? `${(100 * (share ?? 0)) / most}%` : available ? "100%" : "0";
      const words = `${available ? "available" : "unavailable"}${share === null || share === undefined ? "" : `, ${percent(share)} of the attempts`}`;
      return h("i", { class: available ? "in" : "out", title: words }, bar);
    }));
}

function endpointsCell(node, endpoints) {
  const { total, available, panic } = endpoints;
  const shares = (endpoints.shares ?? []).map(({ available: well, share }) => `${well}${Math.round(share ?? -1)}`).join();
  renew(node, [total, available, panic, shares], () => [
    pips(endpoints),
    h("span", { class: available < total || !total ? "number off" : "number" }, `${available}/${total}`),
    saying(" available"),
    panic ? h("span", { class: "extra" }, "panic") : null,
  ]);
}

function makeRow(name) {
  const cell = (at, ...children) => h("td", { role: "cell", class: COLUMNS[at][1], data: { label: COLUMNS[at][0] } }, ...children);
  const requests = new Spark("requests", `${name}, requests and errors`);
  const latency = new Spark("latency", `${name}, latency`);
  const mark = h("span", { class: "mark" });
  const [breaker, success, rps, ms, retries, budget, endpoints] = [1, 2, 3, 5, 7, 8, 9].map((at) => cell(at));
  const node = h("tr", { role: "row" },
    h("th", { role: "rowheader", scope: "row" }, mark, h("a", { href: linkTo(name) }, name)),
    breaker, success, rps, cell(4, requests.node), ms, cell(6, latency.node), retries, budget, endpoints);
  let drawn = -1;
  return {
    node,
    gone() {
      requests.gone();
      latency.gone();
    },
    update({ service, verdict, history }) {
      setClass(node, `is-${verdict.level}`);
      const seen = verdict.level === "bad" || verdict.level === "warn" || verdict.hint;
      renew(mark, [verdict.level, seen], () => [seen ? shape(verdict.level) : null, saying(`${verdict.word}: `)]);
      setAttr(mark, "title", verdict.reasons.join(" · ") || null);
      const words = breakerWords(service.breaker);
      setState(breaker, words.shape, words.word, words.extra);
      const rates = service.rates;
      setText(success, percent(rates.success_rate));
      success.classList.toggle("off", rates.success_rate !== null && rates.success_rate < 99);
      setText(rps, rate(rates.requests_per_s));
      setText(ms, rates.p50_ms === null ? NONE : `${millis(rates.p50_ms)} / ${millis(rates.p99_ms)}`);
      setText(retries, rate(rates.retries_per_s));
      setText(budget, number(Math.floor(service.budget.balance)));
      budget.classList.toggle("off", service.budget.balance < 1 && service.budget.min_per_second > 0);
      endpointsCell(endpoints, service.endpoints);
      if (drawn !== history.version) {
        drawn = history.version;
        requests.update(history.requests(name));
        latency.update(history.latency(name));
      }
    },
  };
}

/** The overall state in one line. Without requests nothing is known, so the line is grey and not green. */
function firstLine(services, wrong) {
  const failing = wrong.filter((one) => one.level === "bad");
  const degraded = wrong.filter((one) => one.level === "warn").length;
  const causes = new Set(failing.map((one) => one.cause));
  const cause = causes.size === 1 && [...causes][0] ? `: ${[...causes][0]}` : "";
  const parts = [failing.length ? `${failing.length} failing${cause}` : null, degraded ? `${degraded} degraded` : null].filter(Boolean);
  if (parts.length) return { words: parts.join(", "), level: failing.length ? "bad" : "warn" };
  if (!services.length) return { words: "No services", level: "idle" };
  if (services.every(({ rates }) => rates.requests_per_s === 0)) return { words: "No requests in the last 10 s, so no failure is known", level: "idle" };
  if (wrong.length) return { words: "No current failure is known", level: "idle" };
  return { words: services.length === 1 ? "The service is healthy" : `All ${services.length} services are healthy`, level: "ok" };
}

export class Overview {
  constructor(state) {
    this.state = state;
    this.title = "Services";
    this.moved = 0;
    this.order = [];
    this.summary = h("div", { class: "summary" });
    this.totals = h("p", { class: "totals number" });
    this.reasons = h("ul", { class: "reasons" });
    this.filter = h("input", {
      type: "search", id: "filter", placeholder: "Filter by name or state", autocomplete: "off", spellcheck: "false",
      "aria-label": "Filter by name or state", oninput: () => this.update(true),
    });
    this.count = h("span", { class: "muted", role: "status" });
    this.body = h("tbody", { role: "rowgroup" });
    this.empty = h("p", { class: "muted empty", hidden: true });
    this.rows = new Rows(this.body, makeRow);
    this.sort = this.keptSort();
    const table = h("table", { class: "services", role: "table" },
      h("caption", { class: "unseen" }, "One service per row; the charts show the last ten minutes"),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
        ...COLUMNS.map(([name, kind]) => name
          ? h("th", { role: "columnheader", scope: "col", class: kind }, name)
          : h("td", { role: "cell", class: kind })))),
      this.body);
    for (const kind of ["pointermove", "focusin", "keydown"]) table.addEventListener(kind, () => { this.moved = performance.now(); });
    this.node = h("div", { class: "view" },
      h("h1", { class: "unseen" }, "Services"),
      h("section", { class: "glance", "aria-labelledby": "glance" }, this.summary, this.reasons, this.totals),
      h("section", { "aria-labelledby": "all-services" },
        h("div", { class: "tools" },
          h("h2", { id: "all-services" }, "All services"), this.count,
          h("fieldset", { class: "choice" }, h("legend", { class: "unseen" }, "Order"),
            ...[["worst", "Worst first"], ["name", "By name"]].map(([value, words]) =>
              h("label", {}, h("input", { type: "radio", name: "order", value, checked: value === this.sort, onchange: () => this.chooseSort(value) }), h("span", {}, words)))),
          this.filter),
        table, this.empty));
  }

  keptSort() {
    try { return localStorage.getItem(SORT) === "name" ? "name" : "worst"; } catch { return "worst"; }
  }

  chooseSort(value) {
    this.sort = value;
    try { localStorage.setItem(SORT, value); } catch { /* storage is forbidden: the choice lasts until the page closes */ }
    this.update(true);
  }

  update(now = false) {
    const { services, history, verdicts } = this.state;
    if (!services) {
      setText(this.count, "waiting for the daemon");
      return;
    }
    this.glance(services, verdicts);
    const wanted = this.filter.value.trim().toLowerCase();
    const items = services
      .map((service) => ({ service, verdict: verdicts.get(service.name), history }))
      .filter(({ service, verdict }) => !wanted || `${service.name} ${breakerWords(service.breaker).word} ${verdict.word}`.toLowerCase().includes(wanted));
    this.rows.update(this.sorted(items, now), (item) => item.service.name);
    setText(this.count, wanted ? `${items.length} of ${services.length}` : number(services.length));
    this.empty.hidden = items.length > 0;
    setText(this.empty, services.length ? "No service matches the filter." : "The configuration has no services.");
  }

  /** Worst first. While the user works in the table, the rows keep their places, so that no row moves away from a click. */
  sorted(items, now) {
    const byName = (a, b) => a.service.name.localeCompare(b.service.name);
    items.sort(this.sort === "name" ? byName : (a, b) => urgency(b.verdict) - urgency(a.verdict) || byName(a, b));
    const settled = performance.now() - this.moved > QUIET_MS;
    if (now || settled || this.sort === "name") this.order = items.map((item) => item.service.name);
    else {
      const place = new Map(this.order.map((name, at) => [name, at]));
      const at = (item) => place.get(item.service.name) ?? place.size;
      items.sort((a, b) => at(a) - at(b));
    }
    return items;
  }

  glance(services, verdicts) {
    const wrong = services
      .map((service) => ({ name: service.name, ...verdicts.get(service.name) }))
      .filter((one) => one.rank > 0 || one.hint)
      .sort((a, b) => urgency(b) - urgency(a) || a.name.localeCompare(b.name));
    const { words, level: found } = firstLine(services, wrong);
    const level = this.state.downSince ? "idle" : found;
    const told = this.state.downSince ? `Unknown. Last known state: ${words[0].toLowerCase()}${words.slice(1)}` : words;
    renew(this.summary, [told, level], () => h("h2", { id: "glance", class: `verdict is-${level}` }, shape(level), h("span", {}, told)));
    const shown = wrong.slice(0, SHOWN_REASONS);
    while (this.reasons.children.length > shown.length + (wrong.length > shown.length ? 1 : 0)) this.reasons.lastChild.remove();
    shown.forEach((one, at) => this.reason(at, one));
    if (wrong.length > shown.length) this.more(shown.length, `and ${wrong.length - shown.length} more`);
    this.reasons.hidden = !wrong.length;
    const sum = (pick) => services.reduce((total, service) => total + (pick(service) ?? 0), 0);
    const errors = sum(({ rates }) => (rates.success_rate === null ? 0 : rates.requests_per_s * (1 - rates.success_rate / 100)));
    setText(this.totals, [
      `${rate(sum(({ rates }) => rates.requests_per_s))} requests/s`,
      `${rate(errors)} errors/s`,
      `${rate(sum(({ rates }) => rates.retries_per_s))} retries/s`,
      `${number(sum((service) => service.in_flight))} in flight`,
      `${number(sum(({ endpoints }) => endpoints.available))} of ${plural(sum(({ endpoints }) => endpoints.total), "endpoint")} available`,
    ].join("  ·  "));
  }

  line(at) {
    let node = this.reasons.children[at];
    if (!node) this.reasons.append((node = h("li", {}, h("a", {}), h("span", {}))));
    return node;
  }

  reason(at, { name, level, word, reasons }) {
    const node = this.line(at);
    const [link, text] = node.children;
    renew(link, [name, level], () => [shape(level), h("span", {}, name), saying(`, ${word}`)]);
    setAttr(link, "href", linkTo(name));
    setClass(link, `is-${level}`);
    setText(text, reasons.join(" · "));
  }

  more(at, words) {
    const node = this.line(at);
    const [link, text] = node.children;
    renew(link, words, () => [words]);
    setAttr(link, "href", null);
    setClass(link, "muted");
    setText(text, "");
  }

  gone() {
    this.rows.clear();
  }
}
