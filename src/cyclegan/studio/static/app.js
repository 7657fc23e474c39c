// The shell: which page is shown, light or dark, and what all pages share.

const PAGES = {
  translate: { title: "Translate", load: () => import("./translate.js") },
  runs: { title: "Runs", load: () => import("./runs.js") },
  data: { title: "Data", load: () => import("./data.js") },
};

/**
 * An element: el("button", { class: "main", onclick: start, disabled: true }, "Start"). Functions listen to events,
 * true and false set and leave out attributes. Children are elements or text, never markup.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** One of the icons of index.html, such as icon("download"). Screen readers pass over it: name the button. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** Let a screen reader say a sentence, once what it is saying is finished. */
export function announce(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  setTimeout(() => (live.textContent = text), 50); // a region that is emptied first says the same text again
}

/** Ask the server. Returns the response; an Error of this function has a sentence for the user as its message. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost();
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  if (!problem && response.status >= 500) throw lost(); // what a server says that is being closed
  const error = new Error(
    problem?.detail || problem?.title || `The studio answered with an error (${response.status}).`,
  );
  error.status = response.status;
  error.retryAfter = Number(response.headers.get("Retry-After")) || null;
  throw error;
}

function lost() {
  const error = new Error("The studio does not answer. Is `cyclegan studio` still running in its terminal?");
  return Object.assign(error, { isLost: true });
}

/** Ask the server for JSON; `body`, if given, is sent as JSON by POST. Errors as of `ask`. */
export async function api(path, { body, ...options } = {}) {
  const sent =
    body === undefined
      ? {}
      : {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify(body),
        };
  return (await ask(path, { ...sent, ...options })).json();
}

/** What follows the name of the page in the address: "maps" of #runs/maps, or "". */
export function place() {
  try {
    return decodeURIComponent(location.hash.split("/").slice(1).join("/"));
  } catch {
    return ""; // an address that was cut or typed
  }
}

/** 12345 as 12,345. */
export const grouped = (number) => number.toLocaleString("en");

/** "1 image", "2 images". */
export const counted = (number, noun) => `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;

// ---- pages

const main = document.getElementById("main");
const sections = {};

/** Show the page of the address. A page gets the events "show" and "hide", to rest while it is out of sight. */
async function route() {
  const name = location.hash.slice(1).split("/")[0];
  const page = name in PAGES ? name : "translate";
  for (const link of document.querySelectorAll(".bar nav a")) {
    if (link.hash === `#${page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${PAGES[page].title} - cyclegan studio`;
  main.querySelector(":scope > .failed")?.remove();
  for (const [other, section] of Object.entries(sections)) {
    if (other !== page && !section.hidden) {
      section.hidden = true;
      section.dispatchEvent(new Event("hide"));
    }
  }
  if (sections[page]) {
    const wasHidden = sections[page].hidden;
    sections[page].hidden = false;
    if (wasHidden) sections[page].dispatchEvent(new Event("show"));
    return;
  }
  const section = el("section", { class: `page ${page}`, "aria-label": PAGES[page].title });
  sections[page] = section;
  main.append(section);
  try {
    await (await PAGES[page].load()).mount(section);
  } catch (error) {
    delete sections[page]; // the next visit tries again
    section.classList.add("failed");
    section.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
    console.error(error);
  }
}

window.addEventListener("hashchange", route);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // its address is not one of a page
  main.focus();
});

// ---- light and dark

const root = document.documentElement;
const theme = document.getElementById("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);

function nameTheme() {
  theme.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");
  theme.title = theme.getAttribute("aria-label");
}

theme.addEventListener("click", () => {
  const wanted = isDark() ? "light" : "dark";
  // What the system prefers is kept as no choice, so that the page goes on following the system.
  root.dataset.theme = (wanted === "dark") === prefersDark.matches ? "" : wanted;
  localStorage.setItem("theme", root.dataset.theme);
  nameTheme();
});
prefersDark.addEventListener("change", nameTheme);
nameTheme();
route();
