"""What a file says across and down is true of the upright image, in every format that has an orientation."""

import io

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from corpus import scene, turned
from cyclegan.images.codecs import load_raster
from cyclegan.images.filetypes.tiff_tags import read_layout
from cyclegan.translate.folder import translate_folder
from pictures import make_translator
from profiles import rgb_profile

ACROSS, DOWN = 300, 150

FORMATS = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".png": {},
    ".webp": {"lossless": True},
    ".avif": {"quality": 95, "subsampling": "4:4:4"},
    ".tif": {},
}


def camera_exif(orientation, width, height, across, down):
    """EXIF of an image as it is stored."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "a camera"
    exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = float(across), float(down)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight] = width, height
    details[ExifTags.Base.ColorSpace] = 65535
    return exif


def make_file(path, values, orientation, profile=None):
    """A file whose upright image has 300 pixels per inch across and 150 down."""
    stored = np.ascontiguousarray(turned(values, orientation))
    across, down = (DOWN, ACROSS) if orientation >= 5 else (ACROSS, DOWN)
    exif = camera_exif(orientation, stored.shape[1], stored.shape[0], across, down)
    options = {"icc_profile": profile} if profile else {}
    Image.fromarray(stored).save(path, exif=exif, dpi=(across, down), **FORMATS[path.suffix], **options)
    return path


def resolution_of(path):
    if path.suffix == ".tif":
        return read_layout(path).pages[0].metadata.resolution
    with Image.open(path) as picture:
        return picture.info.get("dpi")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_resolution_is_that_of_the_upright_image(tmp_path, suffix, orientation):
    path = make_file(tmp_path / f"x{suffix}", scene("upright", 3), orientation)
    found = load_raster(path, 3)
    assert found.values.shape == scene("upright", 3).shape
    if suffix in (".jpg", ".png", ".tif"):  # the others have it in their EXIF data alone
        assert tuple(map(float, found.metadata.resolution)) == pytest.approx((ACROSS, DOWN), abs=0.1)


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_the_resolution_of_a_deep_tiff_and_png_is_that_of_the_upright_image(tmp_path, orientation):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = scene("upright", 3).astype(np.uint16) * 257
    stored = np.ascontiguousarray(turned(values, orientation))
    given = (DOWN, ACROSS) if orientation >= 5 else (ACROSS, DOWN)
    tifffile.imwrite(
        tmp_path / "x.tif", stored, photometric="rgb", resolution=given, resolutionunit=2,
        extratags=[(274, 3, 1, orientation, True)],
    )  # fmt: skip
    small = io.BytesIO()
    exif = camera_exif(orientation, stored.shape[1], stored.shape[0], *given)
    Image.new("RGB", (1, 1)).save(small, "PNG", dpi=given, exif=exif)
    png, described = imagecodecs.png_encode(stored), small.getvalue()
    chunks = described[33 : described.index(b"IDAT") - 4]
    (tmp_path / "x.png").write_bytes(png[:33] + chunks + png[33:])
    for name in ("x.tif", "x.png"):
        found = load_raster(tmp_path / name, 3)
        np.testing.assert_array_equal(found.values, values)
        assert tuple(map(float, found.metadata.resolution)) == pytest.approx((ACROSS, DOWN), abs=0.1)


@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix != ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_data_of_a_result_are_true_of_it(tmp_path, suffix, orientation, tile):
    path = make_file(tmp_path / f"x{suffix}", scene("upright", 3), orientation, rgb_profile("display-p3"))
    for keep_profile in (False, True):
        out = tmp_path / f"out{keep_profile}"
        result = translate_folder(make_translator(), path, out, tile=tile, keep_profile=keep_profile)
        target = result.written[0][1]
        with Image.open(target) as picture:
            exif, size = picture.getexif(), picture.size
            assert picture.info.get("icc_profile") == (rgb_profile("display-p3") if keep_profile else None)
        height, width = scene("upright", 3).shape[:2]
        assert size == (width, height)
        assert exif[ExifTags.Base.Make] == "a camera"
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        assert (exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution]) == (ACROSS, DOWN)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (width, height)
        # Uncalibrated is what is not sRGB.
        assert details[ExifTags.Base.ColorSpace] == (65535 if keep_profile else 1)
        if suffix in (".jpg", ".png"):
            assert tuple(map(float, resolution_of(target))) == pytest.approx((ACROSS, DOWN), abs=0.6)


@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_resolution_goes_from_one_format_to_another(tmp_path, orientation, tile):
    path = make_file(tmp_path / "x.jpg", scene("upright", 3), orientation)
    for target in ("y.png", "y.tif", "y.bmp"):
        translate_folder(make_translator(), path, tmp_path / target, tile=tile)
        assert tuple(map(float, resolution_of(tmp_path / target))) == pytest.approx((ACROSS, DOWN), abs=0.6)


def test_heic_is_upright_by_its_own_properties(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    values = scene("upright", 3)
    for orientation in (1, 3, 6, 8):
        stored = Image.fromarray(np.ascontiguousarray(turned(values, orientation)))
        given = (DOWN, ACROSS) if orientation >= 5 else (ACROSS, DOWN)
        exif = camera_exif(orientation, stored.width, stored.height, *given)
        path, target = tmp_path / f"{orientation}.heic", tmp_path / f"{orientation}_out.heic"
        heif.from_pillow(stored).save(path, quality=95, chroma=444, exif=exif.tobytes())
        translate_folder(make_translator(), path, target)
        for file in (path, target):
            found = load_raster(file, 3)
            assert found.values.shape == values.shape
            assert np.abs(found.values.astype(int) - values).mean() < 5
        exif = Image.Exif()
        exif.load(heif.open_heif(target).info["exif"])
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        assert (exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution]) == (ACROSS, DOWN)
