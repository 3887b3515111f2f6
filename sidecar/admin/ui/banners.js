// What concerns the whole daemon: it does not answer, it ends, its last reload was rejected.

import { Problem, post } from "./api.js";
import { h, renew, shape, toast } from "./dom.js";
import { clock, plural } from "./format.js";

const SHOWN_ERRORS = 8;

/** Makes one banner; `shapeName` and the first words say how bad it is without a colour. */
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
    h("button", { type: "button", onclick: reloadNow }, "Read the file again"));
}

export async function reloadNow() {
  try {
    const found = await post("reload");
    toast(found.result === "unchanged" ? "Read: the file says what is in force already" : `Reloaded: ${plural((found.changed ?? []).length, "change")}`);
  } catch (error) {
    toast(error instanceof Problem ? `Reload: ${error.message}` : "The daemon does not answer");
  }
}

export const fileName = (path) => (path ?? "").split("/").at(-1);

/** `state`: {downSince, seenAt, draining, config: the answer of /config or null} */
export function showBanners(node, state) {
  const reload = state.config?.reload;
  const bad = reload?.result === "rejected" ? reload : null;
  const warnings = [...new Set([...(state.config?.warnings ?? []), ...(reload?.warnings ?? [])])];
  renew(node, [state.downSince, state.seenAt, state.draining, bad, state.config?.generation, warnings], () => [
    state.downSince
      ? banner("down", "bad", "bad", `The daemon does not answer since ${clock(state.downSince)}`,
          h("p", {}, state.seenAt ? `What you see is of ${clock(state.seenAt)}.` : "Nothing has been heard of it yet.", " This page goes on trying."))
      : null,
    state.draining
      ? banner("draining", "warn", "warn", "The daemon is draining",
          h("p", {}, "It takes no new connections soon, finishes what is in flight and ends."))
      : null,
    bad ? rejected(bad, state.config.generation, state.config.loaded_at) : null,
    warnings.length
      ? banner("warnings", "warn", "warn", warnings.length === 1 ? "A warning on the configuration" : "Warnings on the configuration",
          h("ul", { class: "errors" }, ...warnings.map((text) => h("li", {}, text))))
      : null,
  ]);
}
