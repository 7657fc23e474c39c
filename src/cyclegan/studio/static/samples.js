// Samples through time: one run, or two at the same or the nearest steps, with a scrubber that also plays.

import { el, grouped, icon } from "./app.js";

const SIDE = 960, MILLISECONDS = 220, AHEAD = 4;

/** The steps that all runs have, or else all steps, each with the nearest one of every run; a list of steps for each place. */
function together(runs) {
  const same = runs[0].filter((step) => runs.every((steps) => steps.includes(step)));
  if (same.length) return same.map((step) => runs.map(() => step));
  if (runs.some((steps) => !steps.length)) return [];
  const nearest = (steps, to) => steps.reduce((best, step) => (Math.abs(step - to) < Math.abs(best - to) ? step : best));
  const all = [...new Set(runs.flat())].sort((a, b) => a - b).map((step) => runs.map((steps) => nearest(steps, step)));
  return all.filter((steps, index) => String(steps) !== String(all[index - 1]));
}

export class Samples {
  /** runs: with a name and `samples`, a list of [step, version]. url: of a run and the rest of an address. */
  constructor(runs, url) {
    this.runs = runs;
    this.url = url;
    this.steps = []; // at each place of the scrubber, the step of each run
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
      ? "The images of both. The arrow keys go through the steps that both have; if they share none, through all steps, each beside the nearest one of the other run."
      : "The same images at each step, translated there and back. The arrow keys go through the steps; a click shows the whole picture.";
    this.view = el("div", { class: `view${runs.length > 1 ? " two" : ""}` },
      el("div", {}, this.pictures.map(({ img, whole, caption }) => el("figure", {}, caption, whole))),
      el("div", { class: "scrub" }, this.button, this.slider, this.output));
    this.none = el("p", { class: "muted" }, runs.length > 1 ? "One of them has no samples." : "The first samples come after some time; --sample-steps sets how often.");
    this.element = el("div", { class: "samples" }, this.none, this.view, el("p", { class: "muted small" }, text));
    this.update();
  }

  /** Take over the samples that have come. At the newest one, follow. */
  update() {
    this.versions = this.runs.map((run) => new Map(run.samples));
    const steps = together(this.versions.map((versions) => [...versions.keys()]));
    const follows = !this.steps.length || Number(this.slider.value) === this.steps.length - 1;
    const shown = String(this.steps[Number(this.slider.value)]);
    this.steps = steps;
    this.slider.max = Math.max(0, steps.length - 1);
    this.slider.value = follows ? steps.length - 1 : Math.max(0, steps.findIndex((each) => String(each) === shown));
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
    const index = Number(this.slider.value), steps = this.steps[index];
    if (steps == null) return;
    const text = new Set(steps).size === 1 ? `step ${grouped(steps[0])}` : `steps ${steps.map(grouped).join(" and ")}`;
    this.output.textContent = text;
    this.slider.setAttribute("aria-valuetext", `${text}, ${index + 1} of ${this.steps.length}`);
    this.pictures.forEach(({ img, whole }, run) => {
      const step = steps[run], address = this.#address(run, step, SIDE);
      if (img.getAttribute("src") === address) return;
      img.src = address;
      img.alt = `Samples of ${this.runs[run].details.label} at step ${grouped(step)}: real images, their translations, and the translations back`;
      whole.href = this.#address(run, step);
    });
    // The next ones are there when they are asked for.
    for (let next = index + 1; next <= Math.min(index + AHEAD, this.steps.length - 1); next++) this.#load(next);
  }

  #load(index) {
    const steps = this.steps[index], key = String(steps);
    if (this.ahead.has(key)) return this.ahead.get(key);
    const loaded = Promise.all(this.runs.map((_, run) => {
      const img = new Image();
      img.src = this.#address(run, steps[run], SIDE);
      return img.decode().catch(() => {});
    }));
    this.ahead.set(key, loaded);
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
