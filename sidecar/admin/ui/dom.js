// Small helpers for the DOM: create elements, change only what differs, keep a list of rows in step with data.

/** Creates an element. `on*` are listeners, `data` is its dataset; null and false omit an attribute. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else if (key === "data") Object.assign(node.dataset, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttr(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

/** Replaces the children only if `key` (the data they are made from) has changed since the last time. */
export function renew(node, key, make) {
  const text = typeof key === "string" ? key : JSON.stringify(key);
  if (node._made === text) return;
  node._made = text;
  node.replaceChildren(...[make()].flat().filter(Boolean));
}

/** Rows by key: `make(key)` returns {node, update(item), gone?()}. Nodes move only if the order has changed. */
export class Rows {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.rows = new Map();
  }

  update(items, keyOf) {
    const wanted = new Set(items.map(keyOf));
    for (const [key, row] of this.rows) {
      if (wanted.has(key)) continue;
      row.gone?.();
      row.node.remove();
      this.rows.delete(key);
    }
    const focused = document.activeElement;
    let at = this.parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      let row = this.rows.get(key);
      if (!row) {
        row = this.make(key, item);
        this.rows.set(key, row);
      }
      row.update(item);
      if (row.node === at) at = at.nextElementSibling;
      else this.parent.insertBefore(row.node, at);
    }
    // A node that moves loses the focus. A keyboard user would then be sent back to the top of the page.
    if (focused && focused !== document.activeElement && this.parent.contains(focused)) {
      focused.focus({ preventScroll: true });
    }
  }

  clear() {
    this.update([], String);
  }
}

const SHAPES = {
  ok: "M6 1.8a4.2 4.2 0 1 0 0 8.4a4.2 4.2 0 0 0 0-8.4z",
  warn: "M6 .9 11.6 11H.4z",
  bad: "M3.7.5h4.6l3.2 3.2v4.6l-3.2 3.2H3.7L.5 8.3V3.7zM2.6 5v2h6.8V5z",
  half: "M6 1a5 5 0 1 0 0 10A5 5 0 0 0 6 1zm0 1.6v6.8a3.4 3.4 0 0 1 0-6.8z",
  pause: "M2.2 1.5h2.6v9H2.2zM7.2 1.5h2.6v9H7.2z",
  lock: "M3.2 5V3.8a2.8 2.8 0 0 1 5.6 0V5H10v6.2H2V5zm1.5 0h2.6V3.8a1.3 1.3 0 0 0-2.6 0z",
  idle: "M1.5 5h9v2h-9z",
};

/** A shape with the same meaning as the word beside it, for users who cannot tell the colours apart. */
export function shape(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("class", `shape is-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[name]);
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}

/** A word with its shape, created anew only if one of them changes. */
export function setState(node, shapeName, word, extra = "") {
  renew(node, `${shapeName}|${word}`, () => [
    h("span", { class: `state is-${shapeName}` }, shape(shapeName), h("span", {}, word)),
    h("span", { class: "extra" }),
  ]);
  setText(node.lastElementChild, extra);
}

export function saying(text) {
  return h("span", { class: "unseen" }, text);
}

let toasting = 0;

/** A short message about what was done. Screen readers read it without interrupting. */
export function toast(text) {
  const node = document.getElementById("toast");
  node.textContent = text;
  node.classList.add("shown");
  clearTimeout(toasting);
  toasting = setTimeout(() => node.classList.remove("shown"), 6000);
}
