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
        # Of each image, (1, H, W); empty while no image had a mask.
        self.masks: list[Tensor] = []

    def query(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Exchange a batch of fakes for one of new and stored fakes.

        Until the pool is full, each image is stored and returned. Then each is, with probability 1/2, exchanged for a
        random stored image. images: (N, C, H, W), detached. Returns a batch of the same shape.
        """
        return self.query_with_masks(images, None, rng)[0]

    def query_with_masks(
        self, images: Tensor, masks: Tensor | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """`query` for fakes with masks, (N, 1, H, W), which stay beside their images. None: without masks.

        Returns a batch of images and their masks.
        """
        if self.size == 0:
            return images, masks
        if masks is not None and len(self.masks) < len(self.images):  # stored while there were no holes
            self.masks += [torch.ones_like(image[:1]) for image in self.images[len(self.masks) :]]
        chosen, chosen_masks = [], []
        for number, image in enumerate(images):
            mask = None if masks is None else masks[number]
            if len(self.images) < self.size:
                self.images.append(image.clone())
                if mask is not None:
                    self.masks.append(mask.clone())
            elif rng.random() < 0.5:
                index = int(rng.integers(self.size))
                # Images may differ in size; a stored one of another size does not fit into this batch.
                if self.images[index].shape == image.shape or len(images) == 1:
                    image, self.images[index] = self.images[index], image.clone()
                    if mask is not None:
                        mask, self.masks[index] = self.masks[index], mask.clone()
            chosen.append(image)
            if mask is not None:
                chosen_masks.append(mask)
        return torch.stack(chosen), torch.stack(chosen_masks) if chosen_masks else None
