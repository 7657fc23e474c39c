// The page on which images are translated: which images, which models, and what came of them.

import { announce, api, counted, el, grouped, icon, place } from "./app.js";
import { filesOfDrop, filesOfFolder, save, takePicture } from "./files.js";
import { openPicture } from "./pixels.js";
import { Queue } from "./queue.js";
import { Viewer } from "./viewer.js";
import { Windows } from "./windows.js";
import { makeZip } from "./zip.js";

const SUFFIXES = {
  "image/png": [".png"],
  "image/jpeg": [".jpg", ".jpeg", ".jpe", ".jfif"],
  "image/webp": [".webp"],
  "image/avif": [".avif"],
  "image/tiff": [".tif", ".tiff"],
  "application/x-npy": [".npy"],
};
const SAVED = {
  same: "Same type as the image",
  png: "PNG, exact",
  jpeg: "JPEG, small",
  tiff: "TIFF, exact",
  npy: ".npy for Python",
};
const REFRESH = 10_000; // milliseconds between looks for new models

export async function mount(page) {
  const settings = Object.assign(
    { models: [], direction: "a2b", back: false, type: "same", quality: 92, split: true },
    stored(),
  );
  let models = [];
  let damaged = [];
  let folder = "";
  let suffixes = []; // of image files
  const items = []; // images: { file, path, results, option }, see Queue
  const used = {}; // the version of each model that images are translated with; a run that is training has new ones
  let selected = null; // the image that is looked at
  let opened = new Map(); // its pictures by job, also those that are still being opened
  let isLost = false; // whether the server was gone at the last try

  // ---- what is to be done

  const chosen = () => models.filter((model) => settings.models.includes(model.name));

  /** The translations of an image that are wanted, in the order of the views. */
  function jobsOf() {
    const directions = settings.direction === "both" ? ["a2b", "b2a"] : [settings.direction];
    const typed = (job) => {
      const type = holds(formatOf(job, "gives"), settings.type) ? settings.type : "same";
      return { ...job, type, key: `${job.key}/${type === "jpeg" ? `jpeg${settings.quality}` : type}` };
    };
    return chosen().flatMap((model) =>
      directions
        .filter((each) => model.directions[each])
        .flatMap((direction) => {
          const key = `${model.name} ${used[model.name]}/${direction}`;
          const job = typed({ key, model: model.name, direction, of: model });
          const other = direction === "a2b" ? "b2a" : "a2b";
          if (!settings.back || !model.directions[other]) return [job];
          const again = { ...job, key: `${job.key}/back`, direction: other, forward: job.key, start: direction };
          return [job, typed(again)];
        }),
    );
  }

  const queue = new Queue({
    items: () => (selected ? [selected, ...items.filter((item) => item !== selected)] : items),
    jobsOf,
    settings,
    onChange(item) {
      drawOption(item);
      if (item === selected) showSelected();
      drawProgress();
    },
    onLost(message) {
      isLost = true;
      banner.textContent = message;
      banner.hidden = false;
      drawProgress();
    },
  });

  function change(changes) {
    const { versions, ...kept } = changes;
    Object.assign(settings, kept);
    localStorage.setItem("translate", JSON.stringify(settings));
    if ("type" in changes || "quality" in changes || versions) forgetOthers();
    drawTypes();
    queue.go();
    items.forEach(drawOption);
    showSelected();
    drawProgress();
  }

  /** Types that cannot hold what a chosen model gives are not offered. One chosen before holds for the other models. */
  function drawTypes() {
    const given = jobsOf().map((job) => formatOf(job, "gives"));
    for (const option of type.options) {
      const bad = given.find((format) => !holds(format, option.value));
      option.disabled = Boolean(bad);
      option.textContent = bad ? `${SAVED[option.value]}: not for ${kindOf(bad)}` : SAVED[option.value];
    }
    const chosen = type.selectedOptions[0];
    typeNote.hidden = !chosen?.disabled;
    if (!typeNote.hidden) {
      const name = SAVED[chosen.value].split(",")[0];
      const bad = given.find((format) => !holds(format, chosen.value));
      const instead = "Such results keep the type of the image, or become PNG or TIFF.";
      typeNote.textContent = `${name} cannot hold ${kindOf(bad)}. ${instead}`;
    }
  }

  /** Results of other choices stay, so that a click brings them back; but not those that would soon fill the memory. */
  function forgetOthers() {
    const wanted = new Set(jobsOf().map((job) => job.key));
    for (const { results } of items) for (const key of results.keys()) if (!wanted.has(key)) results.delete(key);
  }

  // ---- images

  function add({ found, skipped = 0 }) {
    const paths = new Set(items.map((item) => item.path));
    for (const { file, path } of found) {
      const item = { file, path: unused(path, paths), results: new Map() };
      paths.add(item.path);
      item.option = makeOption(item);
      items.push(item);
      strip.append(item.option);
    }
    if (found.length) select(selected ?? items[0]);
    const left = skipped
      ? ` ${counted(skipped, "file")} of the folder ${skipped === 1 ? "is not an image and was" : "are not images and were"} left out.`
      : "";
    const text = found.length
      ? `${counted(found.length, "image")} added.${left}`
      : `There is no image in what you gave.${left}`;
    say(left || !found.length ? text : "");
    announce(text);
    if (isLost) resume();
    queue.go();
    layOut();
  }

  function say(text) {
    said.textContent = text;
    said.hidden = !text;
  }

  function remove(gone) {
    const index = items.indexOf(selected);
    for (const item of gone) {
      items.splice(items.indexOf(item), 1);
      item.option.remove();
      if (item.thumbnail) URL.revokeObjectURL(item.thumbnail);
    }
    selected = null;
    select(items[Math.min(index, items.length - 1)] ?? null);
    queue.go();
    announce(`${counted(gone.length, "image")} removed.`);
    layOut();
    if (!items.length) drop.querySelector("button").focus();
  }

  function select(item) {
    if (item === selected) return;
    selected?.option.setAttribute("aria-selected", "false");
    selected = item;
    closePictures();
    if (item) {
      item.option.setAttribute("aria-selected", "true");
      strip.setAttribute("aria-activedescendant", item.option.id);
      item.option.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    queue.go();
    showSelected();
  }

  let count = 0;
  function makeOption(item) {
    const showable = /^image\/(png|jpeg|webp|avif|bmp|gif|svg\+xml)$/.test(item.file.type);
    if (showable) item.thumbnail = URL.createObjectURL(item.file);
    const kind = el("span", { class: "kind", "aria-hidden": "true" }, item.path.split(".").pop().slice(0, 5));
    const onerror = (event) => event.target.replaceWith(kind); // a file that is no picture, whatever its name says
    const picture = showable
      ? el("img", { src: item.thumbnail, alt: "", loading: "lazy", decoding: "async", onerror })
      : kind;
    const option = el(
      "div",
      {
        role: "option",
        id: `image-${++count}`,
        "aria-selected": "false",
        title: item.path,
        onclick: () => select(item),
      },
      picture,
      el("span", { class: "file" }, item.path.split("/").pop()),
      el("span", { class: "state unseen" }),
    );
    return option;
  }

  /** A file that browsers do not show gets its thumbnail when it is opened to be looked at. */
  function drawThumbnail(item, { drawable }) {
    const kind = item.option.querySelector(".kind");
    if (!kind) return;
    const scale = 192 / Math.max(192, drawable.width, drawable.height);
    const canvas = el("canvas", {
      width: Math.ceil(drawable.width * scale),
      height: Math.ceil(drawable.height * scale),
    });
    canvas.getContext("2d").drawImage(drawable, 0, 0, canvas.width, canvas.height);
    kind.replaceWith(canvas);
  }

  function drawOption(item) {
    const states = jobsOf().map((job) => item.results.get(job.key)?.state ?? "waiting");
    const state = ["failed", "running", "waiting"].find((each) => states.includes(each)) ?? "done";
    item.option.dataset.state = state;
    item.option.querySelector(".state").textContent = {
      failed: "failed",
      running: "in progress",
      waiting: "waiting",
      done: "translated",
    }[state];
  }

  // ---- what is seen

  function closePictures() {
    for (const { controller, picture } of opened.values()) {
      controller.abort();
      picture?.close();
    }
    opened = new Map();
  }

  /** The picture of a blob as one end of a job, once it is open; null before. An error is thrown. */
  function pictureOf(blob, job, end) {
    const item = selected;
    const format = formatOf(job, end);
    const key = end === "reads" ? JSON.stringify([format, "input"]) : job.key;
    let opening = opened.get(key);
    if (!opening) {
      const controller = new AbortController();
      opening = { picture: null, error: null, controller };
      opened.set(key, opening);
      const url = `/api/pixels/${encodeURIComponent(job.model)}/${job.start ?? job.direction}/${sideOf(job, end)}`;
      openPicture(blob, url, format, controller.signal).then(
        (picture) => {
          if (controller.signal.aborted) return picture.close();
          opening.picture = picture;
          windows.paint(picture, format);
          if (end === "reads") drawThumbnail(item, picture);
          showSelected();
        },
        (error) => {
          if (error.name === "AbortError") return;
          opening.error = error;
          showSelected();
        },
      );
    }
    if (opening.error) throw opening.error;
    return opening.picture;
  }

  function showSelected() {
    if (!selected) return windows.show([]);
    const jobs = jobsOf();
    const views = jobs.map((job) => viewOf(job, jobs));
    if (!settings.split && jobs.length) {
      const first = views.find((view) => view.original) ?? views[0];
      views.forEach((view) => (view.before = null));
      views.unshift({
        label: "Original",
        before: first.original,
        message: first.originalMessage,
        isProblem: Boolean(first.originalMessage),
      });
    }
    if (!jobs.length) {
      const text = chosen().length ? "The chosen models have no such direction." : "Choose a model.";
      views.push({ label: selected.path, message: text, before: null, after: null });
    }
    views[0].detail = selected.path;
    viewer.show(views);
    windows.show(
      jobs.flatMap((job) => [
        {
          role: "Original",
          format: formatOf(job, "reads"),
          picture: opened.get(JSON.stringify([formatOf(job, "reads"), "input"]))?.picture,
        },
        { role: "Result", format: formatOf(job, "gives"), picture: opened.get(job.key)?.picture },
      ]),
    );
  }

  function viewOf(job, jobs) {
    const result = selected.results.get(job.key) ?? { state: "waiting" };
    const view = { label: labelOf(job, jobs), before: null, after: null };
    try {
      view.original = view.before = pictureOf(selected.file, job, "reads");
    } catch (error) {
      view.originalMessage = error.message;
    }
    if (result.state === "failed") {
      const again = () => {
        selected.results.delete(job.key);
        change({});
      };
      const tools = [el("button", { type: "button", class: "quiet", onclick: again }, "Try again")];
      return { ...view, message: result.message, isProblem: true, tools };
    }
    if (result.state !== "done")
      return {
        ...view,
        message: queue.isStopped ? "Stopped" : result.state === "running" ? "Translating …" : "Waiting …",
      };
    try {
      view.after = pictureOf(result.blob, job, "gives");
      if (!view.after) return { ...view, message: "Opening …" };
    } catch (error) {
      return { ...view, message: error.message, isProblem: true };
    }
    const reduced = view.after.isReduced
      ? `Shown at ${Math.round((100 * view.after.drawable.width) / view.after.width)} % of its size; the file has every pixel.`
      : "";
    const name = nameOf(selected, job, jobs.length > 1 ? "flat" : "");
    const text = `Download ${name}`;
    view.tools = [
      el(
        "button",
        {
          type: "button",
          class: "quiet square",
          "aria-label": text,
          title: text,
          onclick: () => {
            save(result.blob, name);
            result.isSaved = true;
          },
        },
        icon("download"),
      ),
    ];
    view.note = [reduced, result.note].filter(Boolean).join(" ");
    return view;
  }

  // ---- files that are saved

  let isAwaited = false; // whether all is downloaded once all is translated

  function askForAll() {
    const { total, ended } = queue.count();
    if (ended === total || queue.isStopped) return downloadAll();
    isAwaited = !isAwaited;
    announce(isAwaited ? "The download begins when all images are translated." : "Nothing is downloaded.");
    drawProgress();
  }

  async function downloadAll() {
    const { total, ended, failed } = queue.count();
    const jobs = jobsOf();
    const layout = jobs.length > 1 ? "folders" : "";
    const files = [];
    const packed = [];
    const names = new Set();
    for (const item of items) {
      for (const job of jobs) {
        const result = item.results.get(job.key);
        if (result?.state !== "done") continue;
        const path = layout
          ? nameOf(item, job, layout)
          : [...item.path.split("/").slice(0, -1), nameOf(item, job, "")].join("/");
        const name = unused(path, names);
        names.add(name);
        files.push({ name, blob: result.blob });
        packed.push(result);
      }
    }
    downloadButton.disabled = true;
    try {
      const zip = await makeZip(files);
      save(zip, "translated.zip");
      for (const result of packed) result.isSaved = true;
      const done = ended - failed;
      const missing = ` ${grouped(done)} of ${counted(total, "image")} are complete in it; the rest is not translated.`;
      const left = done < total ? missing : "";
      say(left.trim());
      announce(`${counted(files.length, "file")} packed into translated.zip.${left}`);
    } catch (error) {
      say(error.message);
      announce(error.message);
    }
    drawProgress();
  }

  // ---- progress

  let wasBusy = false;
  function drawProgress() {
    const { total, ended, failed, share, isBusy } = queue.count();
    const done = ended - failed;
    const words = [total ? `${done} of ${total} translated` : "", failed ? `${failed} failed` : ""];
    progressText.textContent = words.filter(Boolean).join(", ");
    progress.value = share;
    progress.hidden = ended === total;
    stopButton.hidden = queue.isStopped || ended === total;
    resumeButton.hidden = !queue.isStopped || ended === total;
    downloadButton.disabled = !hasResults();
    isAwaited &&= !queue.isStopped;
    if (isAwaited && ended === total) {
      isAwaited = false;
      if (hasResults()) downloadAll();
    }
    downloadText.textContent = isAwaited ? `Waiting for ${counted(total - ended, "image")} …` : "Download all";
    downloadButton.title = isAwaited ? "Do not download them" : "";
    if (wasBusy && !isBusy && ended === total && total) announce(`${words.filter(Boolean).join(", ")}.`);
    wasBusy = isBusy;
  }

  function hasResults(isWanted = () => true) {
    const jobs = jobsOf();
    const results = items.flatMap((item) => jobs.map((job) => item.results.get(job.key)));
    return results.some((result) => result?.state === "done" && isWanted(result));
  }

  function stop() {
    queue.stop();
    announce("Stopped.");
    showSelected();
    drawProgress();
    resumeButton.focus();
  }

  function resume() {
    isLost = false;
    banner.hidden = true;
    queue.resume();
    showSelected();
    drawProgress();
    if (!stopButton.hidden) stopButton.focus();
  }

  // ---- models

  let listed = "";
  async function refresh() {
    const answer = await api("/api/models");
    const text = JSON.stringify(answer);
    if (text === listed) return;
    listed = text;
    ({ models, damaged, folder, suffixes } = answer);
    for (const { name, version } of models) used[name] ??= version;
    const known = settings.models.filter((name) => models.some((model) => model.name === name));
    if (!known.length && models.length) known.push(models[0].name);
    settings.models = known;
    drawModels();
    change({});
    layOut();
  }

  function drawModels() {
    const boxes = models.map((model) => {
      const box = el("input", {
        type: "checkbox",
        name: "model",
        value: model.name,
        checked: settings.models.includes(model.name),
        onchange: () => {
          const names = models
            .map((each) => each.name)
            .filter((name) => (name === model.name ? box.checked : settings.models.includes(name)));
          change({ models: names });
          drawDirections();
        },
      });
      const label = el(
        "label",
        { class: "check model" },
        box,
        el("span", {}, model.title, el("small", { class: "muted" }, describe(model))),
      );
      if (used[model.name] === model.version) return label;
      const renew = () => {
        used[model.name] = model.version;
        drawModels();
        change({ versions: true });
      };
      return [
        label,
        el(
          "button",
          { type: "button", class: "newer", onclick: renew },
          `Translate again with the newer ${model.title}`,
        ),
      ];
    });
    const broken = damaged.map(({ title, reason }) =>
      el("details", { class: "broken small" }, el("summary", {}, icon("warning"), title), el("p", {}, reason)),
    );
    modelList.replaceChildren(...boxes.flat(), ...broken);
    drawDirections();
  }

  function drawDirections() {
    const names = [...new Set(chosen().map((model) => JSON.stringify(model.domains)))];
    const { a, b } = names.length === 1 ? JSON.parse(names[0]) : { a: "A", b: "B" };
    const texts = { a2b: `${a} → ${b}`, b2a: `${b} → ${a}`, both: "Both" };
    directions.replaceChildren(
      ...Object.entries(texts).map(([value, text]) =>
        el(
          "label",
          { class: "check" },
          el("input", {
            type: "radio",
            name: "direction",
            value,
            checked: settings.direction === value,
            onchange: () => change({ direction: value }),
          }),
          text,
        ),
      ),
    );
  }

  // ---- the page

  const hidden = (attributes) => el("input", { type: "file", hidden: true, multiple: true, ...attributes });
  const isImage = (name) => !name.startsWith(".") && suffixes.some((suffix) => name.toLowerCase().endsWith(suffix));
  const fileInput = hidden({
    id: "files",
    onchange: () => {
      add({ found: [...fileInput.files].map((file) => ({ file, path: file.name })) });
      fileInput.value = ""; // or the same file could not be chosen again
    },
  });
  const folderInput = hidden({
    id: "folder",
    webkitdirectory: true,
    onchange: () => {
      add(filesOfFolder(folderInput.files, isImage));
      folderInput.value = "";
    },
  });
  const fromCamera = () => takePicture((file) => add({ found: [{ file, path: file.name }] }));
  const sources = [
    ["Choose images", "picture", () => fileInput.click()],
    ["Choose a folder", "folder", () => folderInput.click()],
    ["Use the camera", "camera", fromCamera],
  ];
  const drop = el(
    "div",
    { class: "drop" },
    el("div", { class: "drop-mark" }, icon("picture")),
    el("h2", {}, "Drop images or a folder here"),
    el(
      "p",
      { class: "muted" },
      "You can also paste a picture. Nothing leaves this computer: only the studio itself reads your images.",
    ),
    el(
      "div",
      { class: "row" },
      sources.map(([text, shape, onclick], index) =>
        el("button", { type: "button", class: index === 0 && "main", onclick }, icon(shape), text),
      ),
    ),
  );

  const view = el("div", { class: "viewer" });
  const viewer = new Viewer(view);
  viewer.split(settings.split);
  viewer.onlayout = (split) => change({ split });
  const banner = el("p", { class: "problem", role: "alert", hidden: true });
  const said = el("p", { class: "notice small", hidden: true });
  const strip = el("div", {
    class: "strip",
    role: "listbox",
    tabindex: 0,
    "aria-label": "Images",
    "aria-orientation": "horizontal",
    onkeydown: moveInStrip,
  });
  const progress = el("progress", { "aria-label": "Translated", value: 0 });
  const progressText = el("span", { class: "muted number" });
  const stopButton = el("button", { type: "button", onclick: stop }, icon("stop"), "Stop");
  const resumeButton = el("button", { type: "button", hidden: true, onclick: resume }, icon("play"), "Go on");
  const downloadText = el("span", {}, "Download all");
  const downloadButton = el(
    "button",
    { type: "button", class: "main", disabled: true, onclick: askForAll },
    icon("download"),
    downloadText,
  );
  const removeButton = el(
    "button",
    {
      type: "button",
      class: "quiet",
      title: "Remove this image",
      "aria-label": "Remove this image",
      onclick: () => remove([selected]),
    },
    "Remove",
  );
  const clearButton = el("button", { type: "button", class: "quiet", onclick: () => remove([...items]) }, "Remove all");
  const work = el(
    "div",
    { class: "work", hidden: true },
    banner,
    view,
    strip,
    progress,
    el(
      "div",
      { class: "row actions" },
      progressText,
      stopButton,
      resumeButton,
      el("span", { class: "space" }),
      el(
        "div",
        { class: "row more", role: "group", "aria-label": "Add more" },
        sources.map(([text, shape, onclick]) =>
          el(
            "button",
            { type: "button", class: "quiet square", "aria-label": text, title: text, onclick },
            icon(shape),
          ),
        ),
      ),
      removeButton,
      clearButton,
      downloadButton,
    ),
  );

  const modelList = el("div", { class: "models" });
  const directions = el("div", {});
  const back = el("input", {
    type: "checkbox",
    checked: settings.back,
    onchange: () => change({ back: back.checked }),
  });
  const quality = el("input", {
    type: "number",
    min: 1,
    max: 100,
    value: settings.quality,
    onchange: () => {
      quality.value = Math.min(100, Math.max(1, Math.round(quality.value) || 92));
      change({ quality: Number(quality.value) });
    },
  });
  const qualityLabel = el(
    "label",
    { class: "row small", hidden: settings.type !== "jpeg" },
    "Quality, 1 to 100",
    quality,
  );
  const type = el(
    "select",
    {
      id: "type",
      onchange: () => {
        qualityLabel.hidden = type.value !== "jpeg";
        change({ type: type.value });
      },
    },
    Object.entries(SAVED).map(([value, text]) => el("option", { value, selected: value === settings.type }, text)),
  );
  const typeNote = el("p", { class: "notice small", hidden: true, "aria-live": "polite" });
  const windows = new Windows(() => viewer.draw());
  const aside = el(
    "aside",
    { class: "settings", "aria-label": "Settings" },
    el("fieldset", {}, el("legend", {}, "Models"), modelList),
    el(
      "fieldset",
      {},
      el("legend", {}, "Direction"),
      directions,
      el("label", { class: "check" }, back, "And back again, to compare"),
    ),
    el("div", { class: "field" }, el("label", { class: "label", for: "type" }, "Save as"), type, qualityLabel, typeNote),
    windows.element,
  );
  const none = el("div", { class: "card none", hidden: true });
  const columns = el("div", { class: "columns" }, el("div", { class: "stage" }, none, drop, said, work), aside);
  page.append(el("h1", { class: "unseen" }, "Translate"), fileInput, folderInput, columns);

  function layOut() {
    const isEmpty = items.length === 0;
    drop.hidden = !isEmpty || !models.length;
    work.hidden = isEmpty;
    aside.hidden = !models.length && !damaged.length;
    columns.classList.toggle("alone", aside.hidden);
    none.hidden = models.length > 0;
    none.replaceChildren(
      el("h2", {}, `There is no model in ${folder} yet`),
      el("p", {}, "Train one with two folders of images, and it appears here by itself:"),
      el("pre", {}, `cyclegan train photos/ maps/ --out ${folder}/maps`),
    );
    drawProgress();
    viewer.draw();
  }

  function moveInStrip(event) {
    const index = items.indexOf(selected);
    const last = items.length - 1;
    const to = {
      ArrowLeft: index - 1,
      ArrowUp: index - 1,
      ArrowRight: index + 1,
      ArrowDown: index + 1,
      Home: 0,
      End: last,
    }[event.key];
    if (to !== undefined) select(items[Math.min(last, Math.max(0, to))]);
    else if (event.key === "Delete") remove([selected]);
    else return;
    event.preventDefault();
  }

  // ---- drops, anywhere on the page

  const isShown = () => !page.hidden && models.length > 0;
  let depth = 0; // of elements that the drag has entered
  document.addEventListener("dragenter", () => isShown() && page.classList.toggle("dragging", ++depth > 0));
  document.addEventListener("dragleave", () => isShown() && page.classList.toggle("dragging", --depth > 0));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", async (event) => {
    event.preventDefault(); // or the browser would leave the page for the file
    depth = 0;
    page.classList.remove("dragging");
    if (!isShown()) return;
    try {
      add(await filesOfDrop(event.dataTransfer, isImage));
    } catch {
      say("What you dropped cannot be read. Drop files or folders of this computer.");
    }
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (isShown() && files.length) add({ found: files.map((file) => ({ file, path: file.name || "pasted.png" })) });
  });

  window.addEventListener("beforeunload", (event) => {
    if (hasResults((result) => !result.isSaved)) event.preventDefault(); // the browser asks whether to leave
  });

  // ---- new models, and a model in the address

  function chooseFromAddress() {
    const name = place();
    if (page.hidden || !models.some((model) => model.name === name)) return;
    settings.models = [name];
    drawModels();
    change({});
  }
  const look = () => !page.hidden && !document.hidden && refresh().catch(() => {}); // the next look may find the server again
  window.addEventListener("hashchange", chooseFromAddress);
  window.addEventListener("focus", look);
  page.addEventListener("show", look);
  setInterval(look, REFRESH);
  await refresh();
  chooseFromAddress();
}

/** What a model takes and gives, in a few words. */
function describe(model) {
  const known = Object.values(model.directions);
  const kinds = new Set(
    known
      .flatMap(({ source, target }) => [source, target])
      .map((format) => (format.dtype === "uint8" && format.channels === 3 ? "" : kindOf(format))),
  );
  const words = [...kinds].filter(Boolean);
  return ` ${[`${model.domains.a} and ${model.domains.b}`, ...words].join(", ")}`;
}

/** Images of a format in words: "16-bit grey", "5 bands of 16-bit values". */
function kindOf({ channels, dtype, alpha }) {
  const [, kind, bits] = /^(u?int|float)(\d+)$/.exec(dtype);
  const depth = { uint: `${bits}-bit`, int: `signed ${bits}-bit`, float: "floating-point" }[kind];
  const colours = { 1: "grey", 3: "colour" }[channels - (alpha ? 1 : 0)];
  if (!colours) return `${counted(channels, "band")} of ${depth} values`;
  return `${depth} ${colours}${alpha ? " with transparency" : ""}`;
}

/** Whether files of a type that can be saved keep what a model gives. */
const holds = (format, type) => type === "same" || format.types.includes(type);

/** A name that is not among these: photo.png, photo-2.png, ... */
function unused(path, names) {
  const [, stem, suffix] = /^(.*?)(\.[^./]*)?$/.exec(path);
  let name = path;
  for (let number = 2; names.has(name); number++) name = `${stem}-${number}${suffix ?? ""}`;
  return name;
}

function stored() {
  try {
    return JSON.parse(localStorage.getItem("translate")) ?? {};
  } catch {
    return {};
  }
}

// ---- names

/** Whether an end of a job is of the kind that its direction reads or gives; the way back ends where it began. */
const sideOf = (job, end) => (end === "reads" || job.forward ? "source" : "target");
const formatOf = (job, end) => job.of.directions[job.start ?? job.direction][sideOf(job, end)];

/** What a view is called: the way from domain to domain, and the model where there are several. */
function labelOf(job, jobs) {
  const from = job.start ?? job.direction;
  const { a, b } = job.of.domains;
  const path = from === "a2b" ? [a, b] : [b, a];
  if (job.forward) path.push(path[0]);
  const way = path.join(" → ");
  return jobs.some((other) => other.model !== job.model) ? `${job.of.title}: ${way}` : way;
}

/** A name with characters that file systems know; others become "-". */
const safe = (name) => name.replace(/[^\p{L}\p{N} ()._-]+/gu, "-").replace(/^[ .]+|[ .]+$/g, "") || "-";

/** The name of a result. layout: "" for one translation of each image, "flat" and "folders" for several. */
function nameOf(item, job, layout) {
  const type = item.results.get(job.key).blob.type.split(";")[0];
  const suffix = /\.[^./]*$/.exec(item.path)?.[0] ?? "";
  const known = SUFFIXES[type] ?? [suffix];
  const stem = item.path.slice(0, item.path.length - suffix.length);
  const kept = known.includes(suffix.toLowerCase()) ? suffix : known[0];
  const { a, b } = job.of.domains;
  const [from, to] = (job.start ?? job.direction) === "a2b" ? [a, b] : [b, a];
  const way = safe(`${from} to ${to}${job.forward ? " and back" : ""}`);
  const model = safe(job.of.title);
  if (layout === "folders") return `${model}/${way}/${stem}${kept}`;
  const file = stem.split("/").pop();
  return layout === "flat" ? `${file}_${model}_${way}${kept}` : `${file}${kept}`;
}
