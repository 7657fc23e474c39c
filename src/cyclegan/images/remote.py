"""Folders and files of images at addresses that fsspec knows, copied once into a cache folder on this machine."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from platformdirs import user_cache_path
from pydantic import BaseModel

from cyclegan.errors import InputError, MissingPackageError, UnreadableError, reason_of
from cyclegan.images.file_formats import image_suffixes
from cyclegan.images.file_list import FileList, describe_left_out, find_names
from cyclegan.images.pages import sidecar_names
from cyclegan.images.zip_folder import SUFFIX as ZIP_SUFFIX
from cyclegan.system.atomic import atomic_path, write_bytes
from cyclegan.system.json_files import read_json
from cyclegan.system.words import counted

# A scheme of two letters and more, so that C:/ is none. A `Path` has lost one of the two slashes. Before it may stand
# other protocols, each behind ::, such as simplecache::https://host/x.zip.
_ADDRESS = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*::)*)([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)

# Protocols whose paths begin with a slash of their own.
_OF_THIS_MACHINE = ("file", "local")

# Their names and states are one file, which is read back whole.
_MOST_FILES = 100_000

_MANIFEST = "files.json"


class _Manifest(BaseModel):
    """The files of a copy: name -> size and state of the original, by which changes are noticed."""

    address: str
    files: dict[str, str]


def is_address(path: Path | str) -> bool:
    """Whether a path is an address such as s3://bucket/photos, also one that went through `Path`."""
    found = _ADDRESS.fullmatch(str(path))
    return found is not None and not Path(path).exists()


def address_of(path: Path | str) -> str:
    """The address that a path was made from, with both of its slashes."""
    found = _ADDRESS.fullmatch(str(path))
    if found is None:
        raise InputError(f"{path} is no address; expected one such as s3://bucket/photos.")
    before, protocol, rest = found[1].lower(), found[2].lower(), found[3]
    if protocol in _OF_THIS_MACHINE:
        rest = f"/{rest.removeprefix('localhost/')}"
    # A protocol inside of another one has lost its slash, too: zip://x.png::https:/host/y.zip
    first, *others = rest.split("::")
    rest = "::".join([first, *(address_of(other) if is_address(other) else other for other in others)])
    return f"{before}{protocol}://{rest}"


def check_local(name: str, path: Path) -> None:
    """Raises InputError for an address where results are to be written."""
    if is_address(path):
        raise InputError(
            f"{name} is {address_of(path)}; results are written to this machine only: give a folder here, and copy it."
        )


def local_copy(
    path: Path,
    note: Callable[[str], None],
    *,
    suffixes: tuple[str, ...] = (),
    cache: Path | None = None,
) -> Path:
    """The path itself; for an address the copy of its file, or of its folder of images, on this machine.

    Files that are there already and have not changed are not copied again, and those that are gone at the address are
    removed from the copy. note: receives a sentence on what is copied, with its size. suffixes: files of a folder that
    are copied besides images. Raises InputError if there is nothing, a package is missing, or the copy fails.
    """
    if not is_address(path):
        return path
    address = address_of(path)
    _check_no_pattern(address)
    with remote_errors(address):
        system, place = open_address(path)
        is_folder = system.isdir(place) and not _is_file_name(address)
        found, left_out = _find_in(system, place, image_suffixes() + suffixes) if is_folder else _find(system, place)
    if left_out:
        note(f"{address}: {left_out}")
    if not found:
        raise InputError(f"{address} holds no images; expected a folder of images, an image, or a zip.")
    if len(found) > _MOST_FILES:
        raise InputError(f"{address} holds {len(found):,} images; at most {_MOST_FILES:,} are copied.")

    parent = cache or user_cache_path("cyclegan") / "remote"
    folder = parent / hashlib.blake2b(address.encode(), digest_size=8).hexdigest()
    files = folder / _folder_name(address) if is_folder else folder
    states = {name: _state(about) for name, about in found.items()}
    known = _known(folder / _MANIFEST)
    missing = [name for name in found if known.get(name) != states[name] or not (files / name).is_file()]
    for name in known.keys() - found.keys():
        (files / name).unlink(missing_ok=True)
    if missing:
        total = sum(int(found[name].get("size") or 0) for name in missing)
        _check_room(folder, total, address)
        note(f"Copying {counted(len(missing), 'file')} ({total / 1e6:,.1f} MB) from {address} to {files}.")
    with remote_errors(address):
        for name in missing:
            target = files / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as partial:
                system.get_file(found[name]["name"], str(partial))
    if missing or known.keys() != found.keys():
        write_bytes(folder / _MANIFEST, _Manifest(address=address, files=states).model_dump_json().encode())
    return files if is_folder else files / next(iter(found))


def open_address(path: Path | str, **options: Any) -> tuple[Any, str]:
    """The file system of an address, and the place in it. options: of the file system. Errors: see `remote_errors`."""
    from fsspec.core import url_to_fs

    system, place = url_to_fs(address_of(path), **options)
    return system, place


def list_address(path: Path, suffixes: tuple[str, ...] = ()) -> FileList:
    """The images of the folder at an address, and files with these suffixes, or the one file that is there.

    Nothing is copied. `address_of` gives the address of each path of the list. Raises InputError.
    """
    address = address_of(path)
    _check_no_pattern(address)
    if address.lower().endswith(ZIP_SUFFIX):
        raise InputError(f"{address} is a zip, which is read on one machine only; give a folder, or unpack it there.")
    with remote_errors(address):
        system, place = open_address(path, use_listings_cache=False)
        if not system.isdir(place) or _is_file_name(address):
            system.info(place)
            return FileList(path.parent, [path.name])
        start, suffixes = place.rstrip("/") + "/", image_suffixes() + suffixes
        names = (full.removeprefix(start) for full in system.find(place))
        found, left_out = find_names(names, suffixes)
    if not found:
        raise InputError(f"{address} holds no images; expected a folder of images, or an image.")
    return FileList(path, map(_checked, found), left_out=left_out)


def _check_no_pattern(address: str) -> None:
    if "*" in address:
        raise InputError(f"{address} is a pattern, which is for files on this machine; give the folder.")


def places_beside(place: str) -> list[str]:
    """Where files that belong to an image may lie, such as the mask of a GeoTIFF, in the same file system."""
    name, mark, query = place.partition("?")
    return [f"{beside}{mark}{query}" for beside in sidecar_names(name)]


def name_of(place: str) -> str:
    """The name of the file at a place."""
    return _checked(PurePosixPath(place.partition("?")[0]).name)


def _find(system: Any, place: str) -> tuple[dict[str, dict[str, Any]], str]:
    """The name of a file and those of files that belong to it, with what is known of them; the first is the file."""
    found = {place: system.info(place)}
    for beside in places_beside(place):
        with suppress(FileNotFoundError):
            found[beside] = system.info(beside)
    return {name_of(full): {**about, "name": full} for full, about in found.items()}, ""


def _find_in(system: Any, place: str, suffixes: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], str]:
    """Names of files below a folder, relative to it, and what is known of them; and a sentence on what is left out.

    Files with these suffixes, and those that belong to them.
    """
    start = place.rstrip("/") + "/"
    listed = system.find(place, detail=True)
    all_files = {full.removeprefix(start): {**about, "name": full} for full, about in listed.items()}
    names, left_out = find_names(all_files, suffixes)
    beside = (name for image in names for name in sidecar_names(image) if name in all_files)
    return {_checked(name): all_files[name] for name in (*names, *beside)}, describe_left_out(left_out)


def _checked(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise InputError(f"The name {name!r} at this address is no file name that can be copied.")
    return name


def _is_file_name(address: str) -> bool:
    """Whether an address has the name of an image or a zip: a web server lists pages as folders."""
    inside = address.partition("::")[0] if "://" in address.partition("::")[0] else address
    return inside.partition("?")[0].lower().endswith((*image_suffixes(), ZIP_SUFFIX))


def _folder_name(address: str) -> str:
    name = address.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "images"


def _state(about: dict[str, Any]) -> str:
    """What changes with the content of a file, as far as the place says."""
    keys = ("size", "ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated", "created")
    return "/".join(str(about[key]) for key in keys if about.get(key) is not None)


def _known(manifest: Path) -> dict[str, str]:
    try:
        return read_json(manifest, _Manifest).files
    except (OSError, InputError, UnreadableError):
        return {}


def _check_room(folder: Path, needed: int, address: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder} has {free / 1e6:,.1f} MB free, and the images of {address} take {needed / 1e6:,.1f} MB; "
            "make room there."
        )


@contextmanager
def remote_errors(address: str) -> Iterator[None]:
    """Turn the errors of fsspec and its protocols into an InputError."""
    try:
        yield
    except InputError:
        raise
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fsspec"):
            raise MissingPackageError(f"{address} needs the package fsspec: pip install 'cyclegan[remote]'.") from None
        raise MissingPackageError(f"{address} needs the package {error.name}: pip install {error.name}.") from None
    except ImportError as error:  # fsspec names the package of a protocol
        install = " pip install requests aiohttp." if "aiohttp" in str(error) else ""
        raise MissingPackageError(f"{address} needs another package: {reason_of(error)}.{install}") from None
    except FileNotFoundError:
        raise InputError(f"There is nothing at {address}.") from None
    except Exception as error:  # each protocol has its own errors
        raise InputError(f"{address} cannot be read: {type(error).__name__}: {reason_of(error)}.") from None
