import stat
import struct
import zipfile

import pytest

from cyclegan import ArchiveError, InputError
from cyclegan.datasets.archives import unpack
from cyclegan.images.file_list import list_images
from cyclegan.system.messages import Messages
from make_zip import images, pack, png

QUIET = Messages("datasets", quiet=True)


def unpacked(tmp_path, data):
    archive = tmp_path / "mini.zip"
    archive.write_bytes(data)
    return unpack(archive, tmp_path / "out", name="mini.zip", messages=QUIET)


@pytest.mark.parametrize("top", ["mini/", "", "another name/"])
def test_folders_of_images_are_unpacked_and_counted(tmp_path, top):
    found = unpacked(tmp_path, pack(images(top)))
    assert found.num_images == {"trainA": 3, "trainB": 2, "testA": 1, "testB": 1}
    assert found.left_out == ()
    assert (tmp_path / "out/trainA/2.png").read_bytes() == png(2)


def test_other_files_are_left_out_and_reported(tmp_path):
    others = [
        "mini/readme.txt",
        "mini/trainC/1.png",
        "__MACOSX/mini/trainA/._1.png",
        "mini/trainA/.hidden.png",
        "a.png",
    ]
    found = unpacked(tmp_path, pack([*images(), *((name, b"x") for name in others)]))
    assert set(found.left_out) == set(others)
    assert len(list_images(tmp_path / "out")) == 7
    assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) == 7


def special(kind):
    entry = zipfile.ZipInfo("mini/trainA/link.png")
    entry.external_attr = (kind | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil.png", "leads out"),
        ("mini/trainA/../../../evil.png", "leads out"),
        ("/tmp/evil.png", "leads out"),
        ("C:/evil.png", "leads out"),
        ("mini\\..\\evil.png", "leads out"),
        ("mini\\trainA\\1.png", "is not a valid file name"),
        ("mini/trainA/a\nb.png", "is not a valid file name"),
        (special(stat.S_IFLNK), "link or a device"),
        (special(stat.S_IFCHR), "link or a device"),
        (special(stat.S_IFIFO), "link or a device"),
        ("mini/trainA/0.PNG", "have the name 'trainA/0.PNG'"),
        ("other/trainA/7.png", r"several datasets \(mini, other\)"),
        ("mini/trainA/0.png/1.png", "both a file and a folder"),
    ],
)
def test_malicious_names_and_entries_are_refused(tmp_path, name, message):
    before = set(tmp_path.parent.iterdir())
    with pytest.raises(ArchiveError, match=message):
        unpacked(tmp_path, pack([*images(), (name, b"/etc/passwd")]))
    assert [path.name for path in tmp_path.iterdir()] == ["mini.zip"]
    assert set(tmp_path.parent.iterdir()) == before


def test_a_bomb_is_refused(tmp_path):
    bomb = pack([*images(), ("mini/trainA/bomb.png", bytes(100_000_000))])
    assert len(bomb) < 200_000
    with pytest.raises(ArchiveError, match=r"its .* would become 100.0 MB"):
        unpacked(tmp_path, bomb)
    assert not (tmp_path / "out").exists()


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path):
    bomb = bytearray(pack([("mini/trainA/bomb.png", bytes(100_000_000))]))
    struct.pack_into("<I", bomb, bomb.index(b"PK\x01\x02") + 24, 1000)
    struct.pack_into("<I", bomb, bomb.index(b"PK\x03\x04") + 22, 1000)
    with pytest.raises(ArchiveError, match="damaged"):
        unpacked(tmp_path, bytes(bomb))
    assert not (tmp_path / "out").exists()


def test_a_file_shorter_than_it_declares_is_refused(tmp_path):
    lie = bytearray(pack([("mini/trainA/1.png", png())]))
    struct.pack_into("<I", lie, lie.index(b"PK\x01\x02") + 24, 1_000_000)
    with pytest.raises(ArchiveError):
        unpacked(tmp_path, bytes(lie))
    assert not (tmp_path / "out").exists()


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cyclegan.datasets.archives._MOST_FILES", 6)
    with pytest.raises(ArchiveError, match="7 files; at most 6"):
        unpacked(tmp_path, pack(images()))


def test_an_encrypted_entry_is_refused(tmp_path):
    data = bytearray(pack(images()))
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + 8, 1)
    with pytest.raises(ArchiveError, match="encrypted"):
        unpacked(tmp_path, bytes(data))


def test_an_unusual_compression_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match="unsupported compression"):
        unpacked(tmp_path, pack(images(), zipfile.ZIP_LZMA))


def test_a_truncated_or_damaged_zip_is_refused(tmp_path):
    whole = pack(images())
    damaged = bytearray(whole)
    damaged[whole.index(b"IHDR") if b"IHDR" in whole else 60] ^= 0xFF
    for data in (whole[:-30], whole[: len(whole) // 2], bytes(damaged)):
        with pytest.raises(ArchiveError, match="damaged"):
            unpacked(tmp_path, data)
        assert not (tmp_path / "out").exists()


def test_wrong_folders_are_refused_with_the_right_ones(tmp_path):
    with pytest.raises(ArchiveError, match="none of the folders trainA, trainB, .* with images"):
        unpacked(tmp_path, pack([("mini/left/1.png", png()), ("mini/right/1.png", png())]))


def test_a_disk_without_room_is_reported_before_unpacking(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("cyclegan.datasets.archives.shutil.disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="10 bytes free"):
        unpacked(tmp_path, pack(images()))
