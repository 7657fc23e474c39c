"""Between a network and the files: give each result what belongs to its input, and bring it to what is written."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.formats import ImageFormat, Kept
from cyclegan.images.output import KeepsSome, make_output
from cyclegan.images.raster import Raster
from cyclegan.images.resizing import cast, resize
from cyclegan.translate.translator import Translator

Item = TypeVar("Item")


def translate_items(
    translator: Translator, items: Iterable[tuple[Item, Array]], **options: Any
) -> Iterator[tuple[Item, Array | InputError]]:
    """`translate_each` for arrays that were read as the model takes them, each with what belongs to it, in order."""
    in_network: deque[Item] = deque()

    def arrays() -> Iterator[Array]:
        for item, array in items:
            in_network.append(item)
            yield array

    for result in translator.translate_each(arrays(), checked=False, **options):
        yield in_network.popleft(), result if isinstance(result, InputError) else np.asarray(result)


@dataclass(frozen=True)
class Finish:
    """Makes a result what is written. keep_profile, background: as in `make_output`."""

    image_format: ImageFormat
    keep_profile: bool = False
    background: str | None = None

    def __call__(
        self, values: Array, given: Raster, file_format: KeepsSome, size: tuple[int, int] | None = None
    ) -> tuple[Raster, tuple[Kept, ...]]:
        """A result with what belongs to its input, and what its format cannot keep of that.

        size: height and width in pixels; default: those of `values`.
        """
        target = self.image_format
        if size is not None:
            values = resize(values, *size)
        if values.dtype.kind == "f":  # bicubic resizing overshoots at edges
            values = values.clip(target.low, target.high)
        return make_output(
            cast(values, target.dtype),
            given,
            target,
            file_format,
            keep_profile=self.keep_profile,
            background=self.background,
        )
