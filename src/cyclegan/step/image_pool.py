"""The pool of earlier translations that a discriminator is trained on."""

import numpy as np
import torch
from torch import Tensor


class ImagePool:
    """Up to `size` earlier fakes (Shrivastava et al. 2017; Zhu et al. 2017, section 4).

    Discriminators that also see old fakes oscillate less.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def query(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Exchange a batch of fakes for one of new and stored fakes.

        Until the pool is full, each image is stored and returned. Then each is, with probability 1/2, exchanged for a
        random stored image. images: (N, C, H, W), detached. Returns a batch of the same shape.
        """
        if self.size == 0:
            return images
        chosen = []
        for image in images:
            if len(self.images) < self.size:
                self.images.append(image.clone())
            elif rng.random() < 0.5:
                index = int(rng.integers(self.size))
                # Images may differ in size; a stored one of another size does not fit into this batch.
                if self.images[index].shape == image.shape or len(images) == 1:
                    image, self.images[index] = self.images[index], image.clone()
            chosen.append(image)
        return torch.stack(chosen)
