"""Weights in one piece of memory, and the copies in half precision that a step computes with."""

import copy
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


# Each tensor starts at a multiple of so many values: 64 bytes in 16 bits, which matrix units prefer.
_ALIGNMENT = 32


def flatten(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Move parameters into one tensor with one axis, and make them views of it. Returns this tensor.

    An optimiser step or a running average is then one operation instead of hundreds.
    """
    parameters = list(parameters)
    flat = concatenate([parameter.detach() for parameter in parameters])
    for parameter, view in zip(parameters, views_of(flat, parameters), strict=True):
        parameter.data = view
    return flat


def concatenate(tensors: Sequence[Tensor]) -> Tensor:
    """Copy tensors into one with one axis, each aligned, with zeros in the gaps.

    Weights of convolutions are laid out as (out, height, width, in): in the channels-last format their gradients have
    this order, and adding them up is fastest if the orders agree.
    """
    if not tensors:
        return torch.empty(0)
    flat = tensors[0].new_zeros(sum(_padded_size(tensor) for tensor in tensors))
    for view, tensor in zip(views_of(flat, tensors), tensors, strict=True):
        view.copy_(tensor)
    return flat


def views_of(flat: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Views of what `concatenate` returned, in the shapes of these tensors."""
    parts = torch.split(flat, [_padded_size(tensor) for tensor in tensors])
    views = []
    for part, tensor in zip(parts, tensors, strict=True):
        values = part[: tensor.numel()]
        if tensor.ndim == 4:
            out, channels, height, width = tensor.shape
            views.append(values.view(out, height, width, channels).permute(0, 3, 1, 2))
        else:
            views.append(values.view(tensor.shape))
    return views


def _padded_size(tensor: Tensor) -> int:
    return -(-tensor.numel() // _ALIGNMENT) * _ALIGNMENT


def trained(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _frozen(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if not parameter.requires_grad]


def add_grads(loss: Tensor, parameters: Sequence[nn.Parameter], *, together: bool | None = None) -> None:
    """Add the gradients of a loss to those of parameters, in place; a parameter without a part in the loss keeps its.

    together: at the end of the backward pass, which on CUDA is a kernel or two instead of one for each parameter.
    Default: on CUDA. Not for losses of several threads, which would write at the same time.
    """
    if not (loss.is_cuda if together is None else together):
        torch.autograd.backward(loss, inputs=parameters)
        return
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    pairs = [(parameter.grad, grad) for parameter, grad in zip(parameters, found, strict=True) if grad is not None]
    if pairs:
        torch._foreach_add_([cast(Tensor, own) for own, _ in pairs], [grad for _, grad in pairs])


class MasterWeights(Generic[Network]):
    """Float32 weights for the optimiser, and the network that a step computes with.

    `network` is the original itself for float32, otherwise a copy in half precision (Micikevicius et al. 2018):
    rounding all weights once a step, and adding up 16-bit gradients, is cheaper than rounding at every use. `trained`
    are its parameters that get gradients; these are added up in place.

    weights: the trained parameters of `original` after `flatten`, as the one parameter of its optimiser.
    """

    def __init__(self, original: Network, weights: nn.Parameter, dtype: torch.dtype) -> None:
        self.network: Network = original
        self.weights = weights
        self.weights.grad = torch.zeros_like(weights)
        self._grads = self.weights.grad
        self._copies: list[tuple[Tensor, Tensor]] = []  # the memory of the copy, and of what it copies
        if dtype != torch.float32:
            self.network = copy.deepcopy(original).to(dtype)
            half = flatten(trained(self.network))
            self._copies = [(half, weights), (flatten(_frozen(self.network)), flatten(_frozen(original)))]
            self._grads = torch.zeros_like(half)
        self.trained = trained(self.network)
        for parameter, view in zip(self.trained, views_of(self._grads, self.trained), strict=True):
            parameter.grad = view

    @torch.no_grad()
    def sync(self) -> None:
        """Round the current weights, frozen ones included, into the copy."""
        for target, source in self._copies:
            target.copy_(source)

    def zero_grad(self) -> None:
        """Set the gradients of the computing network to zero, in place."""
        self._grads.zero_()

    def copy_grads(self) -> None:
        """Copy the gradients of the computing network to `weights`, for the optimiser."""
        assert self.weights.grad is not None
        if self._grads is not self.weights.grad:
            self.weights.grad.copy_(self._grads)
