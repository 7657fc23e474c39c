"""What is read back may be damaged in any way, and is refused in one short sentence."""

import time

import pytest

from cyclegan.config import Config
from cyclegan.errors import UnreadableError
from cyclegan.system.json_files import read_json, read_json_lines


class Point(Config):
    x: float
    name: str = ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"x": 1', "Invalid JSON"),
        (b"\xff\xfe{}", "Invalid JSON"),
        (b"\x00" * 100, "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b"[" * 200_000, "Invalid JSON"),
        (b'{"x": ' + b"[" * 200_000, "Invalid JSON"),
        (b'{"x": ' + b"9" * 5_001 + b"}", "number out of range"),
        (b'{"x": NaN}', "x is nan: input should be a finite number"),
        (b'{"x": 1e999}', "x is inf: input should be a finite number"),
        (b'{"x": "far"}', "x is 'far': input should be a valid number"),
        (b"[1]", "[Oo]bject"),
        (b"{}", "x is missing; give it a value"),
        (b'{"x": 1, "' + b"k" * 200_000 + b'": 2}', "k{80}... is 2"),
        (b'{"x": 1, "name": ' + b"7" * 4_000 + b"}", "name is 7{80}..."),
    ],
)
def test_damaged_json_is_refused_in_one_short_sentence(tmp_path, content, message):
    path = tmp_path / "point.json"
    path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(UnreadableError, match=message) as raised:
        read_json(path, Point)
    assert str(raised.value).startswith(f"{path} cannot be read: ")
    assert len(str(raised.value)) < len(str(path)) + 250
    assert time.process_time() - started < 1
    assert read_json_lines(path, Point) == ([], bool(content))


def test_a_missing_file_or_a_folder_in_its_place_is_refused(tmp_path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(UnreadableError, match=f"{path} cannot be read: (No such file|Is a directory)"):
            read_json(path, Point)
        with pytest.raises(UnreadableError, match=f"{path} cannot be read"):
            read_json_lines(path, Point)


def test_damaged_lines_are_left_out_and_counted(tmp_path):
    path = tmp_path / "points.jsonl"
    path.write_bytes(b'{"x": 1}\n\n{"x": "\xff"}\n[]\n{"x": 2, "name": "b"}\n{"x": 3')
    assert read_json_lines(path, Point) == ([Point(x=1), Point(x=2, name="b")], 3)
