"""The benchmarks can still be started: what they import and replace is there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import make_folder

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


COMMANDS = sorted(
    {path.stem for path in BENCHMARKS.glob("*.py")} - {"flicker_report", "machine", "recipes", "tables", "tasks"}
)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_benchmark_says_what_it_does(name):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    assert shown.returncode == 0, shown.stderr
    assert "usage:" in shown.stdout


def test_the_benchmark_of_many_files_ends_a_training_at_its_first_step(tmp_path):
    make_folder(tmp_path / "a", 4), make_folder(tmp_path / "b", 4, seed=1)
    command = [sys.executable, str(BENCHMARKS / "scaling.py"), "--child", "train", str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300)  # it would go on for many epochs
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout.splitlines()[-1])["mib"] > 0
    assert not (tmp_path / "run" / "model").exists()
