"""The runs below a folder: find them, and say how each of them is."""

import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeVar

from PIL import Image

from cyclegan.config import TrainConfig, field_sections, flat_values, make_config
from cyclegan.errors import InputError, reason_of
from cyclegan.metrics.table import METRICS
from cyclegan.report.record import Event, RunRecord, inside, number
from cyclegan.report.run_charts import DIRECTIONS, arrow, domain_names
from cyclegan.step.terms import reported_losses
from cyclegan.storage.model import read_info
from cyclegan.storage.run import list_checkpoints, read_run_config, step_of
from cyclegan.storage.scores import BASELINES, READ_BASELINES, Estimate, Scores, read_scores, verdicts
from cyclegan.storage.showcase import open_picture
from cyclegan.storage.stop_request import is_stop_requested, is_training
from cyclegan.studio.live_log import LiveLog, read_end
from cyclegan.studio.models import model_name
from cyclegan.system.arguments import real_path
from cyclegan.system.terminal import shell_quote
from cyclegan.system.words import counted
from cyclegan.training.checkpoint import read_best
from cyclegan.training.resume import resume_command

State = Literal["training", "stopping", "finished", "stopped", "broken"]
T = TypeVar("T")

# Folders between RUNS_DIR and a run. A list of runs holds for so many seconds, and for so many times as long as it
# took, because RUNS_DIR may be a home folder.
_DEEPEST, _LIST_SECONDS, _LIST_SHARE = 4, 1.0, 20

_SHEET = re.compile(r"step_([0-9]{1,15})\.png")

# Sides of small pictures. Few of them, so that each is made once.
SMALL_SIDES = (240, 480, 960)


def find_runs(folder: Path) -> dict[str, Path]:
    """All run directories below a folder, or the folder itself, by name. Links are not followed.

    Names are those of `cyclegan.studio.models`, so that a run has one name on all pages.
    """
    found: dict[str, Path] = {}
    for run in sorted(_walk(folder, 0)):
        name = base = model_name(run.relative_to(folder).as_posix() if run != folder else real_path(folder).name)
        count = 1
        while name in found:
            count += 1
            name = f"{base}-{count}"
        found[name] = run
    return found


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # removed meanwhile, or not for this user
        return
    names = {entry.name for entry in entries}
    if {"config.toml", "log.jsonl"} <= names:
        yield folder
    elif depth < _DEEPEST:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), depth + 1)


class RunFolder:
    """The runs below a folder. Each is read when it is asked for, and again when its files have changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs: dict[str, Run] = {}
        self._outdated = -math.inf
        self._lock = threading.Lock()

    def runs(self) -> list["Run"]:
        """All runs, by name."""
        with self._lock:
            began = time.monotonic()
            if began > self._outdated:
                paths = find_runs(self.folder)
                known = {name: run for name, run in self._runs.items() if paths.get(name) == run.path}
                self._runs = {name: known.get(name) or self._new(name, path) for name, path in paths.items()}
                ended = time.monotonic()
                self._outdated = ended + max(_LIST_SECONDS, _LIST_SHARE * (ended - began))
            return list(self._runs.values())

    def _new(self, name: str, path: Path) -> "Run":
        return Run(name, path, path.relative_to(self.folder).as_posix() if path != self.folder else name)

    def run(self, name: str) -> "Run | None":
        """The run of this name, or None."""
        return next((run for run in self.runs() if run.name == name), None)


@dataclass
class _Cached:
    """Values that hold until the files that they are made of change."""

    _values: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def get(self, name: str, files: tuple[Path, ...], make: Callable[[], T]) -> T:
        marks = tuple(_mark(file) for file in files)
        known = self._values.get(name)
        if known is None or known[0] != marks:
            # A file that has just changed may change again within the same tick of the file system's clock.
            is_settled = all(mark is None or time.time_ns() - mark[1] > 2e9 for mark in marks)
            known = self._values[name] = marks if is_settled else None, make()
        value: T = known[1]
        return value


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


class Run:
    """One run directory. Methods may be called by several threads."""

    def __init__(self, name: str, path: Path, label: str) -> None:
        """name: in addresses. label: for people."""
        self.name, self.path, self.label = name, path, label
        self._log_path = path / "log.jsonl"
        self._log: LiveLog | None = None
        self._cached = _Cached()
        self._lock = threading.RLock()

    # ---- what the files hold

    @property
    def _config(self) -> tuple[TrainConfig | None, str]:
        """The configuration, or why it cannot be read."""

        def read() -> tuple[TrainConfig | None, str]:
            try:
                return read_run_config(self.path), ""
            except InputError as error:
                return None, str(error)

        return self._cached.get("config", (self.path / "config.toml",), read)

    @property
    def _end(self) -> RunRecord:
        if self._log is not None:
            self._log.update()
            return self._log.record
        return self._cached.get("end", (self._log_path,), lambda: read_end(self._log_path))

    def follow(self) -> LiveLog:
        """The whole log, as far as it is written. From the first call on it is followed."""
        with self._lock:
            if self._log is None:
                self._log = LiveLog(self._log_path)
            self._log.update()
            return self._log

    @property
    def checkpoint(self) -> int | None:
        """The step of the newest checkpoint."""
        folder = self.path / "checkpoints"
        found = self._cached.get("checkpoints", (folder,), lambda: list_checkpoints(self.path))
        return step_of(found[0]) if found else None

    @property
    def _model_step(self) -> int | None:
        """The step of the model that the end of a run writes."""

        def read() -> int | None:
            try:
                return read_info(self.path / "model").step
            except InputError:
                return None

        return self._cached.get("model", (self.path / "model" / "config.json",), read)

    def state(self, log: RunRecord) -> tuple[State, str]:
        """How the run is, and a sentence on what went wrong if it is broken."""
        if is_training(self.path):
            return ("stopping" if is_stop_requested(self.path) else "training"), ""
        config, problem = self._config
        if config is None:
            return "broken", problem
        for event in log.not_finite[-1:]:
            return "broken", f"The loss {event.get('term')} became {event.get('value')} at step {event['step']:,}."
        if self._model_step is not None and self._model_step >= max(self.checkpoint or 0, log.step):
            return "finished", ""
        if self.checkpoint is not None and self.checkpoint >= log.step:
            return "stopped", ""
        kept = (
            f"It goes on from step {self.checkpoint:,}."
            if self.checkpoint
            else "Nothing was saved, so it starts from the beginning."
        )
        return "broken", f"It ended without saving, after step {log.step:,} or later. {kept}"

    # ---- answers

    def row(self) -> dict[str, Any]:
        """One row of the list of runs. One that cannot be read is broken, and keeps no other from being shown."""
        try:
            return self.summary()
        except OSError as error:
            return self._row("broken", f"It cannot be read: {reason_of(error)}.", None, RunRecord(), None, {})

    def summary(self) -> dict[str, Any]:
        """The row of a run. Raises OSError if its files cannot be read."""
        with self._lock:
            if self._log is None and is_training(self.path):
                self.follow()  # for its pace
            log, (config, _) = self._end, self._config
            state, problem = self.state(log)
            best_file = self.path / "best" / "validation.json"
            kept = self._cached.get("best", (best_file,), lambda: read_best(self.path, lambda _: None))
            best = {"step": kept.step, "kid": kept.kid} if kept else log.best
            return self._row(state, problem, config, log, best, self.sheets())

    def _row(
        self,
        state: State,
        problem: str,
        config: TrainConfig | None,
        log: RunRecord,
        best: Event | None,
        sheets: dict[int, str],
    ) -> dict[str, Any]:
        about = _mark(self._log_path)
        return {
            "name": self.name,
            "label": self.label,
            "state": state,
            "problem": problem,
            **_progress(config, log, state),
            "title": _title(config),
            "preset": config.preset if config else "",
            "best": None if best is None or number(best["kid"]) is None else {k: best[k] for k in ("step", "kid")},
            "sample": list(sheets.items())[-1] if sheets else None,
            "num_samples": len(sheets),
            "changed": about[1] / 1e9 if about else None,
        }

    def details(self) -> dict[str, Any]:
        """All of one run but its curves of losses."""
        with self._lock:
            live, (config, _) = self.follow(), self._config
            log, names = live.record, domain_names(config)
            resume = resume_command(config, self.path) if config is not None and config.a is not None else ""
            return {
                **self.summary(),
                "path": str(self.path),
                "checkpoint": self.checkpoint,
                "directions": {direction: arrow(direction, names) for direction in DIRECTIONS},
                "losses": [
                    {"name": n, "label": f"{r.label}, {w}"} for r in reported_losses() for n, w in r.names.items()
                ],
                "validation": _validation(log),
                "warnings": _warnings(log, live.num_damaged),
                "sessions": [
                    {
                        key: str(event.get(key, ""))
                        for key in ("time", "step", "device", "precision", "cyclegan", "command")
                    }
                    for event in log.sessions
                ],
                "settings": [] if config is None else _settings(config),
                "evaluations": self._evaluations(names),
                "resume": resume,
                "evaluate": f"cyclegan evaluate {shell_quote(self.path)}"
                + ("" if _has_test_images(config) else " --a FOLDER --b FOLDER"),
                "translate": f"cyclegan translate {shell_quote(self.path)} IMAGES --out FOLDER --direction a2b",
            }

    def curves(self, version: str, since: int) -> dict[str, Any]:
        """The curves of the losses from point `since` on, or whole if the version is no longer that of the caller."""
        with self._lock:
            live = self.follow()
            curves = live.curves
            current = f"{live.version}.{curves.stride}"
            since = since if version == current and 0 <= since <= len(curves.steps) else 0
            return {
                "version": current,
                "since": since,
                "total": len(curves.steps),
                "stride": curves.stride,
                "steps": curves.steps[since:],
                "values": {name: [_short(x) for x in column[since:]] for name, column in curves.columns.items()},
            }

    def _evaluations(self, names: dict[str, str]) -> list[dict[str, Any]]:
        """scores.json of the run itself, then of its checkpoints."""
        below = self.path / "evaluations"
        titles = {self.path / "scores.json": "last model"}
        titles |= {file: file.parent.relative_to(below).as_posix() for file in sorted(below.glob("**/scores.json"))}
        return [
            self._cached.get(str(file), (file,), partial(_evaluation, file, title, names))
            for file, title in titles.items()
            if file.is_file()
        ]

    # ---- samples

    def sheets(self) -> dict[int, str]:
        """The steps of all sample sheets, each with a text that changes when its file does."""
        folder = self.path / "samples"

        def read() -> dict[int, str]:
            found = {}
            for entry in os.scandir(folder):
                match = _SHEET.fullmatch(entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    found[int(match[1])] = f"{entry.stat().st_mtime_ns:x}"
            return dict(sorted(found.items()))

        if folder.is_symlink() or not folder.is_dir():
            return {}
        return self._cached.get("samples", (folder,), read)

    def sheet(self, step: int, side: int | None) -> tuple[bytes, str] | None:
        """A sample sheet and its type: the file itself, or a small picture of it. None if there is none."""
        if step not in self.sheets():
            return None
        # The name is made from the number, and never taken from an address.
        names = (entry.name for entry in os.scandir(self.path / "samples") if not entry.is_symlink())
        name = next((n for n in names if (m := _SHEET.fullmatch(n)) and int(m[1]) == step), None)
        mark = _mark(self.path / "samples" / name) if name else None
        if name is None or mark is None:
            return None
        if side is None:
            return (self.path / "samples" / name).read_bytes(), "image/png"
        small = _small(self.path / "samples" / name, mark, side)
        return None if small is None else (small, "image/jpeg")


@lru_cache(maxsize=1024)
def _small(path: Path, _mark: tuple[int, int, int], side: int) -> bytes | None:
    return shrunk(open_picture(path), side)


def shrunk(picture: Image.Image | None, side: int) -> bytes | None:
    """A picture as JPEG with its longer side reduced to this; None for None."""
    if picture is None:
        return None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _title(config: TrainConfig | None) -> str:
    """The folders that a run was trained on."""
    if config is None or config.a is None:
        return ""
    return config.a.name if config.b is None else f"{config.a.name} and {config.b.name}"


def _short(value: float) -> float | None:
    """Five digits, which is more than a curve shows; None for what JSON has no number for."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _progress(config: TrainConfig | None, log: RunRecord, state: State) -> dict[str, Any]:
    last: Event = log.losses[-1] if log.losses else {}
    share = log.share(config) if config is not None else None
    length = ""
    if config is not None:
        lengths = {"steps": config.steps, "minutes": config.minutes, "epochs": config.epochs}
        unit, value = next((unit, value) for unit, value in lengths.items() if value is not None)
        length = f"{value:,.10g} {unit if value != 1 else unit[:-1]}"
    is_live = state in ("training", "stopping")
    return {
        "step": log.step,
        "length": length,
        "share": 1.0 if state == "finished" else None if share is None else min(share, 1.0),
        "seconds": log.seconds,
        "seconds_left": log.seconds_left(config) if config is not None and is_live else None,
        "images_per_second": last.get("images_per_second") if is_live else None,
        "epoch": last.get("epoch"),
    }


def _estimate(value: object) -> dict[str, float | None] | None:
    """A number, or an estimate with its interval, of the log."""
    found = {key: number(inside(value, key)) for key in ("value", "low", "high")} if isinstance(value, dict) else None
    if found is None:
        found = {"value": number(value), "low": None, "high": None}
    return None if found["value"] is None else found


def _validation(log: RunRecord) -> dict[str, Any]:
    """Scores on validation images: a series for each metric and direction, with the baselines of KID."""
    series = []
    for name, metric in METRICS.items():
        for direction in DIRECTIONS:
            points = [(e["step"], _estimate(inside(e, "directions", direction, name))) for e in log.scores]
            known = [[step, *estimate.values()] for step, estimate in points if estimate is not None]
            if metric.in_training and known:
                lines = {
                    title: value
                    for key, title in BASELINES.items()
                    if name == "kid"
                    and (value := number(inside(log.validation, "directions", direction, key, "value"))) is not None
                }
                series.append({"metric": name, "direction": direction, "points": known, "baselines": lines})
    used = dict.fromkeys(str(one["metric"]) for one in series)
    metrics = {
        name: {
            "title": METRICS[name].title(log.features),
            "better": METRICS[name].better,
            "meaning": METRICS[name].meaning,
        }
        for name in used
    }
    return {"images": log.validation_images, "metrics": metrics, "series": series}


def _warnings(log: RunRecord, num_damaged: int) -> list[dict[str, Any]]:
    """The newest message of each check, first those of the newest steps."""
    newest: dict[str, dict[str, Any]] = {}
    for event in log.warnings:
        check = str(event.get("check"))
        count = newest.get(check, {}).get("count", 0) + 1
        newest[check] = {"step": event["step"], "check": check, "text": str(event.get("message")), "count": count}
    found = sorted(newest.values(), key=lambda warning: -warning["step"])
    if log.unreadable:
        first = log.unreadable[0]
        text = f"Left out: {counted(len(log.unreadable), 'file')}. {first.get('path')}: {first.get('reason')}"
        found.append({"step": first["step"], "check": "files", "text": text, "count": 1})
    if num_damaged:
        found.append(
            {
                "step": log.step,
                "check": "log",
                "text": f"Damaged, and left out: {counted(num_damaged, 'line')} of its log.",
                "count": 1,
            }
        )
    return found


_PLACES = ("a", "b", "test_a", "test_b", "out", "init_from", "preset")


def _settings(config: TrainConfig) -> list[dict[str, Any]]:
    """All settings by name. preset: the value of the preset, where the run has another one."""
    values = flat_values(config)
    usual = flat_values(make_config({"a": config.a, "b": config.b}, preset=config.preset))
    sections = field_sections()
    found = []
    for name, value in values.items():
        # The range of values is measured, and the computer chooses the precision.
        is_own = name not in (*_PLACES, "range_a", "range_b") and value != usual.get(name)
        about = sections[name].model_fields[name].description or "" if name in sections else ""
        setting = {"name": name, "value": _text(value), "about": about}
        found.append(setting | ({"preset": _text(usual.get(name))} if is_own else {}))
    return found


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _evaluation(file: Path, title: str, names: dict[str, str]) -> dict[str, Any]:
    """scores.json in the words of the report."""
    try:
        scores = read_scores(file)
    except InputError as error:
        return {"title": title, "problem": str(error)}

    def shown(name: str, estimate: Estimate | None) -> dict[str, str] | None:
        if estimate is None:
            return None
        metric = METRICS[name]
        text = " ".join(filter(None, (metric.show(estimate.value), metric.unit)))
        return {"value": text, "interval": estimate.show_interval(metric.digits)}

    directions = []
    for direction, of in scores.directions.items():
        rows = [
            {
                "metric": scores.title(name),
                "meaning": metric.meaning,
                "better": metric.better,
                "value": shown(name, score.value),
                "baselines": [shown(name, score.baselines.get(key)) for key in of.baselines],
            }
            for name, metric, score in of.rows
        ]
        directions.append(
            {
                "title": arrow(direction, names),
                "verdict": " ".join(verdicts(of)),
                "scale": _scale(scores, direction),
                "baselines": list(of.baselines.values()),
                "rows": rows,
                "notes": [*of.notes, *scores.metric_notes(direction)],
            }
        )
    return {
        "title": title,
        "step": scores.step,
        "created": scores.created,
        "weights": scores.weights,
        "read": READ_BASELINES,
        "directions": directions,
    }


def _has_test_images(config: TrainConfig | None) -> bool:
    """Whether the settings name test images, or one folder that may hold them beside those of training."""
    return config is not None and (config.b is None or (config.test_a is not None and config.test_b is not None))


def _scale(scores: Scores, direction: Literal["a2b", "b2a"]) -> dict[str, float] | None:
    """KID between its baselines, to be drawn."""
    kid = scores.directions[direction].metrics.get("kid")
    if kid is None or kid.floor is None or kid.ceiling is None:
        return None
    return {"value": kid.value.value, "floor": kid.floor.value, "ceiling": kid.ceiling.value}
