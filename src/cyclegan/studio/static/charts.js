// Line charts in SVG: zero or more curves over steps, smoothed, on a linear or a logarithmic axis, read by mouse or keys.

import { el, grouped } from "./app.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 200, LEFT = 50, RIGHT = 10, TOP = 10, BOTTOM = 24;

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A number with three digits that matter: 0.0123, 1.23, 12,300. */
export function short(value) {
  if (value == null || !Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  if (size >= 1000) return grouped(Math.round(value));
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

const steps = (value) => (value >= 1e6 ? `${value / 1e6}M` : value >= 1e4 ? `${value / 1e3}k` : grouped(value));

/** Round values between two others, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? power;
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

/** Powers of ten between two values, with 2 and 5 between them where there are few. */
function logTicks(low, high) {
  const found = [];
  const factors = high / low > 300 ? [1] : high / low > 8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const factor of factors) found.push(Number((factor * 10 ** power).toPrecision(6)));
  }
  return found.filter((tick) => tick >= low && tick <= high);
}

/** The running mean of values, in which earlier ones count less and less; `smooth` from 0 (none) to below 1. */
export function smoothed(values, smooth) {
  if (!smooth) return values;
  let mean = 0, weight = 0;
  return values.map((value) => {
    if (value == null) return null;
    mean = smooth * mean + (1 - smooth) * value;
    weight = smooth * weight + (1 - smooth);
    return mean / weight; // else the first values would pull towards 0
  });
}

/** Charts whose cursors move together. */
export class Group {
  charts = new Set();
  point(step, from) {
    for (const chart of this.charts) chart.showAt(step, chart === from);
  }
}

export class Chart {
  /**
   * title: above the chart. about: a sentence on how to read it. curves, each { name, label, style, x, y, low?, high?,
   * plain? }: style is 1 to 4, with "dash" behind it for a dashed line, plain ones are not smoothed. lines: levels to
   * compare with, { label, value }. marks: steps, { label, x }.
   */
  constructor({ title, about = "", group = new Group() }) {
    this.title = title;
    this.group = group;
    group.charts.add(this);
    this.options = { log: false, smooth: 0 };
    this.data = { curves: [], lines: [], marks: [] };
    this.hidden = new Set();
    this.keys = el("div", { class: "keys" });
    this.width = 400;
    this.plot = svg("svg", { height: HEIGHT, tabindex: "0", role: "application" });
    this.said = el("div", { class: "unseen", "aria-live": "polite" });
    this.element = el("figure", { class: "chart" },
      el("figcaption", {}, el("strong", {}, title), about && el("span", { class: "muted small" }, about)),
      this.plot, this.keys, this.said);
    // Drawn in the pixels that there are, so that text has its size.
    this.resized = new ResizeObserver(([{ contentRect }]) => {
      const width = Math.round(contentRect.width);
      if (!width || width === this.width) return;
      this.width = width;
      this.#draw();
    });
    this.resized.observe(this.plot);
    this.plot.addEventListener("pointermove", (event) => this.#pointed(event));
    this.plot.addEventListener("pointerdown", (event) => this.#pointed(event));
    this.plot.addEventListener("pointerleave", () => this.group.point(null, this));
    this.plot.addEventListener("blur", () => this.group.point(null, this));
    this.plot.addEventListener("keydown", (event) => this.#pressed(event));
  }

  /** Take this chart out of its group. */
  remove() {
    this.group.charts.delete(this);
    this.resized.disconnect();
    this.element.remove();
  }

  /** Show these curves; what is not given stays. */
  set(data, options = {}) {
    this.data = { ...this.data, ...data };
    this.options = { ...this.options, ...options };
    this.#draw();
  }

  get #shown() {
    return this.data.curves.filter((curve) => !this.hidden.has(curve.name));
  }

  #draw() {
    const { log, smooth } = this.options;
    this.plot.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    const shown = this.#shown.map((curve) => ({ ...curve, smooth: curve.plain ? curve.y : smoothed(curve.y, smooth) }));
    this.shown = shown;
    this.x = [...new Set(shown.flatMap((curve) => curve.x))].sort((a, b) => a - b);
    this.#scale(shown, log);
    const parts = [], labels = []; // labels lie above the curves
    for (const tick of this.yTicks) {
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: this.width - RIGHT, y1: this.toY(tick), y2: this.toY(tick) }));
      parts.push(svg("text", { class: "tick", x: LEFT - 7, y: this.toY(tick) + 4, "text-anchor": "end" }, short(tick)));
    }
    for (const tick of this.xTicks) {
      const anchor = this.toX(tick) > this.width - 30 ? "end" : "middle";
      parts.push(svg("text", { class: "tick", x: this.toX(tick), y: HEIGHT - 8, "text-anchor": anchor }, steps(tick)));
    }
    for (const mark of this.data.marks) {
      if (mark.x < this.left || mark.x > this.right) continue;
      const x = this.toX(mark.x), end = x > this.width - 50;
      parts.push(svg("line", { class: "mark", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
      labels.push(svg("text", { class: "tick", x: x + (end ? -5 : 5), y: TOP + 8, "text-anchor": end ? "end" : "start" }, mark.label));
    }
    const clip = `clip${Math.random().toString(36).slice(2)}`;
    const curves = svg("g", { "clip-path": `url(#${clip})` });
    let above = Infinity; // labels of levels keep their distance, from the lowest up
    for (const line of [...this.data.lines].sort((one, other) => one.value - other.value)) {
      if (log && line.value <= 0) continue;
      const y = this.toY(line.value), look = line.style ? ` s${line.style}` : "";
      curves.append(svg("line", { class: `level${look}`, x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }));
      above = Math.min(y - 4, above - 13);
      labels.push(svg("text", { class: "tick", x: this.width - RIGHT - 4, y: Math.max(above, TOP + 8), "text-anchor": "end" }, `${line.label} ${short(line.value)}`));
    }
    for (const curve of shown) {
      const look = `s${curve.style}`.replace("dash", " dash");
      if (curve.low) curves.append(svg("path", { class: `band ${look}`, d: this.#band(curve) }));
      if (smooth && !curve.plain) curves.append(svg("path", { class: `raw ${look}`, d: this.#path(curve.x, curve.y) }));
      curves.append(svg("path", { class: `curve ${look}`, d: this.#path(curve.x, curve.smooth) }));
      if (curve.x.length <= 40) {
        curve.smooth.forEach((y, index) => {
          if (this.#isDrawn(y)) curves.append(svg("circle", { class: `dot ${look}`, cx: this.toX(curve.x[index]), cy: this.toY(y), r: 2.6 }));
        });
      }
    }
    this.cursor = svg("g", { class: "cursor" });
    this.plot.replaceChildren(
      svg("defs", {}, svg("clipPath", { id: clip }, svg("rect", { x: LEFT - 4, y: TOP - 3, width: this.width - LEFT - RIGHT + 8, height: HEIGHT - TOP - BOTTOM + 6 }))),
      ...parts, curves, ...labels, this.cursor);
    this.#drawKeys();
    this.plot.setAttribute("aria-label", this.#summary());
    if (this.step != null) this.showAt(this.step, false);
  }

  #scale(shown, log) {
    const usable = (value) => value != null && Number.isFinite(value) && (!log || value > 0);
    // The thick lines and nearly all of the thin ones; a few wild first values would flatten the rest.
    const raw = shown.flatMap((curve) => curve.y).filter(usable).sort((a, b) => a - b);
    const values = [...shown.flatMap((curve) => [...curve.smooth, ...(curve.low ?? []), ...(curve.high ?? [])]), ...this.data.lines.map((line) => line.value)].filter(usable);
    if (raw.length) values.push(raw[Math.floor(raw.length * 0.01)], raw[Math.floor((raw.length - 1) * 0.99)]);
    let low = values.length ? values.reduce((a, b) => Math.min(a, b)) : log ? 0.1 : 0;
    let high = values.length ? values.reduce((a, b) => Math.max(a, b)) : 1;
    if (log) {
      if (high / low < 1.2) [low, high] = [low / 1.1, high * 1.1];
      const room = (high / low) ** 0.04;
      [low, high] = [low / room, high * room];
      this.toY = (value) => HEIGHT - BOTTOM - (Math.log(Math.max(value, 1e-300) / low) / Math.log(high / low)) * (HEIGHT - TOP - BOTTOM);
      this.yTicks = logTicks(low, high);
    } else {
      if (low > 0 && low < high * 0.6) low = 0;
      if (high - low <= Math.abs(high) * 1e-6) [low, high] = high === 0 ? [-0.5, 0.5] : [Math.min(0, 2 * low), Math.max(0, 2 * high)];
      high += (high - low) * 0.05;
      this.toY = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
      this.yTicks = ticks(low, high, 4);
    }
    this.left = this.x.length > 1 ? Math.min(this.x[0], this.x[0] < this.x.at(-1) * 0.2 ? 0 : Infinity) : 0;
    this.right = this.x.at(-1) || 1;
    if (this.right <= this.left) this.right = this.left + 1;
    this.toX = (step) => LEFT + ((step - this.left) / (this.right - this.left)) * (this.width - LEFT - RIGHT);
    this.xTicks = ticks(this.left, this.right, Math.max(2, Math.round(this.width / 90)));
  }

  #isDrawn(value) {
    return value != null && (!this.options.log || value > 0);
  }

  #path(x, y) {
    let path = "", pen = "M";
    y.forEach((value, index) => {
      if (!this.#isDrawn(value)) return void (pen = "M");
      path += `${pen}${this.toX(x[index]).toFixed(1)} ${this.toY(value).toFixed(1)}`;
      pen = "L";
    });
    return path;
  }

  #band(curve) {
    const points = curve.x.map((x, i) => [x, curve.low[i], curve.high[i]]).filter(([, low, high]) => this.#isDrawn(low) && this.#isDrawn(high));
    if (points.length < 2) return "";
    const there = points.map(([x, , high]) => `${this.toX(x).toFixed(1)} ${this.toY(high).toFixed(1)}`);
    const back = points.reverse().map(([x, low]) => `${this.toX(x).toFixed(1)} ${this.toY(low).toFixed(1)}`);
    return `M${[...there, ...back].join("L")}Z`;
  }

  /** The names of the curves are buttons that hide and show them; they stay as they are while only values change. */
  #drawKeys() {
    const names = this.data.curves.map((curve) => `${curve.name} ${curve.label} ${curve.style}`).join();
    if (names !== this.named) {
      this.named = names;
      this.values = {};
      this.keys.replaceChildren(...this.data.curves.map((curve) => {
        const value = (this.values[curve.name] = el("span", { class: "value" }));
        const look = `s${curve.style}`.replace("dash", " dash");
        const swatch = svg("svg", { class: "swatch", viewBox: "0 0 18 6", "aria-hidden": "true" }, svg("path", { class: `curve ${look}`, d: "M0 3H18" }));
        return el("button", { type: "button", class: "key", "aria-pressed": String(!this.hidden.has(curve.name)), onclick: (event) => this.#toggle(curve.name, event.currentTarget) }, swatch, curve.label, value);
      }));
    }
    this.#showValues(null);
  }

  #toggle(name, button) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    button.setAttribute("aria-pressed", String(!this.hidden.has(name)));
    this.#draw();
  }

  #nearest(curve, step) {
    let low = 0, high = curve.x.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (curve.x[middle] < step) low = middle + 1; else high = middle;
    }
    return low > 0 && step - curve.x[low - 1] < curve.x[low] - step ? low - 1 : low;
  }

  #showValues(step) {
    for (const curve of this.shown) {
      const index = step == null ? curve.x.length - 1 : this.#nearest(curve, step);
      if (this.values[curve.name]) this.values[curve.name].textContent = short(curve.smooth[index]);
    }
    for (const name of this.hidden) if (this.values[name]) this.values[name].textContent = "";
  }

  /** Show the values at a step, or with null the last ones. */
  showAt(step, speak) {
    this.step = step;
    if (!this.cursor) return;
    this.cursor.replaceChildren();
    this.#showValues(step);
    if (step == null || !this.x.length) return;
    const x = this.toX(Math.min(Math.max(step, this.left), this.right));
    this.cursor.append(svg("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
    for (const curve of this.shown) {
      const index = this.#nearest(curve, step), y = curve.smooth[index];
      if (this.#isDrawn(y)) this.cursor.append(svg("circle", { class: `s${curve.style}`.replace("dash", ""), cx: this.toX(curve.x[index]), cy: this.toY(y), r: 3.5 }));
    }
    const end = x > this.width * 0.6;
    this.cursor.append(svg("text", { x: x + (end ? -6 : 6), y: TOP + 10, "text-anchor": end ? "end" : "start" }, `step ${grouped(Math.round(step))}`));
    if (speak && this.isRead) this.said.textContent = this.#sentence(step);
  }

  #sentence(step) {
    const values = this.shown.map((curve) => `${curve.label} ${short(curve.smooth[this.#nearest(curve, step)])}`);
    return `Step ${grouped(Math.round(step))}: ${values.join(", ")}`;
  }

  #summary() {
    if (!this.x.length) return `${this.title}: no values yet`;
    const lines = this.data.lines.map((line) => `${line.label} ${short(line.value)}`);
    return `${this.title}. ${[this.#sentence(this.x.at(-1)), ...lines].join(". ")}. Arrow keys read other steps.`;
  }

  #pointed(event) {
    if (!this.x?.length) return;
    this.isRead = false;
    const box = this.plot.getBoundingClientRect();
    const at = event.clientX - box.left;
    const wanted = this.left + ((at - LEFT) / (this.width - LEFT - RIGHT)) * (this.right - this.left);
    this.group.point(this.x[this.#nearest({ x: this.x }, wanted)], this);
  }

  #pressed(event) {
    const jump = Math.max(1, Math.round(this.x.length / 20));
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -jump, PageUp: jump, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") this.group.point(null, this);
    if (!(event.key in moves) || !this.x.length) return;
    event.preventDefault();
    this.isRead = true;
    const now = this.step == null ? this.x.length - 1 : this.#nearest({ x: this.x }, this.step);
    const next = Math.min(Math.max(now + moves[event.key], 0), this.x.length - 1);
    this.group.point(this.x[next], this);
  }
}
