"""Runs of release 0.1.0 load, translate and go on.

`data/old_runs/` holds a run of three steps of each kind, made by that release with the settings in its config.toml:
`modern` (layer norm, spectral norm, contrastive loss) and `paper` (instance norm). `expected/` holds what the same
release made of them: the weights of an uninterrupted run of six steps, and a translation after three.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from cyclegan import Translator, train
from cyclegan.step import TrainState
from cyclegan.storage.run import list_checkpoints, read_log, read_run_config
from cyclegan.training.checkpoint import load_checkpoint

OLD_RUNS = Path(__file__).parent / "data" / "old_runs"

# The code that made the expected weights and today's give the same bits on the processor where both were tried. Without
# AVX, and with oneDNN held to SSE4.1, sums are taken in another order and the largest difference of a weight is 8e-8.
# Losing part of a checkpoint costs more: 6e-5 without the pools of earlier fakes, 1e-3 without the optimisers' moments.
TOLERANCE = 5e-6


@pytest.fixture(params=["modern", "paper"])
def old(request, tmp_path, monkeypatch):
    """The name of an old run in the current directory, beside the images that it was trained on."""
    shutil.copytree(OLD_RUNS, tmp_path / "old_runs")
    monkeypatch.chdir(tmp_path / "old_runs")
    return request.param


def weights_of(run):
    """Every weight of the four networks and of the averaged generators."""
    found = {}
    for path in (run / "model").glob("*.safetensors"):
        found |= {f"{path.stem}.{name}": tensor for name, tensor in load_file(path).items()}
    training = load_file(list_checkpoints(run)[0] / "training.safetensors")
    return found | {name: tensor for name, tensor in training.items() if name.startswith("discriminator.")}


def test_an_old_model_translates_as_it_did(old):
    image = Translator.load(old, direction="a2b", device="cpu")(Image.open("images/a/0.png"))
    expected = Image.open(f"expected/{old}_step_3.png")
    assert image.size == expected.size
    # Rounding to 8 bits may turn a tiny difference into one level.
    assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 1


def test_an_old_checkpoint_loads(old):
    state = TrainState.create(read_run_config(Path(old)))
    seconds = load_checkpoint(list_checkpoints(Path(old))[0], state)
    assert state.step == 3
    assert 0 < seconds < 1
    assert len(state.pool_a.images) == len(state.pool_b.images) == 3


def test_an_old_run_goes_on_and_ends_where_the_old_release_did(old):
    config = read_run_config(Path(old))
    run = train(config.replace(steps=6), resume=True, quiet=True)
    found, expected = weights_of(run), load_file(f"expected/{old}_step_6.safetensors")
    assert found.keys() == expected.keys()
    differences = {name: (found[name] - expected[name]).abs().max().item() for name in expected}
    assert max(differences.values()) <= TOLERANCE, max(differences, key=differences.get)
    # The log goes on, too, with the lines of both releases in one file.
    lines = read_log(run / "log.jsonl")
    assert [line["step"] for line in lines if "event" not in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if line.get("event") == "session"] == [0, 3]
    old_losses, new_losses = (
        next(line for line in lines if line["step"] == step and "cycle_a" in line) for step in (3, 6)
    )
    assert list(old_losses) == list(new_losses)
    assert (run / "report.html").is_file()
