// From the bytes of an image to something a canvas draws: by the browser where it can, else by the server's pixels.

import { ask } from "./app.js";

/** Longer side of what the server sends to be looked at. Results keep every pixel; only the view is smaller. */
const LARGEST_SIDE = 4096;

/** Pixels that are kept as a bitmap in full; a page with four views of 64 million needs a gigabyte. */
const LARGEST_BITMAP = 2 ** 26;

const SHOWN_BY_BROWSERS = new Set(["image/png", "image/jpeg", "image/webp", "image/avif", "image/bmp", "image/gif"]);

/**
 * An image to look at. width, height: of the image itself. drawable: what a canvas draws, which may be smaller.
 * values: { array, channels, width, height } of an image that needs a window, else null.
 */
export class Picture {
  constructor(drawable, width, height, values = null) {
    Object.assign(this, { drawable, width, height, values });
  }

  get isReduced() {
    return this.drawable.width < this.width;
  }

  /** Draw the values anew. bands: three of them as red, green and blue, or one as grey. */
  paint(range, bands) {
    const canvas = this.drawable;
    const painted = new ImageData(canvas.width, canvas.height);
    paint(painted.data, this.values, range, bands);
    canvas.getContext("2d").putImageData(painted, 0, 0);
  }

  close() {
    this.drawable.close?.();
  }
}

/**
 * Open an image file. pixelsUrl: where the server decodes it; format: what the model takes or gives there. A picture with
 * values is still blank: its owner paints it.
 */
export async function openPicture(blob, pixelsUrl, format, signal) {
  const isPicture = format.dtype === "uint8" && [1, 3, 4].includes(format.channels);
  if (isPicture && SHOWN_BY_BROWSERS.has(blob.type)) {
    const picture = await openInBrowser(blob).catch(() => null);
    if (picture) return picture;
  }
  const response = await ask(`${pixelsUrl}?side=${LARGEST_SIDE}`, { method: "POST", body: blob, signal });
  const [width, height] = response.headers.get("Cyclegan-Size").split("x").map(Number);
  const values = readNpy(await response.arrayBuffer());
  const canvas = Object.assign(document.createElement("canvas"), { width: values.width, height: values.height });
  const picture = new Picture(canvas, width, height, values);
  if (isPicture) {
    // needs no window
    picture.paint([0, 255], defaultBands(values.channels));
    picture.values = null;
  }
  return picture;
}

async function openInBrowser(blob) {
  const bitmap = await createImageBitmap(blob);
  const { width, height } = bitmap;
  if (width * height <= LARGEST_BITMAP) return new Picture(bitmap, width, height);
  const share = Math.sqrt(LARGEST_BITMAP / (width * height));
  const size = { resizeWidth: Math.round(width * share), resizeHeight: Math.round(height * share) };
  const smaller = await createImageBitmap(bitmap, { ...size, resizeQuality: "high" });
  bitmap.close();
  return new Picture(smaller, width, height);
}

/** Which channels are shown at first: three as colours, else the first one. */
export const defaultBands = (channels) => (channels === 3 || channels === 4 ? [0, 1, 2] : [0]);

/** Fill RGBA with values, so that low becomes black and high white. Pixels without a value (NaN) are transparent. */
export function paint(rgba, { array, channels }, [low, high], bands) {
  const scale = 255 / (high - low || 1);
  const [red, green, blue] = bands.length === 3 ? bands : [bands[0], bands[0], bands[0]];
  for (let from = 0, to = 0; to < rgba.length; from += channels, to += 4) {
    // A clamped array rounds, and keeps values within 0 and 255, by itself.
    rgba[to] = (array[from + red] - low) * scale;
    rgba[to + 1] = (array[from + green] - low) * scale;
    rgba[to + 2] = (array[from + blue] - low) * scale;
    rgba[to + 3] = Number.isNaN(array[from + red]) ? 0 : 255;
  }
}

const TYPES = {
  "|u1": Uint8Array,
  "|i1": Int8Array,
  "<u2": Uint16Array,
  "<i2": Int16Array,
  "<u4": Uint32Array,
  "<i4": Int32Array,
  "<f4": Float32Array,
  "<f8": Float64Array,
};

/** The array of a .npy file of shape (H, W, C). */
export function readNpy(buffer) {
  const view = new DataView(buffer);
  const length = view.getUint8(6) === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const start = (view.getUint8(6) === 1 ? 10 : 12) + length;
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, start - length, length));
  const type = /'descr':\s*'([^']+)'/.exec(header)[1];
  const [height, width, channels = 1] = /'shape':\s*\(([^)]*)\)/.exec(header)[1].match(/\d+/g).map(Number);
  if (!TYPES[type] || /'fortran_order':\s*True/.test(header))
    throw new Error(`The studio cannot show values of type ${type}.`);
  return { array: new TYPES[type](buffer, start), height, width, channels };
}

/** From which value to which most of an image lies: without its darkest and brightest hundredth. */
export function usualRange({ array, channels }, bands) {
  const step = Math.max(1, Math.floor(array.length / channels / 20000)) * channels; // a sample is as good
  const found = [];
  for (let at = 0; at < array.length; at += step) {
    for (const band of bands) if (Number.isFinite(array[at + band])) found.push(array[at + band]);
  }
  found.sort((a, b) => a - b);
  const low = found[Math.floor(found.length * 0.01)] ?? 0;
  const high = found[Math.ceil(found.length * 0.99) - 1] ?? 1;
  return low < high ? [low, high] : [low, low + 1];
}
