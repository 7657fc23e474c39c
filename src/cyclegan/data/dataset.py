"""The batch of each training step, as a pure function of the step's number."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cyclegan.config import DataConfig, ModelConfig
from cyclegan.data.image_folder import ImageFolder
from cyclegan.data.image_order import ImageOrder, Stretch
from cyclegan.data.preprocessing import augment, load_resized
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.formats import ImageFormat
from cyclegan.images.resizing import mirror_to_multiple
from cyclegan.images.tensors import to_signal

# First entry of the counter-based seeds of crops and flips; the domain is the second.
_AUGMENT = 12


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
    stay pairs. Crops and flips are drawn from (seed, domain, step, slot). orders: of a run whose images changed between
    sessions, for A and B.
    """

    a: ImageFolder
    b: ImageFolder
    data: DataConfig
    model: ModelConfig
    batch_size: int
    seed: int
    cache_bytes: int = 0
    orders: tuple[ImageOrder, ImageOrder] | None = None
    _cache: dict[Path, Array] = field(default_factory=dict, repr=False)
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
        a = [self._item(0, self.a, step, slot, unreadable) for slot in range(self.batch_size)]
        b = [self._item(1, self.b, step, slot, unreadable) for slot in range(self.batch_size)]
        return Batch(torch.from_numpy(np.stack(a)), torch.from_numpy(np.stack(b)), tuple(unreadable))

    def _item(self, domain: int, folder: ImageFolder, step: int, slot: int, unreadable: list[tuple[str, str]]) -> Array:
        """One image, (C, H, W) in [-1, 1]."""
        if self.orders is None:
            a, b = (
                ImageOrder(self.seed, domain, self.data.shuffle, [Stretch(0, self.batch_size, len(folder))])
                for domain, folder in enumerate((self.a, self.b))
            )
            self.orders = a, b
        order, first = self.orders[domain].at(step, slot)
        # A file that cannot be decoded is replaced by the next one in the order, the same in every process.
        for offset in range(len(order)):
            path = folder.paths[int(order[(first + offset) % len(order)])]
            try:
                array = self._load(path, folder.image_format)
            except (InputError, UnreadableError) as error:
                unreadable.append((str(path), str(error)))
                continue
            rng = np.random.default_rng([_AUGMENT, self.seed, domain, step, slot])
            array = augment(array, self.data, rng)
            array = mirror_to_multiple(array, self.model.multiple, self.model.smallest_crop)
            return to_signal(array, folder.image_format)
        raise InputError(f"No image in {folder.root} can be read any more; the last error: {unreadable[-1][1]}")

    def _load(self, path: Path, image_format: ImageFormat) -> Array:
        """The resized image, from the cache if it is there. The file may have changed since the folder was scanned."""
        if path in self._cache:
            return self._cache[path]
        array = load_resized(path, image_format, self.data)
        if self._cached_bytes + array.nbytes <= self.cache_bytes:
            self._cache[path] = array
            self._cached_bytes += array.nbytes
        return array
