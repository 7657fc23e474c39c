"""Weights, options and commands of the reference implementation, junyanz/pytorch-CycleGAN-and-pix2pix."""

from typing import TYPE_CHECKING

from cyclegan._lazy import lazy_exports

if TYPE_CHECKING:
    from cyclegan.reference.keys import from_reference, to_reference

__all__ = ["from_reference", "to_reference"]

__getattr__, __dir__ = lazy_exports(__name__, dict.fromkeys(__all__, "cyclegan.reference.keys"))
