"""Run some steps in several processes that share them: `python shared_steps.py CASE.json`, once for each process."""

import json
import sys
from pathlib import Path

import torch

from cyclegan.config import make_config
from cyclegan.step import TrainState, train_step
from cyclegan.step.execution import Execution
from cyclegan.step.sharing import Share
from cyclegan.system.processes import joined_processes


def batch(step, config, *, holes):
    """Images of a step and their masks."""
    draw = torch.Generator().manual_seed(step)
    count, side = config.batch_size, config.data.crop_size
    a, b = (
        torch.rand((count, channels, side, side), generator=draw) * 2 - 1
        for channels in (config.model.channels_a, config.model.channels_b)
    )
    masks = {}
    # Each image has other holes; those of B begin at step 1.
    for name in holes if step else holes[:1]:
        masks[f"mask_{name}"] = (torch.rand((count, 1, side, side), generator=draw) < 0.7).float()
        masks[f"mask_{name}"][0] = 1
    return a, b, masks


def train_steps(case):
    """Train the steps of a case; returns the losses of each step and all trained weights, moments and pools."""
    config = make_config(case["settings"])
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with joined_processes("cpu") as processes:
        state = TrainState.create(config)
        share = Share.of(processes, config.batch_size, case["share_by"])
        state.execution = Execution(state, share=share)
        losses = []
        for step in range(case["steps"]):
            a, b, masks = batch(step, config, holes=case["holes"])
            own = {name: share.own(mask) for name, mask in masks.items()}
            found = train_step(state, share.own(a), share.own(b), **own)
            losses.append({name: float(value) for name, value in found.items()})
        tensors = {f"{name}.weights": w.detach() for name, w in weights(state).items()}
        for name, pool in state.pools.items():
            tensors |= {f"{name}.{index}": image for index, image in enumerate(pool.images)}
            tensors |= {f"{name}.mask{index}": mask for index, mask in enumerate(pool.masks)}
        return losses, tensors, processes.rank


def weights(state):
    found = {"generator": state.generator_weights, "discriminator": state.discriminator_weights}
    found |= {"average": state.average_weights}
    return found if state.head_weights is None else {**found, "heads": state.head_weights}


if __name__ == "__main__":
    path = Path(sys.argv[1])
    losses, tensors, rank = train_steps(json.loads(path.read_text()))
    torch.save({"losses": losses, "tensors": tensors}, path.with_suffix(f".{rank}.pt"))
