"""The folders of a dataset: find them below one root, and check them."""

from dataclasses import dataclass
from pathlib import Path

from cyclegan.errors import InputError
from cyclegan.images.file_list import list_images
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
        if folder is not None and not folder.is_dir():
            raise InputError(f"There is no folder {folder}; expected a folder of images.")
    if b is None:
        layout = _layout_of(a)
        if layout is None:
            raise InputError(f"{a} holds neither trainA and trainB nor train/A and train/B; give two folders, A and B.")
        train_a, train_b, found_a, found_b = (a / name if name and (a / name).is_dir() else None for name in layout)
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
        if test is not None and not test.is_dir():
            raise InputError(f"There is no folder {test}; expected test images.")
    if _same_contents(folders.a, folders.b):
        raise InputError(f"{folders.a} and {folders.b} hold the same images; a translator needs two different domains.")
    return folders


def holds_domains(root: Path) -> bool:
    """Whether `find_folders` finds both domains below this folder."""
    return _layout_of(root) is not None


def _layout_of(root: Path) -> tuple[str, str, str, str] | None:
    """The names of the four folders below this one, or None if it does not hold both domains."""
    found = (layout for layout in _LAYOUTS if (root / layout[0]).is_dir() and (root / layout[1]).is_dir())
    return next(found, None)


def _same_contents(a: Path, b: Path) -> bool:
    files_a, files_b = list_images(a), list_images(b)
    if not files_a or len(files_a) != len(files_b):
        return False
    # Sizes first: most folders differ in their first file.
    if any(one.stat().st_size != other.stat().st_size for one, other in zip(files_a, files_b, strict=True)):
        return False
    return all(one.read_bytes() == other.read_bytes() for one, other in zip(files_a, files_b, strict=True))
