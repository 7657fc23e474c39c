"""Loading processes: a script without a main guard, and processes that end, are one sentence."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from conftest import TINY, make_folder

SENTENCE = 'put the call of train, and all that follows it, below if __name__ == "__main__": or pass workers=0.'


def write_script(path, settings, *, guarded):
    call = f"train('a', 'b', out='run', workers=2, quiet=True, **{settings!r})"
    guard = "if __name__ == '__main__':\n    " if guarded else ""
    path.write_text(f"from cyclegan import train\n{guard}{call}\n")
    return path


def run(script):
    # PyTorch warns where there are fewer cores than processes.
    command = [sys.executable, "-W", "ignore", script]
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch):
    """Scripts leave their files where no other test does. Its path is short: sockets are made below it."""
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield


def temporary_files():
    return {name for name in os.listdir(os.environ["TMPDIR"]) if name.startswith("cyclegan-")}  # noqa: PTH208


@pytest.mark.parametrize("many", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_script_without_a_main_guard_is_one_sentence(tmp_path, many):
    # The names of many images fill the pipe to a process that has ended.
    for name, seed in (("a", 0), ("b", 1)):
        make_folder(tmp_path / name, 3, seed=seed)
        for index in range(1500 * many):
            os.link(tmp_path / name / "0.png", tmp_path / name / f"{'x' * 60}{index}.png")
    before = temporary_files()
    script = write_script(tmp_path / "script.py", {**TINY, "steps": 3}, guarded=False)
    done = run(script)
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert lines[-1].startswith("cyclegan.errors.InputError: workers starts processes")
    assert lines[-1].endswith(SENTENCE)
    # The traceback of the uncaught error, of the script itself alone.
    assert done.stderr.count("Traceback") == 1
    assert len(lines) < 30
    assert "spawn" not in done.stderr
    assert done.stdout == ""
    assert temporary_files() == before
    script = write_script(tmp_path / "script.py", {**TINY, "steps": 3}, guarded=True)
    done = run(script)
    assert (done.returncode, done.stderr) == (0, "")
    assert temporary_files() == before


def test_a_script_whose_top_cannot_run_twice_is_one_sentence(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        make_folder(tmp_path / name, 3, seed=seed)
    before = temporary_files()
    script = write_script(tmp_path / "script.py", {**TINY, "steps": 3}, guarded=False)
    script.write_text(f"import multiprocessing\nmultiprocessing.set_start_method('spawn')\n{script.read_text()}")
    last = run(script).stderr.splitlines()[-1]
    assert last.startswith(
        "cyclegan.errors.InputError: The processes that load images could not begin: each of them runs"
    )
    assert last.endswith('below if __name__ == "__main__": in a file, or pass workers=0.')
    assert temporary_files() == before


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="finds child processes in /proc")  # noqa: PTH112
def test_a_loading_process_that_is_killed_is_one_sentence_and_the_run_is_saved(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        make_folder(tmp_path / name, 3, seed=seed)
    before = temporary_files()
    script = write_script(tmp_path / "script.py", {**TINY, "steps": 10**6, "log_steps": 1}, guarded=True)
    process = subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "run" / "log.jsonl"
    while not log.exists() or len(log.read_text().splitlines()) <= 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    loaders = loading_processes(process.pid)
    assert len(loaders) == 2
    os.kill(loaders[0], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    last = err.splitlines()[-1]
    assert "TrainingError: A process that loads images has ended" in last
    assert "The run is saved after step " in last
    assert "cyclegan train --out run --resume" in last
    assert "Exception ignored" not in err
    assert "signal_handling" not in err
    step = int(last.partition("saved after step ")[2].partition(".")[0])
    assert (tmp_path / "run" / "checkpoints" / f"step_{step:07d}").is_dir()
    assert temporary_files() == before
    assert not any(os.path.exists(f"/proc/{pid}/cmdline") and is_loader(pid) for pid in loaders)  # noqa: PTH110


def is_loader(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
        return b"spawn_main" in file.read()


def loading_processes(parent):
    with open(f"/proc/{parent}/task/{parent}/children") as file:  # noqa: PTH123
        return [pid for pid in map(int, file.read().split()) if is_loader(pid)]
