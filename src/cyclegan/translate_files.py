"""Translate files: which file becomes which, and the work itself."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from cyclegan.config import InputError
from cyclegan.images import (
    EXTENSIONS,
    Array,
    UnreadableError,
    can_hold,
    cast,
    list_files,
    read_as,
    resize,
    scale,
    write_image,
)
from cyclegan.stabilise import MEMORY_FRAMES
from cyclegan.translate import Translator


def plan_outputs(inputs: Iterable[Path], out: Path, translator: Translator) -> list[tuple[Path, Path]]:
    """Which file becomes which: files go into `out`, folders are mirrored below it.

    A file keeps its name. Its suffix changes only where that format cannot hold the result (PNG, else TIFF). Where
    `out` has the name of an image, the one input becomes that file.
    Raises InputError if an input is missing, holds no image, or would be overwritten.
    """
    inputs = [Path(path) for path in inputs]
    if out.suffix.lower() in EXTENSIONS and not out.is_dir():
        for path in inputs:
            if not path.exists():
                raise InputError(f"There is no file or folder {path}.")
        if len(inputs) != 1 or not inputs[0].is_file() or inputs[0].suffix.lower() not in EXTENSIONS:
            raise InputError(f"--out {out} is one image, and the input is not one image file; give a folder as --out.")
        if out.resolve() == inputs[0].resolve():
            raise InputError(f"{out} would be overwritten by its own translation; choose another --out.")
        if image_suffix(out.suffix, translator) != out.suffix:
            suffix = image_suffix(out.suffix, translator)
            raise InputError(f"--out {out}: that format cannot hold {translator.target}; use {suffix} instead.")
        return [(inputs[0], out)]
    for path in inputs:
        if path.is_dir() and not find_files(path, out, EXTENSIONS):
            raise InputError(f"{path} holds no images.")
    return mirror(inputs, out, EXTENSIONS, lambda suffix: image_suffix(suffix, translator))


def image_suffix(suffix: str, translator: Translator) -> str:
    """The suffix of a translated image: its own, or .png or .tif where that format cannot hold the result."""
    target = translator.target
    return next(s for s in (suffix, ".png", ".tif") if can_hold(s, target.channels, target.dtype))


def find_files(folder: Path, out: Path, extensions: tuple[str, ...]) -> list[Path]:
    """Input files of these kinds below a folder. What an earlier call wrote into an `out` below it is not input."""
    place = out.resolve()
    return [
        path
        for path in list_files(folder, extensions)
        if place == folder.resolve() or place not in path.resolve().parents
    ]


def mirror(
    inputs: list[Path], out: Path, extensions: tuple[str, ...], suffix_of: Callable[[str], str]
) -> list[tuple[Path, Path]]:
    """Which file becomes which: all files of `inputs`, and those of these kinds in its folders.

    suffix_of: the suffix of an input -> that of its output. Raises InputError if an input is missing or would be
    overwritten. No two outputs have one name.
    """
    sources: list[tuple[Path, Path]] = []
    prefixes = _prefixes([path for path in inputs if path.is_dir()])
    for path in inputs:
        if path.is_dir():
            found = find_files(path, out, extensions)
            sources += [(file, prefixes[path] / file.relative_to(path)) for file in found]
        elif path.is_file():
            sources.append((path, Path(path.name)))
        else:
            raise InputError(f"There is no file or folder {path}.")

    plan: list[tuple[Path, Path]] = []
    taken: set[Path] = {source.resolve() for source, _ in sources}
    # What can keep its whole name has a right to it.
    kept = {(out / relative).resolve() for _, relative in sources if suffix_of(relative.suffix) == relative.suffix}
    for source, relative in sources:
        candidates = (out / name for name in _names(relative, suffix_of(relative.suffix)))
        target = next(
            candidate
            for candidate in candidates
            if candidate.resolve() not in taken and (candidate == out / relative or candidate.resolve() not in kept)
        )
        if (out / relative).resolve() == source.resolve():
            raise InputError(f"{source} would be overwritten; choose an --out other than the folder of the inputs.")
        taken.add(target.resolve())
        plan.append((source, target))
    return plan


def _prefixes(folders: list[Path]) -> dict[Path, Path]:
    """Where each folder is mirrored: a single one in place, several under their own names, numbered if equal."""
    if len(folders) < 2:
        return {folder: Path() for folder in folders}
    prefixes: dict[Path, Path] = {}
    for folder in folders:
        name, number = folder.resolve().name or "root", 2
        prefix = Path(name)
        while prefix in prefixes.values():
            prefix = Path(f"{name}_{number}")
            number += 1
        prefixes[folder] = prefix
    return prefixes


def _names(relative: Path, suffix: str) -> Iterator[Path]:
    """Names for an output, the wanted one first, then ones that no other output has."""
    yield relative.with_suffix(suffix)
    yield relative.with_name(relative.name + suffix)
    number = 2
    while True:
        yield relative.with_name(f"{relative.stem}_{number}{suffix}")
        number += 1


def sequences(plan: list[tuple[Path, Path]]) -> list[list[tuple[Path, Path]]]:
    """A plan cut into sequences of frames: each folder is one, in the natural order of names, 2 before 10."""
    folders: dict[Path, list[tuple[Path, Path]]] = {}
    for source, target in plan:
        folders.setdefault(source.parent.resolve(), []).append((source, target))
    return [sorted(files, key=lambda item: _natural_key(item[0].name)) for files in folders.values()]


def _natural_key(name: str) -> tuple[list[tuple[str, int]], str]:
    """Letters compare as letters and numbers as numbers; the name itself decides between x1 and x01."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)], name


def translate_files(
    translator: Translator,
    plan: list[tuple[Path, Path]],
    *,
    batch_size: int = 1,
    short_side: int | None = None,
    scale_width: int | None = None,
    stabilise: bool = False,
    memory_frames: float = MEMORY_FRAMES,
    on_done: Callable[[Path], None] = lambda _: None,
) -> list[tuple[Path, str]]:
    """Translate and write every file of a plan. Returns the files that could not be read, and why.

    short_side: pixels to which the shorter side is brought for the network; the result has the input's size again.
    scale_width: the same for the width. Raises InputError if both are given.
    stabilise: each folder is a sequence of frames (see `sequences`), and flicker is reduced as in `cyclegan.stabilise`;
    memory_frames: its time constant.
    """
    failed: list[tuple[Path, str]] = []
    written: list[tuple[Path, Path, tuple[int, int]]] = []

    def arrays(part: list[tuple[Path, Path]]) -> Iterator[Array]:
        for source, target in part:
            try:
                array = read_as(source, translator.source, translator.target)
            except (InputError, UnreadableError) as error:
                failed.append((source, str(error)))
                on_done(source)
                continue
            written.append((source, target, array.shape[:2]))
            yield scale(array, short_side=short_side, width=scale_width)

    results = (
        result
        for part in (sequences(plan) if stabilise else [plan])
        for result in translator.translate(
            arrays(part), batch_size=batch_size, stabilise=stabilise, memory_frames=memory_frames
        )
    )
    for count, result in enumerate(results):
        source, target, (height, width) = written.pop(0)
        try:
            array = resize(np.asarray(result), height, width)
            if array.dtype.kind == "f":  # bicubic resizing overshoots at edges
                array = array.clip(translator.target.low, translator.target.high)
            write_image(target, cast(array, translator.target.dtype))
        except OSError as error:
            raise InputError(
                f"{target} could not be written: {error.strerror or error}. {count} images are done and kept."
            ) from error
        on_done(source)
    return failed
