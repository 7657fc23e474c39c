// Parts that the pages Runs and Data share: asking again and again, words for times, commands to copy, questions.

import { announce, ask, el, icon } from "./app.js";

if (!document.querySelector('link[href="runs.css"]')) document.head.append(el("link", { rel: "stylesheet", href: "runs.css" }));

/** Calls `work` now and then, every `seconds`, while the page and the window are seen. Returns a function that ends it. */
export function repeat(page, seconds, work) {
  let timer, ended = false, busy = false;
  const seen = () => !page.hidden && !document.hidden;
  async function tick() {
    clearTimeout(timer);
    if (ended || busy) return;
    busy = true;
    const began = performance.now();
    try {
      if (seen()) await work();
    } finally {
      busy = false;
      // A busy computer is asked less often.
      if (!ended && seen()) timer = setTimeout(tick, Math.max(1000 * seconds, 5 * (performance.now() - began)));
    }
  }
  page.addEventListener("show", tick);
  document.addEventListener("visibilitychange", tick);
  tick();
  return () => {
    ended = true;
    clearTimeout(timer);
    page.removeEventListener("show", tick);
    document.removeEventListener("visibilitychange", tick);
  };
}

/** Asks for JSON that may not have changed: the content, or null if it is what `known.tag` names. */
export async function changed(path, known) {
  const response = await ask(path, { cache: "no-cache" }); // the browser asks with the ETag of its copy
  const tag = response.headers.get("ETag");
  if (tag === known.tag) return null;
  known.tag = tag;
  return response.json();
}

/** 4000 seconds as "1 h 7 min". */
export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days ${hours % 24} h`;
}

/** A time of the past in seconds since 1970, as "5 min ago" or a date. */
export function ago(time) {
  const seconds = Date.now() / 1000 - time;
  if (seconds < 10) return "just now";
  if (seconds < 36 * 3600) return `${duration(seconds)} ago`;
  return new Date(1000 * time).toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
}

/** A command with a button that copies it. */
export function command(text, what = "the command") {
  const button = el("button", { type: "button", onclick: copy }, icon("copy"), el("span", {}, "Copy"));
  button.setAttribute("aria-label", `Copy ${what}`);
  const code = el("pre", { tabindex: "0", role: "group", "aria-label": what }, el("code", {}, text));
  async function copy() {
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // Where the browser has no clipboard for this address, selected text is one key away.
      getSelection().selectAllChildren(code);
      return announce("The command is selected; copy it with Ctrl-C.");
    }
    button.lastChild.textContent = "Copied";
    announce("Copied");
    setTimeout(() => (button.lastChild.textContent = "Copy"), 1800);
  }
  return el("div", { class: "copy" }, code, button);
}

/** Ask a question that is answered by yes or no. Resolves to true or false. */
export function confirm({ title, text, yes, no = "Cancel" }) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { "aria-labelledby": "question" },
      el("h2", { id: "question" }, title), text.map((line) => (typeof line === "string" ? el("p", {}, line) : line)),
      el("div", { class: "row" },
        el("button", { type: "button", onclick: () => dialog.close("") }, no),
        el("button", { type: "button", class: "main", onclick: () => dialog.close("yes") }, yes)));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A line for errors that come and go. */
export function problemLine() {
  const line = el("p", { class: "problem", role: "alert", hidden: true });
  return {
    element: line,
    show(message) {
      line.hidden = !message;
      if (line.textContent !== (message ?? "")) line.textContent = message ?? "";
    },
  };
}
