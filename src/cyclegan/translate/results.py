"""Between a network and the files: give each result what belongs to its input, and say once what is lost of that."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.colour import describe_profile, is_srgb
from cyclegan.images.formats import ImageFormat, Kept
from cyclegan.images.output import LOST, make_output
from cyclegan.images.raster import Raster, cast
from cyclegan.images.resizing import resize
from cyclegan.system.advice import advise
from cyclegan.system.words import counted
from cyclegan.translate.translator import OutOfMemoryError, Translator

Item = TypeVar("Item")


def translate_items(
    translator: Translator,
    items: Iterable[tuple[Item, Array]],
    *,
    stabilise: bool = False,
    on_note: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Iterator[tuple[Item, Array | InputError]]:
    """`translate_each` for arrays that were read as the model takes them, each with what belongs to it, in order.

    A batch that does not fit into memory is translated again in two, and those after it hold as many pixels at most.
    on_note: receives a sentence that says so. Frames that are stabilised are not translated again.
    """
    # Those that the network has taken, until their results are there.
    in_network: deque[tuple[Item, Array]] = deque()

    def arrays(items: Iterator[tuple[Item, Array]]) -> Iterator[Array]:
        for item, array in items:
            in_network.append((item, array))
            yield array

    rest, max_pixels, too_many = iter(items), None, list[int]()
    while True:
        results = translator.translate_each(
            arrays(rest), stabilise=stabilise, checked=False, max_pixels=max_pixels, **options
        )
        for result in results:
            item, array = in_network[0]
            if isinstance(result, OutOfMemoryError) and result.num_images > 1 and not stabilise:
                too_many.append(result.num_images)
                max_pixels = result.num_images * array.shape[0] * array.shape[1] // 2
                break
            in_network.popleft()
            yield item, result if isinstance(result, InputError) else np.asarray(result)
        else:
            break
        results.close()  # type: ignore[attr-defined]
        if translator.device.type == "cuda":
            torch.cuda.empty_cache()
        again = tuple(in_network)
        in_network.clear()
        rest = chain(again, rest)
    if too_many:
        on_note(
            f"{too_many[0]} images at a time did not fit into memory, so they were translated {too_many[-1] // 2} at a "
            "time."
        )


class ResultMaker:
    """Puts results together as they are written, in several threads, and counts what is converted and what is lost.

    target: of the results. keep_profile, background: as in `cyclegan.images.output.make_output`.
    """

    def __init__(self, target: ImageFormat, *, keep_profile: bool = False, background: str | None = None) -> None:
        self._target, self._keep_profile, self._background = target, keep_profile, background
        self._lock = Lock()
        self._lost: Counter[tuple[Kept, str]] = Counter()
        self._converted: Counter[str] = Counter()
        self._num_unusable = 0  # profiles
        self._num_cut = 0
        self._replaced: Counter[tuple[str, str]] = Counter()  # the file's number for holes, and that of --nodata

    def make(
        self, values: Array, given: Raster, keeps: frozenset[Kept], suffix: str, size: tuple[int, int] | None = None
    ) -> Raster:
        """A result (H, W, C) with what belongs to its input, `given`, as a file with this suffix keeps it; counted.

        size: height and width of the file, if the network may have taken it at another scale.
        """
        if size is not None:
            values = resize(values, *size)
            if values.dtype.kind == "f":  # bicubic resizing overshoots at edges
                values = values.clip(self._target.low, self._target.high)
            values = cast(values, self._target.dtype)
        output, lost = make_output(
            values, given, self._target, keeps, keep_profile=self._keep_profile, background=self._background
        )
        metadata = given.metadata
        profile, is_converted = metadata.profile, metadata.is_srgb
        with self._lock:
            for kept in lost:
                # A profile that the format has a place for is one that the result cannot have.
                self._lost[kept, "" if kept == "profile" and kept in keeps else suffix] += 1
            if profile is not None and not is_converted and not is_srgb(profile):
                self._num_unusable += 1
            if profile is not None and is_converted and not self._keep_profile:
                self._converted[describe_profile(profile)] += 1
            if metadata.replaced_nodata is not None:
                self._replaced[f"{metadata.replaced_nodata:.9g}", f"{metadata.nodata:.9g}"] += 1
            self._num_cut += metadata.is_cut
        return output

    def __getstate__(self) -> dict[str, Any]:
        """The counts travel between processes, the lock stays."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = Lock()

    def include(self, other: "ResultMaker") -> None:
        """Count the images of another one as well."""
        with self._lock:
            self._lost += other._lost
            self._converted += other._converted
            self._num_unusable += other._num_unusable
            self._num_cut += other._num_cut
            self._replaced += other._replaced

    def sentences(self, noun: str = "image") -> list[str]:
        """What a user should know, a sentence for each kind. noun: what was counted."""
        said = [
            f"The colours of {counted(count, noun)} were converted from {name} to sRGB"
            + advise("; --keep-profile converts results back.", ".")
            for name, count in self._converted.items()
        ]
        if self._num_unusable:
            said.append(
                f"The colour profile of {counted(self._num_unusable, noun)} is not used: it is damaged, or not for "
                "such values. The colours are taken for sRGB."
            )
        said += [
            f"{counted(count, noun)} {'names' if count == 1 else 'name'} {own} for holes, and {given} is looked for "
            f"instead; --nodata {own} looks for that."
            for (own, given), count in self._replaced.items()
        ]
        if self._num_cut:
            result = "its result is" if self._num_cut == 1 else "their results are"
            said.append(f"The window goes beyond {counted(self._num_cut, noun)}: {result} the part inside.")
        for (kept, suffix), count in self._lost.items():
            what = f"{LOST[kept][0].upper()}{LOST[kept][1:]}"
            is_not = "are not" if kept == "nodata" else "is not"
            why = f"{suffix} files have {'no free value for them' if kept == 'nodata' else 'no place for it'}"
            if not suffix:
                why = "results cannot be converted to it, and are sRGB"
            said.append(f"{what} of {counted(count, noun)} {is_not} kept: {why}.")
        return said
