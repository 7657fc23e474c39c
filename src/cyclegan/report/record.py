"""The log of a run, read as far as it is complete."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclegan.config import TrainConfig
from cyclegan.metrics.features import features_title
from cyclegan.report.charts import Series
from cyclegan.storage.run import read_log

Event = dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """The lines of log.jsonl. losses: those without a kind; validation: the newest, which names the images."""

    losses: Sequence[Event] = ()
    sessions: Sequence[Event] = ()
    validation: Event | None = None
    scores: Sequence[Event] = ()
    warnings: Sequence[Event] = ()
    unreadable: Sequence[Event] = ()
    not_finite: Sequence[Event] = ()

    @property
    def step(self) -> int:
        """The last step in the log."""
        return max((int(event["step"]) for event in (*self.losses, *self.scores)), default=0)

    @property
    def seconds(self) -> float | None:
        """Training time of all sessions together."""
        return max((event["seconds"] for event in (*self.losses, *self.scores) if "seconds" in event), default=None)

    @property
    def features(self) -> str:
        """Title of the network that scores in training were computed with."""
        return features_title(inside(self.validation, "features", "name"))

    @property
    def validation_images(self) -> str:
        """The validation images in words: how many of each domain, and where they are from; nothing if unknown."""
        counts, origin = inside(self.validation, "num_images"), inside(self.validation, "origin")
        images = " and ".join(f"{count} images of {name.upper()}" for name, count in (counts or {}).items())
        return f"{images}, {origin}" if images and origin else ""

    @property
    def best(self) -> Event | None:
        """The scores of best/: the last ones that were better than all before."""
        best = [event for event in self.scores if event.get("best") and number(event.get("kid")) is not None]
        return best[-1] if best else None

    def share(self, config: TrainConfig) -> float | None:
        """Share of the run that is done by the last line of losses; None if its length is in epochs of unknown length.

        Like `cyclegan.training.schedule.Progress`, which the run itself has.
        """
        return _share(config, self.losses[-1]) if self.losses else 0.0

    def seconds_left(self, config: TrainConfig) -> float | None:
        """Estimate of the training time that is left, from the pace of the last session; None if it has none yet."""
        if not self.losses:
            return None
        last, begin = self.losses[-1], self.sessions[-1]["step"] if self.sessions else 0
        before: Event = next((line for line in reversed(self.losses) if line["step"] <= begin), {"step": 0})
        seconds, seconds_before = (float(line.get("seconds", 0.0)) for line in (last, before))
        if config.minutes is not None:
            return max(0.0, 60 * config.minutes - seconds)
        share, share_before = _share(config, last), _share(config, before) or 0.0
        if share is None or share <= share_before:
            return None
        return max(0.0, 1 - share) * (seconds - seconds_before) / (share - share_before)


def _share(config: TrainConfig, line: Event) -> float | None:
    if config.minutes is not None:
        return float(line.get("seconds", 0.0)) / (60 * config.minutes)
    if config.steps is not None:
        return float(line["step"]) / config.steps
    epoch = line.get("epoch", 0.0 if line["step"] == 0 else None)
    return None if epoch is None or config.epochs is None else float(epoch) / config.epochs


def number(value: object) -> float | None:
    """The value if it is a finite number."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None  # type: ignore[arg-type]


def inside(value: object, *keys: str) -> Any:
    """The value under these nested keys, or None where one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def series(events: Sequence[Event], label: str, *keys: str, smooth: bool = False) -> Series:
    """The curve of the values under these keys: numbers, or estimates of value, low and high. Gaps are left out."""
    steps, values, lows, highs = [], list[float](), list[float](), list[float]()
    for event in events:
        found = inside(event, *keys)
        value = number(inside(found, "value") if isinstance(found, dict) else found)
        if value is not None:
            low, high = number(inside(found, "low")), number(inside(found, "high"))
            steps.append(float(event["step"]))
            values.append(value)
            lows.append(value if low is None else low)
            highs.append(value if high is None else high)
    known = lows != values or highs != values
    return Series(label, steps, values, lows if known else (), highs if known else (), smooth=smooth)


def read_record(run: Path, *, until: int | None = None) -> RunRecord:
    """The record of a run directory; lines without a step are skipped.

    until: only the history of the networks of this step, as they are in a checkpoint.
    """
    kinds: defaultdict[str, list[Event]] = defaultdict(list)
    for event in read_log(run / "log.jsonl"):
        step, kind = number(event.get("step")), str(event.get("event", ""))
        # A session that begins at the step has not trained these networks.
        if step is not None and (until is None or step <= until - (kind == "session" and step > 0)):
            kinds[kind].append(event)
    return RunRecord(
        losses=kinds[""],
        sessions=kinds["session"],
        validation=next(reversed(kinds["validation"]), None),
        scores=kinds["scores"],
        warnings=kinds["warning"],
        unreadable=kinds["unreadable"],
        not_finite=kinds["not finite"],
    )
