"""The example of a file format in docs/extending.md, executed as printed."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_file_formats import check_file_format

from conftest import TINY, make_folder
from cyclegan import InputError, evaluate, train
from cyclegan.images.codecs import probe_image, read_image, write_image
from cyclegan.images.file_formats import FILE_FORMATS

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The blocks of the page, in a folder with two folders of .jxl files."""
    part = PAGE.read_text(encoding="utf-8").partition("## A file format\n")[2].partition("\n## ")[0]
    row, use = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    assert len(row.splitlines()) <= 30
    before = dict(FILE_FORMATS)
    exec(compile(row, str(PAGE), "exec"), {})
    monkeypatch.chdir(tmp_path)
    for name, seed in (("photos", 0), ("maps", 1)):
        for path in sorted(make_folder(tmp_path / name, seed=seed).iterdir()):
            write_image(path.with_suffix(".jxl"), np.asarray(Image.open(path)))
            path.unlink()
    yield use
    FILE_FORMATS.clear()
    FILE_FORMATS.update(before)


def test_a_format_of_one_row_trains_translates_and_evaluates(example, tmp_path, monkeypatch):
    real_train = train
    monkeypatch.setattr("cyclegan.train", lambda *a, **more: real_train(*a, **{**TINY, **more}, quiet=True))
    names = {}
    exec(compile(example, str(PAGE), "exec"), names)
    written = list(names["result"].written)
    assert [target for _, target in written] == [Path("translated", f"{index}.jxl") for index in range(6)]
    assert names["result"].skipped == ()
    for source, target in written:
        assert read_image(target, 3).shape == read_image(source, 3).shape
        assert probe_image(target) == (20, 24, "uint8", None)
    scores = evaluate(names["run"], "photos", "maps", out=tmp_path / "scores", quiet=True, num_bootstrap=100)
    assert scores is not None
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no readable images.*\.npy \.jxl"):
        real_train("empty", "maps", out=tmp_path / "none", quiet=True, **TINY, steps=1)


@pytest.mark.usefixtures("example")
def test_the_row_passes_the_tester_of_all_formats(tmp_path):
    check_file_format(FILE_FORMATS["jpeg-xl"], tmp_path)
