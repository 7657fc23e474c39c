"""Real images, real training: short, but with a result that has to be there."""

import json
import re

import pytest
from PIL import Image

from cyclegan import InputError, cli, evaluate, train
from cyclegan.datasets import download
from cyclegan.demo.run import EARTH_MODEL, demo, quick_demo
from cyclegan.images.file_list import list_images
from cyclegan.storage.scores import read_scores


@pytest.fixture(scope="module")
def earth(tmp_path_factory):
    return download("earth", tmp_path_factory.mktemp("data") / "earth")


@pytest.mark.slow
def test_a_short_training_brings_held_out_places_closer_to_their_truth(earth, tmp_path):
    run = train(earth, preset="demo", out=tmp_path / "run", steps=250, device="cpu", precision="fp32", quiet=True)
    scores = evaluate(run, paired=True, quiet=True)
    for direction, result in scores.directions.items():
        l1, psnr = result.metrics["l1"], result.metrics["psnr"]
        assert l1.value.value < 0.5 * l1.ceiling.value, direction
        assert psnr.value.value > psnr.ceiling.value + 3, direction


@pytest.mark.slow
def test_the_demo_writes_a_report_that_holds_all_it_shows(earth, tmp_path):
    report = demo(tmp_path / "run", earth, minutes=0.2)
    page = report.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", page)  # one file, no network
    scores = read_scores(tmp_path / "run")
    for direction, source in (("a2b", "A"), ("b2a", "B")):
        l1 = scores.directions[direction].metrics["l1"]
        assert f"{l1.value.value:.3f}" in page
        assert f"{l1.mean_image.value:.3f}" in page
        names = [path.name for path in list_images(earth / f"test{source}")]
        written = list_images(tmp_path / "run" / "translated" / direction)
        assert [path.name for path in written] == names
        assert Image.open(written[0]).size == Image.open(earth / f"test{source}" / names[0]).size
    assert "mean image" in page
    assert Image.open(tmp_path / "run" / "overview.png").size[0] > 8 * 100
    # The same call again trains no more and shows the same.
    assert demo(tmp_path / "run", earth, minutes=0.2) == report
    again = read_scores(tmp_path / "run")
    assert again.directions == scores.directions


@pytest.mark.slow
def test_the_quick_demo_shows_generators_that_are_installed(earth, tmp_path):
    report = quick_demo(tmp_path / "quick", earth)
    scores = read_scores(tmp_path / "quick")
    for direction, source in (("a2b", "A"), ("b2a", "B")):
        l1 = scores.directions[direction].metrics["l1"]
        assert l1.value.value < 0.25 * l1.ceiling.value, direction
        assert f"{l1.value.value:.3f}" in report.read_text()
        written = list_images(tmp_path / "quick" / "translated" / direction)
        assert [path.name for path in written] == [path.name for path in list_images(earth / f"test{source}")]
    assert (tmp_path / "quick" / "overview.png").is_file()


def test_the_generators_of_the_quick_demo_are_small():
    files = [path for path in EARTH_MODEL.iterdir() if path.suffix == ".safetensors"]
    assert [path.stem for path in sorted(files)] == ["a2b", "b2a"]
    assert sum(path.stat().st_size for path in files) < 8e6


@pytest.mark.parametrize("flag", [["--minutes", "3"], ["--seed", "1"], ["--fresh"]])
def test_the_quick_demo_takes_nothing_that_is_for_training(flag, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["demo", "--quick", *flag, "--out", str(tmp_path / "out")])
    assert exit.value.code != 0
    assert f"--quick does not train, so {flag[0]} is not for it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_quick_demo_refuses_data_that_its_generators_do_not_know(tmp_path, capsys):
    data = tmp_path / "earth"
    data.mkdir()
    (data / "about.json").write_text(json.dumps({"name": "earth", "b": "NOAA ETOPO1 map", "tile_pixels": 240}))
    with pytest.raises(SystemExit):
        cli.main(["demo", "--quick", "--data", str(data), "--out", str(tmp_path / "out")])
    said = " ".join(capsys.readouterr().err.split())
    assert "'NOAA ETOPO1 map'" in said
    assert "choose another --data" in said
    assert not (tmp_path / "out").exists()


def test_the_quick_demo_leaves_a_run_alone(tmp_path):
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(InputError, match="is a run, whose scores would be replaced"):
        quick_demo(tmp_path, tmp_path / "data")
