"""Mirror inputs into an output folder under names that collide neither with each other nor with an input."""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from cyclegan.errors import InputError
from cyclegan.images.file_list import FileList, without_slide_parts
from cyclegan.images.pages import is_folder, is_zip
from cyclegan.system.arguments import real_path
from cyclegan.translate.inputs import RealPaths, Unusable, check_there, find_files, slashed


def mirror(
    inputs: Sequence[Path | FileList],
    out: Path,
    suffixes: tuple[str, ...],
    suffix_of: Callable[[str], str],
    keeps_suffix: Callable[[str], bool] = lambda _: False,
) -> tuple[FileList, FileList]:
    """Sources and targets: all files of `inputs`, and those with these suffixes in its folders, mirrored into `out`.

    Files of a FileList are mirrored below its root.
    A zip counts as a folder; `left_out` of the sources counts the other files in folders.
    suffix_of: an input -> the suffix of its output. keeps_suffix: whether an input is an exception, whose output has
    its own suffix, asked only where `suffix_of` changes it. No two outputs have the same name. Raises InputError if an
    input is missing or would be overwritten.
    """
    found = _find(inputs, out, suffixes)
    left_out = sum((Counter(listed.left_out) for *_, listed in found), Counter[str]())

    def files() -> Iterator[tuple[str, str]]:
        for folder, prefix, names in found:
            for name in names.names():
                yield folder + name, prefix + name

    real_path, out_prefix, is_exception = RealPaths(), slashed(out), cache(keeps_suffix)

    def keeps_name(source: str, relative: str) -> bool:
        suffix = os.path.splitext(relative)[1]  # noqa: PTH122
        return suffix_of(source) == suffix or is_exception(source)

    target_folders: set[str] = set()
    has_renames = False
    for source, relative in files():
        place = real_path(out_prefix + relative)
        if place == real_path(source):
            raise InputError(f"{source} would be overwritten; choose an --out other than the folder of the inputs.")
        target_folders.add(place.rpartition(os.sep)[0])
        has_renames |= not keeps_name(source, relative)
    # Only sources in a folder of targets can be overwritten by a target.
    taken = {place for source, _ in files() if (place := real_path(source)).rpartition(os.sep)[0] in target_folders}
    # Outputs that keep their whole name go first: their places, and whether one has taken it. Files of one folder have
    # different names, so this is needed only where names change, folders are merged, or a link leads elsewhere.
    kept: dict[str, bool] = {}
    if has_renames or taken or len(found) > 1 or not real_path.is_one_to_one():
        kept = {real_path(out_prefix + relative): False for source, relative in files() if keeps_name(source, relative)}

    sources, targets = bytearray(), bytearray()
    for source, relative in files():
        target = relative
        if kept or has_renames:
            place = real_path(out_prefix + relative)
            is_kept = keeps_name(source, relative)
            if is_kept and not kept[place] and place not in taken:
                kept[place] = True
            else:
                suffix = Path(relative).suffix
                names = _names(Path(relative), suffix if is_kept else suffix_of(source))
                target, place = next(
                    (name.as_posix(), place)
                    for name in names
                    if (place := real_path(out_prefix + name.as_posix())) not in taken and place not in kept
                )
                taken.add(place)
        sources += os.fsencode(source) + b"\0"
        targets += os.fsencode(target) + b"\0"
    return FileList(Path(), bytes(sources), left_out=dict(left_out.most_common())), FileList(out, bytes(targets))


def _find(inputs: Sequence[Path | FileList], out: Path, suffixes: tuple[str, ...]) -> list[tuple[str, str, FileList]]:
    """For each input its folder, the prefix of its results below `out`, and its files."""
    # Strings instead of paths: there may be a million.
    found: list[tuple[str, str, FileList]] = []
    # Results lie in the same places as if all inputs could be used.
    prefixes = _prefixes([folder for path in inputs if (folder := _as_folder(path)) is not None])
    for path in inputs:
        if isinstance(path, FileList):
            found.append((slashed(path.root), "", without_slide_parts(path)))
        elif is_folder(path):
            found.append((slashed(path), prefixes[path], find_files(path, out, suffixes)))
        else:
            check_there(path)
            found.append((slashed(path.parent), "", FileList(path.parent, [path.name])))
    return found


def _as_folder(path: Path | FileList) -> Path | None:
    """The folder or zip that an input is, or would be if it were there."""
    if isinstance(path, Unusable):
        return path.root if path.root.suffix.lower() in ("", ".zip") else None
    return path if isinstance(path, Path) and is_folder(path) else None


def _prefixes(folders: list[Path]) -> dict[Path, str]:
    """Prefix of each folder below `out`: none for a single one; the name for several, numbered if equal."""
    if len(folders) < 2:
        return dict.fromkeys(folders, "")
    prefixes: dict[Path, str] = {}
    for folder in folders:
        name = real_path(folder.with_suffix("") if is_zip(folder) else folder).name or "root"
        numbered = itertools.chain([f"{name}/"], (f"{name}_{number}/" for number in itertools.count(2)))
        prefixes[folder] = next(prefix for prefix in numbered if prefix not in prefixes.values())
    return prefixes


def _names(relative: Path, suffix: str) -> Iterator[Path]:
    """Candidates for the name of an output, the best first."""
    yield relative.with_suffix(suffix)
    yield relative.with_name(relative.name + suffix)
    yield from (relative.with_name(f"{relative.stem}_{number}{suffix}") for number in itertools.count(2))
