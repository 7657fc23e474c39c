"""Files and folders that are there whole or not at all, and places that one process has for itself."""

import subprocess
import sys

import pytest

from cyclegan import InputError
from cyclegan.system.atomic import atomic_path, locked, write_bytes


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def break_off(target, error):
    with atomic_path(target) as partial:
        partial.write_bytes(b"half")
        raise error


def test_a_file_is_there_whole_or_as_it_was(tmp_path):
    target = tmp_path / "deep" / "er" / "x.bin"
    with pytest.raises(OSError, match="disk"):
        break_off(target, OSError("disk"))
    assert names(tmp_path) == []  # nor do folders stay that were made for it
    write_bytes(target, b"whole")
    with pytest.raises(KeyboardInterrupt):
        break_off(target, KeyboardInterrupt())
    assert names(target.parent) == ["x.bin"]
    assert target.read_bytes() == b"whole"


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        pass


def test_a_link_to_a_file_is_replaced_and_what_it_pointed_to_stays(tmp_path):
    (tmp_path / "original").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "original")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "original").read_bytes() == b"precious"


def fill(target, content, **options):
    with atomic_path(target, **options) as folder:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "model"
    fill(target, {"a": "1", "old": "1"})
    (tmp_path / ".model.999999999.0123abcd.partial").mkdir()  # of a process that was killed
    (tmp_path / ".model.tif.partial").mkdir()  # of something else
    fill(target, {"a": "2"})
    assert names(tmp_path) == [".model.tif.partial", "model"]
    assert names(target) == ["a"]
    with pytest.raises(OSError, match="disk"):
        break_off(target / "b", OSError("disk"))
    assert names(target) == ["a"]
    assert (target / "a").read_text() == "2"


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    fill(tmp_path / "place", {"a": "1"})
    (tmp_path / "link").symlink_to(tmp_path / "place")
    fill(tmp_path / "link", {"b": "1"})
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "place") == ["b"]


def test_files_can_be_added_to_a_folder(tmp_path):
    fill(tmp_path / "out", {"a": "1", "config.json": "1"}, merge=True)
    fill(tmp_path / "out", {"b": "2", "config.json": "2"}, merge=True)
    assert names(tmp_path / "out") == ["a", "b", "config.json"]
    assert (tmp_path / "out" / "config.json").read_text() == "2"


def test_a_lock_keeps_other_processes_out_until_this_one_ends(tmp_path):
    code = "from pathlib import Path; from cyclegan.system.atomic import locked\n"
    code += f"with locked(Path({str(tmp_path)!r}) / 'lock', 'x'):\n"
    with locked(tmp_path / "lock", "busy"), pytest.raises(InputError, match="busy"), locked(tmp_path / "lock", "busy"):
        pass
    process = subprocess.Popen(
        [sys.executable, "-c", code + "    print('held', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="busy"), locked(tmp_path / "lock", "busy"):
        pass
    process.kill()
    process.wait()
    with locked(tmp_path / "lock", "busy"):
        pass
    process.stdin.close(), process.stdout.close()
