import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from cyclegan.images.file_list import FileList, list_files


def test_a_list_of_files_is_a_sequence_of_paths(tmp_path):
    names = ["a.png", "b/c.png", "b/d \u00e9.png", "z.png"]
    files = FileList(tmp_path, names)
    paths = [tmp_path / name for name in names]
    assert list(files) == paths
    assert [files[i] for i in range(-4, 4)] == paths + paths
    assert list(files.names()) == names
    assert list(files[1:3]) == paths[1:3]
    assert list(files[::-2]) == paths[::-2]
    assert list(files.without(paths[:2])) == paths[2:]
    assert list(files.take(np.array([3, 0]))) == [paths[3], paths[0]]
    assert pickle.loads(pickle.dumps(files)) == files != files[1:]
    assert not FileList(tmp_path, [])
    with pytest.raises(IndexError):
        files[4]


def test_many_names_come_back_and_take_little(tmp_path):
    names = [f"image_{index:06d}.jpg" for index in range(10_001)]
    files = FileList(tmp_path, names)
    assert list(files.names()) == names
    assert len(pickle.dumps(files)) < 30 * len(names)


def test_listing_finds_what_pathlib_finds(tmp_path):
    for name in ("b.JPG", "a/c.png", "a/b/d.png", "a-b/x.png", "note.txt", ".hidden.png", ".dir/x.png", "a/.x/y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "in.png").write_text("")
    (tmp_path / "link.png").symlink_to(tmp_path / "b.JPG")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = list_files(tmp_path, (".png", ".jpg"))
    expected = ["a-b/x.png", "a/b/d.png", "a/c.png", "b.JPG", "folder.png/in.png", "link.png"]
    assert list(found.names()) == expected
    assert not list_files(tmp_path / "nowhere", (".png",))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_no_encoding_holds_comes_back_as_it_was(tmp_path):
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/x\xff.png"))
    strange.write_text("")
    (found,) = list_files(tmp_path, (".png",))
    assert found == strange
    assert found.is_file()
