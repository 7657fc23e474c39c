"""train(callbacks=...): which events come, in which order, and what an exception in a callback does."""

import json

import pytest
import torch

from conftest import TINY, make_folder
from cyclegan import InputError, train
from cyclegan.errors import TrainingError
from cyclegan.storage.run import list_checkpoints
from cyclegan.training import (
    CheckpointSaved,
    Ended,
    FileUnreadable,
    LossesLogged,
    LossNotFinite,
    Scored,
    SessionStarted,
    SnapshotSaved,
    StepDone,
    ValidationMeasured,
    WarningRaised,
)
from cyclegan.training.health import Finding
from cyclegan.training.run_log import log_line


def run_tiny(folders, out, **settings):
    return train(*folders, out=out, preset="paper", quiet=True, **{**TINY, "steps": 4, "log_steps": 2, **settings})


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def names(events):
    return [(type(event), event.step) for event in events]


def test_events_come_in_the_order_of_what_happens(folders, tmp_path):
    events = []
    settings = {"num_samples": 1, "sample_steps": 4, "checkpoint_steps": 2}
    run = run_tiny(folders, tmp_path / "run", callbacks=[events.append], **settings)
    assert names(events) == [
        (SessionStarted, 0),
        (StepDone, 1),
        (StepDone, 2),
        (LossesLogged, 2),
        (CheckpointSaved, 2),
        (StepDone, 3),
        (StepDone, 4),
        (LossesLogged, 4),
        (SnapshotSaved, 4),
        (CheckpointSaved, 4),
        (SnapshotSaved, 4),  # that of the finished run
        (Ended, 4),
    ]
    started, step, logged, ended = events[0], events[1], events[3], events[-1]
    assert started.config.steps == 4
    assert all(isinstance(loss, torch.Tensor) and loss.ndim == 0 for loss in step.losses.values())
    assert step.learning_rate == 2e-4
    assert logged.num_steps == 2
    means = {name: (events[1].losses[name] + events[2].losses[name]).item() / 2 for name in step.losses}
    assert logged.losses == pytest.approx(means)
    assert events[4].path == run / "checkpoints" / "step_0000002"
    assert events[8].path == run / "samples" / "step_0000004.png"
    assert events[8].image.width > 16
    assert (ended.status, ended.error) == ("finished", None)
    assert ended.seconds > 0


def test_the_log_holds_a_line_for_each_event_that_has_one(tmp_path, monkeypatch):
    folders = make_folder(tmp_path / "a", 100), make_folder(tmp_path / "b", 100, seed=1)
    (tmp_path / "a" / "broken.png").write_bytes(b"nonsense")
    monkeypatch.setattr("cyclegan.training.validation.TIME_SHARE", 1e6)
    finding = Finding("b/discriminator", "The discriminator of B wins outright.")
    monkeypatch.setattr("cyclegan.training.health.DiscriminatorWatch.update", lambda *_: [finding])
    events = []
    run = run_tiny(folders, tmp_path / "run", callbacks=[events.append], num_validation=10, sample_steps=2)
    lines = [json.loads(json.dumps(line)) for event in events if (line := log_line(event)) is not None]
    assert log_of(run) == lines
    assert {type(event) for event in events} >= {FileUnreadable, ValidationMeasured, Scored, WarningRaised}
    # What follows from an event comes after it.
    kinds = [type(event) for event in events]
    assert kinds.index(LossesLogged) < kinds.index(WarningRaised)
    assert kinds.index(ValidationMeasured) < kinds.index(Scored)
    assert [event.is_new for event in events if isinstance(event, WarningRaised)][:2] == [True, False]
    scored = [event for event in events if isinstance(event, Scored)]
    assert [event.step for event in scored] == [2, 4]
    assert (run / "best").is_dir() == any(event.best for event in scored)


def test_a_resumed_run_starts_a_session_where_it_stopped(folders, tmp_path):
    run_tiny(folders, tmp_path / "run")
    events = []
    run_tiny(folders, tmp_path / "run", steps=6, resume=True, callbacks=[events.append])
    assert names(events)[:2] == [(SessionStarted, 4), (StepDone, 5)]
    events.clear()
    run_tiny(folders, tmp_path / "run", steps=6, callbacks=[events.append])  # it is complete
    assert names(events) == [(Ended, 6)]


def test_callbacks_change_nothing_that_is_learned(folders, tmp_path):
    one = run_tiny(folders, tmp_path / "one")
    other = run_tiny(folders, tmp_path / "other", callbacks=[lambda _: torch.rand(3), lambda _: None])
    for name in ("a2b", "b2a"):
        file = f"model/{name}.safetensors"
        assert (one / file).read_bytes() == (other / file).read_bytes()


class CustomError(Exception):
    pass


@pytest.mark.parametrize("error", [CustomError, OSError, torch.OutOfMemoryError, InputError, KeyboardInterrupt])
def test_an_exception_in_a_callback_saves_a_checkpoint_and_reaches_the_caller(folders, tmp_path, error):
    whole = run_tiny(folders, tmp_path / "whole")

    def fail_at_step_3(event):
        if isinstance(event, StepDone) and event.step == 3:
            raise error("enough")

    seen = []
    with pytest.raises(error, match="enough"):
        run_tiny(folders, tmp_path / "run", callbacks=[fail_at_step_3, seen.append])
    assert list_checkpoints(tmp_path / "run")[0].name == "step_0000003"
    # The other callbacks miss nothing.
    assert names(seen)[-4:] == [(StepDone, 3), (LossesLogged, 3), (CheckpointSaved, 3), (Ended, 3)]
    assert seen[-1].status == ("interrupted" if error is KeyboardInterrupt else "failed")
    assert isinstance(seen[-1].error, error)
    run = run_tiny(folders, tmp_path / "run")
    assert (run / "model/a2b.safetensors").read_bytes() == (whole / "model/a2b.safetensors").read_bytes()


def test_a_callback_may_raise_before_the_first_step(folders, tmp_path):
    whole = run_tiny(folders, tmp_path / "whole")

    def refuse(event):
        assert isinstance(event, StepDone), "no"

    with pytest.raises(AssertionError, match="no"):
        run_tiny(folders, tmp_path / "run", callbacks=[refuse])
    run = run_tiny(folders, tmp_path / "run")
    assert (run / "model/a2b.safetensors").read_bytes() == (whole / "model/a2b.safetensors").read_bytes()
    assert [line["step"] for line in log_of(run) if "event" not in line] == [2, 4]


def test_a_callback_that_fails_at_the_end_does_not_hide_why_a_run_stopped(folders, tmp_path, capfd):
    def fail_at_the_end(event):
        if isinstance(event, Ended):
            raise CustomError("at the end")

    settings = {"learning_rate": 1e30, "norm": "none", "adversarial": "wgan-gp", "steps": 20}
    seen = []
    with pytest.raises(TrainingError, match="not finite|became"):
        train(*folders, out=tmp_path / "one", callbacks=[fail_at_the_end, seen.append], **{**TINY, **settings})
    assert "A callback failed: CustomError: at the end" in capfd.readouterr().err
    assert isinstance(seen[-1], Ended)
    assert isinstance(seen[-1].error, TrainingError)
    # Without another error its own reaches the caller; the run is complete by then.
    with pytest.raises(CustomError, match="at the end"):
        run_tiny(folders, tmp_path / "other", callbacks=[fail_at_the_end])
    assert (tmp_path / "other" / "model" / "config.json").is_file()


def test_a_loss_that_is_not_finite_is_an_event(folders, tmp_path):
    seen = []
    settings = {"learning_rate": 1e30, "norm": "none", "adversarial": "wgan-gp", "steps": 20}
    with pytest.raises(TrainingError):
        run_tiny(folders, tmp_path / "run", callbacks=[seen.append], log_steps=1, **settings)
    found = [event for event in seen if isinstance(event, LossNotFinite)]
    logged = [line for line in log_of(tmp_path / "run") if line.get("event") == "not finite"]
    assert [log_line(event) for event in found] == logged
