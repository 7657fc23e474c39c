"""A run in TensorBoard, W&B (offline) and MLflow (a local store), read back from their own files."""

import json
import os
import shutil
import signal
import struct
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, train
from cyclegan.config import make_config
from cyclegan.data.dataset import UnpairedDataset
from cyclegan.system.messages import Messages
from cyclegan.training.events import LossesLogged, StepDone
from cyclegan.training.health import Finding
from cyclegan.training.run_log import RunLog
from cyclegan.training.trackers import TRACKERS, Trackers

LOSSES = {f"loss/{name}_{domain}" for name in ("cycle", "identity", "discriminator") for domain in "ab"}
LOSSES |= {"loss/adversarial_a2b", "loss/adversarial_b2a"}
SCORES = {f"validation_efficientnet_lite0/{name}" for name in ("kid", "a2b_kid", "b2a_kid")}
ALL = {"tensorboard": True, "wandb": "maps", "mlflow": "cities"}


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path_factory):
    stay_offline(monkeypatch, tmp_path_factory.mktemp("home"))


def stay_offline(monkeypatch, home):
    for name in ("WANDB_API_KEY", "WANDB_NAME", "WANDB_PROJECT", "WANDB_RUN_ID", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def run_tiny(folders, out, **settings):
    return train(*folders, out=out, preset="paper", quiet=True, **{**TINY, "steps": 8, "log_steps": 2, **settings})


# ---- what the trackers hold, each read with its own tools


def board_of(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run / "tensorboard")).Reload()


def wandb_sessions(run):
    """The records of each offline run, in order: a LevelDB log of protobuf messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    sessions = []
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        data, position, part, records = path.read_bytes(), 7, b"", []
        while position + 7 <= len(data):
            left = 32768 - position % 32768
            length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
            if left < 7 or kind == 0:
                position += left
                continue
            part += data[position + 7 : position + 7 + length]
            position += 7 + length
            if kind in (1, 4):  # whole, or the last piece
                records.append(Record.FromString(part))
                part = b""
        sessions.append(records)
    return sessions


def wandb_history(records):
    """Each line as a dict; nested keys are joined by a dot."""
    lines = [record.history.item for record in records if record.WhichOneof("record_type") == "history"]
    return [{item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in line} for line in lines]


def wandb_record(records, kind):
    return next(getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind)


def mlflow_client(run):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{run.parent / 'mlflow' / 'mlflow.db'}")


def mlflow_runs(run, experiment="cities"):
    client = mlflow_client(run)
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


# ---- a run that fails, goes on and ends


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A run of 8 steps that breaks at step 7, after a checkpoint at 4 and losses at 6; then it goes on to its end.

    Returns the run, and what MLflow had of it after the first session.
    """
    place = tmp_path_factory.mktemp("story")
    folders = make_folder(place / "a", 12), make_folder(place / "b", 12, seed=1)
    settings = {**ALL, "num_samples": 1, "num_validation": 10, "sample_steps": 4, "checkpoint_steps": 4}
    original = UnpairedDataset.__getitem__

    def breaking(dataset, step):
        if step == 6:
            raise OSError("a cosmic ray")
        return original(dataset, step)

    with pytest.MonkeyPatch.context() as patch:
        stay_offline(patch, place / "home")
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        patch.setattr("cyclegan.training.validation.TIME_SHARE", 1e6)
        sign = Finding("b/discriminator", "The discriminator of B wins outright.")
        patch.setattr("cyclegan.training.health.DiscriminatorWatch.update", lambda *_: [sign])
        patch.setattr(UnpairedDataset, "__getitem__", breaking)
        with pytest.raises(OSError, match="cosmic"):
            run_tiny(folders, place / "run", **settings)
        broken = mlflow_runs(place / "run")[0]
        patch.setattr(UnpairedDataset, "__getitem__", original)
        run = run_tiny(folders, place / "run", **settings, workers=1)
        left = sorted(path.name for path in os.scandir("."))
    return SimpleNamespace(run=run, broken=broken, left_in_current_directory=left)


def test_tensorboard_shows_each_step_once_after_a_run_went_on(story):
    board = board_of(story.run)
    lines = [json.loads(line) for line in (story.run / "log.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "cycle_a" in line]
    assert set(board.Tags()["scalars"]) == {*LOSSES, *SCORES, "learning_rate", "images_per_second"}
    shown = [(event.step, event.value) for event in board.Scalars("loss/cycle_a")]
    assert [step for step, _ in shown] == [2, 4, 6, 8]
    assert [value for _, value in shown] == pytest.approx([line["cycle_a"] for line in losses])
    assert [event.step for event in board.Images("samples")] == [4, 8]
    assert (
        "learning_rate = 0.0002" in board.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    )
    assert "wins outright" in str(board.Tensors("warning/b/discriminator/text_summary")[0].tensor_proto.string_val[0])


def test_wandb_keeps_the_run_and_takes_steps_that_go_back(story):
    first, second = wandb_sessions(story.run)
    for records in (first, second):
        about = wandb_record(records, "run")
        assert (about.project, about.display_name) == ("maps", "run")
        glob = wandb_record(records, "metric")
        assert (glob.glob_name, glob.step_metric) == ("*", "step")
        config = {item.key: json.loads(item.value_json) for item in wandb_record(records, "config").update}
        assert (config["learning_rate"], config["width"], config["crop_size"]) == (2e-4, 4, 16)
    assert wandb_record(first, "run").run_id == wandb_record(second, "run").run_id
    assert wandb_record(first, "exit").exit_code == 1
    assert wandb_record(second, "exit").exit_code == 0

    before, after = wandb_history(first), wandb_history(second)
    assert [line["step"] for line in before if "loss/cycle_a" in line] == [2, 4, 6]
    assert [line["step"] for line in after if "loss/cycle_a" in line] == [6, 8]
    assert {*LOSSES, "learning_rate", "images_per_second", "step"} <= before[0].keys()
    assert any(line.keys() >= SCORES and line["step"] == 8 for line in after)
    pictures = [line for line in before + after if "samples.path" in line]
    assert [line["step"] for line in pictures] == [4, 8]
    for line in pictures:
        (picture,) = story.run.glob(f"wandb/offline-run-*/files/{line['samples.path']}")
        (grid,) = story.run.glob(f"samples/step_000000{line['step']}.png")
        assert Image.open(picture).tobytes() == Image.open(grid).tobytes()
    assert wandb_record(first, "alert").title == "b/discriminator"


def test_mlflow_keeps_the_run_and_its_first_parameters(story):
    (found,) = mlflow_runs(story.run)
    client = mlflow_client(story.run)
    assert story.broken.info.run_id == found.info.run_id
    assert (story.broken.info.status, found.info.status) == ("FAILED", "FINISHED")
    assert found.info.run_name == "run"
    assert found.data.params["learning_rate"] == "0.0002"
    assert found.data.params["workers"] == "0"
    assert found.data.tags["changed.workers"] == "1 after step 4"
    assert found.data.tags["warning.b/discriminator"].startswith("Step 2: ")
    assert found.data.metrics.keys() == {*LOSSES, *SCORES, "learning_rate", "images_per_second"}
    history = client.get_metric_history(found.info.run_id, "loss/cycle_a")
    assert sorted(metric.step for metric in history) == [2, 4, 6, 6, 8]
    assert len({metric.value for metric in history if metric.step == 6}) == 1  # the same step, the same losses
    pictures = {artifact.path for artifact in client.list_artifacts(found.info.run_id, "images")}
    assert {path.split("+")[2] for path in pictures} == {"4", "8"}
    assert (story.run.parent / "mlflow" / "artifacts" / found.info.run_id).is_dir()


def test_nothing_is_written_into_the_current_directory(story):
    assert story.left_in_current_directory == []
    assert {path.name for path in story.run.parent.iterdir()} == {"a", "b", "home", "mlflow", "run"}


def test_a_run_that_is_complete_does_not_touch_its_trackers(story):
    before = (story.run / "trackers.json").read_bytes(), mlflow_runs(story.run)[0].info.end_time
    train(make_config(tomllib.loads((story.run / "config.toml").read_text())), quiet=True)
    assert ((story.run / "trackers.json").read_bytes(), mlflow_runs(story.run)[0].info.end_time) == before
    assert len(wandb_sessions(story.run)) == 2


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A store without experiments: making its tables takes over a second."""
    place = tmp_path_factory.mktemp("store")
    (place / "mlflow").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        stay_offline(patch, place)
        patch.chdir(place)
        mlflow_client(place / "run").search_experiments()
    return place / "mlflow" / "mlflow.db"


@pytest.fixture
def store(empty_store, tmp_path):
    """The store of the runs in tmp_path."""
    (tmp_path / "mlflow").mkdir()
    return Path(shutil.copy(empty_store, tmp_path / "mlflow"))


# ---- identity and ends of runs


@pytest.mark.usefixtures("store")
def test_fresh_begins_a_new_run_and_another_experiment_another(folders, tmp_path):
    run = run_tiny(folders, tmp_path / "run", steps=2, mlflow="cities", wandb="maps")
    run_tiny(folders, run, steps=2, mlflow="cities", wandb="maps", fresh=True)
    assert len(mlflow_runs(run)) == 2
    ids = [
        wandb_record(records, "run").run_id
        for place in (run, tmp_path / "run.old1")
        for records in wandb_sessions(place)
    ]
    assert len(set(ids)) == 2
    run_tiny(folders, run, steps=4, mlflow="villages", resume=True)
    assert (len(mlflow_runs(run)), len(mlflow_runs(run, "villages"))) == (2, 1)


def test_a_run_moved_to_another_store_begins_there(folders, tmp_path, store, monkeypatch):
    run = run_tiny(folders, tmp_path / "run", steps=2, mlflow="cities")
    other = tmp_path / "other"
    shutil.copytree(store.parent, other / "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other / 'mlflow' / 'mlflow.db'}")
    monkeypatch.chdir(other)
    run_tiny(folders, run, steps=4, mlflow="cities", resume=True)
    assert len(mlflow_runs(run)) == len(mlflow_runs(other / "run")) == 1


@pytest.mark.usefixtures("store")
def test_ctrl_c_closes_the_trackers_as_interrupted(folders, tmp_path):
    def interrupt(event):
        if isinstance(event, StepDone) and event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_tiny(folders, tmp_path / "run", callbacks=[interrupt], **ALL)
    assert mlflow_runs(tmp_path / "run")[0].info.status == "KILLED"
    (records,) = wandb_sessions(tmp_path / "run")
    assert wandb_record(records, "exit").exit_code == 255
    summaries = [record.summary for record in records if record.WhichOneof("record_type") == "summary"]
    last = {item.key: item.value_json for summary in summaries for item in summary.update}
    assert last["status"] == '"interrupted"'
    assert [event.step for event in board_of(tmp_path / "run").Scalars("loss/cycle_a")] == [2, 3]


# ---- trackers that fail


class Failing:
    """Takes the first losses, then raises."""

    place, run_id = "nowhere", "1"

    def __init__(self):
        self.taken = 0

    def scalars(self, _values, _step):
        self.taken += 1
        if self.taken > 1:
            raise ConnectionError("the network\nis away")

    def image(self, *_):
        raise AssertionError("a tracker that failed was called again")

    warn = close = image


@pytest.mark.usefixtures("store")
def test_a_tracker_that_fails_ends_no_run_and_the_others_get_everything(folders, tmp_path, monkeypatch, capfd):
    tracker = Failing()
    monkeypatch.setitem(TRACKERS, "wandb", lambda *_: tracker)
    settings = {**TINY, **ALL, "steps": 8, "log_steps": 2, "num_samples": 1, "sample_steps": 8}
    run = train(*folders, out=tmp_path / "run", **settings)
    assert tracker.taken == 2
    shown = [line for line in capfd.readouterr().err.splitlines() if "W&B failed" in line]
    assert shown == ["W&B failed and is off for the rest of this session: the network is away"]
    assert [event.step for event in board_of(run).Scalars("loss/cycle_a")] == [2, 4, 6, 8]
    (found,) = mlflow_runs(run)
    assert found.info.status == "FINISHED"
    assert len(mlflow_client(run).get_metric_history(found.info.run_id, "loss/cycle_a")) == 4


def test_a_full_disk_under_tensorboard_leaves_the_log_whole(tmp_path, capfd):
    class Full:
        place, run_id = "", None

        def scalars(self, *_):
            raise OSError(28, "No space left on device")

    (tmp_path / "run").mkdir()
    with ExitStack() as stack:
        log = RunLog(tmp_path / "run", 0, Messages("test"), stack)
        trackers = Trackers(Messages("test"), {"tensorboard": Full()})
        for step in (1, 2):
            event = LossesLogged(step, 0.1, 1.0, 2.0, 1e-4, num_steps=1, losses={"cycle_a": 0.5})
            for record in (log.record, trackers.record):
                record(event)
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2
    assert capfd.readouterr().err.count("TensorBoard failed") == 1


@pytest.mark.usefixtures("store")
def test_a_tracker_that_cannot_be_reached_refuses_a_new_run_but_not_one_that_it_knows(
    folders, tmp_path, monkeypatch, capfd
):
    run = run_tiny(folders, tmp_path / "run", steps=2, mlflow="cities")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # where nothing listens
    with pytest.raises(InputError, match=r"MLflow cannot be opened: .*127.0.0.1.*leave out --mlflow"):
        run_tiny(folders, tmp_path / "new", mlflow="cities")
    train(*folders, out=run, **{**TINY, "steps": 4, "mlflow": "cities", "resume": True})
    assert "MLflow is off in this session" in capfd.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    run_tiny(folders, run, steps=6, mlflow="cities", resume=True)
    assert len(mlflow_runs(run)) == 1  # the outage did not make a second run of it
    run_tiny(folders, tmp_path / "new")  # the refused run starts with the corrected command


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("mlflow", "mlflow"), ("mlflow", "sqlalchemy")])
def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_written(
    folders, tmp_path, monkeypatch, name, module
):
    run = run_tiny(folders, tmp_path / "run", steps=2)
    monkeypatch.setitem(sys.modules, module, None)
    for place in (run, tmp_path / "new"):
        with pytest.raises(InputError, match=rf"--{name} needs .*not installed.*pip install 'cyclegan\[{name}\]'"):
            run_tiny(folders, place, **{name: "maps"}, fresh=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "run"}


def test_tensorboard_that_is_not_installed_is_only_mentioned(folders, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = train(*folders, out=tmp_path / "run", **{**TINY, "steps": 2, "tensorboard": True})
    assert "pip install tensorboard" in capfd.readouterr().err
    assert not (run / "tensorboard").exists()


@pytest.mark.parametrize("key", [None, "mistyped"])
def test_wandb_without_a_login_is_refused_in_one_sentence(folders, tmp_path, monkeypatch, key):
    monkeypatch.setenv("WANDB_MODE", "online")
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # its settings are read once in a process
    with pytest.raises(InputError, match=r"--wandb maps.*wandb login.*WANDB_MODE=offline"):
        run_tiny(folders, tmp_path / "run", wandb="maps")
    assert not (tmp_path / "run").exists()
    wandb.teardown()


def test_wandb_switched_off_by_its_own_variable_leaves_no_run(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # its settings are read once in a process
    run = run_tiny(folders, tmp_path / "run", steps=2, wandb="maps")
    assert not (run / "trackers.json").exists()
    assert not wandb_sessions(run)
    wandb.teardown()


@pytest.mark.usefixtures("store")
def test_standard_output_holds_no_word_of_trackers(folders, tmp_path, capfd):
    run_tiny(folders, tmp_path / "run", steps=2, **ALL)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("address", ["https://me:secret@example.org/mlflow", "http://example.org:5000"])
def test_a_password_in_an_address_is_not_shown(tmp_path, monkeypatch, address):
    import mlflow

    info = SimpleNamespace(run_id="r1", data=SimpleNamespace(params={}), experiment_id="7")
    client = SimpleNamespace(
        get_experiment_by_name=lambda _name: info,
        create_run=lambda *_, **__: SimpleNamespace(info=info),
        update_run=lambda *_, **__: None,
        log_batch=lambda *_, **__: None,
    )
    monkeypatch.setattr(mlflow, "MlflowClient", lambda **_: client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    tracker = TRACKERS["mlflow"](make_config({"out": tmp_path, "mlflow": "x"}), 0, None)
    assert "secret" not in tracker.place
    assert tracker.place.endswith("/#/experiments/7/runs/r1")


def test_an_empty_name_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="wandb is ''"):
        run_tiny(folders, tmp_path / "run", wandb="")
