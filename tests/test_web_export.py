"""The page of `cyclegan export --format web`: in Chromium it translates as the Translator does."""

import base64
import functools
import hashlib
import http.server
import io
import json
import re
import shlex
import shutil
import tarfile
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from conftest import TINY_MODEL, make_folder
from cyclegan import DownloadError, InputError, ModelConfig, Translator, cli
from cyclegan.export import WebOptions, export_model, web_runtime
from cyclegan.export.web_runtime import FILES, read_runtime
from test_download import Server, serve, status
from test_engines import MODELS, make_model
from test_report import QUIET, browser

ROOT = Path(__file__).parent.parent

# Of two arrays of levels that differ by rounding alone.
ONE_LEVEL = 0.999

KINDS = {
    # As the preset `modern`: it computes in tiles.
    "local": ModelConfig(**TINY_MODEL, norm="layer", resampling="smooth", global_skip=True),
    "whole": MODELS["resnet"],
    "grey": MODELS["one channel"],
    "sprites": ModelConfig(**TINY_MODEL, norm="layer", channels_a=4, channels_b=4),
}


# ---- the runtime, without a network


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """A registry on this machine that has a small package of that name, and an empty cache."""
    files = {name: f"the file {name}".encode() for name in FILES}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in {**files, "other.mjs": b"of no use"}.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    tarball = packed.getvalue()
    monkeypatch.setattr(web_runtime, "FILES", {name: hashlib.sha256(files[name]).hexdigest() for name in files})
    monkeypatch.setattr(web_runtime, "_NUM_BYTES", len(tarball))
    monkeypatch.setattr(web_runtime, "_SHA256", hashlib.sha256(tarball).hexdigest())
    monkeypatch.setattr(web_runtime, "_SHA512", base64.b64encode(hashlib.sha512(tarball).digest()).decode())
    monkeypatch.setattr("cyclegan.datasets.fetching.time.sleep", lambda _: None)
    for name in ("http_proxy", "HTTP_PROXY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = Server()
    server.tarball, server.files, server.script = tarball, files, [serve(tarball)]
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{server.url}/npm/")
    yield server
    server.stop()


def test_the_runtime_is_downloaded_once_and_checked(registry, tmp_path):
    assert read_runtime() == registry.files
    assert [asked[0] for asked in registry.asked] == ["/npm/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz"]
    (cache,) = (tmp_path / "cache" / "cyclegan").iterdir()  # and nothing unfinished beside it
    assert {path.name for path in cache.iterdir()} == set(FILES)
    assert read_runtime() == registry.files
    assert len(registry.asked) == 1
    (cache / "ort.wasm.min.mjs").write_text("damaged")
    assert read_runtime() == registry.files
    assert len(registry.asked) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(404), "answers 404 Not Found"),
        (status(503), "answers 503 Service Unavailable"),
        (serve(b"\x1f\x8b" + bytes(100)), "has 102 bytes, but the known file has"),
        (lambda request: serve(bytes(request.server.size))(request), "has the SHA-256"),
    ],
)
def test_a_runtime_that_cannot_be_downloaded_is_one_sentence_with_a_remedy(registry, answer, reason, tmp_path):
    registry.http.size = len(registry.tarball)
    registry.script = [answer]
    with pytest.raises(DownloadError) as caught:
        read_runtime()
    message = str(caught.value)
    assert reason in message
    assert "--runtime" in message
    assert "--mirror" not in message
    assert not (tmp_path / "cache" / "cyclegan" / "onnxruntime-web-1.30.0").exists()


def test_the_runtime_comes_from_a_folder_or_a_tarball(registry, tmp_path):
    registry.script = [status(500)]
    tarball = tmp_path / "package.tgz"
    tarball.write_bytes(registry.tarball)
    assert read_runtime(tarball) == registry.files
    dist = tmp_path / "project" / "node_modules" / "onnxruntime-web" / "dist"
    dist.mkdir(parents=True)
    for name, content in registry.files.items():
        (dist / name).write_bytes(content)
    for place in (dist, dist.parent, tmp_path / "project"):
        assert read_runtime(place) == registry.files
    (dist / "ort.webgpu.min.mjs").unlink()
    with pytest.raises(InputError, match=r"ort\.webgpu\.min\.mjs is not that of onnxruntime-web 1\.30\.0; give"):
        read_runtime(dist)
    tarball.write_bytes(registry.tarball[:-1] + b"x")
    for place, words in ((tarball, "is not onnxruntime-web-1.30.0.tgz"), (tmp_path, "holds no ort.wasm.min.mjs")):
        with pytest.raises(InputError, match=words):
            read_runtime(place)
    with pytest.raises(InputError, match="There is no .*nowhere; expected a folder with"):
        read_runtime(tmp_path / "nowhere")
    assert registry.asked == []


@pytest.mark.usefixtures("registry")
def test_an_address_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "somewhere")
    with pytest.raises(InputError, match="NPM_CONFIG_REGISTRY is 'somewhere'; expected an address such as https://"):
        read_runtime()


# ---- the export


@pytest.fixture
def stand_in(monkeypatch):
    """An export without the runtime, for tests that open no page."""
    monkeypatch.setattr("cyclegan.export.web_format.read_runtime", lambda _: {"ort.wasm.min.mjs": b""})


@pytest.mark.usefixtures("stand_in")
def test_half_the_weights_are_stored_and_the_folder_translates_in_python_too(tmp_path, capsys):
    config = KINDS["local"].replace(width=16, blocks=2)
    model = make_model(tmp_path / "model", config)
    arguments = ["export", str(model), "--format", "web", "--direction", "a2b"]
    cli.main([*arguments, "--out", str(tmp_path / "site"), "--words", "photo", "map", "--credits", "Photos: mine, CC0"])
    shown = capsys.readouterr()
    assert str(tmp_path / "site" / "index.html") in shown.out.splitlines()
    assert "python3 -m http.server --directory" in shown.err
    site = json.loads((tmp_path / "site" / "site.json").read_text())
    assert (site["title"], site["a"], site["b"], site["credits"]) == (
        "Photo to map",
        "photo",
        "map",
        "Photos: mine, CC0",
    )
    cli.main([*arguments, "--out", str(tmp_path / "full"), "--precision", "fp32"])
    sizes = [(tmp_path / name / "a2b.onnx").stat().st_size for name in ("site", "full")]
    assert 0.45 < sizes[0] / sizes[1] < 0.6
    check = json.loads((tmp_path / "site" / "config.json").read_text())["networks"]["a2b"]["check"]
    assert check["decibels"] > 60
    picture = picture_of(40, 30)
    exact, half = (np.asarray(Translator.load(tmp_path / name)(picture), int) for name in ("model", "site"))
    assert np.abs(exact - half).max() <= 2


@pytest.mark.usefixtures("stand_in")
def test_what_a_browser_cannot_show_is_refused(deep_run, tmp_path):
    for arguments, words in (
        ({"path": deep_run}, "Domain A is 1 x uint16 .*, and a browser shows 8-bit grey, RGB and RGBA; export with"),
        ({"precision": "bf16"}, "--format web does not go with --precision bf16: browsers compute in fp32"),
        ({"web": WebOptions(examples=tmp_path / "no")}, "There is no folder .*; expected images for --examples"),
        ({"format": "onnx", "web": WebOptions()}, "web is .*; expected WebOptions, for format web"),
        ({"out": tmp_path}, "exists and is not empty"),
    ):
        model = make_model(tmp_path / "model") if not (tmp_path / "model").exists() else tmp_path / "model"
        given = {"path": model, "out": tmp_path / "site", "format": "web", **arguments}
        with pytest.raises(InputError, match=words):
            export_model(**given)
    assert not (tmp_path / "site").exists()
    for words in ("photo", ["photo"], ["a", "b\n"], [1, 2]):
        with pytest.raises(InputError, match="expected two names, of domains A and B"):
            WebOptions(words=words)
    with pytest.raises(InputError, match="title is .*; expected at most 300 characters on one line"):
        WebOptions(title="x" * 301)


def test_a_flag_of_the_page_is_refused_for_other_formats(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["export", "run", "--format", "onnx", "--out", str(tmp_path / "x"), "--title", "Photos"])
    assert "--title is for --format web, and --format is onnx; leave it out." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--title", "\x1b[31mred"], "title is "),
        (["--title", " "], "title is ' '; expected at most 300 characters"),
        (["--credits", "x" * 5000], "credits is "),
        (["--words", "a", "two\nlines"], "words is "),
        (["--words", "a", ""], "words is "),
        (["--examples", "nowhere"], "There is no folder nowhere; expected images for --examples."),
        (["--examples", "photo.png"], "There is no folder photo.png; expected images for --examples."),
        (["--examples", "pictures"], "pictures holds images of one domain, and two directions were asked for"),
        (["--runtime", "nowhere"], "There is no nowhere; expected a folder with onnxruntime-web 1.30.0"),
        (["--runtime", "photo.png"], "photo.png is not onnxruntime-web-1.30.0.tgz of the npm registry"),
        (
            ["--runtime", "pictures"],
            "pictures holds no ort.wasm.min.mjs; expected the folder of onnxruntime-web 1.30.0",
        ),
    ],
)
def test_odd_values_of_the_flags_of_the_page_are_one_sentence(tmp_path, monkeypatch, capsys, flags, words):
    make_model(tmp_path / "model")
    make_folder(tmp_path / "pictures", 2)
    picture_of(9, 9).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["export", "model", "--format", "web", "--out", "site", *flags])
    message = capsys.readouterr().err.strip()
    assert words in message
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 1000
    assert not (tmp_path / "site").exists()


@pytest.mark.usefixtures("stand_in")
def test_examples_of_the_page_are_pictures_of_the_input_domain(tmp_path):
    model = make_model(tmp_path / "model", KINDS["grey"])
    for index, name in enumerate(("testA", "testB")):
        make_folder(tmp_path / "data" / name, 9, seed=index)
    export_model(model, tmp_path / "site", format="web", web=WebOptions(examples=tmp_path / "data"))
    site = json.loads((tmp_path / "site" / "site.json").read_text())
    assert site["directions"]["b2a"]["examples"] == [f"examples/b2a-{number}.png" for number in range(1, 5)]
    modes = {name: Image.open(tmp_path / "site" / f"examples/{name}-1.png").mode for name in ("a2b", "b2a")}
    assert modes == {"a2b": "L", "b2a": "RGB"}


# ---- in Chromium


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """onnxruntime-web in the user's cache; without it and without a registry the tests of the page are skipped."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "onnxruntime-web.lock"):
        try:
            read_runtime()
        except DownloadError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def sites(runtime, tmp_path_factory):  # noqa: ARG001
    """Makes the model of a kind, and its page in a precision, once."""
    root = tmp_path_factory.mktemp("sites")

    @functools.cache
    def make(kind, precision="fp32"):
        model, site = root / kind, root / f"{kind}-{precision}"
        if not model.exists():
            make_model(model, KINDS[kind])
        export_model(model, site, format="web", precision=precision, web=WebOptions(words=("photo", "map")))
        return model, site

    return make


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


class Static(http.server.SimpleHTTPRequestHandler):
    """Any static server. isolated: with the headers that allow threads."""

    isolated = False

    def end_headers(self):
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def opened(chromium, site, *, isolated=False, query="", errors=(), script="", **options):
    """The page of a site, served on this machine. errors: what may be said in the console, as regular expressions."""
    handler = type("Handler", (Static,), {"isolated": isolated})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(site)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    said, requests = [], []
    try:
        context = chromium.new_context(viewport={"width": 1100, "height": 900}, **options)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        context.on("request", lambda request: requests.append(request.url))
        if script:
            page.add_init_script(script)
        page.goto(f"{address}/index.html{query}")
        page.locator("#app:not([hidden])").wait_for()
        yield page
        assert [text for text in said if not any(re.search(pattern, text) for pattern in errors)] == []
        assert all(url.startswith((address, "blob:")) for url in requests), requests
        context.close()
    finally:
        server.shutdown()
        server.server_close()


def picture_of(width, height, mode="RGB", seed=3):
    """Coarse and fine structure."""
    rng = np.random.default_rng(seed)
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    coarse = rng.integers(0, 256, (5, 5, channels), np.uint8).squeeze()
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), int)
    return Image.fromarray((smooth + rng.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8))


def finish(page):
    """Wait for the result, and return what is said of it."""
    page.locator("#result:not([hidden]), #problem:not([hidden])").wait_for()
    assert page.locator("#problem").is_hidden(), page.locator("#problem").inner_text()
    return page.locator("#facts").inner_text()


def translated(page, picture, folder, name="photo.png", **options):
    """The downloaded translation, and what the page says of it."""
    path = folder / name
    picture.save(path, **options)
    page.set_input_files("#file", path)
    facts = finish(page)
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == f"{path.stem}_a2b.png"
    return Image.open(download.value.path()), facts


def check_equal(found, expected, *, within=ONE_LEVEL):
    assert (found.size, found.mode) == (expected.size, expected.mode)
    difference = np.abs(np.asarray(found, int) - np.asarray(expected, int))
    assert (difference <= 1).mean() >= within, (difference.max(), (difference <= 1).mean())


def psnr(found, expected):
    error = np.square(np.asarray(found, float) - np.asarray(expected, float)).mean()
    return 10 * np.log10(255**2 / max(error, 1e-9))


SIZES = [(37, 51), (5, 7), (64, 64), (1, 1)]


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("kind", ["local", "whole"])
def test_the_page_translates_as_the_translator_does(chromium, sites, tmp_path, kind, isolated):
    model, site = sites(kind)
    translator = Translator.load(model)
    with opened(chromium, site, isolated=isolated) as page:
        assert page.evaluate("crossOriginIsolated") == isolated
        # An instance norm of equal pixels is their rounding, enlarged.
        for size in SIZES if kind == "local" else SIZES[:-1]:
            picture = picture_of(*size)
            found, facts = translated(page, picture, tmp_path)
            check_equal(found, translator(picture))
            assert facts.startswith(f"{size[0]} × {size[1]} pixels in ")
            assert ("on 1 thread." in facts) == (not isolated or page.evaluate("navigator.hardwareConcurrency") == 1)


def test_weights_of_half_the_size_stay_within_40_db(chromium, sites, tmp_path):
    model, site = sites("local", "fp16")
    picture = picture_of(123, 77)
    with opened(chromium, site) as page:
        found, _ = translated(page, picture, tmp_path)
    assert psnr(found, Translator.load(model)(picture)) > 50


def test_a_large_picture_is_translated_in_tiles_without_seams(chromium, sites, tmp_path):
    model, site = sites("local")
    picture = picture_of(2000, 1501)
    with opened(chromium, site) as page:
        page.evaluate(
            "window.seen = []; new MutationObserver(() => seen.push($('detail').textContent))"
            ".observe($('detail'), {childList: true}); function $(id) { return document.getElementById(id); }"
        )
        found, _ = translated(page, picture, tmp_path)
        details = page.evaluate("seen")
    for part in range(1, 7):
        assert any(re.fullmatch(rf"Translating part {part} of 6(, about \d+ s left)?", text) for text in details), (
            details
        )
    check_equal(found, Translator.load(model)(picture))


def test_tiles_are_cut_as_in_python_also_with_little_memory(chromium, sites, tmp_path):
    model, site = sites("local")
    small = copy_with(site, tmp_path / "site", bytes_per_pixel=2.7e9 / 150**2)
    picture = picture_of(333, 207)
    with opened(chromium, small) as page:
        found, facts = translated(page, picture, tmp_path)
    assert "Shrunk" not in facts
    expected = Translator.load(model)(picture)
    check_equal(found, expected)
    # With less around them, tiles show.
    with opened(chromium, copy_with(small, tmp_path / "near", reach=4)) as page:
        found, _ = translated(page, picture, tmp_path)
    assert psnr(found, expected) < 45


def copy_with(site, target, **changes):
    """A copy of a site whose first direction is described in another way."""
    shutil.copytree(site, target)
    described = json.loads((target / "site.json").read_text())
    described["directions"]["a2b"].update(changes)
    (target / "site.json").write_text(json.dumps(described))
    return target


def test_a_model_of_whole_pictures_shrinks_what_does_not_fit(chromium, sites, tmp_path):
    _, site = sites("whole")
    small = copy_with(site, tmp_path / "site", bytes_per_pixel=2.7e9 / 10_000)
    with opened(chromium, small) as page:
        found, facts = translated(page, picture_of(400, 100), tmp_path)
        assert found.size == (200, 50)
        assert "Shrunk from 400 × 100 pixels, because this model needs the whole picture in memory at once." in facts
        page.select_option("#size", "256")  # asked for, and less than the limit allows
        assert "Shrunk from 400" in finish(page)


def test_a_size_can_be_chosen(chromium, sites, tmp_path):
    _, site = sites("local")
    with opened(chromium, site) as page:
        page.select_option("#size", "256")
        found, facts = translated(page, picture_of(600, 311), tmp_path)
    assert found.size == (256, 133)
    assert "Shrunk" not in facts


def test_pictures_are_upright(chromium, sites, tmp_path):
    model, site = sites("local")
    picture = picture_of(48, 32)
    exif = Image.Exif()
    exif[0x0112] = 6
    with opened(chromium, site) as page:
        found, _ = translated(page, picture, tmp_path, exif=exif)
    check_equal(found, Translator.load(model)(picture.transpose(Image.Transpose.ROTATE_270)))


def test_transparency_is_carried_over(chromium, sites, tmp_path):
    model, site = sites("local")
    picture = picture_of(60, 44, "RGBA")
    alpha = np.full((44, 60), 255, np.uint8)
    alpha[:, :20], alpha[10:30, 30:40] = 0, 128
    picture.putalpha(Image.fromarray(alpha))
    with opened(chromium, site) as page:
        found, _ = translated(page, picture, tmp_path)
    expected = Translator.load(model)(picture)
    assert found.mode == expected.mode == "RGBA"
    assert np.array_equal(np.asarray(found)[..., 3], alpha)
    # A browser without WebGL rounds colours below half transparency.
    seen = alpha > 0
    difference = np.abs(np.asarray(found, int) - np.asarray(expected, int))[seen]
    assert difference.max() <= 3
    assert (difference <= 1).mean() > 0.97


@pytest.mark.parametrize(("kind", "mode"), [("grey", "RGB"), ("grey", "L"), ("sprites", "RGBA"), ("sprites", "RGB")])
def test_models_of_one_and_of_four_channels(chromium, sites, tmp_path, kind, mode):
    model, site = sites(kind)
    picture = picture_of(41, 30, mode)
    if mode == "RGBA":
        picture.putalpha(255)
    with opened(chromium, site) as page:
        found, _ = translated(page, picture, tmp_path)
    check_equal(found, Translator.load(model)(picture))


def test_the_other_direction_and_a_picture_after_a_bad_file(chromium, sites, tmp_path):
    model, site = sites("grey")
    picture = picture_of(30, 30)
    (tmp_path / "bad.png").write_text("no picture")
    with opened(chromium, site) as page:
        page.set_input_files("#file", tmp_path / "bad.png")
        problem = page.locator("#problem:not([hidden])")
        problem.wait_for()
        assert problem.inner_text() == ("This browser cannot open bad.png; choose a picture in JPEG, PNG or WebP.")
        picture.save(tmp_path / "photo.png")
        page.set_input_files("#file", tmp_path / "photo.png")
        finish(page)
        page.get_by_text("map → photo").click()
        page.locator("#download[download=photo_b2a\\.png]").wait_for()
        with page.expect_download() as download:
            page.click("#download")
        check_equal(Image.open(download.value.path()), Translator.load(model, direction="b2a")(picture))


def damage_test_picture(site):
    (site / "a2b.test.bin").write_bytes(bytes((site / "a2b.test.bin").stat().st_size))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda site: (site / "a2b.onnx").unlink(), "a2b.onnx could not be loaded (the server answers 404); try again"),
        (lambda site: (site / "a2b.onnx").write_bytes(b"x"), "a2b.onnx is damaged or of another export; upload"),
        (damage_test_picture, "This browser computes the model wrong, or a file of this page is damaged"),
        (lambda site: shutil.rmtree(site / "ort"), "The folder ort of this page could not be loaded"),
        (lambda site: (site / "site.json").unlink(), "The file site.json of this page could not be loaded"),
    ],
)
def test_a_damaged_site_says_so_in_one_sentence(chromium, sites, tmp_path, damage, words):
    _, site = sites("local")
    shutil.copytree(site, tmp_path / "site")
    damage(tmp_path / "site")
    picture_of(20, 20).save(tmp_path / "photo.png")
    with opened(chromium, tmp_path / "site", errors=["404"]) as page:
        if page.locator("#problem").is_hidden():
            page.set_input_files("#file", tmp_path / "photo.png")
        problem = page.locator("#problem:not([hidden])")
        problem.wait_for()
        assert problem.inner_text().startswith(words)
        assert page.locator("#status").inner_text() == ""


def test_a_picture_beyond_the_memory_can_be_shrunk(chromium, sites, tmp_path):
    _, site = sites("local")
    shutil.copytree(site, tmp_path / "site")
    worker = tmp_path / "site" / "worker.js"
    start = "async function forward(values, size) {"
    fails = f"{start} if (size[3] > 300) throw new RangeError('Array buffer allocation failed');"
    worker.write_text(worker.read_text().replace(start, fails))
    picture_of(600, 300).save(tmp_path / "photo.png")
    with opened(chromium, tmp_path / "site") as page:
        page.set_input_files("#file", tmp_path / "photo.png")
        problem = page.locator("#problem:not([hidden])")
        problem.wait_for()
        assert problem.inner_text() == "The picture needs more memory than this browser has; choose a smaller size."
        page.select_option("#size", "256")
        assert finish(page).startswith("256 × 128 pixels in ")


def test_a_picture_that_takes_long_is_begun_after_a_question(chromium, sites, tmp_path):
    model, site = sites("local")
    shutil.copytree(site, tmp_path / "site")
    for name, old, new in (
        ("worker.js", "ASK_PIXELS = 50e6", "ASK_PIXELS = 0.05e6"),
        ("worker.js", "let remaining = ", "let remaining = 3589 + "),
    ):
        script = tmp_path / "site" / name
        assert old in script.read_text()
        script.write_text(script.read_text().replace(old, new))
    picture = picture_of(300, 200)
    picture.save(tmp_path / "photo.png")
    asked, answers = [], [False, True]

    def answer(dialog):
        asked.append(dialog.message)
        (dialog.accept if answers.pop(0) else dialog.dismiss)()

    log = "new MutationObserver(() => (window.said += detail.textContent)).observe(detail, { childList: true })"
    with opened(chromium, tmp_path / "site") as page:
        page.on("dialog", answer)
        page.evaluate(f"window.said = ''; {log}")
        page.set_input_files("#file", tmp_path / "photo.png")
        page.locator("#status", has_text="Cancelled").wait_for(state="attached")
        assert page.locator("#working").is_hidden()
        assert page.locator("#result").is_hidden()
        found, _ = translated(page, picture, tmp_path)
        assert "Translating, about 60 minutes left" in page.evaluate("window.said")
    assert len(asked) == 2
    assert all("million pixels, and its translation may take very long" in each for each in asked)
    check_equal(found, Translator.load(model)(picture))


def test_a_browser_without_simd_is_named_a_remedy(chromium, sites):
    _, site = sites("local")
    with opened(chromium, site, script="WebAssembly.validate = () => false") as page:
        assert page.locator("#problem").inner_text() == (
            "This browser has no WebAssembly SIMD, which the translation needs; use a current Chrome, Edge, Firefox or "
            "Safari."
        )


def test_a_page_opened_as_a_file_says_what_it_needs(chromium, sites):
    _, site = sites("local")
    page = chromium.new_context().new_page()
    page.goto((site / "index.html").as_uri())
    notice = page.locator("#not-started")
    page.wait_for_timeout(4500)
    assert notice.is_visible()
    assert "python3 -m http.server" in notice.inner_text()
    page.context.close()


def test_a_translation_can_be_cancelled_while_the_page_stays_alive(chromium, sites, tmp_path):
    model, site = sites("local")
    picture_of(4000, 3000).save(tmp_path / "large.png")
    with opened(chromium, site) as page:
        page.set_input_files("#file", tmp_path / "large.png")
        page.locator("#detail", has_text="Translating").wait_for()
        page.click("#cancel")
        assert page.locator("#working").is_hidden()
        assert page.locator("#status").inner_text() == "Cancelled"
        assert page.evaluate("document.activeElement.id") == "choose"
        picture = picture_of(33, 20)
        found, _ = translated(page, picture, tmp_path)
    check_equal(found, Translator.load(model)(picture))


def test_drop_slider_and_keyboard(chromium, sites):
    _, site = sites("local")
    content = io.BytesIO()
    picture_of(200, 120).save(content, "JPEG")
    with opened(chromium, site) as page:
        data = page.evaluate_handle(
            "data => { const transfer = new DataTransfer(); const bytes = Uint8Array.from(atob(data), (c) => "
            "c.charCodeAt(0)); transfer.items.add(new File([bytes], 'drop.jpg')); return transfer; }",
            base64.b64encode(content.getvalue()).decode(),
        )
        page.dispatch_event("#drop", "drop", {"dataTransfer": data})
        finish(page)
        assert page.locator("#status").inner_text().startswith("Done: 200 × 120 pixels in ")
        assert page.locator("#download").get_attribute("download") == "drop_a2b.png"
        before = page.locator("#before")
        page.locator("#slider").focus()
        page.keyboard.press("End")
        assert "inset(0px 0% 0px 0px)" in before.evaluate("e => getComputedStyle(e).clipPath")
        page.keyboard.press("Home")
        assert "inset(0px 100% 0px 0px)" in before.evaluate("e => getComputedStyle(e).clipPath")
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(chromium, sites, tmp_path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    _, site = sites("local")
    (tmp_path / "bad.png").write_text("no picture")
    with opened(chromium, site, color_scheme=scheme) as page:
        translated(page, picture_of(300, 200), tmp_path)
        found = [axe.run(page).response["violations"]]
        page.set_input_files("#file", tmp_path / "bad.png")
        page.locator("#problem:not([hidden])").wait_for()
        found.append(axe.run(page).response["violations"])
    assert [(each["id"], each["nodes"]) for violations in found for each in violations] == []


@contextmanager
def launched(chromium, *flags):
    """Another Chromium, with flags of its own."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    other = chromium.browser_type.launch(
        executable_path=path, args=[*QUIET.replace("--disable-gpu", "").split(), *flags]
    )
    try:
        yield other
    finally:
        other.close()


def test_a_picture_from_the_camera(chromium, sites):
    _, site = sites("local")
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with launched(chromium, *flags) as other, opened(other, site) as page:
        page.select_option("#size", "256")
        page.click("#camera")
        while not page.evaluate("document.getElementById('video').videoWidth"):
            page.wait_for_timeout(50)
        page.click("#shoot")
        finish(page)
        assert page.locator("#download").get_attribute("download") == "camera_a2b.png"
        assert page.locator("#camera-dialog").is_hidden()
        assert page.evaluate("document.getElementById('video').srcObject === null")
    refusing = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error())"
    with opened(chromium, site, script=refusing) as page:
        page.click("#camera")
        assert "The camera cannot be used; allow it" in page.locator("#problem:not([hidden])").inner_text()


@pytest.mark.slow  # a processor imitates the card
def test_a_graphics_card_is_used_only_if_it_gives_the_stored_result(chromium, sites, tmp_path):
    model, site = sites("local", "fp16")
    picture, expected = picture_of(61, 40), Translator.load(model)(picture_of(61, 40))
    flags = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
    flags += ("--ignore-gpu-blocklist",)
    with launched(chromium, *flags) as other:
        with opened(other, site, query="?device=webgpu", errors=[""]) as page:
            if not page.evaluate("navigator.gpu?.requestAdapter().then(Boolean)"):
                pytest.skip("this Chromium has no WebGPU, not even in software")
            found, facts = translated(page, picture, tmp_path)
            assert "on the graphics card." in facts
            assert psnr(found, expected) > 50
        # A processor that imitates one is slower than WebAssembly.
        with opened(other, site, errors=[""]) as page:
            found, facts = translated(page, picture, tmp_path)
            assert "on 1 thread." in facts
        # Its result is another than the stored one: as if the card was wrong, and nothing else.
        shutil.copytree(site, tmp_path / "site")
        worker = tmp_path / "site" / "worker.js"
        script = worker.read_text()
        right = "const found = await forward(values, [1, input.channels, side, side]);"
        assert script.count(right) == 1
        wrong = right + " if (opened.provider === 'webgpu') found.fill(0);"
        worker.write_text(script.replace(right, wrong))
        with opened(other, tmp_path / "site", query="?device=webgpu", errors=[""]) as page:
            found, facts = translated(page, picture, tmp_path)
            assert "on 1 thread." in facts
            assert psnr(found, expected) > 50


# ---- the site of the installed earth model


@pytest.mark.usefixtures("runtime")
def test_the_earth_site_of_the_makefile_translates_a_photo_as_the_translator_does(chromium, tmp_path, monkeypatch):
    recipe = re.search(r"^earth-site:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    commands = [shlex.split(line) for line in recipe.replace("\\\n", " ").splitlines() if "$(BIN)/cyclegan" in line]
    assert len(commands) == 2
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    for words in commands:
        cli.main(words[1:])
    site = Path("build/earth-site")
    photo = next(Path("build/earth-data/testA").iterdir())
    with opened(chromium, site) as page:
        assert page.locator("#title").inner_text() == "Satellite photo and map"
        assert "public domain" in page.locator("#credits").inner_text()
        found, _ = translated(page, Image.open(photo), tmp_path)
        expected = Translator.load("src/cyclegan/demo/earth")(Image.open(photo))
        assert psnr(found, expected) > 50
        check_equal(found, expected)
        page.locator(".examples button").nth(1).click()
        page.locator("#download[download=a2b-2_a2b\\.png]").wait_for()
        finish(page)
