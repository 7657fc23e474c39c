"""A few hundred files, good and broken, through the reader and through every command.

No traceback, no value that is silently wrong, no file that is silently left out, and no file that ends the work on the
others. `corpus.py` makes the files and says what is in them.
"""

import json
import os
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import make_folder
from corpus import COLOURS, corpus
from cyclegan import Translator
from cyclegan.cli import main
from cyclegan.errors import CycleganError
from cyclegan.images.codecs import probe_image, read_as, read_raster
from cyclegan.images.file_formats import file_format_of, image_suffixes
from cyclegan.images.formats import ImageFormat, gives_channels
from cyclegan.images.headers import image_size, read_header
from cyclegan.images.regions import Box
from cyclegan.metrics.efficientnet import EfficientNetLite0
from cyclegan.metrics.thin_resnet import ThinResNet50
from cyclegan.translate.folder import translate_folder

GOOD = [entry for entry in corpus() if entry.is_good]
BAD = [entry for entry in corpus() if entry.kind in ("broken", "odd", "pages")]


def format_of(entry, channels=None):
    """What a model takes that was trained on such files."""
    return ImageFormat(channels=channels or entry.values.shape[2], dtype=entry.values.dtype.name, low=0, high=1)


def written(entry, folder):
    if entry.suffix not in image_suffixes() and entry.suffix not in (".dib", ".sgi", ".dds", ".qoi", ".pcx", ".j2k"):
        pytest.skip(f"{entry.suffix} is not in the table of formats")
    return entry.write(folder)


def assert_close(found, expected, tolerance, where=None):
    """Equal shape, type, and values up to the tolerance, in the pixels that count."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    if where is not None:
        difference = difference[where]
    assert difference.max(initial=0) <= tolerance


@pytest.mark.parametrize("entry", GOOD, ids=lambda entry: entry.label)
def test_a_good_file_is_read_as_it_was_made(entry, tmp_path):
    path = written(entry, tmp_path)
    raster = read_raster(path, format_of(entry))
    assert_close(raster.values, entry.values, entry.tolerance, entry.valid)
    if entry.alpha is None:
        assert raster.alpha is None
    else:
        assert_close(raster.alpha, entry.alpha, entry.tolerance if entry.values.dtype == np.uint8 else 0)
    if entry.valid is None:
        assert raster.valid is None
    else:
        assert np.array_equal(raster.valid, entry.valid)
    assert np.isfinite(raster.values.astype(np.float64)).all()
    assert np.array_equal(read_as(path, format_of(entry)), raster.values)
    about = raster.metadata
    if entry.profile is not None:
        assert about.profile == entry.profile
    if entry.resolution is not None:
        assert about.resolution == pytest.approx(entry.resolution, rel=0.01)
    if entry.description is not None:
        assert about.description == entry.description
    if entry.nodata is not None:
        assert about.nodata == pytest.approx(entry.nodata, nan_ok=True)
    if entry.transform is not None:
        assert {tag[0] for tag in about.tags} >= {34735}


@pytest.mark.parametrize("entry", GOOD, ids=lambda entry: entry.label)
def test_a_header_says_what_the_file_holds(entry, tmp_path):
    path = written(entry, tmp_path)
    header = probe_image(path)
    assert (header.height, header.width, header.dtype) == (*entry.values.shape[:2], entry.values.dtype.name)
    assert gives_channels(header.channels, header.has_alpha, entry.values.shape[2])
    assert read_header(os.fspath(path)) == header
    assert sorted(image_size(path)) == sorted(entry.values.shape[:2])


@pytest.mark.parametrize("entry", GOOD, ids=lambda entry: entry.label)
def test_regions_of_a_file_are_those_of_the_whole(entry, tmp_path):
    path = written(entry, tmp_path)
    source = file_format_of(path).regions.open(path, format_of(entry))
    if source is None:
        pytest.skip("is read as a whole")
    whole = read_raster(path, format_of(entry))
    height, width = entry.values.shape[:2]
    try:
        for box in (
            Box(0, height, 0, width),
            Box(0, -(-height // 2), width // 3, width),
            Box(height // 2, height, 0, 1),
        ):
            part = source.read(box)
            inner = np.s_[box.top : box.bottom, box.left : box.right]
            assert np.array_equal(part, whole.values[inner])
    finally:
        source.close()


@pytest.mark.parametrize(
    "entry", [entry for entry in GOOD if entry.values.dtype == np.uint8], ids=lambda entry: entry.label
)
def test_a_picture_becomes_grey_or_coloured(entry, tmp_path):
    path, channels = written(entry, tmp_path), entry.values.shape[2]
    if channels not in (1, 3) or probe_image(path).channels is not None:
        pytest.skip("is no picture, but bands")
    raster = read_raster(path, format_of(entry, 4 - channels))
    expected = entry.values.astype(np.float64)
    expected = expected.repeat(3, -1) if channels == 1 else (expected @ [0.299, 0.587, 0.114])[..., None]
    assert_close(raster.values, np.rint(expected).astype(np.uint8), entry.tolerance + COLOURS, entry.valid)
    assert (raster.alpha is None) == (entry.alpha is None)


@pytest.mark.parametrize("entry", BAD, ids=lambda entry: entry.label)
def test_a_bad_file_is_refused_in_one_sentence(entry, tmp_path):
    path = written(entry, tmp_path)
    started = time.process_time()
    for channels, dtype in ((3, "uint8"), (1, "uint16"), (1, "float32")):
        image_format = ImageFormat(channels=channels, dtype=dtype, low=0, high=1)
        for use in (
            lambda: read_raster(path, image_format),  # noqa: B023
            lambda: probe_image(path),
            lambda: read_header(os.fspath(path)),
            lambda: read_regions(path, image_format),  # noqa: B023
        ):
            try:
                found = use()
            except CycleganError as error:
                message = str(error)
                assert message.strip()
                assert "\n" not in message
                assert len(message) < 500 + 3 * len(str(path)), message
            else:
                assert entry.kind != "broken" or not hasattr(found, "values"), "a broken file was read"
    assert time.process_time() - started < 5


def read_regions(path, image_format):
    source = file_format_of(path).regions.open(path, image_format)
    if source is not None:
        try:
            source.read(Box(0, min(source.height, 500), 0, min(source.width, 500)))
        finally:
            source.close()


# ---- commands

SETTINGS = {"preset": "paper", "steps": 2, "width": 4, "blocks": 1, "discriminator-layers": 1, "discriminator-width": 4}
SETTINGS |= {"crop-size": 16, "load-size": 18, "device": "cpu", "num-samples": 0, "num-validation": 0}
FLAGS = ["--no-tensorboard", *(word for name, value in SETTINGS.items() for word in (f"--{name}", value))]


@pytest.fixture
def quick_features(monkeypatch):
    """Features that cost nothing: what is tested is which files are scored."""
    monkeypatch.setattr(EfficientNetLite0, "__init__", lambda *_: None)
    monkeypatch.setattr(
        EfficientNetLite0, "__call__", lambda _, images: torch.cat([images.mean((2, 3))] * 427, 1)[:, :1280]
    )
    monkeypatch.setattr(ThinResNet50, "__init__", lambda *_: None)
    monkeypatch.setattr(ThinResNet50, "__call__", lambda _, images: torch.cat([images.mean((2, 3))] * 171, 1)[:, :512])


def family_of(entry):
    """Channels and type of a model for such files, also damaged ones; None for what never was an image of one."""
    entry = entry.origin or entry
    if entry.values is None:
        return None
    channels, dtype = entry.values.shape[2], entry.values.dtype.name
    is_picture = dtype == "uint8" and channels in (1, 3) and entry.suffix != ".npy"
    return (3, "uint8") if is_picture else (channels, dtype)


FAMILIES = sorted({family_of(entry) for entry in GOOD if entry.suffix in image_suffixes()})


def run(capsys, *command):
    """Exit code and all that the command shows, without line breaks. An error that is not ours ends the test."""
    try:
        main([str(word) for word in command])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert "Traceback" not in text
    return code, " ".join(text.split())


def check_commands(capsys, root, entries, family):
    """A folder of these files through train, inspect, translate and evaluate."""
    channels, dtype = family
    folder, names = root / "a", {}
    folder.mkdir()
    for entry in entries:
        names[entry.write(folder)] = entry
    good = {path for path, entry in names.items() if entry.is_good}
    never = {path for path, entry in names.items() if entry.kind == "left out"}
    counted = {path for path in names if path.suffix.lower() in image_suffixes()} - never
    good &= counted
    pair = ["--channels-a", str(channels), "--channels-b", "3"] if dtype != "uint8" or channels != 3 else []
    make_folder(root / "b", 3)

    code, text = run(capsys, "train", folder, root / "b", "--out", root / "run", *pair, *FLAGS)
    assert code == 0, text
    events = [json.loads(line) for line in (root / "run" / "log.jsonl").read_text().splitlines()]
    unread = {event["path"] for event in events if event.get("event") == "unreadable"}
    wrong = {path.name for path in good if str(path) in unread}
    assert not wrong

    code, text = run(capsys, "inspect", folder, root / "b", "--out", root / "page.html")
    assert code == 0, text
    assert (root / "page.html").is_file()

    translator = Translator.load(root / "run", device="cpu")
    for tile in (None, 32):
        out = root / f"out{tile}"
        code, text = run(
            capsys, "translate", root / "run", folder, "--out", out, "--tile", tile or "none", "--device", "cpu"
        )
        result = translate_folder(translator, folder, root / f"again{tile}", tile=tile)
        done, skipped = {source for source, _ in result.written}, dict(result.skipped)
        assert good <= done, (tile, {path.name: skipped.get(path) for path in good - done})
        assert done | set(skipped) == counted
        assert not done & set(skipped)
        assert not {path for path in done if names[path].kind == "broken"}
        assert all("\n" not in reason for reason in skipped.values())
        assert code == (1 if skipped else 0), text
        if skipped:
            assert f"{len(skipped)} of {len(counted)} in all" in text or text.count("Left out:") >= len(skipped)
        for source, target in result.written:
            twin = out / target.relative_to(root / f"again{tile}")
            header = probe_image(twin)
            if names[source].is_good:
                assert (header.height, header.width) == names[source].values.shape[:2]
        assert len([path for path in out.rglob("*") if path.is_file()]) == len(done)

    code, text = run(
        capsys, "evaluate", root / "run", "--a", folder, "--b", root / "b", "--direction", "a2b", "--device", "cpu"
    )
    assert code == 0, text
    scores = json.loads((root / "run" / "scores.json").read_text())
    assert scores["directions"]["a2b"]["num_images"] >= len(good) if "num_images" in scores else True
    assert re.search(r"cannot be read|could not be read|left out", text, re.I) or not counted - good


def entries_for(family, share_of_good, share_of_others):
    """The good files of a family, and of others those that are damaged ones of the family or never were images.

    A folder of which most cannot be used is an error, so there are copies of the good ones.
    """
    good = [entry for entry in GOOD if family_of(entry) == family and entry.suffix in image_suffixes()][::share_of_good]
    others = [entry for entry in corpus() if not entry.is_good and family_of(entry) in (family, None)]
    others = others[::share_of_others]
    num_copies = -(-(len(others) + 2) // len(good)) - 1
    short = [entry for entry in good if len(os.fsencode(entry.text)) < 100]
    copies = [replace(entry, name=f"copy-{n}-{entry.text}") for n in range(num_copies) for entry in short]
    return good + others + copies


@pytest.mark.parametrize("family", [(3, "uint8"), (1, "uint16")], ids=str)
def test_a_part_of_the_corpus_goes_through_every_command(family, tmp_path, capsys, quick_features):  # noqa: ARG001
    check_commands(capsys, tmp_path, entries_for(family, 6, 6), family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_the_corpus_goes_through_every_command(family, tmp_path, capsys, quick_features):  # noqa: ARG001
    num_good = sum(family_of(entry) == family for entry in GOOD)
    check_commands(capsys, tmp_path, entries_for(family, 1, 1 if num_good > 9 else 9), family)
