"""Headers of many files: read fast, and never twice."""

import io
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import DataConfig, train
from cyclegan.data import folder_scan
from cyclegan.data.image_folder import scan_folder
from cyclegan.errors import UnreadableError
from cyclegan.images import headers
from cyclegan.images.codecs import probe_image, read_image, write_image
from cyclegan.images.filetypes import pillow
from cyclegan.images.formats import Header, ImageFormat
from cyclegan.images.headers import HeaderIndex, decoded_bytes, image_size, read_header

pytestmark = pytest.mark.usefixtures("without_pages")

DATA = DataConfig(crop_size=16, load_size=18)


def save_all_kinds(folder):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    for mode in ("RGB", "L", "CMYK"):
        picture.convert(mode).save(folder / f"{mode}.jpg")
        picture.convert(mode).save(folder / f"{mode}_progressive.jpg", progressive=True, comment=b"no")
        picture.convert(mode).save(folder / f"{mode}_turned.jpg", exif=turned)
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        picture.convert(mode).save(folder / f"{mode}.png", dpi=(72, 72))
        picture.convert(mode).save(folder / f"{mode}_turned.png", exif=turned)
    picture.save(folder / "profile.jpg", icc_profile=b"x" * 30000)
    picture.save(folder / "x.webp"), picture.save(folder / "x.bmp"), picture.save(folder / "x.tif")
    picture.save(folder / "jpeg.bmp", "JPEG")  # a name is not what is in it
    Image.new("I;16", (31, 20)).save(folder / "deep.png")
    np.save(folder / "x.npy", np.zeros((20, 31, 5), np.float32))
    return sorted(folder.iterdir())


def test_headers_equal_those_of_pillow(tmp_path):
    paths = save_all_kinds(tmp_path)
    assert len(paths) > 25
    for path in paths:
        assert read_header(str(path)) == Header(*probe_image(path)), path.name
    assert read_header(str(tmp_path / "RGB_turned.jpg")).height == 31
    assert read_header(str(tmp_path / "RGB.jpg")).height == 20


def test_bytes_of_an_image_are_known_before_it_is_decoded(tmp_path, monkeypatch):
    paths = {path: ImageFormat() for path in save_all_kinds(tmp_path)}
    paths[tmp_path / "x.npy"] = ImageFormat(channels=5, dtype="float32")
    paths[tmp_path / "deep.png"] = ImageFormat(channels=1, dtype="uint16")
    for channels in (1, 5):
        write_image(tmp_path / f"deep{channels}.tif", np.zeros((20, 31, channels), np.uint16))
        paths[tmp_path / f"deep{channels}.tif"] = ImageFormat(channels=channels, dtype="uint16")
    whole = {path: read_image(path, kind.channels).nbytes for path, kind in paths.items()}
    monkeypatch.setattr(Image.Image, "load", refuse)
    assert {path: decoded_bytes(path, kind) for path, kind in paths.items()} == whole
    (tmp_path / "broken.png").write_bytes(b"nonsense")
    assert decoded_bytes(tmp_path / "broken.png", ImageFormat()) == 0
    assert decoded_bytes(tmp_path / "none.png", ImageFormat()) == 0


@pytest.mark.parametrize("name", ["RGB.jpg", "RGB.png"])
def test_half_a_header_is_unreadable(tmp_path, name):
    save_all_kinds(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for count in (0, 2, 10, 20, 30):
        (tmp_path / name).write_bytes(whole[:count])
        with pytest.raises(UnreadableError):
            read_header(str(tmp_path / name))
    (tmp_path / name).unlink()
    with pytest.raises(UnreadableError):
        read_header(str(tmp_path / name))


def refuse(path):
    raise AssertionError(f"{path} was read again")


def test_only_new_and_changed_files_are_read_again(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "a", 8)
    (folder / "broken.png").write_bytes(b"nonsense")
    index = HeaderIndex.empty()
    first = scan_folder(folder, 3, None, DATA, index=index)
    monkeypatch.setattr(headers, "MIN_INDEXED", 8)
    index.save(tmp_path / "index.npz")
    make_folder(folder, 1, size=(40, 44))  # another 0.png
    os.utime(folder / "3.png", ns=(1, 1))
    make_folder(tmp_path / "more", 1)
    (tmp_path / "more" / "0.png").rename(folder / "new.png")
    read = []
    real = headers.read_header
    monkeypatch.setattr(headers, "read_header", lambda path: read.append(path.rpartition("/")[2]) or real(path))
    index = HeaderIndex.load(tmp_path / "index.npz")
    second = scan_folder(folder, 3, None, DATA, index=index)
    assert sorted(read) == ["0.png", "3.png", "broken.png", "new.png"]
    assert second == scan_folder(folder, 3, None, DATA)
    assert [path.name for path in second.paths] == sorted([path.name for path in first.paths] + ["new.png"])
    assert second.unreadable == first.unreadable
    (place,) = np.flatnonzero(index.find(index.keys) == 0)  # what it holds now is what is there now
    assert place == 0
    assert sorted(map(tuple, index.sizes.tolist())) == [(20, 24)] * 8 + [(44, 40)]


def test_deep_files_and_channels_come_from_the_index_too(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    for number in range(3):
        np.save(tmp_path / "a" / f"{number}.npy", np.full((20, 20, 5), number, np.float32))
    index = HeaderIndex.empty()
    first = scan_folder(tmp_path / "a", 5, None, DATA, index=index)
    monkeypatch.setattr(headers, "MIN_INDEXED", 1)
    index.save(tmp_path / "index.npz")
    monkeypatch.setattr(headers, "read_header", refuse)
    monkeypatch.setattr(folder_scan, "load_raster", refuse)
    again = scan_folder(tmp_path / "a", 5, (0, 2), DATA, index=HeaderIndex.load(tmp_path / "index.npz"))
    assert again == first


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"nonsense"])
def test_a_damaged_index_is_as_good_as_none(tmp_path, content):
    (tmp_path / "index.npz").write_bytes(content)
    assert len(HeaderIndex.load(tmp_path / "index.npz").keys) == 0
    assert len(HeaderIndex.load(tmp_path / "none.npz").keys) == 0


def test_a_run_that_goes_on_reads_no_headers_again(tmp_path, monkeypatch):
    a, b = make_folder(tmp_path / "a", 7), make_folder(tmp_path / "b", 6, seed=1)
    train(a, b, out=tmp_path / "small", quiet=True, **TINY, steps=1)
    assert not list((tmp_path / "small").glob(".headers*"))  # small folders leave no index
    monkeypatch.setattr(headers, "MIN_INDEXED", 5)
    train(a, b, out=tmp_path / "run", quiet=True, **TINY, steps=1)
    monkeypatch.setattr(headers, "read_header", refuse)
    train(a, b, out=tmp_path / "run", quiet=True, resume=True, **TINY, steps=2)
    with pytest.raises(AssertionError, match="read again"):
        train(a, b, out=tmp_path / "other", quiet=True, **TINY, steps=1)


def test_a_fresh_run_keeps_the_headers_of_the_one_that_it_moves_aside(tmp_path, monkeypatch):
    a, b = make_folder(tmp_path / "a", 7), make_folder(tmp_path / "b", 6, seed=1)
    monkeypatch.setattr(headers, "MIN_INDEXED", 5)
    train(a, b, out=tmp_path / "run", quiet=True, **TINY, steps=1)
    before = sorted(path.name for path in (tmp_path / "run").glob(".headers*"))
    assert len(before) == 2
    monkeypatch.setattr(headers, "read_header", refuse)
    for _ in range(2):
        train(a, b, out=tmp_path / "run", quiet=True, fresh=True, **TINY, steps=1)
        assert sorted(path.name for path in (tmp_path / "run").glob(".headers*")) == before


def test_no_two_threads_parse_the_header_of_an_array_at_once(tmp_path, monkeypatch):
    # Some releases of Python then fail now and then, and a file that is well would be taken for one that is not.
    np.save(tmp_path / "x.npy", np.zeros((5, 7, 3), np.uint8))
    inside, most, load = [0], [0], np.load

    def slow_load(*arguments, **options):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        try:
            return load(*arguments, **options)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(np, "load", slow_load)
    with ThreadPoolExecutor(4) as pool:
        works = (image_size, probe_image, lambda path: read_image(path, 3))
        jobs = [pool.submit(work, tmp_path / "x.npy") for work in 4 * works]
        for job in jobs:
            job.result()
    assert most[0] == 1


def photo(orientation, order=b"II", extra=0):
    """A JPEG of 30x20 with EXIF, which Pillow writes in one byte order and without a thumbnail."""
    exif = Image.Exif()
    exif.endian = "<" if order == b"II" else ">"
    if orientation is not None:
        exif[0x0112] = orientation
    exif[0x010F] = "camera" + "x" * extra
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), (9, 200, 30)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("extra", [0, 9000, 60_000])
@pytest.mark.parametrize("order", [b"II", b"MM"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_the_orientation_of_photos_is_read_without_pillow(tmp_path, orientation, order, extra):
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo(orientation, order, extra))
    found = pillow.quick_probe(str(path))
    assert found == pillow.probe(path)
    assert (found.height, found.width) == ((30, 20) if (orientation or 1) >= 5 else (20, 30))


def test_damaged_exif_is_left_to_pillow_or_read_as_pillow_reads_it(tmp_path):
    """Every bit of it, and none makes the picture unreadable."""
    path, content = tmp_path / "photo.jpg", photo(6)
    begin = content.index(b"II*")
    for place in range(begin, content.index(b"camera")):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header, values = read_header(str(path)), read_image(path, 3)
            assert (header.height, header.width) == values.shape[:2], (place - begin, bit)
