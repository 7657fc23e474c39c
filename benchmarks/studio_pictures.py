"""The pictures of the studio in docs/images, taken from its real page with the installed earth generators.

    python benchmarks/studio_pictures.py --out docs/images

Needs cyclegan[earth,serve], playwright, and Chromium on the path.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from cyclegan.datasets.earth import read_world

# Left, top and side in pixels of the world, of which 15 are one degree.
PLACES = {
    "Baja California": (960, 800, 480),
    "Caspian Sea": (3360, 630, 480),
    "Italy": (2830, 620, 384),
    "New Zealand": (5160, 1880, 240),
    "Scandinavia": (2780, 380, 400),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        photos = cut_photos(Path(folder) / "photos")
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        runs = Path(folder) / "runs"
        runs.mkdir()
        with studio(runs) as address:
            translate = opened(browser, address, 1200, 800, "light")
            add(translate, photos)
            save(translate, out / "studio-translate.png")

            back = opened(browser, address, 1200, 700, "dark")
            back.get_by_role("checkbox", name="And back again").check()
            add(back, photos[2:])
            back.get_by_role("button", name="Side by side").click()
            back.wait_for_timeout(1000)
            save(back, out / "studio-back.png")

            phone = opened(browser, address, 360, 740, "light")
            add(phone, photos[3:])
            save(phone, out / "studio-phone.png")


def cut_photos(folder: Path) -> list[Path]:
    folder.mkdir()
    world = read_world("bmng.jpg")
    for name, (left, top, side) in PLACES.items():
        box = (left, top, left + side, top + side)
        # At the scale of the training, 108 pixels for 240 of the world, a picture of the page would be small.
        world.crop(box).resize((640, 640), Image.Resampling.LANCZOS).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


@contextmanager
def studio(runs: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "cyclegan", "studio", str(runs), "--port", "0", "--no-open", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def opened(browser: Browser, address: str, width: int, height: int, scheme: str) -> Page:
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
    page.goto(address)
    page.get_by_role("group", name="Models").wait_for()
    return page


def add(page: Page, photos: list[Path]) -> None:
    page.set_input_files("#files", photos)
    page.locator("progress[hidden]").wait_for(state="attached", timeout=300_000)
    page.wait_for_timeout(1000)  # until all is drawn


def save(page: Page, path: Path) -> None:
    shot = Image.open(BytesIO(page.screenshot())).convert("RGB")
    shot.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
