// The page Data: look at two folders of pictures before training, then copy the command that trains, or start it.

import { announce, api, ask, counted, el, grouped, icon } from "./app.js";
import { command, problemLine, repeat } from "./parts.js";

const PRESETS = {
  modern: ["Modern", "For most pictures. The results look most like real ones after the same time."],
  conservative: ["Careful with shapes", "For pictures in which nothing may move: maps, scans, buildings. Edges stay where they are; the change of style is smaller."],
  paper: ["As published", "The recipe of the paper of 2017, to compare with others. Slower to look good."],
  demo: ["Quick try", "Small networks for a first look without a graphics card. Coarse, but fast."],
};
const LENGTHS = [["10", "10 minutes: does anything happen?"], ["60", "1 hour: a first impression"], ["240", "4 hours"], ["600", "10 hours: over night"], ["", "as long as the paper: 200 passes over the pictures"]];
const CROPS = [32, 64, 96, 128, 192, 256, 384, 512];

export async function mount(page) {
  const about = await api("/api/data");
  const problem = problemLine(), results = el("div"), progress = el("div", { class: "looking", hidden: true });
  const fields = {
    a: folderField("a", "Folder A: what you have", "Photos, for instance."),
    b: folderField("b", "Folder B: what it should look like", "Paintings, for instance. Leave it empty if A holds trainA and trainB."),
  };
  const look = el("button", { type: "submit", class: "main" }, "Look at the pictures");
  const form = el("form", { onsubmit: inspect }, el("div", { class: "two" }, fields.a.element, fields.b.element), el("div", { class: "row" }, look));
  const training = trainingPart(about, fields);
  page.append(el("h1", {}, "Data"),
    el("p", {}, "Two folders of pictures are all that training needs. They need not be pairs: any pictures of the one kind, and any of the other. A few hundred of each are usual."),
    form, problem.element, progress, results, training.element);

  let job = null;

  async function inspect(event) {
    event.preventDefault();
    problem.show("");
    try {
      const started = await api("/api/data/inspections", { body: { a: fields.a.value, b: fields.b.value } });
      results.replaceChildren();
      follow(started.id);
    } catch (error) {
      problem.show(error.message);
    }
  }

  function follow(id) {
    job?.end();
    const bar = el("progress", { max: 1, "aria-label": "Progress of the inspection" }), text = el("span", { "aria-live": "polite" });
    const cancel = el("button", { type: "button", onclick: () => ask(`/api/data/inspections/${id}`, { method: "DELETE" }).catch(() => {}) }, "Cancel");
    progress.replaceChildren(el("div", { class: "row" }, text, cancel), bar);
    progress.hidden = false;
    look.disabled = true;
    let task = "";
    const end = repeat(page, 0.5, async () => {
      let state;
      try {
        state = await api(`/api/data/inspections/${id}`);
      } catch (error) {
        state = { state: "failed", problem: error.message };
      }
      if (state.state === "running") {
        if (state.task !== task) text.textContent = `${(task = state.task)} ...`; // said once for each part
        if (state.total) bar.value = state.done / state.total;
        return;
      }
      end();
      progress.hidden = true;
      look.disabled = false;
      if (state.state === "failed") problem.show(state.problem);
      if (state.state === "cancelled") announce("The inspection is cancelled.");
      if (state.state === "done") {
        results.replaceChildren(...drawResults(id, state.result));
        training.suggest(state.result.suggestions);
        announce(`Done: ${counted(state.result.advice.length, "piece")} of advice.`);
      }
    });
    job = { end };
  }
}

// ---- folders

function folderField(name, label, hint) {
  const id = `folder-${name}`;
  const input = el("input", { type: "text", id, spellcheck: "false", autocomplete: "off", "aria-describedby": `${id}-hint`, oninput: () => keep() });
  input.value = sessionStorage.getItem(id) ?? "";
  const listeners = new Set();
  function keep() {
    sessionStorage.setItem(id, input.value);
    for (const listener of listeners) listener();
  }
  const browse = el("button", { type: "button", onclick: async () => {
    const path = await chooseFolder(label, input.value);
    if (path == null) return;
    input.value = path;
    keep();
    input.focus();
  } }, icon("folder"), "Browse");
  browse.setAttribute("aria-label", `Browse for folder ${name.toUpperCase()}`);
  return {
    element: el("div", { class: "field" }, el("label", { class: "label", for: id }, label), el("div", { class: "pick" }, input, browse), el("span", { class: "muted small", id: `${id}-hint` }, hint)),
    get value() {
      return input.value.trim();
    },
    onchange: (listener) => listeners.add(listener),
  };
}

const imagesIn = (folder) => {
  if (folder.holds_both) return "holds trainA and trainB";
  if (folder.num_images == null) return "cannot be opened";
  return folder.num_images ? `${counted(folder.num_images, "image")}${folder.is_more ? " and more" : ""}` : "";
};

/** A dialog in which a folder of this computer is found. Resolves to its path, or null. */
function chooseFolder(label, start) {
  return new Promise((resolve) => {
    const problem = problemLine(), list = el("ul", { class: "folders" }), where = el("h3", { tabindex: "-1" }), note = el("p", { class: "muted small" });
    let path = "", chosen = null;
    const choose = el("button", { type: "button", class: "main", onclick: () => { chosen = path; dialog.close(); } }, "Choose this folder");
    const dialog = el("dialog", { class: "browser", "aria-labelledby": "browser-title" }, el("h2", { id: "browser-title" }, label), where, problem.element, list, note,
      el("div", { class: "row" }, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), choose));

    async function open(next, { quiet = false } = {}) {
      let found;
      try {
        found = await api(`/api/data/folders?path=${encodeURIComponent(next)}`);
      } catch (error) {
        if (quiet) return open("");
        return problem.show(error.message);
      }
      problem.show("");
      path = found.path;
      where.textContent = path || "Folders that the studio may open";
      choose.disabled = !path;
      const up = found.parent != null && el("li", {}, el("button", { type: "button", class: "quiet", onclick: () => open(found.parent) }, icon("back"), "Back"));
      list.replaceChildren(...[up].filter(Boolean), ...found.folders.map((folder) => el("li", {},
        el("button", { type: "button", class: "quiet", onclick: () => open(folder.path) }, icon("folder"), el("span", {}, folder.name), el("span", { class: "muted small" }, imagesIn(folder))))));
      const here = path ? imagesIn(found) : "";
      note.textContent = [here && `This folder: ${here}.`, !found.folders.length && "It has no folders inside.", found.more && `${grouped(found.more)} more folders are not shown; type the path instead.`].filter(Boolean).join(" ");
      if (dialog.open) where.focus();
    }

    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(chosen);
    });
    document.body.append(dialog);
    open(start, { quiet: true }).then(() => dialog.showModal());
  });
}

// ---- what is in them

const picture = (id, folder, file) => el("img", { src: `/api/data/inspections/${id}/pictures/${folder}/${file}`, alt: "", loading: "lazy", decoding: "async" });

function drawResults(id, found) {
  const problems = found.advice.filter((one) => one.problem).length;
  const parts = [el("h2", {}, "Advice")];
  if (!found.advice.length) parts.push(el("p", {}, "Nothing to say: these folders look fine."));
  else {
    parts.push(el("p", { class: "muted" }, problems ? `${counted(problems, "point")} to look into before training, marked in colour.` : "Nothing that keeps you from training; good to know:"),
      el("ul", { class: "advice" }, found.advice.map((one) => el("li", { class: one.problem ? "notice" : "card" }, one.problem && icon("warning"), el("span", {}, one.problem && el("strong", { class: "unseen" }, "Look into this: "), one.text)))));
  }
  const names = found.folders.map((folder) => folder.name);
  parts.push(el("h2", {}, "What is in them"));
  for (const [index, folder] of found.folders.entries()) {
    if (folder.name.startsWith("test")) continue;
    parts.push(el("h3", {}, `${folder.name}: ${folder.root.split(/[\\/]/).at(-1)}`),
      el("div", { class: "sheet", role: "img", "aria-label": `${folder.pictures.length} of ${counted(folder.num_images, "image")} of ${folder.name}` }, folder.pictures.map((file) => picture(id, index, file))),
      el("p", { class: "muted small" }, `${folder.pictures.length} of ${grouped(folder.num_images)}, at equal distances in the list, not selected.`));
  }
  parts.push(el("h3", {}, "Facts"), el("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Facts" }, el("table", {},
      el("thead", {}, el("tr", {}, el("td", {}), names.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, found.facts.map(([label, ...cells]) => el("tr", {}, el("th", { scope: "row" }, label), cells.map((cell) => el("td", {}, cell))))))));
  const domains = found.folders.filter((folder) => !folder.name.startsWith("test"));
  parts.push(el("div", { class: "charts" }, histogram("Brightness", "from black to white", domains, "brightness"), histogram("Colour", "from grey to full colour", domains, "saturation")));
  for (const folder of found.folders.filter((one) => one.num_unreadable)) {
    parts.push(el("details", {}, el("summary", {}, `${counted(folder.num_unreadable, "file")} of ${folder.name} cannot be read`),
      el("ul", {}, folder.unreadable.map(([file, reason]) => el("li", {}, `${file}: ${reason}`)))));
  }
  if (found.copies.length) parts.push(el("h2", {}, "The same picture twice"));
  for (const copies of found.copies) {
    parts.push(el("h3", {}, copies.title),
      el("p", { class: "muted" }, `${copies.counts}.${copies.pairs.length < copies.total ? ` ${copies.pairs.length} of ${grouped(copies.total)} are shown.` : ""}`),
      el("ul", { class: "copies" }, copies.pairs.map((pair) => el("li", {}, el("div", {}, picture(id, ...pair.one), picture(id, ...pair.other)), el("span", { class: "small" }, pair.exact && el("span", { class: "tag" }, "exact"), " ", pair.text)))));
  }
  return parts;
}

/** How often each value comes in both folders, as steps. */
function histogram(title, about, folders, key) {
  const SVG = "http://www.w3.org/2000/svg", width = 320, height = 110;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-hidden", "true");
  const most = Math.max(...folders.flatMap((folder) => folder[key]), 1e-9);
  folders.forEach((folder, index) => {
    const step = width / folder[key].length, path = document.createElementNS(SVG, "path");
    const tops = folder[key].map((share, bin) => `L${bin * step} ${height - (share / most) * (height - 4)}h${step}`);
    path.setAttribute("d", `M0 ${height}${tops.join("")}L${width} ${height}Z`);
    path.setAttribute("class", `area s${index + 1}`);
    svg.append(path);
  });
  return el("figure", { class: "chart" }, el("figcaption", {}, el("strong", {}, title), el("span", { class: "muted small" }, about)), svg,
    el("div", { class: "keys" }, folders.map((folder, index) => el("span", { class: "key" }, el("i", { class: `s${index + 1}` }), folder.name))));
}

// ---- training

function trainingPart(about, fields) {
  const name = el("input", { type: "text", id: "run-name", spellcheck: "false", autocomplete: "off", value: "run-1", maxlength: "80" });
  const presets = Object.entries(PRESETS).map(([value, [label, text]], index) => el("label", { class: "option" },
    el("input", { type: "radio", name: "preset", value, checked: index === 0 }), el("span", {}, el("strong", {}, label), " ", el("code", { class: "small muted" }, value), el("span", { class: "small muted block" }, text))));
  const minutes = el("select", { id: "run-minutes" }, LENGTHS.map(([value, label]) => el("option", { value, selected: value === "60" }, label)));
  const crop = el("select", { id: "run-crop" }, CROPS.map((size) => el("option", { value: size, selected: size === 256 }, `${size} pixels`)));
  const flip = el("input", { type: "checkbox", checked: true });
  const problem = el("p", { class: "muted", "aria-live": "polite" }), shown = el("div"), started = el("div");
  const start = el("button", { type: "button", class: "main", hidden: !about.allow_train, onclick: begin }, icon("play"), "Start the training");
  const outside = el("p", { class: "muted small", hidden: about.allow_train }, "Copy the command into a terminal to start it. If the studio may do that for you, start it with --allow-train.");
  let channels = {}, timer;

  const field = (id, label, control, hint) => el("div", { class: "field" }, el("label", { class: "label", for: id }, label), control, el("span", { class: "muted small" }, hint));
  const element = el("section", { "aria-labelledby": "train-title" }, el("h2", { id: "train-title" }, "Train"),
    el("div", { class: "two" },
      el("fieldset", {}, el("legend", {}, "Recipe"), presets),
      el("div", {},
        field("run-name", "Name of the run", name, `A folder of this name in ${about.runs_dir}.`),
        field("run-minutes", "How long", minutes, "It can be stopped at any time, and go on later."),
        field("run-crop", "Size of the pieces", crop, "Training looks at square pieces of the pictures. Larger ones show it more, and take more time and memory."),
        el("label", { class: "check" }, flip, "Mirror pictures at random"), el("span", { class: "muted small block" }, "Not for writing, anatomy, or light that always comes from one side."))),
    problem, shown, el("div", { class: "row" }, start), outside, started);

  function wish() {
    const preset = element.querySelector("input[name=preset]:checked").value;
    return { a: fields.a.value, b: fields.b.value, name: name.value.trim(), preset, minutes: minutes.value ? Number(minutes.value) : null, epochs: minutes.value ? null : 200, crop_size: Number(crop.value), flip: flip.checked, ...channels };
  }

  let asked = 0;
  async function update() {
    const mine = ++asked;
    if (!fields.a.value) {
      problem.textContent = "Choose the folders above; the command appears here.";
      shown.replaceChildren();
      start.disabled = true;
      return;
    }
    try {
      const found = await api("/api/data/command", { body: wish() });
      if (mine !== asked) return;
      problem.textContent = "";
      shown.replaceChildren(command(found.command, "the command that trains"));
      start.disabled = false;
    } catch (error) {
      if (mine !== asked) return;
      problem.textContent = error.message;
      shown.replaceChildren();
      start.disabled = true;
    }
  }

  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(update, 250);
  };
  element.addEventListener("input", soon);
  fields.a.onchange(soon);
  fields.b.onchange(soon);
  update();

  async function begin() {
    start.disabled = true;
    try {
      const training = await api("/api/data/trainings", { body: wish() });
      announce(`${training.name} is being prepared.`);
      watch(training.name);
    } catch (error) {
      problem.textContent = error.message;
      start.disabled = false;
    }
  }

  function watch(run) {
    const text = el("p", {}), output = el("pre", { tabindex: "0", role: "group", "aria-label": "What it prints" });
    started.replaceChildren(el("div", { class: "card" }, text, output, el("p", { class: "muted small" }, "It goes on when this page is closed, and when the studio ends. The page Runs stops it.")));
    let before = "";
    const end = repeat(element.closest(".page"), 1, async () => {
      const { trainings } = await api("/api/data/trainings").catch(() => ({ trainings: [] }));
      const training = trainings.find((one) => one.name === run);
      if (!training) return;
      output.textContent = training.output || "...";
      output.scrollTop = output.scrollHeight;
      const state = `${training.state} ${training.has_begun}`;
      if (state === before) return;
      before = state;
      const link = el("a", { class: "button", href: `#runs/${encodeURIComponent(run)}` }, "Watch it on the page Runs");
      if (training.state === "preparing") text.replaceChildren(`${run} is being prepared: the pictures are read.`);
      if (training.state === "training") {
        text.replaceChildren(`${run} is training. `, link);
        announce(`${run} is training.`);
      }
      if (training.state === "ended") {
        end();
        text.replaceChildren(...(training.has_begun ? [`${run} has ended. `, link] : [`${run} could not begin; its last lines say why.`]));
        announce(text.textContent);
        update();
      }
    });
  }

  return {
    element,
    suggest({ crop_size, ...others }) {
      if (![...crop.options].some((option) => Number(option.value) === crop_size)) crop.prepend(el("option", { value: crop_size }, `${crop_size} pixels`));
      crop.value = crop_size;
      channels = others;
      update();
    },
  };
}
