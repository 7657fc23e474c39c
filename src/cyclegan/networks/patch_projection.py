"""Projections of generator features onto a sphere, for the patch-contrastive loss (Park et al. 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ProjectionHeads(nn.Module):
    """One perceptron with a hidden layer for each activation; its outputs are scaled to length 1."""

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
    """Pixels of an activation: (N, C, H, W) -> (N, P, C), or all pixels if there are at most P.

    places: (P,) in [0, 1]; a value drawn below 1 may have been rounded to 1. The pixels are split into P runs of nearly
    equal length. Each place selects one pixel of its run, so that no pixel is taken twice.
    """
    flat = x.permute(0, 2, 3, 1).flatten(1, 2)
    count, wanted = flat.shape[1], len(places)
    if count <= wanted:
        return flat
    edges = torch.arange(wanted + 1, device=places.device) * count // wanted
    lengths = edges.diff()
    return flat[:, edges[:-1] + torch.minimum((places * lengths).long(), lengths - 1)]
