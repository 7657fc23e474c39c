"""A run directory under any sequence of commands, kills, moves, edits and damage."""

import contextlib
import hashlib
import shutil
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from safetensors.torch import load_file

from conftest import TINY, make_folder
from crashes import before_each_change, contents, of_another_process, write_contents
from cyclegan import CycleganError, InputError, Translator, evaluate, export_model, inspect_folders, train
from cyclegan.report.compare import compare
from cyclegan.report.run import write_run_report
from cyclegan.storage.run import list_checkpoints
from cyclegan.system.atomic import write_bytes
from cyclegan.training.events import StepDone
from fuzzing import fuzz_settings

# Constant, so that the length of a run does not change its first steps.
SETTINGS = {**TINY, "preset": "paper", "width": 2, "discriminator_width": 2, "schedule": "constant", "log_steps": 1}
SETTINGS |= {"checkpoint_steps": 2, "keep_checkpoints": 2, "sample_steps": 3, "pool_size": 2, "dropout": True}

# Hidden names that belong in a run.
KNOWN = {".lock", ".output.txt", ".headers_a.npz", ".headers_b.npz", ".images_a.npz", ".images_b.npz"}

# Steps of the longest run. Beyond them nothing is compared.
LONGEST = 40


class Killed(BaseException):
    """Ends a command where a kill would."""


def digest(checkpoint):
    """What the networks, optimisers and pools of a checkpoint are, in short."""
    found = hashlib.sha256()
    for path in sorted(checkpoint.rglob("*.safetensors")):
        for name, tensor in sorted(load_file(path).items()):
            found.update(f"{path.name} {name} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return found.hexdigest()


class RunStates(RuleBasedStateMachine):
    """One run, and what is known of it.

    length: that of its configuration, or None before the first command. is_damaged: whether a file was changed behind
    its back. good_config: config.toml as it was before an edit, or None without one.
    """

    root: Path
    expected: dict[int, str]

    def __init__(self):
        super().__init__()
        self.place = self.root / "example"
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        self.run, self.number = self.place / "run", 0
        self.begin_anew()

    def begin_anew(self):
        self.length, self.is_damaged, self.good_config, self.step = None, False, None, 0

    def new(self, name):
        self.number += 1
        return self.place / f"{name}{self.number}"

    # ---- commands

    def attempt(self, command, *arguments, **options):
        """The error of a command, or None. Every error is one short sentence."""
        # An OSError of a folder in the place of a file is one line on the command line.
        errors = (CycleganError, OSError) if self.is_damaged else CycleganError
        try:
            command(*arguments, **options)
            return None
        except errors as raised:
            error = raised
        assert 0 < len(str(error)) < 1000, error
        assert "\n" not in str(error), error
        return error

    def train(self, length, **options):
        """Train as the command line does. Returns the error, if there is one."""
        folders = (self.root / "a", self.root / "b")
        error = self.attempt(train, *folders, out=self.run, quiet=True, **{**SETTINGS, "steps": length}, **options)
        if self.good_config is not None and not options.get("fresh"):
            assert isinstance(error, InputError)
            assert "config.toml" in str(error) or "width" in str(error)
        elif not self.is_damaged:
            assert error is None, error
        if error is None:
            self.length, self.good_config = length, None
            self.check_after_training(length)
        return error

    def check_after_training(self, length):
        assert list_checkpoints(self.run)[0].name == f"step_{length:07d}"
        assert self.left_over() == []
        if not self.is_damaged:
            assert digest(self.run / "model") == digest(list_checkpoints(self.run)[0] / "model")

    def left_over(self):
        hidden = [path.relative_to(self.run).as_posix() for path in self.run.rglob(".*")]
        return [name for name in hidden if name not in KNOWN]

    @initialize(length=st.integers(1, 5))
    def start(self, length):
        self.train(length)

    @rule()
    def repeat(self):
        self.train(self.length or 2)  # None: a kill before the first configuration

    @precondition(lambda self: self.length is not None and self.length < LONGEST - 6)
    @rule(more=st.integers(1, 5))
    def train_longer(self, more):
        self.train(self.length + more, resume=True)

    @precondition(lambda self: self.length is not None and self.length < LONGEST - 6)
    @rule(more=st.integers(2, 6), after=st.integers(1, 5))
    def stop_and_go_on(self, more, after):
        """Ctrl-C after a step, then the same command."""
        last = self.length + min(after, more - 1)

        def stop(event):
            if isinstance(event, StepDone) and event.step == last:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            self.train(self.length + more, resume=True, callbacks=[stop])
            assert self.is_damaged or self.good_config is not None
            return
        assert list_checkpoints(self.run)[0].name == f"step_{last:07d}"
        self.length += more
        self.train(self.length)

    @precondition(lambda self: self.length is not None and self.length < LONGEST - 6)
    @rule(more=st.integers(1, 5), operation=st.integers(0, 120), fresh=st.sampled_from([False] * 5 + [True]))
    def kill(self, more, operation, fresh):
        """A kill before one of the operations of training that change a file; the next command finds what it leaves."""
        if self.is_damaged or self.good_config is not None:
            return
        seen = iter(range(operation))
        left = []

        def act(*_):
            if not left and next(seen, None) is None:
                inside = contents(self.run) if self.run.is_dir() else None
                left.append(inside and {of_another_process(name): content for name, content in inside.items()})
                raise Killed

        config = self.run / "config.toml"
        before = config.read_bytes() if config.is_file() else None
        length = 3 if fresh else self.length + more
        with contextlib.suppress(Killed), before_each_change(self.run, act):
            self.train(length, **({"fresh": True} if fresh else {"resume": True}))
        if not left:
            self.length = length
            return
        write_contents(self.run, left[0])
        after = config.read_bytes() if config.is_file() else None
        aside = list(self.place.glob(f"{self.run.name}.old*"))
        if aside:
            self.begin_anew()
        if aside or after != before:
            self.length = length if after is not None else None
        for old in aside:
            shutil.rmtree(old)

    @rule()
    def train_afresh(self):
        is_run = (self.run / "config.toml").is_file()
        known = self.is_damaged, self.good_config
        error = self.train(3, fresh=True)
        if error is not None:
            assert known[0], error
            assert not is_run or "config.toml" in str(error), error
            return
        self.begin_anew()
        self.length = 3
        assert list_checkpoints(self.run)[0].name == "step_0000003"
        for old in self.place.glob("run*.old*"):
            shutil.rmtree(old)

    @rule()
    def translate(self):
        candidates = [self.run / "model", *(path / "model" for path in list_checkpoints(self.run))]
        whole = [path for path in candidates if self.loads(path)]
        error = self.attempt(Translator.load, self.run, device="cpu")
        assert error is None or not whole, error
        if not self.is_damaged and list_checkpoints(self.run):
            assert error is None, error

    def loads(self, model):
        try:
            for direction in ("a2b", "b2a"):
                for weights in ("final", "average"):
                    Translator.load(model, direction=direction, weights=weights, device="cpu")
        except (CycleganError, OSError):
            return False
        return True

    @rule(kind=st.sampled_from(["model", "reference"]))
    def export(self, kind):
        error = self.attempt(export_model, self.run, self.new("export"), format=kind, direction="a2b")
        assert error is None or self.is_damaged or not list_checkpoints(self.run), error

    @rule()
    def inspect(self):
        error = self.attempt(inspect_folders, self.run, quiet=True)
        assert error is None or self.is_damaged or self.good_config is not None or self.length is None, error

    @rule()
    def report(self):
        if self.run.is_dir():
            error = self.attempt(write_run_report, self.run)
            assert error is None or self.is_damaged, error

    @rule(elsewhere=st.booleans())
    def evaluate(self, elsewhere):
        options = {"a": self.root / "a", "b": self.root / "b", "out": self.new("scores") if elsewhere else None}
        error = self.attempt(
            evaluate, self.run, direction="a2b", num_bootstrap=100, device="cpu", quiet=True, **options
        )
        may_fail = self.is_damaged or self.good_config is not None or not list_checkpoints(self.run)
        assert error is None or may_fail, error

    @precondition(lambda self: self.run.is_dir())
    @rule()
    def compare(self):
        self.attempt(compare, self.run, self.root / "scored", out=self.new("page").with_suffix(".html"))

    # ---- what people do

    @precondition(lambda self: self.run.is_dir())
    @rule()
    def move(self):
        self.run = self.run.rename(self.new("run"))

    @precondition(lambda self: self.run.is_dir())
    @rule()
    def copy(self):
        self.run = Path(shutil.copytree(self.run, self.new("run")))

    @precondition(lambda self: (self.run / "config.toml").is_file() and self.good_config is None)
    @rule(
        edit=st.sampled_from(
            [
                ("log_steps = 1", "log_steps = 2"),
                ("width = 2", "width = 4"),
                ("[model]", "[model"),
                ("", "\0"),
                ("", "x = 1\n"),
            ]
        )
    )
    def edit(self, edit):
        before = (self.run / "config.toml").read_bytes()
        after = before.replace(edit[0].encode(), edit[1].encode(), 1)
        (self.run / "config.toml").write_bytes(after)
        if "log_steps" not in edit[0] and after != before:
            self.good_config = before

    @precondition(lambda self: self.good_config is not None)
    @rule()
    def undo_edit(self):
        (self.run / "config.toml").write_bytes(self.good_config)
        self.good_config = None

    def files(self):
        return sorted(path for path in self.run.rglob("*") if path.is_file() and path.name != ".lock")

    @precondition(lambda self: self.run.is_dir())
    @rule(
        kind=st.sampled_from(["delete", "truncate", "flip", "empty", "folder"]),
        number=st.integers(0, 1000),
        share=st.floats(0, 1, exclude_max=True),
        bit=st.integers(0, 7),
    )
    def damage(self, kind, number, share, bit):
        """share: where in the file."""
        files = self.files()
        if not files:
            return
        path = files[number % len(files)]
        content = bytearray(path.read_bytes())
        self.is_damaged = True
        if kind in ("delete", "folder"):
            path.unlink()
            if kind == "folder":
                path.mkdir()
        elif kind == "flip" and content:
            content[int(share * len(content))] ^= 1 << bit
            path.write_bytes(content)
        else:
            path.write_bytes(content[: int(share * len(content))] if kind == "truncate" else b"")
        if path.name == "config.toml":
            self.good_config = None

    # ---- what always holds

    @invariant()
    def weights_are_those_of_an_uninterrupted_run(self):
        if self.is_damaged or not self.run.is_dir():
            return
        checkpoints = list_checkpoints(self.run)
        steps = [int(path.name.removeprefix("step_")) for path in checkpoints]
        for step, path in zip(steps[:1], checkpoints[:1], strict=True):
            assert digest(path) == self.expected[step], step
        assert max(steps, default=0) >= self.step
        self.step = max(steps, default=0)

    def teardown(self):
        shutil.rmtree(self.place, ignore_errors=True)


@pytest.fixture
def states(tmp_path, monkeypatch):
    """The machine, with the digest of every step of a run that nobody touched."""
    make_folder(tmp_path / "a", 4), make_folder(tmp_path / "b", 3, tint=(0.2, 0.5, 1.0), seed=1)
    page = "cyclegan.training.monitor.write_run_report"
    monkeypatch.setattr(page, lambda run: write_bytes(run / "report.html", b"."))
    monkeypatch.setattr("os.fsync", lambda _: None)
    settings = {**SETTINGS, "steps": LONGEST, "checkpoint_steps": 1, "keep_checkpoints": LONGEST}
    whole = train(tmp_path / "a", tmp_path / "b", out=tmp_path / "whole", quiet=True, **settings)
    expected = {int(path.name.removeprefix("step_")): digest(path) for path in list_checkpoints(whole)}
    train(tmp_path / "a", tmp_path / "b", out=tmp_path / "scored", quiet=True, **{**SETTINGS, "steps": 2})
    evaluate(tmp_path / "scored", tmp_path / "a", tmp_path / "b", num_bootstrap=100, device="cpu", quiet=True)
    return type("States", (RunStates,), {"root": tmp_path, "expected": expected})


def test_a_run_survives_whatever_is_done_to_it(states):
    run_state_machine_as_test(states, settings=fuzz_settings(20, stateful_step_count=12))
