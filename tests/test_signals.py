"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal) in every phase: nothing is lost, nothing is left, one line says it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from conftest import TINY, make_folder
from cyclegan import train
from cyclegan.storage.run import list_checkpoints

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

# Processes of the test that runs.
STARTED = []


@pytest.fixture(autouse=True)
def _none_left():
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

# As in a terminal, whatever started the tests: a shell's background has SIGINT ignored, nohup SIGHUP.
BEGIN = """
import importlib, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, {hangup})
def wait(*_, **__):
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(600)
*path, name = {patched!r}.split(".")
for end in range(len(path), 0, -1):
    try:
        place = importlib.import_module(".".join(path[:end]))
        break
    except ImportError:
        continue
for part in path[end:]:
    place = getattr(place, part)
setattr(place, name, {replacement})
from cyclegan.cli import main
if __name__ == "__main__":
    main(sys.argv[1:])
"""
SETTINGS = (
    *("--steps", "1000000", "--width", "4", "--blocks", "1", "--discriminator-width", "4", "--threads", "1"),
    *("--discriminator-layers", "1", "--crop-size", "16", "--load-size", "18", "--device", "cpu", "--log-steps", "1"),
    *("--num-samples", "0", "--num-validation", "0", "--no-tensorboard"),
)


def start(tmp_path, *arguments, patched="os.unused", replacement="wait", ignored=(), **options):
    """A command in a process and session of its own. patched: a function in the place of which it waits for ever."""
    script = tmp_path.parent / f"{tmp_path.name}.py"  # a file: loading processes import it
    hangup = "signal.SIG_IGN" if "SIGHUP" in ignored else "signal.SIG_DFL"
    script.write_text(BEGIN.format(patched=patched, hangup=hangup, replacement=replacement))
    command = [sys.executable, script, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    process = subprocess.Popen(command, text=True, cwd=tmp_path, start_new_session=True, **pipes)
    STARTED.append(process)
    return process


def wait_for_waiting(process):
    """Read standard error until the process says that it waits. Returns what came before."""
    before = []
    for line in process.stderr:
        if line.startswith("waiting"):
            return before
        before.append(line)
    raise AssertionError(f"It ended early: {''.join(before)}")


def wait_for_steps(process, run, count=2):
    deadline = time.monotonic() + 300
    while not (run / "log.jsonl").is_file() or (run / "log.jsonl").read_text().count("adversarial_a2b") < count:
        if process is not None:
            assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def end(process):
    """Output of a process that was asked to stop."""
    try:
        return process.communicate(timeout=600)
    finally:
        process.kill()


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def files(folder):
    return [name for name in everything(folder) if not (folder / name).is_dir()]


# ---- training


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_while_training_saves(folders, tmp_path, name):
    run = tmp_path / "run"
    process = start(tmp_path, "train", *folders, "--out", run, *SETTINGS)
    wait_for_steps(process, run)
    process.send_signal(getattr(signal, name))
    out, err = end(process)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert err.count("Finishing this step and saving") == 1
    step = int(list_checkpoints(run)[0].name.removeprefix("step_"))
    assert f"Stopped and saved after step {step}." in err.splitlines()[-1]
    # The lock is free, and no step is lost.
    assert train(*folders, out=run, resume=True, quiet=True, **TINY | {"steps": step}) == run


@pytest.mark.parametrize("name", ["SIGHUP", *(pytest.param(name, marks=pytest.mark.slow) for name in SIGNALS[:2])])
def test_a_signal_to_all_processes_of_the_group_saves_and_ends_them(folders, tmp_path, name):
    run = tmp_path / "run"
    process = start(tmp_path, "train", *folders, "--out", run, *SETTINGS, "--workers", 2)
    wait_for_steps(process, run)
    os.killpg(process.pid, getattr(signal, name))
    os.killpg(process.pid, signal.SIGHUP)  # a closed terminal sends several
    _, err = end(process)
    assert process.returncode == 130, err
    assert list_checkpoints(run)
    assert "Stopped and saved" in err
    deadline = time.monotonic() + 300
    while True:  # none of the group is left
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_a_closed_terminal_saves_although_nothing_can_be_printed(folders, tmp_path, workers):
    import pty

    run = tmp_path / "run"
    script = tmp_path / "command.py"
    script.write_text(BEGIN.format(patched="os.unused", hangup="signal.SIG_DFL", replacement="wait"))
    command = [sys.executable, str(script), "train", *map(str, folders), "--out", str(run), *SETTINGS]
    process, terminal = pty.fork()  # with the terminal as its controlling one
    if process == 0:
        os.execv(command[0], [*command, "--workers", workers])
    # A terminal nobody reads would block the command.
    os.set_blocking(terminal, False)
    deadline = time.monotonic() + 300
    while not (run / "log.jsonl").is_file() or (run / "log.jsonl").read_text().count("adversarial_a2b") < 2:
        assert time.monotonic() < deadline
        try:
            os.read(terminal, 2**16)
        except BlockingIOError:
            time.sleep(0.05)
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    step = int(list_checkpoints(run)[0].name.removeprefix("step_"))
    assert step >= 2
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) == step


def test_a_run_under_nohup_goes_on_after_a_hangup(folders, tmp_path):
    run = tmp_path / "run"
    process = start(tmp_path, "train", *folders, "--out", run, *SETTINGS, ignored=["SIGHUP"])
    wait_for_steps(process, run)
    process.send_signal(signal.SIGHUP)
    before = (run / "log.jsonl").read_text().count("adversarial_a2b")
    wait_for_steps(process, run, before + 3)
    process.send_signal(signal.SIGTERM)
    end(process)
    assert process.returncode == 130
    assert list_checkpoints(run)


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("SIGTERM", "cyclegan.training.training_data.scan_folder"),
        pytest.param("SIGHUP", "cyclegan.training.training_data.scan_folder", marks=pytest.mark.slow),
        pytest.param("SIGINT", "cyclegan.training.training_data.scan_folder", marks=pytest.mark.slow),
        pytest.param("SIGTERM", "cyclegan.training.setup.TrainState.create", marks=pytest.mark.slow),
        pytest.param("SIGTERM", "cyclegan.training.resume.load_checkpoint", marks=pytest.mark.slow),
        ("SIGHUP", "cyclegan.training.monitor.Monitor.score"),
        pytest.param("SIGTERM", "cyclegan.training.monitor.Monitor.write_page", marks=pytest.mark.slow),
    ],
)
def test_a_signal_before_or_after_the_loop_ends_with_one_line(folders, tmp_path, name, phase):
    run = tmp_path / "run"
    if phase.endswith("load_checkpoint"):
        train(*folders, out=run, quiet=True, **TINY | {"steps": 2})
    before = everything(tmp_path)
    command = ("train", *folders, "--out", run, *SETTINGS, "--steps", "3", *["--resume"] * run.exists())
    process = start(tmp_path, *command, patched=phase)
    wait_for_waiting(process)
    process.send_signal(getattr(signal, name))
    out, err = end(process)
    assert (process.returncode, out, err) == (130, "", "Stopped.\n")
    if "scan" in phase or "create" in phase:
        assert everything(tmp_path) == before
    assert not [path for path in everything(tmp_path) if path.endswith((".partial", ".tmp"))]
    # The same command goes on.
    process = start(tmp_path, *command)
    out, err = end(process)
    assert process.returncode == 0, err
    assert out == f"{run}\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_in_a_host_program_saves_and_its_handlers_are_put_back(folders, tmp_path, name):
    number = getattr(signal, name)

    def handler(*_):
        raise AssertionError("The host is not asked while it trains.")

    def stop(event):
        if event.step == 3:
            os.kill(os.getpid(), number)

    before = signal.signal(number, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(*folders, out=tmp_path / "run", quiet=True, callbacks=[stop], **TINY | {"steps": 50})
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert list_checkpoints(tmp_path / "run")[0].name.endswith("3")


# ---- other commands: each waits where its first result is about to be put in its place


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("signals")
    folders = make_folder(root / "a", 10), make_folder(root / "b", 10, seed=1)
    return train(*folders, out=root / "run", quiet=True, preset="paper", **TINY | {"steps": 2})


COMMANDS = {
    "inspect": ("inspect", "a", "--out", "page.html"),
    "evaluate": ("evaluate", "{run}", "--a", "a", "--b", "b", "--out", "scores", "--device", "cpu"),
    "translate": ("translate", "{run}", "a", "--out", "translated", "--device", "cpu"),
    "export": ("export", "{run}", "--format", "model", "--out", "model"),
    "import": ("import", "reference", "--out", "model"),
    "push": ("push", "{run}", "me/name", "--dry-run", "card"),
    "download": ("download", "earth", "--out", "earth"),
    "bench": ("bench", "{run}", "--work", "translate", "--sizes", "16", "--batch-sizes", "1", "--out", "bench"),
    "demo": ("demo", "--quick", "--out", "quick", "--data", "earth"),
}


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "command",
    [name if name in ("evaluate", "translate") else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS],
)
def test_every_command_ends_with_one_line_and_leaves_no_file(run, tmp_path, command, name):
    make_folder(tmp_path / "a", 10)
    make_folder(tmp_path / "b", 10, seed=1)
    if command == "import":
        from cyclegan import export_model

        export_model(run, tmp_path / "reference", format="reference")
    before = files(tmp_path)
    arguments = [argument.format(run=run) for argument in COMMANDS[command]]
    # Pictures are written by threads, which a signal does not reach.
    place = "cyclegan.translate.translator.Translator.translate_each" if command == "translate" else "os.fsync"
    process = start(tmp_path, *arguments, patched=place)
    wait_for_waiting(process)
    process.send_signal(getattr(signal, name))
    _, err = end(process)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("Stopped"), err
    assert "Traceback" not in err
    assert files(tmp_path) == before
