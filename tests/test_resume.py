"""A run that is resumed: what it keeps, what it takes, what it says, and which images it trains on."""

import hashlib
import os
import re
import shlex
import shutil
import signal

import numpy as np
import pytest
import torch
from test_training import assert_same_weights, events

from conftest import TINY, make_folder
from cyclegan import InputError, TrainConfig, train
from cyclegan.cli import main
from cyclegan.config import flat_values
from cyclegan.storage.model import read_info
from cyclegan.storage.run import read_run_config
from cyclegan.training import Batch
from cyclegan.training.events import StepDone

pytestmark = pytest.mark.usefixtures("without_pages")

# Settings that no preset has, and that a run must not forget.
OWN = {"learning_rate": 1e-4, "cycle_weight": 3.0, "batch_size": 2, "flip": False, "log_steps": 2}


def run_own(folders, out, **changes):
    return train(*folders, out=out, **{**TINY, **OWN, "steps": 4, "quiet": True, **changes})


def settings_of(run):
    return flat_values(read_run_config(run))


def printed(capfd):
    return " ".join(capfd.readouterr().err.split())


def contents(run):
    """A digest of every file of a run."""
    return {
        path.relative_to(run): hashlib.sha256(path.read_bytes()).digest() for path in run.rglob("*") if path.is_file()
    }


def stop_at(step):
    def stop(event):
        if isinstance(event, StepDone) and event.step == step:
            raise KeyboardInterrupt

    return stop


def stop_at_signal(step):
    def stop(event):
        if isinstance(event, StepDone) and event.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return stop


def command_in(text):
    """The command that a message advises."""
    return re.search(r"cyclegan (train .*?--resume(?: --[\w-]+ [\d.]+)?)", text)[1]


def resume(run, *words):
    main(["train", "--out", str(run), "--resume", *words])


# ---- settings


def test_resume_keeps_the_saved_settings_and_takes_what_is_typed(folders, tmp_path, capfd):
    run = run_own(folders, tmp_path / "run")
    before = settings_of(run)
    capfd.readouterr()
    resume(run, "--steps", "6", "--learning-rate", "5e-5")
    assert "Changed since the last session: learning_rate: 0.0001 -> 5e-05, steps: 4 -> 6" in printed(capfd)
    assert settings_of(run) == {**before, "steps": 6, "learning_rate": 5e-5}
    assert read_info(run / "model").step == 6
    first, second = events(run, "session")
    assert "changes" not in first
    assert second["changes"] == {"learning_rate": [1e-4, 5e-5], "steps": [4, 6]}


def test_a_run_that_is_resumed_without_changes_ends_like_an_uninterrupted_one(folders, tmp_path, capfd):
    whole = run_own(folders, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_own(folders, tmp_path / "run", callbacks=[stop_at(3)])
    capfd.readouterr()
    resume(tmp_path / "run")
    assert "Changed since" not in printed(capfd)
    assert_same_weights(whole, tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "length"), [({"epochs": 2.0}, ("epochs", 2.0)), ({"minutes": 0.01}, ("minutes", 0.01))]
)
def test_a_new_length_replaces_the_saved_one(folders, tmp_path, capfd, given, length):
    run = run_own(folders, tmp_path / "run")
    train(out=run, resume=True, **given)
    name, value = length
    shown = printed(capfd)
    assert f"{name}: none -> {value}" in shown
    assert "steps: 4 -> none" in shown
    saved = settings_of(run)
    assert (saved["steps"], saved[name]) == (None, value)


def test_settings_of_a_file_come_between_the_saved_and_the_typed_ones(folders, tmp_path):
    run = run_own(folders, tmp_path / "run")
    before = settings_of(run)
    (tmp_path / "more.toml").write_text("steps = 5\nlearning_rate = 3e-5\nbeta1 = 0.6\n")
    resume(run, "--config", str(tmp_path / "more.toml"), "--steps", "6")
    assert settings_of(run) == {**before, "steps": 6, "learning_rate": 3e-5, "beta1": 0.6}


def test_other_folders_are_taken_and_shown(folders, tmp_path, capfd):
    run = run_own(folders, tmp_path / "run")
    for name in ("trainA", "trainB"):
        make_folder(tmp_path / "root" / name, seed=ord(name[-1]))
    train(tmp_path / "root", out=run, resume=True, steps=6)
    shown = printed(capfd)
    assert f"a: {folders[0]} -> {tmp_path / 'root'}" in shown
    assert f"b: {folders[1]} -> none" in shown
    assert (settings_of(run)["a"], settings_of(run)["b"]) == (str(tmp_path / "root"), None)


def test_a_size_typed_again_keeps_what_depends_on_it(folders, tmp_path):
    run = run_own(folders, tmp_path / "run", load_size=20)
    resume(run, "--steps", "5", "--crop-size", "16")
    assert settings_of(run)["load_size"] == 20
    resume(run, "--steps", "6", "--crop-size", "20")
    assert settings_of(run)["load_size"] is None  # in proportion


def test_another_preset_brings_its_values_but_no_other_networks(folders, tmp_path):
    run = run_own(folders, tmp_path / "run", preset="modern")
    before = settings_of(run)
    resume(run, "--steps", "5", "--preset", "modern")
    assert settings_of(run) == {**before, "steps": 5}
    resume(run, "--steps", "6", "--preset", "conservative", "--cycle-weight-b", "2")
    changed = {"cycle_weight_b": 2.0, "structure_weight": 5.0, "contrastive_weight": 0.0, "preset": "conservative"}
    assert settings_of(run) == {**before, "steps": 6, **changed}
    with pytest.raises(InputError, match="global_skip True -> False"):
        train(out=run, resume=True, preset="paper", quiet=True)


def test_a_run_may_be_moved_and_resumed_where_it_is(folders, tmp_path):
    run = run_own(folders, tmp_path / "run").rename(tmp_path / "moved")
    resume(run, "--steps", "6")
    assert read_info(run / "model").step == 6
    assert not (tmp_path / "run").exists()


def test_a_run_that_began_from_a_model_is_resumed_without_it(folders, tmp_path):
    model = run_own(folders, tmp_path / "model", steps=1)
    run = run_own(folders, tmp_path / "run", init_from=model, freeze="encoder")
    before = settings_of(run)
    shutil.rmtree(model)
    resume(run, "--steps", "6")
    assert settings_of(run) == {**before, "steps": 6}


class Source:
    def batch(self, step):
        images = torch.from_numpy(np.full((2, 3, 16, 16), step / 10, "float32"))
        return Batch(images, -images)


def test_a_run_on_batches_keeps_its_settings_too(tmp_path, capfd):
    settings = {**TINY, **OWN, "steps": 2}
    run = train(batches=Source(), out=tmp_path / "run", **settings)
    before = settings_of(run)
    train(batches=Source(), out=run, resume=True, steps=4)
    assert settings_of(run) == {**before, "steps": 4}
    train(batches=Source(), out=run, resume=True)
    assert "the same call of cyclegan.train with resume=True, steps=8" in printed(capfd)
    with pytest.raises(InputError, match="use the old values, or pass resume=True"):
        train(batches=Source(), out=run, **{**settings, "steps": 6})


def test_batches_take_the_place_of_the_folders_of_a_run(folders, tmp_path):
    run = run_own(folders, tmp_path / "run")
    train(batches=Source(), out=run, resume=True, steps=6, quiet=True)
    assert settings_of(run)["a"] is None
    assert settings_of(run)["learning_rate"] == OWN["learning_rate"]


def test_a_whole_configuration_is_taken_as_it_is(folders, tmp_path):
    run = run_own(folders, tmp_path / "run")
    config = read_run_config(run).replace(steps=6, learning_rate=2e-4)
    assert isinstance(config, TrainConfig)
    train(config, resume=True, quiet=True)
    assert settings_of(run)["learning_rate"] == 2e-4


@pytest.mark.parametrize(
    "words",
    [
        ["--learning-rate", "-1"],
        ["--learning-rate", "much"],
        ["--width", "8"],
        ["--crop-size", "2"],
        ["--preset", "none"],
        ["--steps", "6", "--device", "toaster"],
        ["--config", "absent.toml"],
        ["no/folder", "none/either"],
    ],
    ids=" ".join,
)
def test_a_bad_value_changes_nothing_of_the_run(folders, tmp_path, words):
    run = run_own(folders, tmp_path / "run")
    before = contents(run)
    with pytest.raises(SystemExit):
        resume(run, *words)
    assert contents(run) == before


def test_resume_without_a_run_says_so_before_anything_else(tmp_path):
    with pytest.raises(InputError, match="no run to resume; leave out --resume"):
        train(out=tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_without_resume_a_run_needs_its_folders(folders, tmp_path):
    run = run_own(folders, tmp_path / "run")
    with pytest.raises(InputError, match="or --resume to continue the run in it with its own"):
        train(out=run, quiet=True)


# ---- commands that messages advise


@pytest.mark.parametrize(
    ("length", "advised"),
    [
        ({"steps": 2}, ["--steps", "4"]),
        ({"steps": None, "epochs": 1.5}, ["--epochs", "4"]),  # five steps of three in an epoch are over 1.5
        ({"steps": None, "minutes": 1e-4}, ["--minutes", "1"]),
    ],
)
def test_the_command_of_a_complete_run_makes_it_longer(folders, tmp_path, capfd, length, advised):
    run = run_own(folders, tmp_path / "a run", **length)
    before, step = settings_of(run), read_info(run / "model").step
    run_own(folders, run, quiet=False, **length)
    words = shlex.split(command_in(printed(capfd)))
    assert words == ["train", "--out", str(run), "--resume", *advised]
    if "minutes" not in length:  # a minute is long
        main(words)
        assert read_info(run / "model").step > step
        assert settings_of(run) == {**before, advised[0].removeprefix("--"): float(advised[1])}


def test_the_command_of_a_stopped_run_continues_it_even_if_it_was_fresh(folders, tmp_path, capfd):
    run_own(folders, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run_own(folders, tmp_path / "run", fresh=True, quiet=False, callbacks=[stop_at_signal(2)])
    main(shlex.split(command_in(printed(capfd))))
    assert read_info(tmp_path / "run" / "model").step == 4
    assert [event["step"] for event in events(tmp_path / "run", "session")] == [0, 2]


def test_the_commands_of_a_refusal_do_what_they_say(folders, tmp_path):
    run = run_own(folders, tmp_path / "run")
    before = settings_of(run)
    changed = {"steps": 6, "flip": True, "learning_rate": 2e-4}
    with pytest.raises(InputError, match="--fresh") as error:
        run_own(folders, run, **changed)
    saved, new = re.findall(r"cyclegan (train .*?--resume[^;]*)", str(error.value))
    main(shlex.split(saved))
    assert settings_of(run) == before
    main(shlex.split(new))
    assert settings_of(run) == {**before, **changed}


def test_a_refusal_names_the_preset_only_where_it_is_the_reason(folders, tmp_path):
    run = run_own(folders, tmp_path / "run", preset="conservative", cycle_weight=3.0)
    with pytest.raises(InputError, match="pass --preset conservative, with which it began"):
        run_own(folders, run, preset="modern", cycle_weight=1.0)
    with pytest.raises(InputError) as error:
        run_own(folders, run, preset="modern", learning_rate=1e-3)
    assert "with which it began" not in str(error.value)


def test_networks_and_folders_that_changed_have_commands_too(folders, tmp_path):
    run = run_own(folders, tmp_path / "run")
    with pytest.raises(InputError, match=r"width 4 -> 8.*saved settings: cyclegan train --out \S+ --resume$"):
        run_own(folders, run, width=8)
    other = make_folder(tmp_path / "other", seed=5)
    with pytest.raises(InputError) as error:
        run_own((folders[0], other), run, steps=6)
    words = re.search(r"new ones: cyclegan (.*)", str(error.value))[1]
    main(shlex.split(words))
    assert (settings_of(run)["b"], settings_of(run)["steps"]) == (str(other), 6)
