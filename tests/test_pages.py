"""Pages: one picture of a file that holds several, chosen by `--page` or by its own path, the same in every command."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import TINY
from cyclegan import InputError, Translator, evaluate, inspect_folders, train
from cyclegan.cli import main
from cyclegan.config import DataConfig, Reading
from cyclegan.data.preprocessing import load_resized
from cyclegan.images.codecs import load_raster, probe_image, read_raster
from cyclegan.images.formats import ImageFormat
from cyclegan.translate.folder import translate_folder
from cyclegan.translate.progress import FolderProgress
from pictures import ANIMATIONS, Negative, level, make_translator, numbered, save_animation


def shown(path, page, channels=3):
    """The brightness of the flat lower half, which tells the number of a frame."""
    return load_raster(path, channels, Reading(page=page)).values[-4:].mean()


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_a_page_of_an_animation_is_that_frame(tmp_path, suffix):
    source = save_animation(tmp_path / f"x{suffix}")
    for page in (1, 2, 5):
        assert shown(source, page) == pytest.approx(level(page - 1), abs=2)
        assert shown(source, page, channels=1) == pytest.approx(level(page - 1), abs=2)
        assert load_raster(source / str(page), 3).values[-4:].mean() == pytest.approx(level(page - 1), abs=2)
        assert probe_image(source, page) == probe_image(source)
    for page in (6, 10**6):
        for read in (lambda page: load_raster(source, 3, Reading(page=page)), lambda page: probe_image(source, page)):
            with pytest.raises(InputError, match=f"x{suffix} has 5 pages, and page {page} is asked for"):
                read(page)
    with pytest.raises(InputError, match="has 5 pages, and page two is asked for"):
        load_raster(source / "two", 3)


def test_frames_of_a_gif_are_composited_whatever_order_they_are_read_in(tmp_path):
    background = Image.new("P", (8, 8), 0)
    background.putpalette([10, 20, 30, 200, 0, 0])
    patch = background.copy()
    patch.putpixel((3, 3), 1)
    background.save(tmp_path / "x.gif", save_all=True, append_images=[patch, background], duration=50)
    values = load_raster(tmp_path / "x.gif", 3, Reading(page=2)).values
    assert values[3, 3].tolist() == [200, 0, 0]
    assert values[0, 0].tolist() == [10, 20, 30]


def test_the_still_picture_of_an_apng_is_no_page(tmp_path):
    first, *more = numbered()
    first.save(tmp_path / "x.png", save_all=True, append_images=more, default_image=True, duration=40)
    assert shown(tmp_path / "x.png", None) == level(0)
    assert shown(tmp_path / "x.png", 1) == level(1)
    with pytest.raises(InputError, match="has 4 pages, and page 5"):
        shown(tmp_path / "x.png", 5)


@pytest.mark.parametrize("out", ["out", "x.jpg", "x.webp"])
def test_a_frame_of_a_gif_becomes_a_png_only_where_no_other_kind_is_asked_for(tmp_path, monkeypatch, out):
    notes = []
    monkeypatch.setattr(FolderProgress, "note", lambda _, message: notes.append(message))
    source = save_animation(tmp_path / "x.gif")
    translate_folder(make_translator(), source, tmp_path / out, page=2)
    becomes = "A GIF of one picture becomes a PNG, which keeps all colours; a GIF has 256."
    assert [note for note in notes if "GIF" in note] == ([becomes] if out == "out" else [])


@pytest.mark.parametrize("name", ["x.jpg", "x.bmp", "x.png", "x.gif", "x.npy", "x.tif", "x.webp", "x.ppm"])
def test_a_file_of_one_picture_has_one_page(tmp_path, name):
    array = np.full((20, 24, 3), 90, np.uint8)
    if name == "x.npy":
        np.save(tmp_path / name, array)
    else:
        Image.fromarray(array).save(tmp_path / name)
    assert shown(tmp_path / name, 1) == pytest.approx(90, abs=1)
    for read in (lambda: shown(tmp_path / name, 2), lambda: probe_image(tmp_path / name, 2)):
        with pytest.raises(InputError, match=f"{name} has 1 page, and page 2 is asked for"):
            read()


def test_pages_of_heic_and_jpeg_xl(tmp_path):
    heif, imagecodecs = pytest.importorskip("pillow_heif"), pytest.importorskip("imagecodecs")
    frames = numbered(3)
    file = heif.from_pillow(frames[0])
    for frame in frames[1:]:
        file.add_from_pillow(frame)
    file.save(tmp_path / "x.heic", quality=90)
    stacked = np.stack([np.asarray(frame) for frame in frames])
    (tmp_path / "x.jxl").write_bytes(imagecodecs.jpegxl_encode(stacked, lossless=True))
    (tmp_path / "grey.jxl").write_bytes(imagecodecs.jpegxl_encode(stacked[..., 0], lossless=True, photometric="gray"))
    for name in ("x.heic", "x.jxl", "grey.jxl"):
        assert shown(tmp_path / name, None) == pytest.approx(level(0), abs=2)
        assert shown(tmp_path / name, 3) == pytest.approx(level(2), abs=2)
        assert probe_image(tmp_path / name, 3)[:2] == (20, 24)
        with pytest.raises(InputError, match=f"{name} has 3 pages, and page 4 is asked for"):
            shown(tmp_path / name, 4)


def test_an_animation_of_16_bits_has_no_pages(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), 1000 * index, np.uint16)) for index in range(3)]
    save_animation(tmp_path / "x.png", frames)
    with pytest.raises(InputError, match=r"x.png is an animation of 16 bits, which is not read"):
        load_raster(tmp_path / "x.png", 1, Reading(page=2))


# ---- the commands


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_translate_takes_one_page_of_an_animation(tmp_path, suffix):
    source = save_animation(tmp_path / f"x{suffix}")
    for given, options in ((source, {"page": 2}), (source / "2", {})):
        result = translate_folder(make_translator(Negative()), given, tmp_path / f"out{len(options)}", **options)
        ((_, target),) = result.written
        with Image.open(target) as picture:
            assert getattr(picture, "n_frames", 1) == 1
            assert np.asarray(picture.convert("RGB"))[-4:].mean() == pytest.approx(255 - level(1), abs=2)
    assert np.asarray(make_translator(Negative())(source / "2"))[-4:].mean() == pytest.approx(255 - level(1), abs=2)
    result = translate_folder(make_translator(Negative()), source, tmp_path / "none", page=6)
    assert len(result.written) == 0
    assert [reason for _, reason in result.skipped] == [f"{source} has 5 pages, and page 6 is asked for."]


def test_a_page_in_a_zip_and_one_that_a_model_was_trained_on(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(save_animation(tmp_path / "x.webp"), "cats/x.webp")
    inside = tmp_path / "x.zip" / "cats" / "x.webp"
    assert shown(inside, 3) == pytest.approx(level(2), abs=2)
    assert load_raster(inside / "3", 3).values[-4:].mean() == pytest.approx(level(2), abs=2)
    result = translate_folder(make_translator(page=3), tmp_path / "x.zip", tmp_path / "out")
    with Image.open(result.written[0][1]) as picture:
        assert getattr(picture, "n_frames", 1) == 1
        assert np.asarray(picture.convert("RGB"))[-4:].mean() == pytest.approx(level(2), abs=2)
    # All of them, where it is asked for.
    result = translate_folder(make_translator(page=3), tmp_path / "x.zip", tmp_path / "all", pages="all")
    with Image.open(result.written[0][1]) as picture:
        assert picture.n_frames == 5


def test_one_picture_of_an_animation_is_no_clip(tmp_path):
    from cyclegan.video import plan_translation

    with pytest.raises(InputError, match=r"--out .*y.mp4 is a clip, and .*x.gif is an image"):
        plan_translation([save_animation(tmp_path / "x.gif")], tmp_path / "y.mp4", make_translator(page=2))


def test_a_page_of_a_dicom_file_is_one_frame(tmp_path):
    data = pytest.importorskip("pydicom.data")
    source = tmp_path / "x.dcm"
    source.write_bytes(Path(data.get_testdata_file("examples_ybr_color.dcm")).read_bytes())
    expected = read_raster(source, ImageFormat(page=3)).values
    result = translate_folder(make_translator(), source, tmp_path / "out", page=3)
    ((_, target),) = result.written
    np.testing.assert_array_equal(read_raster(target, ImageFormat()).values, expected)


def test_slices_of_a_volume_have_names_instead_of_pages(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "x.nii.gz")
    translator = make_translator(a=1, b=1, dtype="int16", high=300)
    result = translate_folder(translator, tmp_path / "x.nii.gz", tmp_path / "out", page=3)
    assert len(result.written) == 0
    ((_, reason),) = result.skipped
    assert "x.nii.gz has no slice 3; its axial slices are z0 to z5" in reason


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of GIFs: page 1 is black, page 2 is grey in A and bright in B."""
    root = tmp_path_factory.mktemp("gifs")
    rng = np.random.default_rng(0)
    for name, middle in (("a", 90), ("b", 200)):
        (root / name).mkdir()
        for index in range(6):
            second = Image.fromarray(rng.integers(middle - 40, middle + 40, (20, 24), dtype=np.uint8))
            Image.new("L", (24, 20)).save(root / name / f"{index}.gif", save_all=True, append_images=[second])
    return root / "a", root / "b"


@pytest.fixture(scope="module")
def run(folders):
    return train(*folders, out=folders[0].parent / "run", quiet=True, page=2, **{**TINY, "steps": 2})


def test_training_and_inspection_read_the_page(folders, run):
    info = json.loads((run / "model" / "config.json").read_text())
    assert info["a"]["page"] == 2
    data = DataConfig(crop_size=16, load_size=18, page=2)
    pixels = load_resized(folders[0] / "0.gif", ImageFormat(page=2), data)
    assert pixels.values.mean() == pytest.approx(90, abs=8)
    brightness = [inspect_folders(*folders, page=page).folders["A"].colour.brightness for page in (1, 2)]
    assert brightness[0] == 0
    assert brightness[1] == pytest.approx(90 / 255, abs=0.05)


def test_evaluation_reads_the_page_of_the_model(folders, run, monkeypatch):
    from cyclegan.evaluation import test_images

    read, values = test_images.read_raster, []

    def remember(path, image_format, *args):
        raster = read(path, image_format, *args)
        values.append(raster.values.mean())
        return raster

    monkeypatch.setattr(test_images, "read_raster", remember)
    evaluate(run, a=folders[0], b=folders[1], device="cpu", out=run / "scores")
    assert values
    assert min(values) > 50


def test_a_page_that_no_file_has_ends_training_in_one_sentence(folders, tmp_path, capsys):
    words = ["train", *map(str, folders), "--out", str(tmp_path / "run"), "--steps", "1", "--device", "cpu"]
    with pytest.raises(SystemExit):
        main([*words, "--page", "3"])
    shown = capsys.readouterr().err
    assert "None of the 6 images in" in shown
    assert "has 2 pages, and page 3 is asked for" in shown
    assert "Traceback" not in shown


def test_the_command_takes_a_page(folders, run, tmp_path, capsys):
    source = folders[0] / "0.gif"
    main(["translate", str(run), str(source), "--out", str(tmp_path / "y.png"), "--page", "2", "--precision", "fp32"])
    expected = Translator.load(run)(source / "2")
    with Image.open(tmp_path / "y.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), expected)
    main(["translate", str(run), str(source), "--out", str(tmp_path / "out"), "--page", "2", "--precision", "fp32"])
    with Image.open(tmp_path / "out" / "0.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), expected)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["translate", str(run), str(source), "--out", str(tmp_path / "y.png"), "--page", "7"])
    assert "has 2 pages, and page 7 is asked for" in capsys.readouterr().err
