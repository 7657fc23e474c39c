// Without this script every picture of the page is shown, side by side or one below the other.
document.documentElement.classList.add("live");

for (const slider of document.querySelectorAll(".slider")) {
  const pairs = slider.querySelectorAll(".pair");
  const buttons = slider.querySelectorAll(".choices button");
  const ranges = slider.querySelectorAll("input");
  const show = (chosen) => {
    pairs.forEach((pair, index) => { pair.hidden = index !== chosen; });
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", index === chosen));
  };
  const cut = (value) => {
    ranges.forEach((range) => { range.value = value; });
    slider.style.setProperty("--cut", value + "%");
  };
  buttons.forEach((button, index) => button.addEventListener("click", () => show(index)));
  ranges.forEach((range) => range.addEventListener("input", () => cut(range.value)));
  cut(50);
  show(0);
}

for (const frames of document.querySelectorAll(".frames")) {
  const range = frames.querySelector("input");
  const figures = frames.querySelectorAll("figure");
  const show = () => figures.forEach((figure, index) => { figure.hidden = range && index !== Number(range.value); });
  if (range) {
    range.value = figures.length - 1;
    range.addEventListener("input", show);
  }
  show();
}
