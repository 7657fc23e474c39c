"""A corpus of small image files, good and broken, and what a reader must find in each. The same at every run.

    entries = corpus()                    # made once in a process
    path = entries[0].write(folder)

Expected values are known because the file was made from them, never by reading it back.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import rasterio
import tifffile
from PIL import Image, ImageCms, TiffImagePlugin

from profiles import cmyk_profile, grey_profile, rgb_profile, srgb_profile

ALPHA, GREY_ALPHA = 4, 2

# How far a value may be from the truth: quality 95 of a smooth picture, and a conversion of colours in 8 bits.
LOSSY, COLOURS = 14, 2


@dataclass(frozen=True, eq=False)
class Entry:
    """One file of the corpus.

    values: (H, W, C), upright, what a reader must return as the values; None if the file is not good.
    alpha: (H, W) of the same type; valid: (H, W), False in holes; None where the file has none.
    tolerance: how far values may be off, of lossy files. alternatives: other values that are as right.
    kind: "good"; "broken": must be refused; "odd": may be refused or read, because damage that changes only values
    cannot be seen; "pages": several images in a file; "left out": not found in a folder.
    profile, resolution, description, nodata, transform: what the file says besides; None where it says nothing.
    make: creates what is not a file with content. origin: of a damaged file, the good one.
    """

    name: str | bytes
    content: bytes = b""
    values: np.ndarray | None = None
    alpha: np.ndarray | None = None
    valid: np.ndarray | None = None
    tolerance: float = 0
    kind: str = "good"
    profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    description: str | None = None
    nodata: float | None = None
    transform: tuple[float, ...] | None = None
    make: Callable[[Path], object] | None = None
    origin: "Entry | None" = None

    @property
    def is_good(self) -> bool:
        return self.kind == "good"

    @property
    def suffix(self) -> str:
        return Path(self.text).suffix.lower()

    @property
    def text(self) -> str:
        return self.name if isinstance(self.name, str) else self.name.decode("utf-8", "surrogateescape")

    @property
    def label(self) -> str:
        """A name for pytest: printable, and short."""
        return ascii(self.text).strip("'")[:60]

    def write(self, folder: Path) -> Path:
        path = folder / self.text
        if self.make is not None:
            self.make(path)
        else:
            path.write_bytes(self.content)
        return path


@cache
def corpus() -> tuple[Entry, ...]:
    """All entries, each with a name of its own."""
    makers = (
        *(pictures, orientations, colours, deep_files, arrays, tiff_layouts, tiff_meanings, tiff_pages, geotiffs),
        *(names, wrong_suffixes, truncated, flipped, bombs, nonsense),
    )
    entries = [entry for maker in makers for entry in maker()]
    names_of = [entry.text for entry in entries]
    assert len(set(names_of)) == len(names_of), sorted(name for name in names_of if names_of.count(name) > 1)
    return tuple(entries)


# ---- contents


def scene(name: str, channels: int, dtype: str = "uint8", size: tuple[int, int] | None = None) -> np.ndarray:
    """(H, W, channels): smooth, without symmetry, over the middle of the type's range; its own for each name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    height, width = size or (int(rng.integers(24, 49)), int(rng.integers(49, 65)))
    coarse = rng.random((4, 5, channels))
    rows, columns = np.linspace(0, 2.999, height), np.linspace(0, 3.999, width)
    y, x = rows.astype(int), columns.astype(int)
    down, across = (rows - y)[:, None, None], (columns - x)[None, :, None]
    above = coarse[y][:, x] * (1 - across) + coarse[y][:, x + 1] * across
    below = coarse[y + 1][:, x] * (1 - across) + coarse[y + 1][:, x + 1] * across
    smooth = np.ascontiguousarray(above * (1 - down) + below * down)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (smooth * 900 - 100).astype(kind)
    info = np.iinfo(kind)
    low, high = (info.min, info.max) if kind.itemsize < 4 else (info.min // 2, 2_000_000_000)
    return np.rint(low + (0.05 + 0.9 * smooth) * (high - low)).astype(kind)


def mask_of(name: str, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: True with a hole of about a fifth."""
    rng = np.random.default_rng(zlib.crc32(name.encode()) + 1)
    valid = np.ones(shape, bool)
    top, left = int(rng.integers(2, shape[0] // 2)), int(rng.integers(2, shape[1] // 2))
    valid[top : top + shape[0] // 2, left : left + shape[1] // 3] = False
    return valid


def alpha_of(name: str, shape: tuple[int, int], full: int = 255) -> np.ndarray:
    """(H, W): opaque, with a hole that is transparent and an edge that is half so."""
    valid = mask_of(name, shape)
    alpha = np.where(valid, full, 0)
    alpha[0] = full // 2
    return alpha.astype(np.uint8 if full == 255 else np.uint16)


def pillow_bytes(picture: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def tiff_bytes(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    bigtiff, byteorder = options.pop("bigtiff", False), options.pop("byteorder", "<")
    pages = options.pop("pages", None)
    with tifffile.TiffWriter(buffer, bigtiff=bigtiff, byteorder=byteorder, **options.pop("writer", {})) as file:
        file.write(array, **{"metadata": None, **options})
        for page, more in pages or ():
            file.write(page, **{"metadata": None, **more})
    return buffer.getvalue()


def npy_bytes(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


# ---- good pictures of 8 bits

# Suffix, Pillow's format, options, tolerance, and the modes that it writes.
PILLOW_FORMATS = [
    (".jpg", "JPEG", {"quality": 95, "subsampling": 0}, LOSSY, "L RGB CMYK YCbCr"),
    (".jpeg", "JPEG", {"quality": 95, "progressive": True}, 24, "L RGB"),
    (".jfif", "JPEG", {"quality": 95, "subsampling": 0}, LOSSY, "RGB"),
    (".jpe", "JPEG", {"quality": 95, "subsampling": 0}, LOSSY, "L"),
    (".png", "PNG", {}, 0, "1 L LA P RGB RGBA"),
    (".webp", "WEBP", {"lossless": True, "exact": True}, 0, "RGB RGBA"),
    (".avif", "AVIF", {"quality": 100, "subsampling": "4:4:4"}, LOSSY, "RGB RGBA"),
    (".bmp", "BMP", {}, 0, "1 L P RGB"),
    (".dib", "DIB", {}, 0, "RGB"),
    (".gif", "GIF", {}, 0, "1 L P"),
    (".tif", "TIFF", {}, 0, "1 L LA P RGB RGBA CMYK YCbCr"),
    (".tiff", "TIFF", {"compression": "tiff_lzw"}, 0, "L RGB RGBA P"),
    (".ppm", "PPM", {}, 0, "RGB"),
    (".pgm", "PPM", {}, 0, "L"),
    (".pbm", "PPM", {}, 0, "1"),
    (".pnm", "PPM", {}, 0, "RGB"),
    (".tga", "TGA", {}, 0, "L LA P RGB RGBA"),
    (".jp2", "JPEG2000", {}, 0, "L LA RGB RGBA"),
    (".j2k", "JPEG2000", {}, 0, "RGB"),
    (".pcx", "PCX", {}, 0, "1 L P RGB"),
    (".sgi", "SGI", {}, 0, "L RGB RGBA"),
    (".qoi", "QOI", {}, 0, "RGB RGBA"),
    (".dds", "DDS", {}, 0, "RGB RGBA"),
]


def naive_cmyk(array: np.ndarray) -> np.ndarray:
    """CMYK without black ink."""
    return np.concatenate([255 - array, np.zeros_like(array[..., :1])], -1)


def of_mode(name: str, mode: str) -> tuple[Image.Image, dict]:
    """A picture of this mode, and the fields that say what is in it."""
    if mode in ("1", "L"):
        values = scene(name, 1)
        if mode == "1":
            values = np.where(values > 127, 255, 0).astype(np.uint8)
            return Image.fromarray(values[..., 0]).convert("1", dither=Image.Dither.NONE), {"values": values}
        return Image.fromarray(values[..., 0]), {"values": values}
    values = scene(name, 3)
    if mode in ("LA", "RGBA"):
        values = values if mode == "RGBA" else values[..., :1]
        alpha = alpha_of(name, values.shape[:2])
        picture = Image.fromarray(np.concatenate([values, alpha[..., None]], -1), mode)
        return picture, {"values": values, "alpha": alpha, "valid": alpha > 0}
    if mode == "P":
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        palette, indices = rng.integers(0, 256, (16, 3), np.uint8), values[..., 0] // 16
        picture = Image.fromarray(indices, "P")
        picture.putpalette(palette.tobytes())
        return picture, {"values": palette[indices]}
    if mode == "CMYK":
        return Image.fromarray(naive_cmyk(values), "CMYK"), {"values": values}
    if mode == "YCbCr":  # the conversion itself rounds
        return Image.fromarray(values).convert("YCbCr"), {"values": values, "tolerance": 2 * COLOURS}
    return Image.fromarray(values), {"values": values}


def pictures():
    for suffix, format, options, tolerance, modes in PILLOW_FORMATS:
        for mode in modes.split():
            name = f"{format.lower()}-{mode}{suffix}"
            picture, expected = of_mode(name, mode)
            expected["tolerance"] = max(tolerance, expected.get("tolerance", 0))
            if format == "AVIF" and mode == "RGBA":  # colours of transparent pixels need not survive
                expected["tolerance"] = 24
            yield Entry(name, pillow_bytes(picture, format, **options), **expected)
    for mode, suffix in (("RGB", ".heic"), ("RGBA", ".heic"), ("RGB", ".heif")):
        name = f"heif-{mode}{suffix}"
        picture, expected = of_mode(name, mode)
        buffer = io.BytesIO()
        pillow_heif.from_pillow(picture).save(buffer, quality=95, chroma=444)
        yield Entry(name, buffer.getvalue(), **{**expected, "tolerance": 24})
    for channels, dtype in ((1, "uint8"), (3, "uint8"), (4, "uint8"), (3, "uint16")):
        name = f"jxl-{channels}-{dtype}.jxl"
        values = scene(name, channels, dtype)
        expected = {"values": values}
        if channels == ALPHA:
            values[..., 3] = alpha_of(name, values.shape[:2])
            expected = {"values": values[..., :3], "alpha": values[..., 3], "valid": values[..., 3] > 0}
        yield Entry(name, imagecodecs.jpegxl_encode(values.squeeze(), lossless=True), **expected)
    # Transparency without a channel of its own.
    name = "transparent-index.png"
    picture, expected = of_mode(name, "P")
    hole = np.asarray(picture) == np.asarray(picture)[5, 5]
    alpha = np.where(hole, 0, 255).astype(np.uint8)
    for target, format in ((name, "PNG"), ("transparent-index.gif", "GIF")):
        content = pillow_bytes(picture, format, transparency=int(np.asarray(picture)[5, 5]))
        yield Entry(target, content, **expected, alpha=alpha, valid=~hole)
    for channels, mode in ((1, "L"), (3, "RGB")):
        name = f"transparent-colour-{mode}.png"
        values = scene(name, channels)
        hole = ~mask_of(name, values.shape[:2])
        values[hole] = (9, 8, 7)[:channels]
        hole = (values == np.array((9, 8, 7)[:channels])).all(-1)
        key = 9 if mode == "L" else (9, 8, 7)
        content = pillow_bytes(Image.fromarray(values.squeeze()), "PNG", transparency=key)
        alpha = np.where(hole, 0, 255).astype(np.uint8)
        yield Entry(name, content, values=values, alpha=alpha, valid=~hole)
    # Sizes at the borders of what files hold.
    for size in ((1, 1), (1, 40), (40, 1), (3, 2)):
        for suffix, format, tolerance in ((".png", "PNG", 0), (".jpg", "JPEG", 24), (".tif", "TIFF", 0)):
            name = f"size-{size[0]}x{size[1]}{suffix}"
            values = scene(name, 3, size=size)
            options = {"quality": 95, "subsampling": 0} if format == "JPEG" else {}
            content = pillow_bytes(Image.fromarray(values), format, **options)
            yield Entry(name, content, values=values, tolerance=tolerance)


# ---- orientation


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as a camera stores them, of an image that is upright once the EXIF orientation is applied."""
    mirrored = np.fliplr(values)
    return {
        1: values,
        2: mirrored,
        3: np.rot90(values, 2),
        4: np.flipud(values),
        5: values.swapaxes(0, 1),
        6: np.rot90(values),
        7: np.rot90(values, 2).swapaxes(0, 1),
        8: np.rot90(values, -1),
    }[orientation]


def orientations():
    for suffix, format, options, tolerance in (
        (".jpg", "JPEG", {"quality": 95, "subsampling": 0}, LOSSY),
        (".png", "PNG", {}, 0),
        (".webp", "WEBP", {"lossless": True, "exact": True}, 0),
        (".tif", "TIFF", {}, 0),
    ):
        for orientation in range(1, 9):
            name = f"orientation-{orientation}{suffix}"
            values = scene(name, 3)
            stored = Image.fromarray(np.ascontiguousarray(turned(values, orientation)))
            exif = Image.Exif()
            exif[0x0112] = orientation
            exif[0x010F] = "a camera"
            yield Entry(name, pillow_bytes(stored, format, exif=exif, **options), values=values, tolerance=tolerance)
    for orientation in (2, 5, 6, 8):
        name = f"orientation-grey-{orientation}.tif"
        values = scene(name, 1)
        content = tiff_bytes(turned(values, orientation)[..., 0], extratags=[(274, 3, 1, orientation, True)])
        yield Entry(name, content, values=values)
    for orientation in (3, 6, 7):
        name = f"orientation-uint16-{orientation}.tif"
        values = scene(name, 1, "uint16")
        content = tiff_bytes(turned(values, orientation)[..., 0], extratags=[(274, 3, 1, orientation, True)])
        yield Entry(name, content, values=values)


# ---- colour profiles, resolution, description


def in_profile(values: np.ndarray, profile: bytes) -> Image.Image:
    """The picture of these sRGB values in the colours of a profile."""
    return ImageCms.profileToProfile(
        Image.fromarray(values), ImageCms.createProfile("sRGB"), io.BytesIO(profile), outputMode="RGB"
    )


def muted(values: np.ndarray) -> np.ndarray:
    """Colours that every profile here can hold, so that none is clipped."""
    return (90 + values.astype(np.float32) * 0.3).astype(np.uint8)


def colours():
    for label, profile in (
        ("srgb", srgb_profile()),
        ("display-p3", rgb_profile("display-p3")),
        ("adobe-rgb", rgb_profile("adobe-rgb")),
    ):
        for suffix, format, options, tolerance in (
            (".jpg", "JPEG", {"quality": 98, "subsampling": 0}, 8),
            (".png", "PNG", {}, COLOURS),
            (".webp", "WEBP", {"lossless": True, "exact": True}, COLOURS),
            (".tif", "TIFF", {}, COLOURS),
        ):
            name = f"profile-{label}{suffix}"
            values = muted(scene(name, 3))
            content = pillow_bytes(in_profile(values, profile), format, icc_profile=profile, **options)
            yield Entry(name, content, values=values, tolerance=tolerance, profile=profile)
    # With alpha, which no conversion may touch.
    name = "profile-display-p3-alpha.png"
    values, profile = muted(scene(name, 3)), rgb_profile("display-p3")
    alpha = alpha_of(name, values.shape[:2])
    picture = in_profile(values, profile)
    picture.putalpha(Image.fromarray(alpha))
    content = pillow_bytes(picture, "PNG", icc_profile=profile)
    yield Entry(name, content, values, alpha, alpha > 0, tolerance=COLOURS, profile=profile)
    # Grey of another gamma: linear light.
    name = "profile-grey-linear.png"
    linear = scene(name, 1)
    profile = grey_profile(1.0)
    light = linear / 255
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    content = pillow_bytes(Image.fromarray(linear[..., 0]), "PNG", icc_profile=profile)
    values = np.rint(encoded * 255).astype(np.uint8)
    yield Entry(name, content, values, tolerance=COLOURS, profile=profile)
    # Ink that is darker than the textbook's.
    profile = cmyk_profile()
    for suffix, format, options, tolerance in (
        (".jpg", "JPEG", {"quality": 98, "subsampling": 0}, 10),
        (".tif", "TIFF", {}, COLOURS),
    ):
        name = f"profile-cmyk{suffix}"
        inks = Image.fromarray(naive_cmyk(muted(scene(name, 3))), "CMYK")
        shown = ImageCms.profileToProfile(inks, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB")
        content = pillow_bytes(inks, format, icc_profile=profile, **options)
        yield Entry(name, content, np.asarray(shown), tolerance=tolerance, profile=profile)
    # What is no profile, or one of other colours than the file's, is no reason to refuse the picture.
    for label, profile in (("nonsense", b"no profile at all"), ("of-another-space", cmyk_profile())):
        name = f"profile-{label}.png"
        values = scene(name, 3)
        yield Entry(name, pillow_bytes(Image.fromarray(values), "PNG", icc_profile=profile), values)
    name = "lab.tif"
    values = muted(scene(name, 3))
    spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(values), *spaces, outputMode="LAB")
    yield Entry(name, pillow_bytes(lab, "TIFF"), values=values, tolerance=4)
    for suffix, format, options in (
        (".jpg", "JPEG", {"quality": 95, "subsampling": 0}),
        (".png", "PNG", {}),
        (".tif", "TIFF", {}),
        (".bmp", "BMP", {}),
    ):
        name = f"resolution{suffix}"
        values = scene(name, 3)
        content = pillow_bytes(Image.fromarray(values), format, dpi=(300, 150), **options)
        tolerance = LOSSY if format == "JPEG" else 0
        yield Entry(name, content, values=values, resolution=(300, 150), tolerance=tolerance)
    name = "description.tif"
    values = scene(name, 3)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[270] = "A field in May"
    content = pillow_bytes(Image.fromarray(values), "TIFF", tiffinfo=info, dpi=(72, 72))
    yield Entry(name, content, values, description="A field in May", resolution=(72, 72))
    name = "description-uint16.tif"
    values = scene(name, 1, "uint16")
    options = {"description": "A slide", "resolution": (1200, 1200), "resolutionunit": "INCH"}
    yield Entry(name, tiff_bytes(values[..., 0], **options), values, description="A slide", resolution=(1200, 1200))
    name = "resolution-in-cm.tif"
    values = scene(name, 3)
    options = {"photometric": "rgb", "resolution": (100, 100), "resolutionunit": "CENTIMETER"}
    yield Entry(name, tiff_bytes(values, **options), values, resolution=(254, 254))
    name = "comment.jpg"
    values = scene(name, 3)
    exif = Image.Exif()
    exif[0x010E] = "A harbour"
    content = pillow_bytes(Image.fromarray(values), "JPEG", quality=95, subsampling=0, exif=exif, comment=b"by hand")
    yield Entry(name, content, values=values, tolerance=LOSSY, description="by hand")


# ---- more depth


def deep_files():
    for mode, dtype in (("I;16", "uint16"), ("I", "int32"), ("F", "float32")):
        name = f"mode-{mode.replace(';', '')}.tif"
        values = scene(name, 1, dtype)
        yield Entry(name, pillow_bytes(Image.fromarray(values[..., 0]), "TIFF"), values=values)
    name = "mode-I16.png"
    values = scene(name, 1, "uint16")
    yield Entry(name, pillow_bytes(Image.fromarray(values[..., 0]), "PNG"), values=values)
    for channels in (1, 2, 3, 4):
        name = f"sixteen-bits-{channels}.png"
        values = scene(name, channels, "uint16")
        alpha = None
        if channels in (GREY_ALPHA, ALPHA):
            alpha = alpha_of(name, values.shape[:2], 65535)
            values[..., -1] = alpha
        content = imagecodecs.png_encode(values.squeeze())
        valid = None if alpha is None else alpha > 0
        yield Entry(name, content, values if alpha is None else values[..., :-1], alpha, valid)
    for channels in (1, 3):
        name = f"sixteen-bits-{channels}.jp2"
        values = scene(name, channels, "uint16")
        content = imagecodecs.jpeg2k_encode(values.squeeze(), level=0, codecformat="jp2", reversible=True)
        yield Entry(name, content, values=values)
    name = "sixteen-bits.ppm"
    values = scene(name, 1, "uint16")
    header = f"P5 {values.shape[1]} {values.shape[0]} 65535\n".encode()
    yield Entry("sixteen-bits.pgm", header + values.astype(">u2").tobytes(), values)
    name = "floats.pfm"
    values = scene(name, 1, "float32")
    yield Entry(name, pillow_bytes(Image.fromarray(values[..., 0]), "PPM"), values)


def arrays():
    for dtype in ("uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", "float16", "float32", "float64"):
        name = f"array-{dtype}.npy"
        values = scene(name, 1, dtype)
        yield Entry(name, npy_bytes(values[..., 0]), values=values)
    for channels in (1, 3, 4, 5):
        name = f"array-{channels}-channels.npy"
        values = scene(name, channels)
        yield Entry(name, npy_bytes(values), values=values)
    name = "array-big-endian.npy"
    values = scene(name, 2, "uint16")
    yield Entry(name, npy_bytes(values.astype(">u2")), values=values)
    name = "array-fortran.npy"
    values = scene(name, 3, "float32")
    yield Entry(name, npy_bytes(np.asfortranarray(values)), values=values)
    name = "array-nan.npy"
    values = scene(name, 1, "float32")
    valid = mask_of(name, values.shape[:2])
    yield Entry(name, npy_bytes(np.where(valid[..., None], values, np.nan)), values, valid=valid)
    yield Entry("array-channels-first.npy", npy_bytes(np.moveaxis(scene("chw", 3), -1, 0)), kind="pages")
    for label, array in {
        "vector": np.arange(9, dtype=np.uint8),
        "five-axes": np.zeros((2, 2, 2, 2, 2), np.uint8),
        "empty": np.zeros((0, 8), np.uint8),
        "complex": np.ones((4, 4), np.complex64),
        "bool": np.ones((30, 30), bool),
        "text": np.array([["a", "b"], ["c", "d"]]),
        "times": np.zeros((3, 3), "datetime64[s]"),
        "records": np.zeros((3, 3), [("x", "u1"), ("y", "u1")]),
    }.items():
        yield Entry(f"array-{label}.npy", npy_bytes(array), kind="odd" if label == "bool" else "broken")
    objects = npy_bytes(np.array([[{}, []], [None, "x"]], object), allow_pickle=True)
    yield Entry("array-objects.npy", objects, kind="broken")
    yield Entry("array-all-nan.npy", npy_bytes(np.full((30, 30), np.nan, np.float32)), kind="odd")
    infinite = np.full((30, 30), 3, np.float32)
    infinite[4, 5] = np.inf
    yield Entry("array-infinite.npy", npy_bytes(infinite), kind="odd")


# ---- TIFF

LAYOUTS = {
    "strips": {"rowsperstrip": 7},
    "one-strip": {},
    "tiles": {"tile": (16, 16)},
    "tiles-deflate": {"tile": (32, 16), "compression": "deflate"},
    "lzw": {"compression": "lzw"},
    "deflate-predictor": {"compression": "deflate", "predictor": True, "rowsperstrip": 8},
    "lzw-predictor-tiles": {"compression": "lzw", "predictor": True, "tile": (16, 32)},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "lzma": {"compression": "lzma"},
    "big-endian": {"byteorder": ">"},
    "big-endian-tiles": {"byteorder": ">", "tile": (16, 16), "compression": "zstd"},
    "bigtiff": {"bigtiff": True},
}


def tiff_layouts():
    for label, options in LAYOUTS.items():
        for channels, dtype in ((1, "uint8"), (3, "uint8"), (1, "uint16"), (3, "uint16"), (1, "float32")):
            if dtype == "float32" and label == "packbits":
                continue
            name = f"tiff-{label}-{channels}-{dtype}.tif"
            values = scene(name, channels, dtype)
            kind = "rgb" if channels == 3 else "minisblack"
            yield Entry(
                name,
                tiff_bytes(values.squeeze(-1) if channels == 1 else values, photometric=kind, **options),
                values=values,
            )
    for label, options in (("strips", {"rowsperstrip": 9}), ("tiles", {"tile": (16, 16), "compression": "deflate"})):
        for channels, dtype in ((3, "uint8"), (4, "uint8"), (3, "uint16"), (5, "float32")):
            name = f"tiff-planar-{label}-{channels}-{dtype}.tif"
            values = scene(name, channels, dtype)
            more = {"photometric": "rgb" if channels == 3 else "minisblack"}
            if channels > 3:
                more["extrasamples"] = ["unspecified"] * (channels - 1)
            content = tiff_bytes(np.moveaxis(values, -1, 0), planarconfig="separate", **more, **options)
            yield Entry(name, content, values=values)
    for dtype in ("int8", "int16", "int32", "uint32", "uint64", "float16", "float64"):
        for label, options in (("plain", {}), ("tiles", {"tile": (16, 16), "compression": "deflate"})):
            name = f"tiff-type-{label}-{dtype}.tif"
            values = scene(name, 1, dtype)
            yield Entry(name, tiff_bytes(values[..., 0], photometric="minisblack", **options), values=values)
    for dtype in ("float16", "float32", "float64"):
        name = f"tiff-predictor-3-{dtype}.tif"
        values = scene(name, 1, dtype)
        yield Entry(name, tiff_bytes(values[..., 0], compression="deflate", predictor=3), values=values)
    for label, compression, arguments, tolerance in (
        ("jpeg", "jpeg", {"level": 95}, 48),  # colours at half the resolution
        ("webp", "webp", {"lossless": True}, 0),
        ("png", "png", {}, 0),
        ("jpeg2000", "jpeg2000", {"level": 0, "reversible": True}, 0),
        ("jpegxl", "jpegxl", {"lossless": True}, 0),
        ("lerc", "lerc", {}, 0),
    ):
        for layout, options in (("strips", {}), ("tiles", {"tile": (32, 32)})):
            name = f"tiff-{label}-{layout}.tif"
            values = scene(name, 3, size=(48, 64))
            content = tiff_bytes(
                values, photometric="rgb", compression=compression, compressionargs=arguments, **options
            )
            yield Entry(name, content, values=values, tolerance=tolerance)
    for compression in ("tiff_jpeg", "group4", "group3", "tiff_adobe_deflate", "tiff_raw_16", "packbits"):
        name = f"tiff-by-pillow-{compression}.tif"
        if compression == "tiff_raw_16":
            continue
        picture, expected = of_mode(name, "1" if compression.startswith("group") else "RGB")
        expected["tolerance"] = 30 if compression == "tiff_jpeg" else 0
        options = {"quality": 95} if compression == "tiff_jpeg" else {}
        yield Entry(name, pillow_bytes(picture, "TIFF", compression=compression, **options), **expected)


def tiff_meanings():
    """Files in which the meaning of the samples is said by tags."""
    for dtype in ("uint8", "uint16"):
        name = f"tiff-min-is-white-{dtype}.tif"
        shown = scene(name, 1, dtype)
        stored = np.iinfo(dtype).max - shown
        yield Entry(name, tiff_bytes(stored[..., 0], photometric="miniswhite"), values=shown)
    name = "tiff-palette.tif"
    rng = np.random.default_rng(1)
    palette = rng.integers(0, 256, (256, 3), np.uint8)
    indices = scene(name, 1)[..., 0]
    colormap = palette.T.astype(np.uint16) * 257
    content = tiff_bytes(indices, photometric="palette", colormap=colormap)
    yield Entry(name, content, values=palette[indices])
    name = "tiff-palette-tiles.tif"
    indices = scene(name, 1)[..., 0]
    content = tiff_bytes(indices, photometric="palette", colormap=colormap, tile=(16, 16), compression="deflate")
    yield Entry(name, content, values=palette[indices])
    name = "tiff-bilevel.tif"
    values = np.where(scene(name, 1) > 127, 255, 0).astype(np.uint8)
    yield Entry(name, tiff_bytes(values[..., 0] > 0, photometric="minisblack"), values=values)
    for dtype in ("uint8", "uint16", "float32"):
        for layout, options in (("plain", {}), ("tiles", {"tile": (16, 16), "compression": "deflate"})):
            name = f"tiff-two-bands-{layout}-{dtype}.tif"
            values = scene(name, 2, dtype)
            content = tiff_bytes(
                values, photometric="minisblack", planarconfig="contig", extrasamples=["unspecified"], **options
            )
            yield Entry(name, content, values=values)
            name = f"tiff-rgb-nir-{layout}-{dtype}.tif"
            values = scene(name, 4, dtype)
            content = tiff_bytes(values, photometric="rgb", extrasamples=["unspecified"], **options)
            yield Entry(name, content, values=values)
    for dtype, full in (("uint8", 255), ("uint16", 65535)):
        for layout, options in (("plain", {}), ("tiles", {"tile": (16, 16), "compression": "deflate"})):
            name = f"tiff-alpha-{layout}-{dtype}.tif"
            values = scene(name, 3, dtype)
            alpha = alpha_of(name, values.shape[:2], full)
            stored = np.concatenate([values, alpha[..., None]], -1)
            content = tiff_bytes(stored, photometric="rgb", extrasamples=["unassalpha"], **options)
            yield Entry(name, content, values, alpha, alpha > 0)
            name = f"tiff-associated-alpha-{layout}-{dtype}.tif"
            values = scene(name, 3, dtype)
            alpha = alpha_of(name, values.shape[:2], full)
            ink = np.rint(values * (alpha[..., None] / full)).astype(dtype)
            content = tiff_bytes(
                np.concatenate([ink, alpha[..., None]], -1), photometric="rgb", extrasamples=["assocalpha"], **options
            )
            yield Entry(name, content, values, alpha, alpha > 0, tolerance=3)
    name = "tiff-grey-alpha.tif"
    values = scene(name, 1)
    alpha = alpha_of(name, values.shape[:2])
    stored = np.concatenate([values, alpha[..., None]], -1)
    content = tiff_bytes(stored, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    yield Entry(name, content, values, alpha, alpha > 0)
    name = "tiff-hyperspectral.tif"
    values = scene(name, 11, "uint16")
    content = tiff_bytes(values, photometric="minisblack", planarconfig="contig", extrasamples=["unspecified"] * 10)
    yield Entry(name, content, values=values)


def tiff_pages():
    """Files of more than one image: overviews and masks belong to the first, pages are images of their own."""
    for channels, dtype in ((3, "uint8"), (1, "uint16"), (4, "uint8")):
        name = f"tiff-overviews-in-sub-ifds-{channels}-{dtype}.tif"
        values = scene(name, channels, dtype, size=(48, 64))
        options = {"tile": (16, 16), "compression": "deflate"}
        options |= {"photometric": "rgb"} if channels > 1 else {"photometric": "minisblack"}
        if channels == 4:
            options["extrasamples"] = ["unspecified"]
        pixels = values[..., 0] if channels == 1 else values
        pages = [(pixels[::2, ::2], options | {"subfiletype": 1}), (pixels[::4, ::4], options | {"subfiletype": 1})]
        yield Entry(name, tiff_bytes(pixels, **options, subifds=2, pages=pages), values=values)
        name = f"tiff-overviews-as-pages-{channels}-{dtype}.tif"
        yield Entry(name, tiff_bytes(pixels, **options, pages=pages), values=values)
    name = "tiff-mask-page.tif"
    values = scene(name, 3)
    valid = mask_of(name, values.shape[:2])
    mask = (valid.astype(bool), {"photometric": 4, "subfiletype": 4})
    yield Entry(name, tiff_bytes(values, photometric="rgb", pages=[mask]), values, valid=valid)
    name = "tiff-thumbnail-page.tif"
    values = scene(name, 3)
    small = (values[::4, ::4].copy(), {"photometric": "rgb", "subfiletype": 1})
    yield Entry(name, tiff_bytes(values, photometric="rgb", pages=[small]), values)
    for channels, dtype in ((3, "uint8"), (1, "uint16"), (1, "uint8")):
        values = scene(f"pages-{channels}-{dtype}", channels, dtype, size=(40, 50))
        kind = {"photometric": "rgb" if channels == 3 else "minisblack"}
        pixels = values if channels == 3 else values[..., 0]
        pages = [(np.ascontiguousarray(pixels[:, ::-1]), kind), (np.ascontiguousarray(pixels[::-1]), kind)]
        yield Entry(f"tiff-pages-{channels}-{dtype}.tif", tiff_bytes(pixels, **kind, pages=pages), kind="pages")
    stack = np.moveaxis(scene("ome", 4, "uint16"), -1, 0)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stack, ome=True, metadata={"axes": "CYX"}, photometric="minisblack")
    yield Entry("tiff-ome.ome.tif", buffer.getvalue(), kind="pages")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stack[:3], imagej=True, metadata={"axes": "ZYX"})
    yield Entry("tiff-imagej.tif", buffer.getvalue(), kind="pages")


# ---- GeoTIFF


def geotiffs():
    turned = (
        rasterio.Affine.translation(500000, 5600000) * rasterio.Affine.rotation(12) * rasterio.Affine.scale(30, -30)
    )
    north = rasterio.Affine(10, 0, 399960, 0, -10, 5700000)
    for label, dtype, count, transform, nodata in (
        ("dem", "float32", 1, north, -9999.0),
        ("dem-nan", "float32", 1, north, float("nan")),
        ("zero", "uint8", 1, north, 0.0),
        ("zero-rgb", "uint8", 3, north, 0.0),
        ("sentinel", "uint16", 4, north, 0.0),
        ("signed", "int16", 1, north, -32768.0),
        ("turned", "uint8", 3, turned, None),
        ("turned-deep", "float64", 2, turned, None),
    ):
        for layout, options in (("strips", {}), ("tiles", {"tiled": True, "blockxsize": 16, "blockysize": 16})):
            name = f"geo-{label}-{layout}.tif"
            values = scene(name, count, dtype)
            if dtype.startswith("u"):
                values = np.maximum(values, 1)
            valid = None if nodata is None else mask_of(name, values.shape[:2])
            stored = values if valid is None else np.where(valid[..., None], values, nodata).astype(dtype)
            more = {"photometric": "rgb"} if count == 3 else {}
            with rasterio.MemoryFile() as memory:
                with memory.open(
                    driver="GTiff", height=values.shape[0], width=values.shape[1], count=count, dtype=dtype,
                    crs="EPSG:32632", transform=transform, nodata=nodata, **more, **options,
                ) as file:  # fmt: skip
                    file.write(np.moveaxis(stored, -1, 0))
                content = memory.read()
            place = tuple(transform)[:6]
            yield Entry(name, content, values, valid=valid, nodata=nodata, transform=place)


# ---- names


def plain_png(name: str) -> dict:
    values = scene(name, 3)
    return {"content": pillow_bytes(Image.fromarray(values), "PNG"), "values": values}


def names():
    for name in (
        "grüße-日本語-🌍.png",
        "with some  spaces .png",
        "-leading-dash.png",
        "--out.png",
        "n" * 240 + ".png",
        "ä" * 120 + ".png",
        "a\nnew line.png",
        "a\ttab.png",
        "'quotes\" & $(ls) `x`.png",
        "[bold]markup[red].png",
        "%d-%s-{0}.png",
        "UPPER.PNG",
        "Mixed.Png",
        "two.dots.png",
        "*?.png",
        "~.png",
        "back\\slash.png",
        b"not-utf-8-\xff\xfe.png",
    ):
        text = name if isinstance(name, str) else "bytes"
        yield Entry(name, **plain_png(text))
    values = scene("UPPER.TIF", 1, "uint16")
    yield Entry("UPPER.TIF", tiff_bytes(values[..., 0]), values)
    values = scene("UPPER.JPG", 3)
    yield Entry("UPPER.JPG", pillow_bytes(Image.fromarray(values), "JPEG", quality=95), values, tolerance=24)
    yield Entry(".hidden.png", **plain_png("hidden"), kind="left out")


def wrong_suffixes():
    values = scene("wrong", 3)
    picture = Image.fromarray(values)
    for suffix, format in (("jpg", "PNG"), ("png", "JPEG"), ("bmp", "PNG"), ("webp", "PNG"), ("tif", "PNG")):
        name = f"in-truth-{format.lower()}.{suffix}"
        options = {"quality": 95, "subsampling": 0} if format == "JPEG" else {}
        tolerance = LOSSY if format == "JPEG" else 0
        yield Entry(name, pillow_bytes(picture, format, **options), values, tolerance=tolerance)
    yield Entry("in-truth-tiff.png", tiff_bytes(values, photometric="rgb"), values)
    yield Entry("in-truth-png.npy", pillow_bytes(picture, "PNG"), kind="broken")
    yield Entry("in-truth-npy.png", npy_bytes(values), kind="broken")


# ---- broken

SAMPLES = [
    "jpeg-RGB.jpg",
    "png-RGB.png",
    "webp-RGB.webp",
    "avif-RGB.avif",
    "bmp-RGB.bmp",
    "gif-P.gif",
    "tiff-RGB.tif",
    "ppm-RGB.ppm",
    "tga-RGB.tga",
    "jpeg2000-RGB.jp2",
    "heif-RGB.heic",
    "jxl-3-uint8.jxl",
    "array-float32.npy",
    "sixteen-bits-3.png",
    "tiff-tiles-1-uint16.tif",
    "tiff-zstd-3-uint16.tif",
    "tiff-lzw-1-uint8.tif",
    "geo-dem-tiles.tif",
    "tiff-jpeg-tiles.tif",
    "profile-display-p3.jpg",
    "tiff-planar-strips-5-float32.tif",
]


@cache
def samples() -> tuple[Entry, ...]:
    """Good files that are damaged below: one of each way to store pixels."""
    makers = pictures, deep_files, arrays, tiff_layouts, geotiffs, colours
    found = {entry.name: entry for maker in makers for entry in maker()}
    return tuple(found[name] for name in SAMPLES)


def damaged_name(entry: Entry, how: str) -> str:
    stem, suffix = entry.name.rsplit(".", 1)
    return f"{how}-{stem}.{suffix}"


def truncated():
    for entry in samples():
        for share in (0.1, 0.5, 0.8):
            content = entry.content[: int(share * len(entry.content))]
            yield Entry(damaged_name(entry, f"cut-{share:.0%}".replace("%", "")), content, kind="broken", origin=entry)
    # One byte short of a whole: pixels may be complete.
    for entry in samples():
        yield Entry(damaged_name(entry, "cut-one"), entry.content[:-1], kind="odd", origin=entry)


def flipped():
    rng = np.random.default_rng(7)
    for entry in samples():
        for number, (place, count) in enumerate(((64, 1), (400, 3), (None, 1), (None, 8))):
            content = bytearray(entry.content)
            end = min(place or len(content), len(content))
            for index in rng.integers(0, end, count):
                content[index] ^= 1 << int(rng.integers(0, 8))
            yield Entry(damaged_name(entry, f"flip-{number}"), bytes(content), kind="odd", origin=entry)
        zeros = bytearray(entry.content)
        zeros[len(zeros) // 2 :] = bytes(len(zeros) - len(zeros) // 2)
        yield Entry(damaged_name(entry, "zeros"), bytes(zeros), kind="odd", origin=entry)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bombs():
    """Headers of images that no memory holds, with hardly a pixel behind."""
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b""))
        + png_chunk(b"IEND", b"")
    )
    yield Entry("bomb.png", content, kind="broken")
    for name, sides in (("bomb-grey-16.png", (100_000, 100_000)), ("bomb-2-31.png", (2**31 - 1, 2**31 - 1))):
        header = struct.pack(">IIBBBBB", *sides, 16, 0, 0, 0, 0)
        yield Entry(name, content[:8] + png_chunk(b"IHDR", header) + content[33:], kind="broken")
    jpeg = bytearray(pillow_bytes(Image.new("RGB", (16, 16)), "JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", 65500, 65500)
    yield Entry("bomb.jpg", bytes(jpeg), kind="broken")
    bitmap = bytearray(pillow_bytes(Image.new("RGB", (16, 16)), "BMP"))
    bitmap[18:26] = struct.pack("<ii", 200_000, 200_000)
    yield Entry("bomb.bmp", bytes(bitmap), kind="broken")
    gif = bytearray(pillow_bytes(Image.new("P", (16, 16)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    yield Entry("bomb.gif", bytes(gif), kind="broken")
    for name, dtype in (("bomb.tif", np.uint8), ("bomb-16.tif", np.uint16)):
        content = bytearray(tiff_bytes(np.zeros((16, 16), dtype)))
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            places = [file.pages[0].tags[code].valueoffset for code in (256, 257, 278)]
        for offset in places:
            content[offset : offset + 4] = struct.pack("<I", 300_000)
        yield Entry(name, bytes(content), kind="broken")
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    yield Entry("bomb.npy", array.getvalue() + bytes(64), kind="broken")
    yield Entry("bomb.ppm", b"P6 300000 300000 255\n" + bytes(60), kind="broken")


def nonsense():
    for suffix in ("png", "jpg", "tif", "webp", "avif", "bmp", "gif", "npy", "jp2", "heic", "jxl", "tga", "ppm"):
        yield Entry(f"zero-bytes.{suffix}", b"", kind="broken")
        yield Entry(f"text.{suffix}", b"These are no pixels, but words.\n" * 9, kind="broken")
    rng = np.random.default_rng(3)
    for suffix in ("png", "jpg", "tif", "npy", "jp2", "webp"):
        yield Entry(f"noise.{suffix}", rng.bytes(2000), kind="broken")
    for suffix, signature in (
        ("png", b"\x89PNG\r\n\x1a\n"),
        ("jpg", b"\xff\xd8\xff"),
        ("tif", b"II*\0"),
        ("npy", b"\x93NUMPY\1\0"),
    ):
        yield Entry(f"only-a-signature.{suffix}", signature, kind="broken")
        yield Entry(f"noise-behind-a-signature.{suffix}", signature + rng.bytes(500), kind="broken")
    yield Entry("directory.jpg", make=Path.mkdir, kind="left out")
    yield Entry("dangling-link.png", make=lambda path: path.symlink_to("nowhere.png"), kind="left out")
    yield Entry("link-to-itself.png", make=lambda path: path.symlink_to(path.name), kind="left out")
    if hasattr(os, "mkfifo"):
        yield Entry("pipe.png", make=os.mkfifo, kind="left out")  # opening it would wait for ever
    if hasattr(os, "geteuid") and os.geteuid() != 0:  # root may read everything
        yield Entry("forbidden.png", make=lambda path: path.touch(mode=0), kind="broken")
    yield Entry("notes.txt", b"words\n", kind="left out")
    yield Entry("archive.7z", b"7z\xbc\xaf", kind="left out")
    yield Entry("no-suffix", **plain_png("no suffix"), kind="left out")
