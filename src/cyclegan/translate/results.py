"""Between a network and the files: give each result what belongs to its input."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from cyclegan.errors import InputError
from cyclegan.images import Array
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
