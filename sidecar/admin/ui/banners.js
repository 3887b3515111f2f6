// Banners about the whole daemon: it does not answer, it is shutting down, its last reload was rejected.

import { Problem, post } from "./api.js";
import { h, renew, shape, toast } from "./dom.js";
import { clock, plural } from "./format.js";

const SHOWN_ERRORS = 8;

/** Creates one banner. `shapeName` and the title show the severity without colour. */
function banner(id, level, shapeName, title, ...parts) {
  return h("section", { class: `banner is-${level}`, id: `banner-${id}`, "aria-label": title },
    shape(shapeName), h("div", {}, h("p", { class: "banner-title" }, title), ...parts));
}

function rejected(reload, generation, loadedAt) {
  const rest = reload.errors.length - SHOWN_ERRORS;
  const since = loadedAt ? ` of ${clock(loadedAt)}` : "";
  return banner("reload", "bad", "bad", `Reload rejected at ${clock(reload.at)}: ${plural(reload.errors.length, "error")}`,
    h("p", {}, `Nothing changed: the configuration${since} (generation ${generation}) stays in force.`),
    h("ul", { class: "errors" },
      ...reload.errors.slice(0, SHOWN_ERRORS).map((error) =>
        h("li", {},
          h("code", {}, error.line ? `${fileName(error.file)}:${error.line}:${error.column}` : fileName(error.file)),
          error.key ? h("code", {}, error.key) : null,
          h("span", {}, error.message))),
      rest > 0 ? h("li", {}, `and ${rest} more; sidecar check shows them all`) : null),
    h("button", { type: "button", onclick: reloadNow }, "Reload the file"));
}

export async function reloadNow() {
  try {
    const found = await post("reload");
    toast(found.result === "unchanged" ? "Reloaded: the file has no changes" : `Reloaded: ${plural((found.changed ?? []).length, "change")}`);
  } catch (error) {
    toast(error instanceof Problem ? `Reload: ${error.message}` : "The daemon does not answer");
  }
}

export const fileName = (path) => (path ?? "").split("/").at(-1);

/** `state`: {downSince, seenAt, draining, config: the response of /config or null} */
export function showBanners(node, state) {
  const reload = state.config?.reload;
  const bad = reload?.result === "rejected" ? reload : null;
  const warnings = [...new Set([...(state.config?.warnings ?? []), ...(reload?.warnings ?? [])])];
  renew(node, [state.downSince, state.seenAt, state.draining, bad, state.config?.generation, warnings], () => [
    state.downSince
      ? banner("down", "bad", "bad", `The daemon has not answered since ${clock(state.downSince)}`,
          h("p", {}, state.seenAt ? `The page shows the state at ${clock(state.seenAt)}.` : "It has not answered yet.", " This page keeps trying."))
      : null,
    state.draining
      ? banner("draining", "warn", "warn", "The daemon is draining",
          h("p", {}, "It will soon accept no new connections. It finishes the requests in flight and then stops."))
      : null,
    bad ? rejected(bad, state.config.generation, state.config.loaded_at) : null,
    warnings.length
      ? banner("warnings", "warn", "warn", warnings.length === 1 ? "Configuration warning" : "Configuration warnings",
          h("ul", { class: "errors" }, ...warnings.map((text) => h("li", {}, text))))
      : null,
  ]);
}
