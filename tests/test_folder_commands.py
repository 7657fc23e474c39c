"""Zips, links, addresses, large pictures and files of other kinds in all commands."""

import json
import struct
import zlib

import fsspec
import numpy as np
import pytest
from PIL import Image

import conftest
from conftest import make_folder
from cyclegan import Translator, evaluate, train
from cyclegan.cli import main
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import read_image
from cyclegan.inspection import inspect_folders
from cyclegan.translate.folder import translate_folder
from make_zip import images, pack

TINY = {**conftest.TINY, "steps": 2, "quiet": True}


def picture(seed=0, height=24, width=20):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def picture_bytes(seed=0):
    import io

    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """trainA and trainB below one folder, as folders are packed; with other files."""
    path = tmp_path_factory.mktemp("zip") / "data.zip"
    entries = [
        (f"mini/{name}/{i}.png", picture_bytes(i + 10 * (name[-1] == "B")))
        for name in ("trainA", "trainB")
        for i in range(4)
    ]
    path.write_bytes(
        pack(
            [
                *entries,
                ("mini/trainA/note.txt", b"x"),
                ("mini/testA/0.png", picture_bytes(50)),
                ("mini/testB/0.png", picture_bytes(51)),
            ]
        )
    )
    return path


@pytest.fixture(scope="module")
def run(archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    train(archive, out=out, **TINY)
    return out


def test_training_on_a_zip_counts_other_files_and_resumes(run, archive, capsys):
    main(["train", str(archive), "--out", str(run), "--steps", "3", "--resume"])
    shown = capsys.readouterr().err
    assert "A: 4 images to train on" in shown
    assert "A: 1 file is left out: 1 .txt" in shown
    assert "images added" not in shown


def test_a_zip_is_mirrored_like_a_folder(run, archive, tmp_path, capsys):
    main(["translate", str(run), str(archive), "--out", str(tmp_path / "out")])
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert len(found) == 10
    assert found[0] == "mini/testA/0.png"
    assert "1 file is left out: 1 .txt." in capsys.readouterr().err
    # Alone, in tiles, and in Python the same.
    entry = archive / "mini" / "testA" / "0.png"
    main(["translate", str(run), str(entry), "--out", str(tmp_path / "one.png")])
    expected = read_image(tmp_path / "out" / found[0], 3)
    assert np.array_equal(read_image(tmp_path / "one.png", 3), expected)
    result = translate_folder(Translator.load(run), [entry.parent, tmp_path / "one.png"], tmp_path / "several")
    assert [target.relative_to(tmp_path / "several").as_posix() for _, target in result.written] == ["0.png", "one.png"]


def test_a_tiff_in_a_zip_is_translated_in_tiles(run, tmp_path):
    picture(3, 64, 64).save(tmp_path / "x.tif")
    (tmp_path / "x.zip").write_bytes(pack([("x.tif", (tmp_path / "x.tif").read_bytes())]))
    main(["translate", str(run), str(tmp_path / "x.zip"), "--out", str(tmp_path / "out"), "--tile", "32"])
    main(["translate", str(run), str(tmp_path / "x.tif"), "--out", str(tmp_path / "y.tif"), "--tile", "32"])
    assert np.array_equal(read_image(tmp_path / "out" / "x.tif", 3), read_image(tmp_path / "y.tif", 3))


def test_several_zips_are_told_apart_by_their_names(run, archive, tmp_path):
    (tmp_path / "more.zip").write_bytes(pack([("a.png", picture_bytes())]))
    main(["translate", str(run), str(archive), str(tmp_path / "more.zip"), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "more" / "a.png").is_file()
    assert (tmp_path / "out" / "data" / "mini" / "trainB" / "0.png").is_file()


def test_an_encrypted_entry_is_named_and_the_others_are_translated(run, tmp_path, capsys):
    content = bytearray(pack([("bad.png", picture_bytes()), ("good.png", picture_bytes(1))]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(SystemExit) as stopped:
        main(["translate", str(run), str(tmp_path / "x.zip"), "--out", str(tmp_path / "out")])
    assert stopped.value.code == 1
    assert "bad.png: it is encrypted" in capsys.readouterr().err
    assert (tmp_path / "out" / "good.png").is_file()


def test_a_zip_is_inspected_and_evaluated_like_a_folder(run, archive, tmp_path):
    found = inspect_folders(archive, quiet=True)
    assert len(found.folders["A"]) == 4
    assert found.folders["A"].ignored == {".txt": 1}
    scores = evaluate(run, quiet=True, out=tmp_path / "scores")
    assert any("left out" in note for note in evaluate_notes(run, archive, tmp_path))
    assert scores.files["test_a"].files == ("0.png",)


def evaluate_notes(run, archive, tmp_path):
    root = archive / "mini"
    scores = evaluate(run, root / "trainA", root / "trainB", quiet=True, out=tmp_path / "more")
    return [note for result in scores.directions.values() for note in result.notes]


def test_a_file_that_is_named_and_cannot_be_read_makes_the_command_fail(run, tmp_path, capsys):
    picture().save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "translate",
                str(run),
                str(tmp_path / "a.png"),
                str(tmp_path / "notes.txt"),
                "--out",
                str(tmp_path / "out"),
            ]
        )
    assert stopped.value.code == 1
    assert "notes.txt" in capsys.readouterr().err
    main(["translate", str(run), str(tmp_path), "--out", str(tmp_path / "out")])
    assert "1 file is left out: 1 .txt." in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".ppm", ".tga", ".jp2", ".heic", ".jxl", ".bmp"])
def test_translations_keep_the_formats_that_people_have(run, tmp_path, suffix):
    from cyclegan.images.codecs import write_image

    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / f"x{suffix}", np.asarray(picture()))
    main(["translate", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert read_image(tmp_path / "out" / f"x{suffix}", 3).shape == (24, 20, 3)


@pytest.mark.parametrize("suffix", [".dds", ".ico", ".pbm"])
def test_translations_of_other_formats_are_pngs(run, tmp_path, suffix):
    (tmp_path / "in").mkdir()
    image = picture(0, 32, 32)
    (image.convert("1") if suffix == ".pbm" else image).save(tmp_path / "in" / f"x{suffix}")
    main(["translate", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert read_image(tmp_path / "out" / "x.png", 3).shape == (32, 32, 3)


def test_training_passes_over_what_differs_and_names_it_in_log_and_page(tmp_path, capsys):
    a, b = make_folder(tmp_path / "a", 16), make_folder(tmp_path / "b", 4)
    frames = [picture(seed) for seed in range(3)]
    frames[0].save(a / "stack.tif", save_all=True, append_images=frames[1:])
    picture(0, 6, 6).save(a / "small.png")
    for index in range(12):
        np.save(a / f"deep{index:02d}.npy", np.zeros((20, 24, 3), np.uint16))
    out = tmp_path / "run"
    train(a, b, out=out, **{**TINY, "quiet": False}, preprocess="crop")
    shown = capsys.readouterr().err
    assert shown.count("Left out (") == 10
    assert "Left out: 14 files in all; log.jsonl and report.html name each of them." in shown
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    left_out = [event for event in events if event.get("event") == "unreadable"]
    named = {event["path"].rpartition("/")[2]: event["reason"] for event in left_out}
    assert len(named) == 14
    assert "3 pages" in named["stack.tif"]
    assert named["small.png"] == "6x6 pixels (6x6 after crop), smaller than the crop of 16"
    assert named["deep00.npy"] == "uint16, where most images are uint8"
    page = (out / "report.html").read_text()
    assert "stack.tif" in page
    assert "deep11.npy" in page


def huge_png(path, width, height):
    """A grey PNG of one value in few bytes."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer = zlib.compressobj(9)
    row, parts = bytes(1 + width // 8), []
    for _ in range(height):
        parts.append(packer.compress(row))
    content = b"".join([*parts, packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))


def test_more_pixels_than_pillow_allows_are_read(tmp_path, recwarn):
    huge_png(tmp_path / "x.png", 16000, 12000)  # 192 megapixels of one bit
    assert read_image(tmp_path / "x.png", 1).shape == (12000, 16000, 1)
    assert not recwarn.list


def test_the_limit_on_pixels_is_the_same_in_all_commands(run, tmp_path, capsys):
    a, b = make_folder(tmp_path / "a", 4), make_folder(tmp_path / "b", 4)
    picture(0, 100, 100).save(a / "large.png")
    picture(0, 100, 100).save(a / "large.tif")
    limit = 99 * 100
    for args in (
        ["translate", run, a, "--out", tmp_path / "out"],
        ["translate", run, a, "--out", tmp_path / "out", "--tile", "none"],
    ):
        with pytest.raises(SystemExit):
            main([*map(str, args), "--max-pixels", str(limit)])
        shown = capsys.readouterr().err
        assert shown.count("100x100 pixels, more than the limit of 9,900; raise it with --max-pixels 10000") == 2
    found = inspect_folders(a, max_pixels=limit, quiet=True).folders["A"]
    assert [(path.name, "limit of 9,900" in reason) for path, reason in found.unreadable] == [
        ("large.png", True),
        ("large.tif", True),
    ]
    train(a, b, out=tmp_path / "trained", **TINY, max_pixels=limit)
    assert (tmp_path / "trained" / "log.jsonl").read_text().count("limit of 9,900") == 2
    result = translate_folder(run, a, tmp_path / "more", max_pixels=limit)
    assert len(result.skipped) == 2
    scores = evaluate(run, a, b, max_pixels=limit, quiet=True, out=tmp_path / "scores")
    assert any(
        "2 test files of A cannot be read (large.png: it has 100x100" in note for note in scores.directions["a2b"].notes
    )
    with pytest.raises(SystemExit):
        main(["translate", str(run), str(a), "--out", str(tmp_path / "out"), "--max-pixels", "0"])
    assert "--max-pixels is 0" in capsys.readouterr().err


def test_what_does_not_fit_into_memory_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    huge_png(tmp_path / "x.png", 16000, 12000)
    monkeypatch.setattr("cyclegan.images.limits.free_memory", lambda: 2**28)
    with pytest.raises(UnreadableError, match="GiB to decode, and 0.2 GiB are free"):
        read_image(tmp_path / "x.png", 1)


def test_addresses_are_inputs_of_all_commands(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cyclegan.images.remote.user_cache_path", lambda _: tmp_path / "cache")
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    for name, content in images(""):
        system.pipe(f"/data/{name}", content)
    for name, seed in (("x", 0), ("y", 1)):
        system.pipe(f"/photos/{name}.png", picture_bytes(seed))
    main(["translate", str(run), "memory://photos", "--out", str(tmp_path / "out")])
    assert "Copying 2 files" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x.png", "y.png"]
    with pytest.raises(InputError, match="results are written to this machine only"):
        translate_folder(run, "memory://photos", "memory://out")
    assert len(inspect_folders("memory://photos", quiet=True).folders["A"]) == 2
    train("memory://data", out=tmp_path / "remote", **TINY)
    train("memory://data", out=tmp_path / "remote", **{**TINY, "steps": 3}, resume=True)
    scores = evaluate(tmp_path / "remote", quiet=True)
    assert scores.files["test_a"].files == ("0.png",)
    system.store.clear()


def test_an_input_that_is_missing_or_damaged_does_not_stop_the_others(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture().save("a.png")
    make_folder(tmp_path / "photos", count=2)
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    bad = ["broken.zip", "missing.jpg", "none/*.png", "broken.zip/x", "gone.mp4"]
    with pytest.raises(SystemExit) as stopped:
        main(["translate", str(run), "a.png", *bad, "photos", "--out", "out"])
    shown = capsys.readouterr()
    said = " ".join(shown.err.split())
    assert stopped.value.code == 1
    assert shown.out == "3 images translated into out\n"
    assert "Left out: broken.zip is no zip file, or a damaged one" in said
    assert "Left out: There is no file or folder missing.jpg. " in said
    assert "Left out: There is no file or folder gone.mp4. " in said
    assert "Left out: none/*.png: No file matches none/*.png" in said or "Left out: No file matches none/*.png" in said
    # In the places that they have when all inputs are there.
    assert sorted(path.as_posix() for path in (tmp_path / "out").rglob("*.png")) == [
        f"{tmp_path}/out/{name}" for name in ("a.png", "photos/0.png", "photos/1.png")
    ]
    result = translate_folder(run, ["a.png", "missing.jpg", "broken.zip"], "other")
    assert [str(source) for source, _ in result.written] == ["a.png"]
    assert [str(path) for path, _ in result.skipped] == ["missing.jpg", "broken.zip"]
    for inputs, message in (
        ("missing.jpg", "There is no file or folder missing.jpg"),
        (["missing.jpg", "broken.zip"], "There is no file or folder missing.jpg"),
        (["broken.zip"], "broken.zip is no zip file, or a damaged one"),
    ):
        with pytest.raises(InputError, match=message):
            translate_folder(run, inputs, "nothing")
    with pytest.raises(InputError, match="y.png is one image, and the input is not one image file"):
        translate_folder(run, ["a.png", "missing.jpg"], "y.png")
    assert not (tmp_path / "nothing").exists()
