"""Weights, options and commands of the reference implementation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclegan.reference.keys import from_reference, to_reference

__all__ = ["from_reference", "to_reference"]

# Loaded at first use, so that importing one module of this package does not load the others.
_HOMES = {"from_reference": "cyclegan.reference.keys", "to_reference": "cyclegan.reference.keys"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
