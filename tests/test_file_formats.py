"""Every row of FILE_FORMATS keeps what it says: one tester for all."""

import numpy as np
import pytest
from PIL import Image

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import probe_image, read_image, write_image
from cyclegan.images.file_formats import FILE_FORMATS, can_hold, file_format_of, image_suffixes
from cyclegan.images.formats import FileFormat, ImageFormat
from cyclegan.images.headers import decoded_bytes, image_size, read_header

# Images of GDAL, and volumes that have a header beside them.
SHARED = (".img",)

LOSSY = ("jpeg", "webp", "avif", "heif")


def smooth(channels, dtype, height=20, width=28):
    """Smooth values over the range of an integer type, or in [0, 1]."""
    ramp = np.linspace(0, 1, height)[:, None, None] * np.linspace(0, 1, width)[None, :, None]
    values = ramp * np.linspace(1, 0.5, channels)
    return (values * np.iinfo(dtype).max).astype(dtype) if np.dtype(dtype).kind in "ui" else values.astype(dtype)


def check_file_format(file_format, folder, is_lossy=False):
    """Write, read, probe and damage a file of everything that a format holds."""
    held = file_format.holds
    if held is None:
        held = {"uint8": (1, 3, 4, 7), "uint16": (1, 3, 5), "int16": (1,), "float32": (1, 3, 6)}
    for suffix in file_format.suffixes:
        assert suffix == suffix.lower()
        assert suffix.startswith(".")
        if suffix not in SHARED:
            assert file_format_of(f"a/b{suffix.upper()}") is file_format
        for dtype, numbers in held.items():
            for channels in numbers if len(numbers) < 10 else (1, 2, 3, 4, 7):
                assert can_hold(suffix, channels, dtype)
                path, array = folder / f"{channels}_{dtype}{suffix}", smooth(channels, dtype)
                if is_lossy and channels == 4:  # the colour of transparent pixels is lost
                    array[..., 3] = 255
                write_image(path, array)
                again = read_image(path, channels)
                assert (again.shape, again.dtype) == (array.shape, array.dtype)
                if is_lossy:
                    assert np.abs(again.astype(int) - array).max() <= 16
                else:
                    assert np.array_equal(again, array)
                header = probe_image(path)
                assert header[:3] == (20, 28, dtype)
                assert header.channels in (channels, None)
                assert read_header(str(path)) == header
                if file_format.shortcuts.size is not None or file_format.probe(path) is not None:
                    assert image_size(path) == (20, 28)
                    assert decoded_bytes(path, ImageFormat(channels=channels, dtype=dtype)) == array.nbytes
                path.write_bytes(path.read_bytes()[:7])
                with pytest.raises(UnreadableError):
                    read_image(path, channels)
                path.unlink()
    suffix = file_format.suffixes[0]
    if file_format.holds is not None and not can_hold(suffix, 9, "float64"):
        with pytest.raises(InputError, match="cannot hold 9 channels of float64"):
            write_image(folder / f"x{suffix}", np.zeros((4, 4, 9)))


@pytest.mark.parametrize("name", FILE_FORMATS)
def test_a_format_keeps_what_it_holds(name, tmp_path):
    check_file_format(FILE_FORMATS[name], tmp_path, is_lossy=name in LOSSY)


def test_no_two_formats_have_one_suffix_but_where_the_content_decides():
    suffixes = [suffix for file_format in FILE_FORMATS.values() for suffix in file_format.suffixes]
    assert {suffix for suffix in suffixes if suffixes.count(suffix) > 1} == set(SHARED)
    assert len(set(image_suffixes())) == len(image_suffixes())


def test_a_named_file_of_another_suffix_is_read_if_pillow_can_and_never_written(tmp_path):
    Image.fromarray(smooth(3, "uint8")).save(tmp_path / "x.picture", "BMP")
    assert np.array_equal(read_image(tmp_path / "x.picture", 3), smooth(3, "uint8"))
    assert not can_hold(".picture", 3, "uint8")
    with pytest.raises(InputError, match=r"\.picture files cannot hold"):
        write_image(tmp_path / "y.picture", smooth(3, "uint8"))


def test_a_missing_package_is_named_with_its_install_line(tmp_path, monkeypatch):
    def read(_path):
        import no_such_package

        return no_such_package

    def write(_file, _array):
        import no_such_package  # noqa: F401

    row = FileFormat(suffixes=(".new",), read=read, write=write, holds={"uint8": (3,)}, install="cyclegan[new]")
    monkeypatch.setitem(FILE_FORMATS, "new", row)
    (tmp_path / "x.new").write_bytes(b"")
    for work in (lambda path: read_image(path, 3), probe_image, lambda path: write_image(path, smooth(3, "uint8"))):
        with pytest.raises(InputError, match=r"x\.new: .*no_such_package.*pip install 'cyclegan\[new\]'"):
            work(tmp_path / "x.new")
