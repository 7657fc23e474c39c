import io

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from cyclegan import InputError
from cyclegan.config import Reading
from cyclegan.errors import UnreadableError
from cyclegan.images.codecs import load_raster, probe_image, read_image, write_image
from cyclegan.images.file_formats import can_hold
from cyclegan.images.file_list import list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.resizing import resize
from cyclegan.images.tensors import from_tensor, pad_to_multiple, to_tensor
from cyclegan.images.thumbnails import read_thumbnails

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jpg", ".avif"])
def test_every_eight_bit_format_is_read(tmp_path, suffix):
    smooth = np.asarray(Image.fromarray(COLOUR[:2, :2]).resize((32, 24), Image.Resampling.BICUBIC))
    path = tmp_path / f"x{suffix}"
    Image.fromarray(smooth).save(path, **({"lossless": True} if suffix == ".webp" else {"quality": 95}))
    array = read_image(path, 3)
    assert array.shape == (24, 32, 3)
    assert array.dtype == np.uint8
    assert probe_image(path)[:4] == (24, 32, "uint8", None)
    tolerance = 12 if suffix in (".jpg", ".avif") else 0
    assert np.abs(array.astype(int) - smooth).max() <= tolerance


def test_exif_rotation_is_honoured(tmp_path):
    picture = Image.fromarray(COLOUR)
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise
    picture.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "x.png", 3), np.rot90(COLOUR, -1))
    assert probe_image(tmp_path / "x.png")[:4] == (8, 6, "uint8", None)


def test_grey_is_repeated_and_colour_becomes_luma(tmp_path):
    grey = COLOUR[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png", 3), np.stack([grey] * 3, -1))
    assert np.array_equal(read_image(tmp_path / "grey.png", 1), grey[..., None])
    Image.fromarray(COLOUR).save(tmp_path / "colour.png")
    luma = COLOUR @ [0.299, 0.587, 0.114]
    assert np.abs(read_image(tmp_path / "colour.png", 1)[..., 0] - luma).max() <= 1


def test_palettes_become_their_colours_and_black_and_white_becomes_grey(tmp_path):
    Image.fromarray(COLOUR).quantize(256).save(tmp_path / "palette.png")
    expected = np.asarray(Image.open(tmp_path / "palette.png").convert("RGB"))
    assert np.array_equal(read_image(tmp_path / "palette.png", 3), expected)
    Image.fromarray(COLOUR[..., 0] > 128).save(tmp_path / "bits.png")
    assert set(np.unique(read_image(tmp_path / "bits.png", 1))) == {0, 255}


def test_transparency_is_kept_apart_and_transparent_pixels_are_holes(tmp_path):
    rgba = np.dstack([np.where(COLOUR > 250, 250, COLOUR), np.zeros((6, 8), np.uint8)])
    rgba[:3, :, 3], rgba[3, :, 3] = 255, 90
    rgba[4:, :, :3] = 255
    Image.fromarray(rgba).save(tmp_path / "x.png")
    found = load_raster(tmp_path / "x.png", 3)
    assert np.array_equal(found.values[:4], rgba[:4, :, :3])
    assert found.values[4:].max() < 251  # filled from around the hole: the white behind it bleeds nowhere
    assert np.array_equal(found.alpha, rgba[..., 3])
    assert np.array_equal(found.valid, rgba[..., 3] > 0)
    assert np.array_equal(read_image(tmp_path / "x.png", 4), rgba)
    grey = load_raster(tmp_path / "x.png", 1)
    assert grey.values.shape == (6, 8, 1)
    assert np.array_equal(grey.alpha, rgba[..., 3])


def test_transparent_pixels_lie_on_a_background_that_is_given(tmp_path):
    rgba = np.dstack([COLOUR, np.zeros((6, 8), np.uint8)])
    rgba[0, 0, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "x.png")
    found = load_raster(tmp_path / "x.png", 3, Reading(background="#ff8000"))
    assert np.array_equal(found.values[0, 0], COLOUR[0, 0])
    assert (found.values[1:] == [255, 128, 0]).all()
    assert found.alpha is None
    assert found.valid is None


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "x.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "x.jpg", 3).astype(int) - [0, 255, 255]).max() < 8


DEEP = {
    "grey16.png": RNG.integers(0, 65536, (6, 8, 1), dtype=np.uint16),
    "colour16.png": RNG.integers(0, 65536, (6, 8, 3), dtype=np.uint16),
    "grey16.tif": RNG.integers(0, 65536, (6, 8, 1), dtype=np.uint16),
    "five.tif": RNG.integers(0, 65536, (6, 8, 5), dtype=np.uint16),
    "bands8.tif": RNG.integers(0, 256, (6, 8, 7), dtype=np.uint8),
    "float.tif": RNG.normal(size=(6, 8, 2)).astype(np.float32),
    "array.npy": RNG.normal(size=(6, 8, 4)).astype(np.float32),
    "int.npy": RNG.integers(-1000, 1000, (6, 8, 1)).astype(np.int16),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_and_many_channel_files_keep_depth_and_channels(tmp_path, name):
    array = DEEP[name]
    write_image(tmp_path / name, array)
    again = read_image(tmp_path / name, array.shape[2])
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)
    assert probe_image(tmp_path / name)[:4] == (6, 8, str(array.dtype), array.shape[2])


def test_files_of_other_programs_keep_their_depth(tmp_path):
    colour = DEEP["colour16.png"]
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(colour))
    assert np.array_equal(read_image(tmp_path / "x.png", 3), colour)
    Image.fromarray(DEEP["grey16.png"][..., 0]).save(tmp_path / "y.tif")
    assert np.array_equal(read_image(tmp_path / "y.tif", 1), DEEP["grey16.png"])
    tifffile.imwrite(tmp_path / "z.tif", np.moveaxis(DEEP["five.tif"], -1, 0), byteorder=">", photometric="minisblack")
    assert np.array_equal(read_image(tmp_path / "z.tif", 5), DEEP["five.tif"])


def test_wrong_channels_say_what_to_do(tmp_path):
    write_image(tmp_path / "x.tif", DEEP["five.tif"])
    with pytest.raises(InputError, match=r"5 channel.*takes 3.*--channels-a"):
        read_image(tmp_path / "x.tif", 3)
    Image.fromarray(COLOUR).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="8-bit image of mode RGB"):
        read_image(tmp_path / "x.png", 5)
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4, 5)))
    with pytest.raises(InputError, match="shape"):
        read_image(tmp_path / "x.npy", 3)


def test_a_pickle_in_npy_is_not_opened(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableError, match="Python objects"):
        read_image(tmp_path / "x.npy", 1)


def test_formats_that_cannot_hold_the_depth_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot hold"):
        write_image(tmp_path / "x.jpg", DEEP["grey16.png"])
    assert not (tmp_path / "x.jpg").exists()
    assert can_hold(".png", 3, "uint16")
    assert not can_hold(".png", 5, "uint16")
    assert can_hold(".TIF", 5, "float32")


@pytest.mark.parametrize(
    "image_format",
    [
        ImageFormat(channels=1),
        ImageFormat(channels=2, dtype="uint16", low=100, high=40000),
        ImageFormat(channels=1, dtype="int32", low=-2e9, high=2e9),
        ImageFormat(channels=3, dtype="float32", low=-0.5, high=2.0),
    ],
)
def test_tensors_go_there_and_back(image_format):
    low, high = image_format.low, image_format.high
    array = np.linspace(low, high, 60 * image_format.channels).reshape(6, 10, -1).astype(image_format.dtype)
    tensor = to_tensor(array, image_format)
    assert tensor.shape == (image_format.channels, 6, 10)
    assert tensor.dtype == torch.float32
    assert (tensor.min().item(), tensor.max().item()) == pytest.approx((-1, 1), abs=1e-6)
    again = from_tensor(tensor, image_format)
    assert again.dtype == array.dtype
    step = (high - low) * 2**-23  # what float32 can tell apart
    assert np.abs(again.astype(float) - array.astype(float)).max() <= max(step, 0 if step < 0.5 else step)


def test_all_sixteen_bit_values_survive():
    array = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    image_format = ImageFormat(channels=1, dtype="uint16", low=0, high=65535)
    assert np.array_equal(from_tensor(to_tensor(array, image_format), image_format), array)


def test_values_outside_the_range_are_clipped():
    image_format = ImageFormat(channels=1, dtype="uint16", low=100, high=200)
    array = np.array([[[0], [150], [500]]], dtype=np.uint16)
    assert to_tensor(array, image_format).flatten().tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("size", "target"), [((5, 7), (8, 8)), ((8, 12), (8, 12)), ((1, 3), (8, 8)), ((9, 8), (12, 8))]
)
def test_padding_mirrors_and_keeps_what_was_there(size, target):
    image = torch.rand(2, *size)
    padded = pad_to_multiple(image, 4, smallest=8)
    assert padded.shape == (2, *target)
    assert torch.equal(padded[:, : size[0], : size[1]], image)
    if size == (5, 7):
        assert torch.equal(padded[:, 5, :7], image[:, 3])  # mirrored about the last row


def test_resizing_is_the_same_for_eight_bit_and_deep_images():
    eight = resize(COLOUR, 12, 4)
    deep = resize(COLOUR.astype(np.uint16), 12, 4)
    assert eight.dtype == np.uint8
    assert eight.shape == deep.shape == (12, 4, 3)
    assert np.abs(eight - np.clip(deep, 0, 255)).max() <= 1


def test_listing_walks_nested_folders_in_order_and_skips_the_rest(tmp_path):
    for name in ("b/2.png", "a/1.JPG", "c.txt", ".hidden/x.png", "a/.y.png", "0.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)] == ["0.npy", "a/1.JPG", "b/2.png"]


def test_a_truncated_file_is_an_error_that_the_data_can_catch(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.tile(COLOUR, (20, 20, 1))).save(buffer, "PNG")
    (tmp_path / "x.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(UnreadableError):
        read_image(tmp_path / "x.png", 3)


def test_a_damaged_compressed_tiff_is_unreadable_and_nothing_else(tmp_path):
    path = tmp_path / "x.tif"
    for compression in ("zlib", "zstd", "lzw"):
        planes = np.moveaxis(np.tile(DEEP["five.tif"], (9, 9, 1)), -1, 0)
        tifffile.imwrite(path, planes, compression=compression, photometric="minisblack", planarconfig="separate")
        whole = path.read_bytes()
        for share in (0.3, 0.6, 0.9):
            path.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(UnreadableError):
                read_image(path, 5)


def test_arrays_of_foreign_byte_order_are_what_they_hold(tmp_path):
    array = np.arange(48, dtype=">u2").reshape(6, 8)
    np.save(tmp_path / "x.npy", array)
    assert probe_image(tmp_path / "x.npy")[:4] == (6, 8, "uint16", 1)
    assert read_image(tmp_path / "x.npy", 1).dtype == np.uint16


def test_turned_tiffs_are_probed_as_they_are_read(tmp_path):
    picture = Image.fromarray(COLOUR)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "x.tif", exif=exif)
    assert probe_image(tmp_path / "x.tif")[:2] == read_image(tmp_path / "x.tif", 3).shape[:2] == (8, 6)


def test_thumbnails_of_jpegs_are_made_at_reduced_size_and_alike(tmp_path):
    picture = Image.fromarray(COLOUR).resize((600, 400), Image.Resampling.BICUBIC)
    exif = picture.getexif()
    exif[0x0112] = 6
    for name in ("x.jpg", "y.png"):
        picture.save(tmp_path / name, exif=exif)
    assert read_image(tmp_path / "x.jpg", 3, min_side=64).shape == (150, 100, 3)
    assert read_image(tmp_path / "y.png", 3, min_side=64).shape == (600, 400, 3)
    (tmp_path / "z.jpg").write_bytes(b"no image")
    files = sorted(tmp_path.iterdir())
    readable, thumbnails = read_thumbnails(files, ImageFormat())
    assert readable == files[:2]
    np.testing.assert_allclose(thumbnails[0], thumbnails[1], atol=0.02)
    assert thumbnails.std() > 0.1
    assert read_thumbnails(files, ImageFormat(), max_seconds=0)[1].shape == (0, 16, 16, 3)
