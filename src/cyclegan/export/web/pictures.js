// Pictures as arrays of levels: decoded by the browser, upright and in sRGB; written as PNG without loss.

// Rows that are read from a canvas at once: browsers limit its area.
const STRIP = 512;

// A file as RGBA. longest: of its sides, 0 for any; most: pixels; larger ones are shrunk. asks: pixels above which only
// the size is given, as `long`. background: RGB behind what
// is transparent, or null. alpha: the transparency, null without any; colours of hidden pixels are those around them.
export async function decode(blob, { longest, most, asks, background }) {
  const options = { imageOrientation: "from-image", premultiplyAlpha: "none" };
  let bitmap = await createImageBitmap(blob, options);
  const given = [bitmap.width, bitmap.height];
  const limit = Math.min(1, Math.sqrt(most / (given[0] * given[1])));
  const share = Math.min(limit, longest ? longest / Math.max(...given) : 1);
  const [long, high] = given.map((side) => side * share);
  if (long * high > asks) return { long: long * high };
  if (share < 1) {
    const [resizeWidth, resizeHeight] = given.map((side) => Math.max(1, limit < 1 && share === limit ? Math.floor(side * share) : Math.round(side * share)));
    bitmap = await createImageBitmap(bitmap, { ...options, resizeWidth, resizeHeight, resizeQuality: "high" });
  }
  const { width, height } = bitmap;
  let rgba = await readPixels(bitmap, readCanvas(width));
  let alpha = null;
  if (rgba.some((value, index) => index % 4 === 3 && value < 255)) {
    // A canvas keeps colours multiplied with alpha, and so loses some; a texture does not.
    const read = readTexture(width);
    if (read) rgba = await readPixels(bitmap, read);
    if (background) putOver(rgba, background);
    else {
      alpha = Uint8Array.from({ length: width * height }, (_, index) => rgba[4 * index + 3]);
      fillHidden(rgba, alpha, width, height);
    }
  }
  return { rgba, width, height, alpha, shrunk: share < 1 && share === limit ? given : null };
}

async function readPixels(bitmap, read) {
  const { width, height } = bitmap, rgba = new Uint8ClampedArray(4 * width * height);
  for (let top = 0; top < height; top += STRIP) {
    const rows = Math.min(STRIP, height - top);
    const strip = await createImageBitmap(bitmap, 0, top, width, rows, { premultiplyAlpha: "none" });
    rgba.set(read(strip, rows), 4 * width * top);
    strip.close();
  }
  return rgba;
}

function readCanvas(width) {
  const context = new OffscreenCanvas(width, STRIP).getContext("2d", { willReadFrequently: true });
  return (strip, rows) => {
    context.clearRect(0, 0, width, STRIP);
    context.drawImage(strip, 0, 0);
    return context.getImageData(0, 0, width, rows).data;
  };
}

function readTexture(width) {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2", { premultipliedAlpha: false });
  if (!gl || width > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  return (strip, rows) => {
    const found = new Uint8Array(4 * width * rows);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, strip);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
    gl.readPixels(0, 0, width, rows, gl.RGBA, gl.UNSIGNED_BYTE, found);
    return found;
  };
}

function putOver(rgba, background) {
  for (let at = 0; at < rgba.length; at += 4) {
    const share = rgba[at + 3] / 255;
    for (let c = 0; c < 3; c += 1) rgba[at + c] = rgba[at + c] * share + background[c] * (1 - share);
  }
}

// ---- colours where a picture is transparent, as `fill_holes` in Python gives them

const BLOCK = 256, MIDDLE = 127;

function fillHidden(rgba, alpha, width, height) {
  for (let top = 0; top < height; top += BLOCK) {
    for (let left = 0; left < width; left += BLOCK) {
      const h = Math.min(BLOCK, height - top), w = Math.min(BLOCK, width - left);
      const values = new Float32Array(3 * h * w), seen = new Uint8Array(h * w);
      let count = 0;
      for (let i = 0; i < h * w; i += 1) {
        const at = (top + Math.floor(i / w)) * width + left + (i % w);
        if (!alpha[at]) continue;
        seen[i] = 1;
        count += 1;
        for (let c = 0; c < 3; c += 1) values[3 * i + c] = rgba[4 * at + c];
      }
      if (count === h * w) continue;
      const filled = count ? pushPull(values, seen, h, w) : values.fill(MIDDLE);
      for (let i = 0; i < h * w; i += 1) {
        if (seen[i]) continue;
        const at = (top + Math.floor(i / w)) * width + left + (i % w);
        for (let c = 0; c < 3; c += 1) rgba[4 * at + c] = filled[3 * i + c];
      }
    }
  }
}

// Fill holes with averages over ever larger squares (Gortler et al. 1996, section 3.4.1).
function pushPull(values, seen, height, width) {
  if (seen.every(Boolean)) return values;
  const h = Math.ceil(height / 2), w = Math.ceil(width / 2);
  const means = new Float32Array(3 * h * w), counts = new Uint8Array(h * w);
  for (let i = 0; i < height * width; i += 1) {
    if (!seen[i]) continue;
    const to = (Math.floor(i / width) >> 1) * w + ((i % width) >> 1);
    counts[to] += 1;
    for (let c = 0; c < 3; c += 1) means[3 * to + c] += values[3 * i + c];
  }
  for (let i = 0; i < 3 * h * w; i += 1) means[i] /= Math.max(1, counts[Math.floor(i / 3)]);
  const coarse = pushPull(means, counts.map((count) => Math.min(count, 1)), h, w);
  const at = (row, column) => 3 * ((Math.min(Math.max(row, 0), 2 * h - 1) >> 1) * w + (Math.min(Math.max(column, 0), 2 * w - 1) >> 1));
  const result = values.slice();
  for (let i = 0; i < height * width; i += 1) {
    if (seen[i]) continue;
    const y = Math.floor(i / width), x = i % width;
    for (let c = 0; c < 3; c += 1) {
      let sum = 0;
      for (const [row, weight] of [[y - 1, 1], [y, 2], [y + 1, 1]]) {
        sum += weight * (coarse[at(row, x - 1) + c] + 2 * coarse[at(row, x) + c] + coarse[at(row, x + 1) + c]);
      }
      result[3 * i + c] = sum / 16;
    }
  }
  return result;
}

// ---- PNG

const COLOUR_TYPES = { 1: 0, 2: 4, 3: 2, 4: 6 };

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

// (H, W, C) of 8 bits: grey or RGB, also with alpha.
export async function encode(levels, width, height, channels) {
  const stream = new CompressionStream("deflate"), writer = stream.writable.getWriter();
  const packed = new Response(stream.readable).arrayBuffer();
  const length = width * channels;
  for (let top = 0; top < height; top += STRIP) {
    const rows = Math.min(STRIP, height - top), lines = new Uint8Array(rows * (length + 1));
    for (let row = 0; row < rows; row += 1) filterLine(levels, (top + row) * length, length, channels, lines, row * (length + 1), top + row > 0);
    await writer.write(lines);
  }
  await writer.close();
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint16(8, (8 << 8) | COLOUR_TYPES[channels]);
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  const parts = [chunk("IHDR", new Uint8Array(header.buffer)), chunk("IDAT", new Uint8Array(await packed)), chunk("IEND", new Uint8Array(0))];
  return new Blob([signature, ...parts.flat()], { type: "image/png" });
}

// The difference of each value from the nearest of its neighbours (PNG, section 9.4: Paeth), which deflates well.
function filterLine(levels, from, length, channels, lines, to, hasAbove) {
  lines[to] = 4;
  for (let i = 0; i < length; i += 1) {
    const a = i >= channels ? levels[from + i - channels] : 0, b = hasAbove ? levels[from + i - length] : 0;
    const c = hasAbove && i >= channels ? levels[from + i - channels - length] : 0;
    const pa = Math.abs(b - c), pb = Math.abs(a - c), pc = Math.abs(a + b - 2 * c);
    lines[to + 1 + i] = levels[from + i] - (pa <= pb && pa <= pc ? a : pb <= pc ? b : c);
  }
}

function chunk(name, content) {
  const head = new DataView(new ArrayBuffer(8)), tail = new DataView(new ArrayBuffer(4));
  head.setUint32(0, content.length);
  [...name].forEach((letter, index) => head.setUint8(4 + index, letter.charCodeAt(0)));
  let crc = ~0;
  for (const part of [new Uint8Array(head.buffer, 4), content]) for (const byte of part) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  tail.setUint32(0, ~crc);
  return [head.buffer, content, tail.buffer];
}
