"""Training runs: set up, loop, log, save, resume. `train` is the way in; events and batches are what callers extend."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclegan.data.dataset import Batch
    from cyclegan.training.batch_source import BatchSource
    from cyclegan.training.events import (
        CheckpointSaved,
        Ended,
        Event,
        FileUnreadable,
        LossesLogged,
        LossNotFinite,
        Scored,
        ScoringSkipped,
        SessionStarted,
        SnapshotSaved,
        StepDone,
        ValidationMeasured,
        WarningRaised,
    )
    from cyclegan.training.loop import train

__all__ = [
    "Batch",
    "BatchSource",
    "CheckpointSaved",
    "Ended",
    "Event",
    "FileUnreadable",
    "LossNotFinite",
    "LossesLogged",
    "Scored",
    "ScoringSkipped",
    "SessionStarted",
    "SnapshotSaved",
    "StepDone",
    "ValidationMeasured",
    "WarningRaised",
    "train",
]

# Loaded at first use, so that importing one module of this package does not load the others.
_HOMES = {
    "Batch": "cyclegan.data.dataset",
    "BatchSource": "cyclegan.training.batch_source",
    "train": "cyclegan.training.loop",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "cyclegan.training.events")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
