"""Checkpoints: everything that a run needs to resume exactly."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cyclegan.errors import InputError, TrainingError
from cyclegan.step.master_weights import concatenate
from cyclegan.step.state import TrainState
from cyclegan.storage.model import ModelInfo, save_tensors, with_prefix, write_model
from cyclegan.storage.run import list_checkpoints
from cyclegan.system.atomic import atomic_path


def generator_weights(state: TrainState) -> dict[str, dict[str, Tensor]]:
    """State dicts of both generators, final and averaged, as `save_model` takes them."""
    named = {"a2b": state.generator.a2b, "b2a": state.generator.b2a}
    named |= {"a2b_average": state.average.a2b, "b2a_average": state.average.b2a}
    return {name: network.state_dict() for name, network in named.items()}


def save_checkpoint(run: Path, info: ModelInfo, state: TrainState, *, seconds: float, keep: int) -> Path:
    """Write checkpoints/step_N with everything needed to resume exactly, then remove all but the newest `keep`.

    seconds: training time so far. Raises OSError if it cannot be written; older checkpoints are then untouched.
    """
    target = run / "checkpoints" / f"step_{state.step:07d}"
    with atomic_path(target) as folder:
        folder.mkdir()
        _write_checkpoint(folder, info, state, seconds)
    for old in list_checkpoints(run)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def last_good_checkpoint(run: Path) -> str:
    """A sentence that names the newest checkpoint."""
    checkpoints = list_checkpoints(run)
    return f"The last good checkpoint is {checkpoints[0]}." if checkpoints else "No checkpoint was saved yet."


@contextmanager
def writing(run: Path, step: int) -> Iterator[None]:
    """Turn an OSError while the files of a step are written into a TrainingError with the remedy."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"Step {step} could not be written to {run}: {error.strerror or error}. {last_good_checkpoint(run)} "
            "Free some space or repair the disk, then continue from there with --resume."
        ) from error


def save_best(run: Path, info: ModelInfo, state: TrainState, *, seconds: float, scores: dict[str, Any]) -> None:
    """Replace best/ by a checkpoint of this state, with the validation scores that it was chosen by."""
    with atomic_path(run / "best") as folder:
        folder.mkdir()
        _write_checkpoint(folder, info, state, seconds)
        (folder / "validation.json").write_text(json.dumps(scores, indent=2) + "\n")


def read_best(run: Path) -> dict[str, Any] | None:
    """The validation scores of best/, or None if there are none that can be read."""
    folder = run / "best"
    old = folder.with_name(".best.old")
    if old.is_dir() and not folder.exists():  # a process was killed between the two renames that replace it
        old.rename(folder)
    try:
        scores = json.loads((folder / "validation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    good = isinstance(scores, dict) and isinstance(scores.get("step"), int) and isinstance(scores.get("kid"), float)
    return scores if good else None


def _write_checkpoint(folder: Path, info: ModelInfo, state: TrainState, seconds: float) -> None:
    (folder / "model").mkdir()
    write_model(folder / "model", info, generator_weights(state))
    tensors = {f"discriminator.{name}": tensor for name, tensor in state.discriminator.state_dict().items()}
    if state.heads is not None:
        tensors |= {f"heads.{name}": tensor for name, tensor in state.heads.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{moment}": tensor for moment, tensor in moments.items()}
    for name, pool in state.pools.items():
        tensors |= {f"{name}.{index}": image for index, image in enumerate(pool.images)}
    if state.scaler.is_enabled():
        tensors |= {f"scaler.{name}": torch.tensor(value) for name, value in state.scaler.state_dict().items()}
    save_tensors(folder / "training.safetensors", tensors)
    about = {"step": state.step, "seconds": seconds, "precision": state.config.precision}
    (folder / "training.json").write_text(json.dumps(about) + "\n")


def read_precision(checkpoint: Path) -> str | None:
    """The precision that a checkpoint was trained in: fp32, bf16 or fp16; None if it is not recorded."""
    try:
        precision = json.loads((checkpoint / "training.json").read_text()).get("precision")
    except (OSError, ValueError, AttributeError):
        return None
    return precision if precision in ("fp32", "bf16", "fp16") else None


def load_checkpoint(checkpoint: Path, state: TrainState) -> float:
    """Load a checkpoint into a fresh state of the same configuration. Returns the training time so far, in seconds.

    Raises InputError if it is damaged or of other networks.
    """
    try:
        progress = json.loads((checkpoint / "training.json").read_text())
        tensors = load_file(checkpoint / "training.safetensors")
        for suffix, generators in (("", state.generator), ("_average", state.average)):
            generators.a2b.load_state_dict(load_file(checkpoint / "model" / f"a2b{suffix}.safetensors"))
            generators.b2a.load_state_dict(load_file(checkpoint / "model" / f"b2a{suffix}.safetensors"))
        state.discriminator.load_state_dict(with_prefix(tensors, "discriminator."))
        if state.heads is not None:
            state.heads.load_state_dict(with_prefix(tensors, "heads."))
        for name, optimizer in state.optimizers.items():
            saved: dict[int, dict[str, Tensor]] = {}
            for key, tensor in with_prefix(tensors, f"{name}.").items():
                index, moment = key.split(".")
                saved.setdefault(int(index), {})[moment] = tensor
            if len(saved) > 1:  # early releases kept the moments of each weight by themselves
                parts = [saved[index] for index in sorted(saved)]
                names = ("exp_avg", "exp_avg_sq")
                whole = {name: concatenate([part[name] for part in parts]) for name in names}
                saved = {0: {"step": parts[0]["step"], **whole}}
            optimizer.load_state_dict({"state": saved, "param_groups": optimizer.state_dict()["param_groups"]})
        for name, pool in state.pools.items():
            images = with_prefix(tensors, f"{name}.")
            pool.images = [images[str(index)].to(state.device) for index in range(len(images))]
        if state.scaler.is_enabled() and (scaler := with_prefix(tensors, "scaler.")):
            state.scaler.load_state_dict({name: value.item() for name, value in scaler.items()})
    except (OSError, SafetensorError, json.JSONDecodeError, KeyError, RuntimeError) as error:
        raise InputError(f"The checkpoint {checkpoint} cannot be read: {error}") from error
    state.step = int(progress["step"])
    return float(progress["seconds"])
