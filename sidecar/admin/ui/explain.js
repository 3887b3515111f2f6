// The form of /explain: the user gives a method and a target, and the page shows the API's answer in sentences.

import { Problem, get } from "./api.js";
import { h, setState } from "./dom.js";
import { duration } from "./format.js";
import { breakerWords } from "./judge.js";
import { PolicyTable } from "./policy.js";

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const WOULD = { admit: "would let it through", probe: "would let it through as a probe", refuse: "would refuse it" };

const UTC_TIME = /\d{2}:\d{2}:\d{2}(\.\d+)?Z/;

const row = (term, ...value) => h("div", {}, h("dt", {}, term), h("dd", {}, ...value));

export class Explain {
  constructor(state, query) {
    this.state = state;
    this.title = "Explain";
    this.stop = null;
    this.policy = null;
    this.method = h("select", { id: "explain-method" }, ...METHODS.map((name) => h("option", { selected: name === (query.get("method") ?? "GET") }, name)));
    this.target = h("input", { id: "explain-target", required: true, placeholder: "/venue/events/42", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
    this.target.value = query.get("target") ?? "";
    this.host = h("input", { id: "explain-host", placeholder: "none", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
    this.host.value = query.get("host") ?? "";
    this.answer = h("div", { class: "answer", role: "status" });
    const form = h("form", { class: "explain-form" },
      h("div", { class: "field" }, h("label", { for: "explain-method" }, "Method"), this.method),
      h("div", { class: "field grows" }, h("label", { for: "explain-target" }, "Target, as the app sends it"), this.target),
      h("div", { class: "field" }, h("label", { for: "explain-host" }, "Host header"), this.host),
      h("button", { type: "submit", class: "primary" }, "Explain"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const asked = new URLSearchParams({ method: this.method.value, target: this.target.value.trim() });
      if (this.host.value.trim()) asked.set("host", this.host.value.trim());
      history.replaceState(null, "", `#/explain?${asked}`);
      this.ask(asked);
    });
    this.node = h("div", { class: "view" }, h("h1", {}, "Explain a request"),
      h("p", { class: "muted" }, "Shows which service and route a request would get, its policy, and what breaker and balancer would do now. Nothing is sent."),
      form, this.answer);
    if (this.target.value) this.ask(query);
  }

  async ask(query) {
    this.stop?.abort();
    this.stop = new AbortController();
    try {
      const found = await get(`explain?${query}`, this.stop.signal);
      this.answer.replaceChildren(...this.tell(found));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.answer.replaceChildren(h("p", { class: "problem" }, error instanceof Problem ? error.message : "The daemon does not answer."));
    }
  }

  tell(found) {
    const problem = found.problem
      ? h("p", { class: "problem" }, `The app would get ${found.problem.status} ${found.problem.reason}: ${found.problem.detail}`) : null;
    const parts = [h("h2", {}, "What would happen now"), problem, h("ol", { class: "story" }, ...(found.words ?? []).map((text) => h("li", {}, text)))];
    const told = [...(found.words ?? []), ...(found.balancer?.candidates ?? []).map((one) => one.why ?? "")];
    if (told.some((text) => UTC_TIME.test(text))) parts.push(h("p", { class: "muted small" }, "The times in these sentences are UTC."));
    if (!found.service) return parts.filter(Boolean);
    const breaker = h("span", {});
    const words = breakerWords(found.breaker);
    setState(breaker, words.shape, words.word, WOULD[found.breaker?.would] ?? "");
    parts.push(h("dl", { class: "sheet" },
      row("Service", h("a", { href: `#/services/${encodeURIComponent(found.service)}` }, found.service), ` (found by ${found.by})`),
      row("Route", found.route || "none: the service's policy"),
      row("Upstream target", h("code", {}, found.upstream_target ?? "")),
      found.breaker ? row("Breaker", breaker) : null,
      found.balancer ? row("Balancer", `${found.balancer.kind}; next: ${found.balancer.would_pick ?? "not known"}`) : null,
      found.deadline_s ? row("Deadline", duration(found.deadline_s)) : null,
      row("Fallback", (found.fallback ?? []).length ? found.fallback.map((one) => (typeof one === "string" ? one : JSON.stringify(one))).join(", then ") : "none")));
    if (found.balancer?.candidates?.length) {
      parts.push(h("h2", {}, "Endpoints"), h("table", { class: "plain" }, h("caption", { class: "unseen" }, "Endpoints and whether they may be picked"),
        h("thead", {}, h("tr", {}, ...["Endpoint", "May be picked", "Why"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, ...found.balancer.candidates.map((one) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, one.address)), h("td", {}, one.available ? "yes" : "no"), h("td", {}, one.why ?? ""))))));
    }
    this.policy = new PolicyTable("Policy of this request");
    this.tree = found.policy;
    this.update();
    parts.push(h("h2", {}, "Policy"), this.policy.node);
    return parts.filter(Boolean);
  }

  update() {
    this.policy?.update(this.tree, this.state.config?.file);
  }

  gone() {
    this.stop?.abort();
  }
}
