"""Summarise a run directory."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclegan.config import TrainConfig
from cyclegan.errors import InputError, UnreadableError
from cyclegan.storage.model import read_info
from cyclegan.storage.run import list_checkpoints, read_log
from cyclegan.system.terminal import printable
from cyclegan.training.checkpoint import TrainingProgress, read_best, read_progress

# Keys of a line of log.jsonl that are no losses.
_NOT_A_LOSS = {"step", "epoch", "seconds", "images_per_second", "learning_rate"}


@dataclass(frozen=True)
class RunSummary:
    """A run directory. step, seconds: at the newest checkpoint; share: of the run's length, None where unknown.

    logged_step and losses are those of the last line of the log. best_step, best_kid: of the best checkpoint, by the
    KID on validation images. events: damaged files of the run, skipped images, warnings and losses that were not
    finite, a sentence each. missing: why its folders cannot be inspected.
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
    events: tuple[str, ...]
    missing: str | None = None


def summarise_run(path: Path, config: TrainConfig) -> RunSummary:
    """Summarise a run directory, without loading weights."""
    checkpoints = list_checkpoints(path)
    damaged: list[str] = []
    progress = _newest_progress(checkpoints, damaged)
    done = {} if progress is None else {"steps": float(progress.step), "minutes": progress.seconds / 60}
    model_step = None
    with suppress(InputError):
        model_step = read_info(path / "model").step
    log = read_log(path / "log.jsonl", damaged.append)
    last: dict[str, Any] = next((line for line in reversed(log) if "event" not in line), {})
    best = read_best(path, damaged.append)
    lengths = {"minutes": config.minutes, "steps": config.steps, "epochs": config.epochs}
    unit, length = next((unit, length) for unit, length in lengths.items() if length is not None)
    reached = last.get("epoch") if unit == "epochs" else done.get(unit)
    return RunSummary(
        directory=path,
        preset=config.preset,
        length=f"{length} steps" if unit == "steps" else f"{length:g} {unit}",
        step=None if progress is None else progress.step,
        seconds=None if progress is None else progress.seconds,
        share=min(reached / length, 1.0) if reached is not None else None,
        checkpoints=tuple(checkpoint.name for checkpoint in checkpoints),
        model_step=model_step,
        num_bytes=_size_on_disk(path),
        logged_step=int(last["step"]) if "step" in last else None,
        losses={name: value for name, value in last.items() if name not in _NOT_A_LOSS},
        best_step=None if best is None else best.step,
        best_kid=None if best is None else best.kid,
        events=(
            *map(printable, damaged),
            *(_describe(line) for line in log if line.get("event") in ("warning", "unreadable", "not finite")),
        ),
    )


def _newest_progress(checkpoints: Sequence[Path], damaged: list[str]) -> TrainingProgress | None:
    """How far the newest checkpoint is, without those that cannot be read; a sentence on each goes to `damaged`."""
    for checkpoint in checkpoints:
        try:
            return read_progress(checkpoint)
        except UnreadableError as error:
            damaged.append(str(error))
    return None


def _size_on_disk(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):  # the run may be writing
            total += file.stat().st_size if file.is_file() else 0
    return total


def _describe(event: dict[str, Any]) -> str:
    details = ", ".join(f"{name} {value}" for name, value in event.items() if name not in ("event", "step"))
    return printable(f"Logged at step {event.get('step', 0)}: {event['event']}: {event.get('message', details)}")
