"""Steps that several processes share, against the same steps in one process."""

import json
from pathlib import Path

import pytest
import shared_steps
import torch
from processes import start, wait

from cyclegan.errors import InputError
from cyclegan.step.sharing import Share
from cyclegan.system.devices import resolve_device
from cyclegan.system.processes import Processes, is_first_process, joined_processes

SIZES = {"width": 8, "blocks": 1, "discriminator_width": 8, "crop_size": 32, "steps": 10, "preset": "modern"}
SIZES["precision"] = "fp32"
# Settings, processes, how they share, and the domains with holes in the order in which these appear.
CASES = {
    "modern, by images": ({}, 2, "images", ""),
    "modern, by direction": ({"batch_size": 1}, 2, "directions", ""),
    "conservative, holes, by images": ({"preset": "conservative", "pool_size": 3}, 2, "images", "ab"),
    "wgan-gp": ({"adversarial": "wgan-gp", "contrastive_weight": 0.0}, 2, "images", ""),
    "R1 and bf16": ({"r1_weight": 2.0, "precision": "bf16"}, 2, "directions", ""),
    "paper, both ways": ({"preset": "paper", "pool_size": 2}, 4, "directions", ""),
    "recorded": ({}, 2, "images", ""),
    "recorded, holes": ({"preset": "conservative"}, 2, "images", "ab"),
    "holes, both ways": ({"channels_a": 1, "cycle_noise": 0.1, "pool_size": 2}, 4, "directions", "ba"),
}


def case(name):
    settings, _, share_by, holes = CASES[name]
    settings = {**SIZES, "batch_size": 2, "a": "a", "b": "b", **settings}
    return {"settings": settings, "share_by": share_by, "holes": holes, "steps": 4, "recorded": "recorded" in name}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What each process returns, by case."""
    results = {}
    for size in (2, 4):
        path = tmp_path_factory.mktemp("shared") / "cases.json"
        path.write_text(json.dumps({name: case(name) for name in CASES if CASES[name][1] == size}))
        for status, _, errors in wait(start(size, [shared_steps.__file__, path])):
            assert status == 0, errors
        found = [torch.load(path.with_suffix(f".{rank}.pt")) for rank in range(size)]
        results |= {name: [each[name] for each in found] for name in found[0]}
    return results


@pytest.mark.parametrize("name", CASES)
def test_processes_that_share_a_step_train_as_one_does(name, shared):
    first, *others = shared[name]
    for other in others:
        assert other["losses"] == first["losses"]
        assert other["state"].keys() == first["state"].keys()
        for key, tensor in first["state"].items():
            assert torch.equal(other["state"][key], tensor), key
    alone = shared_steps.train_steps(case(name))
    error = 1e-2 if CASES[name][0].get("precision") == "bf16" else 2e-5
    for key, expected in alone["gradients"].items():
        assert float(expected.norm()) > 0
        assert float((first["gradients"][key] - expected).norm() / expected.norm()) < error, key
    # Adam moves a weight by the sign of its gradient at first, so rounding grows from step to step.
    for step, (found, expected) in enumerate(zip(first["losses"], alone["losses"], strict=True)):
        assert found == pytest.approx(expected, rel=50**step * error, abs=1e-6), step
    assert first["state"].keys() == alone["state"].keys()
    for key, expected in alone["state"].items():
        assert float((first["state"][key] - expected).abs().mean()) < 50 * error * float(expected.abs().mean()), key


@pytest.mark.parametrize(
    ("size", "batch_size", "share_by", "parts"),
    [
        (3, 2, "auto", "by directions; start 1, 2 or 4 processes, or pass a --batch-size that is a multiple of 3."),
        (6, 4, "auto", "start 1, 2, 4 or 8 processes, or pass a --batch-size that is a multiple of 6, or of 3 with"),
        (
            2,
            1,
            "images",
            "cannot share a batch of 1 image of each domain by images; start 1 process, or pass a",
        ),
    ],
)
def test_a_batch_that_cannot_be_shared_names_what_can(size, batch_size, share_by, parts):
    with pytest.raises(InputError) as raised:
        Share.of(Processes(0, size), batch_size, share_by)
    assert parts in str(raised.value)


def test_alone_a_share_is_everything():
    batch = torch.arange(6.0).reshape(3, 2)
    share = Share.of(Processes(), 3)
    assert share.is_whole
    assert share.directions == ("a2b", "b2a")
    assert torch.equal(share.own(batch), batch)


@pytest.mark.parametrize(("size", "rank", "is_first"), [(None, 3, True), (1, 3, True), (4, 3, False), (4, 0, True)])
def test_a_rank_counts_only_among_several_processes(size, rank, is_first, monkeypatch):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", str(size))
    assert is_first_process() is is_first


def test_gpus_without_nccl_and_fewer_gpus_than_processes_are_refused_in_a_sentence(monkeypatch):
    variables = {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: False)
    with (
        pytest.raises(InputError, match=r"has no NCCL, by which GPUs talk; pass --device cpu\."),
        joined_processes("cuda"),
    ):
        pass
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert resolve_device("cuda", 0) == torch.device("cuda:0")
    with pytest.raises(InputError, match="At least 2 processes run on this machine, which has 1 GPU; "):
        resolve_device("cuda", 1)


THREADS = """
import os, sys
import torch
from cyclegan.system.processes import joined_processes
with joined_processes("cpu") as processes:
    (group,) = processes.make_groups(1)
    processes.add_up(torch.ones(2), group)
    import torch._dynamo  # as optimisers do
for thread in os.listdir("/proc/self/task"):
    with open(f"/proc/self/task/{thread}/comm") as file:
        print(file.read().strip())
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="lists threads in /proc")
def test_no_thread_of_the_groups_is_left_that_could_crash_a_program_at_its_end():
    for status, output, errors in wait(start(2, ["-c", THREADS])):
        assert (status, errors) == (0, "")
        assert not [name for name in output.split() if "gloo" in name or "store" in name]
