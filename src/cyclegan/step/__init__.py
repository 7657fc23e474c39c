"""One training step: state, losses, updates, and how a step executes on a CPU or a GPU."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclegan.step.state import TrainState
    from cyclegan.step.update import train_step

__all__ = ["TrainState", "train_step"]

# Loaded at first use, so that importing one module of this package does not load the others.
_HOMES = {"TrainState": "cyclegan.step.state", "train_step": "cyclegan.step.update"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
