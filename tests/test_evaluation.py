"""Scores of a run on test images, from Python and from the command line."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, evaluate, train
from cyclegan.cli import main
from cyclegan.images.codecs import read_image, write_image
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import to_tensor
from cyclegan.metrics.efficientnet import EfficientNetLite0
from cyclegan.metrics.functions import l1
from cyclegan.metrics.table import METRICS, failure_reason
from cyclegan.metrics.thin_resnet import ThinResNet50
from cyclegan.storage.scores import DirectionScores, Estimate, Score, read_scores, verdict, verdicts


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """trainA, trainB, testA, testB, and a run trained on them for two steps."""
    root = tmp_path_factory.mktemp("evaluation")
    for name, count, tint, seed in (
        ("trainA", 9, (1, 0.6, 0.3), 0),
        ("trainB", 8, (0.2, 0.5, 1), 1),
        ("testA", 6, (1, 0.6, 0.3), 2),
        ("testB", 6, (0.2, 0.5, 1), 3),
    ):
        make_folder(root / name, count, tint=tint, seed=seed)
    train(root, out=root / "run", preset="paper", quiet=True, **{**TINY, "steps": 2})
    return root


@pytest.fixture
def quick_features(monkeypatch):
    """Features that cost nothing, where their quality does not matter."""
    monkeypatch.setattr(EfficientNetLite0, "__init__", lambda *_: None)
    monkeypatch.setattr(
        EfficientNetLite0, "__call__", lambda _, images: torch.cat([images.mean((2, 3))] * 427, 1)[:, :1280]
    )
    monkeypatch.setattr(ThinResNet50, "__init__", lambda *_: None)
    monkeypatch.setattr(ThinResNet50, "__call__", lambda _, images: torch.cat([images.mean((2, 3))] * 171, 1)[:, :512])


@pytest.fixture(scope="module")
def scores(root):
    return evaluate(root / "run", root / "testA", root / "testB", paired=True, quiet=True)


def test_every_direction_has_realism_faithfulness_and_truth(scores):
    assert set(scores.directions) == {"a2b", "b2a"}
    for result in scores.directions.values():
        assert list(result.metrics) == [name for name in METRICS if name in result.metrics]  # in their order
        expected = {
            "kid",
            "frechet",
            "kid_resnet",
            "frechet_resnet",
            "cycle",
            "cycle_noisy",
            "cycle_rise",
            "ssim_input",
            "edges",
        }
        assert set(result.metrics) == expected | {"l1", "psnr", "ssim", "colour"}
        for name in ("kid", "frechet", "kid_resnet", "frechet_resnet"):
            score = result.metrics[name]
            assert (score.num_images, score.num_real) == (6, 6)
            assert score.floor.value < score.ceiling.value < score.value.value  # two steps: worse than no translation
        kid = result.metrics["kid"].value
        assert kid.low < kid.value < kid.high
        assert result.metrics["l1"].mean_image.value < result.metrics["l1"].ceiling.value


def test_scores_are_those_of_the_images_that_a_translator_writes(root, scores, tmp_path):
    paths = sorted((root / "testA").iterdir())
    main(["translate", str(root / "run"), str(root / "testA"), "--out", str(tmp_path / "fakes"), "--precision", "fp32"])
    main(
        [
            "translate",
            str(root / "run"),
            str(tmp_path / "fakes"),
            "--out",
            str(tmp_path / "back"),
            "--direction",
            "b2a",
            "--precision",
            "fp32",
        ]
    )

    def read(path):
        return to_tensor(read_image(path, 3), ImageFormat())

    result = scores.directions["a2b"]
    assert [image.file for image in result.images] == [path.name for path in paths]
    for path, image in zip(paths, result.images, strict=True):
        fake = read(tmp_path / "fakes" / path.name)
        assert image.scores["l1"] == pytest.approx(l1(fake, read(root / "testB" / path.name)), abs=1e-6)
        # The way back is not rounded to 8 bits here.
        assert image.scores["cycle"] == pytest.approx(l1(read(tmp_path / "back" / path.name), read(path)), abs=0.005)
    assert result.metrics["l1"].value.value == pytest.approx(np.mean([i.scores["l1"] for i in result.images]))


def test_scores_are_recorded_with_their_files_features_and_settings(root, scores):
    assert read_scores(root / "run") == scores
    saved = json.loads((root / "run" / "scores.json").read_text())
    assert saved["features"]["name"] == "efficientnet-lite0"
    assert saved["second_features"]["name"] == "thin-resnet50"
    assert "bicubic" in saved["features"]["resize"]
    assert saved["files"]["test_a"] == {
        "root": str((root / "testA").resolve()),
        "files": [f"{i}.png" for i in range(6)],
    }
    assert len(saved["files"]["train_b"]["files"]) == 6  # as many as there are translations
    assert (saved["step"], saved["noise_sigma"], saved["seed"], saved["paired"]) == (2, 0.05, 0, True)
    text = json.dumps(saved).replace("no standard", "")
    assert '"fid"' not in text  # features of another network are never called so


def test_few_images_are_noted(scores):
    for result in scores.directions.values():
        assert any("Only 6 test images" in note for note in result.notes)
        assert "fewer images than the 1280 features" in result.metrics["frechet"].note
        assert any("MS-SSIM" in note and "176 pixels" in note for note in result.notes)


def test_the_same_images_give_the_same_scores(root, scores, tmp_path):
    again = evaluate(root / "run", root / "testA", root / "testB", paired=True, batch_size=2, out=tmp_path, quiet=True)
    for direction, result in again.directions.items():
        for name, score in result.metrics.items():
            before = scores.directions[direction].metrics[name].value.value
            assert score.value.value == pytest.approx(before, rel=1e-3, abs=1e-4), name


def test_examples_show_the_best_and_the_worst_and_others(root, scores):
    found = json.loads((root / "run" / "examples" / "examples.json").read_text())["examples"]
    for direction, result in scores.directions.items():
        shown = [example for example in found if example["direction"] == direction]
        worst = max(result.images, key=lambda image: image.scores["l1"])
        best = min(result.images, key=lambda image: image.scores["l1"])
        assert next(e for e in shown if e["kind"] == "best")["file"] == best.file
        assert next(e for e in shown if e["kind"] == "worst")["file"] == worst.file
        assert len({example["file"] for example in shown}) == len(shown)
        for example in shown:
            assert set(example["pictures"]) == {"input", "output", "cycled", "truth"}
            sizes = {Image.open(root / "run" / "examples" / path).size for path in example["pictures"].values()}
            assert sizes == {(24, 20)}


@pytest.mark.parametrize(("side", "has_ms_ssim"), [(175, False), (176, True)])
def test_ms_ssim_needs_176_pixels_on_the_shorter_side(root, tmp_path, side, has_ms_ssim):
    for name, seed in (("A", 0), ("B", 1)):
        make_folder(tmp_path / name, 2, size=(side, 180), seed=seed)
    evaluate(root / "run", tmp_path / "A", tmp_path / "B", paired=True, direction="a2b", out=tmp_path, quiet=True)
    result = read_scores(tmp_path).directions["a2b"]
    assert ("ms_ssim" in result.metrics) == has_ms_ssim
    assert any("No MS-SSIM" in note and "176 pixels" in note for note in result.notes) != has_ms_ssim


@pytest.mark.usefixtures("quick_features")
def test_spectra_are_scored_and_drawn(root, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, count in (("A", 10), ("B", 10)):
        (tmp_path / name).mkdir()
        for index in range(count):
            pixels = 100 + 20 * rng.standard_normal((48, 40, 1)).cumsum(0).cumsum(1) / 12
            if name == "A":
                pixels = pixels + 15 * np.sin(np.pi / 2 * np.arange(40) + 0.5)[None, :, None]
            file = tmp_path / name / f"{index}.png"
            Image.fromarray(np.broadcast_to(pixels, (48, 40, 3)).clip(0, 255).astype(np.uint8)).save(file)
    folders = [str(tmp_path / name) for name in "AB"]
    main(["evaluate", str(root / "run"), "--a", folders[0], "--b", folders[1], "--out", str(tmp_path / "out")])
    assert "patterns, dB" in capsys.readouterr().out
    result = read_scores(tmp_path / "out").directions["a2b"]
    assert result.metrics["patterns"].ceiling.value > 3  # the input is striped
    assert (result.metrics["patterns"].num_images, result.metrics["patterns"].num_real) == (10, 10)
    assert result.metrics["spectrum"].value.low <= result.metrics["spectrum"].value.value
    assert [len(values) for values in result.spectra.patterns] == [16] * 4
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Patterns in dB beyond real images" in page
    assert "waves in 32 pixels" in page


def test_small_images_have_no_spectra_and_a_note(scores):
    result = scores.directions["a2b"]
    assert not {"spectrum", "patterns"} & set(result.metrics)
    assert result.spectra is None
    assert sum("sides of at least 32 pixels" in note for note in result.notes) == 2


@pytest.mark.parametrize("bad", [lambda *_, **__: 1 / 0, lambda *_, **__: float("nan")])
def test_a_metric_that_fails_does_not_cost_the_others(root, tmp_path, monkeypatch, bad):
    for name in ("edges", "frechet", "psnr"):
        monkeypatch.setitem(METRICS, name, replace(METRICS[name], measure=bad))
    evaluate(root / "run", paired=True, direction="a2b", out=tmp_path, quiet=True)
    result = read_scores(tmp_path).directions["a2b"]
    assert {"kid", "cycle", "l1", "ssim"} < set(result.metrics)
    assert not {"edges", "frechet", "psnr"} & (set(result.metrics) | set(result.images[0].scores))
    for name in ("edges kept", "Frechet distance, EfficientNet-Lite0", "PSNR"):
        assert sum(note.startswith(f"No {name}: it failed (") for note in result.notes) == 1
    assert "No edges kept: it failed" in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("quick_features")
@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), ValueError("odd")])
@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if hasattr(metric, "measure")])
def test_no_metric_costs_the_others_whatever_it_raises(root, tmp_path, monkeypatch, name, error):
    def fail(*_, **__):
        raise error

    folders = [make_folder(tmp_path / "images" / each, 2, size=(176, 176), seed=ord(each)) for each in "AB"]
    monkeypatch.setitem(METRICS, name, replace(METRICS[name], measure=fail))
    evaluate(root / "run", *folders, paired=True, direction="a2b", out=tmp_path / "out", num_bootstrap=100, quiet=True)
    result = read_scores(tmp_path / "out").directions["a2b"]
    assert set(result.metrics) == {key for key, metric in METRICS.items() if hasattr(metric, "measure")} - {name}
    assert all(name not in image.scores for image in result.images)
    title = METRICS[name].title("EfficientNet-Lite0")
    assert f"No {title}: it failed ({failure_reason(error)})." in result.notes


@pytest.mark.parametrize("problem", ["error", "nan", "distance"])
def test_without_features_the_scores_of_single_images_are_kept(root, tmp_path, monkeypatch, problem):
    def features(*_):
        if problem == "error":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.full((6, 1280), torch.nan)

    if problem == "distance":
        monkeypatch.setattr("cyclegan.evaluation.direction.distance_to_nearest", lambda *_: 1 / 0)
    else:
        monkeypatch.setattr(EfficientNetLite0, "__call__", features)
    evaluate(root / "run", root / "testA", root / "testB", direction="a2b", out=tmp_path, quiet=True)
    result = read_scores(tmp_path).directions["a2b"]
    assert {"cycle", "cycle_noisy", "edges", "ssim_input"} <= set(result.metrics)
    assert all("edges" in image.scores and "unlike" not in image.scores for image in result.images)
    assert ("kid" in result.metrics) == (problem == "distance")
    if problem != "distance":
        reason = "out of memory" if problem == "error" else "its features are not finite"
        assert any("No KID" in note and reason in note for note in result.notes)
    assert (tmp_path / "report.html").is_file()


SMALL = {"161": (161, 170), "175": (175, 175), "177": (177, 176), "a window": (11, 11), "less": (10, 12), "one": (1, 1)}
SMALL |= {"a row": (90, 1), "a column": (1, 40), "odd": (33, 47)}


@pytest.mark.usefixtures("quick_features")
@pytest.mark.parametrize("size", SMALL.values(), ids=SMALL.keys())
@pytest.mark.parametrize("content", ["noise", "constant"])
def test_images_of_every_size_and_of_one_value_have_the_scores_that_they_can_have(root, tmp_path, size, content):
    rng = np.random.default_rng(0)
    for folder in "AB":
        (tmp_path / folder).mkdir()
        for index in range(2):
            pixels = (
                rng.integers(0, 256, (size[1], size[0], 3)) if content == "noise" else np.full((*size[::-1], 3), 90)
            )
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / f"{index}.png")
    folders = tmp_path / "A", tmp_path / "B"
    evaluate(root / "run", *folders, paired=True, out=tmp_path / "out", num_bootstrap=100, quiet=True)
    smallest = min(size)
    expected = {"kid", "frechet", "cycle", "cycle_noisy", "cycle_rise", "l1", "psnr", "colour"}
    expected |= {"ssim", "ssim_input"} if smallest >= 11 else set()
    expected |= {"ms_ssim"} if smallest >= 176 else set()
    expected |= {"spectrum", "patterns"} if smallest >= 32 else set()
    for result in read_scores(tmp_path / "out").directions.values():
        assert set(result.metrics) - {"edges"} == expected  # a constant image, or a tiny one, has no edges
        assert ("edges" in result.metrics) >= (content == "noise" and smallest > 3)
        assert not [note for note in result.notes if "failed" in note]


def test_a_single_image_has_all_scores_but_the_distances_of_sets(root, tmp_path):
    folders = [make_folder(tmp_path / name, 1, seed=ord(name)) for name in "AB"]
    evaluate(root / "run", *folders, paired=True, out=tmp_path / "out", quiet=True)
    for result in read_scores(tmp_path / "out").directions.values():
        assert {"cycle", "cycle_noisy", "l1", "psnr", "ssim", "colour", "edges"} <= set(result.metrics)
        assert not {"kid", "frechet"} & set(result.metrics)
        assert sum("needs at least 2 images" in note for note in result.notes) == 4
    main(["evaluate", str(root / "run"), "--a", str(folders[0]), "--b", str(folders[1]), "--out", str(tmp_path / "o")])


@pytest.mark.usefixtures("quick_features")
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_images_of_other_numbers_of_channels_have_all_scores_but_the_colour_error(tmp_path, channels):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            values = rng.random((24, 24, channels)) * 4000
            write_image(tmp_path / name / f"{index}.tif", values.astype(np.uint16 if channels == 1 else np.float32))
    folders = tmp_path / "a", tmp_path / "b"
    same = {"channels_a": channels, "channels_b": channels, "steps": 1, "quiet": True}
    run = train(*folders, out=tmp_path / "run", **TINY, **same)
    scores = evaluate(run, *folders, paired=True, direction="a2b", num_bootstrap=100, quiet=True)
    assert {"l1", "psnr", "ssim", "edges", "cycle"} <= set(scores.directions["a2b"].metrics)
    assert "colour" not in scores.directions["a2b"].metrics
    assert not [note for note in scores.directions["a2b"].notes if "failed" in note]


def test_an_unknown_feature_network_is_refused_with_a_list_of_known_ones(root, tmp_path):
    with pytest.raises(InputError, match=r"no feature network 'magic'; choose one of: efficientnet-lite0"):
        evaluate(root / "run", features="magic", out=tmp_path, quiet=True)


def test_without_pairs_images_are_ranked_by_how_unlike_reality_they_are(root, tmp_path):
    scores = evaluate(root / "run", direction="a2b", out=tmp_path, quiet=True)  # the folders that it was trained with
    (result,) = scores.directions.values()
    assert "l1" not in result.metrics
    assert result.ranked_by == "unlike"
    values = [image.scores["unlike"] for image in result.ranked]
    assert values == sorted(values)


def test_a_model_that_hides_information_shows_a_rise_of_its_cycle_error(root, tmp_path, monkeypatch):
    clean = evaluate(root / "run", direction="a2b", out=tmp_path, quiet=True).directions["a2b"].metrics

    def hide(self, images):
        # Both ways: a grey image with a fifth of the picture in it, and its amplification.
        return images * 0.1 if self.direction == "a2b" else (images * 10).clamp(-1, 1)

    monkeypatch.setattr(Translator, "translate_tensor", hide)
    hidden = evaluate(root / "run", direction="a2b", out=tmp_path, quiet=True).directions["a2b"].metrics
    assert hidden["cycle"].value.value < 0.05
    assert hidden["cycle_rise"].value.value > 0.2
    assert clean["cycle_rise"].value.value < 0.02


def test_scores_of_a_perfect_translator(root, tmp_path, monkeypatch):
    for name in ("A", "B"):
        shutil.copytree(root / "testA", tmp_path / f"test{name}")
    Image.new("RGB", (24, 20)).save(tmp_path / "testB" / "0.png")
    Image.new("RGB", (24, 20)).save(tmp_path / "testA" / "0.png")
    monkeypatch.setattr(Translator, "translate_tensor", lambda _, images: images)
    scores = evaluate(
        root / "run", tmp_path / "testA", tmp_path / "testB", paired=True, direction="a2b", out=tmp_path, quiet=True
    )
    found = scores.directions["a2b"].metrics
    assert found["l1"].value.value == 0 == found["cycle"].value.value
    assert found["psnr"].value.value == 100
    assert found["ssim"].value.value == pytest.approx(1, abs=1e-5)
    assert found["frechet"].value.value == pytest.approx(0, abs=1e-3)
    assert found["edges"].num_images == 5  # a black image has none
    assert found["kid"].value.value < 0  # unbiased: equal sets are closer than two samples of one distribution


def test_results_are_a_table_on_screen(root, tmp_path, capsys):
    main(["evaluate", str(root / "run"), "--paired", "--out", str(tmp_path / "scores")])
    shown = capsys.readouterr().out
    assert "A to B: 6 test images" in shown
    assert "KID, EfficientNet-Lite0" in shown
    assert "Only 6 test images" in " ".join(shown.split())
    value = read_scores(tmp_path / "scores").directions["b2a"].metrics["psnr"].value.value
    assert f"{value:.1f}" in shown
    tables = [line for line in shown.splitlines() if not line.startswith(("Step", "Page"))]
    assert max(map(len, tables)) <= 80
    assert f"{read_scores(tmp_path / 'scores').directions['a2b'].metrics['l1'].mean_image.value:.3f}" in shown


def test_test_images_that_were_trained_on_are_reported(root, tmp_path):
    scores = evaluate(root / "run", root / "trainA", root / "testB", direction="a2b", out=tmp_path, quiet=True)
    assert any("9 of 9 test images of A lie in the training folder" in note for note in scores.directions["a2b"].notes)
    # Under another name, too.
    shutil.copytree(root / "testA", tmp_path / "test")
    shutil.copyfile(root / "trainA" / "3.png", tmp_path / "test" / "new name.png")
    scores = evaluate(root / "run", tmp_path / "test", root / "testB", direction="a2b", out=tmp_path / "b", quiet=True)
    assert any("1 of 7 test images of A lie in the training folder" in note for note in scores.directions["a2b"].notes)


def test_images_are_brought_to_the_short_side_that_is_asked_for(root, tmp_path):
    scores = evaluate(root / "run", direction="a2b", short_side=40, out=tmp_path, quiet=True)
    assert scores.short_side == 40
    example = next((tmp_path / "examples" / "a2b").iterdir())
    assert Image.open(example).size == (48, 40)


def test_a_model_without_its_run_is_scored_without_the_baseline_of_real_images(root, tmp_path):
    shutil.copytree(root / "run" / "model", tmp_path / "model")
    scores = evaluate(tmp_path / "model", root / "testA", root / "testB", quiet=True)
    assert (tmp_path / "model" / "scores.json").is_file()
    for result in scores.directions.values():
        assert result.metrics["kid"].floor is None
        assert any("No baseline of real images" in note for note in result.notes)


def test_an_unreadable_test_image_is_left_out_and_reported(root, tmp_path):
    shutil.copytree(root / "testA", tmp_path / "a")
    (tmp_path / "a" / "3.png").write_bytes(b"nonsense")
    scores = evaluate(root / "run", tmp_path / "a", root / "testB", direction="a2b", out=tmp_path / "out", quiet=True)
    result = scores.directions["a2b"]
    assert [image.file for image in result.images] == ["0.png", "1.png", "2.png", "4.png", "5.png"]
    assert any("1 test file of A cannot be read (3.png" in note for note in result.notes)
    # Of pairs, both images are left out, in both directions.
    scores = evaluate(root / "run", tmp_path / "a", root / "testB", paired=True, out=tmp_path / "out", quiet=True)
    for result in scores.directions.values():
        assert [image.file for image in result.images] == ["0.png", "1.png", "2.png", "4.png", "5.png"]
        assert any("1 pairs are left out" in note for note in result.notes)


def test_results_of_a_checkpoint_are_kept_where_training_does_not_replace_them(root, tmp_path):
    shutil.copytree(root / "run", tmp_path / "run")
    (step,) = (tmp_path / "run" / "checkpoints").iterdir()
    scores = evaluate(step, root / "testA", root / "testB", direction="a2b", quiet=True)
    assert read_scores(tmp_path / "run" / "evaluations" / step.name) == scores
    assert {path.name for path in step.iterdir()} == {"model", "training.json", "training.safetensors"}
    assert (tmp_path / "run" / "evaluations" / step.name / "report.html").is_file()


def test_nothing_of_others_is_removed(root, tmp_path):
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "mine.py").write_text("1")
    with pytest.raises(InputError, match=r"examples is there and holds something else"):
        evaluate(root / "run", direction="a2b", out=tmp_path, quiet=True)
    assert (tmp_path / "examples" / "mine.py").read_text() == "1"


def test_an_output_that_cannot_be_written_is_refused_before_the_work(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Translator, "translate_tensor", None)  # must not be reached
    with pytest.raises(OSError, match="file"):
        evaluate(root / "run", direction="a2b", out=tmp_path / "file" / "scores", quiet=True)


def test_pairs_are_found_by_name(root, tmp_path):
    for name, tint in (("A", (1, 0.6, 0.3)), ("B", (0.2, 0.5, 1))):
        make_folder(tmp_path / name / "inner", 3, tint=tint)
        for path in list((tmp_path / name / "inner").iterdir()):
            path.rename(path.with_name(f"{path.stem}_{name}.png"))
    scores = evaluate(root / "run", tmp_path / "A", tmp_path / "B", paired=True, out=tmp_path, quiet=True)
    assert scores.directions["a2b"].metrics["l1"].num_images == 3


@pytest.mark.parametrize("names", [("x_a", "x_b", "y"), ("x", "x_a", "y")])
def test_equal_names_are_pairs_with_any_suffix(root, tmp_path, names):
    for domain in ("A", "B"):
        make_folder(tmp_path / domain, 3, seed=ord(domain))
        for path, name in zip(sorted((tmp_path / domain).iterdir()), names, strict=True):
            path.rename(path.with_name(f"{name}.png"))
    folders = tmp_path / "A", tmp_path / "B"
    scores = evaluate(root / "run", *folders, paired=True, direction="a2b", out=tmp_path / "out", quiet=True)
    assert scores.directions["a2b"].metrics["l1"].num_images == 3


def bad_folders(tmp_path):
    make_folder(tmp_path / "five", 5)
    make_folder(tmp_path / "wide", 6, size=(30, 20))
    make_folder(tmp_path / "other", 6)
    (tmp_path / "other" / "5.png").rename(tmp_path / "other" / "x.png")
    (tmp_path / "empty").mkdir()
    make_folder(tmp_path / "broken", 0)
    for index in range(3):
        (tmp_path / "broken" / f"{index}.png").write_bytes(b"nonsense")


@pytest.mark.parametrize(
    ("b", "options", "message"),
    [
        ("five", {"paired": True}, r"holds 6 images and .*five 5; paired scores need one"),
        ("other", {"paired": True}, r"has no partner of the same name in"),
        ("wide", {"paired": True}, r"24x20 pixels and its partner 0.png 30x20"),
        ("empty", {}, r"empty holds no images"),
        ("broken", {}, r"broken holds 0 readable images \(3 cannot be read: 0.png"),
        ("nowhere", {}, r"There is no folder .*nowhere"),
        ("five", {"direction": "c2d"}, r"direction is 'c2d'; expected a2b, b2a or both"),
        ("five", {"batch_size": 0}, r"batch_size is 0; expected at least 1"),
        ("five", {"short_side": 2}, r"short_side is 2; expected at least 8"),
        ("five", {"inception": "magic"}, r"There is no tool 'magic'.*torch-fidelity, clean-fid"),
        ("five", {"inception_weights": "w.pth"}, r"inception_weights were given without inception"),
        ("five", {"seed": -1}, r"seed is -1; expected at least 0"),
    ],
)
def test_folders_that_cannot_be_scored_are_one_clear_sentence(root, tmp_path, b, options, message):
    bad_folders(tmp_path)
    with pytest.raises(InputError, match=message):
        evaluate(root / "run", root / "testA", tmp_path / b, out=tmp_path / "out", quiet=True, **options)
    assert not list((tmp_path / "out").rglob("*"))


def test_paths_without_a_run_are_refused(root, tmp_path):
    with pytest.raises(InputError, match=r"nothing-here; expected a run directory"):
        evaluate(tmp_path / "nothing-here", root / "testA", root / "testB")
    with pytest.raises(InputError, match=r"holds no model"):
        evaluate(tmp_path, root / "testA", root / "testB")
    with pytest.raises(InputError, match=r"Both test folders are"):
        evaluate(root / "run", root / "testA", root / "testA")


def test_results_are_not_written_among_the_images(root):
    for place in (root / "testA", root / "testB" / "scores", root / "trainA"):
        with pytest.raises(InputError, match=r"is inside the image folder .*choose another --out"):
            evaluate(root / "run", out=place, quiet=True)
    assert len(list((root / "testA").iterdir())) == 6


def test_a_run_trained_with_relative_paths_is_scored_from_anywhere(root, tmp_path, monkeypatch, capsys):
    shutil.copytree(root, tmp_path / "data", ignore=shutil.ignore_patterns("run"))
    monkeypatch.chdir(tmp_path)
    train("data", out="run", quiet=True, **{**TINY, "steps": 1})
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    main(["evaluate", "../run", "--direction", "a2b"])
    shown = capsys.readouterr().out
    assert "Page: ../run/report.html" in shown
    scores = read_scores(tmp_path / "run")
    assert scores.directions["a2b"].metrics["kid"].floor is not None
    assert f"A to B: {verdict(scores.directions['a2b'].metrics['kid'])[0]}" in " ".join(shown.split())
    train("../data", out="../run", quiet=True, **{**TINY, "steps": 1})  # the same folders, the same run


def kid(value, floor, ceiling):
    ends = {"floor": Estimate(value=floor), "ceiling": Estimate(value=ceiling)}
    return Score(value=Estimate(value=value, low=value - 0.01, high=value + 0.01), num_images=50, **ends)


@pytest.mark.parametrize(
    ("value", "floor", "ceiling", "sentence"),
    [
        (0.30, 0.0, 0.40, "25 % of the way from untranslated images to real ones"),
        (0.50, 0.0, 0.40, "less like the target than untranslated images"),
        (0.00, 0.01, 0.40, "as near to the target as its own real images"),
        (0.30, 0.08, 0.05, "Are the two test folders swapped?"),
        (0.395, 0.0, 0.40, "That may be chance"),
    ],
)
def test_a_verdict_says_what_a_kid_means_between_its_ends(value, floor, ceiling, sentence):
    assert sentence in " ".join(verdict(kid(value, floor, ceiling)))


def test_a_run_without_test_folders_asks_for_them(folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", quiet=True, **{**TINY, "steps": 1})
    with pytest.raises(InputError, match=r"No test images of domain A.*--a DIR"):
        evaluate(run)


def test_other_depths_and_channels_are_scored(tmp_path):
    for name, channels, dtype, high in (("A", 1, np.uint16, 3000), ("B", 5, np.float32, 2.5)):
        for part, offset in (("train", 0), ("test", 10)):
            folder = tmp_path / f"{part}{name}"
            folder.mkdir()
            for index in range(4):
                values = np.random.default_rng(index + offset).random((20, 20, channels)) * high
                np.save(folder / f"{index}.npy", values.astype(dtype))
    run = train(tmp_path, out=tmp_path / "run", channels_a=1, channels_b=5, quiet=True, **{**TINY, "steps": 2})
    scores = evaluate(run, paired=True, quiet=True)
    found = scores.directions["a2b"].metrics
    assert {"kid", "l1"} < set(found)
    assert "colour" not in found
    assert found["l1"].ceiling is None  # one channel cannot be compared with five
    with pytest.raises(InputError, match="8-bit colour"):
        evaluate(run, inception="torch-fidelity", quiet=True)


# ---- standard Inception scores


class FakeTool:
    """Stands for torch_fidelity: remembers what it was asked, and tells folders apart by the mean of their images."""

    def __init__(self):
        self.calls = []

    def calculate_metrics(self, **arguments):
        self.calls.append(arguments)
        means = []
        for name in ("input1", "input2"):
            folder = Path(arguments[name])
            means.append(np.mean([np.asarray(Image.open(path)).mean() for path in sorted(folder.iterdir())]))
        distance = abs(means[0] - means[1])
        return {"frechet_inception_distance": distance, "kernel_inception_distance_mean": distance / 100}


def test_standard_scores_are_those_of_the_tool_on_the_same_folders(root, tmp_path, monkeypatch):
    tool = FakeTool()
    monkeypatch.setitem(sys.modules, "torch_fidelity", tool)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"")
    scores = evaluate(
        root / "run",
        direction="a2b",
        inception="torch-fidelity",
        inception_weights=weights,
        out=tmp_path / "out",
        quiet=True,
    )
    written = tmp_path / "out" / "inception" / "a2b"
    assert len(list(written.iterdir())) == 6
    again = tool.calculate_metrics(input1=str(written), input2=str(root / "testB"))
    found = scores.directions["a2b"].metrics
    assert found["fid"].value.value == again["frechet_inception_distance"]
    assert found["kid_inception"].value.value == again["kernel_inception_distance_mean"]
    assert found["fid"].floor.value < found["fid"].ceiling.value
    assert "KID subsets of 6" in found["fid"].note
    assert tool.calls[0]["feature_extractor_weights_path"] == str(weights)


def test_a_missing_tool_or_its_missing_weights_are_reported(root, tmp_path, monkeypatch):
    options = {"direction": "a2b", "out": tmp_path, "quiet": True}
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(InputError, match="pip install torch-fidelity"):
        evaluate(root / "run", inception="torch-fidelity", **options)
    with pytest.raises(InputError, match="There is no file"):
        evaluate(root / "run", inception="torch-fidelity", inception_weights=tmp_path / "no.pth", **options)

    class Offline:
        @staticmethod
        def calculate_metrics(**_):
            raise OSError("no network")

    monkeypatch.setitem(sys.modules, "torch_fidelity", Offline)
    with pytest.raises(InputError, match=r"no network. Without a network connection it needs its weights"):
        evaluate(root / "run", inception="torch-fidelity", **options)
    # The other scores are kept all the same.
    result = read_scores(tmp_path).directions["a2b"]
    assert {"kid", "cycle"} < set(result.metrics)
    assert any("No Inception scores: torch-fidelity could not score the folders" in note for note in result.notes)


def test_files_that_a_tool_would_skip_are_reported(root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", FakeTool())
    shutil.copytree(root / "testB", tmp_path / "b")
    Image.open(root / "testB" / "0.png").save(tmp_path / "b" / "more.webp")
    with pytest.raises(InputError, match=r"skip 1 images .*more.webp"):
        evaluate(root / "run", root / "testA", tmp_path / "b", inception="torch-fidelity", out=tmp_path, quiet=True)


def test_clean_fid_is_called_on_the_folders(root, tmp_path, monkeypatch):
    asked = []

    class Clean:
        @staticmethod
        def compute_fid(generated, real, **options):
            asked.append((Path(generated), Path(real), options["mode"]))
            return 7.5

        @staticmethod
        def compute_kid(*_, **__):
            return 0.25

    package = type(sys)("cleanfid")
    package.fid = Clean
    monkeypatch.setitem(sys.modules, "cleanfid", package)
    found = evaluate(root / "run", direction="a2b", inception="clean-fid", out=tmp_path, quiet=True)
    metrics = found.directions["a2b"].metrics
    assert (metrics["fid"].value.value, metrics["kid_inception"].value.value) == (7.5, 0.25)
    assert asked[0] == (tmp_path / "inception" / "a2b", root / "testB", "clean")
    with pytest.raises(InputError, match="leave out --inception-weights"):
        evaluate(root / "run", inception="clean-fid", inception_weights=tmp_path / "w", out=tmp_path, quiet=True)


@pytest.mark.usefixtures("quick_features")
@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names of files are Unicode there")
def test_an_unreadable_image_whose_name_is_not_unicode_is_noted(root, tmp_path):
    odd = make_folder(tmp_path / os.fsdecode(b"odd\xff"), 3)
    (odd / os.fsdecode(b"bad\xff.png")).write_bytes(b"no image")
    run = shutil.copytree(root / "run", tmp_path / "run")
    evaluate(run, a=odd, b=root / "testB", quiet=True)
    assert any(r"bad\udcff.png" in note for note in read_scores(run).directions["a2b"].notes)


@pytest.mark.usefixtures("quick_features")
def test_an_unreadable_training_image_is_replaced_in_the_baseline(root, tmp_path):
    for name in ("trainA", "trainB", "testA", "testB"):
        shutil.copytree(root / name, tmp_path / name)
    run = train(tmp_path, out=tmp_path / "run", preset="paper", quiet=True, **{**TINY, "steps": 1})
    first = min((tmp_path / "trainB").iterdir())
    first.write_bytes(b"damaged since")
    evaluate(run, quiet=True)
    scores = read_scores(run)
    used = scores.files["train_b"].files
    assert len(used) == len(scores.files["test_a"].files) == 6
    assert first.name not in used
    assert "floor" in scores.directions["a2b"].metrics["frechet"].baselines


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ((0.2, 0.15, 0.25), "By features of the thin ResNet-50 they are 62 % of the way"),
        ((0.6, 0.45, 0.75), "less like the target than untranslated images are."),
        ((0.6, 0.55, 0.65), "The two networks disagree"),
    ],
)
def test_where_two_feature_networks_disagree_a_sentence_says_so(second, says):
    def score(value, low, high):
        ends = {"floor": Estimate(value=0.02), "ceiling": Estimate(value=0.5)}
        return Score(value=Estimate(value=value, low=low, high=high), num_images=60, num_real=60, **ends)

    first = score(0.1, 0.09, 0.11)
    alone, both = (
        DirectionScores(metrics=metrics, images=())
        for metrics in ({"kid": first}, {"kid": first, "kid_resnet": score(*second)})
    )
    assert verdicts(alone) == verdict(first)
    assert verdicts(both)[: len(verdict(first))] == verdict(first)
    assert says in " ".join(verdicts(both))
    assert ("disagree" in " ".join(verdicts(both))) == ("disagree" in says)
