// Translates pictures as cyclegan does in Python: mirrored to sizes that the network takes, in tiles where it is local.

import { decode, encode } from "./pictures.js";

// WebAssembly has 4 GB at most, and phones give a page far less.
const MEMORY = 2.7e9, MEMORY_PHONE = 0.6e9;
const isPhone = navigator.userAgentData?.mobile ?? /Mobi|iPad/.test(navigator.userAgent);
const memory = isPhone || navigator.deviceMemory < 4 ? MEMORY_PHONE : MEMORY;

// Longest side of what is computed at once, so that progress is seen.
const MOST_SIDE = 1024;
// Of a picture, with its translation beside it.
const MOST_PIXELS = isPhone ? 24e6 : 100e6;
// What is not begun without a question: it takes minutes to hours.
const ASK_PIXELS = 50e6;

const wanted = new URLSearchParams(location.search).get("device");
let opened = null, hasGpuFailed = wanted === "wasm";

// An error whose message is a sentence for people.
class Problem extends Error {}

onmessage = async ({ data }) => {
  const tell = (detail, share) => postMessage({ job: data.job, detail, share });
  try {
    postMessage({ job: data.job, ...(await translate(data, tell)) });
  } catch (error) {
    opened = null;
    postMessage({ job: data.job, problem: sentence(error) });
  }
};

function sentence(error) {
  if (error instanceof Problem) return error.message;
  if (/memory|allocat|bad_alloc|out of bounds|Array buffer|RangeError/i.test(`${error?.name} ${error?.message ?? error}`)) {
    return "The picture needs more memory than this browser has; choose a smaller size.";
  }
  return `The translation failed (${String(error?.message ?? error).slice(0, 200)}); load the page again, or use another browser.`;
}

async function translate({ site, direction, blob, name, longest, isSure }, tell) {
  const model = site.directions[direction], notes = [];
  const side = Math.min(MOST_SIDE, align(Math.sqrt(memory / model.bytes_per_pixel), site.multiple));
  // A local network with a wide reach may leave no room for a tile.
  const inTiles = model.reach !== null && side - 2 * model.reach >= Math.max(64, site.multiple);
  const most = inTiles ? MOST_PIXELS : memory / model.bytes_per_pixel;
  const picture = await decode(blob, { longest, most, asks: isSure ? Infinity : ASK_PIXELS, background: model.input.background }).catch((error) => {
    if (error instanceof RangeError) throw error;  // of memory
    throw new Problem(`This browser cannot open ${name}; choose a picture in JPEG, PNG or WebP.`);
  });
  if (picture.long) return { question: picture.long };
  const { width, height } = picture;
  if (picture.shrunk) {
    const why = inTiles ? "the most for this browser" : "because this model needs the whole picture in memory at once";
    notes.push(`Shrunk from ${picture.shrunk.join(" × ")} pixels, ${why}.`);
  }

  await open(site, direction, tell);
  const begun = performance.now();
  const run = (values, size) => compute(site, direction, values, size, tell);
  const result = await inParts(run, picture, site, model, inTiles ? side : null, tell);
  const seconds = (performance.now() - begun) / 1000;
  tell("Writing the translation");
  const channels = picture.alpha && model.output.channels < 4 ? model.output.channels + 1 : model.output.channels;
  const pixels = withAlpha(result, model.output.channels, channels === model.output.channels ? null : picture.alpha);
  const png = await encode(pixels, width, height, channels);
  return { png, width, height, seconds, device: opened.name, notes, transparent: picture.alpha !== null };
}

// ---- the network

// Load the runtime and a direction, unless they are there. With WebGPU only if it gives the stored result.
async function open(site, direction, tell) {
  if (opened?.direction === direction) return;
  await opened?.session.release();
  opened = null;
  const model = site.directions[direction];
  const megabytes = (count) => (count / 1e6).toFixed(1);
  tell("Loading the model", 0);
  const graph = await load(model.file, (count) => {
    tell(`Loading the model: ${megabytes(count)} of ${megabytes(model.bytes)} MB`, Math.min(1, count / model.bytes));
  });
  if (graph.length !== model.bytes) {
    throw new Problem(`${model.file} is damaged or of another export; upload the whole folder of this page again.`);
  }
  tell("Starting the model");
  if (!hasGpuFailed && site.webgpu && (await hasGpu())) {
    try {
      opened = await start("webgpu", graph, direction);
      if (await isRight(site, model)) return;
      await opened.session.release();
    } catch { /* of many kinds: WebAssembly works without it */ }
    opened = null;
    hasGpuFailed = true;
  }
  opened = await start("wasm", graph, direction);
  if (!(await isRight(site, model))) {
    opened = null;
    throw new Problem("This browser computes the model wrong, or a file of this page is damaged; use another browser, or upload the page again.");
  }
}

async function load(path, progress) {
  const answer = await fetch(path).catch(() => null);
  if (!answer?.ok) {
    const why = answer ? `the server answers ${answer.status}` : "there is no connection";
    throw new Problem(`${path} could not be loaded (${why}); try again, or upload the whole folder of this page.`);
  }
  const parts = [];
  let count = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    progress?.((count += value.length));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// Whether there is a GPU; one that a processor imitates is slower than WebAssembly, and for tests.
async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const isImitated = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
  return Boolean(adapter) && (!isImitated || wanted === "webgpu");
}

async function start(provider, graph, direction) {
  let ort;
  try {
    ort = await import(`./ort/ort.${provider}.min.mjs`);
  } catch {
    throw new Problem("The folder ort of this page could not be loaded; try again, or upload the whole folder of this page.");
  }
  ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
  // Threads share memory, which browsers allow only on isolated pages.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(graph, { executionProviders: [provider] });
  const threads = ort.env.wasm.numThreads;
  const name = provider === "webgpu" ? "the graphics card" : `${threads} ${threads === 1 ? "thread" : "threads"}`;
  return { ort, session, graph, direction, provider, name };
}

// Whether the stored input gives the stored result.
async function isRight(site, { input, output, test }) {
  const bytes = await load(test.file), { side } = test, count = side * side;
  const before = bytes.subarray(0, count * input.channels), expected = bytes.subarray(count * input.channels);
  if (expected.length !== count * output.channels) return false;
  const table = levels(input), values = new Float32Array(before.length);
  for (let i = 0; i < count; i += 1) {
    for (let c = 0; c < input.channels; c += 1) values[c * count + i] = table[before[i * input.channels + c]];
  }
  const found = await forward(values, [1, input.channels, side, side]);
  await forward(values, [1, input.channels, side, side]);  // the first one takes longer than what follows
  const place = new Uint8ClampedArray(expected.length);
  copyLevels(found, [side, side], output, place, side, { top: 0, bottom: side, left: 0, right: side, y: 0, x: 0 });
  let squares = 0;
  for (let i = 0; i < place.length; i += 1) squares += (place[i] - expected[i]) ** 2;
  return squares === 0 || 10 * Math.log10((255 ** 2 * place.length) / squares) >= site.least_decibels;
}

async function forward(values, size) {
  const begun = performance.now(), image = new opened.ort.Tensor("float32", values, size);
  const { translation } = await opened.session.run({ image });
  // Of the last picture, for an estimate; small ones take longer for each pixel.
  opened.secondsPerPixel = (performance.now() - begun) / 1000 / (size[2] * size[3]);
  return translation.data;
}

// What a GPU cannot compute, such as a picture beyond its memory, is computed by WebAssembly.
async function compute(site, direction, values, size, tell) {
  try {
    return await forward(values, size);
  } catch (error) {
    if (opened.provider !== "webgpu") throw error;
    hasGpuFailed = true;
    opened = null;
    await open(site, direction, tell);
    return forward(values, size);
  }
}

// ---- a picture through the network

// The translation of a picture, (H, W, C) in levels. side: of what is computed at once; null: all of it.
async function inParts(run, picture, { multiple, smallest }, { input, output, reach }, side, tell) {
  const { width, height } = picture, result = new Uint8ClampedArray(width * height * output.channels);
  const rows = mirrored(height, multiple, smallest), columns = mirrored(width, multiple, smallest);
  const across = spans(columns.length, side, reach, multiple, smallest);
  const down = spans(rows.length, side, reach, multiple, smallest);
  const table = levels(input), total = across.length * down.length, begun = performance.now();
  const regions = down.flatMap((row) => across.map((column) => (row.last - row.first) * (column.last - column.first)));
  let remaining = opened.secondsPerPixel * regions.reduce((sum, pixels) => sum + pixels), done = 0;
  for (const { start: top, stop: bottom, first: y, last: yEnd } of down) {
    for (const { start: left, stop: right, first: x, last: xEnd } of across) {
      const time = remaining < 3 ? "" : `, about ${remaining < 100 ? `${Math.ceil(remaining)} s` : `${Math.ceil(remaining / 60)} minutes`} left`, part = total > 1 ? ` part ${done + 1} of ${total}` : "";
      tell(`Translating${part}${time}`, total > 1 ? done / total : undefined);
      const values = region(picture, input, table, rows.slice(y, yEnd), columns.slice(x, xEnd));
      const found = await run(values, [1, input.channels, yEnd - y, xEnd - x]);
      const box = { top, bottom: Math.min(bottom, height), left, right: Math.min(right, width), y, x };
      copyLevels(found, [yEnd - y, xEnd - x], output, result, width, box);
      done += 1;
      remaining = ((performance.now() - begun) / 1000 / done) * (total - done);
    }
  }
  return result;
}

function align(length, multiple) {
  return Math.max(1, Math.floor(length / multiple)) * multiple;
}

// Indices of a side mirrored at its end to a multiple of at least `smallest`, as `pad_to_multiple` in Python.
function mirrored(length, multiple, smallest) {
  const full = Math.ceil(Math.max(length, smallest) / multiple) * multiple, period = 2 * (length - 1);
  return Int32Array.from({ length: full }, (_, i) => {
    const place = period ? i % period : 0;
    return place < length ? place : period - place;
  });
}

// Tiles along a side, start to stop, and what they are computed from, first to last, as `Local` in Python: with `reach`
// around them, at multiples, so that strides fall on the same pixels, and cut at the border, where the network mirrors.
function spans(length, side, reach, multiple, smallest) {
  if (side === null || length <= side) return [{ start: 0, stop: length, first: 0, last: length }];
  const inner = align(side - 2 * reach, multiple);
  const step = Math.ceil(length / Math.ceil(length / inner) / multiple) * multiple;
  const found = [];
  for (let start = 0; start < length; start += step) {
    const stop = Math.min(start + step, length);
    let first = Math.floor(Math.max(start - reach, 0) / multiple) * multiple;
    const last = Math.min(Math.ceil(Math.max(stop + reach, first + smallest) / multiple) * multiple, length);
    first = Math.max(Math.min(first, Math.floor((last - smallest) / multiple) * multiple), 0);
    found.push({ start, stop, first, last });
  }
  return found;
}

// What each level becomes for the network, rounded as in Python.
function levels({ low, high }) {
  const scale = Math.fround(2 / (high - low)), { fround } = Math;
  return Float32Array.from({ length: 256 }, (_, level) => {
    const value = fround(fround(fround(level - fround(low)) * scale) - 1);
    return Math.min(1, Math.max(-1, value));
  });
}

// (C, rows, columns) in [-1, 1] from RGBA.
function region({ rgba, width }, { channels }, table, rows, columns) {
  const count = rows.length * columns.length, values = new Float32Array(channels * count);
  let place = 0;
  for (const row of rows) {
    for (const column of columns) {
      const at = 4 * (row * width + column);
      if (channels === 1) {
        values[place] = table[(rgba[at] * 19595 + rgba[at + 1] * 38470 + rgba[at + 2] * 7471 + 32768) >> 16];
      } else {
        for (let c = 0; c < channels; c += 1) values[c * count + place] = table[rgba[at + c]];
      }
      place += 1;
    }
  }
  return values;
}

// Put a box of what the network gave, (C, rows, columns) beginning at y and x, into the levels of a picture.
function copyLevels(found, [rows, columns], { channels, low, high }, result, width, { top, bottom, left, right, y, x }) {
  const scale = (high - low) / 2;
  for (let c = 0; c < channels; c += 1) {
    for (let row = top; row < bottom; row += 1) {
      let from = (c * rows + row - y) * columns + left - x, to = (row * width + left) * channels + c;
      for (let column = left; column < right; column += 1) {
        // The array rounds to the nearest level, halves to the even one, and keeps to 0 to 255.
        result[to] = (Math.min(1, Math.max(-1, found[from])) + 1) * scale + low;
        from += 1;
        to += channels;
      }
    }
  }
}

function withAlpha(levels, channels, alpha) {
  if (alpha === null) return levels;
  const joined = new Uint8ClampedArray(alpha.length * (channels + 1));
  for (let i = 0; i < alpha.length; i += 1) {
    for (let c = 0; c < channels; c += 1) joined[i * (channels + 1) + c] = levels[i * channels + c];
    joined[i * (channels + 1) + channels] = alpha[i];
  }
  return joined;
}
