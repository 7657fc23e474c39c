"""A run that is killed at any moment is resumed by the same command, and ends like one that was left alone."""

import contextlib
import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import TINY, make_folder
from crashes import contents, crash_states, write_contents
from cyclegan import train
from cyclegan.step.state import set_learning_rate
from cyclegan.storage.run import list_checkpoints, read_log
from cyclegan.system.atomic import write_bytes
from cyclegan.system.clock import WorkClock
from cyclegan.training.events import StepDone
from cyclegan.training.validation import Validation, ValidationScores
from fuzzing import examples

SETTINGS = {**TINY, "num_samples": 1, "num_validation": 10, "keep_checkpoints": 1, "checkpoint_steps": 2}
SETTINGS |= {"steps": 4, "sample_steps": 2, "log_steps": 1, "pool_size": 2, "dropout": True}


# Hidden names that belong in a run.
KNOWN = {".lock", ".output.txt", ".headers_a.npz", ".headers_b.npz", ".images_a.npz", ".images_b.npz"}


@pytest.fixture(scope="module")
def large_folders(tmp_path_factory):
    """Enough images for samples and validation."""
    root = tmp_path_factory.mktemp("large")
    return make_folder(root / "a", 60), make_folder(root / "b", 60, tint=(0.2, 0.5, 1.0), seed=1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Making a page is slow, writing it is not; and what a kill leaves does not depend on flushing."""
    page = "cyclegan.training.monitor.write_run_report"
    monkeypatch.setattr(page, lambda run: write_bytes(run / "report.html", b"."))
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def scored(monkeypatch):
    """Every snapshot is scored, in no time, and is better than the one before, so that best/ is replaced.

    Gives a function that starts again.
    """
    monkeypatch.setattr(Validation, "affordable", lambda *_, **__: True)
    monkeypatch.setattr(Validation, "open", lambda _: {"origin": "", "num_images": {}, "directions": {}})

    def score(*_):
        score.count += 1
        kid = 1 / score.count
        scores = {"kid": {"value": kid, "low": kid, "high": kid}, "cycle": 0.1, "cycle_noisy": 0.1, "edges": 0.5}
        return ValidationScores(kid, {"a2b": scores, "b2a": scores}, ())

    def begin():
        score.count = 0

    begin()
    monkeypatch.setattr(Validation, "score", score)
    return begin


def weights(run):
    """Every tensor of the model, and of the newest checkpoint with its discriminators, optimisers and pools."""
    files = [*(run / "model").glob("*.safetensors"), *list_checkpoints(run)[0].rglob("*.safetensors")]
    return {(path.parent.name, path.name, name): tensor for path in files for name, tensor in load_file(path).items()}


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert any(file == "training.safetensors" for _, file, _ in one)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def same_files(one, other):
    """Names of files that only one of two runs has, or of pictures that differ."""

    def pictures(run):
        named = {name: content for name, content in contents(run).items() if "/." not in f"/{name}"}
        return {name: content if name.endswith(".png") else "" for name, content in named.items()}

    one, other = pictures(one), pictures(other)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def left_over(run):
    """Hidden names in a run, without those that belong there."""
    found = [path.relative_to(run).as_posix() for path in run.rglob(".*")]
    return sorted(name for name in found if name not in KNOWN)


def sweep(command, run, whole, left=40):
    """Kill the command in every state it leaves on disk, or in `left` of them without CYCLEGAN_FUZZ, and repeat it.

    Begins with what is in `run`, which may be nothing. Returns what is wrong, by state.
    """
    states = crash_states(run, lambda: command(run))
    assert any("examples" in what for what, _ in states)
    assert any(re.search(r"\.best\..*old", what) for what, _ in states)
    wrong = []
    for what, state in states[:: math.ceil(len(states) / examples(left))]:
        write_contents(run, state)
        try:
            command(run)
            assert_same_weights(whole, run)
            assert same_files(whole, run) == []
            assert left_over(run) == []
        except Exception as error:  # all of them are shown
            wrong.append(f"{what}: {type(error).__name__}: {error}")
    return wrong


@pytest.mark.usefixtures("scored")
def test_a_kill_at_any_moment_of_a_new_run_changes_nothing(large_folders, tmp_path):
    def command(out):
        return train(*large_folders, out=out, quiet=True, **SETTINGS)

    command(tmp_path / "whole")
    assert sweep(command, tmp_path / "run", tmp_path / "whole") == []


@pytest.mark.usefixtures("scored")
def test_a_kill_at_any_moment_of_a_run_that_goes_on_changes_nothing(large_folders, tmp_path):
    def command(out):
        return train(*large_folders, out=out, quiet=True, resume=True, **{**SETTINGS, "steps": 8})

    for name in ("run", "whole"):
        train(*large_folders, out=tmp_path / name, quiet=True, **SETTINGS)
    command(tmp_path / "whole")
    assert sweep(command, tmp_path / "run", tmp_path / "whole") == []


# ---- SIGKILL, with processes that load


SCRIPT = """
import sys, json, time, torch
torch.set_num_threads(1)
from cyclegan import train
from cyclegan.training import StepDone
def hold(event):
    if isinstance(event, StepDone) and event.step == int(sys.argv[5]):
        time.sleep(600)
if __name__ == "__main__":
    print(train(sys.argv[1], sys.argv[2], out=sys.argv[3], quiet=True, callbacks=[hold], **json.loads(sys.argv[4])))
"""


def start(folders, out, script, settings, *, hold=0):
    """A training in a process. hold: the step after which it waits to be killed."""
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), *map(str, folders), str(out), json.dumps(settings), str(hold)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def processes_of(session):
    """The processes of a session that are alive, by number."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, _, its_session = (place / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its_session) == session and state not in "ZX":
                    found.append(int(place.name))
    return found


def wait_for(condition, seconds, process=None):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="processes are counted in /proc")
@pytest.mark.parametrize(
    ("seed", "workers"), [pytest.param(seed, 0 if seed == 0 else 2, marks=pytest.mark.slow) for seed in range(4)]
)
def test_sigkill_leaves_no_loading_process_and_the_same_weights(folders, tmp_path, seed, workers):
    """workers: of the session that resumes it; processes take seconds to start."""
    settings = {**TINY, "steps": 300, "workers": 2, "checkpoint_steps": 10, "dropout": True}
    run = tmp_path / "run"
    process = start(folders, run, tmp_path / "script.py", settings, hold=250)  # however fast it is
    wait_for(lambda: list_checkpoints(run), 300, process)
    time.sleep(0.5 * np.random.default_rng(seed).random())
    numbers = processes_of(process.pid)
    assert len(numbers) >= 3
    process.kill()
    assert process.wait() == -signal.SIGKILL
    # PyTorch's loading processes look for their parent every five seconds.
    wait_for(lambda: not processes_of(process.pid), 120)
    shared = [path.name for path in Path("/dev/shm").glob("torch_*")]
    assert not [name for name in shared if int(name.split("_")[1]) in numbers]

    if workers:
        assert start(folders, run, tmp_path / "script.py", settings).wait(300) == 0
    for out in (run, tmp_path / "whole"):
        whole = train(*folders, out=out, quiet=True, **{**settings, "workers": 0})
    assert_same_weights(whole, run)
    assert left_over(run) == []


# ---- clocks


class Clock:
    """A clock of training by which each step takes ten seconds."""

    def __init__(self, monkeypatch, now=0.0):
        self.now = now
        for module in ("schedule", "validation"):
            monkeypatch.setattr(f"cyclegan.training.{module}.working_time", lambda: self.now)
        monkeypatch.setattr("cyclegan.training.loop.set_learning_rate", self.set_learning_rate)

    def set_learning_rate(self, *arguments):
        set_learning_rate(*arguments)
        self.now += 10


def rates(run):
    return [
        (line["step"], line["seconds"], line["learning_rate"])
        for line in read_log(run / "log.jsonl")
        if "event" not in line
    ]


@pytest.mark.parametrize("operation", [".step_0000003.", ".step_0000006.", ".step_0000009."])
def test_minutes_are_those_of_all_sessions_together(folders, tmp_path, monkeypatch, operation):
    settings = {**TINY, "minutes": 2, "log_steps": 1, "checkpoint_steps": 3}
    run = tmp_path / "run"

    def command(out, boot):
        Clock(monkeypatch, boot)  # another boot of the machine: its clock starts elsewhere
        return train(*folders, out=out, quiet=True, **settings)

    whole = command(tmp_path / "whole", 0.0)
    states = crash_states(run, lambda: command(run, 1e6))
    # While this checkpoint is written.
    write_contents(run, next(state for what, state in states if operation in what))
    before = [path.name for path in list_checkpoints(run)]
    command(run, 77.0)
    # What was done since the last checkpoint is done again, and the rate follows the time of training.
    assert operation.strip(".") not in before
    assert rates(run) == rates(whole)
    assert rates(run)[-1][0] == 12
    assert_same_weights(whole, run)


def jumping(rng, zero):
    """The time of day, set forth or back by up to a day at every look."""
    return lambda: zero + rng.uniform(-86400, 86400)


def test_a_time_of_day_that_jumps_changes_nothing(large_folders, tmp_path, monkeypatch, scored):
    def logged(out, **more):
        Clock(monkeypatch)
        scored()
        train(*large_folders, out=out, quiet=True, **{**SETTINGS, **more})
        shown = [{**line, "time": None, "command": None} for line in read_log(out / "log.jsonl")]
        return shown, [path.name for path in list_checkpoints(out)]

    for name, length in (("steps", {"steps": 8}), ("minutes", {"steps": None, "minutes": 1.5})):
        length |= {"checkpoint_minutes": 0.7, "checkpoint_steps": 10**6, "keep_checkpoints": 9, "tensorboard": True}
        expected = logged(tmp_path / name, **length)
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", jumping(np.random.default_rng(0), time.time()))
            assert logged(tmp_path / f"{name} jumps", **length) == expected
        assert_same_weights(tmp_path / name, tmp_path / f"{name} jumps")


def test_time_in_which_a_process_stands_still_is_no_training_time(folders, tmp_path, monkeypatch, capfd):
    # A step takes ten seconds; after the third and before the seventh the computer sleeps for three hours.
    now, asleep = [5.0], {3: 10800.0, 6: 10800.0}

    def step(event):
        if isinstance(event, StepDone):
            now[0] += 10 + asleep.get(event.step, 0.0)

    still = SimpleNamespace(monotonic=lambda: now[0], process_time=lambda: 0.0)
    monkeypatch.setattr("cyclegan.system.clock.time", still)
    monkeypatch.setattr("cyclegan.system.clock._clock", WorkClock())
    settings = {**TINY, "minutes": 2, "log_steps": 1, "callbacks": [step]}
    run = train(*folders, out=tmp_path / "run", **settings)
    seconds = [seconds for _, seconds, _ in rates(run)]
    assert len(seconds) == 12 + 2  # the steps in which it slept do not count
    assert 110 <= seconds[-1] <= 120
    assert [rate for _, _, rate in rates(run)] == sorted((rate for _, _, rate in rates(run)), reverse=True)
    shown = " ".join(capfd.readouterr().err.split())
    assert shown.count("the process stood still for 180 minutes") == 2
    assert "do not count as training time" in shown


def test_long_work_is_not_taken_for_standing_still(monkeypatch):
    now, cpu = [0.0], [0.0]
    monkeypatch.setattr(
        "cyclegan.system.clock.time", SimpleNamespace(monotonic=lambda: now[0], process_time=lambda: cpu[0])
    )
    clock = WorkClock()
    began = clock.seconds()
    for passed, computed in ((3600, 3600), (3600, 100), (200, 0), (0, 0), (90000, 1)):
        now[0] += passed
        cpu[0] += computed
        clock.seconds()
    assert clock.seconds() - began == 7400
    assert clock.stood_still == 90000
