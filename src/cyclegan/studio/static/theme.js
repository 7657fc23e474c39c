// Not a module, so that it runs before the page is painted, and a chosen theme never flashes in the other one.
document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "";
