"""A file in the run directory stops a training as Ctrl-C does, from any process."""

import time

import pytest
from processes import start, wait
from test_signals import SETTINGS

from conftest import TINY
from cyclegan import train
from cyclegan.errors import InputError
from cyclegan.storage.run import list_checkpoints, step_of
from cyclegan.storage.stop_request import STOP_REQUEST, is_stop_requested, is_training, request_stop
from cyclegan.training.events import LossesLogged


def test_a_request_saves_and_stops_and_the_same_command_goes_on(folders, tmp_path):
    run, seen = tmp_path / "run", []

    def ask(event):
        if isinstance(event, LossesLogged) and not seen:
            seen.append(is_training(run))
            request_stop(run)
            request_stop(run)  # asking again changes nothing

    settings = {**TINY, "steps": 100_000, "log_steps": 5}
    with pytest.raises(KeyboardInterrupt):
        train(*folders, out=run, quiet=True, callbacks=[ask], **settings)
    assert seen == [True]
    assert not is_training(run)
    assert not (run / STOP_REQUEST).exists()
    step = step_of(list_checkpoints(run)[0])
    assert 5 <= step < 100_000

    steps = []
    train(*folders, out=run, quiet=True, resume=True, callbacks=[lambda e: steps.append(e.step)], steps=step + 2)
    assert steps[0] == step
    assert steps[-1] == step + 2


def test_only_a_run_that_trains_can_be_asked(folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", quiet=True, **TINY | {"steps": 1})
    with pytest.raises(InputError, match="run is not training, so there is nothing to stop."):
        request_stop(run)
    with pytest.raises(InputError, match="is not training"):
        request_stop(tmp_path / "nothing")
    assert not (run / STOP_REQUEST).exists()
    assert not (tmp_path / "nothing").exists()


def test_a_request_that_a_kill_left_does_not_stop_the_next_session(folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", quiet=True, **TINY | {"steps": 1})
    (run / STOP_REQUEST).touch()
    train(*folders, out=run, quiet=True, resume=True, steps=3)
    assert step_of(list_checkpoints(run)[0]) == 3
    assert not (run / STOP_REQUEST).exists()


def test_what_else_has_the_name_is_no_request_and_stays(folders, tmp_path):
    run, errors = tmp_path / "run", []
    (run / STOP_REQUEST).mkdir(parents=True)

    def ask(event):
        if isinstance(event, LossesLogged):
            with pytest.raises(InputError, match="is a folder, where the request to stop belongs") as error:
                request_stop(run)
            errors.append(error)

    train(*folders, out=run, quiet=True, callbacks=[ask], **TINY | {"steps": 2, "log_steps": 2})
    assert len(errors) == 1
    assert (run / STOP_REQUEST).is_dir()
    assert not is_stop_requested(run)


@pytest.mark.slow
def test_a_request_stops_all_processes_of_a_training(folders, tmp_path):
    run = tmp_path / "run"
    started = start(2, ["-m", "cyclegan", "train", *folders, "--out", run, *SETTINGS, "--batch-size", 2])
    deadline = time.monotonic() + 120
    while not is_training(run) and time.monotonic() < deadline and all(p.poll() is None for p in started):
        time.sleep(0.1)
    time.sleep(1)
    request_stop(run)
    results = wait(started, 120)
    assert [status for status, _, _ in results] == [130, 130], results
    assert "Asked to stop: finishing this step and saving." in results[0][2]
    assert "Stopped and saved after step" in results[0][2]
    assert list_checkpoints(run)
    assert not (run / STOP_REQUEST).exists()
