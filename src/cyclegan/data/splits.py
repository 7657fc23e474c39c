"""Images that a run does not train on: those of its sample grids, and those that its scores in training come from."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cyclegan.config import MIN_VALIDATION, TrainConfig
from cyclegan.data.domains import Folders
from cyclegan.data.image_folder import ImageFolder, split_held_out
from cyclegan.data.preprocessing import load_sample
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.file_list import evenly_spaced, list_images


@dataclass(frozen=True)
class HeldOut:
    """a, b: (C, H, W) images in [-1, 1] at the training size. origin: where they are from, in words."""

    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]
    origin: str
    unreadable: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Scored:
    """Files that scores in training come from. trained: files of the training folders to compare them with.

    origin: where they are from, in words. digest: of their names, to know them again when a run goes on.
    """

    a: tuple[Path, ...]
    b: tuple[Path, ...]
    trained_a: tuple[Path, ...]
    trained_b: tuple[Path, ...]
    origin: str
    digest: str


def choose_held_out(
    config: TrainConfig, folders: Folders, a: ImageFolder, b: ImageFolder
) -> tuple[ImageFolder, ImageFolder, HeldOut, Scored]:
    """Hold images out of the training folders, for scores in training and, without test folders, for the sample grids.

    Returns the training folders without them, the images of the sample grids, and the files of the scores: never those
    of the test folders, which stay unseen until the end. Samples that cannot be used are passed over for others.
    """
    has_test = folders.test_a is not None and folders.test_b is not None
    whole_a, whole_b = a, b
    a, held_a = _hold_out(a, config, has_test)
    b, held_b = _hold_out(b, config, has_test)

    if folders.test_a is not None and folders.test_b is not None:
        from_a: Sequence[Path] = list_images(folders.test_a)
        from_b: Sequence[Path] = list_images(folders.test_b)
        origin = "from the test folders"
    else:
        from_a, from_b = held_a or whole_a.paths, held_b or whole_b.paths
        origin = _origin([("A", bool(held_a)), ("B", bool(held_b))])
    unreadable: list[tuple[Path, str]] = []
    samples_a, samples_b = (
        read_held_out(_beginning_with(paths, config.num_samples), config.num_samples, folder, config, unreadable)
        for paths, folder in ((from_a, a), (from_b, b))
    )
    samples = HeldOut(samples_a, samples_b, origin, tuple(unreadable))

    def scored_and_others(held: tuple[Path, ...], whole: ImageFolder) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        scored = held if len(held) >= MIN_VALIDATION else tuple(evenly_spaced(whole.paths, config.num_validation))
        # What a set is compared with for the floor must not be the set itself.
        return scored, tuple(evenly_spaced(whole.paths.without(scored), config.num_validation))

    scored_a, trained_a = scored_and_others(held_a, whole_a)
    scored_b, trained_b = scored_and_others(held_b, whole_b)
    names = "/".join(path.name for path in (*scored_a, *scored_b))
    scored = Scored(
        scored_a,
        scored_b,
        trained_a,
        trained_b,
        _origin([("A", len(held_a) >= MIN_VALIDATION), ("B", len(held_b) >= MIN_VALIDATION)]),
        hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:16],
    )
    return a, b, samples, scored


def _hold_out(folder: ImageFolder, config: TrainConfig, has_test: bool) -> tuple[ImageFolder, tuple[Path, ...]]:
    """Up to a tenth of a folder: enough for scores, or at least for the sample grids if there is no test folder."""
    count = min(config.num_validation, len(folder) // 10)
    if count < MIN_VALIDATION:
        count = 0
    if not has_test and config.num_samples <= len(folder) // 10:
        count = max(count, config.num_samples)
    return split_held_out(folder, count, config.seed)


def _origin(domains: list[tuple[str, bool]]) -> str:
    seen = [name for name, held in domains if not held]
    if seen:
        return f"those of {' and '.join(seen)} also trained on, because there are too few to hold any out"
    return "held out of the training folders"


def read_held_out(
    paths: Iterable[Path], wanted: int, folder: ImageFolder, config: TrainConfig, unreadable: list[tuple[Path, str]]
) -> tuple[Tensor, ...]:
    """The first `wanted` readable images at the training size, without randomness; others are added to `unreadable`.

    Fewer, where they would take more than half a GiB of memory.
    """
    tensors: list[Tensor] = []
    num_bytes = 0
    for path in paths:
        if len(tensors) == wanted or (num_bytes > 2**29 and len(tensors) > 1):
            break
        try:
            tensors.append(load_sample(path, folder.image_format, config.data, config.model))
            num_bytes += tensors[-1].nbytes
        except (InputError, UnreadableError) as error:
            unreadable.append((path, str(error)))
    return tuple(tensors)


def _beginning_with(paths: Sequence[Path], count: int) -> Iterator[Path]:
    """All paths, beginning with `count` of them at equal distances."""
    first = evenly_spaced(paths, count)
    yield from first
    chosen = set(first)
    yield from (path for path in paths if path not in chosen)
