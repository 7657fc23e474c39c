"""train(batches=...): training without folders, on what the caller gives."""

import json

import pytest
import torch

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, train
from cyclegan.errors import TrainingError
from cyclegan.images.formats import ImageFormat
from cyclegan.storage.model import read_info
from cyclegan.storage.run import list_checkpoints, read_run_config
from cyclegan.training import Batch, Ended, LossNotFinite, StepDone

SETTINGS = {**TINY, "preset": "paper", "steps": 6, "log_steps": 2, "pool_size": 3, "quiet": True}


class InMemory:
    """Images of one brightness in A and of another in B, by the number of the step."""

    def __init__(self, channels=(3, 3), size=16, count=1):
        self.channels, self.size, self.count = channels, size, count
        self.steps = []

    def batch(self, step):
        self.steps.append(step)
        draw = torch.Generator().manual_seed(step)
        a, b = (torch.rand(self.count, depth, self.size, self.size, generator=draw) for depth in self.channels)
        return Batch(a * 2 - 1, b - 1)


def log_lines(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights(run):
    files = [run / "model" / f"{name}.safetensors" for name in ("a2b", "b2a", "a2b_average")]
    return [path.read_bytes() for path in [*files, list_checkpoints(run)[0] / "training.safetensors"]]


def test_it_trains_saves_and_translates_without_folders(tmp_path):
    source = InMemory()
    run = train(batches=source, out=tmp_path / "run", **SETTINGS)
    assert source.steps == [0, 1, 2, 3, 4, 5]
    config = read_run_config(run)
    assert (config.a, config.b) == (None, None)
    info = read_info(run / "model")
    assert info.a == info.b == ImageFormat()
    losses = [line for line in log_lines(run) if "event" not in line]
    assert [line["step"] for line in losses] == [2, 4, 6]
    assert not any("epoch" in line for line in losses)  # nothing says how long one is
    assert (run / "report.html").is_file()
    image = torch.zeros(3, 20, 24)
    assert Translator.load(run, direction="b2a", device="cpu").network(image[None]).shape == (1, 3, 20, 24)


def test_a_resumed_run_asks_for_the_steps_that_are_left_and_ends_the_same(tmp_path):
    whole = train(batches=InMemory(), out=tmp_path / "whole", **SETTINGS)

    def interrupt(event):
        if isinstance(event, StepDone) and event.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(batches=InMemory(), out=tmp_path / "run", callbacks=[interrupt], **SETTINGS)
    source = InMemory()
    run = train(batches=source, out=tmp_path / "run", **SETTINGS)
    assert source.steps == [4, 5]
    assert weights(whole) == weights(run)


def test_a_source_may_say_its_formats_its_length_and_its_samples(tmp_path):
    source = InMemory(channels=(1, 2), count=2)
    source.steps_per_epoch = 3
    source.image_formats = (
        ImageFormat(channels=1, dtype="uint16", low=0, high=4000),
        ImageFormat(channels=2, dtype="float32", low=-1.5, high=2.5),
    )
    source.sample_images = torch.zeros(3, 1, 20, 16), torch.zeros(0, 2, 16, 16)
    settings = {**SETTINGS, "channels_a": 1, "channels_b": 2, "batch_size": 2, "num_samples": 2, "sample_steps": 4}
    settings = {**settings, "steps": None, "epochs": 1.5, "model_epochs": 1}
    run = train(batches=source, out=tmp_path / "run", **settings)
    assert read_info(run / "model").step == 5
    assert (read_info(run / "model").a, read_info(run / "model").b) == source.image_formats
    epochs = [line["epoch"] for line in log_lines(run) if "event" not in line]
    assert epochs == pytest.approx([2 / 3, 1, 4 / 3, 5 / 3])
    assert (run / "models" / "epoch_0001").is_dir()
    assert {path.name for path in (run / "samples").iterdir()} == {"step_0000004.png", "step_0000005.png"}
    examples = json.loads((run / "examples" / "examples.json").read_text())
    assert len(examples["examples"]) == 2
    assert examples["origin"] == "from batches.sample_images"


def test_inexact_resuming_and_missing_scores_are_shown(tmp_path, capfd):
    train(batches=InMemory(), out=tmp_path / "run", **{**SETTINGS, "quiet": False, "num_validation": 50})
    shown = capfd.readouterr().err
    assert "Batches: from InMemory. Resuming is exact only if batch(step) depends on the step alone." in shown
    assert "Scores: none, because no images are held out of batches" in shown
    assert not (tmp_path / "run" / "best").exists()


class Wrong:
    def __init__(self, batch):
        self.batch = batch


def images(*shape, value=0.0):
    return torch.full(shape, value)


GOOD = images(1, 3, 16, 16)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (lambda _: (GOOD, GOOD), r"batch\(0\) returned tuple"),
        (
            lambda _: Batch(GOOD, GOOD.double()),
            r"batch\(0\).b is torch.float64 \(1, 3, 16, 16\); expected a float32",
        ),
        (lambda _: Batch(GOOD[0], GOOD), r"batch\(0\).a is torch.float32 \(3, 16, 16\)"),
        (lambda _: Batch(images(2, 3, 16, 16), GOOD), "has 2 images, but batch_size is 1"),
        (lambda _: Batch(images(1, 1, 16, 16), GOOD), "has 1 channels, but the networks have 3"),
        (lambda _: Batch(images(1, 3, 16, 24), GOOD), "24x16 pixels, but crop_size is 16.*preprocess='none'"),
        (
            lambda _: Batch(GOOD, images(1, 3, 16, 16, value=255.0)),
            r"values up to 255; expected values in \[-1, 1\]",
        ),
        (lambda _: Batch(GOOD, images(1, 3, 16, 16, value=float("nan"))), "values up to nan"),
        (lambda _: next(iter(())), "batches ended at step 0"),
    ],
)
def test_a_batch_that_cannot_be_used_is_reported_in_one_sentence(tmp_path, batch, message):
    with pytest.raises(InputError, match=message):
        train(batches=Wrong(batch), out=tmp_path / "run", **SETTINGS)


def test_images_of_other_sizes_need_a_preprocess_that_does_not_crop(tmp_path):
    source = Wrong(lambda step: Batch(images(1, 3, 16 + 4 * step, 20), images(1, 3, 16, 24)))
    run = train(batches=source, out=tmp_path / "run", **SETTINGS, preprocess="none")
    assert read_info(run / "model").step == 6
    source = Wrong(lambda _: Batch(images(1, 3, 17, 20), GOOD))
    with pytest.raises(InputError, match="20x17 pixels; these networks need multiples of 4"):
        train(batches=source, out=tmp_path / "other", **SETTINGS, preprocess="none")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": None}, "epochs is 200, but batches has no steps_per_epoch"),
        ({"model_epochs": 2}, "model_epochs is 2, but batches has no steps_per_epoch.*leave it out"),
        ({"workers": 2}, "workers is 2"),
        ({"channels_a": 1}, "has 3 channels, but the networks have 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        train(batches=InMemory(), out=tmp_path / "run", **{**SETTINGS, **settings})


def test_folders_and_batches_exclude_each_other(folders, tmp_path):
    with pytest.raises(InputError, match="a and b and batches were given"):
        train(*folders, batches=InMemory(), out=tmp_path / "run", **SETTINGS)
    with pytest.raises(InputError, match=r"No folder of images was given.*train\(batches=...\)"):
        train(out=tmp_path / "run", **SETTINGS)
    # A run of folders is not silently continued with other data, nor the other way round.
    run = train(*folders, out=tmp_path / "run", **SETTINGS)
    with pytest.raises(InputError, match="holds a run with other settings: a .* -> None"):
        train(batches=InMemory(), out=run, **SETTINGS)
    own = train(batches=InMemory(), out=tmp_path / "own", **SETTINGS)
    with pytest.raises(InputError, match="a None -> "):
        train(*folders, out=own, **SETTINGS)
    with pytest.raises(InputError, match="not a run directory"):
        train(batches=InMemory(), out=make_folder(tmp_path / "pictures"), **SETTINGS)


def test_nan_stops_the_run_and_names_step_term_and_checkpoint(tmp_path):
    good, events = InMemory().batch, []
    poisoned = Wrong(lambda step: Batch(good(step).a, good(step).b * float("nan")) if step == 4 else good(step))
    with pytest.raises(TrainingError, match=r"adversarial_b2a became nan at step 5.*step_0000004") as caught:
        train(batches=poisoned, out=tmp_path / "run", callbacks=[events.append], checkpoint_steps=2, **SETTINGS)
    assert "learning-rate" in str(caught.value)
    assert list_checkpoints(tmp_path / "run")[0].name == "step_0000004"
    assert "adversarial_b2a became nan" in (tmp_path / "run" / "report.html").read_text()
    (found,) = [event for event in events if isinstance(event, LossNotFinite)]
    assert (found.step, found.term) == (5, "adversarial_b2a")
    assert isinstance(events[-1], Ended)
    assert events[-1].status == "failed"
