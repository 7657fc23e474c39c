"""Files in tiles: the same result as without, a stop at any moment, errors before any work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, train, translate_folder
from cyclegan.cli import main
from cyclegan.errors import UnreadableError
from cyclegan.images.codecs import read_image, write_image
from cyclegan.images.file_list import FileList
from cyclegan.images.filetypes.tiff_regions import TiffReader
from cyclegan.images.formats import ImageFormat
from cyclegan.images.headers import image_size
from cyclegan.images.regions import Box
from cyclegan.translate import folder, large_files
from cyclegan.translate.large_files import find_large, translate_large
from cyclegan.translate.partial_result import PartialResult
from cyclegan.translate.plan import TranslationPlan
from cyclegan.translate.results import ResultMaker
from cyclegan.translate.tiling.budget import tiled_bytes
from cyclegan.translate.tiling.network import TilingPlan, TilingState


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    a, b = make_folder(root / "a"), make_folder(root / "b", seed=1)
    return train(a, b, out=root / "run", preset="paper", quiet=True, **{**TINY, "steps": 3, "blocks": 2})


def pixels(height=90, width=130, channels=3, dtype=np.uint8, high=255):
    """Smooth noise that gets brighter from corner to corner."""
    coarse = np.random.default_rng(0).random((6, 8, channels), np.float32)
    planes = [np.asarray(Image.fromarray(plane).resize((width, height))) for plane in np.moveaxis(coarse, -1, 0)]
    ramp = np.linspace(0, 1, height)[:, None, None] * np.linspace(0, 1, width)[None, :, None]
    return ((np.stack(planes, -1) + ramp) / 2 * high).clip(0, high).astype(dtype)


@pytest.fixture
def tiff(tmp_path):
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, pixels(), tile=(32, 32), compression="deflate", photometric="rgb")
    return path


def assert_same(one, other):
    """But for ties, which may round otherwise."""
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    assert np.abs(one.astype(float) - other).max() <= 1
    assert (one != other).mean() < 0.01


# ---- the result


def test_a_tiff_in_tiles_equals_the_whole_translation(run, tiff, tmp_path):
    translator = Translator.load(run)
    translate_large(translator, tiff, tmp_path / "out.tif", tile=32)
    assert_same(tifffile.imread(tmp_path / "out.tif"), translator(pixels()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "out.tif"]


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_networks_of_every_norm_write_tiffs(tiff, tmp_path, norm):
    a, b = make_folder(tmp_path / "a"), make_folder(tmp_path / "b", seed=1)
    settings = {**TINY, "steps": 1, "norm": norm}
    translator = Translator.load(train(a, b, out=tmp_path / "run", preset="paper", quiet=True, **settings))
    translate_large(translator, tiff, tmp_path / "out.tif", tile=64)
    assert_same(tifffile.imread(tmp_path / "out.tif"), translator(pixels()))


def test_the_result_is_a_tiled_bigtiff_that_others_read_and_lies_where_the_input_lies(run, tmp_path):
    place = [(33550, "d", 3, (0.1, 0.1, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 10.0, 50.0, 0.0), True)]
    place += [(34735, "H", 8, (1, 1, 0, 1, 1024, 0, 1, 2), True), (34737, "s", 0, "WGS 84|", True)]
    tifffile.imwrite(tmp_path / "in.tif", pixels(), photometric="rgb", extratags=place, rowsperstrip=7)
    translate_large(Translator.load(run), tmp_path / "in.tif", tmp_path / "out.tif", tile=64)
    with tifffile.TiffFile(tmp_path / "out.tif") as file, tifffile.TiffFile(tmp_path / "in.tif") as source:
        page = file.pages[0]
        assert (file.is_bigtiff, page.is_tiled, page.tilewidth) == (True, True, 64)
        assert [page.tags[code].value for code, *_ in place] == [source.pages[0].tags[code].value for code, *_ in place]
        values = page.asarray()
    assert np.array_equal(read_image(tmp_path / "out.tif", 3), values)
    with Image.open(tmp_path / "out.tif") as picture:
        assert np.array_equal(np.asarray(picture), values)


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_deep_images_of_any_channels_go_from_tiff_to_tiff(deep_run, tmp_path, direction):
    translator = Translator.load(deep_run, direction=direction)
    array = pixels(70, 50, 1, np.uint16, 3000) if direction == "a2b" else pixels(70, 50, 5, np.float32, 2.5)
    write_image(tmp_path / "in.tif", array)
    translate_large(translator, tmp_path / "in.tif", tmp_path / "out.tif", tile=32)
    result, expected = read_image(tmp_path / "out.tif", translator.target.channels), translator(array)
    assert result.dtype == expected.dtype
    limit = 1 if expected.dtype == np.uint16 else 1e-3
    assert np.abs(result.astype(float) - expected).max() <= limit


@pytest.mark.parametrize("name", ["in.png", "in.jpg", "in.npy", "palette.tif", "grey.tif", "alpha.tif"])
def test_files_that_are_no_plain_tiff_are_decoded_first(run, tmp_path, name):
    picture = Image.fromarray(pixels())
    if name == "in.npy":
        np.save(tmp_path / name, pixels())
    else:
        modes = {"palette.tif": "P", "grey.tif": "L", "alpha.tif": "RGBA"}
        picture.convert(modes.get(name, "RGB")).save(tmp_path / name)
    translator = Translator.load(run)
    suffix = ".png" if name == "in.png" else ".tif"
    translate_large(translator, tmp_path / name, tmp_path / f"out{suffix}", tile=48)
    assert_same(read_image(tmp_path / f"out{suffix}", 3), translator(read_image(tmp_path / name, 3)))


def test_a_picture_beyond_the_limit_of_pillow_is_taken(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.fromarray(pixels()).save(tmp_path / "in.png")
    assert image_size(tmp_path / "in.png") == (90, 130)
    translate_large(Translator.load(run), tmp_path / "in.png", tmp_path / "out.png", tile=64)
    assert image_size(tmp_path / "out.png") == (90, 130)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("kind", ["crops", "reduced"])
def test_approximate_statistics_of_a_picture_that_is_small_enough_are_exact(run, tiff, tmp_path, kind, monkeypatch):
    translator = Translator.load(run)
    translate_large(translator, tiff, tmp_path / "out.tif", tile=32, statistics=kind)
    assert_same(tifffile.imread(tmp_path / "out.tif"), translator(pixels()))
    monkeypatch.setattr("cyclegan.translate.tiling.pictures.SAMPLE_PIXELS", 48)
    monkeypatch.setattr("cyclegan.translate.tiling.pictures.CROP_PIXELS", 16)
    translate_large(translator, tiff, tmp_path / "near.tif", tile=32, statistics=kind)
    difference = np.abs(tifffile.imread(tmp_path / "near.tif").astype(int) - translator(pixels()))
    assert 0 < difference.mean() < 20


# ---- regions


@pytest.mark.parametrize(
    "settings",
    [
        *({"tile": (16, 32)}, {"tile": (32, 16), "compression": "deflate", "predictor": True}, {"rowsperstrip": 5}),
        *({"tile": (16, 16), "planarconfig": "separate"}, {"rowsperstrip": 9, "compression": "lzw"}, {}),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_regions_are_those_of_the_whole_file(tmp_path, settings, dtype):
    array = pixels(61, 83, dtype=dtype)
    planar = settings.get("planarconfig") == "separate"
    tifffile.imwrite(tmp_path / "x.tif", np.moveaxis(array, -1, 0) if planar else array, photometric="rgb", **settings)
    source = TiffReader.open(tmp_path / "x.tif", ImageFormat(dtype=np.dtype(dtype).name))
    for box in (Box(0, 61, 0, 83), Box(10, 11, 82, 83), Box(15, 33, 31, 64)):
        assert np.array_equal(source.read(box), array[box.top : box.bottom, box.left : box.right])
    source.close()


def test_infinity_is_refused_by_name(tmp_path):
    array = pixels(dtype=np.float32, high=1)
    array[5, 7] = np.inf
    tifffile.imwrite(tmp_path / "x.tif", array, tile=(16, 16), photometric="rgb")
    source = TiffReader.open(tmp_path / "x.tif", ImageFormat(dtype="float32"))
    with pytest.raises(InputError, match="x.tif holds 3 values that are NaN or infinite"):
        source.read(Box(0, 16, 0, 16))
    source.close()


def damage(path, how):
    """Break a tiled TIFF: the bytes of a tile, the end, or all behind the first bytes."""
    with tifffile.TiffFile(path) as file:
        begins, counts = file.pages[0].dataoffsets, file.pages[0].databytecounts
    whole = path.read_bytes()
    broken = whole[: begins[7]] + b"\xff" * counts[7] + whole[begins[7] + counts[7] :]
    path.write_bytes({"tile": broken, "end": whole[: begins[7] + 9], "pages": whole[:8]}[how])


@pytest.mark.parametrize(
    ("how", "compression"),
    [(how, kind) for how in ("tile", "end", "pages") for kind in ("deflate", "lzw")] + [("end", None)],
)
def test_a_damaged_tiff_is_unreadable(tmp_path, how, compression):
    tifffile.imwrite(tmp_path / "x.tif", pixels(), tile=(32, 32), photometric="rgb", compression=compression)
    damage(tmp_path / "x.tif", how)
    with pytest.raises(UnreadableError, match="x.tif is damaged: "):
        TiffReader.open(tmp_path / "x.tif", ImageFormat()).read(Box(0, 90, 0, 130))


@pytest.mark.parametrize("how", ["tile", "end", "pages"])
def test_the_command_leaves_out_a_damaged_file_and_goes_on(run, tiff, tmp_path, how, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        (tmp_path / "in" / name).write_bytes(tiff.read_bytes())
    damage(tmp_path / "in" / "a.tif", how)
    with pytest.raises(SystemExit) as stopped:
        main(["translate", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--tile", "32"])
    assert stopped.value.code == 1
    told = capsys.readouterr()
    assert f"Left out: {tmp_path / 'in' / 'a.tif'} is damaged: " in told.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.tif"]


# ---- stops


class Stop(Exception):
    pass


def stopping_at(moment):
    def told(what, _share):
        if what.startswith(moment):
            raise Stop

    return told


@pytest.mark.parametrize("kind", ["exact", "crops"])
@pytest.mark.parametrize("moment", ["statistics, pass 5", "row 1 ", "row 2 ", "writing"])
def test_the_same_call_goes_on_and_gives_the_same_bits(run, tiff, tmp_path, moment, kind):
    translator = Translator.load(run)
    settings = {"tile": 32, "statistics": kind, "save_seconds": 0}
    translate_large(translator, tiff, tmp_path / "whole.tif", **settings)
    if not (kind == "crops" and moment.startswith("statistics")):
        with pytest.raises(Stop):
            translate_large(translator, tiff, tmp_path / "out.tif", on_progress=stopping_at(moment), **settings)
        assert not (tmp_path / "out.tif").exists()
        assert (tmp_path / ".out.tif.partial").is_dir()
    heard = []
    listen = {"on_progress": lambda what, _: heard.append(what), **settings}
    result = translate_large(translator, tiff, tmp_path / "out.tif", **listen)
    assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    if moment.startswith("row"):
        done = int(moment.split()[1])
        assert result.notes == [f"out.tif: {done} of 3 rows of tiles were done before."]
        assert not any(what.startswith("statistics") for what in heard)
        assert f"row {done} of 3" not in heard
    assert not (tmp_path / ".out.tif.partial").exists()


def test_parts_that_a_stop_left_half_written_are_redone(run, tiff, tmp_path):
    translator = Translator.load(run)
    translate_large(translator, tiff, tmp_path / "whole.tif", tile=32)
    with pytest.raises(Stop):
        translate_large(translator, tiff, tmp_path / "out.tif", tile=32, on_progress=stopping_at("row 2"))
    folder = tmp_path / ".out.tif.partial"
    with (folder / "tiles.bin").open("ab") as file:
        file.write(b"half a tile")
    lines = (folder / "rows.jsonl").read_text()
    (folder / "rows.jsonl").write_text(lines[:-4])
    translate_large(translator, tiff, tmp_path / "out.tif", tile=32)
    assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_a_partial_result_of_other_settings_starts_over_with_a_message(run, tiff, tmp_path):
    translator = Translator.load(run)
    with pytest.raises(Stop):
        translate_large(translator, tiff, tmp_path / "out.tif", tile=32, on_progress=stopping_at("row 1"))
    result = translate_large(Translator.load(run, direction="b2a"), tiff, tmp_path / "out.tif", tile=32)
    assert len(result.notes) == 1
    assert "another input, model or setting; it starts over" in result.notes[0]
    translate_large(Translator.load(run, direction="b2a"), tiff, tmp_path / "whole.tif", tile=32)
    assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def begin_with(plan, translator, source, target, monkeypatch):
    """Stop a translation after its first row."""
    with monkeypatch.context() as other:
        other.setattr(large_files, "choose_plan", lambda *_, **__: plan)
        with pytest.raises(Stop):
            translate_large(translator, source, target, tile=32, on_progress=stopping_at("row 1"))


@pytest.mark.parametrize("generator", ["resnet", "unet"])
def test_a_partial_result_of_another_memory_size_resumes_where_it_fits(tmp_path, generator, monkeypatch):
    a, b = make_folder(tmp_path / "a"), make_folder(tmp_path / "b", seed=1)
    settings = {**TINY, "steps": 1, "generator": generator, "depth": 5, "crop_size": 32, "load_size": 32}
    translator = Translator.load(train(a, b, out=tmp_path / "run", preset="paper", quiet=True, **settings))
    tifffile.imwrite(tmp_path / "in.tif", pixels(400, 400), tile=(32, 32), photometric="rgb")
    plans = [TilingPlan(32, 1), TilingPlan(32, 2)]
    small, large = sorted(plans, key=lambda plan: tiled_bytes(translator.original, 400, 400, plan))
    needs = [tiled_bytes(translator.original, 400, 400, plan) for plan in (small, large)]
    between = sum(needs) // 2 + large_files.row_bytes(translator, 400, 32)

    # The small one fits into any memory, so that none of it is made again.
    begin_with(small, translator, tmp_path / "in.tif", tmp_path / "small.tif", monkeypatch)
    result = translate_large(translator, tmp_path / "in.tif", tmp_path / "small.tif", tile=32)
    assert result.notes == ["small.tif: 1 of 13 rows of tiles were done before."]

    begin_with(large, translator, tmp_path / "in.tif", tmp_path / "large.tif", monkeypatch)
    monkeypatch.setattr(large_files, "available_bytes", lambda _: between)
    result = translate_large(translator, tmp_path / "in.tif", tmp_path / "large.tif", tile=32)
    assert result.notes == ["large.tif: the earlier call needs more memory than is free now; it starts over."]
    assert_same(tifffile.imread(tmp_path / "large.tif"), translator(pixels(400, 400)))


def test_a_kill_at_any_moment_leaves_no_result_and_the_next_call_goes_on(run, tiff, tmp_path):
    translate_large(Translator.load(run), tiff, tmp_path / "whole.tif", tile=32, save_seconds=0)
    out = tmp_path / "out.tif"
    code = (
        "import sys, time, torch\n"
        "from pathlib import Path\n"
        "from cyclegan import Translator\n"
        "from cyclegan.translate.large_files import translate_large\n"
        "torch.set_num_threads(1)\n"
        "run, source, target = map(Path, sys.argv[1:])\n"
        "def told(*_):\n"
        "    print('.', flush=True)\n"
        "    time.sleep(0.003)\n"
        "translate_large(Translator.load(run), source, target, tile=32, save_seconds=0, on_progress=told)\n"
    )
    command = [sys.executable, "-c", code, str(run), str(tiff), str(out)]
    for steps in (3, 120):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(steps):
                if not process.stdout.readline():
                    break
            process.kill()
        if out.exists():
            break
    translate_large(Translator.load(run), tiff, out, tile=32, save_seconds=0)
    assert out.read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_two_processes_do_not_make_one_file(run, tiff, tmp_path):
    translator = Translator.load(run)

    def again(*_):
        translate_large(translator, tiff, tmp_path / "out.tif", tile=32)

    with pytest.raises(InputError, match="being written by another process"):
        translate_large(translator, tiff, tmp_path / "out.tif", tile=32, on_progress=again)


# ---- memory, and the command


def test_images_that_do_not_fit_are_refused_before_they_are_read(run, tiff, tmp_path, monkeypatch):
    monkeypatch.setattr(large_files, "available_bytes", lambda _: 2**20)
    monkeypatch.setattr(TiffReader, "read", None)
    with pytest.raises(InputError, match="in.tif: 130x90 pixels in tiles of 32 need .*--statistics crops"):
        translate_large(Translator.load(run), tiff, tmp_path / "out.tif", tile=32)
    assert not (tmp_path / ".out.tif.partial").exists()


def test_without_tiles_an_image_that_does_not_fit_is_refused_before_the_work(run, tiff, tmp_path, monkeypatch, capsys):
    Image.fromarray(pixels(20, 20)).save(tmp_path / "small.png")
    monkeypatch.setattr(large_files, "available_bytes", lambda _: 64 * 2**20 + 500_000)
    with pytest.raises(SystemExit):
        main(["translate", str(run), str(tiff), "--out", str(tmp_path / "out.tif"), "--tile", "none"])
    said = " ".join(capsys.readouterr().err.split())
    assert "in.tif needs 0.1 GiB as a whole (130x90 pixels), and 0.1 GiB are available; leave out --tile none" in said
    assert not (tmp_path / "out.tif").exists()
    window = ["--window", "0", "0", "20", "20"]
    main(["translate", str(run), str(tiff), "--out", str(tmp_path / "out.tif"), "--tile", "none", *window])
    # Others of the same call are translated.
    inputs = [tiff, tmp_path / "small.png"]
    found = translate_folder(run, inputs, tmp_path / "out", tile=None)
    assert [source.name for source, _ in found.written] == ["small.png"]
    ((source, reason),) = found.skipped
    assert source == tiff
    assert "leave out --tile none" in reason


def test_the_command_takes_tiles_where_an_image_does_not_fit(run, tiff, tmp_path, monkeypatch, capsys):
    small = Image.fromarray(pixels(20, 20))
    small.save(tmp_path / "small.png")
    translator = Translator.load(run)
    limit = 64 * 2**20 + 500_000
    assert not find_large(translator, FileList(tmp_path, [tiff.name])).any()
    monkeypatch.setattr(large_files, "available_bytes", lambda _: limit)
    assert find_large(translator, FileList(tmp_path, [tiff.name])).all()
    assert not find_large(translator, FileList(tmp_path, ["small.png"])).any()
    monkeypatch.setattr(large_files, "choose_plan", lambda *_, **__: TilingPlan(512, 2))
    main(["translate", str(run), str(tiff), str(tmp_path / "small.png"), "--out", str(tmp_path / "out")])
    told = capsys.readouterr()
    assert "in.tif is too large to be translated as a whole: in tiles of 512 pixels, in float32." in told.err
    assert "1 image translated into" in told.out
    assert_same(tifffile.imread(tmp_path / "out" / "in.tif"), translator(pixels()))


def test_large_files_of_many_are_found_by_their_headers_and_memory_is_asked_once(run, tmp_path, monkeypatch):
    np.save(tmp_path / "large.npy", pixels())
    for name in ("large.png", "large.jpg", "large.tif"):
        Image.fromarray(pixels()).save(tmp_path / name)
    for name in ("small.png", "small.jpg", "small.tif", "small.bmp"):
        Image.fromarray(pixels(20, 20)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    names = [*sorted(path.name for path in tmp_path.iterdir()), "missing.png"]
    asked = []
    monkeypatch.setattr(large_files, "available_bytes", lambda _: asked.append(1) or 64 * 2**20 + 500_000)
    limit = Image.MAX_IMAGE_PIXELS
    # As the command has them: below no folder, by their whole paths.
    files = FileList(Path(), [str(tmp_path / name) for name in 40 * names])
    found = find_large(Translator.load(run), files)
    assert found.tolist() == 40 * [name.startswith("large") for name in names]
    assert len(asked) == 1
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_large_file_leaves_the_plan_of_the_others_compact_and_tiles_are_float32(
    run, tiff, tmp_path, monkeypatch, capsys
):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "c.png"):
        Image.fromarray(pixels(20, 20)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "b.tif").write_bytes(tiff.read_bytes())
    plans = []
    monkeypatch.setattr(large_files, "available_bytes", lambda _: 64 * 2**20 + 500_000)
    monkeypatch.setattr(folder, "translate_files", lambda _translator, plan, **_: plans.append(plan) or [])
    monkeypatch.setattr(folder, "translate_large", lambda *_, **__: large_files.LargeResult(ResultMaker(ImageFormat())))
    monkeypatch.setattr(TranslationPlan, "of", None)
    main(["translate", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert [source.name for source, _ in plans[0]] == ["a.png", "c.png"]
    assert [target for _, target in plans[0]] == [tmp_path / "out" / "a.png", tmp_path / "out" / "c.png"]
    main(["translate", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--tile", "32"])
    assert "in tiles of 32 pixels, in float32." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tile", "8"], "tile is 8; expected at least 16"),
        (["--tile", "some"], "'some'; expected a number of pixels, auto or none"),
        (["--tile", "64", "--short-side", "32"], "--tile 64 is for images by themselves"),
        (["--tile", "64", "--stabilise"], "--tile 64 is for images by themselves"),
    ],
)
def test_contradictory_flags_are_refused(run, tiff, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit):
        main(["translate", str(run), str(tiff), "--out", str(tmp_path / "out"), *flags])
    assert message in capsys.readouterr().err


def test_ctrl_c_says_that_the_same_command_goes_on(run, tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", pixels(700, 900), tile=(64, 64), photometric="rgb")
    command = [sys.executable, "-m", "cyclegan", "translate", str(run), str(tmp_path / "in.tif")]
    command += ["--out", str(tmp_path / "out.tif"), "--tile", "16"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as one:
        while not (tmp_path / ".out.tif.partial" / "plan.json").exists() and one.poll() is None:
            time.sleep(0.01)
        one.send_signal(signal.SIGINT)
        told = one.stderr.read()
    assert one.returncode == 130
    assert f"the same command resumes {tmp_path / 'out.tif'}" in told
    assert not (tmp_path / "out.tif").exists()


def test_the_state_on_disk_is_exact(tmp_path):
    draw = torch.Generator().manual_seed(0)
    state = TilingState({"x": tuple(torch.randn(2, 3, dtype=torch.float64, generator=draw))})
    state.activation = torch.randn(1, 4, 5, 6, generator=draw).contiguous(memory_format=torch.channels_last)
    state.blocks = 2
    partial = PartialResult(tmp_path)
    partial.save(state)
    again = partial.load(torch.device("cpu"))
    assert again.blocks == 2
    assert torch.equal(again.activation, state.activation)
    assert all(torch.equal(one, other) for one, other in zip(again.statistics["x"], state.statistics["x"], strict=True))


def test_a_tiff_without_the_extra_for_it_is_refused_before_any_work(run, tmp_path, monkeypatch):
    Image.fromarray(pixels()).save(tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    monkeypatch.setattr(large_files, "choose_plan", None)
    with pytest.raises(InputError, match=r"y\.tif .*cyclegan\[data\].*\.png"):
        translate_large(Translator.load(run), tmp_path / "x.png", tmp_path / "y.tif", tile=32)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_a_tile_that_is_too_small_is_reported_once_and_not_for_each_file(run, tmp_path, capsys):
    for name in "xy":
        Image.fromarray(pixels()).save(tmp_path / f"{name}.png")
    with pytest.raises(SystemExit) as stop:
        main(["translate", str(run), str(tmp_path), "--out", str(tmp_path / "out"), "--tile", "3"])
    assert stop.value.code != 0
    assert capsys.readouterr().err.count("tile is 3; expected at least 16 pixels.") == 1


def test_a_header_that_claims_too_many_pixels_is_refused_by_the_limit_and_not_by_the_memory_of_tiles(run, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "forged.ppm").write_bytes(b"P6\n100000 100000\n255\n" + bytes(100))
    Image.new("RGB", (24, 20)).save(tmp_path / "in" / "good.png")
    result = translate_folder(run, tmp_path / "in", tmp_path / "out", device="cpu")
    ((source, reason),) = result.skipped
    assert source.name == "forged.ppm"
    assert "100,000x100,000 pixels, more than the limit of 1,073,741,824; raise it with --max-pixels" in reason
    assert [target.name for _, target in result.written] == ["good.png"]
