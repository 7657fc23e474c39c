"""The benchmarks can still be started: what they import is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem != "flicker_report"))
def test_a_benchmark_says_what_it_does(name):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    assert shown.returncode == 0, shown.stderr
    assert "usage:" in shown.stdout
