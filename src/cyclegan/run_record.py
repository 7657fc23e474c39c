"""What a run directory tells about its past: the log and the examples, read as far as they are there and whole."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cyclegan.charts import Series

Event = dict[str, Any]


@dataclass(frozen=True)
class RunLog:
    """The lines of log.jsonl. losses: those without a kind; validation: the newest, which tells the images."""

    losses: tuple[Event, ...] = ()
    sessions: tuple[Event, ...] = ()
    validation: Event | None = None
    scores: tuple[Event, ...] = ()
    warnings: tuple[Event, ...] = ()
    unreadable: tuple[Event, ...] = ()
    not_finite: tuple[Event, ...] = ()

    @property
    def step(self) -> int:
        """The last step that the log knows of."""
        return max((int(event["step"]) for event in (*self.losses, *self.scores)), default=0)

    @property
    def seconds(self) -> float | None:
        """Training time of all sessions together."""
        return max((event["seconds"] for event in (*self.losses, *self.scores) if "seconds" in event), default=None)

    @property
    def best(self) -> Event | None:
        """The validation with the lowest KID over both directions; the first of equals."""
        measured = [event for event in self.scores if number(event.get("kid")) is not None]
        return min(measured, key=lambda event: float(event["kid"]), default=None)


def number(value: object) -> float | None:
    """The value if it is a finite number."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None  # type: ignore[arg-type]


def inside(value: object, *keys: str) -> Any:
    """What lies under these keys, one in the other, or None where one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def series(events: Sequence[Event], label: str, *keys: str, smooth: bool = False) -> Series:
    """The curve of what lies under these keys: numbers, or estimates of value, low and high. Gaps are left out."""
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


def read_log(run: Path) -> RunLog:
    """The log of a run directory. Lines that are not whole, as a killed process leaves one, are passed over."""
    file = run / "log.jsonl"
    kinds: dict[str, list[Event]] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict) and number(event.get("step")) is not None:
            kinds.setdefault(str(event.get("event", "")), []).append(event)
    validations = kinds.get("validation", [])
    return RunLog(
        losses=tuple(kinds.get("", ())),
        sessions=tuple(kinds.get("session", ())),
        validation=validations[-1] if validations else None,
        scores=tuple(kinds.get("scores", ())),
        warnings=tuple(kinds.get("warning", ())),
        unreadable=tuple(kinds.get("unreadable", ())),
        not_finite=tuple(kinds.get("not finite", ())),
    )


@dataclass(frozen=True)
class Example:
    """One translated test image. kind: best, worst, typical, held out. score_name: the score it was chosen by."""

    direction: str
    file: str
    kind: str
    score_name: str | None
    score: float | None
    pictures: dict[str, Path]

    def picture(self, name: str) -> Image.Image | None:
        """`input`, `output`, `cycled` or `truth`, as 8-bit RGB; None if there is none."""
        path = self.pictures.get(name)
        return open_picture(path) if path is not None else None


@dataclass(frozen=True)
class Examples:
    """The examples of a run. origin: where their images are from, in words."""

    origin: str = ""
    examples: tuple[Example, ...] = ()

    def of(self, direction: str, *kinds: str) -> list[Example]:
        """Those of a direction, in their order; of these kinds if any are given."""
        return [e for e in self.examples if e.direction == direction and (not kinds or e.kind in kinds)]


def read_examples(run: Path) -> Examples:
    """The examples of a run directory whose input and output are there; none if they were never made."""
    folder = run / "examples"
    try:
        record = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return Examples()
    found = []
    for entry in _dicts(inside(record, "examples")):
        pictures = {
            name: folder / path
            for name, path in (inside(entry, "pictures") or {}).items()
            if isinstance(path, str) and (folder / path).is_file()
        }
        if {"input", "output"} <= pictures.keys():
            name = entry.get("score_name")
            found.append(
                Example(
                    direction=str(entry.get("direction")),
                    file=str(entry.get("file")),
                    kind=str(entry.get("kind")),
                    score_name=name if isinstance(name, str) else None,
                    score=number(entry.get("score")),
                    pictures=pictures,
                )
            )
    return Examples(str(record.get("origin") or ""), tuple(found))


def _dicts(values: object) -> Sequence[Event]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def open_picture(path: Path) -> Image.Image | None:
    """A picture as 8-bit RGB, or None if it cannot be read."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError):
        return None
