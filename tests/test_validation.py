"""Scores while training, the best checkpoint, and health checks that are provoked."""

import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch import nn

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, train
from cyclegan.config import make_config
from cyclegan.data.domains import find_folders
from cyclegan.data.image_folder import scan_folder
from cyclegan.data.splits import split_domains
from cyclegan.metrics.functions import luma
from cyclegan.metrics.spectrum import spectrum_features
from cyclegan.metrics.table import METRICS
from cyclegan.storage.model import read_info
from cyclegan.storage.run import list_checkpoints
from cyclegan.training.checkpoint import read_best
from cyclegan.training.events import StepDone
from cyclegan.training.health import DISCRIMINATOR_STEPS, DiscriminatorWatch, pattern
from cyclegan.training.validation import TIME_SHARE, Validation, ValidationScores

pytestmark = pytest.mark.usefixtures("without_pages")


@pytest.fixture
def unhurried(monkeypatch):
    """Scoring may take as long as it likes, so that runs of seconds are scored, too."""
    monkeypatch.setattr("cyclegan.training.validation.TIME_SHARE", 1e6)


@pytest.fixture(scope="module")
def large_folders(tmp_path_factory):
    """Folders of which a tenth is enough to be scored. Tests only read them."""
    root = tmp_path_factory.mktemp("large")
    return make_folder(root / "a", 110), make_folder(root / "b", 100, tint=(0.2, 0.5, 1.0), seed=1)


class QuickFeatures:
    """Pixels of a small copy, in place of the features of a network, where their quality does not matter."""

    info = SimpleNamespace(model_dump=dict)

    def __init__(self, _device):
        pass

    def __call__(self, images):
        return nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)


@pytest.fixture
def quick_features(monkeypatch):
    monkeypatch.setattr("cyclegan.training.validation.FeatureNetwork", QuickFeatures)


def events(run, name):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("event") == name]


def settings(**changes):
    return {
        **TINY,
        "num_validation": 10,
        "sample_steps": 2,
        "checkpoint_steps": 2,
        "steps": 6,
        "quiet": True,
        **changes,
    }


# ---- what is scored


def test_scores_come_from_images_that_are_neither_trained_on_nor_of_the_test_folders(tmp_path):
    for name, count in (("trainA", 120), ("trainB", 130), ("testA", 5), ("testB", 5)):
        make_folder(tmp_path / name, count, seed=len(name) + ord(name[-1]))
    config = make_config({**TINY, "a": tmp_path, "num_validation": 50, "num_samples": 2})
    folders = find_folders(tmp_path)
    a, b = (scan_folder(folder, 3, None, config.data) for folder in (folders.a, folders.b))
    split = split_domains(config, folders, a, b)
    kept_a, kept_b, samples, scored = split.a.training, split.b.training, split.samples, split.validation
    assert (len(scored.a), len(scored.b)) == (12, 13)  # a tenth
    assert samples.origin == "from the test folders"
    assert scored.origin == "held out of the training folders"
    for kept, whole, held, trained in (
        (kept_a, a, scored.a, scored.trained_a),
        (kept_b, b, scored.b, scored.trained_b),
    ):
        assert set(held) | set(kept.paths) == set(whole.paths)
        assert not set(held) & set(kept.paths)
        assert len(trained) == 50
        assert set(trained) <= set(kept.paths)  # the floor compares images that were held out with others


def test_with_too_few_images_scores_say_that_they_were_trained_on(folders):
    config = make_config({**TINY, "a": folders[0], "b": folders[1], "num_validation": 50})
    found = find_folders(*folders)
    a, b = (scan_folder(folder, 3, None, config.data) for folder in folders)
    split = split_domains(config, found, a, b)
    kept_a, kept_b, scored = split.a.training, split.b.training, split.validation
    assert (len(kept_a), len(kept_b)) == (6, 5) == (len(scored.a), len(scored.b))
    assert "also trained on" in scored.origin
    assert scored.trained_a == () == scored.trained_b  # a set is no floor for itself


def add_copies(folder, count):
    """Copies of all images of a folder under other names, in turn, until it holds `count`."""
    names = sorted(path.name for path in folder.iterdir())
    for index in range(count - len(names)):
        shutil.copyfile(folder / names[index % len(names)], folder / f"copy {index}.png")
    return folder


def test_no_image_is_trained_on_under_another_name(tmp_path, capfd):
    a, b = (make_folder(tmp_path / name, 110, seed=index) for index, name in enumerate("ab"))
    add_copies(a, 220)
    run = train(a, b, out=tmp_path / "run", **settings(steps=2, quiet=False))
    shown = " ".join(capfd.readouterr().err.split())
    assert "A: 200 images to train on, and 10 held out with 10 exact copies of them" in shown
    assert "B: 100 images to train on, and 10 held out," in shown
    assert "10 images of A and 10 of B, held out of the training folders" in shown
    assert read_info(run / "model").step == 2


def test_a_folder_of_few_pictures_under_many_names_is_not_split_and_says_so(tmp_path, capfd):
    a, b = (add_copies(make_folder(tmp_path / name, 24, seed=index), 130) for index, name in enumerate("ab"))
    train(a, b, out=tmp_path / "run", **settings(steps=2, quiet=False))
    shown = " ".join(capfd.readouterr().err.split())
    assert "A: 130 images to train on, in" in shown
    assert (
        "Scores: from 10 images of A and 10 of B, those of A and B also trained on, because a tenth of them, without "
        "copies, is fewer than 10"
    ) in shown


def test_test_images_that_are_copies_of_training_images_are_counted(tmp_path, capfd):
    for name, count in (("trainA", 12), ("trainB", 12), ("testA", 3), ("testB", 3)):
        make_folder(tmp_path / name, count, seed=len(name) + ord(name[-1]))
    shutil.copyfile(tmp_path / "trainA" / "5.png", tmp_path / "testA" / "other.png")
    train(tmp_path, out=tmp_path.with_name("run"), **settings(steps=1, num_validation=0, quiet=False))
    shown = " ".join(capfd.readouterr().err.split())
    assert "1 of the 4 test images of A are exact copies of training images." in shown
    assert "test images of B" not in shown


@pytest.mark.usefixtures("unhurried")
def test_a_run_is_scored_at_every_snapshot(large_folders, tmp_path, capfd):
    run = train(*large_folders, out=tmp_path / "run", **settings(quiet=False))
    (about,) = events(run, "validation")
    assert about["num_images"] == {"a": 10, "b": 10}
    for ends in about["directions"].values():
        assert ends["floor"]["value"] < ends["ceiling"]["value"]
    scored = events(run, "scores")
    assert [event["step"] for event in scored] == [2, 4, 6]
    for event in scored:
        kids = [event["directions"][name]["kid"]["value"] for name in ("a2b", "b2a")]
        assert event["kid"] == pytest.approx(sum(kids) / 2)
        assert event["directions"]["a2b"]["cycle_noisy"] > 0
    shown = capfd.readouterr().err
    assert "Step 4: KID (EfficientNet-Lite0) on validation images" in shown
    assert "Scoring took" in shown


@pytest.mark.usefixtures("unhurried")
def test_scoring_does_not_change_the_weights(large_folders, tmp_path):
    for name, steps in (("often", 1), ("never", 1000)):
        train(*large_folders, out=tmp_path / name, **settings(sample_steps=steps, steps=3))
    for direction in ("a2b", "b2a"):
        one, other = (Translator.load(tmp_path / name, direction=direction).network for name in ("often", "never"))
        for x, y in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(x, y)


@pytest.mark.usefixtures("unhurried")
def test_a_resumed_run_goes_on_with_its_scores(large_folders, tmp_path):
    train(*large_folders, out=tmp_path / "run", **settings(steps=2))
    run = train(*large_folders, out=tmp_path / "run", resume=True, **settings(steps=4))
    assert [event["step"] for event in events(run, "scores")] == [2, 4]
    assert len(events(run, "validation")) == 1
    assert [event["step"] for event in events(run, "session")] == [0, 2]
    assert all(event["torch"] == torch.__version__ for event in events(run, "session"))


def test_a_run_of_a_release_without_validation_is_not_silently_changed(large_folders, tmp_path):
    run = train(*large_folders, out=tmp_path / "run", **settings(num_validation=0))
    file = run / "config.toml"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "num_validation" not in line))
    with pytest.raises(InputError, match="num_validation 0 -> 10"):
        train(*large_folders, out=run, **settings(steps=6))
    assert train(*large_folders, out=run, **settings(num_validation=0)) == run


# ---- the best checkpoint


def scripted(monkeypatch, kids):
    """Scores as given, in turn."""
    remaining = iter(kids)
    monkeypatch.setattr(Validation, "affordable", lambda *_, **__: True)
    monkeypatch.setattr(Validation, "open", lambda _: {"origin": "", "num_images": {}, "directions": {}})

    def score(*_):
        kid = next(remaining)
        if isinstance(kid, BaseException):
            raise kid
        scores = {"kid": {"value": kid, "low": kid, "high": kid}, "cycle": 0.1, "cycle_noisy": 0.1, "edges": 0.5}
        return ValidationScores(kid, {"a2b": scores, "b2a": scores}, ())

    monkeypatch.setattr(Validation, "score", score)


def test_the_best_checkpoint_by_kid_is_kept_beside_the_last(large_folders, tmp_path, monkeypatch, capfd):
    scripted(monkeypatch, [0.5, 0.2, 0.3])
    run = train(*large_folders, out=tmp_path / "run", **settings(quiet=False))
    assert [event["best"] for event in events(run, "scores")] == [True, True, False]
    assert read_info(run / "best" / "model").step == 4
    assert read_info(run / "model").step == 6
    assert json.loads((run / "best" / "validation.json").read_text())["kid"] == 0.2
    assert "Best by KID (EfficientNet-Lite0) on validation images: step 4 (0.200)" in capfd.readouterr().err
    # It is what the training was at that step, and a translator takes it as it is.
    best, same, last = (
        dict(Translator.load(path).network.named_parameters())
        for path in (run / "best", run / "checkpoints" / "step_0000004", run)
    )
    assert all(torch.equal(best[name], same[name]) for name in best)
    assert not all(torch.equal(best[name], last[name]) for name in best)


def test_a_score_that_is_no_number_is_never_the_best(large_folders, tmp_path, monkeypatch):
    scripted(monkeypatch, [float("nan"), 0.4, float("nan")])
    run = train(*large_folders, out=tmp_path / "run", **settings())
    assert [event["best"] for event in events(run, "scores")] == [False, True, False]
    assert read_info(run / "best" / "model").step == 4


def test_a_resumed_run_keeps_its_best(large_folders, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.2, 0.4])
    train(*large_folders, out=tmp_path / "run", **settings(steps=4))
    scripted(monkeypatch, [0.3])
    run = train(*large_folders, out=tmp_path / "run", resume=True, **settings(steps=6))
    assert [event["best"] for event in events(run, "scores")] == [True, False, False]
    assert read_info(run / "best" / "model").step == 2
    assert len(list_checkpoints(run)) == 3  # best/ is not one of those that are rotated


def test_a_best_of_dropped_steps_is_not_kept(large_folders, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5, 0.1])
    train(*large_folders, out=tmp_path / "run", **settings(steps=4))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_0000004")  # the run goes on from step 2
    scripted(monkeypatch, [0.4, 0.45])
    run = train(*large_folders, out=tmp_path / "run", resume=True, **settings(steps=6, learning_rate=1e-4))
    assert [(event["step"], event["best"]) for event in events(run, "scores")] == [(2, True), (4, True), (6, False)]
    assert json.loads((run / "best" / "validation.json").read_text())["kid"] == 0.4


def test_a_best_that_was_being_replaced_when_the_run_was_killed_is_found_again(large_folders, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.2, 0.3])
    train(*large_folders, out=tmp_path / "run", **settings(steps=4))
    (tmp_path / "run" / "best").rename(tmp_path / "run" / ".best.999999999.0123abcd.old")
    scripted(monkeypatch, [0.4])
    run = train(*large_folders, out=tmp_path / "run", resume=True, **settings(steps=6))
    assert read_info(run / "best" / "model").step == 2
    (run / "best" / "validation.json").write_text("{half")
    assert read_best(run) is None


@pytest.mark.parametrize("stop_after", [3, 5, 9])
@pytest.mark.usefixtures("unhurried", "quick_features")
def test_the_best_over_two_sessions_is_that_of_an_uninterrupted_run(large_folders, tmp_path, stop_after):
    """With scores that are computed, at a rate at which they rise and fall."""
    given = settings(steps=12, learning_rate=0.005, seed=3, schedule="constant", checkpoint_steps=100)

    def stop(event):
        if isinstance(event, StepDone) and event.step == stop_after:
            raise RuntimeError("of the host")

    whole = train(*large_folders, out=tmp_path / "whole", **given)
    with pytest.raises(RuntimeError, match="of the host"):
        train(*large_folders, out=tmp_path / "parts", callbacks=[stop], **given)
    before = read_best(tmp_path / "parts")
    parts = train(*large_folders, out=tmp_path / "parts", **given)

    scored = [
        [(event["step"], event["kid"], event["best"]) for event in events(run, "scores")] for run in (whole, parts)
    ]
    assert scored[0] == scored[1]
    assert len({kid for _, kid, _ in scored[0]}) == 6
    step, kid, _ = min(scored[0], key=lambda score: score[1])
    assert 2 < step < 12  # neither the first nor the last
    assert (before.step == step) == (step <= stop_after)
    for run in (whole, parts):
        best = read_best(run)
        assert (best.step, best.kid) == (step, kid)
        assert read_info(run / "best" / "model").step == step
    for name in ("model/a2b.safetensors", "model/b2a_average.safetensors", "training.safetensors"):
        one, other = (load_file(run / "best" / name) for run in (whole, parts))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_images_that_are_added_leave_the_validation_images_and_the_best_as_they_are(
    large_folders, tmp_path, monkeypatch, capfd
):
    folders = shutil.copytree(large_folders[0], tmp_path / "a"), large_folders[1]
    scripted(monkeypatch, [0.2, 0.3])
    train(*folders, out=tmp_path / "run", **settings(steps=4, num_validation=50))
    make_folder(tmp_path / "a" / "more", 400, seed=7)  # a tenth is 51 by now
    scripted(monkeypatch, [0.5])
    run = train(*folders, out=tmp_path / "run", resume=True, **settings(steps=6, num_validation=50, quiet=False))
    shown = " ".join(capfd.readouterr().err.split())
    assert "A: 400 images added since the last session, such as more/0.png." in shown
    assert "A: 499 images to train on, and 11 held out" in shown
    assert "Other images are held out" not in shown
    assert [event["best"] for event in events(run, "scores")] == [True, False, False]
    assert len({event["held_out"] for event in events(run, "session")}) == 1


def test_other_held_out_images_begin_a_new_search_for_the_best(large_folders, tmp_path, monkeypatch, capfd):
    scripted(monkeypatch, [0.2, 0.3])
    train(*large_folders, out=tmp_path / "run", **settings(steps=4, num_validation=12))
    scripted(monkeypatch, [0.5])
    run = train(*large_folders, out=tmp_path / "run", resume=True, **settings(steps=6, quiet=False))
    assert "Other images are held out" in capfd.readouterr().err
    assert [event["best"] for event in events(run, "scores")] == [True, False, True]
    assert "trained on then" in events(run, "validation")[-1]["origin"]


def test_an_end_that_was_not_scored_is_scored_by_the_next_session(large_folders, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5, KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        train(*large_folders, out=tmp_path / "run", **settings(steps=3))
    scripted(monkeypatch, [0.2])
    run = train(*large_folders, out=tmp_path / "run", **settings(steps=3))
    assert [(event["step"], event["kid"]) for event in events(run, "scores")] == [(2, 0.5), (3, 0.2)]
    assert read_info(run / "best" / "model").step == 3
    scripted(monkeypatch, [])
    train(*large_folders, out=tmp_path / "run", **settings(steps=3))  # once is enough


# ---- their share of the time


def validation(**costs):
    found = Validation(None, None, None, None, torch.device("cpu"), spent=costs["spent"])
    found._open_cost, found._cost = costs["open"], costs["one"]
    return found


def test_scores_never_take_more_than_their_share_and_leave_one_for_the_end():
    # The last one: 2 spent and 3 more are a tenth of 47 seconds and those 3. With one and a half in reserve: 6.5 are a
    # tenth of 60.5 and 4.5.
    for seconds, last, expected in ((46.9, True, False), (47.1, True, True), (60.4, False, False), (60.6, False, True)):
        found = validation(spent=2, open=2, one=1)
        assert found.affordable(None, None, seconds, last=last) == expected


def test_a_run_of_seconds_is_not_scored_and_says_so(large_folders, tmp_path, capfd):
    run = train(*large_folders, out=tmp_path / "run", **settings(quiet=False))
    assert events(run, "scores") == []
    assert "not scored yet, because that would take over 10 % of the time" in capfd.readouterr().err


def test_scoring_keeps_to_its_share_of_a_run(large_folders, tmp_path, monkeypatch):
    # A clock by which a step takes twenty seconds, and the features of an image half a second.
    now = [0.0]
    for module in ("schedule", "validation"):
        monkeypatch.setattr(f"cyclegan.training.{module}.working_time", lambda: now[0])

    class Slow(QuickFeatures):
        def __call__(self, images):
            now[0] += 0.5 * len(images)
            return super().__call__(images)

    def step(event):
        if isinstance(event, StepDone):
            now[0] += 20

    monkeypatch.setattr("cyclegan.training.validation.FeatureNetwork", Slow)
    run = train(*large_folders, out=tmp_path / "run", callbacks=[step], **settings(steps=60, sample_steps=5))
    scored, skipped = events(run, "scores"), events(run, "not scored")
    # Every snapshot is scored or logged as not scored, the end included.
    assert {event["step"] for event in (*scored, *skipped)} == {*range(5, 61, 5)}
    assert skipped[0]["step"] == 5  # there has not been time enough for any
    assert scored[-1]["step"] == 60
    assert len(scored) > 2
    for event in scored:
        assert event["scoring_seconds"] <= TIME_SHARE * (event["seconds"] + 0.5 * (10 + 10))


@pytest.mark.parametrize("problem", ["features", "images"])
@pytest.mark.usefixtures("unhurried")
def test_a_run_that_cannot_be_scored_goes_on(tmp_path, large_folders, monkeypatch, capfd, problem):
    a, b = large_folders
    if problem == "features":

        def absent(_):
            raise InputError("The feature file is missing")

        monkeypatch.setattr("cyclegan.training.validation.FeatureNetwork", absent)
    else:
        a = make_folder(tmp_path / "single", 1)
    run = train(a, b, out=tmp_path / "run", **settings(quiet=False))
    assert read_info(run / "model").step == 6
    assert events(run, "scores") == []
    shown = capfd.readouterr().err
    assert shown.count("No scores in this run") == 1
    assert ("feature file is missing" if problem == "features" else "A has 1") in shown


def test_scores_that_do_not_fit_into_memory_do_not_end_a_run(large_folders, tmp_path, monkeypatch, capfd):
    scripted(monkeypatch, [0.5, torch.OutOfMemoryError()])
    run = train(*large_folders, out=tmp_path / "run", **settings(quiet=False))
    assert read_info(run / "model").step == 6
    assert [event["step"] for event in events(run, "scores")] == [2]
    assert capfd.readouterr().err.count("out of memory") == 1


@pytest.mark.parametrize("failing", ["features", "distance", "nan", "cycle", "edges"])
@pytest.mark.usefixtures("unhurried", "quick_features")
def test_a_metric_that_fails_costs_neither_the_run_nor_the_other_scores(large_folders, tmp_path, monkeypatch, failing):
    def fail(*_, **__):
        raise RuntimeError("not enough memory")

    if failing == "features":
        calls = []
        good = QuickFeatures.__call__

        def later(self, images):
            calls.append(None)
            return fail() if len(calls) > 20 else good(self, images)

        monkeypatch.setattr(QuickFeatures, "__call__", later)
    elif failing in ("distance", "nan"):
        good = Validation._distance
        calls = []

        def later(self, x, y):
            calls.append(None)
            result = good(self, x, y)
            return result if len(calls) <= 3 else fail() if failing == "distance" else dict.fromkeys(result, math.nan)

        monkeypatch.setattr(Validation, "_distance", later)
    else:
        monkeypatch.setitem(METRICS, failing, replace(METRICS[failing], measure=fail))
    run = train(*large_folders, out=tmp_path / "run", **settings())
    assert read_info(run / "model").step == 6
    scored = events(run, "scores")
    assert [event["step"] for event in scored] == [2, 4, 6]
    is_kid = failing not in ("cycle", "edges")
    last = scored[-1]["directions"]["a2b"]
    assert math.isfinite(last["kid"]["value"]) != is_kid
    assert last["cycle_noisy"] > 0
    assert is_kid or last[failing] is None
    reason = "its value is nan" if failing == "nan" else "not enough memory"
    messages = [event["message"] for event in events(run, "warning")]
    assert any(reason in message and "cannot be computed on validation images" in message for message in messages)


@pytest.mark.parametrize("stage", ["open", "score"])
@pytest.mark.usefixtures("unhurried", "quick_features")
def test_an_error_while_scoring_does_not_end_a_run(large_folders, tmp_path, monkeypatch, capfd, stage):
    monkeypatch.setattr(Validation, stage, lambda *_: 1 / 0)
    run = train(*large_folders, out=tmp_path / "run", **settings(quiet=False))
    assert read_info(run / "model").step == 6
    assert "scores in this run: ZeroDivisionError: division by zero." in capfd.readouterr().err


# ---- health checks


class Constant(nn.Module):
    """The same picture for every input."""

    def forward(self, images):
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in images.shape[-2:]), indexing="ij")
        return (torch.sin(9 * x + 4 * y) * 0.8).expand_as(images)


class Scaled(nn.Module):
    """Multiplies and shifts, within the range of images."""

    def __init__(self, factor, offset=0.0):
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, images):
        return (images * self.factor + self.offset).clamp(-1, 1)


class Recoloured(nn.Module):
    """Keeps the brightness and turns the colours round: red becomes cyan."""

    def forward(self, images):
        bright = torch.stack([luma(image) for image in images])[:, None]
        return (2 * bright - images).clamp(-1, 1)


def checks(run):
    return {event["check"]: event["message"] for event in events(run, "warning")}


def train_with(monkeypatch, folders, out, a2b, b2a, **changes):
    """A run whose scores come from these translators in place of those that are trained, at two snapshots."""
    monkeypatch.setattr(
        "cyclegan.training.monitor.Monitor._generators",
        property(lambda _: SimpleNamespace(a2b=a2b.eval(), b2a=b2a.eval())),
    )
    return train(*folders, out=out, **settings(**{"steps": 4, **changes}))


@pytest.mark.parametrize(
    ("a2b", "b2a", "expected", "words"),
    [
        (nn.Identity(), nn.Identity(), {"a2b/copies", "b2a/copies"}, ("returns its input", "--identity-weight")),
        (Constant(), Scaled(0.8, 0.1), {"a2b/collapse"}, ("one image for every input", "--cycle-weight")),
        (Scaled(-1), Scaled(-1), {"a2b/inverted", "b2a/inverted"}, ("inverts the brightness", "--seed")),
        (Scaled(0.12), Scaled(8.0), {"a2b/hidden"}, ("hides information", "--cycle-weight")),
        (Scaled(0.8, 0.1), Scaled(0.9, -0.1), set(), ()),
    ],
)
@pytest.mark.usefixtures("unhurried", "quick_features")
def test_problems_are_shown_with_remedies(large_folders, tmp_path, monkeypatch, capfd, a2b, b2a, expected, words):
    # Collapse also hides nothing and inverts nothing: each sign stands for itself.
    run = train_with(monkeypatch, large_folders, tmp_path / "run", a2b, b2a, quiet=False)
    found = checks(run)
    assert set(found) == expected
    shown = capfd.readouterr().err
    for message in found.values():
        assert shown.count(message) == 1  # once in a run, not at every snapshot
        assert all(word in message for word in words)


class Striped(nn.Module):
    """Paints vertical stripes of this amplitude, 4 pixels from one to the next, on the upper half of images."""

    def __init__(self, amplitude):
        super().__init__()
        self.amplitude = amplitude

    def forward(self, images):
        height, width = images.shape[-2:]
        waves = self.amplitude * torch.sin(torch.pi / 2 * torch.arange(width) + 0.5).expand(height, width)
        return (0.8 * images + waves * (torch.arange(height) < height // 2)[:, None]).clamp(-1, 1)


@pytest.mark.usefixtures("unhurried", "quick_features")
def test_stripes_are_shown_with_their_period_and_direction(tmp_path, monkeypatch):
    folders = make_folder(tmp_path / "a", 40, (64, 64)), make_folder(tmp_path / "b", 40, (64, 64), seed=1)
    sizes = {"steps": 2, "crop_size": 64, "load_size": 64}
    run = train_with(monkeypatch, folders, tmp_path / "run", Striped(0.1), Striped(0.01), **sizes)
    message = checks(run)["a2b/pattern"]
    assert "vertical stripes, about 4 pixels from one to the next" in message
    assert "b2a/pattern" not in checks(run)  # too faint to be seen


def test_a_pattern_needs_several_images():
    real, striped = torch.zeros(9, 3, 32, 32), Striped(0.2)(torch.zeros(9, 3, 32, 32))
    features = [spectrum_features(images) for images in (striped, real)]
    assert pattern(*features).stripes == "vertical"
    assert pattern(features[0][:7], features[1]) is None
    assert pattern(spectrum_features(striped[..., :20, :20]), features[1]) is None


@pytest.mark.usefixtures("unhurried", "quick_features")
def test_inverted_colours_are_shown(tmp_path, monkeypatch):
    alike = make_folder(tmp_path / "a", 100), make_folder(tmp_path / "b", 100, seed=1)
    run = train_with(monkeypatch, alike, tmp_path / "run", Recoloured(), Recoloured(), steps=2)
    assert set(checks(run)) == {"a2b/inverted", "b2a/inverted"}
    assert "red against green" in checks(run)["a2b/inverted"]
    assert "brightness" not in checks(run)["a2b/inverted"]


@pytest.mark.usefixtures("unhurried", "quick_features")
def test_a_negative_is_no_warning_where_the_domains_are_negatives(tmp_path, monkeypatch):
    dark, bright = make_folder(tmp_path / "a", 100, tint=(0.3, 0.3, 0.3)), tmp_path / "b"
    bright.mkdir()
    for path in dark.iterdir():
        ImageOps.invert(Image.open(path)).save(bright / path.name)
    Image.open(bright / "0.png").rotate(180).save(bright / "0.png")
    run = train_with(monkeypatch, (dark, bright), tmp_path / "run", Scaled(-1), Scaled(-1), steps=2)
    assert events(run, "scores")
    assert "a2b/inverted" not in checks(run)


@pytest.mark.usefixtures("unhurried", "quick_features")
def test_a_warning_is_not_repeated_by_a_resumed_run(large_folders, tmp_path, monkeypatch, capfd):
    both = nn.Identity(), nn.Identity()
    train_with(monkeypatch, large_folders, tmp_path / "run", *both, steps=2)
    capfd.readouterr()
    changes = {"steps": 4, "resume": True, "quiet": False}
    run = train_with(monkeypatch, large_folders, tmp_path / "run", *both, **changes)
    assert "Warning" not in capfd.readouterr().err
    assert [event["step"] for event in events(run, "warning")] == [2, 2, 4, 4]  # logged as long as it goes on


def test_a_discriminator_that_wins_outright_is_shown(folders, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("cyclegan.training.health.DISCRIMINATOR_STEPS", 50)
    # One colour is easily known, and the generators are held to the cycle alone, so nothing keeps D_B from winning.
    for path in folders[1].iterdir():
        Image.new("RGB", (24, 20), (10, 40, 250)).save(path)
    changes = {"cycle_weight_a": 1e5, "cycle_weight_b": 0, "identity_weight": 0, "learning_rate": 2e-3}
    run = train(*folders, out=tmp_path / "run", **{**TINY, **changes, "steps": 150, "schedule": "constant"})
    found = checks(run)
    assert list(found) == ["b/discriminator"]
    assert "discriminator of B wins outright" in capfd.readouterr().err
    assert "--discriminator-width" in found["b/discriminator"]


def test_a_discriminator_that_wins_for_a_moment_is_not_shown():
    watch = DiscriminatorWatch("lsgan")
    won, even = {"discriminator_a": 0.001, "discriminator_b": 0.2}, {"discriminator_a": 0.2, "discriminator_b": 0.2}
    assert not watch.update(won, DISCRIMINATOR_STEPS - 50)
    assert not watch.update(even, 50)
    assert not watch.update(won, DISCRIMINATOR_STEPS - 50)
    (finding,) = watch.update(won, 50)
    assert finding.check == "a/discriminator"
    assert not DiscriminatorWatch("wgan-gp").update(won, 10 * DISCRIMINATOR_STEPS)  # its loss has no such scale
