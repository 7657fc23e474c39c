"""Instance norm whose statistics come from outside: from earlier frames, or from the whole of a picture in tiles."""

import copy
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

# (N, C, H, W) -> the mean and the variance to normalise with, (N or 1, C) each, float32. It sees every call.
Statistics = Callable[[Tensor], tuple[Tensor, Tensor]]


def instance_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """What instance norm takes by itself: mean and variance of each channel, (N, C, H, W) -> (N, C) each, float32."""
    variance, mean = torch.var_mean(x.float(), (-2, -1), correction=0)
    return mean, variance


class GivenNorm(nn.Module):
    """`nn.InstanceNorm2d` with the statistics of a function. (N, C, H, W) -> the same, in the type of the input."""

    def __init__(self, norm: nn.InstanceNorm2d, statistics: Statistics) -> None:
        super().__init__()
        self.norm = norm
        self.statistics = statistics

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.statistics(x)
        scale = (variance + self.norm.eps).rsqrt()
        if self.norm.affine:
            scale = scale * self.norm.weight.float()
        shift = -mean * scale
        if self.norm.affine:
            shift = shift + self.norm.bias.float()
        return (x.float() * scale[..., None, None] + shift[..., None, None]).to(x.dtype)


def instance_norms(network: nn.Module) -> dict[str, nn.InstanceNorm2d]:
    """The layers by name that normalise an image with its own statistics. Those with running statistics do not."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.InstanceNorm2d) and not module.track_running_stats
    }


def with_statistics(network: nn.Module, statistics: Callable[[str], Statistics]) -> nn.Module:
    """A copy of the network in which every instance norm takes the statistics of `statistics(its name)`.

    The copy shares the weights and costs no memory; the network itself stays as it is, also while the copy runs.
    """
    shared = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    twin = copy.deepcopy(network, memo=shared)
    for name, norm in instance_norms(twin).items():
        parent, _, child = name.rpartition(".")
        setattr(twin.get_submodule(parent), child, GivenNorm(norm, statistics(name)))
    return twin
