// Live charts of the last ten minutes, drawn by uPlot: small ones for the table, large ones with axes and marks.

import { h, setAttr, setText } from "./dom.js";
import { millis, minute, now, rate } from "./format.js";

const SPAN_S = 600;
const COLOURS = ["accent", "accent-soft", "bad", "bad-soft", "line", "muted", "warn"];

let palette = null;

/** The style sheet's colours in the form that the canvas needs: resolved for the current theme. */
function colour(name) {
  if (!palette) {
    const probe = h("i", { hidden: true });
    document.body.append(probe);
    palette = {};
    for (const one of COLOURS) {
      probe.style.color = `var(--${one})`;
      palette[one] = getComputedStyle(probe).color;
    }
    probe.remove();
  }
  return palette[name];
}

const living = new Set();

document.addEventListener("themechange", () => {
  palette = null;
  for (const plot of living) plot.redraw(false);
});

const lastTenMinutes = () => {
  const end = now() / 1000;
  return [end - SPAN_S, end];
};

/** The scale begins at zero, leaves a little room, and is never so fine that noise looks significant. */
const fromZero = (least) => (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.08)];

const LOOKS = {
  requests: {
    least: 1,
    words: rate,
    unit: "per second",
    series: [
      { label: "requests", stroke: () => colour("accent"), fill: () => colour("accent-soft") },
      { label: "errors", stroke: () => colour("bad"), fill: () => colour("bad-soft") },
    ],
  },
  latency: {
    least: 5,
    words: millis,
    unit: "ms",
    series: [
      { label: "p99", stroke: () => colour("accent") },
      { label: "p50", stroke: () => colour("muted"), dash: [4, 3] },
    ],
  },
  retries: {
    least: 1,
    words: rate,
    unit: "per second",
    series: [{ label: "retries", stroke: () => colour("warn"), fill: () => "transparent" }],
  },
};

/** Single samples between two gaps: no line reaches them, so each is drawn as a dot. */
function alone(plot, series) {
  const values = plot.data[series];
  const missing = (at) => values[at] === null || values[at] === undefined;
  const found = values.flatMap((_, at) => (!missing(at) && missing(at - 1) && missing(at + 1) ? [at] : []));
  return found.length ? found : null;
}

function options(kind, width, height, more) {
  const look = LOOKS[kind];
  return {
    width,
    height,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: true, range: lastTenMinutes }, y: { range: fromZero(look.least) } },
    series: [{}, ...look.series.map((one) => ({ width: 1.25, points: { show: false, filter: alone, size: 4, width: 0, fill: one.stroke }, ...one }))],
    ...more,
  };
}

function make(opts, data, target) {
  const plot = new uPlot(opts, data, target);
  living.add(plot);
  return plot;
}

function forget(plot) {
  living.delete(plot);
  plot.destroy();
}

/** The data as a sentence, for users who cannot see the chart. */
function sentence(kind, data) {
  const look = LOOKS[kind];
  const parts = look.series.map((one, at) => {
    const known = data[at + 1].filter((value) => value !== null);
    if (!known.length) return `${one.label}: none`;
    return `${one.label}: now ${look.words(known.at(-1))}, lowest ${look.words(Math.min(...known))}, highest ${look.words(Math.max(...known))}`;
  });
  return `last ten minutes, ${look.unit}; ${parts.join("; ")}`;
}

const visible = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target._spark.seen(entry.isIntersecting);
}, { rootMargin: "120px" });

/** A chart in a table cell. It exists only while it is visible, because a hundred services have two hundred charts. */
export class Spark {
  constructor(kind, name) {
    this.kind = kind;
    this.name = name;
    this.node = h("div", { class: "spark", role: "img" });
    this.node._spark = this;
    this.data = null;
    this.plot = null;
    this.over = false;
    visible.observe(this.node);
  }

  update(data) {
    this.data = data;
    setAttr(this.node, "aria-label", `${this.name}: ${sentence(this.kind, data)}`);
    this.plot?.setData(data);
  }

  seen(now) {
    if (this.over) return; // the observer may still report a node that was removed
    if (now && !this.plot && this.data && this.node.clientWidth) {
      const axes = [{ show: false }, { show: false }];
      const opts = options(this.kind, this.node.clientWidth, this.node.clientHeight || 26, { axes, padding: [2, 0, 1, 0] });
      this.plot = make(opts, this.data, this.node);
    } else if (!now && this.plot) this.drop();
  }

  drop() {
    if (!this.plot) return;
    forget(this.plot);
    this.plot = null;
  }

  gone() {
    this.over = true;
    visible.unobserve(this.node);
    this.drop();
  }
}

const together = () => uPlot.sync("detail");

/** A chart with axes, a legend that follows the pointer, and marks where the breaker changed. */
export class Chart {
  constructor(kind, title) {
    const look = LOOKS[kind];
    this.kind = kind;
    this.title = title;
    this.marks = [];
    this.data = null;
    this.plot = null;
    this.values = look.series.map((one) => h("b", { class: "number" }));
    this.area = h("div", { class: "area", role: "img" });
    this.node = h("figure", { class: "chart" },
      h("figcaption", {},
        h("h3", {}, title, h("span", { class: "unit" }, look.unit === "ms" ? ", ms" : "/s")),
        ...look.series.map((one, at) =>
          h("span", { class: "key" }, h("i", { class: `swatch ${kind}-${at}`, "aria-hidden": "true" }), `${one.label} `, this.values[at]))),
      this.area);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.area);
  }

  /** `marks`: [{at: unix seconds, bad}] */
  update(data, marks) {
    this.data = data;
    this.marks = marks;
    setAttr(this.area, "aria-label", `${this.title}, ${sentence(this.kind, data)}`);
    if (this.plot) this.plot.setData(data);
    else this.resize();
    this.legend();
  }

  legend() {
    const at = this.plot?.cursor?.idx;
    this.values.forEach((node, i) => {
      const series = this.data[i + 1];
      const value = at === null || at === undefined ? series.at(-1) : series[at];
      setText(node, this.kind === "requests" ? rate(value ?? 0) : LOOKS[this.kind].words(value));
    });
  }

  resize() {
    const [width, height] = [this.area.clientWidth, this.area.clientHeight];
    if (!width || !this.data) return;
    if (this.plot) this.plot.setSize({ width, height });
    else this.plot = make(this.options(width, height), this.data, this.area);
  }

  options(width, height) {
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: () => colour("muted"), font, ticks: { show: false }, grid: { stroke: () => colour("line"), width: 1 } };
    return options(this.kind, width, height, {
      padding: [8, 18, 0, 0],
      axes: [
        { ...axis, grid: { show: false }, size: 22, gap: 4, space: 64, values: (_, splits) => splits.map(minute) },
        { ...axis, size: 38, gap: 4, space: 28 },
      ],
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: together().key } },
      hooks: { setCursor: [() => this.data && this.legend()], drawAxes: [(plot) => this.drawMarks(plot)] },
    });
  }

  drawMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const mark of this.marks) {
      const x = plot.valToPos(mark.at, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = colour(mark.bad ? "bad" : "muted");
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  gone() {
    this.observer.disconnect();
    if (this.plot) {
      together().unsub(this.plot);
      forget(this.plot);
    }
  }
}
