// A policy as a table: each value, where it was set, and the line in the file.

import { fileName } from "./banners.js";
import { h, setText } from "./dom.js";
import { yaml } from "./format.js";

const isLeaf = (node) => node !== null && typeof node === "object" && "value" in node && typeof node.origin === "string";

/** [[path, leaf]] of a tree of {value, origin, line}. */
export function leaves(tree, path = "") {
  return Object.entries(tree ?? {}).flatMap(([key, below]) => {
    const here = path ? `${path}.${key}` : key;
    if (isLeaf(below)) return [[here, below]];
    return below !== null && typeof below === "object" ? leaves(below, here) : [];
  });
}

const ORIGINS = { default: "built in", defaults: "defaults", service: "this service", route: "this route" };

export class PolicyTable {
  constructor(label) {
    this.key = null;
    this.rows = [];
    this.search = h("input", { type: "search", placeholder: "Search keys and values", "aria-label": `Search ${label}`, autocomplete: "off", spellcheck: "false", oninput: () => this.filter() });
    this.own = h("input", { type: "checkbox", onchange: () => this.filter() });
    this.count = h("span", { class: "muted", role: "status" });
    this.body = h("tbody");
    this.node = h("div", {},
      h("div", { class: "tools" }, this.search, h("label", { class: "check" }, this.own, "Only values set in the file"), this.count),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
        h("table", { class: "policy" },
          h("caption", { class: "unseen" }, label),
          h("thead", {}, h("tr", {}, ...["Key", "Value", "Set by", "Line"].map((name) => h("th", { scope: "col" }, name)))),
          this.body)));
  }

  update(tree, file) {
    const key = JSON.stringify([tree, file]);
    if (key === this.key) return;
    this.key = key;
    this.rows = leaves(tree).map(([path, leaf]) => {
      const cut = path.lastIndexOf(".") + 1;
      const node = h("tr", { class: leaf.origin === "default" ? "from-default" : "from-file" },
        h("th", { scope: "row" }, h("span", { class: "muted" }, path.slice(0, cut)), path.slice(cut)),
        h("td", { class: "value" }, yaml(leaf.value)),
        h("td", {}, h("span", { class: "origin" }, ORIGINS[leaf.origin] ?? leaf.origin)),
        h("td", { class: "number" }, leaf.line ? `${fileName(file) || "line"}:${leaf.line}` : ""));
      return { node, leaf, text: `${path} ${yaml(leaf.value)} ${ORIGINS[leaf.origin] ?? leaf.origin}`.toLowerCase() };
    });
    this.body.replaceChildren(...this.rows.map((row) => row.node));
    this.filter();
  }

  filter() {
    const wanted = this.search.value.trim().toLowerCase();
    let shown = 0;
    for (const { node, leaf, text } of this.rows) {
      const fits = (!wanted || text.includes(wanted)) && (!this.own.checked || leaf.origin !== "default");
      node.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    setText(this.count, `${shown} of ${this.rows.length}`);
  }
}
