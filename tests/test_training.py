import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import TINY, make_folder
from cyclegan import InputError, TrainConfig, Translator, train
from cyclegan.errors import TrainingError
from cyclegan.images.codecs import write_image
from cyclegan.storage.model import read_info
from cyclegan.storage.run import list_checkpoints
from cyclegan.training.events import StepDone


def events(run, name=None):
    """Lines of the log: those of one kind of event, or, without a name, those of losses."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("event") == name]


def log_lines(run):
    return events(run)


def run_tiny(folders, out, **settings):
    return train(*folders, out=out, quiet=True, **{**TINY, "steps": 6, "log_steps": 2, **settings})


def weights(run):
    return {
        path.name: load_file(path)
        for folder in (run / "model", list_checkpoints(run)[0])
        for path in sorted(folder.glob("*.safetensors"))
    }


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert "training.safetensors" in one  # discriminators, both optimisers and the pools
    for file, tensors in one.items():
        assert tensors.keys() == other[file].keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, other[file][name]), (file, name)


def test_a_run_directory_holds_every_documented_file(folders, tmp_path):
    run = run_tiny(
        folders,
        tmp_path / "run",
        num_samples=2,
        sample_steps=3,
        checkpoint_steps=2,
        keep_checkpoints=2,
        tensorboard=True,
    )
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {
        "config.toml",
        "log.jsonl",
        "tensorboard",
        "samples",
        "checkpoints",
        "model",
        "examples",
        "report.html",
    }
    assert [path.name for path in list_checkpoints(run)] == ["step_0000006", "step_0000004"]
    assert {path.name for path in (run / "samples").iterdir()} == {"step_0000003.png", "step_0000006.png"}
    assert {path.name for path in (run / "model").iterdir()} == {
        "config.json",
        *(f"{direction}{kind}.safetensors" for direction in ("a2b", "b2a") for kind in ("", "_average")),
    }
    assert list((run / "tensorboard").iterdir())
    lines = log_lines(run)
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert lines[0]["learning_rate"] == 2e-4 > lines[-1]["learning_rate"]
    assert {"epoch", "seconds", "images_per_second", "cycle_a", "discriminator_b"} <= lines[0].keys()


def test_a_run_leaves_no_thread_behind(folders, tmp_path):
    before = threading.active_count()
    train(*folders, out=tmp_path / "run", quiet=True, **TINY, steps=2)
    assert threading.active_count() == before

    def fail(*_):
        raise RuntimeError("a step that fails")

    with pytest.raises(RuntimeError, match="a step that fails"):
        train(*folders, out=tmp_path / "other", quiet=True, callbacks=[fail], **TINY, steps=2)
    assert threading.active_count() == before


def test_the_length_can_be_given_in_epochs(folders, tmp_path):
    run = run_tiny(folders, tmp_path / "run", epochs=1.5, steps=None, batch_size=2)
    assert read_info(run / "model").step == 5  # six images in batches of two, one and a half times, rounded up


def test_the_length_can_be_given_in_minutes(folders, tmp_path, monkeypatch):
    now = [0.0]

    def step(event):  # takes 10 seconds
        if isinstance(event, StepDone):
            now[0] += 10

    monkeypatch.setattr("cyclegan.training.schedule.working_time", lambda: now[0])
    run = run_tiny(folders, tmp_path / "run", minutes=2, steps=None, log_steps=1, callbacks=[step])
    assert read_info(run / "model").step == 12
    rates = [line["learning_rate"] for line in log_lines(run)]
    assert rates[0] == 2e-4
    assert 0 <= rates[-1] < 1e-4
    assert rates == sorted(rates, reverse=True)


def test_a_config_object_trains_like_its_settings(folders, tmp_path):
    from cyclegan.config import make_config

    one = run_tiny(folders, tmp_path / "one")
    config = make_config(
        {**TINY, "steps": 6, "log_steps": 2, "a": folders[0], "b": folders[1], "out": tmp_path / "two"}
    )
    assert isinstance(config, TrainConfig)
    assert_same_weights(one, train(config, quiet=True))


def test_seeds_repeat_and_differ(folders, tmp_path):
    runs = [run_tiny(folders, tmp_path / str(i), seed=seed, dropout=True) for i, seed in enumerate((3, 3, 4))]
    assert_same_weights(*runs[:2])
    with pytest.raises(AssertionError):
        assert_same_weights(runs[0], runs[2])


def test_an_interrupted_run_goes_on_and_ends_like_an_uninterrupted_one(folders, tmp_path):
    settings = {"steps": 9, "batch_size": 2, "pool_size": 3, "dropout": True, "checkpoint_steps": 4}
    whole = run_tiny(folders, tmp_path / "whole", **settings)

    def interrupt_at(step):
        def interrupt(event):
            if isinstance(event, StepDone) and event.step == step:
                os.kill(os.getpid(), signal.SIGINT)

        return interrupt

    for step in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            run_tiny(folders, tmp_path / "run", callbacks=[interrupt_at(step)], **settings)
        assert list_checkpoints(tmp_path / "run")[0].name == f"step_000000{step}"
    run = run_tiny(folders, tmp_path / "run", **settings)
    assert_same_weights(whole, run)
    steps = [line["step"] for line in log_lines(run)]
    assert steps == sorted(set(steps))


def test_a_complete_run_is_left_alone_and_can_be_made_longer(folders, tmp_path, capfd):
    run = run_tiny(folders, tmp_path / "run")
    before = weights(run)
    train(*folders, out=run, **{**TINY, "steps": 6, "log_steps": 2})
    assert "complete" in capfd.readouterr().err
    assert all(torch.equal(before[f][n], t) for f, tensors in weights(run).items() for n, t in tensors.items())
    run_tiny(folders, run, steps=8, resume=True)
    assert read_info(run / "model").step == 8


@pytest.mark.parametrize("preset", ["paper", "conservative"])
def test_a_run_goes_on_with_its_preset_where_none_is_given(folders, tmp_path, preset):
    run = run_tiny(folders, tmp_path / "run", preset=preset)
    run_tiny(folders, run, steps=8, resume=True)
    assert read_info(run / "model").step == 8
    with pytest.raises(InputError, match=f"pass --preset {preset}, with which it began"):
        run_tiny(folders, run, steps=8, preset="modern")


def test_changed_settings_are_refused_with_the_differences_and_remedies(folders, tmp_path):
    run = run_tiny(folders, tmp_path / "run")
    with pytest.raises(InputError, match=r"learning_rate 0.0002 -> 0.001.*--fresh.*--resume"):
        run_tiny(folders, run, learning_rate=1e-3)
    with pytest.raises(InputError, match="width 4 -> 8"):
        run_tiny(folders, run, width=8, resume=True)
    run_tiny(folders, run, log_steps=3)  # what is written may change freely
    run_tiny(folders, run, width=8, fresh=True)
    assert read_info(run / "model").model.width == 8
    assert read_info(tmp_path / "run.old1" / "model").model.width == 4


def test_resume_without_a_run_and_foreign_directories_are_refused(folders, tmp_path):
    with pytest.raises(InputError, match="no run to resume"):
        run_tiny(folders, tmp_path / "run", resume=True)
    with pytest.raises(InputError, match="not a run directory"):
        run_tiny(folders, make_folder(tmp_path / "pictures"))
    with pytest.raises(InputError, match="--fresh moves only runs aside"):
        run_tiny(folders, tmp_path / "pictures", fresh=True)
    assert len(list((tmp_path / "pictures").iterdir())) == 6
    for inside in (folders[0], folders[1] / "deep" / "run"):
        with pytest.raises(InputError, match="would become training data"):
            run_tiny(folders, inside)


def test_weights_that_explode_are_never_saved(folders, tmp_path):
    with pytest.raises(TrainingError, match=r"No checkpoint was saved yet|last good checkpoint"):
        run_tiny(folders, tmp_path / "run", learning_rate=1e30, steps=20, norm="none", adversarial="wgan-gp")
    for checkpoint in list_checkpoints(tmp_path / "run"):
        for tensor in load_file(checkpoint / "model" / "a2b.safetensors").values():
            assert torch.isfinite(tensor).all()


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(folders, tmp_path, capfd):
    run = run_tiny(folders, tmp_path / "run", checkpoint_steps=2)
    newest = list_checkpoints(run)[0]
    (newest / "training.safetensors").write_bytes(b"x" * 100)
    train(*folders, out=run, resume=True, **{**TINY, "steps": 7, "log_steps": 2, "checkpoint_steps": 2})
    shown = " ".join(capfd.readouterr().err.split())
    assert "Skipped" in shown
    assert "after step 4" in shown
    assert read_info(run / "model").step == 7


def test_unreadable_files_are_left_out_logged_and_shown(folders, tmp_path, capfd):
    (folders[0] / "header.png").write_bytes(b"nonsense")
    whole = (folders[0] / "0.png").read_bytes()
    (folders[0] / "half.png").write_bytes(whole[: len(whole) // 2])
    run = train(*folders, out=tmp_path / "run", **{**TINY, "steps": 10})
    shown = capfd.readouterr().err
    left_out = events(run, "unreadable")
    for name in ("header.png", "half.png"):
        assert name in shown
        assert sum(name in event["path"] for event in left_out) == 1


def test_domains_of_different_channels_and_depth_train(tmp_path):
    for name, channels, dtype, high in (("a", 1, np.uint16, 3000), ("b", 5, np.float32, 2.5)):
        (tmp_path / name).mkdir()
        for index in range(3):
            values = np.random.default_rng(index).random((20, 20, channels)) * high
            write_image(tmp_path / name / f"{index}.tif", values.astype(dtype))
    run = run_tiny((tmp_path / "a", tmp_path / "b"), tmp_path / "run", channels_a=1, channels_b=5)
    info = read_info(run / "model")
    assert (info.a.dtype, info.b.dtype, info.a.channels, info.b.channels) == ("uint16", "float32", 1, 5)
    assert 2900 < info.a.high <= 3000
    assert all(line["identity_a"] == 0 for line in log_lines(run))


def test_sample_grids_use_held_out_images(tmp_path, capfd):
    a, b = make_folder(tmp_path / "a", 20), make_folder(tmp_path / "b", 20, seed=1, tint=(0.1, 1, 0.1))
    train(a, b, out=tmp_path / "run", **{**TINY, "steps": 2, "num_samples": 2, "sample_steps": 1})
    shown = capfd.readouterr().err
    assert "A: 18 images to train on, and 2 held out" in shown
    assert "held out of the training folders" in shown
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2


def test_samples_that_were_trained_on_are_not_called_held_out(folders, tmp_path):
    run = run_tiny(folders, tmp_path / "run", num_samples=2, sample_steps=3)
    record = json.loads((run / "examples" / "examples.json").read_text())
    assert "also trained on" in record["origin"]
    assert {example["kind"] for example in record["examples"]} == {"sample"}
    page = (run / "report.html").read_text()
    assert "also trained on" in page
    assert "held out" not in page


def test_a_damaged_held_out_image_is_skipped(tmp_path):
    for name in ("trainA", "trainB", "testA", "testB"):
        make_folder(tmp_path / "root" / name, 5, seed=ord(name[-1]))
    (tmp_path / "root" / "testA" / "0.png").write_bytes(b"nonsense")
    run = train(tmp_path / "root", out=tmp_path / "run", quiet=True, **{**TINY, "steps": 1, "num_samples": 2})
    assert ["0.png" in line["path"] for line in events(run, "unreadable")] == [True]
    assert (run / "samples" / "step_0000001.png").is_file()


def test_a_model_that_was_not_written_before_a_kill_is_written_later(folders, tmp_path):
    run = run_tiny(folders, tmp_path / "run", steps=4)
    old = (run / "model").rename(tmp_path / "old")
    run_tiny(folders, run, steps=6, resume=True)
    shutil.rmtree(run / "model")
    old.rename(run / "model")  # as if the kill had come between the last checkpoint and the model
    run_tiny(folders, run, steps=6)
    assert read_info(run / "model").step == 6
    run_tiny(folders, run, steps=6, translate_with="average")
    assert read_info(run / "model").translate_with == "average"


def test_value_ranges_are_found_once(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        for index in range(3):
            values = np.random.default_rng([seed, index]).integers(10, 3000, (20, 20, 1))
            write_image(tmp_path / name / f"{index}.png", values.astype(np.uint16))
    settings = {"channels_a": 1, "channels_b": 1}
    run = run_tiny((tmp_path / "a", tmp_path / "b"), tmp_path / "run", **settings)
    before = read_info(run / "model").a
    write_image(tmp_path / "a" / "bright.png", np.full((20, 20, 1), 60000, np.uint16))
    run_tiny((tmp_path / "a", tmp_path / "b"), run, steps=8, resume=True, **settings)
    assert read_info(run / "model").a == before
    assert before.high < 3000


def test_infinity_in_an_image_is_reported_with_its_file(folders, tmp_path):
    (tmp_path / "x").mkdir()
    array = np.random.default_rng(0).random((20, 20, 3)).astype(np.float32)
    np.save(tmp_path / "x" / "good.npy", array)
    array[3, 3] = np.inf
    np.save(tmp_path / "x" / "hole.npy", array)
    with pytest.raises(InputError, match=r"hole.npy: holds 3 values that are NaN"):
        run_tiny((tmp_path / "x", folders[1]), tmp_path / "run")


def test_two_processes_cannot_train_in_one_place(folders, tmp_path):
    from cyclegan.training.resume import lock

    run_tiny(folders, tmp_path / "run")
    for fresh in (False, True):
        with lock(tmp_path / "run"), pytest.raises(InputError, match="Another process"):
            run_tiny(folders, tmp_path / "run", fresh=fresh)
    run_tiny(folders, tmp_path / "run")


@pytest.mark.parametrize("name", ["a [b]", "mk[/x]", "🌍 ü", "100%"])
def test_folders_may_have_any_name(tmp_path, name, capfd):
    a, b = make_folder(tmp_path / name / "a"), make_folder(tmp_path / name / "b", seed=1)
    (a / "broken [x].png").write_bytes(b"nonsense")
    for steps in (2, 3):
        train(a, b, out=tmp_path / name / "run", resume=steps == 3, **{**TINY, "steps": steps})
        shown = capfd.readouterr().err
        assert f"{name}/a" in shown
        assert f"{name}/run" in shown
        assert "broken [x].png" in shown


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_ctrl_c_with_loading_processes_saves(folders, tmp_path):
    settings = {"steps": 10**6, "workers": 2, "log_steps": 1}
    process = start(folders, tmp_path / "run", settings, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (tmp_path / "run" / "log.jsonl").is_file() or not log_lines(tmp_path / "run"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    process.communicate(timeout=300)
    assert list_checkpoints(tmp_path / "run")


SCRIPT = """
import sys, json, time, torch
torch.set_num_threads(1)
from cyclegan import train
from cyclegan.errors import TrainingError
from cyclegan.training import StepDone
def hold(event):
    if isinstance(event, StepDone) and event.step == int(sys.argv[5]):
        time.sleep(600)
try:
    train(sys.argv[1], sys.argv[2], out=sys.argv[3], quiet=True, callbacks=[hold], **json.loads(sys.argv[4]))
except TrainingError as error:
    print(error)
    raise SystemExit(3)
"""


def start(folders, out, settings, *, hold=0, **options):
    """A training in a process. hold: the step after which it waits to be killed."""
    command = [sys.executable, "-c", SCRIPT, *map(str, folders), str(out), json.dumps({**TINY, **settings}), str(hold)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file size are POSIX")
def test_a_full_disk_is_a_clear_error_and_the_last_good_checkpoint_loads(folders, tmp_path):
    run = run_tiny(folders, tmp_path / "run", steps=4, checkpoint_steps=2)
    size = (list_checkpoints(run)[0] / "training.safetensors").stat().st_size

    import resource

    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    settings = {"steps": 8, "log_steps": 2, "checkpoint_steps": 2, "resume": True}
    process = start(folders, run, settings, preexec_fn=little_room)
    message = process.communicate(timeout=300)[0]
    assert process.returncode == 3, message
    assert "could not be written" in message
    assert "step_0000004" in message
    assert list_checkpoints(run)[0].name == "step_0000004"
    run_tiny(folders, run, steps=8, checkpoint_steps=2, resume=True)
    assert read_info(run / "model").step == 8


def test_a_place_that_cannot_be_written_is_a_clear_error(folders, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        run_tiny(folders, tmp_path / "file" / "run")
    if hasattr(os, "geteuid") and os.geteuid() != 0:  # root may write everywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(InputError, match="cannot be written"):
            run_tiny(folders, tmp_path / "locked" / "run")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize(
    ("num_kills", "steps", "checkpoint_steps", "longest_wait"),
    [(2, 120, 10, 0.05), pytest.param(20, 2500, 25, 0.6, marks=pytest.mark.slow)],
    ids=["twice", "twenty times"],
)
def test_a_run_that_is_killed_ends_bit_identical_to_an_uninterrupted_one(
    folders, tmp_path, num_kills, steps, checkpoint_steps, longest_wait
):
    # Full pools, dropout and decay, so that all state matters.
    settings = {
        "steps": steps,
        "log_steps": 20,
        "checkpoint_steps": checkpoint_steps,
        "batch_size": 2,
        "pool_size": 5,
        "dropout": True,
        "keep_checkpoints": 2,
    }
    rng = np.random.default_rng(0)
    run, kills, resumed_from = tmp_path / "killed", 0, []
    while kills < num_kills:
        before = list_checkpoints(run)[0].name if list_checkpoints(run) else None
        # However fast it is, it goes no further than one more share of the steps, so that every kill finds it at work.
        share = steps // (num_kills + 1) // checkpoint_steps * checkpoint_steps
        process = start(folders, run, settings, hold=(kills + 1) * share + checkpoint_steps // 2)
        # Wait for the first checkpoint of this process, so that every round gets further; then for a random moment.
        deadline = time.monotonic() + 300
        while (list_checkpoints(run)[0].name if list_checkpoints(run) else None) == before:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(rng.random() * longest_wait)
        process.kill()
        process.wait()
        process.stdout.close()
        assert process.returncode == -signal.SIGKILL, process.returncode
        kills += 1
        resumed_from.append(list_checkpoints(run)[0].name)
    assert len(set(resumed_from)) == num_kills

    for out in (run, tmp_path / "whole"):
        run_tiny(folders, out, **settings)
    assert_same_weights(tmp_path / "whole", run)
    assert [line["step"] for line in log_lines(run)] == [line["step"] for line in log_lines(tmp_path / "whole")]
    assert not [path for path in run.rglob("*.partial")]


def test_models_of_every_so_many_epochs_are_kept_for_good(folders, tmp_path):
    # Six images in steps of two: an epoch is three steps.
    settings = {"steps": None, "epochs": 5, "batch_size": 2, "checkpoint_steps": 2, "keep_checkpoints": 1}
    run = run_tiny(folders, tmp_path / "run", model_epochs=2, **settings)
    assert sorted(path.name for path in (run / "models").iterdir()) == ["epoch_0002", "epoch_0004"]
    assert [read_info(run / "models" / f"epoch_000{epoch}").step for epoch in (2, 4)] == [6, 12]
    assert Translator.load(run / "models" / "epoch_0002", direction="b2a").info.step == 6
    # What is kept beside it changes nothing that is learned.
    assert_same_weights(run, run_tiny(folders, tmp_path / "other", **settings))
