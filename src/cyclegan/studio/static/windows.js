// Window and level, and the choice of channels, for images with more than 8 bits or other channels than colours.

import { el } from "./app.js";
import { defaultBands, usualRange } from "./pixels.js";

export class Windows {
  #settings = new Map(); // format as text -> { range, bands }
  #shown = "";
  #pictures = new Map(); // format as text -> pictures that are shown

  /** onChange: called after pictures were painted anew. */
  constructor(onChange) {
    this.onChange = onChange;
    this.element = el("div", { class: "windows" });
  }

  /** Paint a picture that was just opened as the others of its format are. */
  paint(picture, format) {
    if (!picture.values) return;
    const { range, bands } = this.#of(format, picture);
    picture.paint(range, bands);
  }

  #of(format, picture) {
    const key = JSON.stringify(format);
    if (!this.#settings.has(key)) {
      this.#settings.set(key, { range: [format.low, format.high], bands: defaultBands(picture.values.channels) });
    }
    return this.#settings.get(key);
  }

  /** The controls for what is shown: [{ role, format, picture }]. One group serves all pictures of a format. */
  show(ends) {
    this.#pictures = new Map();
    const groups = new Map();
    for (const { role, format, picture } of ends) {
      if (!picture?.values) continue;
      const key = JSON.stringify(format);
      if (!groups.has(key)) groups.set(key, { format, roles: new Set(), channels: picture.values.channels });
      groups.get(key).roles.add(role);
      this.#pictures.set(key, [...(this.#pictures.get(key) ?? []), picture]);
    }
    const wanted = JSON.stringify([...groups].map(([key, { roles }]) => [key, ...roles]));
    if (wanted === this.#shown) return; // a control that is in use stays
    this.#shown = wanted;
    this.element.replaceChildren(...[...groups].map(([key, group]) => this.#group(key, group)));
  }

  #group(key, { format, roles, channels }) {
    const setting = this.#of(format, this.#pictures.get(key)[0]);
    const span = format.high - format.low;
    const step = format.dtype.startsWith("float") ? span / 1000 : Math.max(1, Math.round(span / 1000));
    const rounded = (value) => Number(value.toPrecision(6));
    const name = [...roles].join(" and ");

    const control = (text, low, high, write) => {
      const slider = el("input", { type: "range", min: low, max: high, step: "any", "aria-label": `${text}, ${name}` });
      const number = el("input", { type: "number", step: "any", "aria-label": `${text} of ${name}, as a number` });
      slider.addEventListener("input", () => write(Math.round(slider.value / step) * step));
      number.addEventListener("change", () => Number.isFinite(number.valueAsNumber) && write(number.valueAsNumber));
      const row = el(
        "div",
        { class: "control" },
        el("span", { class: "small", "aria-hidden": "true" }, text),
        slider,
        number,
      );
      return { row, set: (value) => ((slider.value = value), (number.value = rounded(value))) };
    };
    const width = () => setting.range[1] - setting.range[0];
    const middle = () => (setting.range[0] + setting.range[1]) / 2;
    const setRange = (low, high) => {
      setting.range = [low, high];
      level.set(middle());
      window.set(width());
      for (const picture of this.#pictures.get(key) ?? []) picture.paint(setting.range, setting.bands);
      this.onChange();
    };
    const around = (centre, wide) => setRange(centre - wide / 2, centre + wide / 2);
    const level = control("Level", format.low, format.high, (value) => around(value, width()));
    const window = control("Window", step, span, (value) => around(middle(), Math.max(value, span * 1e-6)));
    level.set(middle());
    window.set(width());
    const toImage = () => setRange(...usualRange(this.#pictures.get(key)[0].values, setting.bands));
    return el(
      "fieldset",
      {},
      el("legend", {}, `Brightness: ${name.toLowerCase()}`),
      level.row,
      window.row,
      this.#channelChoice(setting, channels, name, () => setRange(...setting.range)),
      el(
        "div",
        { class: "row" },
        el("button", { type: "button", onclick: toImage }, "Fit to the image"),
        el("button", { type: "button", onclick: () => setRange(format.low, format.high) }, "Full range"),
      ),
    );
  }

  #channelChoice(setting, channels, name, onChange) {
    if (channels === 1) return null;
    const choices = Array.from({ length: channels }, (_, band) => [[band], `Channel ${band + 1}`]);
    if (channels >= 3) choices.unshift([[0, 1, 2], "1, 2, 3 as red, green, blue"]);
    const select = el(
      "select",
      {
        "aria-label": `Channels of ${name}`,
        onchange: () => {
          setting.bands = JSON.parse(select.value);
          onChange();
        },
      },
      choices.map(([bands, text]) =>
        el("option", { value: JSON.stringify(bands), selected: String(bands) === String(setting.bands) }, text),
      ),
    );
    return el("div", { class: "control" }, select);
  }
}
