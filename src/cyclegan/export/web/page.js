// The page: choose a picture, let the worker translate it, compare. The words and models are in site.json.

const $ = (id) => document.getElementById(id);
const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits });

// A function with one SIMD instruction: what the runtime needs of WebAssembly.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

let site, worker, direction, job = 0, source = null, objectUrls = [];

async function start() {
  $("not-started").hidden = true;
  $("app").hidden = false;
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(SIMD))) {
    return fail("This browser has no WebAssembly SIMD, which the translation needs; use a current Chrome, Edge, Firefox or Safari.");
  }
  try {
    const answer = await fetch("site.json");
    if (!answer.ok) throw new Error();
    site = await answer.json();
  } catch {
    return fail("The file site.json of this page could not be loaded; load the page again, or upload its whole folder.");
  }
  document.title = $("title").textContent = site.title;
  $("made").textContent = `Made with cyclegan ${site.version}; runs on ${site.runtime} (MIT).`;
  $("credits").textContent = site.credits;
  $("credits").hidden = !site.credits;
  showDirections();
  $("camera").hidden = !navigator.mediaDevices?.getUserMedia;
}

function words(which) {
  return which === "a2b" ? [site.a, site.b] : [site.b, site.a];
}

function showDirections() {
  const names = Object.keys(site.directions);
  for (const name of names) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "direction", value: name });
    input.addEventListener("change", () => setDirection(name));
    label.append(input, words(name).join(" → "));
    $("directions").append(label);
  }
  $("directions").hidden = names.length < 2;
  $("directions").querySelector("input").checked = true;
  setDirection(names[0]);
}

function setDirection(name) {
  direction = name;
  const { examples } = site.directions[name];
  $("examples").hidden = !examples.length;
  $("examples").lastElementChild.replaceChildren(...examples.map((path, index) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.append(Object.assign(document.createElement("img"), { src: path, alt: `Example ${index + 1} of ${words(name)[0]}` }));
    button.addEventListener("click", async () => {
      const answer = await fetch(path).catch(() => null);
      if (answer?.ok) take(await answer.blob(), path.split("/").pop());
      else fail(`The example ${path} could not be loaded; load the page again, or upload its whole folder.`);
    });
    return button;
  }));
  if (source) translate();
}

// ---- a picture comes in

function take(blob, name) {
  source = { blob, name };
  translate();
}

function takeFirst(files) {
  if (files?.length) take(files[0], files[0].name);
}

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { takeFirst($("file").files); $("file").value = ""; });
$("size").addEventListener("change", () => { if (source) translate(); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && site) takeFirst(event.dataTransfer.files);
  });
}
document.addEventListener("paste", (event) => { if (site) takeFirst(event.clipboardData?.files); });

let stream = null;

$("camera").addEventListener("click", async () => {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
  } catch {
    return fail("The camera cannot be used; allow it in the settings of the browser, or choose a picture.");
  }
  $("video").srcObject = stream;
  $("camera-dialog").showModal();
  await $("video").play();
});
$("shoot").addEventListener("click", async () => {
  const video = $("video");
  if (!video.videoWidth) return;
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  $("camera-dialog").close();
  take(await new Promise((resolve) => canvas.toBlob(resolve)), "camera.png");
});
$("close-camera").addEventListener("click", () => $("camera-dialog").close());
$("camera-dialog").addEventListener("close", () => {
  stream?.getTracks().forEach((track) => track.stop());
  $("video").srcObject = stream = null;
});

// ---- the translation

function translate() {
  stop();  // the one before, if it is still running
  job += 1;
  $("problem").hidden = $("result").hidden = true;
  $("working").hidden = false;
  $("working").scrollIntoView({ block: "nearest" });
  $("progress").removeAttribute("value");
  $("detail").textContent = "Opening the picture";
  say("Translating");
  worker ??= startWorker();
  worker.busy = true;
  worker.postMessage({ job, site, direction, blob: source.blob, name: source.name, longest: Number($("size").value), isSure: source.isSure });
}

function startWorker() {
  const made = new Worker(`worker.js${location.search}`, { type: "module" });
  made.addEventListener("message", ({ data }) => {
    if (made !== worker || data.job !== job) return;
    if (data.detail) showProgress(data);
    else if (data.problem) {
      stop();  // and give its memory back
      fail(data.problem);
    }
    else if (data.question) ask(data.question);
    else showResult(data);
  });
  made.addEventListener("error", (event) => {
    event.preventDefault();
    if (made !== worker) return;
    worker = null;
    made.terminate();
    fail("The translation ended, because a file of this page could not be loaded or memory is short; load the page again, or choose a smaller size.");
  });
  return made;
}

// Only the end of a worker ends a computation.
function stop() {
  if (!worker?.busy) return;
  worker.terminate();
  worker = null;
}

$("cancel").addEventListener("click", cancel);

function cancel() {
  stop();
  job += 1;
  $("working").hidden = true;
  say("Cancelled");
  $("choose").focus();
}

function ask(pixels) {
  source.isSure = confirm(`The picture has ${number(pixels / 1e6)} million pixels, and its translation may take very long. Translate it? Cancel it to choose a smaller size.`);
  if (source.isSure) translate();
  else {
    cancel();
    source = null;  // a size is then for the next picture
  }
}

function showProgress({ detail, share }) {
  $("detail").textContent = detail;
  if (share === undefined) $("progress").removeAttribute("value");
  else $("progress").value = share;
}

function showResult({ png, width, height, seconds, device, notes, transparent }) {
  worker.busy = false;
  objectUrls.forEach((url) => URL.revokeObjectURL(url));
  objectUrls = [source.blob, png].map((blob) => URL.createObjectURL(blob));
  const [from, to] = words(direction);
  const before = $("before"), after = $("after"), download = $("download");
  Object.assign(before, { src: objectUrls[0], alt: `The picture: ${from}` });
  Object.assign(after, { src: objectUrls[1], alt: `Its translation: ${to}`, width, height });
  before.classList.toggle("see-through", transparent);
  after.classList.toggle("small", width < 384 && height < 384);
  for (const image of [before, after]) image.classList.toggle("tiny", Math.max(width, height) < 64);
  document.querySelector(".tag.before").textContent = from;
  document.querySelector(".tag.after").textContent = to;
  $("facts").textContent = [`${number(width)} × ${number(height)} pixels in ${seconds < 100 ? `${number(seconds, seconds < 10 ? 1 : 0)} s` : `${number(seconds / 60)} minutes`} on ${device}.`, ...notes].join(" ");
  Object.assign(download, { href: objectUrls[1], download: `${source.name.replace(/\.[^.]*$/, "") || "picture"}_${direction}.png` });
  $("working").hidden = true;
  $("result").hidden = false;
  $("result").scrollIntoView({ block: "nearest" });
  say(`Done: ${$("facts").textContent}`);
}

function fail(text) {
  $("working").hidden = $("result").hidden = true;
  $("problem").textContent = text;
  $("problem").hidden = false;
  say("");  // an alert is read by itself
  $("problem").scrollIntoView({ block: "nearest" });
}

function say(text) {
  $("status").textContent = text;
}

$("slider").addEventListener("input", () => {
  document.querySelector(".compare").style.setProperty("--cut", `${$("slider").value}%`);
});
$("another").addEventListener("click", () => $("file").click());

start();
