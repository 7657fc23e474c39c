"""What a run writes while it goes: log.jsonl, and the same for the trackers that are open."""

import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any, TextIO

from PIL import Image
from rich.console import Console

from cyclegan.config import TrainConfig
from cyclegan.metrics.features import DEFAULT_FEATURES
from cyclegan.training.resume import shorten_log
from cyclegan.training.trackers import Trackers, open_trackers

# What the scores of a snapshot are called in a tracker; a KID without the features would be taken for another.
_SCORES = f"validation_{DEFAULT_FEATURES.replace('-', '_')}"


class RunLog:
    """log.jsonl with a line for each event, what the trackers get of it, and what is told on screen once."""

    def __init__(
        self, config: TrainConfig, step: int, console: Console, stack: ExitStack, *, track: bool = True
    ) -> None:
        """Open for a run that goes on after `step`; what was logged later is dropped. Closes with `stack`.

        track: whether trackers get it, too.
        """
        self.console = console
        self.events, self._file = shorten_log(config.out / "log.jsonl", step)
        stack.callback(_close_quietly, self._file)
        self.trackers = open_trackers(config, step, console, stack) if track else Trackers(console)
        # Files that were left out: shown in this session, and named in the log.
        self._shown: set[str] = set()
        self._logged = {event["path"] for event in self.events if event.get("event") == "unreadable"}

    def write(self, event: Mapping[str, Any]) -> None:
        """Add one line. Raises OSError if the disk does not take it."""
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def write_losses(self, event: Mapping[str, float], losses: Mapping[str, float]) -> None:
        """A line of means of losses, with the step, the rate and the speed."""
        self.write({**event, **losses})
        values = {f"loss/{name}": value for name, value in losses.items()}
        values |= {name: event[name] for name in ("learning_rate", "images_per_second")}
        self.trackers.scalars(values, int(event["step"]))

    def write_scores(self, event: Mapping[str, Any], scalars: Mapping[str, float]) -> None:
        """A line of scores; `scalars` are those that trackers get, by name."""
        self.write(event)
        self.trackers.scalars({f"{_SCORES}/{name}": value for name, value in scalars.items()}, int(event["step"]))

    def show_samples(self, sheet: Image.Image, step: int) -> None:
        """A sample grid for the trackers."""
        self.trackers.image("samples", sheet, step)

    def show_warning(self, check: str, message: str, step: int) -> None:
        """A sign of trouble: on screen and for the trackers."""
        self.console.print(f"Warning at step {step}: {message}", style="yellow")
        self.trackers.warn(check, message, step)

    def report_unreadable(self, path: str, reason: str, step: int) -> None:
        """Tell of a file that was left out: once on screen in each session, once in the log."""
        if path not in self._shown:
            self._shown.add(path)
            count = len(self._shown)
            self.console.print(f"Left out, cannot be read ({count} so far): {path}: {reason}", style="yellow")
        if path not in self._logged:
            self._logged.add(path)
            self.write({"event": "unreadable", "step": step, "path": path, "reason": reason})


def _close_quietly(file: TextIO) -> None:
    # What could not be written has been told already; closing tries once more and would hide that.
    with suppress(OSError):
        file.close()
