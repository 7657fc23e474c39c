"""Write log.jsonl, one line for each event that is kept, and report unreadable files."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TextIO

from cyclegan.storage.run import read_log
from cyclegan.system.atomic import write_bytes
from cyclegan.system.messages import Messages
from cyclegan.training.checkpoint import writing
from cyclegan.training.events import (
    Event,
    Events,
    FileUnreadable,
    LossesLogged,
    LossNotFinite,
    Scored,
    ScoringSkipped,
    SessionStarted,
    ValidationMeasured,
    WarningRaised,
)
from cyclegan.training.resume import unwritable

# What Python makes of such a byte.
_HALF = re.compile("[\ud800-\udfff]")


class RunLog:
    """Writes events to log.jsonl. `past`: the lines of earlier sessions that are kept."""

    def __init__(self, run: Path, step: int, messages: Messages, stack: ExitStack) -> None:
        """Open the log of a run that continues after `step`. `stack` closes the file.

        Lines after this step and damaged lines are dropped. Raises InputError if it cannot be written.
        """
        path = run / "log.jsonl"
        self._run = run
        self.past = [line for line in read_log(path, messages.warning) if line["step"] <= step]
        try:
            if path.is_file():
                write_bytes(path, "".join(map(_as_text, self.past)).encode())
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise unwritable(run, error) from error
        stack.callback(_close_quietly, self._file)

    def record(self, event: Event) -> None:
        """Add the line of an event, if it has one. Raises TrainingError if it cannot be written."""
        line = log_line(event)
        if line is not None:
            with writing(self._run, event.step):
                self._file.write(_as_text(line))
                self._file.flush()


def _unicode(text: str) -> str:
    """Text with the bytes of names that are not Unicode as escapes, such as \\udce9."""
    return text.encode(errors="backslashreplace").decode()


def _as_text(line: Mapping[str, Any]) -> str:
    # The same within JSON, where a backslash is written twice: other readers refuse half of a pair.
    return _HALF.sub(lambda half: f"\\\\u{ord(half[0]):04x}", json.dumps(line, ensure_ascii=False)) + "\n"


def _close_quietly(file: TextIO) -> None:
    # A failed write was reported when it happened; closing tries again, and its error would hide the first one.
    with suppress(OSError):
        file.close()


def log_line(event: Event) -> dict[str, Any] | None:
    """The line of log.jsonl for an event, or None. Losses have no key `event`; all others have."""
    step = event.step
    match event:
        case LossesLogged():
            epoch = {} if event.epoch is None else {"epoch": event.epoch}
            pace = {
                "seconds": event.seconds,
                "images_per_second": event.images_per_second,
                "learning_rate": event.learning_rate,
            }
            return {"step": step, **epoch, **pace, **event.losses}
        case SessionStarted():
            machine = {"device": event.device, "precision": event.precision, "held_out": event.held_out}
            start = {"time": event.time, "command": event.command, **event.versions}
            changes = {name: list(change) for name, change in event.changes.items()}
            found = {"changes": changes, "images": list(event.images)}
            return {"event": "session", "step": step, **start, **machine, **{k: v for k, v in found.items() if v}}
        case FileUnreadable():
            return {"event": "unreadable", "step": step, "path": event.path, "reason": event.reason}
        case LossNotFinite():
            return {"event": "not finite", "step": step, "term": event.term, "value": str(event.value)}
        case ValidationMeasured():
            return {"event": "validation", "step": step, **event.about}
        case ScoringSkipped():
            return {"event": "not scored", "step": step}
        case Scored():
            return {**scores_record(event), "scoring_seconds": event.scoring_seconds}
        case WarningRaised():
            return {"event": "warning", "step": step, "check": event.check, "message": event.message}
        case _:
            return None


def scores_record(scored: Scored) -> dict[str, Any]:
    """The scores of one step, as best/validation.json keeps them."""
    return {
        "event": "scores",
        "step": scored.step,
        "seconds": scored.seconds,
        "kid": scored.kid,
        "best": scored.best,
        "directions": scored.directions,
    }


# Files that are named on screen.
_MOST_NAMED = 10


class UnreadableFiles:
    """Reports files that are left out: once in each session on screen, once in a run as an event.

    The screen names the first ten, and says at times how many there are; the log and the report name all.
    """

    def __init__(self, events: Events, messages: Messages, past: Sequence[Mapping[str, Any]]) -> None:
        """past: the lines of log.jsonl from earlier sessions."""
        self._events, self._messages = events, messages
        self._shown: set[str] = set()
        self._published = {line["path"] for line in past if line.get("event") == "unreadable"}

    def report(self, path: Path | str, reason: str, step: int) -> None:
        """Report one file. Raises TrainingError if the log cannot be written."""
        self.report_all([(path, reason)], step)

    def report_all(self, files: Sequence[tuple[Path | str, str]], step: int) -> None:
        """Report files that were found at once. Raises TrainingError if the log cannot be written."""
        most, before = _MOST_NAMED, len(self._shown)
        for path, reason in ((_unicode(str(path)), _unicode(reason)) for path, reason in files):
            if path not in self._shown:
                self._shown.add(path)
                if len(self._shown) <= most:
                    what = reason if path in reason else f"{path}: {reason}"
                    self._messages.warning(f"Left out ({len(self._shown)} so far): {what}")
            if path not in self._published:
                self._published.add(path)
                self._events.publish(FileUnreadable(step, path, reason))
        count = len(self._shown)
        # Of files that come one by one it says so after 20, 40, 80, ...
        if count > most and (
            len(files) > 1 or (count > before and count % most == 0 and (count // most).bit_count() == 1)
        ):
            self._messages.warning(f"Left out: {count:,} files in all; log.jsonl and report.html name each of them.")
