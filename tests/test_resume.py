"""A run that is resumed: what it keeps, what it takes, what it says, and which images it trains on."""

import hashlib
import os
import re
import shlex
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from test_training import assert_same_weights, events

from conftest import TINY, make_folder
from cyclegan import DataConfig, InputError, TrainConfig, train
from cyclegan.cli import main
from cyclegan.config import flat_values
from cyclegan.data.image_folder import scan_folder
from cyclegan.data.image_order import ImageOrder, Stretch
from cyclegan.data.known_images import KnownImages
from cyclegan.data.preprocessing import load_for_crops
from cyclegan.data.splits import split_held_out
from cyclegan.images.codecs import write_image
from cyclegan.images.file_list import FileList
from cyclegan.storage.model import read_info
from cyclegan.storage.run import list_checkpoints, read_log, read_run_config
from cyclegan.training import Batch
from cyclegan.training.events import StepDone
from cyclegan.training.resume import resume_command

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


def test_files_are_read_in_another_way_only_after_a_warning(folders, tmp_path, capfd):
    a, _ = folders
    for index in range(5):
        values = np.random.default_rng(index).integers(10, 900, (20, 24, 1)).astype(np.int16)
        values[:6, :6], values[10, 10] = -9999, 900
        write_image(tmp_path / "dem" / f"{index}.tif", values)
    settings = {"out": tmp_path / "run", "channels_b": 1, "steps": 2, **TINY}
    run = train(a, tmp_path / "dem", **settings)
    assert read_info(run / "model").b.low == -9999
    with pytest.raises(InputError, match="other settings: nodata_b None -> -9999"):
        train(a, tmp_path / "dem", nodata_b=-9999, **settings)
    capfd.readouterr()
    resume(run, "--nodata-b", "-9999", "--steps", "3")
    shown = printed(capfd)
    assert "nodata_b: none -> -9999" in shown
    assert "nodata_b changed, so the networks go on with other images of the same files" in shown
    assert "-9999 to 900 (B): --range-a and --range-b set them" in shown
    assert "Images of B have holes" in shown
    assert read_info(run / "model").b.nodata == "-9999"


def test_a_run_that_is_resumed_without_changes_ends_like_an_uninterrupted_one(folders, tmp_path, capfd):
    whole = run_own(folders, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_own(folders, tmp_path / "run", callbacks=[stop_at(3)])
    capfd.readouterr()
    resume(tmp_path / "run")
    assert "Changed since" not in printed(capfd)
    assert_same_weights(whole, tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "length"), [({"epochs": 2.0}, ("epochs", 2.0)), ({"minutes": 60.0}, ("minutes", 60.0))]
)
def test_a_new_length_replaces_the_saved_one(folders, tmp_path, capfd, given, length):
    run = run_own(folders, tmp_path / "run")
    with suppress(KeyboardInterrupt):
        train(out=run, resume=True, callbacks=[stop_at(5)], **given)
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
        ({"steps": None, "epochs": 1.5}, ["--epochs", "3"]),  # although five steps of three in an epoch are over 1.5
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


# ---- images that come and go between sessions


@pytest.fixture
def shown(monkeypatch):
    """The names of the images that are loaded for training, by the name of their folder, in order."""
    names = {}

    def load(path, *arguments, **options):
        names.setdefault(path.parent.name, []).append(path.name)
        return load_for_crops(path, *arguments, **options)

    monkeypatch.setattr("cyclegan.data.dataset.load_for_crops", load)
    return names


def session(folders, out, shown, stop=None, **changes):
    """Train, and return the names of the images of each folder that its steps have shown."""
    shown.clear()
    before = read_info(list_checkpoints(out)[0] / "model").step if out.is_dir() else 0
    settings = {**TINY, "steps": 12, "cache_gib": 0, "quiet": True, **changes}
    with suppress(KeyboardInterrupt):
        train(*folders, out=out, callbacks=[] if stop is None else [stop_at(stop)], **settings)
    count = (read_info(list_checkpoints(out)[0] / "model").step - before) * settings.get("batch_size", 1)
    return {folder: names[:count] for folder, names in shown.items()}  # batches are loaded ahead


def add_image(folder, name, seed=9):
    make_folder(folder.parent / "more", 1, seed=seed)
    return (folder.parent / "more" / "0.png").rename(folder / name)


def test_images_that_are_added_leave_the_order_of_the_others(folders, tmp_path, shown, capfd):
    whole = session(folders, tmp_path / "whole", shown)
    first = session(folders, tmp_path / "run", shown, stop=3)
    add_image(folders[0], "3 new.png")
    capfd.readouterr()
    second = session(folders, tmp_path / "run", shown, quiet=False)
    said = printed(capfd)
    assert "A: 1 image added since the last session, such as 3 new.png." in said
    assert "B:" not in said.replace("B: 5 images", "")
    a, b = first["a"] + second["a"], first["b"] + second["b"]
    assert b == whole["b"]
    # In this pass and in the next one.
    assert sorted(a[:7]) == sorted([*whole["a"][:6], "3 new.png"])
    known = [name for name in a if name != "3 new.png"]
    assert known == whole["a"][: len(known)]
    assert events(tmp_path / "run", "session")[1]["images"] == [
        "A: 1 image added since the last session, such as 3 new.png."
    ]


def test_images_that_are_removed_leave_the_order_of_the_others(folders, tmp_path, shown, capfd):
    whole = session(folders, tmp_path / "whole", shown)
    first = session(folders, tmp_path / "run", shown, stop=3)
    gone = whole["a"][4]
    kept = (folders[0] / gone).rename(tmp_path / gone)
    add_image(folders[0], "new.png")
    capfd.readouterr()
    second = session(folders, tmp_path / "run", shown, stop=5, quiet=False)
    assert "A: 1 image added, 1 removed or unreadable since the last session, such as new.png." in printed(capfd)
    # One that comes back has the place that it had, or comes later in this pass.
    kept.rename(folders[0] / gone)
    third = session(folders, tmp_path / "run", shown, quiet=False)
    assert f"A: 1 image added since the last session, such as {gone}." in printed(capfd)
    a = first["a"] + second["a"] + third["a"]
    others = [name for name in whole["a"][:6] if name != gone]
    assert [name for name in a[:7] if name not in ("new.png", gone)] == others
    assert sorted(a[:7]) == sorted([*others, "new.png", gone])
    later = [name for name in a[7:] if name != "new.png"]
    assert later == whole["a"][6 : 6 + len(later)]


def test_files_with_another_content_are_reported(folders, tmp_path, shown, capfd):
    session(folders, tmp_path / "run", shown, stop=3)
    add_image(folders[1], "2.png")
    capfd.readouterr()
    session(folders, tmp_path / "run", shown, stop=5, quiet=False)
    assert "B: 1 image changed since the last session, such as 2.png." in printed(capfd)
    session(folders, tmp_path / "run", shown, quiet=False)
    assert "since the last session" not in printed(capfd)


def test_a_run_whose_images_changed_is_resumed_bit_for_bit_too(folders, tmp_path, shown):
    settings = {"batch_size": 2, "pool_size": 3, "dropout": True}
    session(folders, tmp_path / "whole", shown, stop=4, **settings)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    for index in range(3):
        add_image(folders[0], f"new {index}.png", seed=index + 20)
    whole = session(folders, tmp_path / "whole", shown, **settings)
    parts = [session(folders, tmp_path / "run", shown, stop=stop, **settings) for stop in (5, 6, 9, None)]
    assert [name for part in parts for name in part["a"]] == whole["a"]
    assert_same_weights(tmp_path / "whole", tmp_path / "run")


def test_an_older_checkpoint_goes_on_with_the_images_of_today(folders, tmp_path, shown):
    run = tmp_path / "run"
    session(folders, run, shown, stop=3)
    add_image(folders[0], "new.png")
    session(folders, run, shown, stop=7)
    shutil.rmtree(run / "checkpoints" / "step_0000007")
    names = session(folders, run, shown)["a"]
    assert len(names) == 9
    assert len(set(names[:4])) == 4  # what is left of the pass
    assert "new.png" in names[:4]


@pytest.mark.parametrize("damage", ["missing", "nonsense", "half"])
def test_a_run_without_a_list_of_its_images_goes_on(folders, tmp_path, shown, capfd, damage):
    whole = session(folders, tmp_path / "whole", shown)
    first = session(folders, tmp_path / "run", shown, stop=3)
    file = tmp_path / "run" / ".images_a.npz"
    content = file.read_bytes()
    file.unlink() if damage == "missing" else file.write_bytes(
        b"nonsense" if damage == "nonsense" else content[: len(content) // 2]
    )
    capfd.readouterr()
    second = session(folders, tmp_path / "run", shown, quiet=False)
    assert (f"{file} cannot be read" in printed(capfd)) == (damage != "missing")
    assert first["a"] + second["a"] == whole["a"]
    assert_same_weights(tmp_path / "whole", tmp_path / "run")
    assert KnownImages.load(file) is not None


def test_added_images_undo_no_epoch(folders, tmp_path, shown):
    run = tmp_path / "run"
    settings = {"steps": None, "epochs": 4, "log_steps": 1, "model_epochs": 1, "batch_size": 1}
    session(folders, run, shown, stop=9, **settings)
    for index in range(6):
        add_image(folders[0], f"new {index}.png", seed=index + 20)
    session(folders, run, shown, **settings)
    assert read_info(run / "model").step == 9 + 30  # an epoch and a half, then two and a half
    lines = [line for line in read_log(run / "log.jsonl") if "event" not in line]
    epochs, rates = ([line[name] for line in lines] for name in ("epoch", "learning_rate"))
    assert epochs[8] == 1.5
    assert epochs[9] == pytest.approx(1.5 + 1 / 12)
    assert epochs[-1] == 4
    assert epochs == sorted(epochs)
    assert rates == sorted(rates, reverse=True)
    models = {path.name: read_info(path).step for path in (run / "models").iterdir()}
    assert models == {"epoch_0001": 6, "epoch_0002": 15, "epoch_0003": 27, "epoch_0004": 39}


def test_pairs_stay_pairs_when_pairs_are_added(tmp_path, shown):
    folders = [make_folder(tmp_path / name, 5, seed=seed) for seed, name in enumerate("ab")]
    names = session(folders, tmp_path / "run", shown, stop=3, shuffle=False)
    for name in ("1 more.png", "0 more.png", "9.png"):
        for folder in folders:
            add_image(folder, name)
    (folders[0] / "2.png").unlink(), (folders[1] / "2.png").unlink()
    names = session(folders, tmp_path / "run", shown, steps=15, shuffle=False, resume=True)
    assert names["a"] == names["b"]
    assert names["a"][:5] == ["0 more.png", "1 more.png", "3.png", "4.png", "9.png"]
    assert names["a"][5:] == sorted(path.name for path in folders[0].iterdir())


def test_training_images_and_held_out_ones_never_change_places(tmp_path, shown):
    folders = [make_folder(tmp_path / name, 100, seed=seed) for seed, name in enumerate("ab")]
    settings = {"num_validation": 10, "sample_steps": 100}
    session(folders, tmp_path / "run", shown, stop=1, **settings)
    before = KnownImages.load(tmp_path / "run" / ".images_a.npz")
    assert (len(before.training), len(before.held)) == (90, 10)
    # Many more, a copy of a held-out image among them, and one that is held out is gone for a while.
    for index in range(100, 140):
        add_image(folders[0], f"{index}.png", seed=index)
    shutil.copyfile(folders[0] / before.held[0], folders[0] / "copy.png")
    away = (folders[0] / before.held[1]).rename(tmp_path / "away.png")
    session(folders, tmp_path / "run", shown, stop=2, **settings)
    away.rename(folders[0] / before.held[1])
    session(folders, tmp_path / "run", shown, **settings)
    after = KnownImages.load(tmp_path / "run" / ".images_a.npz")
    assert after.held == before.held == after.scored
    assert after.copies == ("copy.png",)
    assert list(after.training.names())[:90] == list(before.training.names())
    assert len(after.training) == 130
    assert (after.keys != 0).all()


def test_a_run_that_began_with_copies_in_training_keeps_them_and_says_so(tmp_path, shown, capfd, monkeypatch):
    # As a release that did not look for copies.
    folders = [make_folder(tmp_path / name, 100, seed=seed) for seed, name in enumerate("ab")]
    for path in list(folders[0].iterdir()):
        shutil.copyfile(path, path.with_name(f"copy of {path.name}"))
    settings = {"num_validation": 10, "sample_steps": 100}
    with monkeypatch.context() as patch:
        patch.setattr("cyclegan.data.splits.find_identical", lambda *_: {})
        whole = session(folders, tmp_path / "whole", shown, **settings)
        first = session(folders, tmp_path / "run", shown, stop=3, **settings)
    (tmp_path / "run" / ".images_a.npz").unlink(), (tmp_path / "run" / ".images_b.npz").unlink()
    capfd.readouterr()
    second = session(folders, tmp_path / "run", shown, stop=5, **{**settings, "quiet": False})
    third = session(folders, tmp_path / "run", shown, **settings)
    said = printed(capfd)
    assert re.search(r"\d+ training images of A are exact copies of images that are held out", said)
    assert first["a"] + second["a"] + third["a"] == whole["a"]
    assert_same_weights(tmp_path / "whole", tmp_path / "run")


@pytest.fixture
def hundreds(tmp_path):
    """Two folders of 100 different pictures, with names that need quotes, and the held-out images of the second."""
    folders = [make_folder(tmp_path / f"my {name}", 100, (64, 48), seed=seed) for seed, name in enumerate("ab")]
    return folders, split_held_out(scan_folder(folders[1], 3, None, DataConfig(crop_size=16)), 10, seed=0).held


def add_near_copy(original, *, mirrored=False):
    """Resized and compressed; its name leaves the choice of held-out images as it is."""
    with Image.open(original) as picture:
        changed = ImageOps.mirror(picture) if mirrored else picture
        changed.resize((96, 72), Image.Resampling.BICUBIC).save(original.with_name("near.jpg"), quality=75)


def warnings_of_session(folders, out, shown, caplog, **changes):
    caplog.clear()
    session(folders, out, shown, **{"num_validation": 10, "sample_steps": 100, "steps": 2, **changes})
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_new_run_names_a_near_copy_of_a_held_out_image(hundreds, tmp_path, shown, caplog, mirrored):
    (a, b), held = hundreds
    add_near_copy(held[3], mirrored=mirrored)
    add_image(a, "damaged.png").write_bytes((a / "0.png").read_bytes()[:-200])  # with a good header
    (sentence,) = warnings_of_session((a, b), tmp_path / "run", shown, caplog, stop=1)
    assert sentence == (
        "1 of the 10 held-out images of B has near copies among the training images, such as "
        f"{held[3].name} and near.jpg{' mirrored' if mirrored else ''}, so validation scores look better than they "
        f"are; `cyclegan inspect '{a}' '{b}'` lists them all: remove them or pass test folders."
    )
    # A resumed run does not look again.
    assert warnings_of_session((a, b), tmp_path / "run", shown, caplog) == []


def test_without_near_copies_nothing_is_said_of_them(hundreds, tmp_path, shown, caplog):
    assert warnings_of_session(hundreds[0], tmp_path / "run", shown, caplog) == []


def test_a_run_that_holds_nothing_out_compares_nothing(folders, tmp_path, shown, caplog, monkeypatch):
    monkeypatch.delattr("cyclegan.training.training_data.read_thumbnails")
    assert warnings_of_session(folders, tmp_path / "run", shown, caplog, num_samples=2) == []


def test_of_a_large_folder_a_part_is_compared(hundreds, tmp_path, shown, caplog, monkeypatch):
    monkeypatch.setattr("cyclegan.training.training_data._MOST_COMPARED", 50)
    folders, held = hundreds
    for path in held:
        add_near_copy(path)
        (folders[1] / "near.jpg").rename(folders[1] / f"{path.stem} near.jpg")
    settings = {"num_validation": 0, "num_samples": 10}
    (sentence,) = warnings_of_session(folders, tmp_path / "run", shown, caplog, **settings)
    assert re.search(r"\d+ of the 10 held-out images of B ha", sentence)
    assert " (60 of 110 images were compared), so samples look better than they are" in sentence


def test_a_list_of_images_takes_few_bytes_and_is_written_only_when_it_changes(folders, tmp_path, shown):
    session(folders, tmp_path / "run", shown, stop=3)
    files = [tmp_path / "run" / f".images_{domain}.npz" for domain in "ab"]
    before = [file.stat().st_mtime_ns for file in files]
    session(folders, tmp_path / "run", shown, stop=5)
    assert [file.stat().st_mtime_ns for file in files] == before
    names = FileList(tmp_path, [f"subfolder/image_{index:07}.jpg" for index in range(100_000)])
    known = KnownImages(
        names, np.arange(100_000, dtype=np.uint64), (), np.zeros(0, np.uint64), (), (), 0, 0, (Stretch(0, 1, 100_000),)
    )
    known.save(tmp_path / "known.npz")
    assert known.is_like(KnownImages.load(tmp_path / "known.npz"))
    # The names as they are, 28 bytes each, and 8 bytes for a hash.
    assert (tmp_path / "known.npz").stat().st_size < 100_000 * 40


# ---- the order by itself


@pytest.mark.parametrize("seed", range(5))
def test_every_pass_shows_every_image_once_whatever_comes_and_goes(seed):
    rng = np.random.default_rng(seed)
    batch_sizes, counts = rng.integers(1, 4, 5).tolist(), (4 + np.cumsum(rng.integers(0, 5, 5))).tolist()
    steps = [0, *np.cumsum(rng.integers(1, 12, 4)).tolist()]
    stretches = []
    for step, batch_size, count in zip(steps, batch_sizes, counts, strict=True):
        absent = np.sort(rng.choice(count, rng.integers(0, count // 2), replace=False)).astype(np.int32)
        stretches.append(Stretch(step, batch_size, count, absent if step else absent[:0]))
    final, seen = stretches[-1].step + 20, set()  # in this pass
    for index, (stretch, end) in enumerate(zip(stretches, [*steps[1:], final], strict=True)):
        order = ImageOrder(seed, 0, True, stretches[: index + 1])
        present = set(range(stretch.num_known)) - set(stretch.absent.tolist())
        for step in range(stretch.step, end):
            for slot in range(stretch.batch_size):
                images, place = order.at(step, slot)
                seen = seen if present - seen else set()
                assert int(images[place]) in present - seen
                seen.add(int(images[place]))
        seen = seen if present - seen else set()


def test_the_order_of_images_that_never_change_is_that_of_earlier_releases():
    order = ImageOrder(3, 1, True, [Stretch(0, 2, 7)])
    expected = [np.random.default_rng([11, 3, 1, epoch]).permutation(7).tolist() for epoch in range(3)]
    found = [order.at(step, slot) for step in range(10) for slot in range(2)]
    assert [int(images[place]) for images, place in found] == [image for each in expected for image in each][:20]


# ---- what a resumed run needs


def test_the_contrastive_loss_can_be_switched_off_and_on(folders, tmp_path, capfd):
    run = run_own(folders, tmp_path / "run", contrastive_weight=0.5)
    train(out=run, resume=True, steps=6, contrastive_weight=0)
    train(out=run, resume=True, steps=8, contrastive_weight=0.5)
    assert "Skipped" not in capfd.readouterr().err
    assert read_info(run / "model").step == 8
    assert not list(run.glob("checkpoints/*.damaged"))


def test_a_run_without_its_checkpoints_says_that_it_begins_again(folders, tmp_path, capfd):
    run = run_own(folders, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    train(out=run, resume=True)
    assert f"{run} holds no checkpoint, although step 4 was trained: the run begins again." in capfd.readouterr().err


def test_a_folder_that_is_gone_and_a_configuration_that_is_cut_off_are_named(folders, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(folders[0], moved)
    run = run_own((moved, folders[1]), tmp_path / "run")
    moved.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{moved}, which this run was trained on, is gone; give its folders again"):
        train(out=run, resume=True)
    train(tmp_path / "elsewhere", folders[1], out=run, resume=True, steps=5, quiet=True)
    config = run / "config.toml"
    config.write_text(config.read_text().partition("[model]")[0])
    with pytest.raises(InputError, match=r"empty or cut off, because it has no table \[model\]. Restore the file"):
        train(out=run, resume=True)


def test_advice_for_a_name_that_begins_with_a_dash_can_be_pasted():
    assert resume_command(TrainConfig(), Path("-r")) == "cyclegan train --out=-r --resume"
