"""Any value of any flag ends in success or in one short sentence that names it."""

import argparse
import contextlib
import inspect
import io
import re
import shutil
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import TINY, make_folder
from cyclegan import (
    CycleganError,
    InputError,
    Translator,
    evaluate,
    export_model,
    inspect_folders,
    train,
    translate_folder,
)
from cyclegan.cli import COMMANDS, _parser, main
from cyclegan.config import INSPECTED_SETTINGS, field_sections
from fuzzing import fuzz_settings
from geo_files import write_geotiff

# Seconds that one command may take; all are far quicker.
LIMIT = 60

NUMBERS = ["0", "-0", "-1", "1", "2", "3", "0.5", "1.0", "1e-400", "1e400", "nan", "-inf", "inf", "1_0", "0x10"]
NUMBERS += [" 2 ", "٣", "9" * 30, "9" * 5000, "-" + "9" * 30, "1e5", "True", "None", "3,5", "2 2"]
TEXTS = [
    "",
    " ",
    "-",
    "--",
    "auto",
    "none",
    "[/red]",
    "%s%d%",
    "{x}",
    "ünï 🌍",
    "\x1b[31mred\x07",
    "two\nlines",
    "\r",
    "\t",
]
TEXTS += [
    "\udcff",
    "a" * 5000,
    "a" * 300,
    "../" * 3 + "nothing",
    "~",
    "*",
    "$HOME",
    "NAME=VALUE",
    "=",
    "x=",
    "=1",
    "hf:",
    "hf:user/name",
]
TEXTS += ["http://127.0.0.1:9", "\u202egnp.exe", "\u2028"]
PLACES = [
    "a",
    "b",
    "a/0.png",
    "run",
    "run/model",
    "run/config.toml",
    "run/checkpoints",
    "nowhere",
    "nowhere/x.html",
    "file",
]
PLACES += ["file/below", "x.html", "x.png", "empty", ".", "loop", "dangling", "new folder", "export"]

KEPT = {"a", "b", "run", "other", "file", "empty", "loop", "dangling", "export", "reference", "scenes"}

# Flags whose good values take long, or start something: a compiler, processes, a server.
LEFT_OUT = {"--compile", "--workers", "--wandb", "--mlflow", "--help", "--version"}

BASES = {
    "train": "a b --out=new --width=4 --blocks=1 --discriminator-width=4 --discriminator-layers=1 --crop-size=16 "
    "--steps=1 --num-samples=0 --num-validation=0 --no-tensorboard --device=cpu",
    "translate": "run a/0.png --out=new --device=cpu",
    "evaluate": "run --a=a --b=b --out=new --device=cpu --direction=a2b",
    "compare": "run other --out=new.html",
    "report": "run",
    "inspect": "a b",
    "bench": "run --out=new --device=cpu",
    "import": "reference --out=new",
    "export": "run --format=model --out=new",
    "push": "run user/name --dry-run=new",
    "download": "horse2zebra",
    "demo": "--out=new --minutes=1",
    "tiles": "file --out=new",
    "studio": "run --no-open --device=cpu",
    "vrt": "scenes --out=new.vrt",
    "serve": "run --port=0 --device=cpu",
}


def parsers():
    parser = _parser([])
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices


def values(action):
    """Valid, borderline and absurd values of an argument."""
    pool = NUMBERS + TEXTS + PLACES
    if action.choices:
        pool = [*map(str, action.choices), *pool]
    return st.one_of(st.sampled_from(pool), st.text(st.characters(exclude_characters="\0"), max_size=20))


@st.composite
def commands(draw):
    """A command, the arguments for it, and what was drawn of them."""
    name = draw(st.sampled_from([name for name in COMMANDS for _ in range(4 if name == "train" else 1)]))
    actions = [a for a in parsers()[name]._actions if not LEFT_OUT & set(a.option_strings)]
    arguments, drawn = BASES[name].split(), []
    for action in draw(st.lists(st.sampled_from(actions), min_size=1, max_size=2, unique_by=id)):
        flag = draw(st.sampled_from(action.option_strings)) if action.option_strings else None
        if flag is None:  # one of the folders and names at the beginning
            value = draw(values(action))
            place = draw(st.integers(0, len([word for word in arguments if not word.startswith("-")])))
            arguments[place : place + draw(st.integers(0, 1))] = [value]
        elif action.nargs == 0:
            value = flag
            arguments.append(flag)
        elif action.nargs is None:
            value = draw(values(action))
            arguments = [word for word in arguments if not word.startswith(f"{flag}=")] + [f"{flag}={value}"]
        else:  # several values
            value = draw(st.lists(values(action), max_size=3))
            arguments += [flag, *value]
        drawn += [flag or "", *(value if isinstance(value, list) else [value])]
    return name, arguments, drawn


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with images, a run, an export, a file, links."""
    root = tmp_path_factory.mktemp("flags")
    make_folder(root / "a", 3), make_folder(root / "b", 3, seed=1, tint=(0.2, 0.5, 1.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        train("a", "b", out="run", quiet=True, preset="paper", **{**TINY, "steps": 2, "log_steps": 1})
        export_model("run", "export", format="model")
        export_model("run", "reference", format="reference")
        evaluate("run", "a", "b", device="cpu", quiet=True, num_bootstrap=100)
        shutil.copytree("run", "other")
    (root / "scenes").mkdir()
    write_geotiff(root / "scenes" / "scene.tif")
    (root / "file").write_text("text")
    (root / "empty").mkdir()
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("gone")
    return root


class TookTooLong(Exception):
    pass


@contextlib.contextmanager
def time_limit():
    def end(*_):
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def bounded(place, monkeypatch):
    """In that folder, without a network, and without what takes long; a run stops after two steps."""

    def no_network(*_, **__):
        raise OSError("there is no network here")

    monkeypatch.chdir(place)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("cyclegan.training.monitor.Monitor.write_page", lambda _: None)

    @contextlib.contextmanager
    def two_steps(**_):
        asked = iter((False, False))
        yield lambda: next(asked, True)

    monkeypatch.setattr("cyclegan.training.loop.stop_signals", two_steps)
    done = SimpleNamespace(measured=[1], stopped=False)
    monkeypatch.setattr("cyclegan.bench.measuring.measure", lambda *_, **__: done)
    monkeypatch.setattr("cyclegan.bench.view.show", lambda *_: None)
    monkeypatch.setattr("cyclegan.bench.output.write", lambda *_: [])
    monkeypatch.setattr("cyclegan.serving.server.serve", lambda *_, **__: None)
    monkeypatch.setattr("cyclegan.demo.run.demo", lambda *_, **__: "")
    monkeypatch.setattr("cyclegan.serving.server.bind", lambda _: socket.socket())
    monkeypatch.setattr("cyclegan.serving.server._Server.run", lambda *_: None)
    monkeypatch.setattr("cyclegan.demo.run.quick_demo", lambda *_, **__: "")
    threads = torch.get_num_threads()
    yield place
    torch.set_num_threads(threads)


def run(arguments):
    """Exit code and stderr of a command, with streams that encode like those of a terminal."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), time_limit():
        try:
            main(arguments)
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out.flush()
    err.flush()
    return code, err.buffer.getvalue().decode()


CONTROL = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]")


def named(text):
    """Forms in which a message may name a flag or a value: as setting, as path, quoted, escaped."""
    forms = {text, text.strip(), text.lstrip("-").replace("-", "_"), *Path(text).parts, repr(text)[1:-1]}
    forms |= {part for word in forms for part in word.split("=")}
    escaped = {CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), form) for form in forms}
    escaped |= {form.replace("\n", "\\n") for form in escaped}
    return {form[:20] for form in forms | escaped if form.strip()}


def check(code, err, drawn):
    assert code in (0, 1, 2, 130), code
    assert "Traceback" not in err
    assert not CONTROL.search(err), "a control character"
    if code in (1, 2) and "cyclegan: " in err:
        message = "cyclegan: " + err.rpartition("\ncyclegan: ")[2].removeprefix("cyclegan: ")
        message = re.sub(r"\nSee: cyclegan.* --help$", "", message.strip())
        assert len(message) < 1000, message
        assert "\n" not in message, message
        # A blank path is the folder here; a place that starts with a dash is a flag.
        nameless = any(not text.strip() or text in ("hf:", "=") for text in drawn) or "are required" in message
        assert code == 1 or nameless or any(form in message for text in drawn for form in named(text)), message


def tidy():
    """Remove what the command before has made."""
    for made in Path().iterdir():
        if made.name not in KEPT:
            shutil.rmtree(made) if made.is_dir() and not made.is_symlink() else made.unlink()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="time limits are POSIX")
@pytest.mark.usefixtures("bounded")
@fuzz_settings(400)
@given(commands())
def test_any_value_of_any_flag_is_used_or_refused_in_one_sentence(command):
    name, arguments, drawn = command
    tidy()
    code, err = run([name, *arguments])
    check(code, err, drawn)


# ---- the same functions from Python


class Odd:
    """An object of no known kind."""

    def __repr__(self):
        return "<odd>"


ODD = [None, True, 0, -1, 3, 10**30, -(10**30), 0.5, float("nan"), float("inf"), 1e300, 1j, b"a", len, Odd(), Odd]
ODD += ["", "a", "run", "nowhere", "cpu", "\0", "\udcff", "a" * 5000, Path("a"), Path("nowhere")]
ODD += [[], ["a"], (), (1, 2), {}, {"a": 1}, set(), np.int64(3), np.float32(0.5), np.zeros(2), np.bool_(True)]
ODD += [torch.tensor(1), torch.zeros(2), torch.float32]

CALLS = {
    "train": (train, {"a": "a", "b": "b", "out": "new", "preset": "paper", "quiet": True, "steps": 1, **TINY}),
    "evaluate": (evaluate, {"run": "run", "a": "a", "b": "b", "out": "new", "num_bootstrap": 100, "device": "cpu"}),
    "load": (Translator.load, {"path": "run", "device": "cpu"}),
    "export_model": (export_model, {"path": "run", "out": "new", "format": "model"}),
    "inspect_folders": (inspect_folders, {"a": "a", "b": "b", "quiet": True}),
    "translate_folder": (translate_folder, {"model": "run", "inputs": "a", "out": "new", "device": "cpu"}),
}

# Not arguments for values: functions that are called, and what would start something (see LEFT_OUT).
NO_VALUES = {"say", "progress", "on_progress", "batches", "settings", "compile", "workers", "wandb", "mlflow"}


def names_of(function):
    names = [name for name in inspect.signature(function).parameters if name not in NO_VALUES]
    settings = [name for name in field_sections() if name not in NO_VALUES and name not in names]
    if function is inspect_folders:
        settings = [*INSPECTED_SETTINGS]
    return names + settings * (function in (train, inspect_folders))


@st.composite
def calls(draw):
    """A public function, and its arguments, of which one or two are odd."""
    name = draw(st.sampled_from([name for name in CALLS for _ in range(4 if name == "train" else 1)]))
    function, arguments = CALLS[name]
    odd = draw(st.dictionaries(st.sampled_from(names_of(function)), st.sampled_from(ODD), min_size=1, max_size=2))
    return function, {**arguments, **odd}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="time limits are POSIX")
@pytest.mark.usefixtures("bounded")
@fuzz_settings(400)
@given(calls())
def test_any_argument_of_a_function_is_used_or_refused_by_our_own_error(call):
    function, arguments = call
    tidy()
    with time_limit():
        try:
            function(**arguments)
        except CycleganError as error:
            message = str(error)
            assert "\n" not in message, message
            assert len(message) < 1000, message
        except (KeyboardInterrupt, OSError):  # stopped after two steps; a place that cannot be written
            pass


def test_an_unknown_keyword_is_a_type_error_and_an_unknown_setting_names_the_nearest():
    for function, arguments in CALLS.values():
        with pytest.raises(InputError if function in (train, inspect_folders) else TypeError, match="devcie"):
            function(**arguments, devcie="cpu")
