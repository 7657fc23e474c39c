"""Instance norm whose statistics come from outside: from earlier frames, or from the whole of a picture in tiles."""

import copy
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (N, C, H, W) -> the mean and the variance to normalise with, (N or 1, C) each, float32. It sees every call.
Statistics = Callable[[Tensor], tuple[Tensor, Tensor]]


def instance_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """What instance norm takes by itself: mean and variance of each channel, (N, C, H, W) -> (N, C) each, float32."""
    x = x.float()
    mean = x.mean((-2, -1))
    # As exact as torch.var_mean, and several times faster on a CPU.
    spread = torch.linalg.vector_norm(x - mean[..., None, None], dim=(-2, -1))
    return mean, spread.square() / (x.shape[-2] * x.shape[-1])


class GivenNorm(nn.Module):
    """`nn.InstanceNorm2d` with the statistics of a function. (N, C, H, W) -> the same, in the type of the input."""

    def __init__(self, norm: nn.InstanceNorm2d, statistics: Statistics) -> None:
        super().__init__()
        self.norm = norm
        self.statistics = statistics

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = (values.expand(x.shape[:2]).reshape(-1) for values in self.statistics(x))
        learned = (self.norm.weight, self.norm.bias) if self.norm.affine else (None, None)
        weight, bias = (None if values is None else values.float().repeat(x.shape[0]) for values in learned)
        # Batch norm with given statistics is the same sum, if every channel of every image is a channel of one image.
        flat = x.float().reshape(1, -1, *x.shape[2:])
        return F.batch_norm(flat, mean, variance, weight, bias, eps=self.norm.eps).reshape(x.shape).to(x.dtype)


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
