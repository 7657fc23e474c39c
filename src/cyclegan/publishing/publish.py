"""Publish a model on the Hugging Face Hub: write all files into a folder, show them, upload them in one commit."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from cyclegan.errors import InputError
from cyclegan.publishing.card import card_pictures, card_text
from cyclegan.publishing.facts import Subject, public_scores, read_subject
from cyclegan.publishing.upload import Remote, look_up, upload
from cyclegan.storage.hub import GENERATORS, hub_api
from cyclegan.system.atomic import atomic_path, naming

# Files that a push writes. Those of an earlier push that this one does not write are deleted from the repository.
_OWN = ("README.md", "config.json", "scores.json", *GENERATORS)
_OWN_PICTURES = "samples/"


@dataclass(frozen=True)
class Parcel:
    """What will be uploaded, and where. files: sizes in bytes by path. delete: stale files of an earlier push."""

    address: str
    files: dict[str, int]
    delete: tuple[str, ...]
    remote: Remote | None
    private: bool
    dry_run: bool


def push(
    run: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    message: str | None = None,
    licence: str | None = None,
    data_licence: str | None = None,
    weights: Literal["final", "average"] | None = None,
    samples: bool = True,
    overwrite: bool = False,
    dry_run: str | Path | None = None,
    token: str | None = None,
    show: Callable[[Parcel], None] = lambda _: None,
) -> str:
    """Upload the model of a run, a checkpoint or a model directory to the Hub, with a card. Returns its address.

    private: make a new repository private. licence: its id at the Hub, such as mit. weights: upload only these;
    default: all. samples: show images of the run on the card. overwrite: push into a repository that holds other files,
    which stay unless they have the same name. dry_run: write everything into this new or empty folder and upload
    nothing. show: called with the list of files before the upload.
    Raises InputError for what cannot be uploaded, and ConnectionError if the Hub cannot be reached; the repository is
    then unchanged.
    """
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence):
        raise InputError(f"licence is {licence!r}; expected an id of the Hub, such as mit, apache-2.0 or cc-by-4.0.")
    subject = read_subject(Path(run), repo_id, weights)
    address = f"{hub_api(repo_id, token).endpoint}/{repo_id}"
    remote = None if dry_run is not None else look_up(repo_id, token)
    if remote is not None and remote.foreign and not overwrite:
        raise InputError(
            f"{address} holds other files ({', '.join(remote.foreign[:3])}); choose another name, or pass --overwrite "
            "to add the model to them."
        )
    if remote is not None and private and not remote.private:
        raise InputError(f"{address} exists and is public; make it private in its settings, or choose another name.")
    with _new_folder(dry_run) as folder:
        _fill(folder, subject, licence, data_licence, samples)
        parcel = _parcel(folder, address, remote, private, dry_run=dry_run is not None)
        show(parcel)
        if dry_run is not None:
            return str(dry_run)
        step = f"Model of step {subject.info.step:,}" if subject.info.step else "Model"  # imported ones have none
        message = message or f"{step}, made with cyclegan"
        return upload(folder, repo_id, remote, message=message, delete=parcel.delete, private=private, token=token)


@contextmanager
def _new_folder(dry_run: str | Path | None) -> Iterator[Path]:
    """The folder to fill: that of the dry run, which is written atomically, or a temporary one."""
    if dry_run is None:
        with TemporaryDirectory(prefix="cyclegan-push-") as place, naming(Path(place)):
            yield Path(place)
        return
    out = Path(dry_run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; remove it or choose another folder for the dry run.")
    with atomic_path(out, merge=True) as folder:
        folder.mkdir()
        yield folder


def _fill(folder: Path, subject: Subject, licence: str | None, data_licence: str | None, samples: bool) -> None:
    """Write all files of the repository."""
    pictures = card_pictures(subject) if samples else {}
    for name, picture in pictures.items():
        (folder / name).parent.mkdir(exist_ok=True)
        picture.save(folder / name)
    text = card_text(subject, list(pictures), licence=licence, data_licence=data_licence)
    (folder / "README.md").write_text(text, encoding="utf-8", errors="backslashreplace")
    config = public_config(subject.info.model_dump(mode="json"), subject)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    scores = public_scores(subject)
    if scores is not None:
        scores.write(folder / "scores.json")
    for name in subject.files:
        shutil.copyfile(subject.model / name, folder / name)


def public_config(value: Any, subject: Subject) -> Any:
    """The values of a config.json, with all paths shortened to their last part."""
    if isinstance(value, dict):
        return {key: public_config(item, subject) for key, item in value.items()}
    if isinstance(value, list):
        return [public_config(item, subject) for item in value]
    return subject.clean(value) if isinstance(value, str) else value


def _parcel(folder: Path, address: str, remote: Remote | None, private: bool, *, dry_run: bool) -> Parcel:
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
    }
    # Weights of an earlier model must not stay beside the new ones.
    earlier = remote.files if remote is not None and remote.is_model else ()
    stale = [name for name in earlier if name in _OWN or name.startswith(_OWN_PICTURES)]
    delete = tuple(name for name in stale if name not in files)
    return Parcel(address, files, delete, remote, private if remote is None else remote.private, dry_run)
