"""The studio's Translate page in a real browser: whole stories, from the drop to the file that is saved."""

import base64
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from conftest import TINY_MODEL, make_folder
from cyclegan import ModelConfig, Translator
from cyclegan.images.codecs import read_image, write_image
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import build_generator
from cyclegan.serving.settings import ServeSettings
from cyclegan.storage.model import ModelInfo, save_model
from cyclegan.studio.app import create_studio
from cyclegan.studio.models import Example, ModelFinder
from test_report import browser

DEEP = {"channels": 1, "dtype": "uint16", "low": 0, "high": 3000}
BANDS = {"channels": 5, "dtype": "float32", "low": 0, "high": 2.5}


def make_model(folder, seed=0, a=None, b=None):
    """A model folder with random weights, which is all that a translator needs."""
    a, b = ImageFormat(**(a or {})), ImageFormat(**(b or {}))
    config = ModelConfig(**TINY_MODEL, channels_a=a.channels, channels_b=b.channels)
    info = ModelInfo(
        cyclegan_version="0", model=config, a=a, b=b, preprocess="none", load_size=16, crop_size=16, step=0,
        translate_with="final", averages=False,
    )  # fmt: skip
    networks = {
        "a2b": build_generator(config, a.channels, b.channels, seed=seed),
        "b2a": build_generator(config, b.channels, a.channels, seed=seed + 100),
    }
    save_model(folder, info, {name: network.state_dict() for name, network in networks.items()})
    return folder


@contextmanager
def serving(app):
    """The address of an application that runs in this process."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of pictures, one of 16-bit images and bands, and a damaged one."""
    folder = tmp_path_factory.mktemp("models")
    make_model(folder / "zebra" / "first")
    make_model(folder / "zebra" / "second", seed=1)
    make_model(folder / "deep", a=DEEP, b=BANDS)
    make_model(folder / "broken")
    (folder / "broken" / "config.json").write_text('{"model": ')
    return folder


@pytest.fixture(scope="module")
def address(models):
    with serving(create_studio(models, ServeSettings(port=0))) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with browser() as chromium:
        yield chromium


@pytest.fixture
def page(chromium, address):
    """The page with the first model of pictures, and no error of its scripts."""
    with open_page(chromium, f"{address}/#translate/zebra--first") as page:
        yield page


@contextmanager
def open_page(chromium, url, **options):
    errors = []
    context = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.goto(url)
    page.get_by_role("group", name="Models").wait_for()
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def photos(tmp_path):
    return sorted(make_folder(tmp_path / "photos", 3, (40, 30)).iterdir())


def translated(page, count, failed=0):
    """Wait until all is done."""
    total = count + failed
    text = f"{count} of {total} translated" + (f", {failed} failed" if failed else "")
    page.get_by_text(text, exact=True).first.wait_for()


def saved(page, name):
    """The bytes of a download, whose button has this name, and the name of its file."""
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    return Path(download.value.path()).read_bytes(), download.value.suggested_filename


def expected(models, image, name="zebra/first", direction="a2b"):
    return np.asarray(Translator.load(models / name, direction=direction, device="cpu")(image))


def seen(page, view=0):
    """What is drawn on a view when a pixel of the image is one of the screen, and all of the view is the result."""
    frame = page.locator(".frame").nth(view)
    frame.focus()
    page.keyboard.press("1")
    page.get_by_label("Before and after").fill("0")
    page.wait_for_timeout(100)  # two frames
    data = frame.locator("canvas").evaluate("canvas => canvas.toDataURL('image/png')")
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGBA"))
    rows, columns = np.nonzero(drawn[..., 3])
    return drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1, :3]


# ---- the stories


def test_images_are_translated_shown_and_saved_with_the_translators_own_pixels(page, photos, models):
    page.set_input_files("#files", photos)
    translated(page, 3)
    for index, photo in enumerate(photos):
        page.get_by_role("option", name=photo.name).click()
        content, name = saved(page, f"Download {photo.name}")
        result = np.asarray(Image.open(io.BytesIO(content)))
        assert name == photo.name
        np.testing.assert_array_equal(result, expected(models, Image.open(photo)))
        if index == 0:
            np.testing.assert_array_equal(seen(page), result)


def test_a_drop_and_a_paste_are_translated_and_folders_leave_other_files_out(page, photos, models):
    drop = """(files) => {
        const transfer = new DataTransfer();
        for (const [name, text] of files) {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type: "image/png" }));
        }
        return transfer;
    }"""
    given = [[photo.name, base64.b64encode(photo.read_bytes()).decode()] for photo in photos]
    transfer = page.evaluate_handle(drop, given[:2])
    page.dispatch_event("main", "drop", {"dataTransfer": transfer})
    translated(page, 2)
    pasted = page.evaluate_handle(drop, given[2:])
    page.evaluate(
        "data => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))", pasted
    )
    translated(page, 3)
    page.get_by_role("button", name="Remove all").click()
    page.get_by_role("heading", name="Drop images or a folder here").wait_for()

    (photos[0].parent / "notes.txt").write_text("no image")
    page.set_input_files("#folder", photos[0].parent)
    translated(page, 3)
    page.get_by_text("1 file of the folder is not an image and was left out.").first.wait_for()
    content, name = saved(page, "Download all")
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert packed.testzip() is None
        assert sorted(packed.namelist()) == [f"photos/{photo.name}" for photo in photos]
        result = np.asarray(Image.open(io.BytesIO(packed.read(f"photos/{photos[1].name}"))))
    assert name == "translated.zip"
    np.testing.assert_array_equal(result, expected(models, Image.open(photos[1])))


def test_models_and_directions_are_beside_each_other_and_back_again(page, photos, models):
    page.set_input_files("#files", photos[0])
    page.get_by_role("checkbox", name="zebra/second").check()
    page.get_by_role("radio", name="Both").check()
    translated(page, 1)  # images are counted, not their translations
    labels = page.locator(".view .name").all_inner_texts()
    assert [label.split(photos[0].name)[0].strip() for label in labels] == [
        "zebra/first: A → B", "zebra/first: B → A", "zebra/second: A → B", "zebra/second: B → A",
    ]  # fmt: skip
    image = Image.open(photos[0])
    np.testing.assert_array_equal(seen(page, 3), expected(models, image, "zebra/second", "b2a"))

    # All views zoom in step.
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_timeout(100)
    insets = page.locator(".frame").evaluate_all(
        "frames => frames.map((frame) => frame.style.getPropertyValue('--left'))"
    )
    assert len(set(insets)) == 1

    page.get_by_role("checkbox", name="zebra/second").uncheck()
    page.get_by_role("radio", name="A → B").check()
    page.get_by_role("checkbox", name="And back again").check()
    translated(page, 1)
    content, _ = saved(page, f"Download {photos[0].stem}_zebra-first_A to B and back.png")
    forth = Image.fromarray(expected(models, image))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), expected(models, forth, direction="b2a"))
    content, _ = saved(page, "Download all")
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert packed.namelist() == [f"zebra-first/{way}/{photos[0].name}" for way in ("A to B", "A to B and back")]

    page.get_by_role("button", name="Side by side").click()
    assert page.locator(".view .name").all_inner_texts()[0].startswith("Original")
    assert page.locator(".view").count() == 3


def test_sixteen_bits_are_shown_with_window_and_level_and_bands_are_chosen(page, tmp_path, models):
    values = np.random.default_rng(0).integers(0, 3001, (24, 32, 1)).astype(np.uint16)
    write_image(tmp_path / "scan.tif", values)
    page.get_by_role("checkbox", name="deep").check()
    page.get_by_role("checkbox", name="zebra/first").uncheck()
    page.set_input_files("#files", tmp_path / "scan.tif")
    translated(page, 1)
    content, name = saved(page, "Download scan.tif")
    (tmp_path / "result.tif").write_bytes(content)
    result = read_image(tmp_path / "result.tif", 5)
    np.testing.assert_array_equal(result, expected(models, values, "deep"))
    assert (name, result.dtype) == ("scan.tif", np.float32)

    def windowed(band, low, high):
        return np.clip(np.rint((result[..., band].astype(np.float64) - low) * (255 / (high - low))), 0, 255)

    np.testing.assert_array_equal(seen(page)[..., 0], windowed(0, 0, 2.5))
    result_group = page.get_by_role("group", name="Brightness: result")
    result_group.get_by_label("Channels of Result").select_option("Channel 4")
    for label, value in (("Level", 1.5), ("Window", 1)):
        field = result_group.get_by_label(f"{label} of Result, as a number")
        field.fill(str(value))
        field.press("Enter")
    np.testing.assert_array_equal(seen(page)[..., 0], windowed(3, 1, 2))
    result_group.get_by_label("Channels of Result").select_option("1, 2, 3 as red, green, blue")
    np.testing.assert_array_equal(seen(page)[..., 1], windowed(1, 1, 2))

    # The other side of the slider is the scan, in a window of its own.
    page.get_by_role("group", name="Brightness: original").get_by_role("button", name="Fit to the image").click()
    level = page.get_by_label("Window of Original, as a number")
    low, high = np.quantile(values, [0.01, 0.99])
    assert float(level.input_value()) == pytest.approx(high - low, rel=0.05)


def test_a_wrong_file_gets_its_sentence_and_the_others_go_on(page, photos, tmp_path):
    (tmp_path / "broken.png").write_bytes(photos[0].read_bytes()[:60])
    (tmp_path / "notes.txt").write_text("no image")
    page.set_input_files("#files", [tmp_path / "broken.png", photos[0], tmp_path / "notes.txt"])
    translated(page, 1, failed=2)
    message = page.locator(".frame .problem")
    assert "cannot be read" in message.inner_text()
    page.get_by_role("button", name="Try again").click()
    translated(page, 1, failed=2)
    page.get_by_role("option", name="notes.txt").click()
    assert "not an image of a known type" in message.inner_text()
    assert "failed" in page.get_by_role("option", name="notes.txt").inner_text()
    assert page.get_by_role("option", name=photos[0].name).get_attribute("data-state") == "done"

    # A damaged model says why, among the models; one with damaged weights says it in the place of its result.
    page.locator("summary", has_text="broken").click()
    assert "config.json" in page.locator("details.broken p").inner_text()


def test_types_to_save_as(page, photos, models, tmp_path):
    page.set_input_files("#files", photos[0])
    image = expected(models, Image.open(photos[0]))
    for choice, suffix, exact in (
        ("JPEG, small", ".jpg", False),
        ("TIFF, exact", ".tif", True),
        (".npy for Python", ".npy", True),
    ):
        page.get_by_label("Save as").select_option(choice)
        translated(page, 1)
        content, name = saved(page, f"Download {photos[0].stem}{suffix}")
        (tmp_path / name).write_bytes(content)
        result = read_image(tmp_path / name, 3).astype(int)
        assert np.abs(result - image).max() <= (0 if exact else 90)
        shown = seen(page)
        assert shown.shape == image.shape  # TIFF and .npy come through the server's pixels
        if exact:
            np.testing.assert_array_equal(shown, image)
    page.get_by_label("Save as").select_option("JPEG, small")
    sizes = []
    for quality in (95, 10):
        page.get_by_label("Quality, 1 to 100").fill(str(quality))
        page.keyboard.press("Tab")
        translated(page, 1)
        sizes.append(len(saved(page, f"Download {photos[0].stem}.jpg")[0]))
    assert sizes[1] < sizes[0]


def test_types_that_cannot_hold_a_result_are_not_offered_and_lose_none(page, photos, tmp_path):
    write_image(tmp_path / "scan.tif", np.full((24, 32, 1), 1500, np.uint16))
    page.get_by_label("Save as").select_option("JPEG, small")
    page.get_by_role("checkbox", name="deep").check()
    page.get_by_text("16-bit grey, 5 bands of floating-point values").wait_for()
    page.get_by_text("JPEG cannot hold 5 bands of floating-point values.").wait_for()
    page.set_input_files("#files", photos[0])
    page.set_input_files("#files", tmp_path / "scan.tif")
    page.get_by_role("option", name="scan.tif").click()
    page.get_by_role("checkbox", name="zebra/first").uncheck()
    page.locator("[role=option][data-state=done]", has_text="scan.tif").wait_for()
    content, name = saved(page, "Download scan.tif")
    (tmp_path / name).write_bytes(content)
    assert read_image(tmp_path / name, 5).dtype == np.float32
    for value, is_offered in (("same", True), ("png", False), ("jpeg", False), ("tiff", True), ("npy", True)):
        assert page.locator(f"#type option[value={value}]").is_enabled() is is_offered, value
    page.get_by_label("Save as").select_option("TIFF, exact")
    page.get_by_text("JPEG cannot hold").wait_for(state="hidden")
    # A way back gives what the way forth takes.
    page.get_by_role("radio", name="B → A").check()
    page.get_by_label("Save as").select_option("PNG, exact")
    assert page.get_by_text("PNG cannot hold").count() == 0


def test_a_download_of_all_waits_and_one_after_a_stop_says_what_is_missing(page, photos):
    held = []
    page.route("**/*:translate*", lambda route: held.append(route) if len(held) < 1 else route.continue_())
    page.set_input_files("#files", photos)
    page.get_by_text("2 of 3 translated", exact=True).first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all").click()
        page.get_by_role("button", name="Waiting for 1 image").click()  # on second thoughts, not
        page.get_by_role("button", name="Download all").click()
        page.get_by_role("button", name="Waiting for 1 image").wait_for()
        held[0].continue_()
    assert len(zipfile.ZipFile(download.value.path()).namelist()) == 3

    held.clear()
    page.get_by_role("radio", name="B → A").check()
    page.get_by_text("2 of 3 translated", exact=True).first.wait_for()
    page.get_by_role("button", name="Stop").click()
    content, _ = saved(page, "Download all")
    assert len(zipfile.ZipFile(io.BytesIO(content)).namelist()) == 2
    page.get_by_text("2 of 3 images are complete in it; the rest is not translated.").first.wait_for()


def test_results_that_are_not_downloaded_are_not_lost_without_a_question(page, photos):
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.get_by_role("checkbox", name="And back again").check()  # browsers ask those only who have used the page
    page.get_by_role("checkbox", name="And back again").uncheck()
    page.reload()
    page.get_by_role("group", name="Models").wait_for()
    assert asked == []
    for is_saved in (False, True):
        page.set_input_files("#files", photos[0])
        translated(page, 1)
        page.get_by_role("button", name="Zoom in").click()
        if is_saved:
            saved(page, "Download all")
        page.reload()
        page.get_by_role("group", name="Models").wait_for()
        assert asked == ["beforeunload"]


def test_a_file_that_is_no_picture_has_no_broken_one_as_its_thumbnail(page, tmp_path):
    (tmp_path / "notes.jpg").write_text("no image")
    page.set_input_files("#files", tmp_path / "notes.jpg")
    translated(page, 0, failed=1)
    option = page.get_by_role("option", name="notes.jpg")
    option.locator(".kind", has_text="jpg").wait_for()
    assert option.locator("img").count() == 0


def test_everything_can_be_done_with_the_keyboard(page, photos):
    def tab_to(locator, key="Tab"):
        for _ in range(60):
            if locator.evaluate("element => element === document.activeElement"):
                return
            page.keyboard.press(key)
        pytest.fail(f"The keyboard does not reach {locator}.")

    tab_to(page.get_by_role("button", name="Choose images"))
    page.on("filechooser", lambda chooser: chooser.set_files(photos))  # from now on, as Chromium needs a moment for it
    page.wait_for_timeout(100)
    page.keyboard.press("Enter")
    translated(page, 3)
    handle = page.get_by_label("Before and after")
    tab_to(handle)
    page.keyboard.press("Home")
    assert handle.input_value() == "0"
    frame = page.locator(".frame")
    tab_to(frame)
    page.keyboard.press("ArrowRight")
    assert handle.input_value() == "2"
    page.keyboard.press("+")
    page.wait_for_timeout(100)
    before = frame.get_attribute("style")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert frame.get_attribute("style") == before  # the picture moves, the handle stays
    page.keyboard.press("0")
    images = page.get_by_role("listbox", name="Images")
    tab_to(images)
    page.keyboard.press("End")
    assert page.get_by_role("option", name=photos[2].name).get_attribute("aria-selected") == "true"
    page.keyboard.press("Delete")
    assert images.get_by_role("option").count() == 2
    tab_to(page.get_by_role("button", name="Download all"))
    with page.expect_download():
        page.keyboard.press("Enter")
    tab_to(page.get_by_role("checkbox", name="zebra/second"))
    page.keyboard.press("Space")
    page.locator(".view").nth(1).wait_for()
    translated(page, 2)


def test_fingers_zoom_move_and_drag_the_handle(chromium, address, photos):
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with open_page(chromium, f"{address}/#translate/zebra--first", **phone) as page:
        page.set_input_files("#files", photos[0])
        translated(page, 1)
        frame, scale, handle = page.locator(".frame"), page.locator(".scale"), page.get_by_label("Before and after")
        frame.scroll_into_view_if_needed()
        box, fingers = frame.bounding_box(), page.context.new_cdp_session(page)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        def touch(kind, *points):
            found = [{"x": x + dx, "y": y + dy, "id": index} for index, (dx, dy) in enumerate(points)]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": found})

        whole = int(scale.inner_text().split()[0])
        touch("touchStart", (-20, 0), (20, 0))
        for step in range(1, 6):
            touch("touchMove", (-20 - 8 * step, 0), (20 + 8 * step, 0))
        touch("touchEnd")
        page.wait_for_timeout(100)
        assert 2.5 < int(scale.inner_text().split()[0]) / whole < 3.5
        assert handle.input_value() == "50"
        page.get_by_role("button", name="Show all of the image").tap()
        touch("touchStart", (60, 40))
        touch("touchMove", (0, 40))
        touch("touchMove", (-60, 40))
        touch("touchEnd")
        assert 25 < float(handle.input_value()) < 40


def test_what_happens_is_said_to_a_screen_reader(page, photos):
    page.set_input_files("#files", photos)
    translated(page, 3)
    live = page.locator("#live")
    live.get_by_text("3 of 3 translated.").wait_for()
    assert live.get_attribute("aria-live") == "polite"
    page.get_by_role("listbox", name="Images").press("Delete")
    live.get_by_text("1 image removed.").wait_for()


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_nothing_serious(chromium, address, photos, tmp_path, look):
    from axe_playwright_python.sync_playwright import Axe

    write_image(tmp_path / "scan.tif", np.zeros((20, 20, 1), np.uint16))
    (tmp_path / "notes.txt").write_text("no image")
    size = {"width": 360, "height": 700} if look == "phone" else {"width": 1200, "height": 900}
    scheme = "dark" if look == "dark" else "light"
    with open_page(chromium, f"{address}/#translate/zebra--first", viewport=size, color_scheme=scheme) as page:
        assert_accessible(page, Axe())
        page.set_input_files("#files", [*photos, tmp_path / "scan.tif", tmp_path / "notes.txt"])
        page.get_by_role("radio", name="Both").check()
        page.get_by_role("checkbox", name="deep").check()
        page.get_by_role("option", name="scan.tif").click()
        page.get_by_role("group", name="Brightness: result").wait_for()
        page.get_by_text(re.compile(r"^\d+ of 5 translated, \d+ failed$")).first.wait_for()
        page.locator("summary", has_text="broken").click()
        assert_accessible(page, Axe())
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def assert_accessible(page, axe):
    found = axe.run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in serious] == []


def test_stopping_keeps_what_is_there_and_going_on_does_the_rest(page, photos):
    held = []

    def hold(route):
        if route.request.post_data_buffer == photos[0].read_bytes():
            route.continue_()
        else:
            held.append(route)

    page.route("**/*:translate*", hold)
    page.set_input_files("#files", photos)
    page.get_by_text("1 of 3 translated", exact=True).first.wait_for()
    page.get_by_role("button", name="Stop").click()
    assert page.get_by_role("button", name="Download all").is_enabled()
    page.unroute("**/*:translate*")
    page.get_by_role("button", name="Go on").click()
    translated(page, 3)

    # A server that is busy is asked again; one that is gone is a sentence, and nothing is lost.
    answers = [503]

    def busy(route):
        if answers:
            route.fulfill(status=answers.pop(), headers={"Retry-After": "1"}, json={"detail": "The server is busy."})
        else:
            route.continue_()

    page.route("**/*:translate*", busy)
    page.get_by_role("radio", name="B → A").check()
    translated(page, 3)
    page.unroute("**/*:translate*")
    page.route("**/*:translate*", lambda route: route.abort())
    page.get_by_role("radio", name="Both").check()
    page.get_by_role("checkbox", name="zebra/second").check()
    page.get_by_text("The studio does not answer.").wait_for()
    page.unroute("**/*:translate*")
    page.get_by_role("button", name="Go on").click()
    page.locator(".view").nth(3).wait_for()
    translated(page, 3)


def test_the_camera_gives_a_picture(chromium, address):
    with open_page(chromium, f"{address}/#translate/zebra--first", permissions=["camera"]) as page:
        page.evaluate("""() => { navigator.mediaDevices.getUserMedia = async () => {
            const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
            canvas.getContext("2d").fillRect(0, 0, 64, 48);
            return canvas.captureStream(10);
        } }""")
        page.get_by_role("button", name="Use the camera").first.click()
        page.get_by_role("button", name="Take the picture").click()
        translated(page, 1)
        assert page.get_by_role("option", name=re.compile("camera_")).count() == 1


def test_new_models_appear_and_an_example_fills_an_empty_folder(chromium, tmp_path, models):
    examples = {"Earth": Example(models / "zebra" / "first", {"a": "photo", "b": "map"})}
    app = create_studio(tmp_path, ServeSettings(port=0), examples=examples)
    with serving(app) as address, open_page(chromium, address) as page:
        page.get_by_label("photo → map").wait_for()
        assert [model["is_example"] for model in httpx.get(f"{address}/api/models").json()["models"]] == [True]
        make_model(tmp_path / "mine" / "first run")
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        page.get_by_label("mine/first run").wait_for()
        assert page.get_by_label("Earth").count() == 0


def test_a_run_that_goes_on_offers_its_newer_model(chromium, tmp_path, photos):
    model = make_model(tmp_path / "runs" / "mine")
    app = create_studio(tmp_path / "runs", ServeSettings(port=0))
    with serving(app) as address, open_page(chromium, address) as page:
        page.set_input_files("#files", photos[0])
        translated(page, 1)
        before, _ = saved(page, f"Download {photos[0].name}")
        shutil.rmtree(model)
        make_model(model, seed=1)
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        page.get_by_role("button", name="Translate again with the newer mine").click()
        translated(page, 1)
        content, _ = saved(page, f"Download {photos[0].name}")
        again = np.asarray(Image.open(io.BytesIO(content)))
    assert content != before
    np.testing.assert_array_equal(again, expected(tmp_path, Image.open(photos[0]), "runs/mine"))


# ---- without a browser


def test_models_are_named_by_their_path_and_damaged_ones_say_why(models, tmp_path):
    found = {model.name: model for model in ModelFinder(models).find()}
    assert sorted(found) == ["broken", "deep", "zebra--first", "zebra--second"]
    assert "config.json" in found["broken"].problem
    assert found["deep"].formats["a2b"][1].channels == 5
    (one,) = ModelFinder(models / "deep").find()
    assert (one.name, one.title) == ("deep", "deep")
    for name in ("a b", "a_b"):
        make_model(tmp_path / name)
    assert [model.name for model in ModelFinder(tmp_path).find()] == ["a_b", "a_b-2"]


def test_the_best_checkpoint_and_a_run_that_has_only_checkpoints_are_found(deep_run):
    run = Path(deep_run)
    titles = [model.title for model in ModelFinder(run.parent).find()]
    assert "run" in titles


def test_pixels_of_large_images_are_made_smaller(address, tmp_path):
    write_image(tmp_path / "large.tif", np.full((40, 60, 1), 1234, np.uint16))
    response = httpx.post(
        f"{address}/api/pixels/deep/a2b/source?side=30", content=(tmp_path / "large.tif").read_bytes()
    )
    values = np.load(io.BytesIO(response.content))
    assert (response.headers["Cyclegan-Size"], values.shape, values.dtype) == ("60x40", (20, 30, 1), np.uint16)
    assert (values == 1234).all()
    for path in ("deep/a2b/source", "none/a2b/source"):
        answer = httpx.post(f"{address}/api/pixels/{path}", content=b"no image")
        assert answer.status_code in (404, 415)
        assert answer.json()["detail"].endswith(".")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_a_name_that_is_no_text_keeps_no_model_from_being_listed(tmp_path):
    make_model(tmp_path / os.fsdecode(b"caf\xe9"))
    with serving(create_studio(tmp_path, ServeSettings(port=0))) as address:
        (model,) = httpx.get(f"{address}/api/models").json()["models"]
        assert (model["name"], model["title"]) == ("caf_", "caf?")


def test_damaged_weights_are_a_sentence(tmp_path):
    model = make_model(tmp_path / "mine")
    (model / "a2b.safetensors").write_bytes(b"no tensors")
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    with serving(create_studio(tmp_path, ServeSettings(port=0))) as address:
        answer = httpx.post(f"{address}/v1/models/mine/a2b:translate", content=buffer.getvalue(), timeout=30)
    assert answer.status_code == 422
    assert "a2b.safetensors" in answer.json()["detail"]


def test_a_token_opens_the_page_once_it_is_given(chromium, models):
    from axe_playwright_python.sync_playwright import Axe

    with serving(create_studio(models, ServeSettings(port=0, token="open-sesame"))) as address:
        assert httpx.get(f"{address}/api/models").status_code == 401
        page = chromium.new_context().new_page()
        assert page.goto(address).status == 401
        page.get_by_label("This studio asks for the token").fill("open-sesame")
        page.keyboard.press("Enter")
        page.get_by_role("group", name="Models").wait_for()
        assert "sesame" not in page.url
        page.context.clear_cookies()
        page.goto(address)
        page.get_by_label("This studio asks for the token").fill("open-barley")
        assert page.get_by_text("That is not the token.").count() == 0
        page.keyboard.press("Enter")
        page.get_by_text("That is not the token.").wait_for()
        assert_accessible(page, Axe())
        assert page.locator(".card").evaluate("card => getComputedStyle(card).borderRadius") == "10px"
        assert page.reload().status == 401
        assert page.get_by_text("That is not the token.").count() == 0
        page.context.close()


def test_answers_before_the_token_are_as_guarded_as_others(models):
    with serving(create_studio(models, ServeSettings(port=0, token="open-sesame"))) as address:
        for path in (
            "/",
            "/?token=%E2%82%AC%E2%82%AC%E2%82%AC%E2%82%AC%E2%82%AC%E2%82%AC%E2%82%AC%E2%82%AC",
            "/?token=x",
        ):
            answer = httpx.get(f"{address}{path}")
            assert answer.status_code == 401
            assert "asks for the token" in answer.text
            assert answer.headers["x-content-type-options"] == "nosniff"
        given = httpx.get(f"{address}/?token=open-sesame")
        assert given.status_code == 303
        assert given.headers["referrer-policy"] == "no-referrer"
        assert "HttpOnly" in given.headers["set-cookie"]
        assert httpx.get(f"{address}/", cookies=dict(given.cookies)).status_code == 200
        for path in ("/", "/?token=open-sesame"):
            answer = httpx.get(f"{address}{path}", headers={"Host": "evil.example"})
            assert answer.status_code == 400
            assert "set-cookie" not in answer.headers


def test_pages_are_installed_and_allow_nothing_from_elsewhere(address):
    for name in ("", "app.js", "translate.js", "studio.css", "icon.svg"):
        answer = httpx.get(f"{address}/{name}")
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert not re.search(r"https?://(?!www\.w3\.org)", answer.text)
    refused = httpx.get(f"{address}/api/models", headers={"Host": "evil.example"})
    assert refused.status_code == 400


# ---- the command


@contextmanager
def command(*arguments):
    """`cyclegan studio` in a process: its address, and what it says before."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "cyclegan", "studio", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_the_command_prints_its_address_and_takes_the_next_port(models):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8001))
            taken.listen()
        except OSError:
            pass  # another program has it, which is as good
        with command(models, "--no-open", "--device", "cpu") as process:
            address = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:80\d\d", address)
            assert not address.endswith(":8001")
            names = [model["name"] for model in httpx.get(f"{address}/api/models").json()["models"]]
            assert names == ["deep", "zebra--first", "zebra--second"]
        assert process.returncode == 0


@pytest.mark.skipif(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, reason="started by nohup")
def test_the_studio_ends_with_its_terminal(models):
    with command(models, "--no-open", "--port", "0", "--device", "cpu") as process:
        address = process.stdout.readline().strip()
        assert httpx.get(address).status_code == 200
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere does not exist; expected a folder with runs, or a run."),
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets other computers in"),
        (["--port", "70000"], "--port is 70000"),
    ],
)
def test_wrong_arguments_are_one_sentence(tmp_path, monkeypatch, capsys, arguments, said):
    from cyclegan.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CYCLEGAN_TOKEN", raising=False)
    with pytest.raises(SystemExit) as stop:
        main(["studio", *arguments])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_a_given_port_that_is_in_use_is_one_sentence(models, capsys):
    from cyclegan.cli import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as stop:
            main(["studio", str(models), "--no-open", "--port", str(port)])
    assert stop.value.code == 2
    assert f"port {port}" in capsys.readouterr().err
