"""Networks as a step computes with them: the float32 originals, or copies of them in a shorter type."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Working(Generic[Network]):
    """A network and the copy of it that a step computes with, in half precision; in float32 both are one.

    Rounding all weights once a step is cheaper than at each of their uses, and so it is with their gradients.
    """

    def __init__(self, original: Network, dtype: torch.dtype) -> None:
        self.is_copy = dtype != torch.float32
        self.network: Network = copy.deepcopy(original).to(dtype) if self.is_copy else original
        self._originals: list[Tensor] = list(original.parameters())
        self._copies: list[Tensor] = list(self.network.parameters())
        self._pairs = [
            (theirs, ours) for theirs, ours in zip(self._originals, self._copies, strict=True) if theirs.requires_grad
        ]
        # The weights that gradients are asked for.
        self.trained: list[Tensor] = [ours for _, ours in self._pairs]

    @torch.no_grad()
    def take_weights(self) -> None:
        """The weights that the original has now."""
        if self.is_copy:
            torch._foreach_copy_(self._copies, self._originals)

    def forget_gradients(self) -> None:
        """No gradients, here and at the original."""
        for original, ours in self._pairs:
            original.grad = ours.grad = None

    @torch.no_grad()
    def hand_over_gradients(self) -> None:
        """To the original, whose optimiser makes the step."""
        if self.is_copy:
            found = [(original, ours.grad) for original, ours in self._pairs if ours.grad is not None]
            gradients = [torch.empty_like(original) for original, _ in found]
            torch._foreach_copy_(gradients, [short for _, short in found])
            for (original, _), gradient in zip(found, gradients, strict=True):
                original.grad = gradient
