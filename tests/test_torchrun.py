"""Trainings of several processes: the same as one, resumed, stopped, killed, and refused."""

import random
import signal
import time

import pytest
import torch
from PIL import Image
from processes import start, wait
from safetensors.torch import load_file

from conftest import make_folder
from cyclegan.storage.run import list_checkpoints, read_log, step_of

SETTINGS = ["--width", 8, "--blocks", 1, "--crop-size", 32, "--discriminator-width", 8, "--batch-size", 2]
SETTINGS += ["--log-steps", 5, "--sample-steps", 10, "--checkpoint-steps", 5, "--num-validation", 12]
SETTINGS += ["--no-tensorboard", "--schedule", "constant", "--precision", "fp32"]

# The command without the limit on the time of scores, which short runs never reach.
COMMAND = "from cyclegan.training import validation; validation.TIME_SHARE = 1000.0; "
COMMAND += "from cyclegan.cli import main; main()"


def train(folder, size, *arguments, variables=None, seconds=300):
    """What `cyclegan train` returns in each process: status, standard output, standard error."""
    return wait(start(size, ["-c", COMMAND, "train", *arguments], folder, variables), seconds)


def losses(run):
    """The lines of the log on losses, without times."""
    times = ("seconds", "images_per_second")
    lines = [line for line in read_log(run / "log.jsonl") if "event" not in line]
    return {line["step"]: {name: value for name, value in line.items() if name not in times} for line in lines}


def kids(run):
    return [line["kid"] for line in read_log(run / "log.jsonl") if line.get("event") == "scores"]


def weights(run):
    files = list_checkpoints(run)[0].rglob("*.safetensors")
    return {(path.name, name): tensor for path in files for name, tensor in load_file(path).items()}


def assert_same(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with folders a and b, of which b has images with holes and a damaged one."""
    folder = tmp_path_factory.mktemp("images")
    make_folder(folder / "a", count=24, size=(40, 40))
    make_folder(folder / "b", count=24, size=(40, 40), seed=1)
    for path in sorted((folder / "b").iterdir())[:8]:
        image = Image.open(path).convert("RGBA")
        image.paste((0, 0, 0, 0), (0, 0, 20, 20))
        image.save(path)
    path = folder / "b" / "23.png"
    path.write_bytes(path.read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def alone(folders):
    (result,) = train(folders, 1, "a", "b", "--out", "alone", "--steps", 20, *SETTINGS)
    assert result[0] == 0, result
    return folders / "alone"


@pytest.fixture(scope="module")
def pair(folders):
    """A run of two processes."""
    results = train(folders, 2, "a", "b", "--out", "pair", "--steps", 20, *SETTINGS)
    assert [status for status, _, _ in results] == [0, 0], results
    return folders / "pair", results


def assert_alike(run, alone):
    """The losses of a run are those of another to rounding, which grows with the steps."""
    found, expected = losses(run), losses(alone)
    assert found.keys() == expected.keys()
    for step, line in expected.items():
        assert found[step] == pytest.approx(line, rel=2e-4 if step == 5 else 0.05, abs=2e-3), step


def test_two_processes_train_as_one_and_the_first_alone_writes(pair, alone):
    run, ((_, output, errors), (_, other_output, other_errors)) = pair
    assert_alike(run, alone)
    assert output.strip() == "pair"
    assert "Processes: 2 processes share the images of a step" in errors
    assert "23.png" in errors
    assert other_output == other_errors == ""
    names = [{path.relative_to(each).as_posix() for path in each.rglob("*")} for each in (run, alone)]
    assert names[0] - {"pair"} == names[1]
    assert len(kids(alone)) > 0
    assert kids(run) == pytest.approx(kids(alone), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "share_by"), [(2, "directions"), (4, "auto")])
def test_processes_train_as_one_by_direction_and_both_ways(size, share_by, folders, alone):
    out = f"{size}-{share_by}"
    results = train(folders, size, "a", "b", "--out", out, "--steps", 20, "--share-by", share_by, *SETTINGS)
    assert [status for status, _, _ in results] == [0] * size, results
    assert_alike(folders / out, alone)


@pytest.mark.slow
def test_a_run_of_four_processes_goes_on_with_two_and_with_one(folders, alone):
    command = ["a", "b", "--out", "fewer", *SETTINGS, "--resume"]
    for size, steps, first in ((4, 10, True), (2, 15, False), (1, 20, False)):
        results = train(folders, size, *command[: -1 if first else None], "--steps", steps)
        assert [status for status, _, _ in results] == [0] * size, results
    assert_alike(folders / "fewer", alone)


def _newest(run):
    """Step of the newest checkpoint, or 0."""
    checkpoints = list_checkpoints(run)
    return step_of(checkpoints[0]) if checkpoints else 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(victim, folders, pair):
    out = f"killed{victim}"
    command = ["a", "b", "--out", out, "--steps", 20, *SETTINGS]
    random.seed(victim)
    for session in range(2):  # moments of a session, wherever they fall
        started = start(2, ["-c", COMMAND, "train", *command], folders)
        deadline = time.monotonic() + 120
        while _newest(folders / out) < 5 + 5 * session and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(random.random() * 0.8)
        started[victim].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        results = wait(started, 60)
        if 0 in (results[0][0], results[1][0]):  # too late: this one or the other had done all its work
            assert _newest(folders / out) == 20, results
            break
        assert time.monotonic() - killed < 20
        assert results[1 - victim][0] == 1, results
        assert "Traceback" not in results[1 - victim][2], results[1 - victim][2][-2500:]
        assert "Another process of this training has ended" in results[1 - victim][2]
    for status, _, errors in train(folders, 2, *command):
        assert status == 0, errors
    assert_same(folders / out, pair[0])


@pytest.mark.slow
def test_a_stop_of_any_process_saves_and_the_same_command_goes_on(folders, pair):
    command = ["a", "b", "--out", "stopped", "--steps", 20, *SETTINGS]
    started = start(2, ["-c", COMMAND, "train", *command], folders)
    while not list_checkpoints(folders / "stopped"):
        time.sleep(0.05)
    started[1].send_signal(signal.SIGTERM)
    results = wait(started)
    assert [status for status, _, _ in results] == [130, 130], results
    assert "Stopped and saved after step" in results[0][2]
    assert "To continue: torchrun ... -m cyclegan train --out stopped --resume" in results[0][2]
    assert results[1][2] == ""
    for status, _, errors in train(folders, 2, *command):
        assert status == 0, errors
    assert_same(folders / "stopped", pair[0])


def test_what_cannot_be_shared_is_refused_by_one_sentence(folders):
    cases = {
        "odd": (
            ["--batch-size", 3, "--share-by", "images"],
            {},
            "2 processes cannot share a batch of 3 images of each domain by images; start 1 or 3 processes, or pass a "
            "--batch-size that is a multiple of 2, or --share-by directions.",
        ),
        "norm": (["--norm", "batch"], {}, "With batch norm, whose statistics are of a whole batch, 2 processes"),
        "gone": ([], {"MASTER_ADDR": ""}, "WORLD_SIZE is 2, but MASTER_ADDR is not set; start all processes with"),
        "word": ([], {"RANK": "first"}, "The variable RANK is 'first'; expected a number, as torchrun sets it."),
    }
    for name, (arguments, variables, sentence) in cases.items():
        results = train(folders, 2, "a", "b", "--out", name, *SETTINGS, *arguments, "--steps", 2, variables=variables)
        assert [status for status, _, _ in results] == [2, 2]
        assert sentence in results[0][2]
        assert results[0][2].count("\n") == 1
        assert results[1][2] == "" or name in ("gone", "word")
        assert not (folders / name).exists()


def test_a_process_that_sees_other_images_or_has_other_settings_is_named(folders):
    hidden = "import os; from cyclegan.data import image_folder as m; whole = m.list_images; "
    hidden += "m.list_images = lambda *given: whole(*given)[int(os.environ['RANK']) :]; "
    command = ["train", "a", "b", "--out", "other", "--steps", 2, *SETTINGS]
    (status, _, errors), other = wait(start(2, ["-c", hidden + COMMAND, *command], folders))
    assert status == 2
    assert "cyclegan: Process 1 sees other images than process 0; put the folders" in errors
    assert other == (2, "", "")
    # Each process gets the seed of its rank.
    seeds = "import os, sys; sys.argv += ['--seed', os.environ['RANK']]; "
    (status, _, errors), other = wait(start(2, ["-c", seeds + COMMAND, *command], folders))
    assert status == 2
    assert "cyclegan: Process 1 was started with other settings than process 0" in errors
    assert other == (2, "", "")
    assert not (folders / "other").exists()
