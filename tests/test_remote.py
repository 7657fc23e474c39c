"""Images at addresses: copied once into a cache folder, then read as local files."""

from pathlib import Path

import fsspec
import pytest

from cyclegan.cluster.places import fetch
from cyclegan.errors import InputError
from cyclegan.images import remote
from cyclegan.images.file_list import list_images
from cyclegan.images.remote import address_of, check_local, is_address, local_copy
from make_zip import images, pack, png


@pytest.fixture
def memory():
    """The store of `memory://`, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.mark.parametrize("text", ["s3://bucket/photos", "https://host/a/b.zip?x=1", "memory://x", "S3://bucket/x"])
def test_addresses_survive_as_paths(text):
    assert is_address(Path(text))
    assert is_address(text)
    assert address_of(Path(text)) == text[:2].lower() + text[2:]


@pytest.mark.parametrize("form", ["file://{}", "file://localhost{}", "local://{}", "simplecache::file://{}"])
def test_addresses_of_this_machine_keep_their_first_slash(tmp_path, form):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.png").write_bytes(png(1))
    for place in (tmp_path / "in", tmp_path / "in" / "1.png"):
        copy = local_copy(Path(form.format(place)), lambda _: None, cache=tmp_path / "cache")
        assert (copy if place.suffix else copy / "1.png").read_bytes() == png(1)
    with pytest.raises(InputError, match="results are written to this machine only"):
        check_local("--out", Path(form.format(tmp_path)))


def test_a_folder_inside_of_a_zip_is_an_address(tmp_path):
    (tmp_path / "x.zip").write_bytes(pack([("d/1.png", png(1)), ("d/e/2.png", png(2)), ("3.png", png(3))]))
    for address in (f"zip://d::{tmp_path}/x.zip", f"zip://d::file://{tmp_path}/x.zip"):
        copy = local_copy(Path(address), lambda _: None, cache=tmp_path / "cache")
        assert list(list_images(copy).names()) == ["1.png", "e/2.png"]
        assert (copy / "e" / "2.png").read_bytes() == png(2)


@pytest.mark.parametrize("text", ["photos", "/photos", "C:/photos", "C:\\photos", "a:b/c", "photos/s3:/x"])
def test_paths_are_no_addresses(text):
    assert not is_address(Path(text))


def test_a_folder_is_copied_once_and_follows_changes(memory, tmp_path):
    memory.pipe(
        {"/photos/1.png": png(1), "/photos/cats/2.png": png(2), "/photos/x.txt": b"x", "/photos/.h/3.png": png()}
    )
    notes = []
    folder = local_copy(Path("memory://photos"), notes.append, cache=tmp_path)
    assert folder.name == "photos"
    assert list(list_images(folder).names()) == ["1.png", "cats/2.png"]
    assert (folder / "cats" / "2.png").read_bytes() == png(2)
    left_out = "memory://photos: 1 file is left out: 1 .txt."
    assert notes[0] == left_out
    assert notes[1].startswith("Copying 2 files (0.0 MB) from memory://photos to ")

    memory.rm("/photos/1.png")
    memory.pipe({"/photos/4.png": png(4)})
    assert local_copy(Path("memory://photos"), notes.append, cache=tmp_path) == folder
    assert list(list_images(folder).names()) == ["4.png", "cats/2.png"]
    assert notes[2] == left_out
    assert notes[3].startswith("Copying 1 file ")
    local_copy(Path("memory://photos"), notes.append, cache=tmp_path)
    assert notes[4:] == [left_out]


@pytest.mark.parametrize("place", ["scenes", "scenes/a.tif", "scenes/b.img"])
def test_files_that_belong_to_an_image_come_with_it(memory, tmp_path, place):
    memory.pipe({f"/scenes/{name}": b"x" for name in ("a.tif", "a.tif.msk", "a.tfw", "b.img", "b.hdr", "c.tfw")})
    notes = []
    copy = local_copy(Path(f"memory://{place}"), notes.append, cache=tmp_path)
    expected = {"scenes/a.tif": ["a.tfw", "a.tif", "a.tif.msk"], "scenes/b.img": ["b.hdr", "b.img"]}
    folder = copy.parent if copy.suffix else copy
    found = sorted(file.name for file in folder.iterdir() if file.name != "files.json")
    assert found == expected.get(place, ["a.tfw", "a.tif", "a.tif.msk", "b.hdr", "b.img"])
    assert not copy.suffix or copy.name == Path(place).name
    assert "left out" not in " ".join(notes)
    actor = tmp_path / "actor"
    actor.mkdir()
    if copy.suffix:
        (fetched,) = fetch([f"memory://{place}"], actor)
        assert sorted(file.name for file in fetched.parent.iterdir()) == found


def test_a_zip_and_an_image_are_copied_under_their_names(memory, tmp_path):
    memory.pipe({"/in/photos.zip": pack(images("")), "/in/one.png": png()})
    archive = local_copy(Path("memory://in/photos.zip"), lambda _: None, cache=tmp_path)
    assert archive.name == "photos.zip"
    assert len(list_images(archive)) == 7
    assert local_copy(Path("memory://in/one.png"), lambda _: None, cache=tmp_path).read_bytes() == png()


def test_local_paths_are_left_alone(tmp_path):
    assert local_copy(tmp_path, pytest.fail) is tmp_path


def test_what_cannot_be_copied_is_one_sentence(memory, tmp_path, monkeypatch):
    def copy(address):
        local_copy(Path(address), lambda _: None, cache=tmp_path)

    with pytest.raises(InputError, match="There is nothing at memory://nowhere"):
        copy("memory://nowhere")
    memory.pipe({"/texts/x.txt": b"x"})
    with pytest.raises(InputError, match="memory://texts holds no images"):
        copy("memory://texts")
    with pytest.raises(InputError, match=r"memory://texts/\*.png is a pattern, .* give the folder"):
        copy("memory://texts/*.png")
    with pytest.raises(InputError, match=r"nope://x cannot be read: ValueError: Protocol not known: nope"):
        copy("nope://x")
    memory.pipe({"/photos/1.png": png()})
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(InputError, match="make room"):
        copy("memory://photos")


def test_a_missing_package_names_its_install_line(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(InputError, match=r"pip install 'cyclegan\[remote\]'"):
        local_copy(Path("memory://photos"), lambda _: None, cache=tmp_path)


def test_results_are_written_to_this_machine_only():
    with pytest.raises(InputError, match="--out is s3://bucket/out; results are written to this machine only"):
        check_local("--out", Path("s3://bucket/out"))
    check_local("--out", Path("out"))
