"""Networks as a step computes with them: all weights in one piece of memory, and in half precision as a copy."""

import copy
from collections.abc import Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def flatten(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Move parameters into one piece of memory, of which they become views. Returns it, with one axis.

    What is done to all of them, the step of an optimiser or an average, is then one operation in place of hundreds.
    """
    parameters = list(parameters)
    if not parameters:
        return torch.empty(0)
    flat = torch.cat([channels_last(parameter.detach()).reshape(-1) for parameter in parameters])
    for parameter, view in zip(parameters, _views(flat, parameters), strict=True):
        parameter.data = view
    return flat


def channels_last(weight: Tensor) -> Tensor:
    """The axes of a convolution's weights, (out, in, height, width), in the order in which `flatten` lays them down.

    Gradients of convolutions that work in channels last come so, and are added up fastest where they lie alike.
    """
    return weight.permute(0, 2, 3, 1) if weight.ndim == 4 else weight


def _views(flat: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """One for each parameter, of its shape."""
    parts = torch.split(flat, [parameter.numel() for parameter in parameters])
    views = [part.view(channels_last(p).shape) for part, p in zip(parts, parameters, strict=True)]
    return [view.permute(0, 3, 1, 2) if view.ndim == 4 else view for view in views]


def trained(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _fixed(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if not parameter.requires_grad]


class Working(Generic[Network]):
    """A network and what a step computes with: the network itself in float32, else a copy in half precision.

    Rounding all weights once a step is cheaper than at each of their uses, and so it is with their gradients.
    `weights` is what an optimiser changes: all trained weights of the original, flattened, with their gradient.
    """

    def __init__(self, original: Network, dtype: torch.dtype) -> None:
        self.weights = nn.Parameter(flatten(trained(original)))
        self.weights.grad = torch.zeros_like(self.weights)
        self.network: Network = original
        # Memory of the copy and the memory that it is copied from: what is trained, and what is not.
        self._copied: list[tuple[Tensor, Tensor]] = []
        self._gradients = self.weights.grad
        if dtype != torch.float32:
            self.network = copy.deepcopy(original).to(dtype)
            short = flatten(trained(self.network))
            self._copied = [(short, self.weights), (flatten(_fixed(self.network)), flatten(_fixed(original)))]
            self._gradients = torch.zeros_like(short)
        # What gradients are asked for; they are added up in place.
        self.trained = trained(self.network)
        for parameter, view in zip(self.trained, _views(self._gradients, self.trained), strict=True):
            parameter.grad = view

    @torch.no_grad()
    def take_weights(self) -> None:
        """Those that the original has now."""
        for ours, theirs in self._copied:
            ours.copy_(theirs)

    def forget_gradients(self) -> None:
        """Before new ones are added up."""
        self._gradients.zero_()

    def hand_over_gradients(self) -> None:
        """To `weights`, for the optimiser."""
        assert self.weights.grad is not None
        if self._gradients is not self.weights.grad:
            self.weights.grad.copy_(self._gradients)
