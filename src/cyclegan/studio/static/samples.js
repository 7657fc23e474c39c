// Samples through time: one run, or two at the same step, with a scrubber that also plays.

import { el, grouped, icon } from "./app.js";

const SIDE = 960, MILLISECONDS = 220, AHEAD = 4;

export class Samples {
  /** runs: with a name and `samples`, a list of [step, version]. url: of a run and the rest of an address. */
  constructor(runs, url) {
    this.runs = runs;
    this.url = url;
    this.steps = [];
    this.ahead = new Map();
    this.playing = null;
    this.pictures = runs.map((run) => {
      const img = el("img", { decoding: "async" });
      const whole = el("a", { target: "_blank", rel: "noopener" }, img);
      img.addEventListener("load", () => img.classList.toggle("large", img.naturalWidth < img.clientWidth));
      return { img, whole, caption: el("figcaption", { hidden: runs.length === 1 }, run.details.label) };
    });
    this.slider = el("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Step of the samples", oninput: () => this.#chosen() });
    this.output = el("output", {});
    this.button = el("button", { type: "button", class: "square", "aria-label": "Play", onclick: () => (this.playing ? this.pause() : this.play()) }, icon("play"));
    const text = runs.length > 1
      ? "The same images translated by both. The arrow keys go through the steps that both have."
      : "The same images at each step, translated there and back. The arrow keys go through the steps; a click shows the whole picture.";
    this.view = el("div", { class: `view${runs.length > 1 ? " two" : ""}` },
      el("div", {}, this.pictures.map(({ img, whole, caption }) => el("figure", {}, caption, whole))),
      el("div", { class: "scrub" }, this.button, this.slider, this.output));
    this.none = el("p", { class: "muted" }, runs.length > 1 ? "They have no samples of the same step yet." : "The first samples come after some time; --sample-steps sets how often.");
    this.element = el("div", { class: "samples" }, this.none, this.view, el("p", { class: "muted small" }, text));
    this.update();
  }

  /** Take over the samples that have come. At the newest one, follow. */
  update() {
    const [first, ...others] = this.runs.map((run) => new Map(run.samples));
    const steps = [...first.keys()].filter((step) => others.every((other) => other.has(step)));
    const follows = !this.steps.length || Number(this.slider.value) === this.steps.length - 1;
    const shown = this.steps[Number(this.slider.value)];
    this.steps = steps;
    this.versions = [first, ...others];
    this.slider.max = Math.max(0, steps.length - 1);
    this.slider.value = follows ? steps.length - 1 : Math.max(0, steps.indexOf(shown));
    this.none.hidden = steps.length > 0;
    this.view.hidden = steps.length === 0;
    this.#show();
  }

  #address(run, step, side) {
    const small = side ? `side=${side}&` : "";
    return this.url(this.runs[run].name, `/samples/${step}?${small}v=${this.versions[run].get(step)}`);
  }

  #chosen() {
    this.pause();
    this.#show();
  }

  #show() {
    const index = Number(this.slider.value), step = this.steps[index];
    if (step == null) return;
    const text = `step ${grouped(step)}`;
    this.output.textContent = text;
    this.slider.setAttribute("aria-valuetext", `${text}, ${index + 1} of ${this.steps.length}`);
    this.pictures.forEach(({ img, whole }, run) => {
      const address = this.#address(run, step, SIDE);
      if (img.getAttribute("src") === address) return;
      img.src = address;
      img.alt = `Samples of ${this.runs[run].details.label} at step ${grouped(step)}: real images, their translations, and the translations back`;
      whole.href = this.#address(run, step);
    });
    // The next ones are there when they are asked for.
    for (let next = index + 1; next <= Math.min(index + AHEAD, this.steps.length - 1); next++) this.#load(next);
  }

  #load(index) {
    const step = this.steps[index];
    if (this.ahead.has(step)) return this.ahead.get(step);
    const loaded = Promise.all(this.runs.map((_, run) => {
      const img = new Image();
      img.src = this.#address(run, step, SIDE);
      return img.decode().catch(() => {});
    }));
    this.ahead.set(step, loaded);
    if (this.ahead.size > 40) this.ahead.delete(this.ahead.keys().next().value);
    return loaded;
  }

  async play() {
    const mine = (this.playing = {});
    this.#drawButton();
    if (Number(this.slider.value) === this.steps.length - 1) this.slider.value = 0;
    this.#show();
    while (this.playing === mine && Number(this.slider.value) < this.steps.length - 1) {
      const next = Number(this.slider.value) + 1;
      await Promise.all([this.#load(next), new Promise((done) => setTimeout(done, MILLISECONDS))]);
      if (this.playing !== mine) return;
      this.slider.value = next;
      this.#show();
    }
    if (this.playing === mine) this.pause();
  }

  pause() {
    this.playing = null;
    this.#drawButton();
  }

  #drawButton() {
    this.button.setAttribute("aria-label", this.playing ? "Pause" : "Play");
    this.button.replaceChildren(icon(this.playing ? "pause" : "play"));
  }

  end() {
    this.playing = null;
  }
}
