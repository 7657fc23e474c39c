"""The pool of earlier fakes."""

import numpy as np
import torch
from torch import Tensor


class ImagePool:
    """Up to `size` earlier fakes (Shrivastava et al. 2017): the discriminator must also see old ones.

    Until it is full, `query` stores what comes and gives it back. After that, half of the time an image is exchanged
    for a random stored one. Random choices come from the caller.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def query(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """images: (N, C, H, W), detached. Returns as many images of the same shape, fresh or stored."""
        if self.size == 0:
            return images
        chosen = []
        for image in images:
            if len(self.images) < self.size:
                self.images.append(image.clone())
            elif rng.random() < 0.5:
                index = int(rng.integers(self.size))
                # With images of differing sizes, an old one of another size cannot join this batch.
                if self.images[index].shape == image.shape or len(images) == 1:
                    image, self.images[index] = self.images[index], image.clone()
            chosen.append(image)
        return torch.stack(chosen)
