"""Instance norm with statistics from outside: of earlier frames, or of the whole image that a tile is part of."""

import copy
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (N, C, H, W) -> mean and variance to normalise with, (N or 1, C) each, float32. Called in every forward pass.
Statistics = Callable[[Tensor], tuple[Tensor, Tensor]]


def instance_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """The statistics of ordinary instance norm: mean and variance of each channel, (N, C, H, W) -> (N, C), float32."""
    x = x.float()
    mean = x.mean((-2, -1))
    # As exact as torch.var_mean, and several times faster on a CPU.
    spread = torch.linalg.vector_norm(x - mean[..., None, None], dim=(-2, -1))
    return mean, spread.square() / (x.shape[-2] * x.shape[-1])


class ExternalStatsNorm(nn.Module):
    """`nn.InstanceNorm2d` with the statistics of a function. (N, C, H, W) -> the same, in the type of the input."""

    def __init__(self, norm: nn.InstanceNorm2d, statistics: Statistics) -> None:
        super().__init__()
        self.norm = norm
        self.statistics = statistics

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = (values.expand(x.shape[:2]).reshape(-1) for values in self.statistics(x))
        learned = (self.norm.weight, self.norm.bias) if self.norm.affine else (None, None)
        weight, bias = (None if values is None else values.float().repeat(x.shape[0]) for values in learned)
        # Batch norm with given statistics computes the same, if the channels of all images are those of one image.
        flat = x.float().reshape(1, -1, *x.shape[2:])
        return F.batch_norm(flat, mean, variance, weight, bias, eps=self.norm.eps).reshape(x.shape).to(x.dtype)


def instance_norms(network: nn.Module) -> dict[str, nn.InstanceNorm2d]:
    """The layers, by name, that normalise an image with its own statistics: those without running statistics."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.InstanceNorm2d) and not module.track_running_stats
    }


def with_external_stats(network: nn.Module, statistics: Callable[[str], Statistics]) -> nn.Module:
    """A copy of the network in which every instance norm uses the statistics of `statistics(its name)`.

    The copy shares the weights and takes no memory. The network itself is not changed.
    """
    shared = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    twin = copy.deepcopy(network, memo=shared)
    for name, norm in instance_norms(twin).items():
        parent, _, child = name.rpartition(".")
        setattr(twin.get_submodule(parent), child, ExternalStatsNorm(norm, statistics(name)))
    return twin
