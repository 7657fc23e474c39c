// The page Runs: all runs, one run as it trains, and two runs beside each other.

import { announce, api, counted, el, grouped, icon, place } from "./app.js";
import { Chart, Group, short } from "./charts.js";
import { ago, changed, command, confirm, duration, problemLine, repeat } from "./parts.js";
import { Samples } from "./samples.js";

const STATES = {
  training: "training", stopping: "saving, then stops", finished: "finished", stopped: "stopped", broken: "broken off",
};
const SECONDS = 2;

const url = (name, rest = "") => `/api/runs/${encodeURIComponent(name)}${rest}`;
const link = (...names) => `#runs/${names.map(encodeURIComponent).join("/")}`;

const badge = (run) => el("span", { class: `state ${run.state}` }, STATES[run.state]);

/** Shows what follows `#runs/`: nothing, a run, or two runs. */
export function mount(page) {
  let end = null, shown = null;
  function show() {
    if (!location.hash.startsWith("#runs") && end) return; // another page is seen; this one rests
    const [name, other] = place().split("/").filter(Boolean);
    if (shown === `${name}/${other}` && end) return;
    shown = `${name}/${other}`;
    end?.();
    page.replaceChildren();
    end = other ? showTwo(page, name, other) : name ? showOne(page, name) : showList(page);
    if (name) page.querySelector(".bartop")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  window.addEventListener("hashchange", show);
  show();
}

// ---- all runs

const ORDERS = {
  newest: ["Newest first", (a, b) => (b.changed ?? 0) - (a.changed ?? 0)],
  best: ["Best score first", (a, b) => (a.best?.kid ?? Infinity) - (b.best?.kid ?? Infinity)],
  name: ["By name", (a, b) => a.name.localeCompare(b.name, "en", { numeric: true })],
};

function showList(page) {
  const known = {}, chosen = new Set(), problem = problemLine();
  let runs = [], rows = new Map();
  const list = el("ul", { class: "runlist" });
  const search = el("input", { type: "search", placeholder: "Find a run", "aria-label": "Find a run", oninput: draw });
  const order = el("select", { "aria-label": "Order", onchange: draw },
    Object.entries(ORDERS).map(([name, [label]]) => el("option", { value: name }, label)));
  const where = el("p", { class: "muted" });
  const compare = el("button", { type: "button", class: "main", onclick: () => (location.hash = link(...chosen)) }, "Compare these two");
  const choice = el("div", { class: "choice", hidden: true }, el("span", { "aria-live": "polite" }), compare,
    el("button", { type: "button", class: "quiet", onclick: clear }, "Clear"));
  page.append(el("div", { class: "bartop", tabindex: "-1" }, el("h1", {}, "Runs"), search, order), where, problem.element, list, choice);

  function clear() {
    chosen.clear();
    for (const box of list.querySelectorAll("input")) box.checked = false;
    drawChoice();
  }

  function drawChoice() {
    choice.hidden = chosen.size === 0;
    const labels = [...chosen].map((name) => runs.find((run) => run.name === name)?.label ?? name);
    choice.firstChild.textContent = labels.length === 1 ? `${labels[0]}, and another one` : labels.join(" and ");
    compare.disabled = chosen.size !== 2;
  }

  function choose(name, box) {
    if (box.checked) chosen.add(name); else chosen.delete(name);
    if (chosen.size > 2) { // the one that was chosen first goes
      const first = [...chosen][0];
      chosen.delete(first);
      const row = rows.get(first);
      if (row) row.querySelector("input").checked = false;
    }
    drawChoice();
  }

  function row(run) {
    const old = rows.get(run.name), text = JSON.stringify(run);
    if (old?.dataset.content === text) return old;
    const shot = run.sample
      ? el("img", { class: "shot", alt: "", loading: "lazy", decoding: "async", src: url(run.name, `/samples/${run.sample[0]}?side=240&v=${run.sample[1]}`) })
      : el("span", { class: "shot" });
    const box = el("input", { type: "checkbox", "aria-label": `Compare ${run.label}`, onchange: (event) => choose(run.name, event.target) });
    box.checked = chosen.has(run.name);
    const left = run.seconds_left != null ? `${duration(run.seconds_left)} left` : run.changed ? ago(run.changed) : "";
    const bar = el("progress", { max: 1, value: run.share ?? 0, "aria-label": `Progress of ${run.label}` });
    const item = el("li", {},
      el("span", { class: "choose" }, box), shot,
      el("div", { class: "who" }, el("a", { href: link(run.name) }, run.label), el("div", { class: "muted small" }, [run.title, run.preset].filter(Boolean).join(" · "))),
      el("div", { class: "how" }, el("div", { class: "row" }, badge(run), el("span", { class: "muted small" }, left)),
        bar, el("div", { class: "muted small" }, `step ${grouped(run.step)}${run.length ? `, length ${run.length}` : ""}`)),
      el("div", { class: "far" }, run.best ? [el("b", {}, short(run.best.kid)), el("span", { class: "muted small" }, "best KID")] : null));
    item.dataset.content = text;
    rows.set(run.name, item);
    return item;
  }

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = runs.filter((run) => words.every((word) => `${run.label} ${run.title} ${run.preset} ${STATES[run.state]}`.toLowerCase().includes(word)));
    found.sort(ORDERS[order.value][1]);
    const items = found.map(row);
    // Only what moves is moved, so that the focus stays where it is.
    items.forEach((item, index) => {
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    });
    while (list.children.length > items.length) list.lastChild.remove();
  }

  return repeat(page, SECONDS, async () => {
    try {
      const content = await changed("/api/runs", known);
      problem.show("");
      if (!content) return;
      runs = content.runs;
      search.hidden = order.hidden = runs.length < 2;
      const training = runs.filter((run) => run.state === "training").length;
      where.textContent = runs.length
        ? `${counted(runs.length, "run")} in ${content.folder}${training ? `, ${training} training now` : ""}. KID on validation images: less is better; only runs on the same images compare.`
        : "";
      page.querySelector(".empty")?.remove();
      if (!runs.length) {
        const others = el("p", { hidden: true });
        page.append(el("div", { class: "empty" }, el("p", {}, `There is no run in ${content.folder} yet.`), others,
          el("p", {}, "Look at your pictures and start one on the page ", el("a", { href: "#data" }, "Data"), ", or in a terminal. It appears here by itself.")));
        api("/api/models").then(({ models }) => { // without a training, such as those of `cyclegan demo --quick`
          const own = models.filter((model) => !model.is_example);
          others.hidden = !own.length;
          others.append(own.length === 1 ? `The model ${own[0].title} is there without a training; it is on the page ` : `${counted(own.length, "model")} are there without a training; they are on the page `,
            el("a", { href: "#translate" }, "Translate"), ".");
        }, () => {});
      }
      draw();
    } catch (error) {
      problem.show(error.message);
    }
  });
}

// ---- what one run and two runs share

/** Follows one run: its details, and its curves point by point. */
class Followed {
  constructor(name) {
    this.name = name;
    this.known = { details: {}, samples: {}, losses: {} };
    this.curves = { version: "", steps: [], values: {} };
    this.samples = [];
  }

  /** Ask for what is new. Returns which parts have changed. */
  async update() {
    const { version, steps } = this.curves;
    const [details, samples, losses] = await Promise.all([
      changed(url(this.name), this.known.details),
      changed(url(this.name, "/samples"), this.known.samples),
      api(url(this.name, `/losses?version=${encodeURIComponent(version)}&since=${steps.length}`)),
    ]);
    if (details) this.details = details;
    if (samples) this.samples = samples.samples;
    const fresh = losses.version !== version || losses.since === 0 ? { version: losses.version, steps: [], values: {} } : this.curves;
    const grew = losses.steps.length > 0 || fresh !== this.curves;
    fresh.steps.push(...losses.steps);
    for (const [name, values] of Object.entries(losses.values)) {
      (fresh.values[name] ??= Array(losses.since).fill(null)).push(...values);
    }
    this.curves = fresh;
    this.stride = losses.stride;
    return { details: Boolean(details), samples: Boolean(samples), curves: grew };
  }
}

/** The charts of one or two runs. Each run has a colour if there are two, else each direction has. */
class Charts {
  constructor(runs) {
    this.runs = runs;
    this.group = new Group();
    this.charts = new Map();
    this.element = el("div", { class: "charts" });
    const log = el("input", { type: "checkbox", onchange: (event) => this.#set({ log: event.target.checked }) });
    const smooth = el("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: 0.8, "aria-label": "Smooth the losses", oninput: (event) => this.#set({ smooth: Number(event.target.value) }) });
    this.options = { log: false, smooth: 0.8 };
    this.tools = el("div", { class: "tools" },
      el("label", { class: "check" }, log, "Logarithmic axis"), el("label", {}, "Smooth", smooth));
  }

  #set(options) {
    this.options = { ...this.options, ...options };
    for (const chart of this.charts.values()) chart.set({}, this.options);
  }

  #chart(title, about, data) {
    let chart = this.charts.get(title);
    if (!chart) {
      chart = new Chart({ title, about, group: this.group });
      this.charts.set(title, chart);
      this.element.append(chart.element);
    }
    chart.set(data, this.options);
    this.used.add(title);
  }

  #label(run, words) {
    return this.runs.length > 1 ? `${run.details.label}, ${words}` : words;
  }

  #style(index, second) {
    return this.runs.length > 1 ? `${index + 1}${second ? "dash" : ""}` : `${second ? 2 : 1}`;
  }

  draw() {
    this.used = new Set();
    this.#drawScores();
    this.#drawLosses();
    for (const [title, chart] of this.charts) {
      if (this.used.has(title)) continue;
      chart.remove();
      this.charts.delete(title);
    }
  }

  #drawScores() {
    const byMetric = new Map();
    this.runs.forEach((run, index) => {
      for (const one of run.details.validation.series) {
        const metric = run.details.validation.metrics[one.metric];
        const chart = byMetric.get(one.metric) ?? { metric, curves: [], lines: [], marks: [] };
        byMetric.set(one.metric, chart);
        const [x, y, low, high] = [0, 1, 2, 3].map((i) => one.points.map((point) => point[i]));
        const words = this.#label(run, run.details.directions[one.direction]);
        const band = low.some((value) => value != null) && this.runs.length === 1 ? { low, high } : {};
        chart.curves.push({ name: `${run.name} ${one.direction}`, label: words, style: this.#style(index, one.direction === "b2a"), x, y, plain: true, ...band });
        if (this.runs.length === 1) for (const [label, value] of Object.entries(one.baselines)) {
          const twin = chart.lines.find((line) => line.label === label && short(line.value) === short(value));
          if (twin) twin.target = ""; // one line for both directions
          else chart.lines.push({ label, target: one.direction.at(-1).toUpperCase(), value, style: one.direction === "a2b" ? 1 : 2 });
        }
      }
      if (run.details.best && this.runs.length === 1) for (const chart of byMetric.values()) chart.marks = [{ label: "best", x: run.details.best.step }];
    });
    for (const { metric, curves, lines, marks } of byMetric.values()) {
      this.#chart(sentence(metric.title), `${metric.better} is better`, { curves, marks, lines: lines.map(({ label, target, value, style }) => (target ? { label: `${label}, ${target}`, value, style } : { label, value })) });
    }
  }

  #drawLosses() {
    const terms = new Map();
    this.runs.forEach((run, index) => {
      const seen = {};
      for (const { name, label } of run.details.losses) {
        const [term, words] = label.split(", ");
        seen[term] = (seen[term] ?? 0) + 1;
        const y = run.curves.values[name];
        if (!y?.some((value) => value)) continue; // terms without a weight are logged as 0
        const curves = terms.get(term) ?? [];
        terms.set(term, curves);
        curves.push({ name: `${run.name} ${name}`, label: this.#label(run, words), style: this.#style(index, seen[term] === 2), x: run.curves.steps, y });
      }
    });
    for (const [term, curves] of terms) this.#chart(`${sentence(term)} loss`, "", { curves });
    for (const [name, title, about] of [["learning_rate", "Learning rate", ""], ["images_per_second", "Pace", "images a second"]]) {
      const curves = this.runs.filter((run) => run.curves.values[name]?.length).map((run) => ({
        name: `${run.name} ${name}`, label: this.runs.length > 1 ? run.details.label : title.toLowerCase(), style: `${this.runs.indexOf(run) + 1}`, x: run.curves.steps, y: run.curves.values[name], plain: name === "learning_rate",
      }));
      if (curves.length) this.#chart(title, about, { curves });
    }
  }
}

const HOW_TO_READ = "Thick lines are running means. Adversarial losses show a balance of two players, not quality: they need not fall. Cycle losses should fall. A discriminator loss near 0 means that it recognises fakes easily.";

function scoresOf(run) {
  return run.details.evaluations.map((of) => el("div", {},
    el("h3", {}, `Test images, ${of.title}`, of.step != null && el("span", { class: "muted small" }, ` step ${grouped(of.step)}, ${of.weights} weights`)),
    of.problem && el("p", { class: "problem" }, of.problem),
    of.directions && el("div", { class: "pairs" }, of.directions.map((direction) => el("div", {},
      el("p", {}, el("strong", {}, `${direction.title}. `), direction.verdict),
      direction.scale && scale(direction.scale),
      el("div", { class: "wide", tabindex: "0", role: "group", "aria-label": `Scores, ${direction.title}` }, el("table", {},
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Score"), el("th", { scope: "col" }, "Translations"), direction.baselines.map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, direction.rows.map((row) => el("tr", {},
          el("th", { scope: "row" }, `${row.metric}`, el("small", {}, `${row.better} is better`)),
          [row.value, ...row.baselines].map((value) => el("td", { class: "number" }, value?.value ?? "-", value?.interval && el("small", {}, value.interval)))))))),
      direction.notes.length > 0 && el("ul", { class: "small muted" }, direction.notes.map((note) => el("li", {}, note))))))));
}

/** A KID between those of real and of untranslated images. */
function scale({ value, floor, ceiling }) {
  const share = Math.min(Math.max((value - floor) / (ceiling - floor || 1), 0), 1);
  const here = el("div", { class: "here" }), at = el("span", { class: "at" }, `translations ${short(value)}`);
  here.style.left = `${100 * share}%`;
  at.style.left = `${100 * share}%`;
  at.style.transform = `translateX(${-100 * share}%)`;
  return el("div", { class: "scale", role: "img", "aria-label": `KID ${short(value)}, between real images ${short(floor)} and untranslated input ${short(ceiling)}; less is better` },
    at, el("div", { class: "track" }), here, el("span", { class: "end" }, `real images ${short(floor)}`), el("span", { class: "end" }, `input ${short(ceiling)}`));
}

function table(heads, rows, label) {
  return el("div", { class: "wide", tabindex: "0", role: "group", "aria-label": label }, el("table", {},
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, el("th", { scope: "row" }, cells[0]), cells.slice(1).map((cell) => el("td", {}, cell)))))));
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

const setting = ({ name, about }) => [name.replaceAll("_", " "), about && el("small", {}, about)];

// ---- one run

function showOne(page, name) {
  const run = new Followed(name), problem = problemLine();
  let charts = null, samples = null;
  const parts = Object.fromEntries(["head", "facts", "note", "warnings", "left", "right", "scores", "settings"].map((part) => [part, el("div")]));
  const bar = el("progress", { class: "whole", max: 1, "aria-label": "Progress of the run" });
  parts.head.className = "bartop";
  parts.head.tabIndex = -1;
  const columns = el("div", { class: "columns", hidden: true }, parts.left, parts.right);
  page.append(el("p", {}, el("a", { href: "#runs" }, "All runs")), parts.head, problem.element, bar, parts.facts, parts.note, parts.warnings, columns, parts.scores, parts.settings);
  parts.head.append(el("h1", {}, name));
  bar.hidden = true;

  function drawHead() {
    const { details } = run;
    const buttons = [
      (details.checkpoint != null || details.state === "finished") && el("a", { class: "button", href: `#translate/${encodeURIComponent(name)}` }, icon("picture"), "Translate with it"),
      others.element,
      details.state === "training" && el("button", { type: "button", onclick: stop }, icon("stop"), "Stop"),
    ];
    const key = `${details.state} ${details.checkpoint == null}`;
    const focused = parts.head.contains(document.activeElement) && document.activeElement !== parts.head;
    if (!focused || key !== parts.head.dataset.key) {
      parts.head.replaceChildren(el("h1", {}, details.label, " ", badge(details)), ...buttons.filter(Boolean));
    }
    if (parts.head.dataset.state && parts.head.dataset.state !== details.state) announce(`${name}: ${STATES[details.state]}`);
    parts.head.dataset.state = details.state;
    parts.head.dataset.key = key;
  }

  const others = otherRuns(name);

  function drawFacts() {
    const { details } = run;
    bar.hidden = details.share == null;
    bar.value = details.share ?? 0;
    const facts = [
      ["Step", grouped(details.step)],
      details.length && ["Length", details.length],
      details.share != null && details.state !== "finished" && ["Done", `${Math.floor(100 * details.share)} %`],
      details.seconds_left != null && ["Left, about", duration(details.seconds_left)],
      details.seconds != null && ["Training time", duration(details.seconds)],
      details.images_per_second != null && ["Images a second", short(details.images_per_second)],
      details.best && ["Best KID", `${short(details.best.kid)} at step ${grouped(details.best.step)}`],
    ].filter(Boolean);
    parts.facts.replaceChildren(el("dl", { class: "facts" }, facts.map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", {}, text)))));
  }

  let noted = "";
  function drawNote() {
    const { details } = run;
    const key = `${details.state} ${details.problem} ${details.resume}`;
    if (key === noted) return;
    noted = key;
    const go = details.resume ? [el("p", {}, "To go on with it, in a terminal:"), command(details.resume, "the command that goes on")] : [];
    parts.note.replaceChildren(...{
      training: [],
      stopping: [el("p", { class: "notice" }, "It finishes its step, saves and stops.")],
      stopped: [el("p", {}, `Stopped and saved after step ${grouped(details.checkpoint ?? 0)}.`), ...go],
      broken: [el("p", { class: "problem" }, details.problem), ...(details.checkpoint == null && !details.resume ? [] : go)],
      finished: [],
    }[details.state]);
  }

  function drawWarnings() {
    parts.warnings.replaceChildren(...run.details.warnings.map((warning) => el("p", { class: "notice" },
      el("strong", {}, `Step ${grouped(warning.step)}${warning.count > 1 ? ` (${warning.count} times)` : ""}: `), warning.text)));
  }

  function drawSettings() {
    const { details } = run, own = details.settings.filter((one) => "preset" in one);
    const wasOpen = [...parts.settings.querySelectorAll("details")].map((one) => one.open);
    parts.settings.replaceChildren(
      el("h2", {}, "Settings"),
      el("p", {}, own.length ? `These differ from the preset ${details.preset}.` : `All as in the preset ${details.preset}.`),
      own.length ? table(["Setting", "Here", "Preset"], own.map((one) => [setting(one), one.value, one.preset]), "Settings that differ from the preset") : "",
      el("details", {}, el("summary", {}, `All ${details.settings.length} settings`), table(["Setting", "Value"], details.settings.map((one) => [setting(one), one.value]), "All settings")),
      el("details", {}, el("summary", {}, counted(details.sessions.length, "session")),
        details.sessions.map((session) => el("div", {}, el("p", {}, `From step ${grouped(Number(session.step))}: ${session.time.replace("T", " ").slice(0, 16)}, ${session.device}, ${session.precision}, cyclegan ${session.cyclegan}`), session.command && command(session.command)))),
      el("p", { class: "small muted" }, `Folder: ${details.path}`));
    [...parts.settings.querySelectorAll("details")].forEach((one, index) => (one.open = wasOpen[index] ?? false));
  }

  function drawScores() {
    const { details } = run;
    parts.scores.replaceChildren(el("h2", {}, "Scores on test images"), ...(details.evaluations.length
      ? [el("p", { class: "muted small" }, details.evaluations[0].read ?? ""), ...scoresOf(run)]
      : [el("p", {}, "Not scored on test images yet. To do so, in a terminal:"), details.evaluate.endsWith("FOLDER") &&
        el("p", {}, "The run has no test images: in the places of FOLDER, give one folder of each kind with images that were not trained on."), command(details.evaluate, "the command that scores it")].filter(Boolean)));
  }

  async function stop() {
    const { details } = run;
    const sure = await confirm({
      title: `Stop ${details.label}?`, yes: "Save and stop", no: "Let it train",
      text: ["It finishes its step, saves and stops. Nothing is lost. Later it goes on from there with:", command(details.resume || "the same command", "the command that goes on")],
    });
    if (!sure) return;
    try {
      await api(url(name, "/stop"), { method: "POST" });
      announce(`${name} finishes its step, saves and stops.`);
      await update();
    } catch (error) {
      problem.show(error.message);
    }
  }

  let settled = "";
  async function update() {
    try {
      const fresh = await run.update();
      problem.show("");
      if (fresh.details) {
        drawHead();
        drawFacts();
        drawNote();
        drawWarnings();
        const { evaluations, settings, sessions, preset, path } = run.details;
        const content = JSON.stringify([evaluations, settings, sessions, preset, path]);
        if (content !== settled) {
          settled = content;
          drawScores();
          drawSettings();
        }
      }
      if (!charts) {
        columns.hidden = false;
        charts = new Charts([run]);
        samples = new Samples([run], url);
        parts.left.append(el("h2", {}, "Samples"), samples.element);
        parts.right.append(el("h2", {}, "Curves"), charts.tools, charts.element, el("p", { class: "muted small" }, HOW_TO_READ));
      }
      if (fresh.samples) samples.update();
      if (fresh.details || fresh.curves) charts.draw();
    } catch (error) {
      problem.show(error.message);
    }
  }

  const end = repeat(page, SECONDS, update);
  return () => {
    end();
    samples?.end();
  };
}

/** A choice of a run to compare with. */
function otherRuns(name) {
  const select = el("select", { "aria-label": "Compare with", onchange: (event) => event.target.value && (location.hash = link(name, event.target.value)) }, el("option", { value: "" }, "Compare with ..."));
  api("/api/runs").then(({ runs }) => {
    const others = runs.filter((run) => run.name !== name).sort(ORDERS.newest[1]);
    select.append(...others.map((run) => el("option", { value: run.name }, run.label)));
    select.hidden = !others.length;
  }, () => (select.hidden = true));
  return { element: select };
}

// ---- two runs

function showTwo(page, first, second) {
  const runs = [new Followed(first), new Followed(second)], problem = problemLine();
  let charts = null, samples = null, settled = "";
  const heads = el("div", { class: "wide" }), settings = el("div"), left = el("div"), right = el("div");
  const columns = el("div", { hidden: true }, left, right), title = el("h1", {}, `${first} and ${second}`);
  page.append(el("p", {}, el("a", { href: "#runs" }, "All runs")),
    el("div", { class: "bartop", tabindex: "-1" }, title), problem.element, heads, columns, settings);

  function drawHeads() {
    title.textContent = runs.map((run) => run.details.label).join(" and ");
    const rows = [
      ["", ...runs.map((run) => el("a", { href: link(run.name) }, run.details.label))],
      ["State", ...runs.map((run) => badge(run.details))],
      ["Step", ...runs.map((run) => grouped(run.details.step))],
      ["Training time", ...runs.map((run) => (run.details.seconds == null ? "-" : duration(run.details.seconds)))],
      ["Best KID", ...runs.map((run) => (run.details.best ? `${short(run.details.best.kid)} at step ${grouped(run.details.best.step)}` : "-"))],
    ];
    // Test scores of the last models, where both have the same ones.
    const of = runs.map((run) => run.details.evaluations.find((one) => one.title === "last model" && one.directions));
    if (of[0] && of[1]) {
      for (const direction of of[0].directions) {
        const same = of[1].directions.find((one) => one.title === direction.title);
        for (const row of same ? direction.rows.slice(0, 4) : []) {
          const value = same.rows.find((one) => one.metric === row.metric);
          if (value) rows.push([[row.metric, el("small", {}, `${direction.title}; test images; ${row.better} is better`)], row.value?.value ?? "-", value.value?.value ?? "-"]);
        }
      }
    }
    heads.replaceChildren(table(rows[0], rows.slice(1), "Both runs"));
  }

  function drawSettings() {
    const [a, b] = runs.map((run) => new Map(run.details.settings.map((one) => [one.name, one])));
    const differ = [...new Set([...a.keys(), ...b.keys()])].filter((name) => name !== "out" && a.get(name)?.value !== b.get(name)?.value);
    settings.replaceChildren(el("h2", {}, "Settings that differ"), differ.length
      ? table(["Setting", ...runs.map((run) => run.details.label)], differ.map((name) => [setting(a.get(name) ?? b.get(name)), a.get(name)?.value ?? "-", b.get(name)?.value ?? "-"]), "Settings that differ")
      : el("p", {}, "None."));
  }

  const end = repeat(page, SECONDS, async () => {
    try {
      const fresh = await Promise.all(runs.map((run) => run.update()));
      problem.show("");
      if (fresh.some((one) => one.details)) {
        drawHeads();
        const content = JSON.stringify(runs.map((run) => run.details.settings));
        if (content !== settled) drawSettings();
        settled = content;
      }
      if (!charts) {
        columns.hidden = false;
        charts = new Charts(runs);
        samples = new Samples(runs, url);
        left.append(el("h2", {}, "Samples of both"), samples.element);
        right.append(el("h2", {}, "Curves"), charts.tools, charts.element, el("p", { class: "muted small" }, "Compare scores only if both runs have the same validation images."));
      }
      if (fresh.some((one) => one.samples)) samples.update();
      if (fresh.some((one) => one.details || one.curves)) charts.draw();
    } catch (error) {
      problem.show(error.message);
    }
  });
  return () => {
    end();
    samples?.end();
  };
}
