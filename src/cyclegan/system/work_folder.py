"""Hidden folders beside a target for work that a later call resumes."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cyclegan.errors import InputError
from cyclegan.system.atomic import TEMPORARY, describe_kind, locked

LOCK = "lock"


@dataclass(frozen=True)
class WorkFolder:
    """A folder that holds the files and folders that this program writes in it, and nothing else.

    files, folders: regular expressions of their names, without the lock and the temporary names of `atomic_path`.
    """

    path: Path
    files: str
    folders: str = "(?!)"

    @contextmanager
    def locked(self, message: str) -> Iterator[None]:
        """Make the folder, or take the one of an earlier call, and lock it for this process.

        Raises InputError with `message` if another process holds it, and if this program did not make it.
        """
        self.check()
        with locked(self.path / LOCK, message):
            yield

    def check(self) -> None:
        """Raises InputError if there is a link, a file, or a folder with anything that this program does not write."""
        if not os.path.lexists(self.path):
            return
        remedy = "move it away, or choose another --out."
        if self.path.is_symlink() or not self.path.is_dir():
            raise InputError(
                f"{self.path} is {describe_kind(self.path)}, and expected there is a folder for unfinished work, or "
                f"nothing; {remedy}"
            )
        for path in sorted(self.path.iterdir()):
            if not self._is_own(path):
                link = "the link " if path.is_symlink() else ""
                raise InputError(
                    f"{self.path} holds {link}{path.name}, which this program does not write in its folders for "
                    f"unfinished work, so it leaves the folder as it is; {remedy}"
                )

    def clear(self, *kept: str) -> None:
        """Remove what this program writes, except for the lock and these names. Anything else stays."""
        for path in self.path.iterdir():
            if path.name not in (LOCK, *kept) and self._is_own(path):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def remove(self) -> None:
        """Remove what this program writes and then, if nothing else is left, the folder. Errors are passed over."""
        with suppress(OSError):
            self.clear()
        with suppress(OSError):
            (self.path / LOCK).unlink()
            self.path.rmdir()

    def _is_own(self, path: Path) -> bool:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            return False
        if TEMPORARY.fullmatch(path.name):
            return True
        return re.fullmatch(self.folders if path.is_dir() else f"{LOCK}|{self.files}", path.name) is not None
