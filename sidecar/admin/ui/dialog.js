// Dialogs that ask for a duration or for the token. They are native dialogs: the focus stays inside, and Escape closes them.

import { Problem, setToken } from "./api.js";
import { h } from "./dom.js";

const LIFETIMES = [["1m", "1 minute"], ["5m", "5 minutes"], ["15m", "15 minutes"], ["1h", "1 hour"], ["8h", "8 hours"], ["24h", "24 hours"]];

function open(title, parts, buttons, onSubmit) {
  const problem = h("p", { class: "problem", role: "alert" });
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const form = h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), ...parts, problem,
    h("div", { class: "buttons" }, ...buttons, cancel));
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    form.classList.add("busy");
    try {
      await onSubmit();
      dialog.close("done");
    } catch (error) {
      problem.textContent = error instanceof Problem ? error.message : "The daemon does not answer.";
    } finally {
      form.classList.remove("busy");
    }
  });
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "done");
    });
  });
}

/** Asks for a duration, then calls `act("5m")`. If that throws a Problem, the dialog shows it. */
export function askLifetime({ title, text, button, danger = false, act }) {
  const select = h("select", { id: "dialog-for", name: "for" }, ...LIFETIMES.map(([value, words]) => h("option", { value, selected: value === "5m" }, words)));
  return open(title,
    [h("p", {}, text), h("div", { class: "field" }, h("label", { for: "dialog-for" }, "For"), select)],
    [h("button", { type: "submit", class: danger ? "danger" : "primary" }, button)],
    () => act(select.value));
}

/** Asks for the bearer token. `again` means that the stored one was not accepted. */
export function askToken(again) {
  const input = h("input", { id: "dialog-token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  return open("Token required",
    [
      h("p", {}, again ? "The token was not accepted." : "This sidecar requires a token: the content of the file set in admin.token_file.",
        " It is kept until this tab is closed."),
      h("div", { class: "field" }, h("label", { for: "dialog-token" }, "Token"), input),
    ],
    [h("button", { type: "submit", class: "primary" }, "Use this token")],
    async () => setToken(input.value.trim()));
}
