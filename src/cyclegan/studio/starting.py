"""Trainings that the Data page describes, and starts if it may."""

import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cyclegan.config import flags_of, make_config
from cyclegan.errors import InputError, reason_of, remedy_sentence
from cyclegan.storage.stop_request import is_training
from cyclegan.studio.folders import OpenFolders
from cyclegan.system.terminal import shell_quote

# Where a training that the studio has started prints; hidden, so that a run begins in an empty folder.
OUTPUT = ".output.txt"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

# Bytes at the end of the output that the page shows.
_TAIL = 4000


class Wish(BaseModel):
    """A training as the page describes it. b: empty if `a` holds both domains."""

    model_config = ConfigDict(extra="forbid")

    a: str = Field(max_length=4096)
    b: str = Field("", max_length=4096)
    name: str = Field(max_length=200)
    preset: str = Field("modern", max_length=100)
    minutes: float | None = Field(None, allow_inf_nan=False)
    epochs: float | None = Field(None, allow_inf_nan=False)
    crop_size: int | None = None
    channels_a: int | None = None
    channels_b: int | None = None
    flip: bool = True

    def words(self, runs_dir: Path, folders: OpenFolders) -> list[str]:
        """The words behind `cyclegan train`. Raises InputError for what cannot be trained."""
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"The name {self.name[:80]!r} cannot be that of a run; use letters, digits, dots, - and _."
            )
        out = runs_dir / self.name
        images = [folders.images(text) for text in ([self.a, self.b] if self.b else [self.a])]
        names = ("crop_size", "minutes", "epochs", "channels_a", "channels_b")
        settings: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        # 30.0 minutes would be right, but nobody writes it.
        settings = {name: int(value) if value == int(value) else value for name, value in settings.items()}
        if not self.flip:
            settings["flip"] = False
        if self.minutes is not None and self.epochs is not None:
            raise InputError("Give one length of the run, minutes or passes, not both.")
        make_config({"a": images[0], "b": images[1] if self.b else None, "out": out, **settings}, preset=self.preset)
        # Folders are whole paths, which begin with a slash and cannot be taken for flags.
        return [*map(str, images), "--out", str(out), "--preset", self.preset, *flags_of(settings)]


def as_command(words: list[str]) -> str:
    """The words as a command to copy into a shell."""
    return " ".join(map(shell_quote, ["cyclegan", "train", *words]))


@dataclass
class _Training:
    name: str
    out: Path
    process: "subprocess.Popen[bytes]"

    def describe(self) -> dict[str, Any]:
        status = self.process.poll()
        has_begun = (self.out / "log.jsonl").is_file()
        state = ("training" if has_begun else "preparing") if status is None else "ended"
        return {
            "name": self.name,
            "state": state,
            "status": status,
            "has_begun": has_begun,
            "output": _tail(self.out / OUTPUT),
        }


@dataclass
class Trainings:
    """Trainings that this studio has started. They are processes of their own and go on when the studio ends."""

    runs_dir: Path
    _started: list[_Training] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, name: str, words: list[str]) -> dict[str, Any]:
        """Start `cyclegan train` with these words. Raises InputError if its folder is taken or cannot be written."""
        out = self.runs_dir / name
        with self._lock:
            self.check_free(name)
            try:
                out.mkdir(parents=True, exist_ok=True)
                with (out / OUTPUT).open("wb") as output:
                    process = subprocess.Popen(
                        [sys.executable, "-m", "cyclegan", "train", *words],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # Ctrl-C in the terminal of the studio is not meant for it
                    )
            except OSError as error:
                raise InputError(
                    f"The training cannot be started in {out}: {reason_of(error)}.{remedy_sentence(error)}"
                ) from error
            threading.Thread(target=process.wait, daemon=True).start()  # so that none stays behind as a zombie
            self._started.append(_Training(name, out, process))
            return self._started[-1].describe()

    def check_free(self, name: str) -> None:
        """Raise InputError if there is something in the place of a new run."""
        out = self.runs_dir / name
        running = any(one.name == name and one.process.poll() is None for one in self._started)
        if running or is_training(out):
            raise InputError(f"{name} is training already; choose another name.")
        if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
            raise InputError(f"There is something named {name} in {self.runs_dir}; choose another name.")

    def describe(self) -> list[dict[str, Any]]:
        """All of them, the newest first, with the end of what they print."""
        return [one.describe() for one in reversed(self._started)]


def _tail(file: Path) -> str:
    try:
        with file.open("rb") as output:
            size = output.seek(0, 2)
            output.seek(max(0, size - _TAIL))
            text = output.read().decode(errors="replace")
    except OSError:
        return ""
    return text if size <= _TAIL else text.partition("\n")[2]
