"""What `cyclegan inspect` finds in folders and runs, and how it shows it."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from inspecting import advice, look, made, shown
from PIL import Image
from tifffile import TiffWriter

from conftest import TINY, make_folder
from cyclegan import InputError, train
from cyclegan.cli import main
from cyclegan.config import make_config, to_toml
from cyclegan.images.codecs import write_image
from cyclegan.images.raster import Raster
from cyclegan.inspection.survey import survey_folder
from cyclegan.inspection.view import write_inspection

# ---- files


def test_counts_sizes_and_formats_are_shown_for_each_folder(pair):
    a, b = pair
    Image.new("RGB", (200, 100), "red").save(a / "wide.jpg")
    Image.new("L", (10, 12)).save(a / "small.webp")
    (a / ".hidden.png").write_bytes(b"no image")
    (a / "notes.txt").write_text("mine")
    folder = look(a, b).folders["A"]
    assert len(folder) == 12
    assert not folder.unreadable
    assert folder.formats == {"PNG": 10, "JPEG": 1, "WEBP": 1}
    assert (folder.smallest.width, folder.smallest.height, folder.smallest.file) == (10, 12, Path("small.webp"))
    assert (folder.largest.width, folder.largest.height) == (200, 100)
    assert (folder.most_common.width, folder.most_common.count, folder.num_sizes) == (64, 10, 3)
    assert folder.ignored == {".txt": 1}


def test_a_file_is_recognised_by_its_content_not_by_its_name(pair):
    a, b = pair
    Image.new("RGB", (64, 64), "red").save(a / "named.png", "JPEG")
    assert look(a, b).folders["A"].formats == {"PNG": 10, "JPEG": 1}


def test_a_format_has_one_name_and_8_bit_pictures_have_a_mode(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for name in ("a.tif", "b.tiff", "c.ome.tif", "d.jxl"):
        write_image(made(tmp_path / "a") / name, picture)
    found = look(tmp_path / "a").folders["A"]
    assert found.formats == {"TIFF": 3, "JXL": 1}
    assert found.kinds == {"RGB 8-bit": 4}
    for name in ("a.tif", "b.tiff"):  # Pillow reads none of these
        write_image(made(tmp_path / "deep") / name, np.zeros((32, 32, 5), np.float64))
    assert look(tmp_path / "deep").folders["A"].formats == {"TIFF": 2}


def test_dicom_files_have_one_name_also_in_a_zip(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    source = Path(pydicom.__file__).parent / "data/test_files/MR_small.dcm"
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as packed:
        packed.write(source, "scan.dcm")
        packed.write(source, "scan.ima")
    assert look(tmp_path / "scans.zip").folders["A"].formats == {"DICOM": 2}


def test_warnings_of_libraries_do_not_reach_the_user(tmp_path):
    folder = make_folder(tmp_path / "a", 2)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"  # cut
    for index in range(2):
        Image.open(folder / f"{index}.png").save(folder / f"{index}.jpg", exif=exif)
    command = [sys.executable, "-W", "default", "-m", "cyclegan", "inspect", str(folder)]
    assert "Corrupt EXIF" not in subprocess.run(command, capture_output=True, text=True, check=True).stderr


def test_a_truncated_file_with_a_good_header_is_found_by_name(pair):
    a, b = pair
    picture = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(picture).save(b / "cut.jpg")
    whole = (b / "cut.jpg").read_bytes()
    (b / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (b / "empty.png").write_bytes(b"")
    found = look(a, b)
    assert Image.open(b / "cut.jpg").size == (200, 200)
    assert [file.name for file, _ in found.folders["B"].unreadable] == ["cut.jpg", "empty.png"]
    assert len(found.folders["B"]) == 10
    assert "2 of the 12 images of B" in advice(found, "files")
    assert "Training passes over such files." in advice(found, "files")
    assert "truncated" in shown(found)


def test_mixed_types_are_a_problem(pair):
    a, b = pair
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(a / "deep.png")
    found = look(a, b)
    assert found.folders["A"].dtypes == {"uint8": 10, "uint16": 1}
    assert "10 uint8, 1 uint16" in advice(found, "types")
    assert "training uses the 10 uint8 alone" in advice(found, "types")  # as it does


def test_types_of_which_none_is_most_are_refused_by_training(tmp_path):
    make_folder(made(tmp_path / "a"), 1)
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "a" / "deep.png")
    assert "training refuses that" in advice(look(tmp_path / "a"), "types")


def test_a_file_with_infinite_values_is_named(tmp_path):
    for index in range(3):
        np.save(made(tmp_path / "a") / f"{index}.npy", np.random.default_rng(index).random((32, 32, 2)))
    np.save(tmp_path / "a" / "hole.npy", np.full((32, 32, 2), np.inf))
    (unreadable,) = look(tmp_path / "a").folders["A"].unreadable
    assert unreadable[0] == Path("hole.npy")
    assert "infinite" in unreadable[1]
    assert str(tmp_path) not in unreadable[1]  # the file is named beside


def test_deep_images_are_reported_with_their_channels_and_range(tmp_path):
    rng = np.random.default_rng(0)
    made(tmp_path / "a"), made(tmp_path / "b")
    for index in range(4):
        Image.fromarray(rng.integers(100, 4000, (40, 40)).astype(np.uint16)).save(tmp_path / "a" / f"{index}.png")
        np.save(tmp_path / "b" / f"{index}.npy", rng.random((40, 40, 5), dtype=np.float32))
    (tmp_path / "b" / "0.npy").unlink()
    hot = rng.random((40, 40, 5), dtype=np.float32)
    hot[0, 0] = 900
    np.save(tmp_path / "b" / "hot.npy", hot)
    found = look(tmp_path / "a", tmp_path / "b")
    a, b = found.folders["A"], found.folders["B"]
    assert (a.kinds, b.kinds) == ({"uint16 1-channel": 4}, {"float32 5-channel": 4})
    assert 100 <= a.low < 200 < 3900 < a.high < 4000
    assert b.high == 900
    assert "--channels-a 1" in advice(found, "channels")
    assert "--channels-b 5" in advice(found, "channels")
    # One hot pixel takes the range; the values that matter are named.
    assert "--range-b 0.0" in advice(found, "range")
    assert b.middle[1] < 1
    # The values of A fill their range.
    assert "--range-a" in advice(found, "range", problem=False)
    assert abs(a.colour.brightness - 0.5) < 0.05


def test_a_given_range_is_reported_with_the_share_that_it_clips(tmp_path):
    for index in range(2):
        np.save(made(tmp_path / "a") / f"{index}.npy", np.linspace(-1000, 1000, 4096).reshape(64, 64, 1))
    clips, wide = (look(tmp_path / "a", channels_a=1, range_a=ends) for ends in ((-500, 1000), (-4000, 4000)))
    text = advice(clips, "range", problem=False)
    assert text.startswith("Values of A from -500 to 1000, set by --range-a, become -1 to 1. 25% of the values lie out")
    assert "by hand" not in text
    assert "clipped" not in advice(wide, "range")
    assert "99.8 % of all lie between" in advice(wide, "range")


@pytest.mark.parametrize("channels", [2, 4, 300])
def test_a_band_apart_from_the_others_is_no_outlier(tmp_path, channels):
    rng = np.random.default_rng(0)
    for index in range(4):
        values = rng.integers(463, 2354, (40, 40, channels)).astype(np.uint16)
        values[..., -max(1, channels // 4) :] += 2600
        np.save(made(tmp_path / "a") / f"{index}.npy", values)
    found = look(tmp_path / "a", channels_a=channels)
    bottom, top = found.folders["A"].middle
    assert (bottom < 480, top > 4900) == (True, True)
    assert not advice(found, "range")


def test_held_out_deep_images_are_seen_in_the_range_of_the_training_images(tmp_path):
    for folder, top in (("a", 1000), ("test", 500)):
        ramp = np.linspace(0, top, 40 * 40).reshape(40, 40).astype(np.uint16)
        for index in range(2):
            Image.fromarray(np.roll(ramp, index)).save(made(tmp_path / folder) / f"{index}.png")
    found = look(tmp_path / "a", test_a=tmp_path / "test")
    assert found.folders["test A"].colour.brightness == pytest.approx(0.25, abs=0.01)


def test_files_are_read_as_the_flags_of_training_say(tmp_path, capsys):
    for index in range(3):
        values = np.random.default_rng(index).integers(10, 4000, (20, 24, 4)).astype(np.uint16)
        values[:10, :12] = 9
        write_image(made(tmp_path / "bands") / f"{index}.tif", values)
    grey = make_folder(tmp_path / "grey", 3)
    flags = "--bands-a 4,2 --channels-a 2 --nodata-a 9 --channels-b 1"
    main(["inspect", str(tmp_path / "bands"), str(grey), *flags.split()])
    assert "25% (no data 9)" in " ".join(capsys.readouterr().out.split())

    found = look(tmp_path / "bands", grey, bands_a="4,2", channels_a=2, nodata_a=9, channels_b=1)
    a, b = found.folders["A"], found.folders["B"]
    assert (a.kinds, a.holes.share, a.low >= 10) == ({"uint16 2-channel": 3}, 0.25, True)
    assert b.num_grey == 3
    assert not advice(found, "channels")
    assert "--channels-a 2" in advice(look(tmp_path / "bands", grey, bands_a="4,2"), "channels")
    with pytest.raises(InputError, match="bands_a is 0: '0' is no list of bands"):
        look(grey, bands_a=0)
    with pytest.raises(InputError, match="no setting crop_size; it takes channels_a"):
        look(grey, crop_size=64)


def test_a_run_is_read_with_its_own_channels_and_page_unless_told_otherwise(tmp_path):
    for name in ("a", "b"):
        for index in range(3):
            colours = np.random.default_rng(index).integers(0, 4000, (24, 24, 4)).astype(np.uint16)
            with TiffWriter(made(tmp_path / name) / f"{index}.tif") as file:
                file.write(np.zeros((30, 30), np.uint8), photometric="minisblack")
                file.write(colours + (name == "b"), photometric="rgb", extrasamples=["unassalpha"])
    settings = {"channels_a": 4, "page": 2, "out": tmp_path / "run", "steps": 1, **TINY}
    run = train(tmp_path / "a", tmp_path / "b", quiet=True, **settings)
    found = look(run)
    assert [folder.kinds for folder in found.folders.values()] == [{"uint16 4-channel": 3}, {"uint16 3-channel": 3}]
    assert not advice(found, "channels")
    other = look(run, page=1, channels_a=3).folders["A"]
    assert (other.kinds, other.largest.width) == ({"L 8-bit": 3}, 30)


def test_volumes_are_looked_at_in_the_slices_of_training(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = np.random.default_rng(0).integers(0, 900, (20, 22, 24)).astype(np.int16)
    volume = made(tmp_path / "a") / "brain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), volume)
    axial, sagittal = (look(tmp_path / "a", axis=axis, channels_a=1).folders["A"] for axis in (None, "sagittal"))
    assert (len(axial), axial.largest.width, axial.largest.height) == (24, 20, 22)
    assert (len(sagittal), sagittal.largest.width, sagittal.largest.height) == (20, 22, 24)
    assert (axial.formats, axial.num_bytes) == ({"NII.GZ": 24}, volume.stat().st_size)


def test_neighbouring_slices_of_a_volume_are_no_copies_and_equal_volumes_are(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    coarse = np.random.default_rng(0).integers(0, 900, (6, 6))
    values = np.repeat(coarse.repeat(4, 0).repeat(4, 1)[..., None], 20, 2) + 5 * np.arange(20)
    for name in ("one", "two"):
        image = nibabel.Nifti1Image(values.astype(np.int16), np.eye(4))
        nibabel.save(image, made(tmp_path / name) / f"{name}.nii")
    (alone,) = look(tmp_path / "one", channels_a=1).copies
    assert alone.copies == ()
    (tmp_path / "two" / "two.nii").rename(tmp_path / "one" / "two.nii")
    (both,) = look(tmp_path / "one", channels_a=1).copies
    assert (len(both.copies), all(copy.exact for copy in both.copies)) == (20, True)


# ---- folders and runs


def test_a_root_and_a_single_folder_are_taken(tmp_path):
    for name in ("trainA", "trainB", "testA"):
        make_folder(tmp_path / "root" / name, 3, seed=ord(name[-1]))
    assert list(look(tmp_path / "root").folders) == ["A", "B", "test A"]
    alone = look(tmp_path / "root" / "trainA", test_a=tmp_path / "root" / "testA")
    assert list(alone.folders) == ["A", "test A"]
    assert alone.distance is None
    assert "B brightness" not in shown(alone)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("nowhere", "There is no folder nowhere"),
        ("a nowhere", "There is no folder nowhere"),
        ("a/0.png", "a/0.png is a file; expected a folder"),
        ("a a/0.png", "a/0.png is a file; expected a folder"),
        ("a --test-a nowhere", "There is no folder nowhere"),
        ("a a", "Both domains are the folder a"),
        ("a --test-b a", "for a domain B, which was not given"),
        ("empty", "empty holds no images; expected files of type .jpg"),
        ("other", "holds no images (but 2 of type .psd)"),
        ("bad", "None of the 1 images in bad can be read; the first is x.png"),
        ("a b c", "one folder or two"),
        ("", "one folder or two"),
        ("a --out page", "--out is page; expected the name of a page"),
    ],
)
def test_bad_input_is_reported_in_one_sentence(tmp_path, monkeypatch, capsys, folders, message):
    monkeypatch.chdir(tmp_path)
    make_folder(Path("a"), 2)
    made(Path("empty")), made(Path("other")), made(Path("bad"))
    Path("empty/.hidden.png").write_bytes(b"")
    Path("other/1.psd").touch(), Path("other/2.PSD").touch(), Path("bad/x.png").touch()
    with pytest.raises(SystemExit) as stop:
        main(f"inspect {folders}".split())
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert message in captured.err
    assert not captured.out
    assert len(captured.err.strip().splitlines()) == 1


def test_file_names_that_are_not_unicode_are_accepted(pair, tmp_path):
    a, b = pair
    odd = bytes(a) + b"/odd\xff.png"
    try:
        Path(odd.decode(errors="surrogateescape")).write_bytes((a / "0.png").read_bytes())
        Path((bytes(a) + b"/cut\xfe.png").decode(errors="surrogateescape")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    found = look(a, b)
    assert "odd\\udcff.png = 0.png" in shown(found)
    assert "cut\\udcfe.png" in shown(found)
    write_inspection(found, tmp_path / "page.html")


def test_a_run_is_described_with_the_folders_that_it_was_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = make_folder(Path("a"), 5), make_folder(Path("b"), 6, seed=1)
    out = train(a, b, out="run", steps=4, log_steps=2, preset="demo", quiet=True, **TINY)
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps({"event": "warning", "step": 3, "message": "Too bright."}) + "\n")
        log.write(json.dumps({"event": "unreadable", "step": 3, "path": "a/9.png", "reason": "cut"}) + "\n")
        log.write('{"step": 9, "cyc')
    found = look(out)
    run = found.run
    assert (run.preset, run.step, run.share, run.model_step, run.logged_step) == ("demo", 4, 1.0, 4, 4)
    assert run.length == "4 steps"
    assert run.checkpoints == ("step_0000004",)
    assert {"cycle_a", "adversarial_a2b"} <= set(run.losses)
    assert run.num_bytes > (out / "model" / "a2b.safetensors").stat().st_size
    assert (len(found.folders["A"]), len(found.folders["B"])) == (5, 6)
    # Advice is about the run's own crop.
    assert "--crop-size 16" in advice(found, "size") + advice(found, "size", problem=False)
    text = shown(found, 200)
    assert "preset demo, 4 steps" in text
    assert "warning: Too bright." in text
    assert "a/9.png" in text

    # Its folders have moved away: one sentence, and what is known of the run.
    a.rename("elsewhere")
    found = look(out)
    assert (found.folders, found.advice) == ({}, ())
    assert f"There is no folder {tmp_path / 'a'}" in found.run.missing
    assert found.run.missing in shown(found, 500)
    assert "preset demo, 4 steps" in shown(found, 200)
    write_inspection(found, Path("page.html"))
    with pytest.raises(InputError, match="give it alone"):
        look(out, b)


def test_a_run_that_has_saved_nothing_yet_is_described(tmp_path):
    config = make_config(a="nowhere", minutes=5.0)
    (tmp_path / "config.toml").write_text(to_toml(config))
    run = look(tmp_path).run
    assert (run.step, run.share, run.model_step, run.losses, run.length) == (None, None, None, {}, "5 minutes")
    assert "no checkpoint" in shown(look(tmp_path), 200)


# ---- the screen, the page, the machine


def test_the_screen_holds_everything_within_80_columns(pair, tmp_path):
    a, b = pair
    tests = {name: make_folder(tmp_path / name, 3, seed=5) for name in ("test_a", "test_b")}
    text = shown(look(a, b, **tests))
    assert max(len(line) for line in text.splitlines()) <= 80
    for word in ("images", "usual size", "64x64 (all)", "A brightness |", "B saturation |", "Advice:"):
        assert word in text


def test_the_page_is_self_contained_and_shows_pictures_of_every_finding(pair, tmp_path, capsys):
    a, b = pair
    Image.open(a / "2.png").save(a / "z<i>.jpg", quality=75)
    (b / "cut.png").write_bytes(b"")
    page = tmp_path / "page.html"
    main(["inspect", str(a), str(b), "--out", str(page)])
    captured = capsys.readouterr()
    assert "Advice:" in captured.out
    assert str(page) in captured.err
    html = page.read_text()
    assert html.count("data:image/") == 2 + 1 + 2  # two contact sheets, the distributions, one pair
    assert "http" not in html.replace("http-equiv", "")
    assert "z&lt;i&gt;.jpg ~ 2.png" in html
    assert "cut.png" in html
    assert "How far apart the domains are" in html


def test_long_lists_are_cut_on_the_screen_and_counted(pair):
    a, b = pair
    for index in range(12):
        shutil.copy(a / "0.png", a / f"copy{index:02}.png")
    text = shown(look(a, b))
    assert "12 exact" in text
    assert "copy07.png" in text
    assert "copy09.png" not in text
    assert "and 4 more" in text


def test_long_lists_are_cut_on_the_page_and_counted(pair, tmp_path):
    a, b = pair
    for index in range(300):
        shutil.copy(a / "0.png", a / f"copy{index:03}.png")
        (b / f"broken{index:03}.png").write_bytes(b"no image")
    write_inspection(look(a, b), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The first 200 of 300." in page
    assert "broken199.png" in page
    assert "broken200.png" not in page
    assert "... and 100 more" in page
    assert "copy199.png" in page
    assert "copy200.png" not in page


def test_few_images_are_in_memory_at_once(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "a", 60)
    done = []
    ahead = []

    def read(*_):
        ahead.append(len(ahead) - len(done))
        return Raster(np.zeros((20, 24, 3), np.uint8))

    monkeypatch.setattr("cyclegan.inspection.seen_file.load_raster", read)
    survey_folder(folder, on_file=lambda count, total: done.append((count, total)))
    assert done == [(count, 60) for count in range(1, 61)]
    assert max(ahead) <= 16


def test_ctrl_c_stops_reading_at_once_and_leaves_no_page(tmp_path):
    folder = make_folder(tmp_path / "a", 400)
    code = (
        "import os, signal, sys, time, cyclegan.inspection.seen_file as seen_file\n"
        "from cyclegan.cli import main\n"
        "read, first = seen_file.load_raster, iter([True])\n"
        "def slowly(*arguments):\n"
        "    print('reading', file=sys.stderr, flush=True)\n"
        "    for _ in first:\n"  # by itself, so that no time passes until the signal comes
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(0.1)\n"
        "    return read(*arguments)\n"
        "seen_file.load_raster = slowly\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, "inspect", str(folder), "--out", str(tmp_path / "page.html")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert out == ""
    assert err.count("reading") < 100
    assert not list(tmp_path.glob("*page*"))
