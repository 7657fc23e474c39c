"""PNG and GIF: depth and transparency of every kind."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cyclegan.images.codecs import load_raster, probe_image, write_image
from cyclegan.images.raster import Raster
from cyclegan.translate.folder import translate_folder
from pictures import Same, make_translator


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width, rows, bits, kind, *chunks):
    """A PNG from the bytes of its rows. kind: 0 grey, 2 RGB, 3 palette, 4 grey with alpha."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*each) for each in chunks) + data + chunk(b"IEND", b"")


# Content, type, grey values, and alpha as a share.
TRANSPARENT_GREYS = {
    "1 bit": (png(4, [b"\x50"], 1, 0, (b"tRNS", b"\0\1")), np.uint8, [0, 255, 0, 255], [1, 0, 1, 0]),
    "2 bits": (png(4, [b"\x1b"], 2, 0, (b"tRNS", b"\0\2")), np.uint8, [0, 85, 170, 255], [1, 1, 0, 1]),
    "4 bits": (png(4, [b"\x12\x3f"], 4, 0, (b"tRNS", b"\0\2")), np.uint8, [17, 34, 51, 255], [1, 0, 1, 1]),
    "8 bits": (png(4, [b"\x0a\x14\x1e\x28"], 8, 0, (b"tRNS", b"\0\x14")), np.uint8, [10, 20, 30, 40], [1, 0, 1, 1]),
    "16 bits": (
        png(4, [struct.pack(">4H", 1000, 2000, 2001, 4000)], 16, 0, (b"tRNS", struct.pack(">H", 2000))),
        np.uint16, [1000, 2000, 2001, 4000], [1, 0, 1, 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSPARENT_GREYS)
def test_the_grey_that_is_transparent_is_a_hole_at_every_depth(tmp_path, name):
    content, dtype, values, shares = TRANSPARENT_GREYS[name]
    (tmp_path / "x.png").write_bytes(content)
    found = load_raster(tmp_path / "x.png", 1)
    assert found.values.dtype == dtype
    assert (found.alpha / np.iinfo(dtype).max).tolist() == [shares]
    assert found.valid.tolist() == [[share > 0 for share in shares]]
    seen = found.valid[0]
    np.testing.assert_array_equal(found.values[0, seen, 0], np.array(values)[seen])


def test_a_colour_of_16_bits_that_is_transparent_is_one_colour(tmp_path):
    pytest.importorskip("imagecodecs")
    row = struct.pack(">6H", 1000, 2000, 3000, 1001, 2000, 3000)  # equal in their upper bytes
    (tmp_path / "x.png").write_bytes(png(2, [row], 16, 2, (b"tRNS", struct.pack(">3H", 1000, 2000, 3000))))
    found = load_raster(tmp_path / "x.png", 3)
    assert found.alpha.tolist() == [[0, 65535]]
    assert found.values[0, 1].tolist() == [1001, 2000, 3000]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_colours_of_a_palette_have_several_levels_of_transparency(tmp_path, bits):
    colours = np.arange(12, dtype=np.uint8).reshape(4, 3) * 20
    indices = [0, 1, 1, 0] if bits == 1 else [0, 1, 2, 3]
    row = int("".join(f"{index:0{bits}b}" for index in indices).ljust(8, "0"), 2).to_bytes(max(1, bits // 2), "big")
    content = png(
        4, [row], bits, 3, (b"PLTE", colours[: 2**bits].tobytes()), (b"tRNS", bytes([0, 100, 200][: 2**bits]))
    )
    (tmp_path / "x.png").write_bytes(content)
    found = load_raster(tmp_path / "x.png", 3)
    expected = np.array([0, 100, 200, 255])[indices]
    assert found.alpha.tolist() == [expected.tolist()]
    np.testing.assert_array_equal(found.values[0, expected > 0], colours[indices][expected > 0])


def test_grey_of_16_bits_with_transparency_stays_grey(tmp_path):
    pytest.importorskip("imagecodecs")
    values = np.random.default_rng(0).integers(0, 65536, (8, 9, 1), dtype=np.uint16)
    alpha = np.random.default_rng(1).integers(1, 65536, (8, 9), dtype=np.uint16)
    alpha[2:4, 3:5] = 0
    write_image(tmp_path / "x.png", Raster(values, alpha))
    translate_folder(make_translator(a=1, b=1, dtype="uint16", high=65535), tmp_path / "x.png", tmp_path / "out")
    for path in (tmp_path / "x.png", tmp_path / "out" / "x.png"):
        assert path.read_bytes()[24:26] == bytes([16, 4])  # the bits of a sample, and grey with alpha
        header = probe_image(path)
        assert (header.dtype, header.channels, header.has_alpha) == ("uint16", 2, True)
        found = load_raster(path, 1)
        np.testing.assert_array_equal(found.alpha, alpha)
        assert np.abs(found.values.astype(int) - values)[alpha > 0].max() <= 1


def test_holes_of_16_bit_grey_become_transparent_in_a_png(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).integers(1, 65536, (8, 9), dtype=np.uint16)
    values[2:4, 3:5] = 0
    tifffile.imwrite(tmp_path / "x.tif", values, extratags=[(42113, 2, 0, "0", True)])
    translator = make_translator(a=1, b=1, dtype="uint16", high=65535)
    translate_folder(translator, tmp_path / "x.tif", tmp_path / "y.png")
    assert (tmp_path / "y.png").read_bytes()[24:26] == bytes([16, 4])
    found = load_raster(tmp_path / "y.png", 1)
    np.testing.assert_array_equal(found.valid, values > 0)
    assert np.abs(found.values[..., 0].astype(int) - values)[values > 0].max() <= 1


# ---- GIF


def test_a_grey_gif_keeps_its_transparent_pixels(tmp_path):
    picture = Image.new("P", (24, 20))
    picture.putpalette([value for grey in range(256) for value in (grey, grey, grey)])
    greys = np.random.default_rng(0).integers(0, 200, (20, 24), dtype=np.uint8)
    greys[5:9, 6:12] = 255
    picture.putdata(greys.ravel())
    picture.save(tmp_path / "x.gif", transparency=255)
    result = translate_folder(make_translator(a=1, b=1), tmp_path / "x.gif", tmp_path / "out")
    assert result.notes == ()
    with Image.open(tmp_path / "out" / "x.gif") as found:
        rgba = np.asarray(found.convert("RGBA"))
    np.testing.assert_array_equal(rgba[..., 3], np.where(greys == 255, 0, 255))
    np.testing.assert_array_equal(rgba[greys < 255, 0], greys[greys < 255])


def test_half_transparent_pixels_are_said_where_a_gif_cannot_have_them(tmp_path):
    picture = Image.new("LA", (24, 20), (90, 255))
    picture.paste((90, 100), (0, 0, 12, 10))
    picture.paste((90, 200), (12, 0, 24, 10))
    picture.save(tmp_path / "x.png")
    result = translate_folder(make_translator(Same(), a=1, b=1), tmp_path / "x.png", tmp_path / "y.gif")
    assert "The half transparency of 1 image is not kept: .gif files have no place for it." in result.notes
    with Image.open(tmp_path / "y.gif") as found:
        alpha = np.asarray(found.convert("RGBA"))[..., 3]
    assert (alpha[:10, :12] == 0).all()
    assert (alpha[:10, 12:] == 255).all()
    assert (alpha[10:] == 255).all()


def test_an_animation_of_255_colours_and_holes_is_exact(tmp_path):
    from cyclegan.translate.sequence import translate_sequence

    colours = np.random.default_rng(0).choice(2**24, 255, replace=False).astype(np.uint32)
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.uint8)
    frames = []
    for seed in (1, 2):
        rgba = np.full((20, 24, 4), 255, np.uint8)
        rgba[..., :3] = np.random.default_rng(seed).permutation(np.resize(rgb, (480, 3))).reshape(20, 24, 3)
        rgba[4:8, 5 + seed : 9 + seed] = (1, 2, 3, 0)
        frames.append(Image.fromarray(rgba))
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:], duration=40)
    made = translate_sequence(make_translator(), tmp_path / "x.png", tmp_path / "y.gif")
    assert made.notes == ()
    with Image.open(tmp_path / "y.gif") as found:
        for index, frame in enumerate(frames):
            found.seek(index)
            after, before = np.asarray(found.convert("RGBA")), np.asarray(frame)
            np.testing.assert_array_equal(after[..., 3], before[..., 3])
            seen = before[..., 3] > 0
            np.testing.assert_array_equal(after[seen], before[seen])
