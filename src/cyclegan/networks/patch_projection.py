"""What the patch-contrastive loss compares: activations of a generator, projected onto a sphere (Park et al. 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ProjectionHeads(nn.Module):
    """For each of several activations a perceptron with one hidden layer, whose results have length 1."""

    def __init__(self, channels: Sequence[int], size: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(count, size), nn.ReLU(), nn.Linear(size, size)) for count in channels
        )

    def forward(self, activations: Sequence[Tensor], places: Tensor) -> list[Tensor]:
        """activations: (N, C, H, W) each; places: (number of activations, P) in [0, 1], see `sample`.

        Returns (N, P or H * W, size) each, float32.
        """
        return [
            F.normalize(layer(sample(x, at).float()), dim=-1)
            for layer, x, at in zip(self.layers, activations, places, strict=True)
        ]


def sample(x: Tensor, places: Tensor) -> Tensor:
    """Pixels of an activation: (N, C, H, W) -> (N, P, C), all of them if they are no more than P.

    places: (P,) in [0, 1]; what was drawn below 1 may have been rounded to it. The pixels are cut into P runs of nearly
    equal length, and of each one pixel is taken, this far into it: as random as one likes, and none twice.
    """
    flat = x.permute(0, 2, 3, 1).flatten(1, 2)
    count, wanted = flat.shape[1], len(places)
    if count <= wanted:
        return flat
    edges = torch.arange(wanted + 1, device=places.device) * count // wanted
    lengths = edges.diff()
    return flat[:, edges[:-1] + torch.minimum((places * lengths).long(), lengths - 1)]
