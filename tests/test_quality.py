"""benchmarks/quality.py: what it makes of runs and their scores, and that it goes on where it stopped."""

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cyclegan import InputError
from cyclegan.features import FeatureInfo
from cyclegan.scores import DirectionScores, Estimate, FileList, ImageScores, Score, Scores

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "quality.py"
TINY = ["width=4", "blocks=1", "discriminator_width=4", "discriminator_layers=1", "crop_size=16", "num_samples=1"]


@pytest.fixture(scope="module")
def quality():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as for a script, which finds its neighbours
        return importlib.import_module("quality")


def made_up_scores(l1, note=""):
    """Scores of a run with this L1; the other numbers are fixed."""

    def score(value, **baselines):
        known = {name: Estimate(value=number) for name, number in baselines.items()}
        return Score(value=Estimate(value=value), num_images=2, **known)

    direction = DirectionScores(
        metrics={
            "l1": score(l1, ceiling=0.96, mean_image=0.3),
            "kid": score(0.1, floor=0.02, ceiling=0.5).replace(num_real=2),
            "cycle_rise": score(-0.0001),
            "ssim_input": score(0.77),
        },
        images=(ImageScores(file="x.png", scores={"l1": l1}), ImageScores(file="y.png", scores={"l1": l1})),
        notes=(note,) if note else (),
    )
    return Scores(
        cyclegan_version="0",
        torch_version="0",
        created="2000-01-01T00:00:00+00:00",
        model="a/private/place",
        step=40,
        weights="final",
        device="cpu",
        seconds=1.0,
        peak_mib=None,
        features=FeatureInfo(),
        paired=True,
        short_side=None,
        noise_sigma=0.01,
        seed=0,
        num_bootstrap=100,
        files={"a": FileList(root="a/private/place", files=("x.png", "y.png"))},
        directions={"a2b": direction, "b2a": direction},
    )


def put_run(quality, folder, variant, seed, l1, **changes):
    """A finished run on disk, as the benchmark leaves it."""
    place = folder / variant / f"seed{seed}"
    place.mkdir(parents=True)
    made_up_scores(l1, note="Only 2 test images.").write(place / "scores.json")
    run = quality.Run(
        variant=variant,
        seed=seed,
        preset="paper",
        settings={"crop_size": 64, "steps": 40},
        device="cpu",
        steps=40,
        seconds=10.0,
        threads=1,
        machine="abacus, 2 cores",
        versions="cyclegan 0, torch 0, Python 3",
        command="python benchmarks/quality.py --steps 40",
    )
    (place / "run.json").write_text(run.replace(**changes).model_dump_json())
    return place


def rows(page, start):
    """The cells of the table rows of a page that begin with this text."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith(start)]


def test_scores_are_summed_up_over_seeds_beside_what_is_known_to_be_good_and_bad(quality, tmp_path):
    for seed, l1 in enumerate((0.1, 0.2, 0.6)):
        put_run(quality, tmp_path / "work", "shadedrelief", seed, l1)
    put_run(quality, tmp_path / "work", "etopo1", 0, 0.25)
    quality.write_results(tmp_path / "results", "mine", quality.collect(tmp_path / "work"))
    page = (tmp_path / "results" / "quality.md").read_text()

    # One table for each direction of each variant; the standard deviation is that of a sample.
    wanted = ["L1", "less", "0.300", "0.100 .. 0.600", "0.2646", "", "0.960", "0.300"]
    alone = ["L1", "less", "0.250", "0.250 .. 0.250", "", "", "0.960", "0.300"]
    assert rows(page, "| L1 |") == [wanted, wanted, alone, alone]
    assert rows(page, "| KID, EfficientNet-Lite0 |")[0][2:] == [
        "0.100",
        "0.100 .. 0.100",
        "0.0000",
        "0.020",
        "0.500",
        "",
    ]
    assert rows(page, "| its rise by noise |")[0][2] == "0.000"
    assert rows(page, "| 2 | 40 |") == [["2", "40", "0.2", "0.2500", "0.100", "0.100", "0.600", "0.600"]]
    assert "shadedrelief a2b, seeds 0, 1, 2:" in page
    for said in ("abacus", "Preset `paper` with crop_size 64, steps 40", "`python benchmarks/quality.py --steps 40`"):
        assert page.count(said) == 1, said
    assert page.count("Only 2 test images.") == 2  # once for each variant
    assert "SSIM with the input" not in page


def test_the_json_holds_every_score_of_every_run_and_no_place_of_this_machine(quality, tmp_path):
    put_run(quality, tmp_path / "work", "etopo1", 3, 0.25)
    quality.write_results(tmp_path / "results", "mine", quality.collect(tmp_path / "work"))
    text = (tmp_path / "results" / "quality.json").read_text()
    [run] = json.loads(text)["mine"]
    assert (run["variant"], run["seed"], run["steps"], run["seconds"]) == ("etopo1", 3, 40, 10.0)
    assert set(run["scores"]["directions"]["a2b"]["metrics"]) == {"kid", "cycle_rise", "ssim_input", "l1"}
    assert run["scores"]["directions"]["b2a"]["metrics"]["l1"]["mean_image"]["value"] == 0.3
    assert "private" not in text


def test_results_of_other_labels_stay(quality, tmp_path):
    put_run(quality, tmp_path / "one", "etopo1", 0, 0.25)
    put_run(quality, tmp_path / "two", "etopo1", 0, 0.5)
    for label in ("one", "two", "one"):
        quality.write_results(tmp_path / "results", label, quality.collect(tmp_path / label))
    page = (tmp_path / "results" / "quality.md").read_text()
    assert [cells[2] for cells in rows(page, "| L1 |")] == ["0.250", "0.250", "0.500", "0.500"]
    assert page.index("## one") < page.index("## two")


def test_a_run_without_its_record_does_not_count(quality, tmp_path):
    (put_run(quality, tmp_path, "etopo1", 0, 0.25) / "run.json").unlink()
    assert quality.collect(tmp_path) == []


@pytest.mark.parametrize(
    ("pair", "message"),
    [("widht=3", "Did you mean 'width'"), ("width=wide", "width is 'wide'"), ("width", "NAME=VALUE")]
    + [(f"{name}=1", f"cannot change {name}") for name in ("seed", "steps", "out", "device")],
)
def test_settings_are_checked_before_anything_is_done(quality, pair, message):
    with pytest.raises(InputError, match=message):
        quality.resolve("paper", [pair], steps=3)


def test_settings_are_converted_and_the_recipe_is_the_presets(quality):
    settings = quality.resolve("paper", ["width=16", "translate_with=average", "flip=false"], minutes=5.0, steps=None)
    assert settings == {"width": 16, "translate_with": "average", "flip": False, "minutes": 5.0}


def test_a_label_keeps_to_one_kind_of_run(quality, tmp_path, monkeypatch, capsys):
    put_run(quality, tmp_path / "work" / "paper", "etopo1", 0, 0.25)
    places = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["quality.py", "--steps", "50", *places, "--set", "crop_size=64"])
    with pytest.raises(SystemExit):
        quality.main()
    assert "choose another --label" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def start(tmp_path, *options):
    places = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    command = [sys.executable, str(SCRIPT), *places, "--set", *TINY, "--jobs", "2", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_benchmark_trains_scores_and_does_nothing_twice(quality, tmp_path):
    options = ["--steps", "3", "--seeds", "0", "1"]
    process = start(tmp_path, *options, "--variants", "etopo1")
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert said.count(": done") == 2
    [first, second] = json.loads((tmp_path / "results" / "quality.json").read_text())["paper"]
    assert (first["seed"], second["seed"], first["steps"]) == (0, 1, 3)
    assert first["threads"] == max(1, quality.num_cores() // 2)
    values = [run["scores"]["directions"]["a2b"]["metrics"]["l1"]["value"]["value"] for run in (first, second)]
    assert values[0] != values[1]

    # Another variant is added to what there is.
    process = start(tmp_path, *options)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "2 runs are complete, 2 to do" in said
    assert "etopo1, seed" not in said
    runs = json.loads((tmp_path / "results" / "quality.json").read_text())["paper"]
    assert [(run["variant"], run["seed"]) for run in runs] == [
        (variant, seed) for variant in ("shadedrelief", "etopo1") for seed in (0, 1)
    ]
    assert runs[2:] == [first, second]


@pytest.mark.slow
def test_a_stopped_benchmark_goes_on_where_it_was(tmp_path):
    options = ["--steps", "400", "--seeds", "0", "--variants", "etopo1"]
    run, log = (tmp_path / "work" / "paper" / "etopo1" / name for name in ("seed0", "seed0.log"))
    process = start(tmp_path, *options)
    while not (run / "log.jsonl").is_file() or not (run / "log.jsonl").read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    [checkpoint] = (run / "checkpoints").iterdir()
    assert "Stopped and saved after step" in log.read_text()
    assert not (run / "run.json").exists()

    process = start(tmp_path, *options)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert f"Going on after step {int(checkpoint.name.removeprefix('step_'))}" in log.read_text()
    assert json.loads((run / "run.json").read_text())["steps"] == 400


@pytest.mark.slow
def test_a_run_that_fails_is_told_with_its_reason_and_the_others_go_on(tmp_path):
    (tmp_path / "work" / "paper" / "etopo1" / "seed0").mkdir(parents=True)
    (tmp_path / "work" / "paper" / "etopo1" / "seed0" / "mine.txt").write_text("keep")
    process = start(tmp_path, "--steps", "2", "--seeds", "0", "1", "--variants", "etopo1")
    _, said = process.communicate()
    assert process.returncode == 1
    assert "etopo1, seed 0: failed" in said
    assert "is not a run directory" in said
    assert "etopo1, seed 1: done" in said
