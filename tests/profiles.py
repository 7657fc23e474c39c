"""Colour profiles made from their definitions, so that tests need no files: ICC.1:2001-04 (version 2)."""

import struct
from functools import cache

import numpy as np
from PIL import Image, ImageCms

# Red, green and blue as (x, y).
PRIMARIES = {
    "display-p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "adobe-rgb": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),
    "prophoto": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)),  # by its primaries alone
    "srgb": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
}
D65, D50 = (0.3127, 0.3290), (0.9642, 1.0, 0.8249)
# Pillow's LAB has signed a and b, a profile adds 128 to them.
_OFFSET = np.array([0, 128, 128], np.uint8)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@cache
def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def rgb_matrix(name: str) -> np.ndarray:
    """From linear red, green and blue to XYZ with white D50."""
    primaries = np.array([_xyz(*place) for place in PRIMARIES[name]]).T
    white = _xyz(*D65)
    matrix = primaries * np.linalg.solve(primaries, white)
    adapt = np.linalg.solve(BRADFORD, np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD)
    return adapt @ matrix


@cache
def rgb_profile(name: str) -> bytes:
    """A profile of three primaries, white D65, and a curve: sRGB's for Display P3, else a gamma of 563/256."""
    columns = rgb_matrix(name).T
    if name == "display-p3":
        encoded = np.linspace(0, 1, 1024)
        linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
        curve = struct.pack(">4sII", b"curv", 0, 1024) + np.rint(linear * 65535).astype(">u2").tobytes()
    else:
        curve = struct.pack(">4sIIH", b"curv", 0, 1, 563)
    tags = {b"rXYZ": _xyz_tag(columns[0]), b"gXYZ": _xyz_tag(columns[1]), b"bXYZ": _xyz_tag(columns[2])}
    return _profile(name, b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


@cache
def grey_profile(gamma: float) -> bytes:
    curve = struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256))
    return _profile("grey", b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve})


@cache
def cmyk_profile(grid: int = 7) -> bytes:
    """A printer whose inks darken more than the textbook's: each channel of sRGB is the cube of what ink leaves."""
    inks = np.stack(np.meshgrid(*[np.linspace(0, 1, grid)] * 4, indexing="ij"), -1).reshape(-1, 4)
    left = (1 - inks[:, :3]) * (1 - inks[:, 3:])
    to_lab = _lut(4, 3, grid, _lab(np.rint(255 * left**1.5).astype(np.uint8)))
    # Back: Lab of the grid to sRGB, then to ink without black.
    steps = np.rint(np.linspace(0, 255, 15)).astype(np.uint8)
    lab = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(1, -1, 3)
    spaces = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    rgb = np.asarray(ImageCms.profileToProfile(Image.fromarray(lab ^ _OFFSET, "LAB"), *spaces, outputMode="RGB"))[0]
    ink = np.rint(255 * (1 - (rgb / 255) ** (1 / 1.5))).astype(np.uint8)
    from_lab = _lut(3, 4, 15, np.concatenate([ink, np.zeros_like(ink[:, :1])], -1))
    tags = {b"A2B0": to_lab, b"B2A0": from_lab}
    return _profile("ink", b"prtr", b"CMYK", b"Lab ", tags)


@cache
def scanner_profile(grid: int = 9) -> bytes:
    """From RGB to Lab by a table, and no way back: each channel of sRGB is the square root of what it says."""
    steps = np.linspace(0, 1, grid)
    levels = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    table = _lab(np.rint(255 * levels**0.5).astype(np.uint8))
    return _profile("scanner", b"scnr", b"RGB ", b"Lab ", {b"A2B0": _lut(3, 3, grid, table)})


def _lab(rgb: np.ndarray) -> np.ndarray:
    """(N, 3) sRGB -> (N, 3) CIELAB in 8 bits, a and b with an offset of 128."""
    spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(rgb[None]), *spaces, outputMode="LAB"))[0] ^ _OFFSET


def _lut(num_in: int, num_out: int, grid: int, table: np.ndarray) -> bytes:
    identity = np.arange(256, dtype=np.uint8).tobytes()
    unit = b"".join(struct.pack(">i", 65536 if i % 4 == 0 else 0) for i in range(9))
    header = struct.pack(">4sIBBBB", b"mft1", 0, num_in, num_out, grid, 0)
    return header + unit + identity * num_in + table.astype(np.uint8).tobytes() + identity * num_out


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _xyz_tag(values: np.ndarray) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(float(value) * 65536) for value in values))


def _profile(name: str, device: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = name.encode() + b"\0"
    about = struct.pack(">4sII", b"desc", 0, len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    tags = {b"desc": about, b"cprt": struct.pack(">4sI", b"text", 0) + b"none\0", b"wtpt": _xyz_tag(D50)} | tags
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, content in tags.items():
        table += struct.pack(">4sII", tag, offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    date = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
    header = struct.pack(">II4s4s4s", offset + len(body), 0x02400000, device, space, connection)  # size, maker, version
    header = header[:4] + bytes(4) + header[4:] + date + b"acsp" + bytes(24)
    header += struct.pack(">I3i", 0, *(round(value * 65536) for value in D50))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
