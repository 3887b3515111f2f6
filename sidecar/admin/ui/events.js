// The event list, newest first. It is bounded, shows only the selected service's events, and can be paused.

import { get, stream } from "./api.js";
import { Rows, h, setText } from "./dom.js";
import { clock, yaml } from "./format.js";

const KEPT = 200;
const HIDDEN_FIELDS = new Set(["service"]);
const SHOWN_LINES = 3;

const keyOf = (event) => `${event.id} ${event.time}`;

/** The events. `all` has at most KEPT, oldest first. `of(name)` has those of one service, with a limit of their own. */
export class Events {
  constructor(onChange) {
    this.all = [];
    this.own = [];
    this.ownName = null;
    this.onChange = onChange;
    this.connected = false;
    this.stop = null;
  }

  /** Reads the existing events, then follows for ever. It resumes a broken stream, and shows no event twice. */
  async run() {
    let pause = 1000;
    for (;;) {
      this.stop = new AbortController();
      try {
        await visible();
        const { events } = await get(`events?limit=${KEPT}`, this.stop.signal);
        this.all = events.slice(-KEPT);
        this.connected = true;
        pause = 1000;
        this.onChange(null);
        await stream(this.all.at(-1)?.id ?? 0, (event) => this.add(event), this.stop.signal);
      } catch { /* the poll of /services shows whether the daemon answers */ }
      this.connected = false;
      await new Promise((done) => { setTimeout(done, pause); });
      pause = Math.min(pause * 2, 8000);
    }
  }

  /** Ends the stream of a hidden page, because it uses one of the browser's few connections to this listener. */
  rest() {
    this.stop?.abort();
  }

  add(event) {
    if (event.id === undefined) {
      // Some events were lost because this page was too slow: start again with those that the daemon still has.
      this.stop.abort();
      return;
    }
    const put = (list) => {
      if (list.length && list.at(-1).id >= event.id) return;
      list.push(event);
      if (list.length > KEPT) list.shift();
    };
    put(this.all);
    if (event.service === this.ownName && this.ownName !== null) put(this.own);
    this.onChange(event);
  }

  /** Loads the events of one service that are older than the last 200 of all services. */
  async choose(name) {
    this.ownName = name;
    this.own = name === null ? [] : this.all.filter((event) => event.service === name);
    this.onChange(null);
    if (name === null) return;
    try {
      const { events } = await get(`events?limit=${KEPT}&service=${encodeURIComponent(name)}`);
      if (this.ownName === name) this.own = events.filter((event) => event.service === name).slice(-KEPT);
      this.onChange(null);
    } catch { /* then only the events of the stream are shown */ }
  }
}

function visible() {
  if (document.visibilityState === "visible") return Promise.resolve();
  return new Promise((done) => {
    const look = () => {
      if (document.visibilityState !== "visible") return;
      document.removeEventListener("visibilitychange", look);
      done();
    };
    document.addEventListener("visibilitychange", look);
  });
}

/** The fields that the text does not contain already, on one line. */
const fieldsOf = (event) =>
  Object.entries(event.fields ?? {})
    .filter(([, value]) => !Array.isArray(value))
    .map(([key, value]) => [key, value === null ? "" : yaml(value)])
    .filter(([key, value]) => !HIDDEN_FIELDS.has(key) && value !== "" && !event.text.includes(value))
    .map(([key, value]) => `${key} ${value}`)
    .join(" · ");

/** Lists, such as the errors of a rejected reload: one item per line, only the first few. An empty list gives no line. */
const linesOf = (event) =>
  Object.entries(event.fields ?? {})
    .filter(([key, value]) => Array.isArray(value) && value.length && !HIDDEN_FIELDS.has(key))
    .flatMap(([key, value]) => [
      `${key}:`,
      ...value.slice(0, SHOWN_LINES).map((one) => `· ${yaml(one).replace(/^\/\S*\//, "")}`), // only the file name of a path
      value.length > SHOWN_LINES ? `· and ${value.length - SHOWN_LINES} more` : null,
    ])
    .filter((line) => line !== null);

function makeEvent(_, event) {
  const more = fieldsOf(event);
  const lines = linesOf(event);
  const node = h("li", { class: `event kind-${event.kind}` },
    h("time", { datetime: event.time, title: event.time, class: "number" }, clock(event.time)),
    h("div", {},
      event.service ? h("a", { href: `#/services/${encodeURIComponent(event.service)}` }, event.service) : h("span", { class: "muted" }, event.kind),
      " ", h("span", {}, event.text),
      more ? h("div", { class: "fields" }, more) : null,
      ...lines.map((line) => h("div", { class: line.startsWith("·") ? "fields item" : "fields" }, line))));
  return { node, update() {} };
}

export class EventPanel {
  constructor(node, events) {
    this.events = events;
    this.list = h("ol", { class: "events", role: "list" });
    this.log = h("div", { class: "log", role: "log", "aria-live": "polite", "aria-labelledby": "events-title", tabindex: "0" }, this.list);
    this.rows = new Rows(this.list, makeEvent);
    this.heading = h("h2", { id: "events-title" }, "Events");
    this.hold = h("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => this.toggle() }, "Pause");
    this.everything = h("button", { type: "button", class: "quiet", "aria-pressed": "false", hidden: true, onclick: () => this.widen() }, "All");
    this.empty = h("p", { class: "muted empty" }, "No events yet.");
    this.held = false;
    this.wide = false;
    node.append(h("div", { class: "tools" }, this.heading, this.everything, this.hold), this.empty, this.log);
  }

  toggle() {
    this.held = !this.held;
    this.hold.setAttribute("aria-pressed", String(this.held));
    this.show();
  }

  widen() {
    this.wide = !this.wide;
    this.everything.setAttribute("aria-pressed", String(this.wide));
    this.show();
  }

  show() {
    const name = this.wide ? null : this.events.ownName;
    setText(this.heading, name === null ? "Events" : `Events of ${name}`);
    this.everything.hidden = this.events.ownName === null;
    if (this.held) return;
    const shown = name === null ? this.events.all : this.events.own;
    this.rows.update(shown.toReversed(), keyOf);
    this.empty.hidden = shown.length > 0;
  }
}
