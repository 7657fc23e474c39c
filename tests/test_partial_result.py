"""The unfinished part of a translation in tiles, when it is damaged, edited or contradicts itself.

Whatever happened to it, the same command ends with the right picture.
"""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, train
from cyclegan.translate.large_files import translate_large
from cyclegan.translate.partial_result import PartialResult
from cyclegan.translate.tiling.network import TilingState

tifffile = pytest.importorskip("tifffile")


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A translator, an image, its translation, and the folder of a call that was stopped after two of three rows."""
    root = tmp_path_factory.mktemp("begun")
    make_folder(root / "a"), make_folder(root / "b", seed=1)
    settings = {**TINY, "steps": 2, "blocks": 2}
    translator = Translator.load(
        train(root / "a", root / "b", out=root / "run", preset="paper", quiet=True, **settings)
    )
    Image.effect_noise((70, 90), 90).convert("RGB").save(root / "in.png")

    def stop(what, _share):
        if what.startswith("row 2"):
            raise Stop

    translate_large(translator, root / "in.png", root / "whole.tif", tile=32)
    with pytest.raises(Stop):
        translate_large(translator, root / "in.png", root / "out.tif", tile=32, on_progress=stop, save_seconds=0)
    return translator, root


@pytest.fixture
def folder(begun, tmp_path):
    return shutil.copytree(begun[1] / ".out.tif.partial", tmp_path / ".out.tif.partial")


def resume(begun, tmp_path):
    """Translate again, check the picture, and return the notes."""
    translator, root = begun
    result = translate_large(translator, root / "in.png", tmp_path / "out.tif", tile=32)
    assert (tmp_path / "out.tif").read_bytes() == (root / "whole.tif").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["out.tif"]
    return result.notes


def test_what_is_whole_is_resumed_in_silence(begun, folder, tmp_path):
    assert folder.is_dir()
    assert resume(begun, tmp_path) == ["out.tif: 2 of 3 rows of tiles were done before."]


DAMAGE = {
    "torn": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "not UTF-8": lambda content: b"\xff\xfe" + content,
    "zeros": lambda content: bytes(len(content)),
    "an array": lambda _: b"[1, 2, 3]\n",
    "a number": lambda _: b"-1\n",
    "text": lambda _: b"null\n",
    "brackets": lambda _: b"[" * 100_000,
    "digits": lambda _: b"1" * 5001,
    "NaN": lambda _: b'{"side": NaN, "stored": 1, "tiles": [NaN], "crc32": NaN, "statistics": {"x": [[NaN], [NaN]]}}\n',
    "doubled": lambda content: content + content,
    "one byte changed": lambda content: (
        content[:20] + bytes([content[20] ^ 1]) + content[21:] if content[20:] else b"x"
    ),
}
FILES = ["key", "plan.json", "rows.jsonl", "tiles.bin", "state.json", "activation"]


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_done_again(begun, folder, tmp_path, name, how):
    path = next(folder.glob("activation_*")) if name == "activation" else folder / name
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    resume(begun, tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_done_again(begun, folder, tmp_path, name):
    (next(folder.glob("activation_*")) if name == "activation" else folder / name).unlink()
    resume(begun, tmp_path)


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "values",
    [
        {"side": 64},
        {"side": -32},
        {"side": "32"},
        {"stored": 0},
        {"stored": 1},
        {"stored": 50},
        {"stored": -1},
        {"stored": 1e18},
        {"more": 1},
    ],
)
def test_a_plan_that_is_not_possible_starts_over(begun, folder, tmp_path, values):
    edit(folder / "plan.json", **values)
    notes = resume(begun, tmp_path)
    if values != {"stored": 1}:  # which is possible, and gives the same picture
        assert notes == ["out.tif: the plan of the earlier call is damaged; it starts over."]


def rows(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def write_rows(folder, lines):
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


EDITS = {
    "counts that contradict the file": lambda one, two: [{**one, "tiles": [5, 5, 5]}, two],
    "counts that are moved": lambda one, two: [{**one, "tiles": one["tiles"][::-1]}, two],
    "negative counts": lambda one, two: [{**one, "tiles": [-1, *one["tiles"]]}, two],
    "huge counts": lambda one, two: [{**one, "tiles": [10**18]}, two],
    "no tiles": lambda one, two: [{**one, "tiles": []}, two],
    "no checksum": lambda one, two: [{"tiles": one["tiles"]}, two],
    "the lines of an earlier release": lambda one, two: [one["tiles"], two["tiles"]],
    "lines in another order": lambda one, two: [two, one],
    "a line that is missing": lambda _, two: [two],
    "a line that is there twice": lambda one, two: [one, one, two],
    "a line of text": lambda one, two: [one, "x", two],
}


@pytest.mark.parametrize("how", EDITS)
def test_rows_that_contradict_each_other_are_done_again(begun, folder, tmp_path, how):
    write_rows(folder, EDITS[how](*rows(folder)))
    notes = resume(begun, tmp_path)
    if how != "a line of text":
        assert "some of the rows of tiles were damaged" in notes[0]


def test_changed_bytes_of_tiles_cost_the_rows_from_there(begun, folder, tmp_path):
    first = sum(rows(folder)[0]["tiles"])
    content = bytearray((folder / "tiles.bin").read_bytes())
    content[first + 30] ^= 1
    (folder / "tiles.bin").write_bytes(content)
    assert resume(begun, tmp_path) == [
        "out.tif: some of the rows of tiles were damaged; all after row 1 are done again.",
        "out.tif: 1 of 3 rows of tiles were done before.",
    ]


def test_tiles_that_change_after_they_were_checked_are_an_error_and_the_next_call_does_them_again(begun, tmp_path):
    translator, root = begun

    def damage(what, _share):
        if what == "writing":
            path = tmp_path / ".out.tif.partial" / "tiles.bin"
            content = bytearray(path.read_bytes())
            content[30] ^= 1
            path.write_bytes(content)

    with pytest.raises(InputError, match=r"tiles\.bin has changed since it was written; check the disk, then run the"):
        translate_large(translator, root / "in.png", tmp_path / "out.tif", tile=32, on_progress=damage)
    assert not (tmp_path / "out.tif").exists()
    assert "all after row 0 are done again" in resume(begun, tmp_path)[0]


@pytest.mark.parametrize(
    "values",
    [
        {"dtype": "evil"},
        {"dtype": "float64"},
        {"dtype": "load"},
        {"shape": [1, 1, 1]},
        {"shape": [-1, -1, 1]},
        {"shape": [10**9, 10**9, 10**9]},
        {"shape": "abc"},
        {"blocks": -1},
        {"blocks": 99},
        {"blocks": "../../x"},
        {"file": "../../x"},
        {"crc32": 0},
        None,
        "../../etc/passwd",
    ],
)
def test_a_state_that_contradicts_its_activation_is_computed_again(begun, folder, tmp_path, values):
    path = folder / "state.json"
    record = json.loads(path.read_text())
    record["activation"] = {**record["activation"], **values} if isinstance(values, dict) else values
    path.write_text(json.dumps(record))
    notes = resume(begun, tmp_path)
    assert "out.tif: the saved statistics of the earlier call were damaged; they are computed again." in notes


@pytest.mark.parametrize("change", ["value", "channels", "names", "text"])
def test_changed_statistics_are_computed_again(begun, folder, tmp_path, change):
    path = folder / "state.json"
    record = json.loads(path.read_text())
    name = next(iter(record["statistics"]))
    mean, variance = record["statistics"].pop(name)
    record["statistics"] |= {
        "value": {name: [[0.5 + m for m in mean], variance]},
        "channels": {name: [mean[:1], variance]},
        "names": {"evil": [mean, variance]},
        "text": {name: ["x", variance]},
    }[change]
    path.write_text(json.dumps(record))
    assert "statistics of the earlier call were damaged" in " ".join(resume(begun, tmp_path))


def test_a_damaged_activation_costs_no_statistics(tmp_path):
    draw = torch.Generator().manual_seed(0)
    state = TilingState({"x": (torch.rand(3, generator=draw).double(), torch.rand(3, generator=draw).double())})
    state.activation, state.blocks = torch.randn(1, 4, 5, 6, generator=draw), 2
    PartialResult(tmp_path / ".x.partial").folder.mkdir()
    PartialResult(tmp_path / ".x.partial").save(state)
    path = tmp_path / ".x.partial" / "activation_2.bin"
    values = np.fromfile(path, np.uint8)
    values[7] ^= 1
    values.tofile(path)
    notes = []
    again = PartialResult(tmp_path / ".x.partial", notes).load(torch.device("cpu"))
    assert (again.activation, again.blocks) == (None, 0)
    assert torch.equal(again.statistics["x"][0], state.statistics["x"][0])
    assert notes == ["x: the saved activation of the earlier call was damaged; it is computed again."]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_an_activation_of_every_type_is_kept_exactly(tmp_path, dtype):
    state = TilingState({}, torch.randn(1, 4, 5, 6).to(dtype), 3)
    for _ in range(2):  # the second does not write it again
        partial = PartialResult(tmp_path)
        partial.save(state)
        partial.save(state)
    again = PartialResult(tmp_path).load(torch.device("cpu"))
    assert again.activation.dtype == dtype
    assert torch.equal(again.activation, state.activation)


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_links_to_other_files_are_not_followed(begun, folder, tmp_path):
    (tmp_path / "precious").write_bytes((folder / "tiles.bin").read_bytes())
    (folder / "tiles.bin").unlink()
    (folder / "tiles.bin").symlink_to(tmp_path / "precious")
    translator, root = begun
    with pytest.raises(InputError, match=r"holds the link tiles\.bin"):
        translate_large(translator, root / "in.png", tmp_path / "out.tif", tile=32)
    assert (tmp_path / "precious").read_bytes() == (root / ".out.tif.partial" / "tiles.bin").read_bytes()


def test_a_name_of_255_bytes_is_translated_in_tiles(begun, tmp_path):
    translator, root = begun
    target = tmp_path / ("x" * 251 + ".tif")
    translate_large(translator, root / "in.png", target, tile=32)
    assert target.read_bytes() == (root / "whole.tif").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
