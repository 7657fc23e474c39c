"""Tell the name of an output folder from a mistyped name of a file."""

import difflib
import mimetypes
import os
from collections.abc import Collection
from pathlib import Path

from cyclegan.errors import InputError
from cyclegan.images.file_formats import file_format_of, image_suffixes

# Kinds of pictures that Python's table of types lacks, and ends of folders' names that are one letter from a picture's.
_PICTURES = (".psd", ".exr", ".dds", ".xcf", ".raw", ".dng", ".cr2", ".nef", ".arw", ".pdf", ".eps", ".qoi")
_ARRAYS = (".npz", ".h5", ".hdf5", ".mat", ".zip")
_FOLDERS = (".tmp", ".temp", ".test", ".train", ".dir", ".out", ".old", ".new", ".run")


def check_folder_name(out: str | Path, suffixes: Collection[str], flag: str = "--out") -> None:
    """Raises InputError for an output folder whose name looks like that of a file in a format that is not known.

    A folder that is there, and a name that ends with a slash, are folders. suffixes: of all formats.
    """
    text = os.fspath(out)
    suffix = Path(text).suffix.lower()
    if (
        text.endswith(("/", os.sep))
        or Path(text).is_dir()
        or suffix in suffixes
        or not _looks_like_a_file(suffix, suffixes)
    ):
        return
    written = [known for known in suffixes if known not in image_suffixes() or file_format_of(f"x{known}").write]
    nearest = max(written, key=lambda known: _likeness(suffix, known))  # the first of several
    meant = "choose another format, such as .png."
    if _likeness(suffix, nearest) > 0.6:
        meant = f"did you mean {Path(text).with_suffix(nearest)}?"
    raise InputError(
        f"{flag} is {text}, and files {suffix} are not written; {meant} For a folder of that name: {text}/"
    )


def _likeness(a: str, b: str) -> float:
    """From 0 to 1, and more for one typing error."""
    return difflib.SequenceMatcher(None, a, b).ratio() + _is_one_change(a, b)


def _looks_like_a_file(suffix: str, suffixes: Collection[str]) -> bool:
    """Whether a suffix is of a kind of picture, array or clip, or a typing error away from one of these suffixes."""
    if suffix in _PICTURES + _ARRAYS or (mimetypes.guess_type(f"x{suffix}")[0] or "").startswith(("image/", "video/")):
        return True
    return len(suffix) > 3 and suffix not in _FOLDERS and any(_is_one_change(suffix, known) for known in suffixes)


def _is_one_change(a: str, b: str) -> bool:
    """Whether one letter is changed, added or left out, or two neighbours are swapped."""
    if len(a) == len(b):
        differ = [index for index in range(len(a)) if a[index] != b[index]]
        swapped = len(differ) == 2 and differ[1] == differ[0] + 1 and a[differ[0]] == b[differ[1]]
        return len(differ) == 1 or (swapped and a[differ[1]] == b[differ[0]])
    short, long = sorted((a, b), key=len)
    return len(long) - len(short) == 1 and any(long[:index] + long[index + 1 :] == short for index in range(len(long)))
