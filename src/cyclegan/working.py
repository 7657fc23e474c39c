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
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    parts = torch.split(flat, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view(parameter.shape)
    return flat


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
        parts = torch.split(self._gradients, [parameter.numel() for parameter in self.trained])
        for parameter, part in zip(self.trained, parts, strict=True):
            parameter.grad = part.view(parameter.shape)

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
