"""Real images, real training: short, but with a result that has to be there."""

import json
import re

import pytest
from PIL import Image

from cyclegan.datasets import download
from cyclegan.demo import demo, score
from cyclegan.images import list_images


@pytest.fixture(scope="module")
def earth(tmp_path_factory):
    return download("earth", tmp_path_factory.mktemp("data") / "earth")


@pytest.mark.slow
def test_a_short_training_brings_held_out_places_closer_to_their_truth(earth, tmp_path):
    from cyclegan import train

    run = train(earth, preset="demo", out=tmp_path / "run", steps=250, device="cpu", precision="fp32", quiet=True)
    for direction in ("a2b", "b2a"):
        scores = score(run, earth, direction).scores
        assert scores["translation"][0] < 0.5 * scores["untranslated input"][0], direction
        assert scores["translation"][1] > scores["untranslated input"][1] + 3, direction


@pytest.mark.slow
def test_the_demo_writes_a_report_that_holds_all_it_shows(earth, tmp_path):
    report = demo(tmp_path / "run", earth, minutes=0.2)
    page = report.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)  # one file, no network
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    for direction, source in (("a2b", "A"), ("b2a", "B")):
        for values in scores[direction].values():
            assert f"{values['l1']:.3f}" in page
        names = [path.name for path in list_images(earth / f"test{source}")]
        written = list_images(tmp_path / "run" / "translated" / direction)
        assert [path.name for path in written] == names
        assert Image.open(written[0]).size == Image.open(earth / f"test{source}" / names[0]).size
    assert "mean image" in page
    # The same call again trains no more and shows the same.
    assert demo(tmp_path / "run", earth, minutes=0.2) == report
    assert json.loads((tmp_path / "run" / "scores.json").read_text()) == scores
