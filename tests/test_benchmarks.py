"""The benchmarks can still be started: what they import and replace is there."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import make_folder

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
COMMANDS = sorted(path for path in BENCHMARKS.glob("*.py") if 'if __name__ == "__main__":' in path.read_text())


@pytest.fixture
def run_command(monkeypatch):
    """Runs a script as `python SCRIPT ARGUMENTS` does, in this process, which has loaded torch already."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("COLUMNS", "200")
    before = set(sys.modules)
    siblings = {path.stem for path in BENCHMARKS.glob("*.py")}

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        runpy.run_path(str(script), run_name="__main__")

    yield run
    for name in siblings & set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.stem)
def test_a_benchmark_shows_its_help(script, run_command, capsys):
    with pytest.raises(SystemExit) as stop:
        run_command(script, "--help")
    shown = capsys.readouterr()
    assert stop.value.code == 0, shown.err
    assert "usage:" in shown.out


def test_the_benchmark_of_many_files_ends_a_training_at_its_first_step(tmp_path):
    make_folder(tmp_path / "a", 4), make_folder(tmp_path / "b", 4, seed=1)
    command = [sys.executable, str(BENCHMARKS / "scaling.py"), "--child", "train", str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300)  # it would go on for many epochs
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout.splitlines()[-1])["mib"] > 0
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_writes_a_page_and_keeps_what_went_well(tmp_path):
    page = tmp_path / "gpu.md"
    sections = ["tests", "step", "translate", "profile"]
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--small", "--markdown", str(page)]
    shown = subprocess.run([*command, "--sections", *sections], capture_output=True, text=True, timeout=600)
    assert shown.returncode == 0, shown.stderr
    text = page.read_text()
    assert [line[3:].lower() for line in text.splitlines() if line.startswith("## ")] == sections
    assert "Ended with status" not in text
    assert "Traceback" not in text
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    steps = [row for row in rows if len(row) == 9 and row[3].strip().replace(".", "").isdigit()]
    assert len(steps) == 21
    assert "at least 9x the plain step is wanted" in text
    assert all(float(row[3]) > 0 for row in steps)
    speeds = {(row[1].strip(), row[2].strip()): float(row[3]) for row in rows if row[1].startswith(" from ")}
    assert len(speeds) == 5
    assert min(speeds.values()) > 0
