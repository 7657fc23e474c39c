"""Folders as people have them: links, zips, files of other kinds, and pages."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from conftest import make_folder
from cyclegan import DataConfig
from cyclegan.data.image_folder import scan_folder
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import pages
from cyclegan.images.codecs import read_image
from cyclegan.images.file_formats import FILE_FORMATS, file_format_of
from cyclegan.images.file_list import describe_left_out, list_files, list_images
from cyclegan.images.formats import FileFormat, Header, Pages
from cyclegan.images.headers import HeaderIndex, image_size, read_header, read_headers
from cyclegan.images.identical import equal_files, find_identical, sizes_of
from cyclegan.images.limits import check_pixels, pixel_limit, without_pixel_limit
from cyclegan.images.pages import is_file, is_folder, local_file, open_file, split_page, stat_file
from make_zip import pack, png


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "photos.zip"
    entries = [
        ("cats/1.png", png(1)),
        ("cats/2.png", png(2, 12)),
        ("dogs/1.png", png(1)),
        ("readme.txt", b"hello"),
        ("__MACOSX/cats/._1.png", b"x"),
        (".hidden/3.png", png(3)),
    ]
    path.write_bytes(pack(entries))
    return path


def test_links_to_folders_are_followed_and_each_folder_counts_once(tmp_path):
    root = tmp_path / "root"
    _touch(root, "a/1.png", "a/b/2.png")
    _touch(tmp_path, "elsewhere/3.png", "elsewhere/deep/4.png", "other/5.png")
    (root / "again").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "far").symlink_to(tmp_path / "elsewhere")
    (root / "far_too").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "elsewhere" / "on").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(tmp_path)
    (root / "itself").symlink_to(root / "itself")
    (root / "itself.png").symlink_to(root / "itself.png")
    found = list_files(root, (".png",))
    assert list(found.names()) == ["a/1.png", "a/b/2.png", "far/3.png", "far/deep/4.png", "far/on/5.png"]
    assert found.left_out == {}


def test_links_to_nothing_are_counted(tmp_path):
    _touch(tmp_path, "1.png")
    (tmp_path / "moved.png").symlink_to(tmp_path / "away" / "2.png")
    found = list_images(tmp_path)
    assert list(found.names()) == ["1.png"]
    assert describe_left_out(found.left_out) == "1 file is left out: 1 broken link."


def test_a_folder_without_permission_is_counted_and_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    for name in ("open", "locked"):
        make_folder(tmp_path / "in" / name, 2)
    scandir = os.scandir

    def refuse(path):  # root may read all folders
        if os.fspath(path).endswith("locked/") or os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list_files(tmp_path / "in", (".png",))
    assert list(found.names()) == ["open/0.png", "open/1.png"]
    assert describe_left_out(found.left_out) == "1 file is left out: 1 unreadable folder."


def test_a_folder_that_is_a_link_itself_is_listed(tmp_path):
    _touch(tmp_path, "real/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert list(list_images(tmp_path / "link").names()) == ["1.png"]


def test_files_of_other_kinds_are_counted_by_suffix(tmp_path):
    _touch(tmp_path, "a.png", "b.txt", "c/d.TXT", "c/e.psd", "README", "Thumbs.db", "c/desktop.ini", ".DS_Store")
    _touch(tmp_path, ".git/f.txt")
    found = list_images(tmp_path)
    assert list(found.names()) == ["a.png"]
    assert found.left_out == {".txt": 2, ".psd": 1, "without suffix": 1}
    assert describe_left_out(found.left_out) == "4 files are left out: 2 .txt, 1 .psd, 1 without suffix."
    assert describe_left_out({}) == ""
    assert describe_left_out({".txt": 1}) == "1 file is left out: 1 .txt."
    assert describe_left_out({f".{i}": 1 for i in range(10)}).endswith(", 2 others.")


@pytest.mark.parametrize("is_zip", [False, True])
def test_files_that_belong_to_an_image_are_not_counted(tmp_path, is_zip):
    names = [
        "a.tif",
        "a.tif.msk",
        "a.tif.ovr",
        "a.tfw",
        "b.img",
        "b.hdr",
        "b.img.aux.xml",
        "c/d.jp2",
        "c/d.jp2.aux.xml",
    ]
    others = ["alone.hdr", "c/b.hdr", "e.xml"]
    place = tmp_path / ("in.zip" if is_zip else "in")
    if is_zip:
        place.write_bytes(pack([(name, b"x") for name in (*names, *others)]))
    else:
        _touch(place, *names, *others)
    found = list_images(place)
    assert list(found.names()) == ["a.tif", "b.img", "c/d.jp2"]
    assert found.left_out == {".hdr": 2, ".xml": 1}


def test_a_zip_is_listed_as_a_folder(archive):
    found = list_images(archive)
    assert list(found.names()) == ["cats/1.png", "cats/2.png", "dogs/1.png"]
    assert found.left_out == {".txt": 1}
    assert list(list_images(archive / "cats").names()) == ["1.png", "2.png"]
    assert is_folder(archive)
    assert is_folder(archive / "cats")
    assert not is_folder(archive / "cats" / "1.png")
    assert not is_folder(archive / "birds")
    assert is_file(archive / "cats" / "1.png")
    assert not is_file(archive / "cats" / "9.png")


def test_a_path_below_a_file_is_a_page(tmp_path, archive):
    _touch(tmp_path, "stack.tif", "plain/1.png")
    assert split_page(tmp_path / "stack.tif" / "3") == (tmp_path / "stack.tif", "3")
    assert split_page(tmp_path / "stack.tif") == (tmp_path / "stack.tif", None)
    assert split_page(archive / "cats" / "1.png") == (archive, "cats/1.png")
    for path in (tmp_path / "plain" / "1.png", tmp_path / "plain", tmp_path / "plain" / "gone", tmp_path / "a" / "b"):
        assert split_page(path) == (path, None)


def test_files_in_a_zip_are_read_like_files(archive):
    path = archive / "cats" / "2.png"
    with open_file(path) as file:
        assert file.read() == png(2, 12)
    assert stat_file(str(path))[0] == len(png(2, 12))
    assert image_size(path) == (12, 12)
    assert read_header(str(path))[:3] == (12, 12, "uint8")
    with local_file(path) as (file, page):
        assert page is None
        assert file.suffix == ".png"
        assert Image.open(file).size == (12, 12)
    assert not file.exists()
    with (
        pytest.raises(UnreadableError, match=r"There is no cats/9.png in .*photos.zip"),
        local_file(archive / "cats/9.png"),
    ):
        pass


def test_headers_of_a_zip_are_found_again_in_the_index(archive, monkeypatch):
    files, index = list_images(archive), HeaderIndex.empty()
    (first,) = read_headers(files, index)
    assert first.sizes.tolist() == [[8, 8], [12, 12], [8, 8]]
    assert first.num_bytes.tolist() == sizes_of(files).tolist()
    index.replace([first])
    monkeypatch.setattr("cyclegan.images.headers.read_header", lambda _: pytest.fail("read again"))
    (again,) = read_headers(files, index)
    assert (again.sizes == first.sizes).all()


def test_equal_files_are_found_inside_and_outside_of_a_zip(tmp_path, archive):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "x.png").write_bytes(png(1))
    files = list_images(archive)
    assert equal_files(files) == [[0, 2]]
    assert find_identical([tmp_path / "plain" / "x.png"], files, sizes_of(files)) == {0: [0], 2: [0]}


@pytest.mark.parametrize("name", ["../out.png", "/etc/x.png", "a/../../x.png", "C:/x.png", "..\\x.png"])
def test_a_zip_whose_names_lead_out_of_it_is_refused(tmp_path, name):
    path = tmp_path / "bad.zip"
    path.write_bytes(pack([("good.png", png()), (name, png())]))
    with pytest.raises(InputError, match="leads out of the zip"):
        list_images(path)


def test_names_with_backslashes_are_folders(tmp_path):
    path = tmp_path / "windows.zip"
    path.write_bytes(pack([("cats/1.png", png())]).replace(b"cats/1", b"cats\\1"))
    assert list(list_images(path).names()) == ["cats/1.png"]


def test_what_is_no_zip_is_one_sentence(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no zip at all")
    with pytest.raises(InputError, match=r"x\.zip is no zip file, or a damaged one"):
        list_images(tmp_path / "x.zip")


def _bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.png", "w") as entry:
        for _ in range(300):
            entry.write(bytes(1 << 20))
    return file.getvalue()


def _encrypted():
    """An entry that says that it is encrypted, as the flags in both of its headers do."""
    content = bytearray(pack([("bomb.png", png())]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    return bytes(content)


def _damaged():
    content = bytearray(pack([("bomb.png", png(0, 64))]))
    content[60] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_bomb, "more than those of an image"),
        (_encrypted, "it is encrypted"),
        (_damaged, "damaged in the zip"),
        (lambda: pack([("bomb.png", png())], zipfile.ZIP_LZMA), "neither stored nor deflated"),
    ],
)
def test_an_entry_that_cannot_be_unpacked_is_unreadable_by_itself(tmp_path, make, reason):
    path = tmp_path / "x.zip"
    path.write_bytes(make())
    files = list_images(path)
    assert len(files) == 1
    with pytest.raises(UnreadableError, match=reason), open_file(files[0]):
        pass
    with pytest.raises(UnreadableError, match=reason):
        read_header(str(files[0]))


def test_entries_that_overlap_are_refused(tmp_path):
    """As in the densest zip bombs, whose entries share one content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("1.png", bytes(10_000))
        for index in range(2, 5):
            entry = zipfile.ZipInfo(f"{index}.png")
            entry.file_size = entry.compress_size = 10_000
            entry.CRC, entry.header_offset = archive.infolist()[0].CRC, 0
            archive.filelist.append(entry)
            archive.NameToInfo[entry.filename] = entry
    (tmp_path / "x.zip").write_bytes(file.getvalue())
    with pytest.raises(InputError, match="overlap"):
        list_images(tmp_path / "x.zip")


@pytest.fixture
def volumes(monkeypatch):
    """A format whose files hold several images: .vol, an .npy of (N, H, W)."""

    def load(path):
        return np.load(io.BytesIO(path.read_bytes()))

    def read_page(path, page):
        return load(path)[int(page)]

    row = FileFormat(
        suffixes=(".vol",),
        read=lambda path: load(path)[0],
        pages=Pages(
            read=read_page,
            probe=lambda path, page: Header.of_array(read_page(path, page)),
            names=lambda path, _axis: [f"{index:02d}" for index in range(len(load(path)))],
        ),
    )
    monkeypatch.setitem(FILE_FORMATS, "volume", row)
    return row


def _volume(path, values):
    with path.open("wb") as file:
        np.save(file, values)


def test_volumes_are_listed_page_by_page(tmp_path, volumes):
    values = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    _volume(tmp_path / "a.vol", values)
    _volume(tmp_path / "b.vol", values)
    (tmp_path / "c.vol").write_bytes(b"damaged")
    _touch(tmp_path, "d.png")
    files = list_images(tmp_path)
    assert list(files.names())[:4] == ["a.vol/00", "a.vol/01", "a.vol/02", "b.vol/00"]
    assert list(files.names())[6:] == ["c.vol", "d.png"]
    assert file_format_of(files[1]) is volumes
    assert image_size(files[1]) == (4, 5)
    assert is_file(files[1])
    assert not is_folder(tmp_path / "a.vol")
    # Pages of equal files are equal if they have one name.
    assert equal_files(files[:6]) == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.usefixtures("volumes")
def test_a_page_of_a_file_in_a_zip_is_read(tmp_path):
    _volume(tmp_path / "a.vol", np.zeros((3, 4, 5), np.int16))
    (tmp_path / "x.zip").write_bytes(pack([("in/a.vol", (tmp_path / "a.vol").read_bytes())]))
    files = list_images(tmp_path / "x.zip")
    assert list(files.names()) == ["in/a.vol/00", "in/a.vol/01", "in/a.vol/02"]
    assert image_size(files[2]) == (4, 5)
    with local_file(files[2]) as (file, page):
        assert (file.name[-5:], page) == ("a.vol", "02")


def test_ordinary_files_take_no_second_look_at_the_disk(tmp_path, monkeypatch):
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(png(index))
    monkeypatch.setattr(pages, "split_page", lambda path: pytest.fail(f"looked for a page in {path}"))
    monkeypatch.setattr("cyclegan.images.headers.split_page", pages.split_page)
    files = list_images(tmp_path / ".")
    (found,) = read_headers(files, HeaderIndex.empty())
    assert (found.kinds >= 0).all()
    assert (sizes_of(files) > 0).all()
    assert equal_files(files) == []
    assert os.fspath(files[0]).endswith("0.png")


# ---- pixel limits


def test_the_number_of_pixels_is_limited_and_the_message_names_the_flag(monkeypatch):
    check_pixels(2**15, 2**15)
    with pytest.raises(UnreadableError, match=r"40,000x40,000 pix.* limit of 1,073,741,824.*--max-pixels 1600000000"):
        check_pixels(40_000, 40_000)
    with pixel_limit(10):
        with pytest.raises(UnreadableError, match="limit of 10;"):
            check_pixels(4, 4)
        with pixel_limit(None), pytest.raises(UnreadableError):
            check_pixels(4, 4)
    check_pixels(4, 4)
    with pixel_limit(10**12):
        monkeypatch.setattr("cyclegan.images.limits.free_memory", lambda: 2**30)
        with pytest.raises(UnreadableError, match=r"takes about 8\.9 GiB to decode, and 1\.0 GiB are free"):
            check_pixels(40_000, 40_000)
        monkeypatch.setattr("cyclegan.images.limits.free_memory", lambda: None)
        check_pixels(40_000, 40_000)
    with pytest.raises(InputError, match="max_pixels is 0"), pixel_limit(0):
        pass


def test_the_limit_holds_in_threads(tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(png(index, 8 + index))
    files = list_images(tmp_path)
    with pixel_limit(81):
        (found,) = read_headers(files, HeaderIndex.empty())
    assert list(found.unreadable) == [2]
    assert "10x10 pixels" in found.unreadable[2]


def test_the_limit_of_pillow_is_set_back_after_the_last_of_several_blocks(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 123)
    first, second = without_pixel_limit(), without_pixel_limit()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS is None
    second.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 123


# ---- arrays


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((3, 40, 50), r"\(3, 40, 50\) .* looks like \(channels, height, width\): save np.moveaxis\(array, 0, -1\)"),
        ((1, 40, 50), r"save array\[0\] instead"),
        ((4, 40, 50), r"save np.moveaxis"),
        ((6, 40, 50, 3), r"\(6, 40, 50, 3\) .* a stack of images: save each in a file of its own"),
        ((2, 6, 40, 50, 3), r"expected \(height, width\) or"),
        ((0, 40), r"expected \(height, width\) or"),
        ((40,), r"expected \(height, width\) or"),
    ],
)
def test_an_array_that_is_no_image_says_what_to_save(tmp_path, shape, reason):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(shape, np.float32))
    with pytest.raises(InputError, match=reason):
        read_header(str(path))
    with pytest.raises(InputError, match=reason):
        read_image(path, 3)


@pytest.mark.parametrize(
    "shape", [(40, 50), (40, 50, 3), (3, 3, 200), (4, 50, 3), (2, 5, 8), (40, 50, 60), (5, 40, 50)]
)
def test_ambiguous_arrays_have_their_channels_last(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    header = read_header(str(tmp_path / "x.npy"))
    assert (header.height, header.width, header.channels) == (*shape[:2], shape[2] if len(shape) == 3 else 1)


def test_a_folder_of_arrays_with_the_wanted_channels_first_names_the_line_that_helps(tmp_path):
    for index in range(2):
        np.save(tmp_path / f"{index}.npy", np.random.default_rng(index).random((6, 40, 50)).astype(np.float32))
    with pytest.raises(
        InputError, match=r"50 channels of float32; the model takes 6, which its first axis has.*moveaxis"
    ):
        scan_folder(tmp_path, 6, (0, 1), DataConfig(crop_size=16))
    with pytest.raises(InputError, match="--channels-b 50"):
        scan_folder(tmp_path, 7, (0, 1), DataConfig(crop_size=16))
    for index in range(2):
        np.save(tmp_path / f"{index}.npy", np.zeros((3, 40, 50), np.float32))
    with pytest.raises(InputError, match=r"None of the 2.* 2 are unusable \(0.npy: holds.*\(3, 40, 50\).*moveaxis"):
        scan_folder(tmp_path, 3, (0, 1), DataConfig(crop_size=16))
