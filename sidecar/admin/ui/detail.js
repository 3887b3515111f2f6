// One service: charts, breaker, endpoints, routes, policy.

import { BreakerPanel, RoutesPanel } from "./breaker.js";
import { Chart } from "./charts.js";
import { h, renew, setClass, setText, shape } from "./dom.js";
import { EndpointsPanel } from "./endpoints.js";
import { millis, number, percent, plural, rate } from "./format.js";
import { judge } from "./judge.js";
import { PolicyTable } from "./policy.js";

const SOURCES = { static: "endpoints from the file", name: "endpoints from its name", dns: "endpoints from DNS", kubernetes: "endpoints from Kubernetes" };

/** What is said of HTTP/2 and gRPC; nothing of a service of HTTP/1.1. */
function spoken({ protocol, grpc, grpc_statuses: statuses }) {
  if (protocol !== "h2") return [];
  const counts = Object.entries(statuses ?? {}).map(([status, count]) => `${status} ${number(count)}`);
  return [grpc ? "gRPC" : "HTTP/2", ...(counts.length ? [`calls by grpc-status: ${counts.join(", ")}`] : [])];
}

/** A term with its value, as in a data sheet. */
function fact(term) {
  const value = h("dd", { class: "number" });
  return { node: h("div", {}, h("dt", {}, term), value), value };
}

export class Detail {
  constructor(state, name, after) {
    this.state = state;
    this.name = name;
    this.title = name;
    this.drawn = "";
    this.verdict = h("p", { class: "why" });
    this.source = h("span", { class: "muted" });
    this.facts = Object.fromEntries(["Success", "Requests/s", "p50 ms", "p99 ms", "Retries/s", "In flight", "Budget left"].map((term) => [term, fact(term)]));
    this.charts = [
      [new Chart("requests", "Requests"), (history) => history.requests(name)],
      [new Chart("latency", "Latency"), (history) => history.latency(name)],
      [new Chart("retries", "Retries"), (history) => history.retries(name)],
    ];
    this.breaker = new BreakerPanel(name, after);
    this.endpoints = new EndpointsPanel(name, after);
    this.routes = new RoutesPanel(name, after);
    this.policy = new PolicyTable(`Policy of ${name}`);
    this.of = h("select", { "aria-label": "Show the policy of", hidden: true, onchange: () => this.showPolicy() });
    this.sheet = h("div", { hidden: true },
      h("dl", { class: "facts" }, ...Object.values(this.facts).map((one) => one.node)),
      h("section", { "aria-labelledby": "charts-title" }, h("h2", { class: "unseen", id: "charts-title" }, "The last ten minutes"),
        h("div", { class: "charts" }, ...this.charts.map(([chart]) => chart.node)),
        h("p", { class: "muted small" }, "The last ten minutes. Dashed vertical lines: the breaker opened (red) or changed in another way (grey).")),
      h("div", { class: "pair" }, this.breaker.node, this.endpoints.node),
      this.routes.node,
      h("section", { class: "panel", id: "policy", "aria-labelledby": "policy-title" }, h("div", { class: "tools" }, h("h2", { id: "policy-title" }, "Policy"), this.of), this.policy.node));
    this.missing = h("p", { class: "muted empty" }, "Waiting for the daemon…");
    this.node = h("div", { class: "view" },
      h("nav", { class: "crumbs", "aria-label": "Breadcrumb" }, h("a", { href: "#/" }, "Services"), h("span", { "aria-hidden": "true" }, " / ")),
      h("div", { class: "title" }, h("h1", {}, name), this.source),
      this.verdict, this.missing, this.sheet);
  }

  update() {
    const { detail, services, history } = this.state;
    if (!detail || detail.name !== this.name) {
      const gone = services && !services.some((service) => service.name === this.name);
      setText(this.missing, gone ? `The configuration in force has no service ${this.name}.` : "Waiting for the daemon…");
      if (gone) this.show(false);
      return;
    }
    this.show(true);
    this.head(detail);
    this.breaker.update(detail);
    this.endpoints.update(detail);
    this.routes.update(detail);
    this.showPolicy();
    const marks = this.marks();
    const key = `${history.version} ${marks.length} ${marks.at(-1)?.at}`;
    if (key === this.drawn) return;
    this.drawn = key;
    for (const [chart, data] of this.charts) chart.update(data(history), marks);
  }

  show(known) {
    this.missing.hidden = known;
    this.sheet.hidden = !known;
    this.verdict.hidden = !known;
  }

  marks() {
    return this.state.events.own.filter((event) => event.kind === "breaker")
      .map((event) => ({ at: Date.parse(event.time) / 1000, bad: /\bopen(ed|s)?\b/.test(event.text) && !/half/.test(event.text) }));
  }

  head(detail) {
    const verdict = judge({ ...detail, endpoints: detail.endpoint_summary, attempts: detail.endpoints }, this.state.history);
    setText(this.source, [SOURCES[detail.source] ?? detail.source, ...spoken(detail)].join(" · "));
    renew(this.verdict, [verdict.level, verdict.word], () => [h("span", { class: `state is-${verdict.level}` }, shape(verdict.level), h("span", {}, verdict.word)), h("span", {})]);
    setText(this.verdict.lastElementChild, verdict.reasons.join(" · "));
    setClass(this.verdict, `why is-${verdict.level}`);
    const { rates, budget } = detail;
    const values = {
      "Success": percent(rates.success_rate), "Requests/s": rate(rates.requests_per_s), "p50 ms": millis(rates.p50_ms), "p99 ms": millis(rates.p99_ms),
      "Retries/s": rate(rates.retries_per_s), "In flight": number(detail.in_flight), "Budget left": number(Math.floor(budget.balance)),
    };
    for (const [term, value] of Object.entries(values)) setText(this.facts[term].value, value);
    this.facts["Budget left"].node.title = `${plural(budget.spent, "retry", "retries")} made, ${number(budget.denied)} denied since the start`;
  }

  showPolicy() {
    const { detail, config } = this.state;
    if (!detail) return;
    const routes = detail.routes ?? [];
    this.of.hidden = !routes.length;
    renew(this.of, routes.map((route) => route.name), () => [
      h("option", { value: "" }, "of the service"), ...routes.map((route) => h("option", { value: route.name }, `of ${route.name}`)),
    ]);
    const route = routes.find((one) => one.name === this.of.value);
    this.policy.update(route ? route.policy : detail.policy, config?.file);
  }

  gone() {
    for (const [chart] of this.charts) chart.gone();
    this.endpoints.rows.clear();
  }
}
