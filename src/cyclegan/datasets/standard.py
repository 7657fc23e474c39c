"""Download and check the datasets and pretrained generators of the CycleGAN authors; unpack the datasets."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyclegan.datasets.archives import unpack
from cyclegan.datasets.catalogue import HOME, MODELS, STANDARD, Entry, unknown
from cyclegan.datasets.fetching import Patience, Received, check_mirror, fetch, show_bytes, workplace
from cyclegan.errors import ArchiveError, UnreadableError
from cyclegan.system.atomic import check_free
from cyclegan.system.json_files import read_json
from cyclegan.system.messages import Messages

_ZIP = b"PK\x03\x04"


def download_dataset(name: str, out: Path, *, mirror: str | None = None) -> Path:
    """Download the dataset `name` of STANDARD into the folder `out`, with about.json. Returns `out`.

    An existing dataset is kept as it is. mirror: see `address`.
    Raises DownloadError, ArchiveError or InputError; `out` is then unchanged.
    """
    entry, out, messages = STANDARD[name], Path(out), Messages("datasets")
    if _is_there(out, name):
        messages.info(f"{name} is in {out} already (see its about.json); remove the folder to get it again.")
        return out
    check_free(out)
    # Images hardly shrink in a zip, so the disk holds them twice for a while.
    with _fetched(entry, out, mirror, messages, begins=(_ZIP,), room=2.0) as (url, received):
        images = received.path.with_name("images")
        try:
            found = unpack(received.path, images, name=f"{name}.zip", messages=messages)
        except ArchiveError:
            received.path.unlink()
            raise
        about = {
            "name": name,
            "a": entry.a,
            "b": entry.b,
            "source": entry.source,
            "url": url,
            "bytes": received.num_bytes,
            "sha256": received.sha256,
            "sha256_was_known": entry.sha256 is not None,
            "images": found.num_images,
        }
        (images / "about.json").write_text(json.dumps(about, indent=2) + "\n")
        if out.exists():
            out.rmdir()
        images.rename(out)
        received.path.unlink()
    counts = ", ".join(f"{count:,} in {folder}" for folder, count in found.num_images.items())
    messages.info(f"Images: {counts}.")
    if found.left_out:
        some = ", ".join(repr(name) for name in found.left_out[:3])
        some += f" and {len(found.left_out) - 3} more" if len(found.left_out) > 3 else ""
        messages.info(f"Left out, as they are not images of these folders: {some}.")
    messages.info(f"Source: {entry.source}.")
    return out


@contextmanager
def model_file(name: str, out: Path, *, mirror: str | None = None, patience: Patience | None = None) -> Iterator[Path]:
    """The file NAME.pth of the generator `name` of MODELS, in a hidden folder beside `out`, removed after the block.

    The file has the authors' format and is untrusted: load it with weights_only=True. mirror: see `address`.
    Raises DownloadError if the download fails, InputError for an unknown name or if `out` already exists.
    """
    if name not in MODELS:
        raise unknown(name, tuple(MODELS), "pretrained model")
    # torch.save writes a zip; until 2020 it wrote a pickle of protocol 2.
    begins = (_ZIP, b"\x80\x02")
    fetched = _fetched(MODELS[name], out, mirror, Messages("datasets"), begins=begins, patience=patience)
    with fetched as (_, received):
        yield received.path.rename(received.path.with_name(f"{name}.pth"))


@contextmanager
def _fetched(
    entry: Entry,
    out: Path,
    mirror: str | None,
    messages: Messages,
    *,
    begins: tuple[bytes, ...],
    room: float = 1.0,
    patience: Patience | None = None,
) -> Iterator[tuple[str, Received]]:
    """Download the file of an entry into a hidden folder beside `out`, and yield its address and the checked file."""
    url = address(entry, mirror)
    with workplace(out, entry.name, messages) as work:
        size = f", {show_bytes(entry.num_bytes)}" if entry.num_bytes else ""
        joint = "and" if entry in STANDARD.values() else "->"
        messages.info(f"{entry.name}: {entry.a} {joint} {entry.b}, from {url}{size}")
        received = fetch(
            url,
            work,
            begins=begins,
            num_bytes=entry.num_bytes,
            sha256=entry.sha256,
            room=room,
            patience=patience,
            messages=messages,
        )
        unknown_sum = f"SHA-256 {received.sha256} (none is known to compare it with)"
        checked = "SHA-256 as expected" if entry.sha256 else unknown_sum
        messages.info(f"{show_bytes(received.num_bytes)}, {checked}.")
        yield url, received


def address(entry: Entry, mirror: str | None = None) -> str:
    """The address of an entry: at `mirror`, else at the environment variable CYCLEGAN_MIRROR, else at the authors'.

    Raises InputError if the mirror is no http or https address.
    """
    mirror = mirror or os.environ.get("CYCLEGAN_MIRROR")
    return f"{check_mirror(mirror) if mirror else HOME}/{entry.place}"


def _is_there(out: Path, name: str) -> bool:
    try:
        return bool(read_json(out / "about.json", dict[str, Any]).get("name") == name)
    except UnreadableError:
        return False
