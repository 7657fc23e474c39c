"""Split two folders into training, sample and validation images.

Sample images are shown in grids. Validation images choose the best checkpoint. Both are held out of training where
there are enough images; where there are not, `origin` says so. Test images are in separate folders, which
`cyclegan evaluate` scores.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from cyclegan.config import MIN_VALIDATION, TrainConfig
from cyclegan.data.domains import Folders
from cyclegan.data.image_folder import ImageFolder
from cyclegan.data.preprocessing import load_sample
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.file_list import evenly_spaced, list_images


@dataclass(frozen=True)
class SampleImages:
    """The images of sample grids, which may have been trained on.

    a, b: (C, H, W) in [-1, 1] at the training size. origin: where they are from, in words. unreadable: files that were
    skipped, and why.
    """

    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]
    origin: str
    unreadable: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class ValidationImages:
    """The files that scores during training use.

    trained_a, trained_b: training files to compare them with. origin: where they are from, in words. digest: of their
    names, by which a resumed run recognises them.
    """

    a: tuple[Path, ...]
    b: tuple[Path, ...]
    trained_a: tuple[Path, ...]
    trained_b: tuple[Path, ...]
    origin: str
    digest: str


def split_domains(
    config: TrainConfig, folders: Folders, a: ImageFolder, b: ImageFolder
) -> tuple[ImageFolder, ImageFolder, SampleImages, ValidationImages]:
    """Hold images out of the training folders for validation and, without test folders, for the sample grids.

    Returns the training folders without them, the sample images and the validation images. Validation images never come
    from the test folders, which stay unseen until the end. Samples that cannot be used are replaced by others.
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
        origin = _origin([("A", bool(held_a)), ("B", bool(held_b))], config.num_samples)
    unreadable: list[tuple[Path, str]] = []
    samples_a, samples_b = (
        read_held_out(_beginning_with(paths, config.num_samples), config.num_samples, folder, config, unreadable)
        for paths, folder in ((from_a, a), (from_b, b))
    )
    samples = SampleImages(samples_a, samples_b, origin, tuple(unreadable))

    def validation_and_others(held: tuple[Path, ...], whole: ImageFolder) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        files = held if len(held) >= MIN_VALIDATION else tuple(evenly_spaced(whole.paths, config.num_validation))
        # The baseline of real images compares two different sets.
        return files, tuple(evenly_spaced(whole.paths.without(files), config.num_validation))

    files_a, trained_a = validation_and_others(held_a, whole_a)
    files_b, trained_b = validation_and_others(held_b, whole_b)
    names = "/".join(path.name for path in (*files_a, *files_b))
    validation = ValidationImages(
        files_a,
        files_b,
        trained_a,
        trained_b,
        _origin([("A", len(held_a) >= MIN_VALIDATION), ("B", len(held_b) >= MIN_VALIDATION)], MIN_VALIDATION),
        hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:16],
    )
    return a, b, samples, validation


def _hold_out(folder: ImageFolder, config: TrainConfig, has_test: bool) -> tuple[ImageFolder, tuple[Path, ...]]:
    """Hold out up to a tenth of a folder: enough for scores, or at least for the sample grids without a test folder."""
    count = min(config.num_validation, len(folder) // 10)
    if count < MIN_VALIDATION:
        count = 0
    if not has_test and config.num_samples <= len(folder) // 10:
        count = max(count, config.num_samples)
    return split_held_out(folder, count, config.seed)


def split_held_out(folder: ImageFolder, num_images: int, seed: int) -> tuple[ImageFolder, tuple[Path, ...]]:
    """Hold `num_images` images out of a folder, chosen by a hash of their names. Returns the others and their paths.

    Nothing is held out of a folder of fewer than ten times as many images.
    """
    if num_images == 0 or len(folder) < 10 * num_images:
        return folder, ()

    def rank(item: tuple[int, str]) -> bytes:
        return hashlib.sha256(f"{seed}/{item[1]}".encode(errors="surrogateescape")).digest()

    held = sorted(place for place, _ in heapq.nsmallest(num_images, enumerate(folder.paths.names()), key=rank))
    paths = tuple(folder.paths[place] for place in held)
    return replace(folder, paths=folder.paths.without(paths)), paths


def _origin(domains: list[tuple[str, bool]], wanted: int) -> str:
    seen = [name for name, held in domains if not held]
    if seen:
        return f"those of {' and '.join(seen)} also trained on, because a tenth of them is fewer than {wanted}"
    return "held out of the training folders"


def read_held_out(
    paths: Iterable[Path], wanted: int, folder: ImageFolder, config: TrainConfig, unreadable: list[tuple[Path, str]]
) -> tuple[Tensor, ...]:
    """Read the first `wanted` readable images at the training size, without randomness; add the others to `unreadable`.

    Stops early where they take more than half a GiB of memory.
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
    """All paths, starting with `count` of them at equal distances."""
    first = evenly_spaced(paths, count)
    yield from first
    chosen = set(first)
    yield from (path for path in paths if path not in chosen)
