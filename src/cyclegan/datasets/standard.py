"""Download, check and unpack the datasets of the CycleGAN authors."""

import json
import os
from pathlib import Path

from cyclegan.datasets.archives import unpack
from cyclegan.datasets.catalogue import HOME, STANDARD, Dataset, Pretrained
from cyclegan.datasets.fetching import Patience, Received, check_mirror, fetch, show_bytes, workplace
from cyclegan.errors import ArchiveError
from cyclegan.system.atomic import check_free
from cyclegan.system.messages import Messages


def download_dataset(name: str, out: Path, *, mirror: str | None = None, patience: Patience | None = None) -> Path:
    """Download the dataset `name` of STANDARD into the folder `out`, with about.json. Returns `out`.

    A dataset that is there already stays as it is. mirror: see `address`.
    Raises DownloadError, ArchiveError or InputError; `out` is then unchanged.
    """
    entry, out, messages = STANDARD[name], Path(out), Messages("datasets")
    if _is_there(out, name):
        messages.info(f"{name} is in {out} already (see its about.json); remove the folder to get it again.")
        return out
    check_free(out)
    url = address(entry, mirror)
    with workplace(out, messages) as work:
        announce(entry, url, messages)
        # Images hardly shrink in a zip, so the disk holds them twice for a while.
        received = fetch(
            url,
            work,
            begins=(b"PK\x03\x04",),
            num_bytes=entry.num_bytes,
            sha256=entry.sha256,
            room=2.0,
            patience=patience,
            messages=messages,
        )
        print_checksum(entry, received, messages)
        try:
            found = unpack(received.path, work / "images", name=f"{name}.zip", messages=messages)
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
        (work / "images" / "about.json").write_text(json.dumps(about, indent=2) + "\n")
        if out.exists():
            out.rmdir()
        (work / "images").rename(out)
        received.path.unlink()
    counts = ", ".join(f"{count:,} in {folder}" for folder, count in found.num_images.items())
    messages.info(f"Images: {counts}.")
    if found.left_out:
        messages.info(f"Left out, as they are not images of these folders: {_some(found.left_out)}.")
    messages.info(f"Source: {entry.source}.")
    return out


def address(entry: Dataset | Pretrained, mirror: str | None = None) -> str:
    """The address of an entry: at `mirror`, else at the environment variable CYCLEGAN_MIRROR, else at the authors'.

    Raises InputError if the mirror is no http or https address.
    """
    mirror = mirror or os.environ.get("CYCLEGAN_MIRROR")
    return f"{check_mirror(mirror) if mirror else HOME}/{entry.place}"


def announce(entry: Dataset | Pretrained, url: str, messages: Messages) -> None:
    size = f", {show_bytes(entry.num_bytes)}" if entry.num_bytes else ""
    joint = "and" if isinstance(entry, Dataset) else "->"
    messages.info(f"{entry.name}: {entry.a} {joint} {entry.b}, from {url}{size}")


def print_checksum(entry: Dataset | Pretrained, received: Received, messages: Messages) -> None:
    if entry.sha256:
        messages.info(f"{show_bytes(received.num_bytes)}, SHA-256 as expected.")
    else:
        messages.info(
            f"{show_bytes(received.num_bytes)}, SHA-256 {received.sha256} (none is known to compare it with)."
        )


def _is_there(out: Path, name: str) -> bool:
    try:
        about = json.loads((out / "about.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("name") == name


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name) for name in names[:3]) + more
