"""One result that cannot be written is left out with its reason, and never ends the work on the others."""

import errno
import os
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, train, translate_folder
from cyclegan.cli import main
from cyclegan.images.file_formats import FILE_FORMATS
from cyclegan.images.filetypes import pillow
from cyclegan.inspection.survey import survey_folder
from cyclegan.system.atomic import TEMPORARY, atomic_path, remove_leftovers


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    a, b = make_folder(root / "a"), make_folder(root / "b", seed=1)
    return train(a, b, out=root / "run", quiet=True, **{**TINY, "steps": 2})


def failing(words, capsys):
    """Exit status and standard error of a command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 240, "x" * 251, "é" * 120, "界" * 83, "x" * 199 + "é" * 20])
@pytest.mark.parametrize("flags", [[], ["--tile", "16"]])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_names_of_every_legal_length_are_written(run, tmp_path, name, flags, suffix):
    assert len(os.fsencode(name + suffix)) <= 255
    inputs = make_folder(tmp_path / "in", 2)
    with Image.open(inputs / "1.png") as picture:
        picture.save(inputs / f"{name}{suffix}")
    main(["translate", str(run), str(inputs), "--out", str(tmp_path / "out"), *flags])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in inputs.iterdir()}


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "é" * 125 + ".png", os.fsdecode(b"\xff" * 250 + b".png")])
def test_a_temporary_name_of_a_long_one_is_found_again(tmp_path, name):
    with atomic_path(tmp_path / name) as partial:
        partial.write_bytes(b"half")
        assert len(os.fsencode(partial.name)) <= 255
        assert TEMPORARY.fullmatch(partial.name)
        assert partial.name[1:40] == name[:39]
        left = partial.with_name(partial.name.replace(f".{os.getpid()}.", ".999999999."))
        left.write_bytes(b"of a process that has ended")
    assert {path.name for path in tmp_path.iterdir()} == {name, left.name}
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long_and_a_target_that_is_a_folder_do_not_stop_the_others(run, tmp_path, capsys):
    inputs, out = make_folder(tmp_path / "in", 5), tmp_path / "out"
    long = "y" * 251  # with .jpg and .png at once, one of the two gets both suffixes or a number
    (out / "2.png" / "kept").mkdir(parents=True)
    (out / "sub").write_text("a file")
    (inputs / "sub").mkdir()
    (inputs / "3.png").rename(inputs / "sub" / "3.png")
    with Image.open(inputs / "1.png") as picture:
        picture.save(inputs / f"{long}.png")
        picture.save(inputs / f"{long}.bmp")
    for flags in ([], ["--tile", "16"]):
        code, err = failing(["translate", run, inputs, "--out", out, *flags], capsys)
        assert code == 1
        assert "Left out: " in err
        assert "2.png could not be written: Is a directory" in err
        assert "3.png could not be written: " in err
        assert "Traceback" not in err
        assert {path.name for path in out.iterdir()} >= {"0.png", "1.png", "4.png", f"{long}.png"}
        assert (out / "2.png" / "kept").is_dir()
        assert (out / "sub").read_text() == "a file"
        for path in (out / "0.png", out / "4.png"):
            path.unlink()


def test_outputs_that_become_too_long_by_their_suffix_are_left_out(tmp_path):
    root = tmp_path / "data"
    a, b = make_folder(root / "a", 2), root / "b"
    b.mkdir()
    for index in range(2):
        values = np.random.default_rng(index).random((20, 20, 1)).astype(np.float32)
        np.save(b / f"{index}.npy", values)
    run = train(a, b, out=tmp_path / "run", quiet=True, channels_b=1, **{**TINY, "steps": 1})
    for stem in ("z" * 251, "short"):
        for suffix in (".png", ".bmp"):
            with Image.open(a / "0.png") as picture:
                picture.save(tmp_path / f"{stem}{suffix}")
    inputs = [*tmp_path.glob("*.png"), *tmp_path.glob("*.bmp")]
    result = translate_folder(run, inputs, tmp_path / "out")
    written = {target.name for _, target in result.written}
    assert len(written) == len(inputs) - len(result.skipped)
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
    assert {"short.tif", "z" * 251 + ".tif"} <= written


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_format_that_fails_for_one_image_does_not_stop_the_others(run, tmp_path, capsys, monkeypatch):
    inputs = make_folder(tmp_path / "in", 4)
    to_pillow = pillow.to_pillow

    class Failing:
        def __init__(self, picture):
            self.picture = picture

        def save(self, *arguments, **options):
            if np.asarray(self.picture).shape[0] == 21:
                raise ValueError("the encoder takes no such picture")
            if np.asarray(self.picture).shape[0] == 22:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            self.picture.save(*arguments, **options)

    for index, height in ((1, 21), (2, 22)):
        with Image.open(inputs / f"{index}.png") as picture:
            picture.resize((24, height)).save(inputs / f"{index}.png")
    monkeypatch.setattr(pillow, "to_pillow", lambda array: Failing(to_pillow(array)))
    for number, flags in enumerate(([], ["--tile", "16"], ["--batch-size", "2"])):
        out = tmp_path / f"out{number}"
        code, err = failing(["translate", run, inputs, "--out", out, *flags], capsys)
        assert code == 1
        assert "1.png could not be written: the encoder takes no such picture." in err
        assert "2.png could not be written: Permission denied." in err
        assert {path.name for path in out.iterdir()} == {"0.png", "3.png"}
    result = translate_folder(run, inputs, tmp_path / "python")
    assert [path.name for path, _ in result.skipped] == ["1.png", "2.png"]
    assert [target.name for _, target in result.written] == ["0.png", "3.png"]


@pytest.mark.parametrize("options", [{}, {"tile": 16}])
def test_an_output_folder_that_is_lost_ends_the_batch_with_what_is_kept(run, tmp_path, options):
    inputs = make_folder(tmp_path / "in", 4)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"0\.png could not be written: Not a directory\. 0 images are done and kept"):
        translate_folder(run, inputs, tmp_path / "file" / "out", **options)
    assert (tmp_path / "file").read_text() == ""


def test_a_clip_that_cannot_be_written_does_not_stop_the_others(run, tmp_path, capsys):
    pytest.importorskip("av")
    from clips import make_clip, numbered

    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    for index in range(3):
        make_clip(inputs / f"{index}.mp4", numbered(3))
    (out / "0.mp4" / "kept").mkdir(parents=True)
    code, err = failing(["translate", run, inputs, "--out", out], capsys)
    assert code == 1
    assert "0.mp4 could not be written: Is a directory" in err
    assert {path.name for path in out.iterdir()} == {"0.mp4", "1.mp4", "2.mp4"}
    assert (out / "2.mp4").is_file()


def test_an_image_that_does_not_fit_into_memory_is_left_out_and_the_others_go_on(run, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for number, side in enumerate((16, 24, 16)):
        Image.new("RGB", (side, side), (90, 10 * number, 0)).save(tmp_path / "in" / f"{number}.png")
    translator, real = Translator.load(run), Translator._run

    def allocate(self, images, network):
        if images.shape[-1] == 24:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
            )
        return real(self, images, network)

    monkeypatch.setattr(Translator, "_run", allocate)
    found = translate_folder(translator, tmp_path / "in", tmp_path / "out", tile=None)
    assert [(source.name, "24x24 pixels does not fit into memory" in why) for source, why in found.skipped] == [
        ("1.png", True)
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]


def let_png_lack_memory(monkeypatch, name):
    """Decoding the PNGs of this name takes more memory than there is."""

    def allocate(path, min_side=0):
        if path.name == name:
            raise MemoryError
        return pillow.read(path, min_side)

    monkeypatch.setitem(FILE_FORMATS, "png", replace(FILE_FORMATS["png"], read=allocate))


@pytest.mark.parametrize("options", [{}, {"batch_size": 3}, {"tile": 16}])
def test_an_image_that_cannot_be_loaded_for_lack_of_memory_ends_no_other(run, tmp_path, monkeypatch, options):
    colours = [(90, 10 * number, 0) for number in range(4)]
    for number, colour in enumerate(colours):
        Image.new("RGB", (16, 16 + number % 2), colour).save(tmp_path / f"{number}.png")
    translator = Translator.load(run)
    expected = [np.asarray(translator(tmp_path / f"{number}.png")) for number in range(4)]
    let_png_lack_memory(monkeypatch, "1.png")
    results = list(translator.translate_each([tmp_path / f"{number}.png" for number in range(4)], **options))
    assert isinstance(results[1], InputError)
    assert re.fullmatch(r"An image does not fit into memory .*; translate it in tiles .*\.", str(results[1]))
    for number in (0, 2, 3):
        assert np.abs(np.asarray(results[number]).astype(int) - expected[number]).max() <= 1


def test_a_decoder_without_memory_leaves_out_its_file(run, tmp_path, monkeypatch):
    """In every command: translate, inspect and the scan of training."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (90, 10 * number, 0)).save(tmp_path / "in" / f"{number}.png")
    let_png_lack_memory(monkeypatch, "1.png")
    found = translate_folder(Translator.load(run), tmp_path / "in", tmp_path / "out")
    assert [(source.name, why) for source, why in found.skipped] == [("1.png", "it does not fit into memory")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]
    report, _ = survey_folder(tmp_path / "in")
    assert [(str(path), why) for path, why in report.unreadable] == [("1.png", "it does not fit into memory")]
