"""Networks as a step computes with them: all weights in one piece of memory, and in half precision as a copy."""

import copy
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


# Every parameter begins at a multiple of so many values, 64 bytes in 16 bits: matrix units want it so.
_ALIGNMENT = 32


def flatten(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Move parameters into one piece of memory, of which they become views. Returns it, with one axis.

    What is done to all of them, the step of an optimiser or an average, is then one operation in place of hundreds.
    """
    parameters = list(parameters)
    flat = lay_down([parameter.detach() for parameter in parameters])
    for parameter, view in zip(parameters, views_of(flat, parameters), strict=True):
        parameter.data = view
    return flat


def lay_down(tensors: Sequence[Tensor]) -> Tensor:
    """The values of tensors in one piece of memory, one after the other, with zeros where the next is not yet aligned.

    Weights of convolutions lie in the order out, height, width, in: their gradients come so where channels lie side by
    side, and are added up fastest where they lie alike.
    """
    if not tensors:
        return torch.empty(0)
    flat = tensors[0].new_zeros(sum(_room(tensor) for tensor in tensors))
    for view, tensor in zip(views_of(flat, tensors), tensors, strict=True):
        view.copy_(tensor)
    return flat


def views_of(flat: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """What `lay_down` put down, in the shapes of these tensors."""
    parts = torch.split(flat, [_room(tensor) for tensor in tensors])
    views = []
    for part, tensor in zip(parts, tensors, strict=True):
        values = part[: tensor.numel()]
        if tensor.ndim == 4:
            out, channels, height, width = tensor.shape
            views.append(values.view(out, height, width, channels).permute(0, 3, 1, 2))
        else:
            views.append(values.view(tensor.shape))
    return views


def _room(tensor: Tensor) -> int:
    return -(-tensor.numel() // _ALIGNMENT) * _ALIGNMENT


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
        for parameter, view in zip(self.trained, views_of(self._gradients, self.trained), strict=True):
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
