"""The law of the round trip: with a network that changes nothing, what goes in comes out.

In the same type, size, depth, place, orientation, profile and holes, over formats, depths, channels, sizes and
metadata; what a format cannot keep is said once by name. Files are written and read back by other libraries than ours.

CYCLEGAN_FUZZ=100 pytest tests/test_round_trip.py tries a hundred times as many.
"""

import io
import math
from dataclasses import dataclass, field

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from corpus import in_profile, muted, pillow_bytes, scene, tiff_bytes, turned
from cyclegan import ModelConfig, Translator
from cyclegan.errors import InputError
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.formats import ImageFormat
from cyclegan.sequences.registry import format_by_name
from cyclegan.storage.model import ModelInfo
from cyclegan.translate.folder import translate_folder
from cyclegan.translate.progress import FolderProgress
from fuzzing import fuzz_settings
from pictures import Same
from profiles import rgb_profile, srgb_profile

# What the file formats must keep at least, and how far values may be off after being compressed twice.
KEEPS = {
    ".png": {"alpha", "profile", "resolution"},
    ".jpg": {"profile", "resolution", "exif"},
    ".webp": {"alpha", "profile", "exif"},
    ".avif": {"alpha", "profile", "exif"},
    ".bmp": {"resolution"},
    ".tif": {"alpha", "profile", "resolution", "description", "place", "nodata"},
    ".npy": set(),
}
LOSSY = {".jpg": 16, ".webp": 48, ".avif": 48}

INTEGERS = ("uint8", "uint16", "int8", "int16", "uint32", "int32")
FLOATS = ("float16", "float32", "float64")


def translator_of(image_format):
    model = ModelConfig(width=4, blocks=1, channels_a=image_format.channels, channels_b=image_format.channels)
    sizes = {"preprocess": "none", "load_size": 256, "crop_size": 256}
    formats = {"a": image_format, "b": image_format}
    info = ModelInfo(cyclegan_version="", model=model, step=0, translate_with="final", **formats, **sizes)
    return Translator(Same(), info, "a2b", torch.device("cpu"))


class Notes(FolderProgress):
    """The messages that a user sees."""

    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def translate(source, out, image_format, **options):
    """The outputs of a folder, by name, and the notes."""
    progress = Notes()
    result = translate_folder(translator_of(image_format), source, out, progress=progress, **options)
    assert not result.skipped
    return {target.name: target for _, target in result.written}, progress.notes


# ---- files


@dataclass(frozen=True, eq=False)
class File:
    """A file, and what is in it: upright values (H, W, C) as they are stored, and as they are in sRGB."""

    suffix: str
    content: bytes
    values: np.ndarray
    srgb: np.ndarray
    image_format: ImageFormat
    alpha: np.ndarray | None = None
    valid: np.ndarray | None = None
    profile: bytes | None = None
    resolution: tuple[int, int] | None = None
    description: str | None = None
    nodata: float | None = None
    transform: rasterio.Affine | None = None
    about: dict = field(default_factory=dict)

    def _repr_pretty_(self, printer, _cycle):
        """How hypothesis prints it."""
        printer.text(f"File({self.about})")


def limits(dtype):
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return -200.0, 1000.0
    info = np.iinfo(kind)
    return float(max(info.min, -(2**30))), float(min(info.max, 2**30))


def random_values(seed, shape, dtype):
    rng = np.random.default_rng(seed)
    low, high = limits(dtype)
    if np.dtype(dtype).kind == "f":
        return rng.uniform(low, high, shape).astype(dtype)
    return rng.integers(int(low), int(high), shape, endpoint=True).astype(dtype)


@st.composite
def files(draw, suffixes=tuple(KEEPS)):
    suffix = draw(st.sampled_from(suffixes))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    dtypes = {".png": ("uint8", "uint16"), ".tif": INTEGERS + FLOATS, ".npy": INTEGERS + FLOATS}
    dtype = draw(st.sampled_from(dtypes.get(suffix, ("uint8",))))
    counts = {".tif": (1, 2, 3, 5), ".npy": (1, 3, 4, 7), ".webp": (3,), ".avif": (3,)}
    channels = draw(st.sampled_from(counts.get(suffix, (1, 3))))
    is_picture = dtype == "uint8" and channels in (1, 3)
    seed = draw(st.integers(0, 10**6))
    if suffix in LOSSY:
        values = scene(str(seed), channels, size=(height, width))
        if channels == 3:  # pale, because WebP and AVIF halve the resolution of colours
            values = values // 4 + scene(f"{seed} grey", 1, size=(height, width)) // 4 * 3
    else:
        values = random_values(seed, (height, width, channels), dtype)
    low, high = limits(dtype)
    about = {"suffix": suffix, "shape": values.shape, "dtype": dtype}
    found = {"image_format": ImageFormat(channels=channels, dtype=dtype, low=low, high=high, alpha=False)}
    found["srgb"] = values

    def choose(name, possible, strategy):
        """A part of the file that half of them have."""
        if possible and draw(st.booleans()):
            found[name] = about[name] = draw(strategy)
        return found.get(name)

    can_alpha = channels in (1, 3) and dtype in ("uint8", "uint16") and "alpha" in KEEPS[suffix]
    if can_alpha and draw(st.booleans()):
        full, rng = np.iinfo(dtype).max, np.random.default_rng(seed + 1)
        found["alpha"] = rng.choice([0, full // 3, full, full], (height, width)).astype(dtype)
        found["valid"] = found["alpha"] > 0
        about["alpha"] = True
    name = None
    if is_picture and channels == 3 and "profile" in KEEPS[suffix] and draw(st.booleans()):
        name = about["profile"] = draw(st.sampled_from(["srgb", "display-p3", "adobe-rgb"]))
        found["profile"] = srgb_profile() if name == "srgb" else rgb_profile(name)
        found["srgb"] = muted(values)
        values = np.asarray(in_profile(found["srgb"], found["profile"]))
    has_resolution = suffix == ".tif" or (is_picture and suffix in (".jpg", ".png", ".bmp"))
    choose("resolution", has_resolution, st.sampled_from([(72, 72), (300, 150), (600, 600)]))
    choose("description", suffix in (".tif", ".jpg"), st.sampled_from(["A field", "x" * 300, "two words; 100 %"]))
    if suffix == ".tif":
        missing = [math.nan, -9999.0] if dtype in FLOATS else [0.0, float(np.iinfo(dtype).max)]
        if "alpha" not in found and name is None and choose("nodata", True, st.sampled_from(missing)) is not None:
            rng = np.random.default_rng(seed + 2)
            found["valid"] = rng.random((height, width)) < 0.7
            other = 1 if found["nodata"] == 0 else low
            taken = values == found["nodata"]
            found["srgb"] = values = np.where(taken, np.asarray(other, dtype), values)
        angle = choose("transform", True, st.sampled_from([0, 12, -90]))
        if angle is not None:
            place = rasterio.Affine.translation(500000, 5600000) * rasterio.Affine.rotation(angle)
            found["transform"] = place * rasterio.Affine.scale(10, -10)
    can_turn = is_picture and suffix in (".jpg", ".png", ".webp", ".tif") and "transform" not in found
    orientation = draw(st.integers(1, 8)) if can_turn else 1
    about["orientation"] = orientation
    layout = draw(st.sampled_from(["strips", "tiles", "planar", "big endian"])) if suffix == ".tif" else ""
    about["layout"] = layout
    return File(suffix, encode(suffix, values, found, orientation, layout), values, about=about, **found)


def encode(suffix, values, found, orientation, layout):
    """The content of a file, by Pillow, tifffile, imagecodecs or NumPy."""
    stored = values
    if found.get("nodata") is not None:
        stored = np.where(found["valid"][..., None], values, np.asarray(found["nodata"]).astype(values.dtype))
    if found.get("alpha") is not None:
        stored = np.concatenate([stored, found["alpha"][..., None]], -1)
    stored = np.ascontiguousarray(turned(stored, orientation))
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, stored if stored.shape[2] > 1 else stored[..., 0])
        return buffer.getvalue()
    if suffix == ".tif":
        return encode_tiff(stored, values.shape[2], found, orientation, layout)
    if stored.dtype == np.uint16:
        return imagecodecs.png_encode(stored.squeeze(-1) if stored.shape[2] == 1 else stored)
    exif = Image.Exif()
    if orientation > 1:
        exif[0x0112] = orientation
    if found.get("description"):
        exif[0x010E] = found["description"]
    options = {
        ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
        ".png": {"format": "PNG"},
        ".webp": {"format": "WEBP", "lossless": True, "exact": True},
        ".avif": {"format": "AVIF", "quality": 95, "subsampling": "4:4:4"},
        ".bmp": {"format": "BMP"},
    }[suffix]
    more = {"exif": exif} if len(exif) else {}
    if found.get("profile"):
        more["icc_profile"] = found["profile"]
    if found.get("resolution"):
        more["dpi"] = found["resolution"][:: -1 if orientation >= 5 else 1]
    return pillow_bytes(Image.fromarray(stored.squeeze(-1) if stored.shape[2] == 1 else stored), **options, **more)


def encode_tiff(stored, channels, found, orientation, layout):
    num_extra = stored.shape[2] - (3 if channels == 3 else 1)
    options = {"photometric": "rgb" if channels == 3 else "minisblack", "extratags": []}
    if num_extra:
        options["extrasamples"] = ["unspecified"] * num_extra
        options["planarconfig"] = "contig"
    if found.get("alpha") is not None:
        options["extrasamples"][-1] = "unassalpha"
    if layout == "tiles":
        options |= {"tile": (16, 16), "compression": "deflate"}
    elif layout == "big endian":
        options["byteorder"] = ">"
    elif layout == "planar" and stored.shape[2] > 1:
        options["planarconfig"] = "separate"
        stored = np.ascontiguousarray(np.moveaxis(stored, -1, 0))
    if orientation > 1:
        options["extratags"].append((274, 3, 1, orientation, True))
    if found.get("profile"):
        options["iccprofile"] = found["profile"]
    if found.get("resolution"):
        options |= {"resolution": found["resolution"][:: -1 if orientation >= 5 else 1], "resolutionunit": "INCH"}
    if found.get("description"):
        options["description"] = found["description"]
    if found.get("nodata") is not None:
        text = "nan" if math.isnan(found["nodata"]) else f"{found['nodata']:.15g}"
        options["extratags"].append((42113, 2, 0, text, True))
    if found.get("transform") is not None:
        a, b, c, d, e, f, *_ = found["transform"]
        matrix = (a, b, 0.0, c, d, e, 0.0, f, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)  # projected, pixels are areas, UTM 32 N
        options["extratags"] += [(34264, 12, 16, matrix, True), (34735, 3, len(keys), keys, True)]
    if stored.ndim == 3 and stored.shape[-1] == 1 and options.get("planarconfig") != "separate":
        stored = stored[..., 0]
    return tiff_bytes(stored, **options)


# ---- what comes out


@dataclass(frozen=True)
class Found:
    """What another library finds in a file. values: (H, W, samples) as they are stored."""

    values: np.ndarray
    profile: bytes | None
    resolution: tuple[float, float] | None
    description: str | None
    orientation: int
    nodata: str | None = None
    extra_samples: tuple[int, ...] = ()


def read_back(path):
    if path.suffix == ".npy":
        array = np.load(path)
        return Found(array if array.ndim == 3 else array[..., None], None, None, None, 1)
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            assert len(file.pages) == 1
            page = file.pages[0]
            array, tags = page.asarray(), page.tags
            if page.planarconfig == 2 and page.samplesperpixel > 1:
                array = np.moveaxis(array, 0, -1)
            resolution = page.get_resolution("INCH") if 282 in tags else None
            return Found(
                array if array.ndim == 3 else array[..., None],
                page.iccprofile,
                resolution,
                page.description or None,
                int(tags.valueof(274, 1)),
                tags.valueof(42113),
                tuple(map(int, page.extrasamples)),
            )
    with Image.open(path) as picture:
        exif = picture.getexif()
        array = np.asarray(picture)
        if path.suffix == ".png" and path.read_bytes()[24] == 16:
            array = imagecodecs.imread(path)
        return Found(
            array if array.ndim == 3 else array[..., None],
            picture.info.get("icc_profile"),
            picture.info.get("dpi"),
            exif.get(0x010E),
            exif.get(0x0112, 1),
        )


def check_values(found, expected, tolerance, valid):
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    if valid is not None:
        difference = difference[valid]
    assert difference.max(initial=0) <= tolerance


def check(file, path, keep_profile):
    found = read_back(path)
    channels = file.values.shape[2]
    low, high = file.image_format.low, file.image_format.high
    tolerance = LOSSY.get(file.suffix, 0) + (0 if np.dtype(file.values.dtype).itemsize <= 2 else (high - low) * 2**-22)
    if file.profile is not None:
        tolerance += 3
    if file.values.dtype == np.float16:
        tolerance = 0.5
    expected = file.values if keep_profile else file.srgb
    check_values(found.values[..., :channels], expected, tolerance, file.valid)

    keeps = file_format_of(path).keeps
    assert keeps >= KEEPS[file.suffix]
    assert found.orientation == 1
    if file.alpha is not None and file.suffix in LOSSY and file.valid.all():
        assert found.values.shape[2] - channels in (0, 1)  # encoders may drop what is opaque
    elif file.alpha is not None:
        assert found.values.shape[2] == channels + 1
        check_values(found.values[..., channels], file.alpha, LOSSY.get(file.suffix, 0), None)
    else:
        assert found.values.shape[2] == channels
    if keep_profile and file.profile is not None:
        assert found.profile == file.profile
    elif found.profile is not None:
        about = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(found.profile)))
        assert "sRGB" in about
    if file.resolution is not None and "resolution" in keeps:
        assert tuple(map(float, found.resolution)) == pytest.approx(file.resolution, abs=0.6)
    if file.description is not None and "description" in keeps:
        assert found.description == file.description
    if file.nodata is not None:
        assert float(found.nodata) == pytest.approx(file.nodata, nan_ok=True)
        holes = found.values[~file.valid]
        assert np.array_equal(holes, np.full_like(holes, file.nodata), equal_nan=True)
    if file.transform is not None:
        with rasterio.open(path) as there:
            assert there.transform.almost_equals(file.transform)
            assert there.crs.to_epsg() == 32632
            assert (there.height, there.width, there.count) == found.values.shape


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A fresh folder for each example."""
    root, count = tmp_path_factory.mktemp("round"), iter(range(10**9))

    def make():
        folder = root / str(next(count)) / "in"
        folder.mkdir(parents=True)
        return folder, folder.parent / "out"

    return make


@pytest.mark.parametrize("suffix", KEEPS)
def test_what_goes_in_comes_out(suffix, places):
    @fuzz_settings(40 if suffix == ".tif" else 15)
    @given(files((suffix,)), st.booleans(), st.sampled_from([None, 32]))
    def law(file, keep_profile, tile):
        folder, out = places()
        for name in ("one", "two"):
            (folder / f"{name}{suffix}").write_bytes(file.content)
        outputs, notes = translate(folder, out, file.image_format, keep_profile=keep_profile, tile=tile)
        assert sorted(outputs) == [f"one{suffix}", f"two{suffix}"]
        for path in outputs.values():
            check(file, path, keep_profile)
        assert len(notes) == len(set(notes))

    law()


# ---- what cannot be kept


def picture(**options):
    """A small PNG."""
    alpha = options.pop("alpha", False)
    values = scene("picture", 4 if alpha else 3)
    return pillow_bytes(Image.fromarray(values), "PNG", **options)


def tiff(**options):
    return tiff_bytes(scene("tiff", 3), photometric="rgb", **options)


def tiff_with_a_hole():
    """Grey, where the value of the first pixel marks holes."""
    values = scene("tiff", 1)[..., 0]
    return tiff_bytes(values, photometric="minisblack", extratags=[(42113, 2, 0, str(values[0, 0]), True)])


def exif_of(code, text):
    exif = Image.Exif()
    exif[code] = text
    return exif


PLACE = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 500000.0, 5600000.0, 0.0), True)]

# What is lost, as the message says it: content, suffix of the input, suffix of the output, options.
LOST = {
    "transparency": (picture(alpha=True), ".png", ".jpg", {}),
    "colour profile": (picture(icc_profile=rgb_profile("display-p3")), ".png", ".bmp", {"keep_profile": True}),
    "resolution": (picture(dpi=(300, 300)), ".png", ".webp", {}),
    "description": (tiff(description="A field"), ".tif", ".bmp", {}),
    "EXIF": (pillow_bytes(Image.new("RGB", (9, 9)), "JPEG", exif=exif_of(0x010F, "a camera")), ".jpg", ".bmp", {}),
    "place on earth": (tiff(extratags=PLACE), ".tif", ".png", {}),
    "holes": (tiff_with_a_hole(), ".tif", ".jpg", {}),
}


@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("name", LOST)
def test_what_a_format_cannot_keep_is_said_by_name(name, tile, places):
    content, suffix, target, options = LOST[name]
    folder, out = places()
    (folder / f"x{suffix}").write_bytes(content)
    out.mkdir()
    outputs, notes = translate(folder / f"x{suffix}", out / f"y{target}", ImageFormat(), tile=tile, **options)
    assert list(outputs) == [f"y{target}"]
    assert [f"{target} files have no" in note for note in notes if name in note] == [True], notes


@pytest.mark.parametrize("tile", [None, 32])
def test_what_several_images_lose_is_said_once(tile, places):
    folder, out = places()
    for number in range(3):  # PNG by its content, and the result gets the suffix of the name
        content = picture(alpha=True, icc_profile=rgb_profile("display-p3"))
        (folder / f"{number}.jpg").write_bytes(content)
    outputs, notes = translate(folder, out, ImageFormat(), tile=tile)
    assert len(outputs) == 3
    assert [note for note in notes if "transparency of 3 images" in note and ".jpg" in note]
    assert [note for note in notes if "3 images" in note and "display-p3" in note]
    assert len(notes) == 2 + (tile is not None)


@pytest.mark.parametrize(("alpha", "suffix"), [(False, ".tif"), (True, ".png"), (None, ".png")])
def test_a_fourth_band_does_not_become_transparency(tmp_path, alpha, suffix):
    # Infrared as the alpha of a PNG would make dark places invisible.
    values = np.random.default_rng(0).integers(1, 256, (20, 30, 4), np.uint8)
    Image.fromarray(values).save(tmp_path / "x.png")
    translator = translator_of(ImageFormat(channels=4, alpha=alpha))
    result = translate_folder(translator, tmp_path / "x.png", tmp_path / "out")
    made = tmp_path / "out" / f"x{suffix}"
    assert [target for _, target in result.written] == [made]
    assert isinstance(translator(tmp_path / "x.png"), np.ndarray if alpha is False else Image.Image)
    if alpha is False:
        with tifffile.TiffFile(made) as file:
            assert [int(kind) for kind in file.pages[0].extrasamples] == [0]
            assert np.array_equal(file.asarray(), values)
        with pytest.raises(InputError, match=r"x\.vrt: \.vrt files are read and never written; use \.tif instead"):
            translate_folder(translator, made, tmp_path / "y" / "x.vrt")
        with pytest.raises(InputError, match=r"x\.png: that format cannot hold 4 x uint8 .*; use \.tif instead"):
            translate_folder(translator, made, tmp_path / "y" / "x.png")
    else:
        assert np.array_equal(np.asarray(Image.open(made)), values)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animations_have_no_fourth_band(suffix):
    row = format_by_name(f"x{suffix}")
    assert row.can_hold(ImageFormat(channels=4))
    assert not row.can_hold(ImageFormat(channels=4, alpha=False))
