"""Translate images to the other domain and back, as they would go through files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cyclegan.images.formats import ImageFormat
from cyclegan.images.holes import fill_holes
from cyclegan.images.tensors import from_tensor, to_tensor

# Noise on a translation, as a standard deviation in [-1, 1]: 6.4 of 255 grey levels.
NOISE_SIGMA = 0.05

# First entry of the counter-based seeds of that noise.
_NOISE = 31


@dataclass(frozen=True)
class RoundTrip:
    """Batches (N, C, H, W) in [-1, 1] on the CPU.

    fake: the translation with the depth of its files, holes filled as those of a file that is read. cycled: translated
    back from there. cycled_noisy: the same with noise on the fake, which destroys information that a generator has
    hidden in invisible detail (Chu et al. 2017,
    "CycleGAN, a Master of Steganography"; Bashkirova et al. 2019).
    """

    fake: Tensor
    cycled: Tensor
    cycled_noisy: Tensor


def round_trip(
    real: Tensor,
    there: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    target: ImageFormat,
    *,
    seed: int,
    first: int,
    masks: Sequence[Tensor | None] = (),
) -> RoundTrip:
    """Translate a batch there and back, with and without noise.

    real: (N, C, H, W) in [-1, 1]. there, back: batch to batch, on the CPU. target: format of the fakes' files. The
    noise of an image depends on `seed` and on its number alone; `first` is the number of the first one. masks: (H, W),
    bool, False in the holes of an image, or None; none of them by default.
    """
    fake = fill(as_stored(there(real), target), masks)
    noise = [np.random.default_rng([_NOISE, seed, first + i]).standard_normal(fake.shape[1:]) for i in range(len(fake))]
    noisy = fill(as_stored(fake + NOISE_SIGMA * torch.from_numpy(np.stack(noise)).float(), target), masks)
    return RoundTrip(fake, back(fake), back(noisy))


def fill(images: Tensor, masks: Sequence[Tensor | None]) -> Tensor:
    """A batch with its holes filled from around them, as a reader of files fills them. masks: as in `round_trip`.

    Features then see the same in the holes of a translation and of a real image: nothing that a generator invented.
    """
    if all(mask is None for mask in masks):
        return images
    filled = images.clone()
    for image, mask in zip(filled, masks, strict=True):
        if mask is not None:
            values = fill_holes(image.permute(1, 2, 0).numpy(), mask.numpy(), fallback=0.0)
            image.copy_(torch.from_numpy(values).permute(2, 0, 1))
    return filled


def as_stored(images: Tensor, image_format: ImageFormat) -> Tensor:
    """(N, C, H, W) in [-1, 1] as it is after it was written to a file of this format and read again."""
    return torch.stack([to_tensor(from_tensor(image, image_format), image_format) for image in images])
