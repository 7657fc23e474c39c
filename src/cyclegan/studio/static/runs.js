import { el } from "./app.js";

export function mount(element) {
  element.append(el("h1", {}, "Runs"), el("p", { class: "muted" }, "This page is loading."));
}
