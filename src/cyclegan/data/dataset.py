"""The batch of each training step, as a pure function of the step's number."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cyclegan.config import DataConfig, ModelConfig
from cyclegan.data.image_folder import ImageFolder
from cyclegan.data.image_order import ImageOrder, Stretch
from cyclegan.data.pixels import Pixels
from cyclegan.data.preprocessing import LEAST_VALID, augment, load_for_crops
from cyclegan.data.scenes import Scene
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.formats import ImageFormat
from cyclegan.images.resizing import mirror_to_multiple
from cyclegan.images.tensors import to_signal

# First entry of the counter-based seeds of crops and flips; the domain is the second.
_AUGMENT = 12

# Crops that are drawn from an image until one is not mostly hole.
_MAX_DRAWS = 32


@dataclass(frozen=True)
class Batch:
    """The images of one training step.

    a, b: (N, C, H, W) in [-1, 1]. unreadable: files that were skipped to make this batch, with reasons.
    mask_a, mask_b: (N, 1, H, W), float32, 1 for a value and 0 in a hole; None where no image of the batch has holes.
    """

    a: Tensor
    b: Tensor
    unreadable: tuple[tuple[str, str], ...] = ()
    mask_a: Tensor | None = None
    mask_b: Tensor | None = None

    def pin_memory(self) -> "Batch":
        """Called by torch's loader, so that copies to a GPU run asynchronously."""
        mask_a, mask_b = (None if mask is None else mask.pin_memory() for mask in (self.mask_a, self.mask_b))
        return replace(self, a=self.a.pin_memory(), b=self.b.pin_memory(), mask_a=mask_a, mask_b=mask_b)

    @property
    def nbytes(self) -> int:
        """The memory of all tensors."""
        return sum(x.nbytes for x in (self.a, self.b, self.mask_a, self.mask_b) if x is not None)


@dataclass
class UnpairedDataset(Dataset[Batch]):
    """Item i is the batch of step i. Picklable, so that loading processes can be spawned on every platform.

    Each pass over a domain shows every image once, in a new order. The two domains are shuffled independently,
    so pairs are random. Without `data.shuffle` both are ordered by name, and equal positions of equally large domains
    stay pairs. Crops and flips are drawn from (seed, domain, step, slot), and again for a crop that is mostly hole.
    orders: of a run whose images changed between sessions, for A and B. part, parts: which of so many equal parts of
    each batch is made, where processes share it.
    """

    a: ImageFolder
    b: ImageFolder
    data: DataConfig
    model: ModelConfig
    batch_size: int
    seed: int
    cache_bytes: int = 0
    orders: tuple[ImageOrder, ImageOrder] | None = None
    part: int = 0
    parts: int = 1
    _cache: dict[Path, Pixels] = field(default_factory=dict, repr=False)
    _cached_bytes: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show every image of the larger domain once, rounded up."""
        return -(-max(len(self.a), len(self.b)) // self.batch_size)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        # No torch arithmetic here: called from a thread beside the training it would start a second thread pool, and
        # two pools that wait for each other are five times slower.
        unreadable: list[tuple[str, str]] = []
        count = self.batch_size // self.parts
        slots = range(self.part * count, (self.part + 1) * count)
        (a, mask_a), (b, mask_b) = (
            _stack([self._item(domain, folder, step, slot, unreadable) for slot in slots])
            for domain, folder in enumerate((self.a, self.b))
        )
        return Batch(a, b, tuple(unreadable), mask_a, mask_b)

    def check(self, domain: int) -> None:
        """Raises InputError if no image of A, 0, or B, 1, can be trained on, since all are mostly hole or damaged."""
        replace(self, orders=None)._item(domain, (self.a, self.b)[domain], 0, 0, [])

    def _item(
        self, domain: int, folder: ImageFolder, step: int, slot: int, unreadable: list[tuple[str, str]]
    ) -> tuple[NDArray[np.float32], Array | None]:
        """One image, (C, H, W) in [-1, 1], and its mask, (H, W, 1), or None if it has no holes."""
        if self.orders is None:
            a, b = (
                ImageOrder(self.seed, domain, self.data.shuffle, [Stretch(0, self.batch_size, len(folder))])
                for domain, folder in enumerate((self.a, self.b))
            )
            self.orders = a, b
        order, first = self.orders[domain].at(step, slot)
        largest_share = -1.0
        # A file that cannot be decoded, or has no good crop, is replaced by the next one in the order, the same in
        # every process.
        for offset in range(len(order)):
            path = folder.paths[int(order[(first + offset) % len(order)])]
            try:
                resized = self._load(path, folder.image_format)
                pixels = self._draw(resized, domain, step, slot)
            except (InputError, UnreadableError) as error:
                unreadable.append((str(path), str(error)))
                continue
            if pixels.valid_share < LEAST_VALID:
                largest_share = max(largest_share, pixels.valid_share)
                unreadable.append((str(path), f"it is mostly hole: {self._what_was_tried(resized, pixels)}"))
                continue
            array = mirror_to_multiple(pixels.values, self.model.multiple, self.model.smallest_crop)
            signal = to_signal(array, folder.image_format)
            if pixels.valid is None or pixels.valid.all():
                return signal, None
            return signal, mirror_to_multiple(pixels.valid[..., None], self.model.multiple, self.model.smallest_crop)
        if largest_share >= 0:
            letter = "ab"[domain]
            raise InputError(
                f"No crop of the {len(order)} images in {folder.root} has values in at least half of its pixels; the "
                f"best of {_MAX_DRAWS if self.data.crops else 1} in each image has them in {largest_share:.0%}. Pass "
                "images with smaller holes (no data, or transparent pixels), a smaller --crop-size, or, to train on "
                f"transparent pixels, a colour behind them: --background-{letter} white."
            )
        raise InputError(f"No image in {folder.root} can be read any more; the last error: {unreadable[-1][1]}")

    def _what_was_tried(self, resized: Pixels | Scene, best: Pixels) -> str:
        if not self.data.crops:
            return f"{best.valid_share:.0%} of its pixels have values"
        tried = f"at most {best.valid_share:.0%} in the best of {_MAX_DRAWS} crops"
        if isinstance(resized, Scene):  # which is not decoded
            return f"of its pixels have values {tried}"
        return f"{resized.valid_share:.0%} of its pixels have values, and {tried}"

    def _draw(self, resized: Pixels | Scene, domain: int, step: int, slot: int) -> Pixels:
        """A random crop of an image, drawn again a limited number of times while it is mostly hole."""
        pixels = augment(resized, self.data, np.random.default_rng([_AUGMENT, self.seed, domain, step, slot]))
        best = pixels
        for draw in range(1, _MAX_DRAWS if self.data.crops else 1):
            if best.valid_share >= LEAST_VALID:
                return best
            rng = np.random.default_rng([_AUGMENT, self.seed, domain, step, slot, draw])
            pixels = augment(resized, self.data, rng)
            best = max(best, pixels, key=lambda found: found.valid_share)
        return best

    def _load(self, path: Path, image_format: ImageFormat) -> Pixels | Scene:
        """The resized image, from the cache if it is there. The file may have changed since the folder was scanned."""
        if path in self._cache:
            return self._cache[path]
        pixels = load_for_crops(path, image_format, self.data, free_bytes=self.cache_bytes - self._cached_bytes)
        if isinstance(pixels, Scene):
            return pixels
        if self._cached_bytes + pixels.nbytes <= self.cache_bytes:
            self._cache[path] = pixels
            self._cached_bytes += pixels.nbytes
        return pixels


def _stack(items: Sequence[tuple[NDArray[np.float32], Array | None]]) -> tuple[Tensor, Tensor | None]:
    """Images and their masks, as a batch holds them."""
    images = torch.from_numpy(np.stack([image for image, _ in items]))
    if all(mask is None for _, mask in items):
        return images, None
    masks = [np.ones((*image.shape[1:], 1)) if mask is None else mask for image, mask in items]
    return images, torch.from_numpy(np.stack(masks)[:, None, ..., 0].astype(np.float32))
