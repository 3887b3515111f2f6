// The breaker's panel: its state, since when, why, what comes next, and the buttons that force it.

import { post, servicePath } from "./api.js";
import { askLifetime } from "./dialog.js";
import { h, renew, setAttr, setState, setText, toast } from "./dom.js";
import { age, clock, countdown, duration, left, number, percent, plural } from "./format.js";
import { breakerWords } from "./judge.js";

const MEANS = {
  open: "Every request is refused at once with 503 (circuit_open), whatever the state of the endpoints.",
  closed: "No request is refused, however many fail. Failures are still counted.",
};

/** Asks for a lifetime, then forces the breaker. `route` is "" for the service's own breaker. `after` polls the daemon. */
async function force(name, route, state, after) {
  const what = route ? `${name}, ${route}` : name;
  const act = async (lifetime) => {
    await post(`${servicePath(name)}/breaker`, { state, for: lifetime, ...(route ? { route } : {}) });
    toast(`${what}: breaker forced ${state} for ${lifetime}`);
  };
  const done = await askLifetime({ title: `Force the breaker of ${what} ${state}`, text: `${MEANS[state]} This ends automatically.`, button: `Force ${state}`, danger: state === "open", act });
  if (done) after();
}

async function automatic(name, route, after) {
  try {
    await post(`${servicePath(name)}/breaker`, { state: "auto", ...(route ? { route } : {}) });
    toast(`${route ? `${name}, ${route}` : name}: breaker back to automatic`);
  } catch (error) {
    toast(`Failed: ${error.message}`);
  }
  after();
}

export function breakerButtons(name, route, after) {
  const auto = h("button", { type: "button", class: "auto", onclick: () => automatic(name, route, after) }, "Back to automatic");
  const node = h("div", { class: "buttons", role: "group", "aria-label": `Force the breaker of ${route ? `${name}, ${route}` : name}` },
    h("button", { type: "button", class: "force-open", onclick: () => force(name, route, "open", after) }, "Force open…"),
    h("button", { type: "button", class: "force-closed", onclick: () => force(name, route, "closed", after) }, "Force closed…"),
    auto);
  return { node, update: (breaker) => setAttr(auto, "disabled", breaker.forced ? null : "") };
}

/** What happens next, in one sentence. */
function next(breaker) {
  if (breaker.forced) return `Forced ${breaker.forced} by an operator; back to automatic in ${countdown(breaker.forced_until)}, at ${clock(breaker.forced_until)}.`;
  if (breaker.state === "open" && breaker.next_probe) {
    return left(breaker.next_probe) > 0 ? `Next probe in ${duration(left(breaker.next_probe))}, at ${clock(breaker.next_probe)}.` : "The next request is a probe.";
  }
  if (breaker.state === "open") return "The next request is a probe.";
  if (breaker.state === "half_open") return "Probing: half_open_requests successes in a row close it; a failure opens it again.";
  return "";
}

export class BreakerPanel {
  constructor(name, after) {
    this.state = h("p", { class: "big" });
    this.next = h("p", { class: "next" });
    this.window = h("p", {});
    this.bar = h("div", { class: "window", "aria-hidden": "true" }, h("i", { class: "failed" }), h("b", {}));
    this.counts = h("p", { class: "muted" });
    this.countdown = h("div", { class: "lifetime", "aria-hidden": "true" }, h("i", {}));
    this.buttons = breakerButtons(name, "", after);
    this.node = h("section", { class: "panel", id: "breaker", "aria-labelledby": "breaker-title" },
      h("h2", { id: "breaker-title" }, "Breaker"), this.state, this.next, this.countdown, this.bar,
      h("div", { class: "about" }, this.window, this.counts), this.buttons.node);
    this.longest = 0;
  }

  update({ breaker, policy }) {
    const words = breakerWords(breaker);
    setState(this.state, words.shape, words.word, breaker.forced ? words.extra : breaker.since ? `since ${clock(breaker.since)} (${age(breaker.since)})` : "");
    const text = next(breaker);
    setText(this.next, text);
    this.next.hidden = !text;
    this.life(breaker);
    this.buttons.update(breaker);
    const { successes, failures, seconds } = breaker.window;
    const calls = successes + failures;
    const percentage = parseFloat(policy?.breaker?.error_threshold_percentage?.value ?? "NaN");
    const volume = policy?.breaker?.volume_threshold?.value;
    this.bar.hidden = breaker.mode === "off";
    this.bar.firstElementChild.style.width = `${calls ? (100 * failures) / calls : 0}%`;
    this.bar.lastElementChild.style.left = `${Number.isNaN(percentage) ? 100 : Math.min(percentage, 100)}%`;
    const opens = Number.isNaN(percentage) ? "" : ` It opens when ${percentage} % of at least ${plural(volume, "call")} fail.`;
    const share = calls ? `${number(failures)} of ${plural(calls, "call")} failed (${percent((100 * failures) / calls)})` : "No calls";
    setText(this.window, breaker.mode === "off" ? "No breaker: mode is off." : `${share} in the window of ${duration(seconds)}.${opens}`);
    setText(this.counts, `Opened ${plural(breaker.opens, "time")}, refused ${plural(breaker.rejects, "request")} since the start.`);
  }

  life(breaker) {
    this.countdown.hidden = !breaker.forced;
    if (!breaker.forced) {
      this.longest = 0;
      return;
    }
    const remains = left(breaker.forced_until);
    this.longest = Math.max(this.longest, remains, (Date.parse(breaker.forced_until) - Date.parse(breaker.since ?? breaker.forced_until)) / 1000);
    this.countdown.firstElementChild.style.width = `${this.longest ? (100 * remains) / this.longest : 0}%`;
  }
}

/** The routes that have a policy, and the breakers of those that have their own. */
export class RoutesPanel {
  constructor(name, after) {
    this.name = name;
    this.after = after;
    this.body = h("tbody");
    this.node = h("section", { class: "panel", "aria-labelledby": "routes-title", hidden: true },
      h("h2", { id: "routes-title" }, "Routes"),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of routes" },
        h("table", { class: "plain" }, h("caption", { class: "unseen" }, "Routes and their breakers"),
          h("thead", {}, h("tr", {}, ...["Route", "Breaker", "Window"].map((one) => h("th", { scope: "col" }, one)), h("td", {}))), this.body)));
    this.known = new Map();
  }

  update({ routes = [] }) {
    this.node.hidden = !routes.length;
    renew(this.body, routes.map((route) => [route.name, route.breaker !== null]), () => {
      this.known.clear();
      return routes.map((route) => {
        const state = h("td", {});
        const window = h("td", { class: "number" });
        const buttons = route.breaker ? breakerButtons(this.name, route.name, this.after) : null;
        this.known.set(route.name, { state, window, buttons });
        return h("tr", {}, h("th", { scope: "row" }, route.name), state, window, h("td", { class: "actions" }, buttons?.node ?? ""));
      });
    });
    for (const route of routes) {
      const { state, window, buttons } = this.known.get(route.name);
      if (!route.breaker) {
        setText(state, "the service's");
        continue;
      }
      const words = breakerWords(route.breaker);
      setState(state, words.shape, words.word, words.extra);
      setText(window, `${number(route.breaker.window.failures)} of ${number(route.breaker.window.failures + route.breaker.window.successes)} failed`);
      buttons.update(route.breaker);
    }
  }
}
