// Where images come from: files and folders that are dropped, chosen or pasted, and the camera.

import { el } from "./app.js";

/**
 * The files of a drop, as { file, path }; of folders those below them, too. isWanted: says by its name whether a file
 * of a folder is an image. Returns { found, skipped }: how many files of folders are none.
 */
export async function filesOfDrop(transfer, isWanted) {
  // The entries must all be taken before the first wait, or the browser forgets the rest.
  const entries = [...transfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  let skipped = 0;
  async function visit(entry, isInFolder) {
    if (entry instanceof File) found.push({ file: entry, path: entry.name });
    else if (entry?.isFile) {
      if (isInFolder && !isWanted(entry.name)) return void (skipped += 1);
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, path: entry.fullPath.replace(/^\//, "") });
    } else if (entry?.isDirectory) {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
        if (!some.length) break;
        for (const inside of some.sort(byName)) await visit(inside, true);
      }
    }
  }
  for (const entry of entries) await visit(entry, false);
  return { found, skipped };
}

const byName = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });

/** The files of a chosen folder, as `filesOfDrop` gives them. */
export function filesOfFolder(files, isWanted) {
  const found = [...files]
    .filter((file) => isWanted(file.name))
    .map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  found.sort((a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }));
  return { found, skipped: files.length - found.length };
}

/** A button's action that lets the user take a picture. Phones use their own camera app, others a window of the page. */
export async function takePicture(onPicture) {
  const isTouch = matchMedia("(pointer: coarse)").matches;
  if (isTouch || !navigator.mediaDevices?.getUserMedia) {
    const input = el("input", { type: "file", accept: "image/*", capture: "environment" });
    input.addEventListener("change", () => input.files[0] && onPicture(input.files[0]));
    return input.click();
  }
  const video = el("video", { autoplay: true, muted: true, playsinline: true, "aria-label": "What the camera sees" });
  const message = el("p", { class: "problem", hidden: true, role: "alert" });
  const shutter = el("button", { type: "button", class: "main", disabled: true, onclick: shoot }, "Take the picture");
  const dialog = el(
    "dialog",
    { class: "camera", "aria-label": "Camera" },
    video,
    message,
    el("div", { class: "row" }, shutter, el("button", { type: "button", onclick: () => dialog.close() }, "Close")),
  );
  let stream = null;
  dialog.addEventListener("close", () => {
    stream?.getTracks().forEach((track) => track.stop());
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } } });
    if (!dialog.open) return void stream.getTracks().forEach((track) => track.stop()); // closed while it asked
    video.srcObject = stream;
    await video.play();
    shutter.disabled = false;
    shutter.focus();
  } catch (error) {
    message.textContent =
      error.name === "NotAllowedError"
        ? "The browser may not use the camera. Allow it beside the address of this page, then try again."
        : "There is no camera, or another program uses it.";
    message.hidden = false;
  }

  async function shoot() {
    const canvas = el("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-").replace("T", "_");
    dialog.close();
    onPicture(new File([blob], `camera_${time}.png`, { type: "image/png" }));
  }
}

/** Let the browser save a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the download may begin later
}
