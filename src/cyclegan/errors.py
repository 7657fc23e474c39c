"""The errors that `cyclegan` raises.

    CycleganError
    ├── InputError           also a ValueError
    │   └── MissingPackageError
    ├── UnreadableError      also a ValueError
    ├── TrainingError        also a RuntimeError
    ├── DownloadError        also a RuntimeError
    ├── TransferError        also a RuntimeError
    └── ArchiveError         also a RuntimeError

Every message is for the user: it names the value, what was expected and the remedy. A place that cannot be reached or
written raises Python's own OSError, of which ConnectionError is one.
"""

import errno
import re


def reason_of(error: object) -> str:
    """What an error of Python or a library says, without its number and file name; never empty."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def damage_of(error: object) -> str:
    """What an error of a decoder says, on one line, in plain words where the library's own are for programmers."""
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    text = " ".join(str(error).split())
    if text.startswith(("invalid literal for int()", "could not convert string to float")):
        return "its header has text where a number belongs"
    if text.startswith("Unable to decode as exceptions were raised"):
        return "its compressed pixels are damaged, or stored in a way that no installed decoder knows"
    return text or type(error).__name__


def remedy_of(error: object) -> str:
    """What helps against an OSError of a disk, as the end of a sentence; empty for other errors."""
    match getattr(error, "errno", None):
        case errno.ENOSPC | errno.EDQUOT:
            return "make room there, then run the same command again"
        case errno.EFBIG:
            return "raise the limit on the size of files (ulimit -f), then run the same command again"
        case errno.EROFS:
            return "the disk is read-only; choose a place on another"
        case errno.ENAMETOOLONG:
            return "choose a shorter name"
        case errno.EACCES | errno.EPERM:
            return "choose a place that you may use, or change its permissions"
        case errno.EEXIST | errno.ENOTDIR:
            return "a file is in the place of a folder; choose another place"
    return ""


def remedy_sentence(error: object) -> str:
    """`remedy_of` as a sentence of its own after another one; empty for other errors."""
    remedy = remedy_of(error)
    return f" {remedy[:1].upper()}{remedy[1:]}." if remedy else ""


# What nobody reads to its end, such as a path of 5,000 letters.
_LONG_WORD = re.compile(r"\S{500,}")


def brief(message: object) -> str:
    """A message whose words of 500 letters and more lose their middle."""
    return _LONG_WORD.sub(lambda found: f"{found[0][:150]}...{found[0][-50:]}", str(message))


class CycleganError(Exception):
    """Base class of all errors of this package. Its message is one sentence, or a few, of bounded length.

    is_said: whether another process of the same training shows it.
    """

    is_said = False

    def __str__(self) -> str:
        return brief(super().__str__())


class InputError(CycleganError, ValueError):
    """An argument, a setting or a file that cannot be used."""


class MissingPackageError(InputError):
    """A file that needs a package that is not installed. The message has the command that installs it."""


class UnreadableError(CycleganError, ValueError):
    """A file that is damaged or of another kind than its name says. Work on many files skips it and continues."""


class TrainingError(CycleganError, RuntimeError):
    """Training had to stop. The message says why, and which checkpoint is good."""


class DownloadError(CycleganError, RuntimeError):
    """A download that failed for good: no such file, another file, or no answer."""


class TransferError(CycleganError, RuntimeError):
    """A single request that failed and is worth another try. Downloads catch it themselves."""


class ArchiveError(CycleganError, RuntimeError):
    """A zip that is damaged, or that is built to do harm."""
