"""Messages on standard error and in `logging`."""

import logging
import subprocess
import sys

from conftest import TINY
from cyclegan import train
from cyclegan.system.messages import Messages


def run_tiny(folders, out, **settings):
    return train(*folders, out=out, **{**TINY, "steps": 2, **settings})


def test_messages_of_training_are_printed_and_logged(folders, tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO, logger="cyclegan")
    (folders[0] / "broken.png").write_bytes(b"nonsense")
    run_tiny(folders, tmp_path / "run")
    shown = capfd.readouterr().err
    records = [record for record in caplog.records if record.name == "cyclegan.training"]
    for record in records:
        assert record.getMessage() in shown
    levels = {record.levelno: record.getMessage() for record in records}
    assert "broken.png" in levels[logging.WARNING]
    assert any(record.getMessage().startswith("Done: 2 steps") for record in records)


def test_quiet_prints_nothing_and_logs_the_same(folders, tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO, logger="cyclegan")
    run_tiny(folders, tmp_path / "run", quiet=True)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert any("Run directory" in record.getMessage() for record in caplog.records)


def test_texts_with_brackets_and_percent_signs_stay_what_they_are(capfd, caplog):
    caplog.set_level(logging.INFO, logger="cyclegan")
    messages = Messages("test")
    messages.info("[bold] 100 %s of runs/[x]")
    messages.warning("50 %")
    assert [line.rstrip() for line in capfd.readouterr().err.splitlines()] == ["[bold] 100 %s of runs/[x]", "50 %"]
    assert [record.getMessage() for record in caplog.records] == ["[bold] 100 %s of runs/[x]", "50 %"]


def test_without_a_handler_logging_prints_nothing():
    code = (
        "from cyclegan.system.messages import Messages\n"
        "messages = Messages('test', quiet=True)\n"
        "messages.warning('nobody asked for this')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
