"""Inspections of folders that the Data page has asked for: in a thread, one at a time, with progress, and cancelled."""

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cyclegan.errors import CycleganError, InputError, reason_of
from cyclegan.images.file_list import evenly_spaced
from cyclegan.inspection import Inspection, inspect_folders
from cyclegan.inspection.survey import FolderReport
from cyclegan.inspection.view import describe_copy, table_of, thumbnail, title_of
from cyclegan.studio.run_folder import shrunk

# Inspections that are kept, pictures of a folder, pairs of copies and names of files that are shown.
_KEPT, _MOST_PICTURES, _MOST_PAIRS, _MOST_NAMES = 4, 32, 24, 50

# Side of small pictures, in pixels.
SIDE = 224


class _CancelledError(Exception):
    """Ends an inspection from inside."""


@dataclass
class Job:
    """One inspection. state: how it is. problem: why it failed."""

    a: Path
    b: Path | None
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: Literal["running", "done", "failed", "cancelled"] = "running"
    problem: str = ""
    task: str = "Looking for images"
    done: int = 0
    total: int = 0
    found: Inspection | None = None
    is_cancelled: bool = False

    def run(self) -> None:
        """Inspect the folders."""
        try:
            self.found = inspect_folders(self.a, self.b, quiet=True, on_progress=self._progress)
            self.state = "done"
        except _CancelledError:
            self.state = "cancelled"
        except (CycleganError, OSError) as error:
            self.state, self.problem = "failed", str(error) if isinstance(error, CycleganError) else reason_of(error)
        except Exception as error:  # the page must not wait for ever
            self.state, self.problem = "failed", f"The inspection failed: {type(error).__name__}: {error}"

    def _progress(self, task: str, done: int, total: int) -> None:
        if self.is_cancelled:
            raise _CancelledError
        self.task, self.done, self.total = task, done, total

    def describe(self) -> dict[str, Any]:
        """The state, and the results once they are there."""
        shown: dict[str, Any] = {
            name: getattr(self, name) for name in ("id", "state", "problem", "task", "done", "total")
        }
        return shown | ({} if self.found is None else {"result": _describe(self.found)})

    def picture(self, folder: int, file: int) -> bytes | None:
        """A small picture of a file by its number, or None."""
        folders = list(self.found.folders.values()) if self.found is not None else []
        if folder >= len(folders) or file >= len(folders[folder].files):
            return None
        return shrunk(thumbnail(folders[folder], folders[folder].files[file], SIDE), SIDE)


class Jobs:
    """The newest inspections."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, a: Path, b: Path | None) -> Job:
        """Start an inspection. Raises InputError while another one runs."""
        with self._lock:
            if any(job.state == "running" for job in self._jobs.values()):
                raise InputError("An inspection is running; wait for it, or cancel it.")
            job = Job(a, b)
            for old in list(self._jobs)[: max(0, len(self._jobs) + 1 - _KEPT)]:
                del self._jobs[old]
            self._jobs[job.id] = job
            # A daemon, because an inspection need not outlive the studio.
            threading.Thread(target=job.run, name="inspection", daemon=True).start()
            return job

    def get(self, name: str) -> Job | None:
        """The inspection of this id, or None."""
        return self._jobs.get(name)


def _describe(found: Inspection) -> dict[str, Any]:
    folders = found.folders
    places = {name: index for index, name in enumerate(folders)}
    distance = found.distance
    return {
        "folders": [_describe_folder(name, folder) for name, folder in folders.items()],
        "facts": list(table_of(folders)),
        "advice": [{"text": advice.text, "problem": advice.problem} for advice in found.advice],
        "copies": [
            {
                "title": title_of(copies),
                "counts": copies.counts,
                "total": len(copies.copies),
                "pairs": list(_pairs(copies, folders, places)),
            }
            for copies in found.copies
            if copies.copies
        ],
        "distance": None if distance is None else [distance.value, distance.half_a, distance.half_b],
        "suggestions": _suggest(folders),
    }


def _describe_folder(name: str, folder: FolderReport) -> dict[str, Any]:
    return {
        "name": name,
        "root": str(folder.root),
        "num_images": len(folder),
        "pictures": evenly_spaced(range(len(folder)), _MOST_PICTURES),
        "unreadable": [[str(file), reason] for file, reason in folder.unreadable[:_MOST_NAMES]],
        "num_unreadable": len(folder.unreadable),
        "brightness": [round(share, 4) for share in folder.colour.brightness_histogram],
        "saturation": [round(share, 4) for share in folder.colour.saturation_histogram],
    }


def _pairs(copies: Any, folders: dict[str, FolderReport], places: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Copies beside their originals, near ones first: exact ones need no look."""
    number = {
        name: {file: index for index, file in enumerate(folders[name].files)} for name in {copies.folder, copies.of}
    }
    for copy in sorted(copies.copies, key=lambda copy: copy.exact)[:_MOST_PAIRS]:
        yield {
            "text": describe_copy(copy),
            "exact": copy.exact,
            "one": [places[copies.folder], number[copies.folder][copy.file]],
            "other": [places[copies.of], number[copies.of][copy.of]],
        }


def _suggest(folders: dict[str, FolderReport]) -> dict[str, int]:
    """Settings of a training that follow from the folders: the crop, and channels of images that are no pictures."""
    domains = {name: folders[name] for name in ("A", "B") if name in folders}
    side = min(folder.short_side for folder in domains.values())
    found = {"crop_size": min(256, max(32, side // 32 * 32))}
    for name, folder in domains.items():
        if len(folder.deep_channels) == 1 and sum(folder.deep_channels.values()) == len(folder):
            (channels,) = folder.deep_channels
            if channels != 3:
                found[f"channels_{name.lower()}"] = channels
    return found
