"""Unpack an untrusted zip of image folders, after checking all its entries."""

import re
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cyclegan.datasets.fetching import check_room, show_bytes
from cyclegan.errors import ArchiveError
from cyclegan.images.file_formats import image_suffixes
from cyclegan.system.messages import Messages
from cyclegan.system.progress import show_progress

FOLDERS = tuple(f"{role}{domain}" for role in ("train", "val", "test") for domain in "AB")

# Limits of an unpacked archive. Images hardly shrink in a zip; plain label maps in BMP may, to about a tenth.
_MOST_FILES = 200_000
_MOST_BYTES = 16 << 30
_MOST_RATIO = 40
# A small archive may hold a few images of one colour, which compress better and are harmless.
_FREE_BYTES = 16 << 20


@dataclass(frozen=True)
class Unpacked:
    """num_images: by folder. left_out: names of entries that are not images of these folders."""

    num_images: dict[str, int]
    left_out: tuple[str, ...]


def unpack(archive: Path, out: Path, *, name: str, messages: Messages) -> Unpacked:
    """Unpack the images of trainA, trainB, valA, ... of a zip into the new folder `out`. name: for messages.

    The folders lie at the top of the zip, or together in one folder. Other entries are left out, and returned.
    Raises ArchiveError for a damaged zip, names that lead outside or collide, links, encrypted entries, more bytes than
    images can have in such a zip, and if there are no such images; InputError if the disk has not enough room. After an
    error there is no `out`.
    """
    shutil.rmtree(out, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted, left_out = _choose(opened.infolist(), archive.stat().st_size)
            total = sum(entry.file_size for entry in wanted.values())
            check_room(archive.parent, total, f"the images of {name} take {show_bytes(total)}")
            _write(opened, wanted, out, name, messages)
    except BaseException as error:
        shutil.rmtree(out, ignore_errors=True)
        # zipfile and zlib have many errors for damage.
        if isinstance(error, ArchiveError):
            raise ArchiveError(f"{name} cannot be unpacked: {error} It was removed.") from None
        if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError | NotImplementedError | RuntimeError):
            raise ArchiveError(f"{name} cannot be unpacked: it is damaged ({error}). It was removed.") from None
        raise
    counts = {folder: sum(path.parts[0] == folder for path in wanted) for folder in FOLDERS}
    return Unpacked({folder: count for folder, count in counts.items() if count}, tuple(left_out))


def _choose(
    entries: list[zipfile.ZipInfo], archive_bytes: int
) -> tuple[dict[PurePosixPath, zipfile.ZipInfo], list[str]]:
    """The entries to unpack, by their path in the dataset, and the names of the others."""
    if len(entries) > _MOST_FILES:
        raise ArchiveError(f"it has {len(entries):,} files; at most {_MOST_FILES:,} are expected.")
    wanted: dict[PurePosixPath, zipfile.ZipInfo] = {}
    left_out: list[str] = []
    taken: set[str] = set()
    tops: set[str] = set()
    for entry in entries:
        _check_entry(entry)
        if entry.is_dir():
            continue
        parts = PurePosixPath(entry.filename).parts
        top, parts = ("", parts) if parts[0] in FOLDERS else (parts[0], parts[1:])
        if len(parts) < 2 or parts[0] not in FOLDERS or not _is_image(parts):
            left_out.append(entry.filename)
            continue
        path = PurePosixPath(*parts)
        # Some file systems treat x.jpg and X.JPG, or two spellings of an accent, as one file.
        spelling = unicodedata.normalize("NFC", str(path)).casefold()
        if spelling in taken:
            raise ArchiveError(f"two files in it have the name {str(path)!r}.")
        taken.add(spelling)
        tops.add(top)
        wanted[path] = entry
    if len(tops) > 1:
        raise ArchiveError(f"it holds several datasets ({', '.join(sorted(tops)[:4])}).")
    if not wanted:
        raise ArchiveError(f"none of the folders {', '.join(FOLDERS)} with images is in it.")
    if both := next((str(folder) for path in wanted for folder in path.parents if folder in wanted), None):
        raise ArchiveError(f"{both!r} is both a file and a folder in it.")
    total = sum(entry.file_size for entry in wanted.values())
    if total > _MOST_BYTES or total > max(_MOST_RATIO * archive_bytes, _FREE_BYTES):
        raise ArchiveError(f"its {show_bytes(archive_bytes)} would become {show_bytes(total)}, more than images can.")
    return wanted, left_out


def _check_entry(entry: zipfile.ZipInfo) -> None:
    # The name in the file; zipfile cuts it at a zero byte.
    name = entry.orig_filename
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        raise ArchiveError(f"the name {name!r} in it leads out of the dataset.")
    if "\\" in name or re.search(r"[\x00-\x1f]", name) or not PurePosixPath(name).parts:
        raise ArchiveError(f"the name {name!r} in it is not a valid file name.")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"{name!r} in it is a link or a device.")
    if entry.flag_bits & 0x1:
        raise ArchiveError(f"{name!r} in it is encrypted.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"{name!r} in it has an unsupported compression.")


def _is_image(parts: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and PurePosixPath(parts[-1]).suffix.lower() in image_suffixes()


def _write(
    opened: zipfile.ZipFile, wanted: dict[PurePosixPath, zipfile.ZipInfo], out: Path, name: str, messages: Messages
) -> None:
    done = 0
    with show_progress(
        messages.console, lambda: done / len(wanted), lambda: f"unpacking {name}: {done} of {len(wanted)} images"
    ) as tick:
        for path, entry in wanted.items():
            target = out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                for chunk in _chunks(opened, entry):
                    file.write(chunk)
            done += 1
            tick()


def _chunks(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """The bytes of an entry. Raises ArchiveError if they are more or fewer than it declares."""
    left = entry.file_size
    with opened.open(entry) as file:  # checks the CRC at the end
        while chunk := file.read(1 << 18):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise ArchiveError(f"{entry.filename!r} in it has more or fewer bytes than it declares.")
