"""The page of a run: what it says, that it stands alone, and that it works in a real browser."""

import base64
import io
import json
import os
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from cyclegan.report.charts import Chart, Series, running_mean, thin
from cyclegan.report.page import Gallery, Section, Table, part_html, write_report
from cyclegan.report.run import write_run_report
from make_run import COLOURS, LOSSES, events, make_run, write_log

QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync"


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def pictures(page):
    """Every picture of a page, decoded."""
    found = re.findall(r"data:image/(png|jpeg);base64,([^\"]+)", page)
    return [(kind, Image.open(io.BytesIO(base64.b64decode(data)))) for kind, data in found]


# ---- the page of a run


def test_the_page_shows_the_run_its_warnings_its_scores_and_how_it_was_made(run):
    page = write_run_report(run).read_text()
    order = ["Summary", "Read this first", "photos (A) to maps (B)</h2>", "maps (B) to photos (A)</h2>"]
    order += ["Over the training", "How it was trained", "How it was scored", "Files that were left out"]
    places = [page.index(f">{text}") for text in order]
    assert places == sorted(places)
    assert "Trained for 3,000 steps in 5 minutes, 2 sessions." in page
    assert "best step by KID (EfficientNet-Lite0) on validation images is 2,000 (0.120); the last one is 3,000" in page
    assert "0.120<small>0.096 to 0.144</small>" in page
    assert "By KID, the translations are 87 % of the way" in page
    assert "19.2 dB" in page or "19.3 dB" in page
    for text in ("collapse (step 2,000): The translations are all alike.", "photos/broken.png", "bf16", "2.13.0"):
        assert text in page, text
    for command in (
        "cyclegan train photos maps",
        "cyclegan train photos maps --steps 3000",
        "cyclegan evaluate runs/x",
    ):
        assert f"<pre>{command}</pre>" in page
    assert "learning_rate = 0.0002" in page
    assert "EfficientNet-Lite0" in page
    assert "FID" not in page


def test_notes_on_the_scores_stand_on_top_and_beside_the_scores(run):
    page = write_run_report(run).read_text()
    notices = re.findall(r'<div class="notice".*?</div>', page)
    assert len(notices) == 3
    assert "Scores: 2 test images are far too few." in notices[0]
    assert all("2 test images are far too few." in notice for notice in notices)
    assert all("PSNR: measured on whole images" in notice for notice in notices[1:])


def test_the_page_is_a_function_of_the_run_directory(run):
    first = write_run_report(run).read_bytes()
    assert write_run_report(run).read_bytes() == first


@pytest.mark.parametrize("missing", ["config.toml", "log.jsonl", "samples", "scores.json", "examples"])
def test_a_page_is_written_with_any_one_file_missing(run, missing):
    path = run / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = write_run_report(run).read_text()
    assert "Summary" in page
    assert ("has not been scored on test images yet" in page) == (missing == "scores.json")


def test_a_run_that_was_stopped_after_one_step_has_a_page(tmp_path):
    write_log(tmp_path, [{"step": 1, "epoch": 0.01, "seconds": 2.5, **LOSSES}])
    page = write_run_report(tmp_path).read_text()
    assert "Trained for 1 step in 2 seconds" in page
    assert "Cycle losses" in page
    assert "has not been scored on test images" in page


def test_damaged_files_are_reported_and_do_not_stop_the_page(run):
    with (run / "log.jsonl").open("a") as file:
        file.write('{"event": "scores", "step": 4000, "kid": null, "directions": {"a2b": {"kid": null}}}\n')
        file.write('[1]\n{"event": "warning"}\n{"step": 3050, "cyc')
    (run / "scores.json").write_text('{"a2b": {}}')
    (run / "config.toml").write_text("widht = 3\n")
    (run / "examples" / "a2b" / "0_output.png").write_bytes(b"no picture")
    (run / "samples" / "step_0000000.png").write_bytes(b"no picture")
    page = write_run_report(run).read_text()
    notice = re.search(r'<div class="notice".*?</div>', page)[0]
    assert "widht" in notice
    assert "scores.json cannot be read" in notice
    assert "best step by KID (EfficientNet-Lite0) on validation images is 2,000" in page


def test_a_loss_that_was_not_finite_is_shown_on_top(run):
    write_log(run, [*events(), {"event": "not finite", "step": 3010, "term": "cycle_a", "value": "nan"}])
    notice = re.search(r'<div class="notice".*?</div>', write_run_report(run).read_text())[0]
    assert "Step 3,010: cycle_a became nan." in notice


def test_text_from_files_is_never_markup(run):
    evil = "<script>alert(1)</script>&\"'$x$"
    lines = [*events(), {"event": "warning", "step": 9, "check": evil, "message": evil}]
    lines += [{"event": "session", "step": 0, "command": evil, "device": evil}]
    write_log(run, [*lines, {"event": "unreadable", "step": 9, "path": evil, "reason": evil}])
    record = json.loads((run / "examples" / "examples.json").read_text())
    for example in record["examples"]:
        example |= {"file": evil, "kind": evil, "score_name": evil}
    (run / "examples" / "examples.json").write_text(json.dumps({**record, "origin": evil}))
    (run / "config.toml").write_text(f'a = "{"<script>alert(1)</script>x"}"\nb = "maps"\n')
    page = write_run_report(run).read_text()
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") > 10


def test_the_page_refers_to_nothing_outside_itself(run):
    page = write_run_report(run).read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!["']?(data:|#))""", page)
    assert "url(" not in page.replace("url(#", "")
    assert "default-src 'none'" in page


def test_small_pictures_are_kept_without_loss_and_large_ones_are_made_smaller(tmp_path):
    page = write_run_report(make_run(tmp_path / "small")).read_text()
    exact = [picture.convert("RGB").getpixel((0, 0)) for kind, picture in pictures(page) if picture.size == (24, 20)]
    assert set(exact) == {colour for colours in COLOURS for colour in colours}
    assert "class=pixels" in page
    page = write_run_report(make_run(tmp_path / "large", size=(2000, 1000))).read_text()
    sizes = {picture.size for _, picture in pictures(page)}
    assert (512, 256) in sizes
    assert max(max(size) for size in sizes) <= 900
    assert len(page) < 1_000_000


def test_samples_are_shown_at_up_to_eight_steps_from_the_first_to_the_last(run):
    page = write_run_report(run).read_text()
    captions = re.findall(r"<figcaption>(Step [\d,]+)</figcaption>", page)
    assert len(captions) == 8
    assert (captions[0], captions[-1]) == ("Step 0", "Step 3,000")


def test_the_comparison_starts_with_a_usual_image_not_with_the_best(run):
    file = run / "examples" / "examples.json"
    file.write_text(file.read_text().replace('"kind": "worst"', '"kind": "typical"'))
    page = write_run_report(run).read_text()
    assert re.findall(r"<span>(best|typical)</span></button>", page)[:2] == ["typical", "best"]


# ---- parts of pages


def test_a_gallery_has_a_caption_under_each_row_and_a_table_its_small_lines(tmp_path):
    picture = Image.new("RGB", (8, 8))
    gallery = Gallery(["input", "output"], [[picture, picture], [picture, picture]], ["a.png", "b.png"])
    write_report(tmp_path / "x.html", "T", [Section("S", ["p"], [Table(["", "v"], [["n\nm", "1"]]), gallery, "c"])])
    page = (tmp_path / "x.html").read_text()
    assert re.search(r"a\.png.*<img.*<img.*b\.png", page, re.DOTALL)
    assert "<tr><td>n<small>m</small></td>" in page


def test_equal_charts_are_equal_bytes_and_names_are_not_read_as_formulas():
    chart = Chart("$a$ <b>", [Series("$x$", [1, 2], [3.0, 4.0]), Series("y", [1], [2.0])], {"_$f$": 1.0}, {"$best$": 2})
    drawn = part_html(chart)
    assert drawn == part_html(chart)
    assert "$a$ &lt;b&gt;" in drawn
    assert "_$f$" in drawn
    assert "currentColor" in drawn
    wide = part_html(Chart("log", [Series("x", [1, 2], [0.01, 100.0], low=[0.0, 90], high=[0.1, 110])], log=True))
    assert "mathdefault" not in wide
    assert ">0.1<" in wide


def test_a_long_curve_is_thinned_and_keeps_its_peaks():
    values = np.zeros(100_000)
    values[[12_345, 77_777]] = 9, -9
    kept = thin(values)
    assert len(kept) <= 500
    assert {0, 12_345, 77_777, 99_999} <= set(kept)
    assert list(thin(values[:500])) == list(range(500))
    steps = list(range(100_000))
    assert len(part_html(Chart("long", [Series("x", steps, list(values), smooth=True)]))) < 60_000


def test_a_running_mean_is_the_mean_of_the_neighbours():
    assert running_mean(np.array([1.0, 2.0, 6.0, 3.0]), 3).tolist() == [1.5, 3.0, 11 / 3, 4.5]


# ---- in a browser


@contextmanager
def browser():
    """Chromium without a network. Without one the test is skipped, or fails where it must not be."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path, sync_playwright = None, None
    if path is None:
        refuse = pytest.fail if os.environ.get("CYCLEGAN_REQUIRE_CHROMIUM") else pytest.skip
        refuse("needs Chromium and playwright: pip install playwright, and a chromium on the path")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=QUIET.split())
        yield chromium
        chromium.close()


def colour_at(element, share):
    """The colour that is seen at a share of an element's width, and near its bottom, where no label is."""
    shot = Image.open(io.BytesIO(element.screenshot())).convert("RGB")
    return shot.getpixel((int(share * (shot.width - 1)), int(0.9 * shot.height)))


def test_in_a_browser_the_page_shows_its_scores_and_compares_before_and_after(run):
    scores = json.loads((run / "scores.json").read_text())
    report = write_run_report(run)
    requests, errors = [], []
    with browser() as chromium:
        context = chromium.new_context(offline=True, viewport={"width": 1200, "height": 900})
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(report.as_uri())

        # A number of scores.json is in its place.
        row = page.locator("tr", has_text="KID, EfficientNet-Lite0 (less is better)").first
        shown = row.locator("td.number").first.inner_text().split("\n")
        kid = scores["directions"]["a2b"]["metrics"]["kid"]["value"]
        assert float(shown[0]) == pytest.approx(kid["value"], abs=5e-4)
        assert shown[1] == f"{kid['low']:.3f} to {kid['high']:.3f}"

        # The handle is moved by keyboard and by mouse, and what is seen changes.
        slider = page.locator(".slider").first
        pair = slider.locator(".pair:visible")
        compare, handle = pair.locator(".compare"), pair.locator("input[type=range]")
        (red, blue, green), (yellow, cyan, _) = COLOURS
        assert (colour_at(compare, 0.25), colour_at(compare, 0.75)) == (red, blue)
        handle.focus()
        page.keyboard.press("End")
        assert "inset(0px 0% 0px 0px)" in compare.locator(".before").evaluate("e => getComputedStyle(e).clipPath")
        assert colour_at(compare, 0.75) == red
        page.keyboard.press("Home")
        assert colour_at(compare, 0.25) == blue
        box = compare.bounding_box()
        page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2, steps=5)
        page.mouse.up()
        assert (colour_at(compare, 0.75), colour_at(compare, 0.9)) == (red, blue)
        assert abs(float(handle.input_value()) - 80) <= 1
        assert colour_at(pair.locator(".truth"), 0.5) == green

        # Another image; the handle stays where it was.
        assert "0.png" in pair.inner_text()
        slider.locator(".choices button").nth(1).click()
        pair = slider.locator(".pair:visible")
        assert pair.count() == 1
        assert "1.png" in pair.inner_text()
        compare = pair.locator(".compare")
        assert (colour_at(compare, 0.75), colour_at(compare, 0.9)) == (yellow, cyan)

        # Samples of other steps.
        frames = page.locator(".frames")
        assert frames.locator("figure:visible").inner_text() == "Step 3,000"
        frames.locator("input").focus()
        page.keyboard.press("Home")
        assert frames.locator("figure:visible").inner_text() == "Step 0"

        # Nothing is wider than a phone's screen.
        page.set_viewport_size({"width": 400, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 400

        # Without JavaScript all pictures are there.
        plain = chromium.new_context(java_script_enabled=False, offline=True).new_page()
        plain.goto(report.as_uri())
        assert plain.locator(".pair img:visible").count() == plain.locator(".pair img").count() == 12
        assert plain.locator(".frames img:visible").count() == 8
    assert requests
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert errors == []
