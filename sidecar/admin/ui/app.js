// The page: polls the daemon, keeps its responses, and shows the view that the URL's hash names.

import { Problem, get, onTokenWanted, servicePath } from "./api.js";
import { fileName, reloadNow, showBanners } from "./banners.js";
import { Detail } from "./detail.js";
import { askToken } from "./dialog.js";
import { h, renew, setText } from "./dom.js";
import { EventPanel, Events } from "./events.js";
import { Explain } from "./explain.js";
import { clock, now } from "./format.js";
import { History } from "./history.js";
import { judge } from "./judge.js";
import { Overview } from "./overview.js";

const VISIBLE_MS = 1000;
const HIDDEN_MS = 15000;
const SLOWEST_MS = 5000;
const DOWN_AFTER = 2; // failed polls in a row; a single one is not shown

const state = {
  services: null, verdicts: new Map(), detail: null, config: null, history: new History(), events: null,
  draining: false, downSince: null, seenAt: null,
};

const main = document.getElementById("main");
let view = null;
let failed = 0;
let firstFailed = null;
let timer = 0;
let polling = false;
let again = false;
let reloadSeen = "";
let lastPoll = 0;
let rested = 0;

// --- polling ---

/** Polls now, or as soon as the current poll has ended. */
function pollSoon() {
  if (polling) again = true;
  else poll();
}

async function poll() {
  clearTimeout(timer);
  polling = true;
  again = false;
  try {
    await refresh();
    answered();
  } catch (error) {
    unanswered(error);
  }
  polling = false;
  render();
  timer = setTimeout(poll, again ? 50 : interval());
}

function interval() {
  if (document.visibilityState === "hidden") return HIDDEN_MS;
  return failed > DOWN_AFTER ? Math.min(VISIBLE_MS * 2 ** (failed - DOWN_AFTER), SLOWEST_MS) : VISIBLE_MS;
}

async function refresh() {
  // After a gap (a hidden tab, a sleeping machine, an outage) the daemon provides the missing points.
  const gap = Date.now() - lastPoll > 3 * state.history.interval * 1000;
  const name = view instanceof Detail ? view.name : null;
  const [answer, detail] = await Promise.all([get("services"), name === null ? null : get(servicePath(name)).catch(unlessMissing)]);
  state.services = answer.services;
  state.draining = answer.draining;
  state.verdicts = new Map(answer.services.map((service) => [service.name, judge(service, state.history)]));
  state.detail = detail;
  const seen = JSON.stringify([answer.generation, answer.reload ?? null]);
  if (seen !== reloadSeen || state.config === null) {
    state.config = await get("config");
    reloadSeen = seen;
  }
  if (gap) state.history.load(await get("history"));
  else state.history.append(answer.services, now() / 1000);
  lastPoll = Date.now();
}

function unlessMissing(error) {
  if (error instanceof Problem && error.status === 404) return null;
  throw error;
}

function answered() {
  failed = 0;
  firstFailed = null;
  state.downSince = null;
  state.seenAt = null;
}

function unanswered(error) {
  if (error instanceof Problem) console.warn(`the admin API answered ${error.status}: ${error.message}`);
  failed += 1;
  firstFailed ??= new Date(now()).toISOString();
  if (failed < DOWN_AFTER) return;
  state.downSince = firstFailed;
  state.seenAt = lastPoll ? new Date(lastPoll).toISOString() : null;
}

// --- display ---

function render() {
  showBanners(document.getElementById("banners"), state);
  document.body.classList.toggle("stale", state.downSince !== null);
  view.update();
  setText(document.getElementById("link-state"), state.downSince ? "not connected" : state.services ? "live" : "connecting");
  title();
  foot();
}

function title() {
  const bad = [...state.verdicts.values()].filter((verdict) => verdict.level === "bad").length;
  const warn = [...state.verdicts.values()].filter((verdict) => verdict.level === "warn").length;
  const health = state.downSince ? "no answer" : bad ? `${bad} failing` : warn ? `${warn} degraded` : "";
  document.title = [health && `(${health})`, view.title, "· sidecar"].filter(Boolean).join(" ");
}

function foot() {
  const config = state.config;
  if (!config) return;
  renew(document.getElementById("foot"), [config.generation, config.file, config.loaded_at], () => [
    h("span", {}, `Generation ${config.generation}, loaded ${clock(config.loaded_at)}`),
    config.file ? h("span", { title: config.file }, fileName(config.file)) : null,
    h("button", { type: "button", class: "quiet", onclick: () => reloadNow().then(pollSoon) }, "Reload the file"),
    h("span", {}, "Times here are in your time zone; the logs use UTC."),
  ]);
}

function route() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  const [, kind, name] = path.split("/");
  const first = view === null;
  view?.gone();
  state.detail = null;
  if (kind === "services" && name) view = new Detail(state, decodeURIComponent(name), pollSoon);
  else if (kind === "explain") view = new Explain(state, new URLSearchParams(query));
  else view = new Overview(state);
  state.events.choose(view instanceof Detail ? view.name : null);
  main.replaceChildren(view.node);
  const here = kind === "explain" ? "nav-explain" : "nav-services";
  for (const id of ["nav-services", "nav-explain"]) {
    if (id === here) document.getElementById(id).setAttribute("aria-current", view instanceof Detail ? "true" : "page");
    else document.getElementById(id).removeAttribute("aria-current");
  }
  if (!first) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
    render();
    pollSoon();
  }
}

// --- start ---

let painting = false;

state.events = new Events((event) => {
  // Poll at once, so that a breaker that opens is visible with its event and not only at the next poll.
  if (event && event.kind !== "discovery") pollSoon();
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    panel.show();
  });
});
const panel = new EventPanel(document.getElementById("events"), state.events);

onTokenWanted(askToken);
addEventListener("hashchange", route);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener("visibilitychange", () => {
  clearTimeout(rested);
  if (document.visibilityState === "visible") pollSoon();
  else rested = setTimeout(() => state.events.rest(), HIDDEN_MS);
});
// A browser may keep a page for the Back button, with its stream open. After five such pages it has no connection left.
addEventListener("pagehide", () => {
  clearTimeout(timer);
  state.events.rest();
});
addEventListener("pageshow", (event) => {
  if (event.persisted) pollSoon();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input, select, textarea")) return;
  const field = document.querySelector("#main input[type=search], #explain-target");
  if (!field) return;
  event.preventDefault();
  field.focus();
});

route();
poll();
state.events.run();
