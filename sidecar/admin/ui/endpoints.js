// The endpoints of a service: health, load, share of the traffic, and the buttons that remove one and restore it.

import { post, servicePath } from "./api.js";
import { askLifetime } from "./dialog.js";
import { Rows, h, setAttr, setState, setText, toast } from "./dom.js";
import { millis, number, percent, plural } from "./format.js";
import { endpointWords } from "./judge.js";

const LAST = "it is the last available endpoint: without it every request would fail";
const DRAINED = "it is drained: restore it first";
const MEANS = {
  drain: "New requests go to the other endpoints. Requests in flight finish.",
  eject: "It gets no requests, as if too many of its requests had failed.",
};
const COLUMNS = [["Endpoint", ""], ["State", ""], ["Share of traffic", ""], ["Latency ms", "num"], ["In flight", "num"], ["Attempts", "num"], ["Failures", "num"], ["Ejections", "num"]];

function change(service, address, action, after) {
  const send = (more) => post(`${servicePath(service)}/endpoints/${encodeURIComponent(address)}`, { action, ...more });
  if (action === "restore") {
    return send({}).then(() => toast(`${address} restored`), (error) => toast(`Failed: ${error.message}`)).then(after);
  }
  const word = { drain: "Drain", eject: "Eject" }[action];
  return askLifetime({
    title: `${word} ${address}`, text: `${MEANS[action]} This ends automatically.`, button: word, danger: action === "eject",
    act: async (lifetime) => {
      await send({ for: lifetime });
      toast(`${address} ${{ drain: "drained", eject: "ejected" }[action]} for ${lifetime}`);
    },
  }).then((done) => { if (done) after(); });
}

/** The reasons of its failed attempts, the most frequent first. */
function reasons(found) {
  return Object.entries(found ?? {}).filter(([reason, count]) => reason !== "ok" && count > 0).sort((a, b) => b[1] - a[1]).slice(0, 4)
    .map(([reason, count]) => `${reason} ${number(count)}`).join(" · ");
}

/** Why the daemon would refuse to remove the endpoint; empty if it would not refuse. */
function refusal(action, endpoint, endpoints) {
  if (action === "eject" && endpoint.drained) return DRAINED;
  return endpoints.some((one) => one !== endpoint && one.available && !one.skipped_until) ? "" : LAST;
}

/** Unlike a disabled button, a refused one keeps the focus and explains the refusal. */
function setRefusal(button, address, why) {
  setAttr(button, "aria-disabled", why ? "true" : null);
  setAttr(button, "title", why ? `Not possible: ${why}` : null);
  setText(button.lastElementChild, why ? ` ${address}, not possible: ${why}` : ` ${address}`);
}

export class EndpointsPanel {
  constructor(service, after) {
    this.service = service;
    this.after = after;
    this.body = h("tbody", { role: "rowgroup" });
    this.rows = new Rows(this.body, (address) => this.make(address));
    this.note = h("p", { class: "muted" });
    this.node = h("section", { class: "panel", id: "endpoints", "aria-labelledby": "endpoints-title" },
      h("h2", { id: "endpoints-title" }, "Endpoints"), this.note,
      h("table", { class: "plain endpoints", role: "table" }, h("caption", { class: "unseen" }, "Endpoints"),
        h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
          ...COLUMNS.map(([name, kind]) => h("th", { scope: "col", role: "columnheader", class: kind }, name)),
          h("td", { role: "cell", class: "actions" }))),
        this.body));
  }

  make(address) {
    const cell = (at, ...children) => h("td", { role: "cell", class: COLUMNS[at][1], data: { label: COLUMNS[at][0] } }, ...children);
    const [state, share, latency, active, attempts, failures, ejections] = [1, 2, 3, 4, 5, 6, 7].map((at) => cell(at));
    const bar = h("span", { class: "sharebar", "aria-hidden": "true" }, h("i", {}));
    const part = h("span", { class: "number" });
    share.append(bar, part);
    const why = h("span", { class: "fields" });
    const act = (action) => (event) => {
      if (event.currentTarget.getAttribute("aria-disabled")) toast(event.currentTarget.title);
      else change(this.service, address, action, this.after);
    };
    const button = (action, word) => h("button", { type: "button", class: action, onclick: act(action) }, word, h("span", { class: "unseen" }, ` ${address}`));
    const [drain, eject, restore] = [button("drain", "Drain…"), button("eject", "Eject…"), button("restore", "Restore")];
    const node = h("tr", { role: "row" },
      h("th", { scope: "row", role: "rowheader" }, h("code", {}, address), why),
      state, share, latency, active, attempts, failures, ejections,
      h("td", { role: "cell", class: "actions" }, h("div", { class: "buttons" }, drain, eject, restore)));
    return {
      node,
      update({ endpoint, endpoints }) {
        const words = endpointWords(endpoint);
        setState(state, words.shape, words.word, words.extra);
        const taken = endpoint.drained || endpoint.ejected ? null : endpoint.share; // the share from before it was drained or ejected no longer counts
        bar.firstElementChild.style.width = `${taken ?? 0}%`;
        setText(part, percent(taken));
        setText(latency, millis(endpoint.latency_ms));
        setText(active, number(endpoint.active));
        setText(attempts, number(endpoint.requests));
        setText(failures, number(endpoint.failures));
        failures.classList.toggle("off", endpoint.requests > 0 && endpoint.failures / endpoint.requests > 0.01);
        setText(ejections, number(endpoint.ejections));
        const weight = endpoint.weight !== 1 ? `weight ${endpoint.weight}` : "";
        const group = endpoint.priority ? `priority ${endpoint.priority}` : "";
        setText(why, [weight, group, reasons(endpoint.reasons)].filter(Boolean).join(" · "));
        setAttr(drain, "disabled", endpoint.drained ? "" : null);
        setAttr(eject, "disabled", endpoint.ejected ? "" : null);
        setRefusal(drain, address, endpoint.drained ? "" : refusal("drain", endpoint, endpoints));
        setRefusal(eject, address, endpoint.ejected ? "" : refusal("eject", endpoint, endpoints));
        setAttr(restore, "disabled", endpoint.drained || endpoint.ejected ? null : "");
      },
    };
  }

  update({ endpoints, endpoint_summary: summary, discovery }) {
    const found = discovery?.problem ? ` Discovery: ${discovery.problem}.` : "";
    const panic = summary?.panic ? " Too few are healthy, so all are used (panic)." : "";
    setText(this.note, `${plural(endpoints.length, "endpoint")}, ${summary?.available ?? endpoints.filter((one) => one.available).length} available.${panic}${found}`);
    this.rows.update(endpoints.map((endpoint) => ({ endpoint, endpoints })), ({ endpoint }) => endpoint.address);
  }
}
