// A zip of files that are there already. They are images, which do not shrink, so they are stored as they are.

const LIMIT = 2 ** 32 - 1; // bytes; beyond it a zip needs another form, which not every program reads

const CRC = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = (value & 1 ? 0xedb88320 : 0) ^ (value >>> 1);
  return value;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Little-endian numbers of two or four bytes each, as [number, size] pairs. */
function record(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [, size]) => sum + size, 0)));
  let at = 0;
  for (const [number, size] of fields) {
    if (size === 2) view.setUint16(at, number, true);
    else view.setUint32(at, number, true);
    at += size;
  }
  return view.buffer;
}

/** A Blob with these files, [{ name, blob }]. Names are paths with slashes, all of them different. */
export async function makeZip(files) {
  const total = files.reduce((sum, { name, blob }) => sum + blob.size + 2 * name.length * 3 + 100, 100);
  if (total > LIMIT || files.length > 65535) {
    throw new Error(
      "These files are too much for one zip, which holds 4 GB. Download some of them one by one, or choose JPEG.",
    );
  }
  const now = new Date();
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  const parts = [],
    directory = [];
  let offset = 0,
    directorySize = 0;
  for (const { name, blob } of files) {
    const path = new TextEncoder().encode(name);
    const crc = crc32(new Uint8Array(await blob.arrayBuffer()));
    // Version 2.0, names in UTF-8, stored.
    const common = [
      [20, 2],
      [0x800, 2],
      [0, 2],
      [time, 2],
      [date, 2],
      [crc, 4],
      [blob.size, 4],
      [blob.size, 4],
      [path.length, 2],
      [0, 2],
    ];
    parts.push(record([0x04034b50, 4], ...common), path, blob);
    directory.push(record([0x02014b50, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), path);
    offset += 30 + path.length + blob.size;
    directorySize += 46 + path.length;
  }
  const count = files.length;
  const end = record([0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [directorySize, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
