"""The held-out images that every sample grid shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cyclegan.config import InputError, TrainConfig
from cyclegan.data import Folders, ImageFolder, held_out_tensor, split_held_out
from cyclegan.images import UnreadableError, list_images


@dataclass(frozen=True)
class Samples:
    """a, b: (C, H, W) images in [-1, 1]. origin: where they are from, in words."""

    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]
    origin: str
    unreadable: tuple[tuple[Path, str], ...] = ()


def choose_samples(
    config: TrainConfig, folders: Folders, a: ImageFolder, b: ImageFolder
) -> tuple[ImageFolder, ImageFolder, Samples]:
    """From the test folders if there are any, else held out of the training folders, which are returned without them.

    Files that cannot be used are passed over for others and listed.
    """
    wanted = config.num_samples
    if folders.test_a is not None and folders.test_b is not None:
        from_a, from_b = list_images(folders.test_a), list_images(folders.test_b)
        origin = "from the test folders"
    else:
        whole_a, whole_b = a, b
        a, held_a = split_held_out(a, wanted, config.seed)
        b, held_b = split_held_out(b, wanted, config.seed)
        from_a, from_b = list(held_a or whole_a.paths), list(held_b or whole_b.paths)
        seen = [name for name, held in (("A", held_a), ("B", held_b)) if not held]
        origin = "held out of the training folders"
        if seen:
            origin = f"those of {' and '.join(seen)} also trained on, because there are too few to hold any out"

    unreadable: list[tuple[Path, str]] = []
    tensors = [
        _read(list(_spread(paths, wanted)), wanted, folder, config, unreadable)
        for paths, folder in ((from_a, a), (from_b, b))
    ]
    return a, b, Samples(tensors[0], tensors[1], origin, tuple(unreadable))


def _read(
    paths: list[Path], wanted: int, folder: ImageFolder, config: TrainConfig, unreadable: list[tuple[Path, str]]
) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    for path in paths:
        if len(tensors) == wanted:
            break
        try:
            tensors.append(held_out_tensor(path, folder.image_format, config.data, config.model))
        except (InputError, UnreadableError) as error:
            unreadable.append((path, str(error)))
    return tuple(tensors)


def _spread(paths: list[Path], count: int) -> Iterator[Path]:
    """All paths, beginning with `count` of them at equal distances."""
    count = min(count, len(paths))
    first = [paths[i * len(paths) // count] for i in range(count)]
    yield from first
    yield from (path for path in paths if path not in set(first))
