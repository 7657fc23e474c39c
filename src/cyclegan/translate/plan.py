"""Plan which file is translated into which."""

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cyclegan.errors import InputError
from cyclegan.images.file_formats import can_hold, file_format_of, image_suffixes, is_image_name
from cyclegan.images.file_list import FileList, describe_left_out, suffix_of
from cyclegan.images.filetypes.dicom import SUFFIXES as DICOM_SUFFIXES
from cyclegan.images.filetypes.dicom import is_slide
from cyclegan.images.filetypes.slides import SUFFIXES as SLIDE_SUFFIXES
from cyclegan.images.pages import is_file, is_folder, split_page
from cyclegan.images.remote import is_address
from cyclegan.sequences.formats import SequenceFormat
from cyclegan.sequences.registry import SEQUENCE_FORMATS, find_sequence, format_by_name, sequence_suffixes
from cyclegan.system.arguments import real_path
from cyclegan.system.prefetch import prefetch
from cyclegan.translate.inputs import check_there, expand_patterns, find_files, only_path
from cyclegan.translate.output_names import mirror
from cyclegan.translate.translator import Translator

# Files that one thread opens in one go, to see whether they hold several pictures. The threads hide the latency of a
# network drive.
_CHUNK = 256
_THREADS = 8


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

    @property
    def out(self) -> Path:
        """The folder that all targets are below."""
        if self.targets.root != Path() or not len(self):
            return self.targets.root
        return Path(os.path.commonpath([target.parent.absolute() for target in self.targets]))

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


def plan_outputs(
    inputs: Iterable[Path | FileList], out: Path, translator: Translator, *, all_pages: bool = False
) -> TranslationPlan:
    """A plan of image files, animations and the like, and of folders, which are mirrored below `out`.

    A file keeps its name; its suffix changes only where that format cannot hold the result (to PNG, else TIFF). If
    `out` has the name of an image, the one input is written to that file. A pattern in the place of a path stands for
    the files that match it, as in `cyclegan.translate.inputs.expand_patterns`.
    all_pages: whether the files with several pages are sequences, see `cyclegan.sequences.registry.find_sequence`. A
    translator that reads one page takes animations and volumes for images, too.
    Raises InputError if an input is missing, holds no image, or would be overwritten.
    """
    suffixes = input_suffixes()
    inputs = expand_patterns(inputs, out, suffixes)
    source = only_path(inputs)
    if (is_image_name(out) or format_by_name(out) is not None) and not out.is_dir():
        for path in inputs:
            if isinstance(path, Path):
                check_there(path)
        if source is None or not _is_one_image(source, translator, all_pages):
            raise InputError(f"--out {out} is one image, and the input is not one image file; give a folder as --out.")
        if real_path(out) == real_path(source):
            raise InputError(f"{out} would be overwritten by its own translation; choose another --out.")
        _check_holds(source, out, translator, all_pages)
        return TranslationPlan.of([(source, out)])
    if source is not None and source.is_dir() and sequence_of(source, translator) is not None:
        return TranslationPlan.of([(source, out)])
    for path in inputs:
        if isinstance(path, Path) and is_folder(path) and not (found := find_files(path, out, suffixes)):
            raise InputError(f"{path} holds no images. {describe_left_out(found.left_out)}".rstrip())
    return mirror_images(inputs, out, translator, all_pages=all_pages)


def input_suffixes() -> tuple[str, ...]:
    """Suffixes of files that are translated as images or as sequences of them."""
    return tuple(dict.fromkeys((*image_suffixes(), *sequence_suffixes())))


def mirror_images(
    inputs: Sequence[Path | FileList], out: Path, translator: Translator, *, all_pages: bool = False
) -> TranslationPlan:
    """The plan of files and folders below a folder `out`."""

    def keeps_suffix(path: str) -> bool:
        row = format_by_name(path, all_pages=all_pages)
        if row is None or not row.can_hold(translator.target):
            return False
        # What lies at an address is opened later, by another process; its name decides.
        return is_address(path) or sequence_of(path, translator, all_pages=all_pages) is row

    by_suffix, suffixes = cache(partial(image_suffix, translator=translator)), input_suffixes()
    others = frozenset(suffixes) - {*DICOM_SUFFIXES}

    def suffix_of(path: str) -> str:
        suffix = os.path.splitext(path)[1]  # noqa: PTH122
        is_dicom_slide = suffix.lower() not in others and is_slide(path)
        return by_suffix(SLIDE_SUFFIXES[0] if is_dicom_slide else suffix)

    return TranslationPlan(*mirror(inputs, out, suffixes, suffix_of, keeps_suffix))


def sequence_of(path: Path | str, translator: Translator, *, all_pages: bool = False) -> SequenceFormat | None:
    """`find_sequence` for a translator, which takes one picture of a file if a page is chosen."""
    if translator.source.page is not None and not all_pages:
        return None
    return find_sequence(path, all_pages=all_pages)


def _is_one_image(path: Path, translator: Translator, all_pages: bool) -> bool:
    is_named = is_image_name(path) or format_by_name(path) is not None or split_page(path)[1] is not None
    return (is_file(path) and is_named) or sequence_of(path, translator, all_pages=all_pages) is not None


def _a(noun: str) -> str:
    return f"a{'n' if noun[0] in 'aeiou' else ''} {noun}"


def _check_holds(source: Path, out: Path, translator: Translator, all_pages: bool) -> None:
    """Raises InputError unless a file of the name `out` can hold the translation of the source."""
    reader = sequence_of(source, translator, all_pages=all_pages)
    if reader is None or (format_by_name(out) is not reader and reader.is_picture(source)):
        suffix = image_suffix(out.suffix, translator)
        if suffix != out.suffix and file_format_of(out).write is None:
            several = format_by_name(out)
            if several is not None and several.write is not None:
                raise InputError(
                    f"--out {out} is {_a(several.kind)}, and one picture is made of {source}; use {suffix} instead."
                )
            raise InputError(f"--out {out}: {out.suffix} files are read and never written; use {suffix} instead.")
        if suffix != out.suffix:
            raise InputError(f"--out {out}: that format cannot hold {translator.target}; use {suffix} instead.")
        return
    writer = reader if out.name.lower().endswith(reader.suffixes) else format_by_name(out)
    if writer is None or writer.write is None:
        all_suffixes = ", ".join(suffix for row in SEQUENCE_FORMATS.values() if row.write for suffix in row.suffixes)
        raise InputError(
            f"--out {out} is one picture, and {source} is {_a(reader.kind)} of several; choose one of {all_suffixes}."
        )


def find_sequences(sources: FileList, translator: Translator, *, all_pages: bool = False) -> dict[int, SequenceFormat]:
    """The files that hold several pictures: index -> format. Files are opened only if their suffix allows it."""
    suffixes = tuple(
        suffix for row in SEQUENCE_FORMATS.values() if all_pages or not row.on_request for suffix in row.suffixes
    )
    has_folders, ordinary = any(row.is_folder for row in SEQUENCE_FORMATS.values()), image_suffixes()

    def probe(chunk: list[tuple[int, str]]) -> list[tuple[int, SequenceFormat | None]]:
        return [(index, sequence_of(path, translator, all_pages=all_pages)) for index, path in chunk]

    root = str(sources.root)
    named = (
        (index, os.path.join(root, name))  # noqa: PTH118
        for index, name in enumerate(sources.names())
        if (lower := name.lower()).endswith(suffixes) or (has_folders and not lower.endswith(ordinary))
    )
    chunks = iter(lambda: list(itertools.islice(named, _CHUNK)), [])
    found: dict[int, SequenceFormat] = {}
    for _, future in prefetch(probe, chunks, num_threads=_THREADS, max_items=2 * _THREADS):
        found.update({index: row for index, row in future.result() if row is not None})
    return found


def describe_other_files(plan: TranslationPlan, clips: TranslationPlan | None = None) -> str:
    """A sentence on the files of the input folders that are not translated, by suffix; empty if there are none."""
    left_out = Counter(plan.sources.left_out)
    left_out.subtract(suffix_of(source.name) for source, _ in clips or () if suffix_of(source.name) in left_out)
    return describe_left_out({suffix: count for suffix, count in left_out.items() if count > 0})


def image_suffix(suffix: str, translator: Translator) -> str:
    """The suffix of a translated image: its own, or another where that format cannot hold the result: .ome.tif for a
    slide, else .png or .tif.
    """
    target, written_as = translator.target, file_format_of(f"x{suffix}").regions.written_as
    choices = (suffix, written_as or ".png", ".png", ".tif")
    return next(choice for choice in choices if can_hold(choice, target.channels, target.dtype, target.alpha))


def sequences(plan: Iterable[tuple[Path, Path]]) -> list[list[tuple[Path, Path]]]:
    """Split a plan into sequences of frames: one for each folder, in the natural order of names, 2 before 10."""
    folders: dict[Path, list[tuple[Path, Path]]] = {}
    for source, target in plan:
        folders.setdefault(real_path(source.parent), []).append((source, target))
    return [sorted(files, key=lambda item: _natural_key(item[0].name)) for files in folders.values()]


def _natural_key(name: str) -> tuple[list[tuple[str, int]], str]:
    """Letters compare as letters and numbers as numbers; the name itself decides between x1 and x01."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)], name
