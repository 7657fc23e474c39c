"""Files, folders and links that lie under a temporary name or a lock of ours: refused or passed by, never touched."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, evaluate, train
from cyclegan.cli import main
from cyclegan.images.headers import HeaderIndex, Kind
from cyclegan.storage.model import find_model, read_info
from cyclegan.storage.scores import read_scores
from cyclegan.storage.showcase import ShowcaseImage, write_showcase
from cyclegan.system.atomic import atomic_path, locked, remove_leftovers, restore, write_bytes
from cyclegan.translate.large_files import translate_large
from test_download import images, pack, serve, server  # noqa: F401  (a fixture)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links")

GONE, DIGITS = 999_999_999, "0123abcd"  # no process has this number


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("foreign")
    make_folder(root / "a"), make_folder(root / "b", seed=1)
    run = train(root / "a", root / "b", out=root / "run", preset="paper", quiet=True, **{**TINY, "steps": 2})
    Image.effect_noise((90, 70), 90).convert("RGB").save(root / "big.png")
    return run


def tree(root):
    """All that is in a folder: bytes of files, targets of links, None for folders."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = path.readlink() if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


@pytest.fixture
def precious(tmp_path):
    """A folder of somebody, outside of where the program works."""
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in ("key", "tiles.bin", "thesis.tex", "received", "lock"):
        (folder / name).write_text("years of work")
    return folder


# Each makes something foreign at `place`, the hidden folder of unfinished work.
def foreign_folder(place, _precious):
    place.mkdir()
    (place / "thesis.tex").write_text("years of work")


def foreign_beside_ours(place, _precious):
    place.mkdir()
    (place / "lock").touch()
    (place / "key").write_text("x")
    (place / "received").write_text("x")
    (place / "thesis.tex").write_text("years of work")


def folder_in_it(place, _precious):
    place.mkdir()
    (place / "key").mkdir()
    (place / "received").mkdir()


def link_to_folder(place, precious):
    place.symlink_to(precious)


def broken_link(place, precious):
    place.symlink_to(precious / "nothing")


def file_in_place(place, _precious):
    place.write_text("years of work")


def links_in_it(place, precious):
    place.mkdir()
    for name in ("lock", "key", "tiles.bin", "rows.jsonl", "received", "received.json", "images"):
        (place / name).symlink_to(precious / name)


def lock_with_content(place, _precious):
    place.mkdir()
    (place / "lock").write_text("years of work")


def lock_is_a_link(place, precious):
    place.mkdir()
    (place / "lock").symlink_to(precious / "lock")


def link_to_tiles(place, precious):
    place.mkdir()
    (place / "lock").touch()
    (place / "tiles.bin").symlink_to(precious / "tiles.bin")
    (place / "received").symlink_to(precious / "tiles.bin")


def pipe_in_it(place, _precious):
    place.mkdir()
    os.mkfifo(place / "key")
    os.mkfifo(place / "received")


FOREIGN = [
    foreign_folder,
    foreign_beside_ours,
    folder_in_it,
    link_to_folder,
    broken_link,
    file_in_place,
    links_in_it,
    lock_with_content,
    lock_is_a_link,
    link_to_tiles,
]


def refused(words, capsys):
    """The sentence with which a command refuses."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in err
    (sentence,) = [line for line in err.splitlines() if line.startswith("cyclegan: ")]
    assert "expected there is" in sentence or "does not write" in sentence
    assert "move it away, or choose another --out" in sentence
    return sentence


@pytest.mark.parametrize("make", FOREIGN)
def test_a_translation_in_tiles_leaves_what_it_did_not_make(trained, tmp_path, precious, capsys, make):
    pytest.importorskip("tifffile")
    make(tmp_path / ".out.tif.partial", precious)
    before = tree(tmp_path)
    words = ["translate", trained, trained.parent / "big.png", "--out", tmp_path / "out.tif", "--tile", "32"]
    assert str(tmp_path / ".out.tif.partial") in refused(words, capsys)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("make", FOREIGN)
def test_a_download_leaves_what_it_did_not_make(server, tmp_path, precious, capsys, make):  # noqa: F811
    make(tmp_path / ".mini.partial", precious)
    before = tree(tmp_path)
    server.script = [serve(pack(images()))]
    words = ["download", "mini", "--out", tmp_path / "mini", "--mirror", server.url]
    assert str(tmp_path / ".mini.partial") in refused(words, capsys)
    assert tree(tmp_path) == before
    assert server.asked == []


@pytest.mark.parametrize("name", [".out.tif.partial", ".mini.partial"])
def test_a_pipe_in_a_work_folder_does_not_make_it_wait(trained, server, tmp_path, capsys, name):  # noqa: F811
    pipe_in_it(tmp_path / name, None)
    translate = ["translate", trained, trained.parent / "big.png", "--out", tmp_path / "out.tif", "--tile", "32"]
    download = ["download", "mini", "--out", tmp_path / "mini", "--mirror", server.url]
    refused(translate if "tif" in name else download, capsys)


def test_an_empty_folder_and_a_lock_alone_are_taken_and_then_removed(trained, tmp_path):
    pytest.importorskip("tifffile")
    translator = Translator.load(trained)
    (tmp_path / ".one.tif.partial").mkdir()
    (tmp_path / ".two.tif.partial").mkdir()
    (tmp_path / ".two.tif.partial" / "lock").touch()
    for name in ("one.tif", "two.tif"):
        translate_large(translator, trained.parent / "big.png", tmp_path / name, tile=32)
    assert sorted(tree(tmp_path)) == ["one.tif", "two.tif"]


def test_what_comes_into_a_work_folder_during_the_work_stays(trained, tmp_path):
    pytest.importorskip("tifffile")

    def put(what, _share):
        if what.startswith("row 1"):
            (tmp_path / ".out.tif.partial" / "thesis.tex").write_text("years of work")

    translate_large(
        Translator.load(trained), trained.parent / "big.png", tmp_path / "out.tif", tile=32, on_progress=put
    )
    assert tree(tmp_path).keys() == {"out.tif", ".out.tif.partial", ".out.tif.partial/thesis.tex"}


# ---- the lock of a run, and its other hidden names


@pytest.mark.parametrize("kind", ["content", "link", "folder"])
def test_a_lock_that_is_not_ours_is_refused_and_not_emptied(trained, tmp_path, capsys, kind):
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "thesis.tex").write_text("years of work")
    if kind == "content":
        (run / ".lock").write_text("years of work")
    elif kind == "link":
        (run / ".lock").symlink_to(tmp_path / "thesis.tex")
    else:
        (run / ".lock").mkdir()
    before = tree(tmp_path)
    root = trained.parent
    assert str(run / ".lock") in refused(["train", root / "a", root / "b", "--out", run, "--steps", "1"], capsys)
    assert tree(tmp_path) == before


def test_the_marker_of_filelock_where_the_system_has_no_locks_is_taken(tmp_path):
    (tmp_path / "lock").write_text(f"{GONE}\nmachine\n")
    with locked(tmp_path / "lock", "busy"):
        pass


def test_an_index_of_headers_that_is_not_ours_is_refused(tmp_path):
    count = 5000
    index = HeaderIndex(
        np.arange(count, dtype=np.uint64),
        np.ones((count, 2), np.int32),
        np.zeros(count, np.int16),
        [Kind("uint8", 3)],
        True,
    )
    place = tmp_path / ".headers_a.npz"
    for make in (lambda: place.write_text("years of work"), place.mkdir, lambda: place.symlink_to(tmp_path / "x")):
        make()
        before = tree(tmp_path)
        with pytest.raises(InputError, match="did not write, and expected there is its index"):
            index.save(place)
        assert tree(tmp_path) == before
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    place.write_bytes(b"PK\x03\x04 damaged")  # one of ours
    index.save(place)
    assert len(HeaderIndex.load(place).keys) == count


def test_an_evaluation_leaves_a_file_of_the_name_that_it_once_tried_out(trained, tmp_path):
    out = tmp_path / "scores"
    out.mkdir()
    (out / ".writable").write_text("years of work")
    (out / "examples").mkdir()
    evaluate(trained, trained.parent / "a", trained.parent / "b", out=out, quiet=True)
    assert (out / ".writable").read_text() == "years of work"
    assert read_scores(out).step == 2


def test_examples_are_replaced_and_other_files_beside_them_stay(tmp_path):
    picture = torch.zeros(3, 8, 8)
    shown = [ShowcaseImage("a2b", f"{i}.png", "sample", {"input": picture, "output": picture}) for i in range(2)]
    out = tmp_path / "examples"
    write_showcase(out, "test", shown)
    (out / "notes.txt").write_text("mine")
    (out / "a2b" / ".DS_Store").write_text("the system's")
    write_showcase(out, "test", shown[:1])
    assert sorted(tree(tmp_path)) == [
        "examples",
        *(f"examples/{name}" for name in ("a2b", "a2b/.DS_Store", "a2b/00_input.png", "a2b/00_output.png")),
        *("examples/examples.json", "examples/notes.txt"),
    ]
    with pytest.raises(AttributeError):
        write_showcase(out, "test", [None])
    assert len(json.loads((out / "examples.json").read_text())["examples"]) == 1
    assert (out / "a2b" / "00_input.png").is_file()


# ---- the names of what is being written


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_nothing_that_exists_is_written_through_or_removed(tmp_path, precious):
    before = tree(precious)
    foreign = [f".x.{os.getpid()}.partial", f".x.{os.getpid()}.{DIGITS}.partial", ".x.partial", ".x.old"]
    for name in foreign:
        (tmp_path / name).symlink_to(precious)
    write_bytes(tmp_path / "x", b"1")
    (tmp_path / "x").unlink()
    for _ in range(2):  # made, and replaced
        with atomic_path(tmp_path / "x") as folder:
            folder.mkdir()
            (folder / "a").touch()
    assert tree(precious) == before
    assert names(tmp_path) == sorted([*foreign, "precious", "x"])


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "x").write_text("years of work")
    with pytest.raises(NotADirectoryError), atomic_path(tmp_path / "x") as folder:
        folder.mkdir()
    assert tree(tmp_path) == {"x": b"years of work"}


def replace(target, content):
    with atomic_path(target) as folder:
        folder.mkdir()
        (folder / content).touch()


def test_only_what_dead_processes_of_this_user_left_is_removed(tmp_path):
    replace(tmp_path / "x", "a")
    kept = [
        f".x.1.{DIGITS}.partial",  # of a process that lives
        f".x.{os.getppid()}.{DIGITS}.old",
        f".x.{GONE}.partial",  # not our pattern
        f".x.{GONE}.{DIGITS}x.partial",
        f".x.y.{GONE}.{DIGITS}.partial",  # of another target
        f"x.{GONE}.{DIGITS}.partial",
    ]
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / f".x.{GONE}.ffffffff.partial").symlink_to(tmp_path / kept[0])
    left = [f".x.{GONE}.{DIGITS}.partial", f".x.{GONE}.{DIGITS}.old", f".x.{os.getpid()}.{DIGITS}.partial"]
    for name in left:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    (tmp_path / f".x.{GONE}.00000000.partial").write_text("half")
    replace(tmp_path / "x", "b")
    assert names(tmp_path) == sorted([*kept, f".x.{GONE}.ffffffff.partial", "x"])
    remove_leftovers(tmp_path)
    assert f".x.y.{GONE}.{DIGITS}.partial" not in names(tmp_path)
    remove_leftovers(tmp_path / "not there")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_what_another_user_left_stays(tmp_path):
    name = f".x.{GONE}.{DIGITS}.partial"
    (tmp_path / name).mkdir()
    os.chown(tmp_path / name, 65534, 65534)
    replace(tmp_path / "x", "a")
    assert names(tmp_path) == [name, "x"]


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    for name in ("n" * 255, "ä" * 127, "n" * 251 + ".tif"):
        write_bytes(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"
        (tmp_path / name).unlink()
    assert names(tmp_path) == []


# ---- a kill between the two renames that replace a folder


def test_a_folder_that_was_being_replaced_is_put_back(tmp_path):
    old = tmp_path / f".model.{GONE}.{DIGITS}.old"
    old.mkdir()
    (old / "a").touch()
    (tmp_path / f".model.{GONE}.{DIGITS}.partial").mkdir()
    restore(tmp_path / "model")
    assert names(tmp_path / "model") == ["a"]
    restore(tmp_path / "model")
    replace(tmp_path / "model", "b")
    assert tree(tmp_path) == {"model": None, "model/b": b""}


def test_a_folder_is_not_put_back_while_its_process_lives_or_through_a_link(tmp_path):
    (tmp_path / f".model.{os.getppid()}.{DIGITS}.old").mkdir()
    (tmp_path / f".best.{GONE}.{DIGITS}.old").symlink_to(tmp_path)
    before = names(tmp_path)
    restore(tmp_path / "model")
    restore(tmp_path / "best", is_locked=True)
    assert names(tmp_path) == before
    restore(tmp_path / "model", is_locked=True)  # the number is that of another program now
    assert (tmp_path / "model").is_dir()


@pytest.mark.parametrize("what", ["model", "best"])
def test_readers_and_the_next_session_find_a_folder_that_a_kill_hid(trained, tmp_path, what):
    run = shutil.copytree(trained, tmp_path / "run")
    if what == "best":
        shutil.copytree(run / "checkpoints" / "step_0000002", run / "best")
    hidden = run / f".{what}.{GONE}.{DIGITS}.old"
    (run / what).rename(hidden)
    assert read_info(find_model(run / what)).step == 2
    (run / what).rename(hidden)
    root = trained.parent
    train(root / "a", root / "b", out=run, preset="paper", quiet=True, resume=True, **{**TINY, "steps": 2})
    assert (run / what).is_dir()
    assert not hidden.exists()


def test_an_error_between_the_two_renames_puts_the_old_folder_back(tmp_path, monkeypatch):
    replace(tmp_path / "x", "a")
    rename = type(tmp_path).rename

    def failing(path, target):
        if path.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "rename", failing)
        with pytest.raises(OSError, match="Input/output"):
            replace(tmp_path / "x", "b")
    assert tree(tmp_path) == {"x": None, "x/a": b""}
