"""Summarise a run directory."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclegan.config import TrainConfig
from cyclegan.errors import InputError
from cyclegan.storage.model import read_info
from cyclegan.storage.run import list_checkpoints, read_log
from cyclegan.system.terminal import printable
from cyclegan.training.checkpoint import read_best

# Keys of a line of log.jsonl that are no losses.
_NOT_A_LOSS = {"step", "epoch", "seconds", "images_per_second", "learning_rate"}


@dataclass(frozen=True)
class RunSummary:
    """A run directory. step, seconds: at the newest checkpoint; share: of the run's length, None where unknown.

    logged_step and losses are those of the last line of the log. best_step, best_kid: of the best checkpoint, by the
    KID on validation images. events: skipped files, warnings and losses that were not finite, a sentence each.
    missing: why its folders cannot be inspected.
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
    seconds, done = None, dict[str, float]()
    with suppress(OSError, json.JSONDecodeError, KeyError, IndexError):
        progress = json.loads((checkpoints[0] / "training.json").read_text(encoding="utf-8"))
        seconds = float(progress["seconds"])
        done = {"steps": int(progress["step"]), "minutes": seconds / 60}
    model_step = None
    with suppress(InputError):
        model_step = read_info(path / "model").step
    log = read_log(path / "log.jsonl")
    last: dict[str, Any] = next((line for line in reversed(log) if "event" not in line), {})
    best = read_best(path) or {}
    lengths = {"minutes": config.minutes, "steps": config.steps, "epochs": config.epochs}
    unit, length = next((unit, length) for unit, length in lengths.items() if length is not None)
    reached = last.get("epoch") if unit == "epochs" else done.get(unit)
    return RunSummary(
        directory=path,
        preset=config.preset,
        length=f"{length} steps" if unit == "steps" else f"{length:g} {unit}",
        step=int(done["steps"]) if done else None,
        seconds=seconds if done else None,
        share=min(reached / length, 1.0) if reached is not None else None,
        checkpoints=tuple(checkpoint.name for checkpoint in checkpoints),
        model_step=model_step,
        num_bytes=_size_on_disk(path),
        logged_step=int(last["step"]) if "step" in last else None,
        losses={name: value for name, value in last.items() if name not in _NOT_A_LOSS},
        best_step=best.get("step"),
        best_kid=best.get("kid"),
        events=tuple(_describe(line) for line in log if line.get("event") in ("warning", "unreadable", "not finite")),
    )


def _size_on_disk(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):  # the run may be writing
            total += file.stat().st_size if file.is_file() else 0
    return total


def _describe(event: dict[str, Any]) -> str:
    details = ", ".join(f"{name} {value}" for name, value in event.items() if name not in ("event", "step"))
    return printable(f"Logged at step {event.get('step', 0)}: {event['event']}: {event.get('message', details)}")
