// Pictures beside each other that zoom, move and cut in step. Each view shows a result, and on the left of a handle the
// image it was made from.

import { el, icon } from "./app.js";

const CLOSEST = 64; // screen pixels for one of the image
const CRISP = 4; // from here on pixels are squares; below, a smooth picture shows more

/** A zoom within its limits. whole: screen pixels for one of the image when all of it fills its frame. */
const limited = (zoom, whole) => Math.min(Math.max(zoom, Math.min(1, 1 / whole)), Math.max(1, CLOSEST / whole));

export class Viewer {
  #views = [];
  #zoom = 1; // 1 shows the whole image
  #centre = { x: 0.5, y: 0.5 }; // as shares of the image
  #cut = 0.5; // where the handle is, as a share of what is seen of the image
  #isSplit = true;
  #due = 0;

  constructor(element) {
    this.grid = el("div", { class: "views" });
    this.slider = el("input", {
      type: "range",
      min: 0,
      max: 100,
      step: 0.5,
      value: 50,
      "aria-label": "Before and after",
      oninput: () => this.#moveCut(this.slider.value / 100),
    });
    this.scale = el("output", { class: "scale number", "aria-label": "Zoom" });
    const button = (name, shape, action) =>
      el(
        "button",
        { type: "button", class: "quiet square", title: name, "aria-label": name, onclick: action },
        icon(shape),
      );
    const layout = (text, split) => {
      const choose = () => this.split(split);
      return el("button", { type: "button", "aria-pressed": String(split === this.#isSplit), onclick: choose }, text);
    };
    this.layouts = [layout("Slider", true), layout("Side by side", false)];
    this.bar = el(
      "div",
      { class: "viewer-bar split", role: "group", "aria-label": "View" },
      el("div", { class: "segments" }, this.layouts),
      el(
        "label",
        { class: "cut" },
        el("span", { class: "muted small", "aria-hidden": "true" }, "Before"),
        this.slider,
        el("span", { class: "muted small", "aria-hidden": "true" }, "After"),
      ),
      el(
        "div",
        { class: "zoom" },
        button("Zoom out", "minus", () => this.#zoomBy(1 / 1.5)),
        this.scale,
        button("Zoom in", "plus", () => this.#zoomBy(1.5)),
        el(
          "button",
          {
            type: "button",
            class: "quiet",
            title: "One pixel of the image on one of the screen",
            onclick: () => this.#toPixels(),
          },
          "1:1",
        ),
        button("Show all of the image", "fit", () => this.fit()),
      ),
    );
    element.append(this.bar, this.grid);
    new ResizeObserver(() => this.draw()).observe(this.grid);
  }

  /**
   * What is shown: for each view { label, detail, before, after, message, isProblem, tools, note }. before, after: Picture
   * or null. message: stands on the view while there is no result. tools: elements beside the label.
   */
  show(views) {
    while (this.#views.length > views.length) this.#views.pop().figure.remove();
    while (this.#views.length < views.length) this.#views.push(this.#makeView());
    views.forEach((shown, index) => {
      const view = this.#views[index];
      Object.assign(view, { before: shown.before, after: shown.after });
      view.label.replaceChildren(shown.label, el("span", { class: "detail muted" }, shown.detail ?? ""));
      view.canvas.setAttribute("aria-label", shown.label);
      view.frame.setAttribute("aria-label", `${shown.label}. Plus and minus zoom, arrow keys move, 0 shows all.`);
      view.message.textContent = shown.message ?? "";
      view.message.className = shown.isProblem ? "message problem" : "message";
      view.message.hidden = !shown.message;
      view.tools.replaceChildren(...(shown.tools ?? []));
      view.note.textContent = shown.note ?? "";
      view.figure.classList.toggle("busy", Boolean(shown.message) && !shown.isProblem);
    });
    this.grid.dataset.count = Math.min(views.length, 4);
    this.draw();
  }

  split(isSplit) {
    this.#isSplit = isSplit;
    this.layouts[0].setAttribute("aria-pressed", String(isSplit));
    this.layouts[1].setAttribute("aria-pressed", String(!isSplit));
    this.bar.classList.toggle("split", isSplit);
    this.onlayout?.(isSplit);
    this.draw();
  }

  get isSplit() {
    return this.#isSplit;
  }

  fit() {
    this.#zoom = 1;
    this.#centre = { x: 0.5, y: 0.5 };
    this.draw();
  }

  /** Draw all views at the next frame, however often it is called before. */
  draw() {
    this.#due ||= requestAnimationFrame(() => {
      this.#due = 0;
      for (const view of this.#views) this.#drawView(view);
      const first = this.#views.map((view) => this.#geometry(view)).find(Boolean);
      this.scale.textContent = first ? `${Math.round(first.scale * 100)} %` : "";
    });
  }

  // ---- one view

  #makeView() {
    const canvas = el("canvas", { role: "img" });
    const handle = el("div", { class: "handle", "aria-hidden": "true" });
    const view = {
      canvas,
      handle,
      label: el("span", { class: "name" }),
      tools: el("span", { class: "tools" }),
      message: el("p", { class: "message" }),
      note: el("p", { class: "note small muted" }),
      pointers: new Map(),
    };
    view.frame = el(
      "div",
      { class: "frame", tabindex: 0, role: "group" },
      canvas,
      handle,
      el("span", { class: "side before", "aria-hidden": "true" }, "Before"),
      el("span", { class: "side after", "aria-hidden": "true" }, "After"),
      view.message,
    );
    view.figure = el("figure", { class: "view" }, el("figcaption", {}, view.label, view.tools), view.frame, view.note);
    this.grid.append(view.figure);
    view.frame.addEventListener("keydown", (event) => this.#key(view, event));
    view.frame.addEventListener("wheel", (event) => this.#wheel(view, event), { passive: false });
    view.frame.addEventListener("pointerdown", (event) => this.#press(view, event));
    view.frame.addEventListener("pointermove", (event) => this.#drag(view, event));
    for (const name of ["pointerup", "pointercancel"]) {
      view.frame.addEventListener(name, (event) => view.pointers.delete(event.pointerId));
    }
    view.frame.addEventListener("dblclick", () => (this.#zoom > 1 ? this.fit() : this.#toPixels()));
    return view;
  }

  /** Where the image of a view lies, in pixels of the screen: its corner, its size, and how large one of its pixels is. */
  #geometry(view) {
    const picture = view.after ?? view.before;
    const width = Math.round(view.frame.clientWidth * devicePixelRatio);
    const height = Math.round(view.frame.clientHeight * devicePixelRatio);
    if (!picture || !width || !height) return null;
    const whole = Math.min(width / picture.width, height / picture.height);
    this.#zoom = limited(this.#zoom, whole);
    const scale = whole * this.#zoom;
    const along = (share, size, room) => {
      const shown = size * scale;
      if (shown <= room) return [Math.round((room - shown) / 2), shown, 0.5];
      const corner = Math.min(0, Math.max(room - shown, room / 2 - share * shown));
      return [Math.round(corner), shown, (room / 2 - corner) / shown];
    };
    const [left, shownWidth, x] = along(this.#centre.x, picture.width, width);
    const [top, shownHeight, y] = along(this.#centre.y, picture.height, height);
    const seen = {
      left: Math.max(0, left),
      right: Math.min(width, left + shownWidth),
      top: Math.max(0, top),
      bottom: Math.min(height, top + shownHeight),
    };
    return { width, height, left, top, shownWidth, shownHeight, x, y, scale, whole, seen };
  }

  #drawView(view) {
    const place = this.#geometry(view);
    const both = Boolean(this.#isSplit && view.before && view.after);
    view.handle.hidden = !both;
    view.frame.classList.toggle("both", both);
    view.frame.classList.toggle("movable", this.#zoom > 1);
    if (!place) return view.canvas.getContext("2d").clearRect(0, 0, view.canvas.width, view.canvas.height);
    const { canvas } = view;
    if (canvas.width !== place.width || canvas.height !== place.height) {
      Object.assign(canvas, { width: place.width, height: place.height });
    }
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = place.scale < CRISP;
    context.imageSmoothingQuality = "high";
    const put = (picture) =>
      context.drawImage(picture.drawable, place.left, place.top, place.shownWidth, place.shownHeight);
    put(view.after ?? view.before);
    if (!both) return;
    const edge = Math.round(place.seen.left + this.#cut * (place.seen.right - place.seen.left));
    context.save();
    context.beginPath();
    context.rect(0, 0, edge, canvas.height);
    context.clip();
    context.clearRect(0, 0, edge, canvas.height); // or the result would be seen through a transparent image
    put(view.before);
    context.restore();
    const inset = {
      left: place.seen.left,
      right: place.width - place.seen.right,
      top: place.seen.top,
      bottom: place.height - place.seen.bottom,
    };
    for (const [side, pixels] of Object.entries(inset))
      view.frame.style.setProperty(`--${side}`, `${pixels / devicePixelRatio}px`);
    view.handle.style.left = `${edge / devicePixelRatio}px`;
  }

  // ---- moving

  #moveCut(share) {
    this.#cut = Math.min(1, Math.max(0, share));
    this.slider.value = this.#cut * 100;
    this.draw();
  }

  #moveBy(view, x, y) {
    const place = this.#geometry(view);
    if (!place) return;
    this.#centre = { x: place.x - x / place.shownWidth, y: place.y - y / place.shownHeight };
    this.draw();
  }

  /** Zoom so that the point (x, y) of a view, by default its middle, stays where it is. */
  #zoomBy(factor, view = this.#views.find((each) => this.#geometry(each)), x, y) {
    const place = view && this.#geometry(view);
    if (!place) return;
    x ??= place.width / 2;
    y ??= place.height / 2;
    const zoom = limited(this.#zoom * factor, place.whole);
    const grown = zoom / this.#zoom;
    const under = { x: (x - place.left) / place.shownWidth, y: (y - place.top) / place.shownHeight };
    this.#zoom = zoom;
    this.#centre = {
      x: under.x + (place.width / 2 - x) / (place.shownWidth * grown),
      y: under.y + (place.height / 2 - y) / (place.shownHeight * grown),
    };
    this.draw();
  }

  #toPixels() {
    const place = this.#views.map((view) => this.#geometry(view)).find(Boolean);
    if (place) this.#zoomBy(1 / place.scale);
  }

  #key(view, event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [x, y] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if ((x || y) && this.#zoom > 1) this.#moveBy(view, x * 60 * devicePixelRatio, y * 60 * devicePixelRatio);
    else if (x && this.#isSplit) this.#moveCut(this.#cut - x * 0.02);
    else if (event.key === "+" || event.key === "=") this.#zoomBy(1.5, view);
    else if (event.key === "-") this.#zoomBy(1 / 1.5, view);
    else if (event.key === "0") this.fit();
    else if (event.key === "1") this.#toPixels();
    else return;
    event.preventDefault();
  }

  #wheel(view, event) {
    const place = this.#geometry(view);
    // At its smallest the picture lets the page scroll on.
    if (!place || (event.deltaY > 0 && this.#zoom === limited(0, place.whole))) return;
    event.preventDefault();
    const { x, y } = this.#point(view, event);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    this.#zoomBy(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), view, x, y);
  }

  #point(view, event) {
    const box = view.frame.getBoundingClientRect();
    return { x: (event.clientX - box.left) * devicePixelRatio, y: (event.clientY - box.top) * devicePixelRatio };
  }

  #press(view, event) {
    if (event.button !== 0 || !this.#geometry(view)) return;
    const point = this.#point(view, event);
    const place = this.#geometry(view);
    const edge = place.seen.left + this.#cut * (place.seen.right - place.seen.left);
    const isNear = Math.abs(point.x - edge) < 24 * devicePixelRatio;
    // With nothing to move, a drag anywhere moves the handle.
    view.moves = this.#isSplit && view.before && view.after && (isNear || this.#zoom <= 1) ? "cut" : "image";
    view.pointers.set(event.pointerId, point);
    view.frame.setPointerCapture(event.pointerId);
    if (view.pointers.size > 1)
      this.#moveCut(view.cutBefore); // the first of two fingers did not mean the handle
    else view.cutBefore = this.#cut;
    if (view.moves === "cut" && view.pointers.size === 1) this.#cutAt(view, point);
    view.frame.focus({ focusVisible: false });
    event.preventDefault();
  }

  #drag(view, event) {
    const before = view.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#point(view, event);
    const other = [...view.pointers].find(([id]) => id !== event.pointerId)?.[1];
    view.pointers.set(event.pointerId, now);
    if (other) {
      const length = (from) => Math.hypot(from.x - other.x, from.y - other.y) || 1;
      this.#zoomBy(length(now) / length(before), view, (now.x + other.x) / 2, (now.y + other.y) / 2);
      this.#moveBy(view, (now.x - before.x) / 2, (now.y - before.y) / 2);
    } else if (view.moves === "cut") this.#cutAt(view, now);
    else this.#moveBy(view, now.x - before.x, now.y - before.y);
  }

  #cutAt(view, { x }) {
    const { seen } = this.#geometry(view);
    this.#moveCut((x - seen.left) / (seen.right - seen.left));
  }
}
