"""`cyclegan translate` with standard input and output, with patterns, with names of outputs, and after a stop."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from conftest import TINY, make_folder
from cyclegan import InputError, train, translate_folder
from cyclegan.cli import main
from cyclegan.images.codecs import read_image, write_image
from cyclegan.storage.run import read_log
from cyclegan.translate.progress import FolderProgress


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    a, b = make_folder(root / "a"), make_folder(root / "b", seed=1)
    return train(a, b, out=root / "run", quiet=True, **{**TINY, "steps": 2})


class Pipe(io.TextIOWrapper):
    """Standard input or output that is a pipe, or a terminal."""

    def __init__(self, content=b"", *, terminal=False):
        super().__init__(io.BytesIO(content))
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def pipe(monkeypatch, words, content=b"", *, terminal=False):
    """Exit status, standard output as bytes, of a command with this standard input."""
    out = Pipe(terminal=terminal)
    code = 0
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", Pipe(content, terminal=terminal))
        patch.setattr(sys, "stdout", out)
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
    out.flush()
    return code, out.buffer.getvalue()


def command(words, capsys):
    """Exit status, standard output and standard error of a command."""
    capsys.readouterr()
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    return (code, *capsys.readouterr())


def test_a_dicom_file_that_begins_like_a_tiff_is_read_as_dicom(run, monkeypatch, capsys):
    content = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    assert content.startswith(b"II*\0")
    assert pipe(monkeypatch, ["translate", run, "-", "--out", "-"], content) == (2, b"")
    assert "is 1 x int16, and the model takes" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("flags", [[], ["--tile", "16"]])
def test_standard_input_becomes_standard_output_in_its_format(run, tmp_path, monkeypatch, capsys, format, flags):
    with Image.open(next(run.parent.glob("a/*.png"))) as picture:
        picture.save(tmp_path / "x", format)
    content = (tmp_path / "x").read_bytes()
    code, out = pipe(monkeypatch, ["translate", run, "-", "--out", "-", *flags], content)
    assert code == 0
    err = capsys.readouterr().err
    assert "1 image translated" in err
    assert "to standard output" in err
    with Image.open(io.BytesIO(out)) as result:
        assert (result.format, result.size) == (format, (24, 20))
    # The same bytes as with files.
    suffix = {"JPEG": ".jpg", "TIFF": ".tif"}.get(format, f".{format.lower()}")
    (tmp_path / f"x{suffix}").write_bytes(content)
    main(["translate", str(run), str(tmp_path / f"x{suffix}"), "--out", str(tmp_path / "files"), *flags])
    assert (tmp_path / "files" / f"x{suffix}").read_bytes() == out
    code, out = pipe(monkeypatch, ["translate", run, "-", "--out", tmp_path / "folder", *flags], content)
    assert (code, [path.name for path in (tmp_path / "folder").iterdir()]) == (0, [f"stdin{suffix}"])
    assert out.startswith(b"1 image translated")


def test_animations_go_through_the_streams_as_well(run, tmp_path, monkeypatch, capsys):
    frames = [Image.fromarray(np.full((20, 24, 3), shade, np.uint8)) for shade in (40, 120, 200)]
    for format in ("GIF", "WEBP"):
        frames[0].save(tmp_path / "x", format, save_all=True, append_images=frames[1:], duration=80)
        code, out = pipe(monkeypatch, ["translate", run, "-", "--out", "-"], (tmp_path / "x").read_bytes())
        assert code == 0
        assert "3 frames translated to standard output" in capsys.readouterr().err
        with Image.open(io.BytesIO(out)) as result:
            assert (result.format, result.n_frames) == (format, 3)


def test_deep_images_go_through_the_streams_as_well(deep_run, tmp_path, monkeypatch):
    array = (np.random.default_rng(0).random((13, 22, 1)) * 3000).astype(np.uint16)
    write_image(tmp_path / "x.tif", array)
    np.save(tmp_path / "x.npy", array)
    results = []
    for name in ("x.tif", "x.npy"):
        content = (tmp_path / name).read_bytes()
        code, out = pipe(monkeypatch, ["translate", deep_run, "-", "--out", "-", "--precision", "fp32"], content)
        assert code == 0
        (tmp_path / f"out_{name}").write_bytes(out)
        results.append(read_image(tmp_path / f"out_{name}", 5))
    assert results[0].dtype == np.float32
    assert np.array_equal(*results)


def test_a_real_pipe_holds_the_image_alone(run, tmp_path):
    content = next(run.parent.glob("a/*.png")).read_bytes()
    words = [sys.executable, "-m", "cyclegan", "translate", run, "-", "--out", "-"]
    done = subprocess.run(words, input=content, capture_output=True, check=True, cwd=tmp_path)
    with Image.open(io.BytesIO(done.stdout)) as result:
        assert result.size == (24, 20)
    assert b"1 image translated to standard output" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_streams_that_cannot_be_used_are_refused_in_one_sentence(run, tmp_path, monkeypatch, capsys):
    inputs = make_folder(tmp_path / "in", 2)
    picture = (inputs / "0.png").read_bytes()
    for words, content, terminal, code, message in (
        ([inputs / "0.png", "--out", "-"], b"", True, 2, "standard output is a terminal; send it to a file"),
        (["-", "--out", tmp_path / "out"], b"", True, 2, "nothing is sent to standard input"),
        (["-", "--out", "-"], b"", False, 2, "Standard input is empty"),
        (["-", "--out", "-"], b"nonsense", False, 2, "Standard input is not an image of a known format"),
        (["-", "--out", "-"], picture[:60], False, 1, "Left out: standard input: "),
        (["-", inputs, "--out", "-"], picture, False, 2, "give standard input alone"),
        ([inputs, "--out", "-"], picture, False, 2, "--out - is one file, and the input is 2; give a folder."),
    ):
        status, out = pipe(monkeypatch, ["translate", run, *words], content, terminal=terminal)
        err = capsys.readouterr().err
        assert (status, out) == (code, b""), err
        assert message in err
        assert "Traceback" not in err
        assert "/cyclegan-" not in err


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.png", ["0.png", "1.png"]),
        ("photos/**/*.png", ["0.png", "1.png", "deep/er/0.png", "deep/er/1.png"]),
        ("photos/**", ["0.png", "1.png", "deep/er/0.png", "deep/er/1.png"]),
        ("photos/*", ["0.png", "1.png", "deep/er/0.png", "deep/er/1.png"]),
        ("p*/[1-9].png", ["photos/1.png"]),
        ("photos/?.png", ["0.png", "1.png"]),
    ],
)
def test_patterns_in_quotes_are_expanded(run, tmp_path, monkeypatch, capsys, pattern, expected):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", 2)
    make_folder(tmp_path / "photos" / "deep" / "er", 2)
    (tmp_path / "photos" / "notes.txt").write_text("")
    code, out, err = command(["translate", run, pattern, "--out", "out"], capsys)
    assert (code, out) == (0, f"{len(expected)} image{'s' * (len(expected) > 1)} translated into out\n"), err
    assert sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.*")) == expected
    result = translate_folder(run, pattern, "python")
    assert sorted(target.relative_to("python").as_posix() for _, target in result.written) == expected


def test_a_pattern_leaves_out_earlier_results_and_takes_zips(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos" / "deep", 2)
    (tmp_path / "photos" / "notes.txt").write_text("")
    for _ in range(2):
        code, out, err = command(["translate", run, "photos/**/*.*", "--out", "photos/out"], capsys)
        assert (code, out) == (0, "2 images translated into photos/out\n"), err
    with zipfile.ZipFile("photos/more[1].zip", "w") as archive:
        archive.write("photos/deep/0.png", "cats/7.png")
    code, _, err = command(["translate", run, "photos/*.zip", "--out", "zips"], capsys)
    assert (code, Path("zips/more[1].zip/cats/7.png").is_file()) == (0, True), err
    code, _, err = command(["translate", run, "photos/more[1].zip/cats/7.png", "--out", "one.png"], capsys)
    assert (code, Path("one.png").is_file()) == (0, True), err


def test_a_damaged_zip_that_matches_a_pattern_does_not_stop_the_others(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", 2)
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    code, _, err = command(["translate", run, "*.zip", "--out", "out"], capsys)
    assert (code, err) == (2, "cyclegan: bad.zip is no zip file, or a damaged one: File is not a zip file.\n")
    with zipfile.ZipFile("good.zip", "w") as archive:
        archive.write("photos/0.png", "0.png")
    code, out, err = command(["translate", run, "*.zip", "--out", "out"], capsys)
    assert (code, out) == (1, "1 image translated into out\n"), err
    assert "Left out: bad.zip is no zip file" in err
    assert [path for path, _ in translate_folder(run, "*.zip", "python").skipped] == [Path("bad.zip")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("x.zip/*.png", ["0.png"]),
        ("x.zip/c*/?.png", ["cats/1.png"]),
        ("x.zip/c*", ["cats/1.png", "cats/deep/2.png"]),
        ("x.zip/**", ["0.png", "cats/1.png", "cats/deep/2.png"]),
        ("x.zip/cats/**/2.*", ["deep/2.png"]),
        ("of [2]/*.png", ["0.png"]),
    ],
)
def test_patterns_look_into_zips_and_into_folders_with_brackets(run, tmp_path, monkeypatch, capsys, pattern, expected):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "of [2]", 1)
    with zipfile.ZipFile("x.zip", "w") as archive:
        for name in ("0.png", "cats/1.png", "cats/deep/2.png"):
            archive.write("of [2]/0.png", name)
    code, _, err = command(["translate", run, pattern, "--out", "out"], capsys)
    assert code == 0, err
    assert sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.png")) == expected


def test_a_folder_below_the_output_folder_is_translated(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", 2)
    code, out, err = command(["translate", run, "photos", "--out", "."], capsys)
    assert (code, out) == (0, "2 images translated into .\n"), err
    code, out, err = command(["translate", run, "photos/*.png", "--out", "."], capsys)
    assert (code, out) == (0, "2 images translated into .\n"), err


def test_results_of_streams_are_not_promised_to_be_resumed(run, monkeypatch, capsys):
    content = next(run.parent.glob("a/*.png")).read_bytes()
    monkeypatch.setattr("cyclegan.translate.folder.translate_files", interrupt)
    code, out = pipe(monkeypatch, ["translate", run, "-", "--out", "-"], content)
    assert (code, out) == (130, b"")
    assert capsys.readouterr().err.endswith("Stopped.\n")


def test_a_pattern_over_all_folders_follows_links_once(run, tmp_path, monkeypatch, capsys):
    # Two links in a circle: Python's glob goes through them 40 times in all orders, and never comes back.
    monkeypatch.chdir(tmp_path)
    make_folder(Path("photos", "a", "deep"), count=2)
    make_folder(Path("elsewhere"), count=1)
    for link, target in (("photos/circle", "."), ("photos/a/up", ".."), ("photos/linked", "../elsewhere")):
        Path(link).symlink_to(target)
    code, _, err = command(["translate", run, "photos/**/*.png", "--out", "out"], capsys)
    assert code == 0, err
    assert sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.*")) == [
        "a/deep/0.png",
        "a/deep/1.png",
        "linked/0.png",
    ]
    assert len(translate_folder(run, "photos/**/deep/1.*", "python").written) == 1
    assert len(translate_folder(run, "ph*/**/a/**/?.png", "again").written) == 2


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_what_was_lost_of_images_is_among_the_notes_of_the_result(run, tmp_path):
    picture = Image.new("RGBA", (24, 20), (90, 80, 70, 128))
    (tmp_path / "in").mkdir()
    picture.save(tmp_path / "in" / "x.png")
    result = translate_folder(run, tmp_path / "in" / "x.png", tmp_path / "x.jpg")
    assert result.notes == ("The transparency of 1 image is not kept: .jpg files have no place for it.",)


def test_patterns_stand_beside_other_inputs_and_a_file_of_that_name_is_no_pattern(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "a", 2), make_folder(tmp_path / "b", 2)
    Path("a/0.png").rename("a/[x].png")
    code, _, err = command(["translate", run, "a/[x].png", "b/*.png", "--out", "out"], capsys)
    assert code == 0, err
    assert {path.name for path in Path("out").iterdir()} == {"[x].png", "0.png", "1.png"}
    code, _, err = command(["translate", run, "a/1*.png", "--out", "one.png"], capsys)
    assert (code, Path("one.png").is_file()) == (0, True), err
    for words in (["b/*.jpg", "--out", "out"], ["b/*.png", "--out", "two.png"]):
        code, _, err = command(["translate", run, *words], capsys)
        assert code == 2
        assert "No file matches b/*.jpg." in err or "is one image, and the input is not one image file" in err


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("res.jpq", "--out is res.jpq, and files .jpq are not written; did you mean res.jpg?"),
        ("res.pgn", "did you mean res.png?"),
        ("res.tiv", "did you mean res.tif"),
        ("res.mvk", "did you mean res.mkv?"),
        ("deep/res.jepg", "did you mean deep/res.jpg?"),
        ("res.svg", "files .svg are not written"),
        ("res.exr", "files .exr are not written; choose another format, such as .png."),
        ("res.zip", "files .zip are not written"),
        ("res.psd", "files .psd are not written"),
    ],
)
def test_an_output_that_looks_like_a_file_of_an_unknown_format_is_refused(
    run, tmp_path, monkeypatch, capsys, out, message
):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "in", 2)
    for inputs in ("in", "in/0.png"):
        code, _, err = command(["translate", run, inputs, "--out", out], capsys)
        assert code == 2
        assert message in err
        assert f"For a folder of that name: {out}/" in err
        assert [path.name for path in tmp_path.iterdir()] == ["in"]
    if out != "res.mvk":  # which writes no clips
        with pytest.raises(InputError, match="are not written"):
            translate_folder(run, "in", out)
    # A slash, or a folder that is there, says that it is a folder.
    assert command(["translate", run, "in", "--out", f"{out}/"], capsys)[0] == 0
    assert command(["translate", run, "in", "--out", out], capsys)[0] == 0
    translate_folder(run, "in", f"{out}/")
    assert {path.name for path in Path(out).iterdir()} == {"0.png", "1.png"}


@pytest.mark.parametrize("out", ["out", "maps.v2", "out.2024", "run_0.5", "photos.maps", "results.old", "x.tmp", "a.b"])
def test_folders_with_a_dot_in_their_name_are_made(run, tmp_path, monkeypatch, capsys, out):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "in", 1)
    assert command(["translate", run, "in", "--out", out], capsys)[0] == 0
    assert Path(out, "0.png").is_file()


def test_the_home_folder_is_expanded_as_in_a_shell(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "in", 2), make_folder(tmp_path / "b", 2, seed=1)
    assert command(["translate", run, "~/in", "--out=~/out"], capsys)[0] == 0
    assert len(translate_folder(run, "~/in", "~/python").written) == 2
    assert train("~/in", "~/b", out="~/run", quiet=True, **{**TINY, "steps": 1}) == tmp_path / "run"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "b", "out", "python", "run"}
    Path("~").mkdir()
    make_folder(tmp_path / "~" / "in", 1)
    assert len(translate_folder(run, "~/in", "literal").written) == 1  # a folder of that name is that folder


def test_a_batch_that_was_stopped_goes_on_after_the_results_that_are_there(run, tmp_path, capsys):
    inputs, out = make_folder(tmp_path / "in", 5), tmp_path / "out"
    command(["translate", run, inputs, "--out", out], capsys)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "1.png").unlink()
    (out / "2.png").write_bytes(b"")
    (out / "3.png").write_bytes(first["3.png"][:10])
    (out / "0.png").touch()
    kept = (out / "0.png").stat().st_mtime_ns
    words = ["translate", run, inputs, "--out", out, "--skip-existing"]
    code, shown, _ = command(words, capsys)
    assert (code, shown) == (0, f"2 of 5 images are in {out} already\n3 images translated into {out}\n")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert (out / "0.png").stat().st_mtime_ns == kept
    code, shown, _ = command([*words, "--tile", "16"], capsys)
    assert (code, shown) == (0, f"5 of 5 images are in {out} already\n")
    (out / "4.png").unlink()
    counts = []

    class Progress(FolderProgress):
        def existing(self, num_existing, num_images):
            counts.append((num_existing, num_images))

    result = translate_folder(run, inputs, out, skip_existing=True, progress=Progress())
    assert [source.name for source, _ in result.written] == ["4.png"]
    assert [source.name for source, _ in result.existing] == ["0.png", "1.png", "2.png", "3.png"]
    assert counts == [(4, 5)]


def test_stabilised_frames_are_left_out_by_whole_folders(run, tmp_path):
    settings = {**TINY, "steps": 1, "preset": "paper"}  # with instance norm, or there is nothing to stabilise
    run = train(run.parent / "a", run.parent / "b", out=tmp_path / "run", quiet=True, **settings)
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_folder(inputs / "one", 3), make_folder(inputs / "two", 3)
    translate_folder(run, inputs, out, stabilise=True)
    expected = (out / "two" / "2.png").read_bytes()
    (out / "two" / "1.png").unlink()
    result = translate_folder(run, inputs, out, stabilise=True, skip_existing=True)
    assert {source.parent.name for source, _ in result.written} == {"two"}
    assert (len(result.written), len(result.existing)) == (3, 3)
    assert (out / "two" / "2.png").read_bytes() == expected


def test_the_losses_of_a_run_become_a_table(run, tmp_path, capsys):
    target = tmp_path / "losses.csv"
    code, shown, _ = command(["report", run, "--csv", target], capsys)
    assert (code, shown) == (0, f"{target}\n")
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [line for line in log if "event" not in line]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == losses
    assert list(rows[0])[:5] == ["step", "epoch", "seconds", "images_per_second", "learning_rate"]

    (run / "report.html").unlink()
    code, shown, _ = command(["report", run], capsys)
    assert (code, shown) == (0, f"{run / 'report.html'}\n")
    assert (run / "report.html").read_text().rstrip().endswith("</html>")

    empty = tmp_path / "empty"
    empty.mkdir()
    for words, message in (
        ([empty], "has no log.jsonl; expected a run directory"),
        ([run, "--csv", run / "log.jsonl"], "expected the name of a file that ends in .csv"),
        ([run, "--csv", tmp_path], "expected the name of a file that ends in .csv"),
    ):
        code, _, err = command(["report", *words], capsys)
        assert code == 2
        assert message in err
    (empty / "log.jsonl").write_text('{"event": "session", "step": 0, "time": "2026-01-01T00:00:00+00:00"}\n')
    assert "has logged no losses yet" in command(["report", empty, "--csv", target], capsys)[2]


@pytest.mark.parametrize(
    "words", [["{run}", "", "--out", "out"], ["{run}", "in", "--out", ""], ["", "in", "--out", "o"]]
)
def test_an_empty_path_is_not_the_folder_that_the_shell_is_in(run, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "in", 1)
    code, _, err = command(["translate", *(word.format(run=run) for word in words)], capsys)
    assert code == 2
    assert "the path is empty; for the folder that you are in, give ." in err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_empty_path_is_refused_in_python_too(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "in", 1)
    calls = [
        lambda: translate_folder(run, "", "out"),
        lambda: translate_folder(run, "in", ""),
        lambda: train("", "in", out="out"),
        lambda: train("in", "in", out="out", test_a=""),
        lambda: train("in", "in", out=""),
    ]
    for call in calls:
        with pytest.raises(InputError, match="is empty; expected a path"):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_output_folder_that_is_a_file_is_one_sentence(run, tmp_path, capsys):
    (tmp_path / "x.txt").write_text("kept")
    for words in (
        ["translate", run, run.parent / "a"],
        ["evaluate", run, "--a", run.parent / "a", "--b", run.parent / "b"],
        ["export", run, "--format", "onnx"],
    ):
        code, _, err = command([*words, "--out", tmp_path / "x.txt"], capsys)
        assert code in (1, 2)
        assert "file is in the place of a folder; choose another place" in err.lower()
        assert "[Errno" not in err
    assert (tmp_path / "x.txt").read_text() == "kept"


def test_a_flag_of_the_reference_is_answered_before_what_is_missing(capsys):
    code, _, err = command(["translate", "--dataroot", "d", "--name", "n", "--model", "test", "--no_dropout"], capsys)
    assert code == 2
    assert "there is no flag --dataroot; name the images themselves, after RUN" in err
    code, _, err = command(["translate", "run", "in", "--results_dir=out"], capsys)
    assert "there is no flag --results_dir, which is --out here" in err
    code, _, err = command(["translate", "run", "in"], capsys)
    assert "the following arguments are required: --out" in err


def test_a_pipe_in_the_place_of_a_file_is_named_as_one(run, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.png")
    code, _, err = command(["translate", run, tmp_path / "pipe.png", "--out", tmp_path / "out"], capsys)
    assert code == 2
    assert "pipe.png is a pipe or a device; send an image to standard input, and give - for it." in err


def test_pipes_and_other_files_are_counted_by_a_pattern_as_in_a_folder(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_folder(Path("in"), count=2)
    os.mkfifo("in/pipe.png")
    Path("in/notes.txt").write_text("no image")
    Path("in/nothing.png").symlink_to("nowhere.png")
    for number, words in enumerate(("in/*", "in")):
        code, _, err = command(["translate", run, words, "--out", f"out{number}"], capsys)
        assert (code, len(list(Path(f"out{number}").iterdir()))) == (0, 2), err
        assert "3 files are left out: 1 .txt, 1 broken link, 1 pipe or device." in " ".join(err.split())
    code, _, err = command(["translate", run, "in/**", "--out", "out"], capsys)
    assert (code, "1 file is left out: 1 .txt." in err) == (0, True)


def test_names_that_are_not_unicode_are_translated_in_tiles_and_logged(tmp_path, capsys):
    a, b = make_folder(tmp_path / "a"), make_folder(tmp_path / "b", seed=1)
    broken, good = (Path(os.fsdecode(os.fsencode(a) + name)) for name in (b"/br\xe9ak.png", b"/caf\xe9.tif"))
    broken.write_bytes(b"no image")
    write_image(good, read_image(a / "0.png", 3))
    trained = train(a, b, out=tmp_path / "run", **{**TINY, "steps": 2})
    assert "damaged" not in capsys.readouterr().err
    train(out=tmp_path / "run", resume=True, steps=3, quiet=True)
    (line,) = [line for line in read_log(tmp_path / "run" / "log.jsonl") if line.get("event") == "unreadable"]
    assert line["path"] == str(a / "br\\udce9ak.png")
    code, _, err = command(["translate", trained, good, "--out", tmp_path / "out", "--tile", "16"], capsys)
    assert code == 0, err
    assert [os.fsencode(path.name) for path in (tmp_path / "out").iterdir()] == [b"caf\xe9.tif"]
