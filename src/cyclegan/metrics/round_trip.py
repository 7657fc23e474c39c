"""Translate images to the other domain and back, as they would go through files."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import from_tensor, to_tensor

# Noise on a translation, as a standard deviation in [-1, 1]: 6.4 of 255 grey levels.
NOISE_SIGMA = 0.05

# First entry of the counter-based seeds of that noise.
_NOISE = 31


@dataclass(frozen=True)
class RoundTrip:
    """Batches (N, C, H, W) in [-1, 1] on the CPU.

    fake: the translation with the depth of its files. cycled: translated back from there. cycled_noisy: the same with
    noise on the fake, which destroys information that a generator has hidden in invisible detail (Chu et al. 2017,
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
) -> RoundTrip:
    """Translate a batch there and back, with and without noise.

    real: (N, C, H, W) in [-1, 1]. there, back: batch to batch, on the CPU. target: format of the fakes' files. The
    noise of an image depends on `seed` and on its number alone; `first` is the number of the first one.
    """
    fake = as_stored(there(real), target)
    noise = [np.random.default_rng([_NOISE, seed, first + i]).standard_normal(fake.shape[1:]) for i in range(len(fake))]
    noisy = as_stored(fake + NOISE_SIGMA * torch.from_numpy(np.stack(noise)).float(), target)
    return RoundTrip(fake, back(fake), back(noisy))


def as_stored(images: Tensor, image_format: ImageFormat) -> Tensor:
    """(N, C, H, W) in [-1, 1] as it is after it was written to a file of this format and read again."""
    return torch.stack([to_tensor(from_tensor(image, image_format), image_format) for image in images])
