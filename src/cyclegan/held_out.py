"""Images that a run does not train on: those of its sample grids, and those that its scores in training come from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from cyclegan.config import InputError, TrainConfig
from cyclegan.data import Folders, ImageFolder, held_out_tensor, split_held_out
from cyclegan.images import UnreadableError, grid, list_images, upscale

# With fewer images than this held out, scores come from training images as well: noise would choose the best step.
_FEWEST = 10


@dataclass(frozen=True)
class HeldOut:
    """a, b: (C, H, W) images in [-1, 1] at the training size. origin: where they are from, in words."""

    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]
    origin: str
    unreadable: tuple[tuple[Path, str], ...] = ()


def choose_held_out(
    config: TrainConfig, folders: Folders, a: ImageFolder, b: ImageFolder
) -> tuple[ImageFolder, ImageFolder, HeldOut, Callable[[], HeldOut]]:
    """Hold images out of the training folders, for scores in training and, without test folders, for the sample grids.

    Returns the training folders without them, the images of the sample grids, and a function that reads those of the
    scores when they are needed: never from the test folders, which stay unseen until the end. Files that cannot be used
    are passed over for others and listed.
    """
    has_test = folders.test_a is not None and folders.test_b is not None
    whole_a, whole_b = a, b
    a, held_a = _hold_out(a, config, has_test)
    b, held_b = _hold_out(b, config, has_test)

    if folders.test_a is not None and folders.test_b is not None:
        from_a, from_b = list_images(folders.test_a), list_images(folders.test_b)
        origin = "from the test folders"
    else:
        from_a, from_b = list(held_a or whole_a.paths), list(held_b or whole_b.paths)
        origin = _origin([("A", bool(held_a)), ("B", bool(held_b))])
    samples = _read((from_a, from_b), config.num_samples, (a, b), config, origin)

    enough_a, enough_b = len(held_a) >= _FEWEST, len(held_b) >= _FEWEST
    scored = list(held_a if enough_a else whole_a.paths), list(held_b if enough_b else whole_b.paths)
    origin_scored = _origin([("A", enough_a), ("B", enough_b)])

    def read_scored() -> HeldOut:
        return _read(scored, config.num_validation, (a, b), config, origin_scored)

    return a, b, samples, read_scored


def _hold_out(folder: ImageFolder, config: TrainConfig, has_test: bool) -> tuple[ImageFolder, tuple[Path, ...]]:
    """Up to a tenth of a folder: enough for scores, or at least for the sample grids if there is no test folder."""
    count = min(config.num_validation, len(folder) // 10)
    if count >= _FEWEST:
        return split_held_out(folder, max(count, 0 if has_test else config.num_samples), config.seed)
    return split_held_out(folder, 0 if has_test else config.num_samples, config.seed)


def _origin(domains: list[tuple[str, bool]]) -> str:
    seen = [name for name, held in domains if not held]
    if seen:
        return f"those of {' and '.join(seen)} also trained on, because there are too few to hold any out"
    return "held out of the training folders"


def _read(
    paths: tuple[list[Path], list[Path]],
    wanted: int,
    folders: tuple[ImageFolder, ImageFolder],
    config: TrainConfig,
    origin: str,
) -> HeldOut:
    unreadable: list[tuple[Path, str]] = []
    a, b = (
        _some(list(_spread(each, wanted)), wanted, folder, config, unreadable)
        for each, folder in zip(paths, folders, strict=True)
    )
    return HeldOut(a, b, origin, tuple(unreadable))


def training_images(
    config: TrainConfig, a: ImageFolder, b: ImageFolder
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """As many images of each training folder as are held out for scores, at equal distances, to compare those with."""
    wanted = config.num_validation
    images_a, images_b = (_some(list(_spread(list(f.paths), wanted)), wanted, f, config, []) for f in (a, b))
    return images_a, images_b


def _some(
    paths: list[Path], wanted: int, folder: ImageFolder, config: TrainConfig, unreadable: list[tuple[Path, str]]
) -> tuple[Tensor, ...]:
    """The first `wanted` readable images at the training size, without randomness; others are added to `unreadable`."""
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


@torch.inference_mode()
def sample_sheet(samples: HeldOut, a2b: nn.Module, b2a: nn.Module, device: torch.device) -> Image.Image:
    """A picture of the samples: real, fake and cycled in a row each, for each domain that has any."""
    rows: list[list[Tensor]] = []
    labels: list[str] = []
    for reals, there, back, names in (
        (samples.a, a2b, b2a, ("real A", "fake B = G(A)", "cycled A = F(G(A))")),
        (samples.b, b2a, a2b, ("real B", "fake A = F(B)", "cycled B = G(F(B))")),
    ):
        triples = [(real, *there_and_back(real.to(device), there, back)) for real in reals]
        if triples:
            labels += names
        rows += [
            [upscale(image, max(1, 128 // image.shape[-1])) for image in row] for row in zip(*triples, strict=True)
        ]
    return grid(rows, labels)


def there_and_back(real: Tensor, there: nn.Module, back: nn.Module) -> tuple[Tensor, Tensor]:
    """(C, H, W) -> its translation and the translation back, on the CPU."""
    fake = there(real[None])
    return fake[0].float().cpu(), back(fake)[0].float().cpu()
