"""Plan which file is translated into which."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cyclegan.errors import InputError
from cyclegan.images.file_formats import can_hold, file_format_of, image_suffixes, is_image_name
from cyclegan.images.file_list import FileList
from cyclegan.system.arguments import real_path
from cyclegan.translate.output_names import find_files, mirror
from cyclegan.translate.translator import Translator


class TranslationPlan(Sequence[tuple[Path, Path]]):
    """Pairs of a source and a target file, in order. A slice is a TranslationPlan."""

    def __init__(self, sources: FileList, targets: FileList) -> None:
        self.sources, self.targets = sources, targets

    @classmethod
    def of(cls, pairs: Sequence[tuple[Path, Path]]) -> "TranslationPlan":
        """A plan of a few files."""
        sources, targets = ([str(pair[i]) for pair in pairs] for i in (0, 1))
        return cls(FileList(Path(), sources), FileList(Path(), targets))

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> tuple[Path, Path]: ...
    @overload
    def __getitem__(self, index: slice) -> "TranslationPlan": ...
    def __getitem__(self, index: int | slice) -> "tuple[Path, Path] | TranslationPlan":
        if isinstance(index, slice):
            return TranslationPlan(self.sources[index], self.targets[index])
        return self.sources[index], self.targets[index]

    def take(self, indices: NDArray[np.integer]) -> "TranslationPlan":
        """The pairs at these indices."""
        return TranslationPlan(self.sources.take(indices), self.targets.take(indices))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[tuple[Path, Path]]:
        return zip(self.sources, self.targets, strict=True)


def plan_outputs(inputs: Iterable[Path], out: Path, translator: Translator) -> TranslationPlan:
    """A plan of image files and of folders, which are mirrored below `out`.

    A file keeps its name; its suffix changes only where that format cannot hold the result (to PNG, else TIFF). If
    `out` has the name of an image, the one input is written to that file.
    Raises InputError if an input is missing, holds no image, or would be overwritten.
    """
    inputs = [Path(path) for path in inputs]
    if is_image_name(out) and not out.is_dir():
        for path in inputs:
            if not path.exists():
                raise InputError(f"There is no file or folder {path}.")
        if len(inputs) != 1 or not inputs[0].is_file() or not is_image_name(inputs[0]):
            raise InputError(f"--out {out} is one image, and the input is not one image file; give a folder as --out.")
        if real_path(out) == real_path(inputs[0]):
            raise InputError(f"{out} would be overwritten by its own translation; choose another --out.")
        if image_suffix(out.suffix, translator) != out.suffix:
            suffix = image_suffix(out.suffix, translator)
            raise InputError(f"--out {out}: that format cannot hold {translator.target}; use {suffix} instead.")
        return TranslationPlan.of([(inputs[0], out)])
    for path in inputs:
        if path.is_dir() and not find_files(path, out, image_suffixes()):
            raise InputError(f"{path} holds no images.")
    return TranslationPlan(*mirror(inputs, out, image_suffixes(), lambda suffix: image_suffix(suffix, translator)))


def image_suffix(suffix: str, translator: Translator) -> str:
    """The suffix of a translated image: its own, or another where that format cannot hold the result: .ome.tif for a
    slide, else .png or .tif.
    """
    target, written_as = translator.target, file_format_of(f"x{suffix}").written_as
    return next(s for s in (suffix, written_as or ".png", ".png", ".tif") if can_hold(s, target.channels, target.dtype))


def sequences(plan: Iterable[tuple[Path, Path]]) -> list[list[tuple[Path, Path]]]:
    """Split a plan into sequences of frames: one for each folder, in the natural order of names, 2 before 10."""
    folders: dict[Path, list[tuple[Path, Path]]] = {}
    for source, target in plan:
        folders.setdefault(real_path(source.parent), []).append((source, target))
    return [sorted(files, key=lambda item: _natural_key(item[0].name)) for files in folders.values()]


def _natural_key(name: str) -> tuple[list[tuple[str, int]], str]:
    """Letters compare as letters and numbers as numbers; the name itself decides between x1 and x01."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)], name
