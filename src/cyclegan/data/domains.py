"""The folders of a dataset: find them below one root, and check them."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.file_list import list_images
from cyclegan.images.identical import file_bytes
from cyclegan.images.pages import is_folder, no_folder, only_folder, open_file
from cyclegan.system.arguments import real_path

# Names of the four folders below one root, in the order of preference.
_LAYOUTS = (("trainA", "trainB", "testA", "testB"), ("train/A", "train/B", "test/A", "test/B"), ("A", "B", "", ""))


@dataclass(frozen=True)
class Folders:
    """The folders of a run's images; the test folders are optional."""

    a: Path
    b: Path
    test_a: Path | None = None
    test_b: Path | None = None


def find_folders(a: Path, b: Path | None = None, test_a: Path | None = None, test_b: Path | None = None) -> Folders:
    """Resolve two folders, or one root that holds trainA and trainB (or train/A and train/B, or A and B).

    Raises InputError if a folder is missing, or if the two are the same, nested, or hold the same images.
    """
    for folder in (a, b):
        if folder is not None and not is_folder(folder):
            raise no_folder(folder, "a folder of images, or a zip of them")
    if b is None:
        root = _root_of(a)
        if root is None:
            raise InputError(f"{a} holds neither trainA and trainB nor train/A and train/B; give two folders, A and B.")
        a, layout = root
        train_a, train_b, found_a, found_b = (a / name if name and is_folder(a / name) else None for name in layout)
        assert train_a is not None
        assert train_b is not None
        folders = Folders(train_a, train_b, test_a or found_a, test_b or found_b)
    else:
        folders = Folders(a, b, test_a, test_b)

    real_a, real_b = real_path(folders.a), real_path(folders.b)
    if real_a == real_b:
        raise InputError(f"Both domains are the folder {a}; a translator needs two different ones.")
    if real_a in real_b.parents or real_b in real_a.parents:
        raise InputError(f"{folders.a} and {folders.b} lie one inside the other, so the domains would share images.")
    for test in (folders.test_a, folders.test_b):
        if test is not None and not is_folder(test):
            raise no_folder(test, "a folder of test images")
    if _same_contents(folders.a, folders.b):
        raise InputError(f"{folders.a} and {folders.b} hold the same images; a translator needs two different domains.")
    return folders


def holds_domains(root: Path) -> bool:
    """Whether `find_folders` finds both domains below this folder."""
    return _root_of(root) is not None


def _root_of(root: Path) -> tuple[Path, tuple[str, str, str, str]] | None:
    """The folder that holds both domains, and the names of the four folders below it; None if there is none.

    It is this one, or in a zip the only folder at its top.
    """
    roots = (root, *(() if root.is_dir() or not is_folder(root) else only_folder(root)))
    return next(
        (
            (place, layout)
            for place in roots
            for layout in _LAYOUTS
            if is_folder(place / layout[0]) and is_folder(place / layout[1])
        ),
        None,
    )


def _same_contents(a: Path, b: Path) -> bool:
    files_a, files_b = list_images(a), list_images(b)
    if not files_a or len(files_a) != len(files_b):
        return False
    # Sizes first: most folders differ in their first file.
    if any(file_bytes(one) != file_bytes(other) for one, other in zip(files_a, files_b, strict=True)):
        return False
    return all(_content(one) == _content(other) is not None for one, other in zip(files_a, files_b, strict=True))


def _content(path: Path) -> bytes | None:
    """The bytes of a file, or None if it cannot be read."""
    with suppress(OSError, UnreadableError), open_file(path) as file:
        return file.read()
    return None
