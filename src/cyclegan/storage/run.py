"""Run directories: find their checkpoints, configuration, log and evaluations."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from cyclegan.config import TrainConfig, read_config_file, saved_config
from cyclegan.errors import InputError


def list_checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run directory, newest first."""
    folder = run / "checkpoints"
    names = [path for path in folder.iterdir() if re.fullmatch(r"step_\d+", path.name)] if folder.is_dir() else []
    return sorted(names, key=lambda path: int(path.name.removeprefix("step_")), reverse=True)


def read_run_config(run: Path) -> TrainConfig | None:
    """The resolved configuration of a run directory, or None if there is no run."""
    file = run / "config.toml"
    if not file.is_file():
        return None
    try:
        # Release 0.1.0 had no such setting and held no images out; resuming with another value must be explicit.
        return saved_config({"num_validation": 0}, read_config_file(file))
    except InputError as error:
        raise InputError(f"{file} is not the configuration of a run of this release: {error}") from None


def run_of(path: Path) -> Path | None:
    """The run directory that a model belongs to: itself, or one up to three folders above, as of RUN/best/model."""
    path = path.resolve()
    for place in (path, *path.parents[:3]):
        if (place / "config.toml").is_file() and (place / "log.jsonl").is_file():
            return place
    return None


def evaluation_of(path: Path) -> Path:
    """Where the evaluation of a run, checkpoint or model directory is kept.

    For a run and its model/: in the run. For RUN/best, checkpoints and the models of epochs: in RUN/evaluations/, since
    training replaces them; such a folder is its own place. For any other model: in its directory.
    """
    run = run_of(path)
    if run is None or path.resolve() == run:
        return path
    parts = path.resolve().relative_to(run).parts
    names = [part for part in parts if part not in ("model", "models", "checkpoints", "evaluations")]
    return run.joinpath("evaluations", *names) if names else run


def evaluated_run(place: Path) -> Path | None:
    """The run whose checkpoint was evaluated in this place, a folder of RUN/evaluations/; None for any other place."""
    run = run_of(place)
    return run if run is not None and run / "evaluations" in place.resolve().parents else None


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of a log.jsonl; empty if there is no file. Skips an incomplete last line, which a kill may leave."""
    events: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(json.JSONDecodeError):
                event = json.loads(line)
                events += [event] if isinstance(event, dict) else []
    return events
