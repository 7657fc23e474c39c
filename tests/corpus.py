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
from dataclasses import dataclass, replace
from functools import cache, partial
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


def pixels(values: np.ndarray) -> np.ndarray:
    """(H, W) of one channel, else as it is: what encoders take."""
    return values[..., 0] if values.shape[2] == 1 else values


def made(name, encode, channels=1, dtype="uint8", *, size=None, stored=lambda values: values, said=None, **options):
    """A scene in a file. encode: a function, or Pillow's name of a format, which takes the options.

    stored: what is encoded of the values. said: fields of the entry.
    """
    values = scene(name, channels, dtype, size)
    content = pixels(stored(values))
    if isinstance(encode, str):
        return Entry(name, pillow_bytes(Image.fromarray(content), encode, **options), values, **said or {})
    return Entry(name, encode(content, **options), values, **said or {})


def made_with_alpha(name: str, encode: Callable[..., bytes], channels: int, dtype: str = "uint8", **options) -> Entry:
    """A scene with transparency as the last channel."""
    values = scene(name, channels, dtype)
    alpha = alpha_of(name, values.shape[:2], int(np.iinfo(dtype).max))
    return Entry(name, encode(np.concatenate([values, alpha[..., None]], -1), **options), values, alpha, alpha > 0)


# Pillow's name of a format, the options that lose least, and how far values are off.
JPEG = ("JPEG", {"quality": 95, "subsampling": 0}, LOSSY)
WEBP = ("WEBP", {"lossless": True, "exact": True}, 0)
LEAST_LOSS = {".jpg": JPEG, ".webp": WEBP, **{f".{name[:3].lower()}": (name, {}, 0) for name in ("PNG", "TIFF", "BMP")}}

# How TIFFs are laid out.
BANDS = {"photometric": "minisblack", "planarconfig": "contig"}
IN_TILES = (("plain", {}), ("tiles", {"tile": (16, 16), "compression": "deflate"}))


# ---- good pictures of 8 bits

# Suffix, Pillow's format, options, tolerance, and the modes that it writes.
PILLOW_FORMATS = [
    (".jpg", *JPEG, "L RGB CMYK YCbCr"),
    (".jpeg", "JPEG", {"quality": 95, "progressive": True}, 24, "L RGB"),
    (".jfif", *JPEG, "RGB"),
    (".jpe", *JPEG, "L"),
    (".png", "PNG", {}, 0, "1 L LA P RGB RGBA"),
    (".webp", *WEBP, "RGB RGBA"),
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
        for suffix in (".png", ".jpg", ".tif"):
            format, options, tolerance = LEAST_LOSS[suffix]
            said = {"tolerance": 24 if tolerance else 0}
            yield made(f"size-{size[0]}x{size[1]}{suffix}", format, 3, size=size, said=said, **options)


# ---- orientation


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as a camera stores them, of an image that is upright once the EXIF orientation is applied."""
    mirrored = np.fliplr(values)
    stored = {
        1: values,
        2: mirrored,
        3: np.rot90(values, 2),
        4: np.flipud(values),
        5: values.swapaxes(0, 1),
        6: np.rot90(values),
        7: np.rot90(values, 2).swapaxes(0, 1),
        8: np.rot90(values, -1),
    }[orientation]
    return np.ascontiguousarray(stored)


def orientations():
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        format, options, tolerance = LEAST_LOSS[suffix]
        for number in range(1, 9):
            exif = Image.Exif()
            exif[0x0112], exif[0x010F] = number, "a camera"
            name, stored = f"orientation-{number}{suffix}", partial(turned, orientation=number)
            yield made(name, format, 3, stored=stored, said={"tolerance": tolerance}, exif=exif, **options)
    for kind, dtype, numbers in (("grey", "uint8", (2, 5, 6, 8)), ("uint16", "uint16", (3, 6, 7))):
        for number in numbers:
            name, stored = f"orientation-{kind}-{number}.tif", partial(turned, orientation=number)
            yield made(name, tiff_bytes, 1, dtype, stored=stored, extratags=[(274, 3, 1, number, True)])


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
            (".webp", *WEBP[:2], COLOURS),
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
        yield made(f"profile-{label}.png", "PNG", 3, icc_profile=profile)
    name = "lab.tif"
    values = muted(scene(name, 3))
    spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(values), *spaces, outputMode="LAB")
    yield Entry(name, pillow_bytes(lab, "TIFF"), values=values, tolerance=4)
    for suffix in (".jpg", ".png", ".tif", ".bmp"):
        format, options, tolerance = LEAST_LOSS[suffix]
        said = {"resolution": (300, 150), "tolerance": tolerance}
        yield made(f"resolution{suffix}", format, 3, said=said, dpi=(300, 150), **options)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[270] = "A field in May"
    said = {"description": "A field in May", "resolution": (72, 72)}
    yield made("description.tif", "TIFF", 3, said=said, tiffinfo=info, dpi=(72, 72))
    said = {"description": "A slide", "resolution": (1200, 1200)}
    yield made("description-uint16.tif", tiff_bytes, 1, "uint16", said=said, resolutionunit="INCH", **said)
    per_cm = {"photometric": "rgb", "resolution": (100, 100), "resolutionunit": "CENTIMETER"}
    yield made("resolution-in-cm.tif", tiff_bytes, 3, said={"resolution": (254, 254)}, **per_cm)
    exif = Image.Exif()
    exif[0x010E] = "A harbour"
    said = {"tolerance": LOSSY, "description": "by hand"}
    yield made("comment.jpg", "JPEG", 3, said=said, **JPEG[1], exif=exif, comment=b"by hand")


# ---- more depth


def deep_files():
    for mode, dtype, format, suffix in (
        ("I;16", "uint16", "TIFF", "tif"),
        ("I", "int32", "TIFF", "tif"),
        ("F", "float32", "TIFF", "tif"),
        ("I;16", "uint16", "PNG", "png"),
    ):
        yield made(f"mode-{mode.replace(';', '')}.{suffix}", format, 1, dtype)
    for channels in (1, 2, 3, 4):
        name = f"sixteen-bits-{channels}.png"
        if channels in (GREY_ALPHA, ALPHA):
            values = scene(name, channels, "uint16")
            alpha = values[..., -1] = alpha_of(name, values.shape[:2], 65535)
            yield Entry(name, imagecodecs.png_encode(values), values[..., :-1], alpha, alpha > 0)
        else:
            yield made(name, imagecodecs.png_encode, channels, "uint16")
    lossless = {"level": 0, "codecformat": "jp2", "reversible": True}
    for channels in (1, 3):
        yield made(f"sixteen-bits-{channels}.jp2", imagecodecs.jpeg2k_encode, channels, "uint16", **lossless)
    values = scene("sixteen-bits.ppm", 1, "uint16")
    header = f"P5 {values.shape[1]} {values.shape[0]} 65535\n".encode()
    yield Entry("sixteen-bits.pgm", header + values.astype(">u2").tobytes(), values)
    yield made("floats.pfm", "PPM", 1, "float32")


def arrays():
    for dtype in ("uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", "float16", "float32", "float64"):
        yield made(f"array-{dtype}.npy", npy_bytes, 1, dtype)
    for channels in (3, 4, 5):
        yield made(f"array-{channels}-channels.npy", npy_bytes, channels)
    values = scene("array-1-channels.npy", 1)
    yield Entry("array-1-channels.npy", npy_bytes(values), values)
    yield made("array-big-endian.npy", npy_bytes, 2, "uint16", stored=lambda values: values.astype(">u2"))
    yield made("array-fortran.npy", npy_bytes, 3, "float32", stored=np.asfortranarray)
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
            kind = {"photometric": "rgb" if channels == 3 else "minisblack"}
            yield made(f"tiff-{label}-{channels}-{dtype}.tif", tiff_bytes, channels, dtype, **kind, **options)
    for label, options in (("strips", {"rowsperstrip": 9}), ("tiles", {"tile": (16, 16), "compression": "deflate"})):
        for channels, dtype in ((3, "uint8"), (4, "uint8"), (3, "uint16"), (5, "float32")):
            kind = {"photometric": "rgb" if channels == 3 else "minisblack", "planarconfig": "separate"}
            if channels > 3:
                kind["extrasamples"] = ["unspecified"] * (channels - 1)
            name = f"tiff-planar-{label}-{channels}-{dtype}.tif"
            stored = lambda values: np.moveaxis(values, -1, 0)  # noqa: E731
            yield made(name, tiff_bytes, channels, dtype, stored=stored, **kind, **options)
    for dtype in ("int8", "int16", "int32", "uint32", "uint64", "float16", "float64"):
        for label, options in IN_TILES:
            yield made(f"tiff-type-{label}-{dtype}.tif", tiff_bytes, 1, dtype, photometric="minisblack", **options)
    for dtype in ("float16", "float32", "float64"):
        yield made(f"tiff-predictor-3-{dtype}.tif", tiff_bytes, 1, dtype, compression="deflate", predictor=3)
    for compression, arguments, tolerance in (
        ("jpeg", {"level": 95}, 48),  # colours at half the resolution
        ("webp", {"lossless": True}, 0),
        ("png", {}, 0),
        ("jpeg2000", {"level": 0, "reversible": True}, 0),
        ("jpegxl", {"lossless": True}, 0),
        ("lerc", {}, 0),
    ):
        for layout, options in (("strips", {}), ("tiles", {"tile": (32, 32)})):
            name, how = f"tiff-{compression}-{layout}.tif", {"compression": compression, "compressionargs": arguments}
            said = {"tolerance": tolerance}
            yield made(name, tiff_bytes, 3, size=(48, 64), said=said, photometric="rgb", **how, **options)
    for compression in ("tiff_jpeg", "group4", "group3", "tiff_adobe_deflate", "packbits"):
        name = f"tiff-by-pillow-{compression}.tif"
        picture, expected = of_mode(name, "1" if compression.startswith("group") else "RGB")
        expected["tolerance"] = 30 if compression == "tiff_jpeg" else 0
        options = {"quality": 95} if compression == "tiff_jpeg" else {}
        yield Entry(name, pillow_bytes(picture, "TIFF", compression=compression, **options), **expected)


def tiff_meanings():
    """Files in which the meaning of the samples is said by tags."""
    for dtype in ("uint8", "uint16"):
        name, stored = f"tiff-min-is-white-{dtype}.tif", lambda values: np.iinfo(values.dtype).max - values
        yield made(name, tiff_bytes, 1, dtype, stored=stored, photometric="miniswhite")
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    colours = {"photometric": "palette", "colormap": palette.T.astype(np.uint16) * 257}
    for name, options in (("tiff-palette.tif", {}), ("tiff-palette-tiles.tif", IN_TILES[1][1])):
        indices = scene(name, 1)[..., 0]
        yield Entry(name, tiff_bytes(indices, **colours, **options), values=palette[indices])
    name = "tiff-bilevel.tif"
    values = np.where(scene(name, 1) > 127, 255, 0).astype(np.uint8)
    yield Entry(name, tiff_bytes(values[..., 0] > 0, photometric="minisblack"), values=values)
    for dtype in ("uint8", "uint16", "float32"):
        for layout, options in IN_TILES:
            unknown = {"extrasamples": ["unspecified"], **options}
            yield made(f"tiff-two-bands-{layout}-{dtype}.tif", tiff_bytes, 2, dtype, **BANDS, **unknown)
            yield made(f"tiff-rgb-nir-{layout}-{dtype}.tif", tiff_bytes, 4, dtype, photometric="rgb", **unknown)
    for dtype, full in (("uint8", 255), ("uint16", 65535)):
        for layout, options in IN_TILES:
            options = {"photometric": "rgb", "extrasamples": ["unassalpha"], **options}
            yield made_with_alpha(f"tiff-alpha-{layout}-{dtype}.tif", tiff_bytes, 3, dtype, **options)

            def with_ink(stored, full=full, **options):
                ink = np.rint(stored[..., :3] * (stored[..., 3:] / full)).astype(stored.dtype)
                return tiff_bytes(np.concatenate([ink, stored[..., 3:]], -1), **options)

            options["extrasamples"] = ["assocalpha"]
            name = f"tiff-associated-alpha-{layout}-{dtype}.tif"
            yield replace(made_with_alpha(name, with_ink, 3, dtype, **options), tolerance=3)
    yield made_with_alpha("tiff-grey-alpha.tif", tiff_bytes, 1, **BANDS, extrasamples=["unassalpha"])
    yield made("tiff-hyperspectral.tif", tiff_bytes, 11, "uint16", **BANDS, extrasamples=["unspecified"] * 10)


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
    yield made("UPPER.TIF", tiff_bytes, 1, "uint16")
    yield made("UPPER.JPG", "JPEG", 3, said={"tolerance": 24}, quality=95)
    yield Entry(".hidden.png", **plain_png("hidden"), kind="left out")


def wrong_suffixes():
    values = scene("wrong", 3)
    picture = Image.fromarray(values)
    for suffix, format in (("jpg", "PNG"), ("png", "JPEG"), ("bmp", "PNG"), ("webp", "PNG"), ("tif", "PNG")):
        name = f"in-truth-{format.lower()}.{suffix}"
        options, tolerance = JPEG[1:] if format == "JPEG" else ({}, 0)
        yield Entry(name, pillow_bytes(picture, format, **options), values, tolerance=tolerance)
    yield Entry("in-truth-tiff.png", tiff_bytes(values, photometric="rgb"), values)
    yield Entry("in-truth-png.npy", pillow_bytes(picture, "PNG"), kind="broken")
    yield Entry("in-truth-npy.png", npy_bytes(values), kind="broken")


# ---- broken

SAMPLES = """
jpeg-RGB.jpg png-RGB.png webp-RGB.webp avif-RGB.avif bmp-RGB.bmp gif-P.gif tiff-RGB.tif ppm-RGB.ppm
tga-RGB.tga jpeg2000-RGB.jp2 heif-RGB.heic jxl-3-uint8.jxl array-float32.npy sixteen-bits-3.png
tiff-tiles-1-uint16.tif tiff-zstd-3-uint16.tif tiff-lzw-1-uint8.tif geo-dem-tiles.tif
tiff-jpeg-tiles.tif profile-display-p3.jpg tiff-planar-strips-5-float32.tif
""".split()  # noqa: SIM905


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

    def bomb(name: str, content: bytes, places: tuple[int, ...] = (), sides: bytes = b"") -> Entry:
        """A file whose header says other sides."""
        changed = bytearray(content)
        for place in places:
            changed[place : place + len(sides)] = sides
        return Entry(name, bytes(changed), kind="broken")

    for name, sides, bits, colours in (
        ("bomb.png", (200_000, 200_000), 8, 2),
        ("bomb-grey-16.png", (100_000, 100_000), 16, 0),
        ("bomb-2-31.png", (2**31 - 1, 2**31 - 1), 16, 0),
    ):
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *sides, bits, colours, 0, 0, 0))
        pixels = png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
        yield bomb(name, b"\x89PNG\r\n\x1a\n" + header + pixels)
    small = Image.new("RGB", (16, 16))
    jpeg = pillow_bytes(small, "JPEG")
    yield bomb("bomb.jpg", jpeg, (jpeg.index(b"\xff\xc0") + 5,), struct.pack(">HH", 65500, 65500))
    yield bomb("bomb.bmp", pillow_bytes(small, "BMP"), (18,), struct.pack("<ii", 200_000, 200_000))
    yield bomb("bomb.gif", pillow_bytes(Image.new("P", (16, 16)), "GIF"), (6,), struct.pack("<HH", 65535, 65535))
    for name, dtype in (("bomb.tif", np.uint8), ("bomb-16.tif", np.uint16)):
        content = tiff_bytes(np.zeros((16, 16), dtype))
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            places = tuple(file.pages[0].tags[code].valueoffset for code in (256, 257, 278))
        yield bomb(name, content, places, struct.pack("<I", 300_000))
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    yield bomb("bomb.npy", array.getvalue() + bytes(64))
    yield bomb("bomb.ppm", b"P6 300000 300000 255\n" + bytes(60))


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
