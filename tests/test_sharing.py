"""Steps that several processes share, against the same steps in one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import shared_steps
import torch

SIZES = {"width": 8, "blocks": 1, "discriminator_width": 8, "crop_size": 32, "steps": 10, "preset": "modern"}
CASES = {
    "modern, by images": ({}, 2, "images", ""),
    "modern, by direction": ({"batch_size": 1}, 2, "directions", ""),
    "paper, both ways": ({"preset": "paper", "pool_size": 2}, 4, "directions", ""),
    "conservative, holes, by images": ({"preset": "conservative", "pool_size": 3}, 2, "images", "ab"),
    "holes, both ways": ({"channels_a": 1, "cycle_noise": 0.1, "pool_size": 2}, 4, "directions", "ba"),
    "wgan-gp": ({"adversarial": "wgan-gp", "contrastive_weight": 0.0}, 2, "images", ""),
    "R1 and bf16": ({"r1_weight": 2.0, "precision": "bf16"}, 2, "directions", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_processes_that_share_a_step_train_as_one_does(name, tmp_path):
    settings, size, share_by, holes = CASES[name]
    case = {
        "settings": {**SIZES, "batch_size": 2, "a": "a", "b": "b", **settings},
        "share_by": share_by,
        "holes": holes,
        "steps": 4,
    }
    results = run_processes(case, size, tmp_path)
    losses, tensors, _ = shared_steps.train_steps(case)
    bf16 = case["settings"].get("precision") == "bf16"
    for result in results:
        # All processes hold the same weights, bit for bit.
        assert result["tensors"].keys() == tensors.keys()
        for key, tensor in results[0]["tensors"].items():
            assert torch.equal(result["tensors"][key], tensor), key
        for step, (found, expected) in enumerate(zip(result["losses"], losses, strict=True)):
            assert found == pytest.approx(expected, rel=2e-2 if bf16 else 1e-4, abs=1e-6), step
    # Adam moves a weight by the sign of a gradient, which rounding decides where the gradient is 0.
    for key, expected in tensors.items():
        error = (results[0]["tensors"][key] - expected).abs()
        assert float(error.mean()) < (2e-4 if bf16 else 2e-5), key


def run_processes(case, size, folder):
    """What each of some processes returns for a case."""
    path = folder / "case.json"
    path.write_text(json.dumps(case))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    running = []
    for rank in range(size):
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1"}
        variables |= {"MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        command = [sys.executable, str(Path(shared_steps.__file__)), str(path)]
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return [torch.load(path.with_suffix(f".{rank}.pt")) for rank in range(size)]
