"""Summarise a run directory."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from cyclegan.config import Config, TrainConfig
from cyclegan.errors import InputError
from cyclegan.inspection.survey import printable
from cyclegan.storage.model import read_info
from cyclegan.storage.run import list_checkpoints, read_log
from cyclegan.training.checkpoint import read_best

# Events of log.jsonl that the summary of a run shows.
_EVENTS = {"warning", "unreadable", "not finite"}

# Keys of a line of log.jsonl that are no losses.
_NOT_A_LOSS = {"step", "epoch", "seconds", "images_per_second", "learning_rate"}


class LoggedEvent(Config):
    """An event of a run: a file that was left out, a warning, a loss that was not finite."""

    event: str
    step: int
    message: str


class RunSummary(Config):
    """A run directory. step, seconds: at the newest checkpoint; share: of the run's length, None where unknown.

    logged_step and losses are those of the last line of the log. best_step, best_kid: of the best checkpoint, by the
    KID on validation images. missing: why its folders cannot be inspected.
    """

    directory: Path
    preset: str
    length: str
    step: int | None
    seconds: float | None
    share: float | None
    checkpoints: tuple[str, ...]
    model_step: int | None
    num_bytes: int
    logged_step: int | None
    losses: dict[str, float]
    best_step: int | None
    best_kid: float | None
    events: tuple[LoggedEvent, ...]
    missing: str | None = None


def summarise_run(path: Path, config: TrainConfig) -> RunSummary:
    """Summarise a run directory, without loading weights."""
    checkpoints = list_checkpoints(path)
    step, seconds, model_step = None, None, None
    with suppress(OSError, json.JSONDecodeError, KeyError, IndexError):
        progress = json.loads((checkpoints[0] / "training.json").read_text(encoding="utf-8"))
        step, seconds = int(progress["step"]), float(progress["seconds"])
    with suppress(InputError):
        model_step = read_info(path / "model").step
    log = read_log(path / "log.jsonl")
    last: dict[str, Any] = next((line for line in reversed(log) if "event" not in line), {})
    best = read_best(path) or {}
    if config.minutes is not None:
        length, done = f"{config.minutes:g} minutes", seconds / (60 * config.minutes) if seconds is not None else None
    elif config.steps is not None:
        length, done = f"{config.steps} steps", step / config.steps if step is not None else None
    else:
        assert config.epochs is not None
        length, done = f"{config.epochs:g} epochs", last["epoch"] / config.epochs if "epoch" in last else None
    return RunSummary(
        directory=path,
        preset=config.preset,
        length=length,
        step=step,
        seconds=seconds,
        share=min(done, 1.0) if done is not None else None,
        checkpoints=tuple(checkpoint.name for checkpoint in checkpoints),
        model_step=model_step,
        num_bytes=_size_on_disk(path),
        logged_step=int(last["step"]) if "step" in last else None,
        losses={name: value for name, value in last.items() if name not in _NOT_A_LOSS},
        best_step=best.get("step"),
        best_kid=best.get("kid"),
        events=tuple(_describe(line) for line in log if line.get("event") in _EVENTS),
    )


def _size_on_disk(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):  # the run may be writing
            total += file.stat().st_size if file.is_file() else 0
    return total


def _describe(values: dict[str, Any]) -> LoggedEvent:
    known = {"event", "step", "message"}
    details = [str(values["message"])] if "message" in values else []
    details += [f"{name} {value}" for name, value in values.items() if name not in known and not details]
    return LoggedEvent(
        event=str(values["event"]), step=int(values.get("step", 0)), message=printable(", ".join(details))
    )
