"""Train steps that several processes share: `python shared_steps.py CASES.json`, once for each process."""

import json
import sys
from pathlib import Path

import torch
from stand_in_recorder import StandIn

from cyclegan.config import make_config
from cyclegan.step import TrainState, train_step
from cyclegan.step.cuda_graphs import graph_step
from cyclegan.step.execution import Execution
from cyclegan.step.sharing import Share
from cyclegan.system.processes import ALONE, joined_processes


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


def train_steps(case, processes=ALONE):
    """Train the steps of a case. Returns the losses of each step, the first gradients, and all that is trained."""
    config = make_config(case["settings"])
    state = TrainState.create(config)
    share = Share.of(processes, config.batch_size, case["share_by"])
    state.execution = Execution(state, share=share)
    step_once = graph_step(StandIn()) if case["recorded"] else train_step
    losses, gradients = [], {}
    for step in range(case["steps"]):
        a, b, masks = batch(step, config, holes=case["holes"])
        own = {name: share.own(mask) for name, mask in masks.items()}
        found = step_once(state, share.own(a), share.own(b), **own)
        losses.append({name: float(value) for name, value in found.items()})
        if step == 0:
            gradients = {name: of.param_groups[0]["params"][0].grad.clone() for name, of in state.optimizers.items()}
    state.close()
    return {"losses": losses, "gradients": gradients, "state": tensors_of(state)}


def tensors_of(state):
    """All that a step changes."""
    found = {"generator": state.generator_weights, "discriminator": state.discriminator_weights}
    found |= {"average": state.average_weights} | ({} if state.heads is None else {"heads": state.head_weights})
    found = {name: weights.detach() for name, weights in found.items()}
    for name, pool in state.pools.items():
        found |= {f"{name}.{index}": image for index, image in enumerate(pool.images)}
        found |= {f"{name}.mask{index}": mask for index, mask in enumerate(pool.masks)}
    return found


if __name__ == "__main__":
    path = Path(sys.argv[1])
    with joined_processes("cpu") as processes:
        found = {name: train_steps(case, processes) for name, case in json.loads(path.read_text()).items()}
        torch.save(found, path.with_suffix(f".{processes.rank}.pt"))
