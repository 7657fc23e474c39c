"""`cyclegan bench`: what it measures in processes of its own, what it leaves out, and what it writes."""

import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image

from cyclegan import cli
from cyclegan.bench import measuring
from cyclegan.bench.points import Measured, Missing, Point, cross, expect, find_lack, in_order
from cyclegan.bench.subject import find_subject
from cyclegan.export import export_model
from test_engines import make_model


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.fixture
def bench(model, tmp_path, monkeypatch, capsys):
    """The command, in a folder with `model`: exit code, stdout, stderr, bench.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(command):
        if "exported" in command:
            export_model(model, tmp_path / "exported", format="torch-export", direction="a2b")
            capsys.readouterr()
        code = 0
        try:
            cli.main(["bench", *shlex.split(command), "--device", "cpu", "--out", "found"])
        except SystemExit as stop:
            code = stop.code
        captured, place = capsys.readouterr(), tmp_path / "found" / "bench.json"
        return code, captured.out, captured.err, json.loads(place.read_text()) if place.is_file() else None

    return run


def pretend(monkeypatch, special=None):
    """No child processes: a point takes as long as its pixels, unless `special` says something else of it."""

    def run_point(point, _subject, _device, known, _limit):
        found = special(point) if special is not None else None
        if found is not None:
            return found
        taken = replace(point, precision="bf16") if point.precision == "auto" else point
        calls = 0 if taken.precision in known else 3
        return Measured(taken, point.pixels * 1e-6, 2**20 * point.batch_size, calls, 0.5, 0.2, reason="it is so")

    monkeypatch.setattr(measuring, "run_point", run_point)
    monkeypatch.setattr(measuring, "start_seconds", lambda: 0.1)
    monkeypatch.setattr(measuring, "available_bytes", lambda _: None)


def test_a_training_step_is_measured_in_its_own_process(model, tmp_path):
    subject = find_subject(model, "paper", [], tmp_path)
    found = measuring.run_point(Point("train", "ours", "fp32", 16, 1), subject, torch.device("cpu"), (), 600)
    assert isinstance(found, Measured), found
    assert min(found.seconds, found.start_seconds, found.bytes, found.num_calls) > 0
    assert found.wall_seconds > found.seconds


@pytest.mark.parametrize("works", [("translate",), pytest.param(("train", "translate"), marks=pytest.mark.slow)])
def test_each_point_is_measured_in_its_own_process(bench, monkeypatch, works):
    monkeypatch.setattr(measuring, "_ENGINES", {})
    # Two precisions or one, as the chip has it: here always one.
    monkeypatch.setattr(measuring, "has_fast_bf16", lambda _: False)
    code, out, err, found = bench(f"model --sizes 16 --batch-sizes 1 --minutes 60 --work {' '.join(works)}")
    assert code == 0, err
    assert not found["missing"]
    ways = {(p["work"], p["side"], p["checkpointed"]) for p in found["points"]}
    expected = {("translate", "torch", False), ("translate", "plain", False)}
    if "train" in works:
        expected |= {("train", "ours", False), ("train", "ours", True), ("train", "plain", False)}
    assert ways == expected
    for point in found["points"]:
        assert point["seconds"] > 0
        assert point["images_per_second"] == pytest.approx(1 / point["seconds"])
        assert point["start_seconds"] > 0
        assert point["precision"] in ("fp32", "bf16")
    peak = {(p["work"], p["side"]): p["bytes"] for p in found["points"]}
    assert peak["translate", "plain"] > 0
    if "train" in works:
        # A step keeps activations, gradients and moments; a translation of 16 px has none of these.
        assert peak["train", "plain"] > peak["translate", "plain"]
        assert "--precision auto trains in" in out
    torch_fp32 = next(p for p in found["points"] if (p["side"], p["precision"]) == ("torch", "fp32"))
    assert torch_fp32["decibels"] == 200
    assert {choice["work"] for choice in found["auto"]} == set(works)
    assert "--precision auto translates in" in out
    assert out.count("plain eager") >= len(works)


def test_results_have_curves_of_sizes_and_batches_and_no_machine_name(bench, tmp_path, monkeypatch):
    pretend(monkeypatch)
    code, _, err, found = bench("model --sizes 16 32 --batch-sizes 1 2")
    assert code == 0, err
    assert {(p["size"], p["batch_size"]) for p in found["points"]} == {(16, 1), (32, 1), (16, 2)}
    assert found["base"] == {"size": 16, "batch_size": 1}
    assert (
        platform.node() not in (tmp_path / "found/bench.json").read_text() + (tmp_path / "found/bench.md").read_text()
    )
    text = (tmp_path / "found/bench.md").read_text()
    assert "| 32 | 1 | plain eager | fp32 |" in text
    assert "| 16 | 2 | torch | fp32 |" in text
    with Image.open(tmp_path / "found/bench.png") as picture:
        picture.load()
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(2**24)) > 50
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["bench.json", "bench.md", "bench.png"]


def test_tables_fit_80_columns_and_keep_their_names(bench, monkeypatch):
    pretend(monkeypatch)
    _, out, _, _ = bench("model --sizes 1024 2048 --batch-sizes 1 16 --minutes 100")
    rows = [line for line in out.splitlines() if "│" in line or "┃" in line]
    assert len(rows) > 10
    assert all(len(line) <= 80 for line in rows)
    assert all(name in out for name in ("images/s", "s/image", "plain eager", "checkpointed"))
    assert "…" not in out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nothing", "nothing"),
        ("model --preset paper", "given twice"),
        ("model --sizes 18", "--sizes has 18; these networks take multiples of 4"),
        ("model --sizes 0", "--sizes has 0; expected numbers from 1 on"),
        ("model --batch-sizes 1 -2", "--batch-sizes has -2"),
        ("model --minutes 0", "--minutes is 0"),
        ("model --minutes nan", "--minutes is nan"),
        ("model --export model", "--export is model; expected a folder that cyclegan export wrote"),
        ("exported --work train", "is an export, which is not trained"),
        ("--preset demo --export exported", "has other networks than preset demo"),
    ],
)
def test_mistakes_are_reported_in_one_sentence_and_nothing_is_measured(bench, monkeypatch, command, message):
    pretend(monkeypatch, lambda _: pytest.fail("it was measured"))
    code, out, err, found = bench(command)
    assert code == 2
    assert not out
    assert message in err
    assert err.count("\n") == 1
    assert found is None


def test_an_output_folder_that_is_a_file_is_refused(bench, tmp_path):
    (tmp_path / "found").write_text("mine")
    code, _, err, _ = bench("model")
    assert code == 2
    assert "--out is found, which is a file" in err
    assert (tmp_path / "found").read_text() == "mine"


def test_a_failing_point_is_reported_and_the_others_are_kept(bench, monkeypatch):
    def special(point):
        if point.work == "train" and point.batch_size == 4:
            return Missing(point, "there was not enough memory", "failed")
        return None

    pretend(monkeypatch, special)
    code, out, err, found = bench("model --sizes 16 --batch-sizes 1 2 4")
    assert code == 0, err
    assert {p["batch_size"] for p in found["points"] if p["work"] == "train"} == {1, 2}
    assert {p["batch_size"] for p in found["points"] if p["work"] == "translate"} == {1, 2, 4}
    assert {(m["kind"], m["batch_size"]) for m in found["missing"]} == {("failed", 4)}
    assert "training, plain eager fp32, 16 px x 4: failed, there was not enough memory." in out


def test_the_reason_of_a_process_that_fails_is_its_last_line(model, tmp_path):
    subject = find_subject(model, "paper", [], tmp_path)
    point = Point("translate", "abacus", "fp32", 16, 1)
    found = measuring.run_point(point, subject, torch.device("cpu"), (), 100)
    assert isinstance(found, Missing)
    assert found.kind == "failed"
    assert "abacus" in found.why
    assert "\n" not in found.why


def test_a_process_that_does_not_end_is_stopped(model, tmp_path):
    subject = find_subject(model, "paper", [], tmp_path)
    found = measuring.run_point(Point("translate", "torch", "fp32", 16, 1), subject, torch.device("cpu"), (), 0.05)
    assert isinstance(found, Missing)
    assert "it was stopped after" in found.why


def test_a_first_look_that_fails_ends_it_with_one_line(bench, tmp_path, monkeypatch):
    pretend(monkeypatch, lambda point: Missing(point, "torch is broken", "failed"))
    code, out, _, found = bench("model --sizes 16 32")
    assert code == 1
    assert not found["points"]
    assert out.count("torch is broken") == 1
    assert "Nothing else was tried" in out
    assert not (tmp_path / "found/bench.png").exists()


def test_points_beyond_the_minutes_are_listed_in_one_line_for_each_way(bench, monkeypatch):
    def special(point):  # a second for 16 x 16 pixels
        seconds = point.pixels / 256
        return Measured(point, seconds, 2**20, 1, 0.5, 3 * seconds)

    pretend(monkeypatch, special)
    code, out, _, found = bench("model --sizes 16 512 1024 --batch-sizes 1 --work train --minutes 1")
    assert code == 0
    assert {p["size"] for p in found["points"]} == {16}
    assert {(m["kind"], m["size"]) for m in found["missing"]} == {("time", 512), ("time", 1024)}
    assert "training, plain eager fp32: no time left for 512 px x 1, 1024 px x 1." in out
    assert "Measuring all that was left out for lack of time takes about --minutes" in out


def test_points_beyond_the_memory_are_listed_and_not_tried(bench, monkeypatch):
    tried = []

    def special(point):
        tried.append(point.size)
        return Measured(point, 1e-3, 4000 * point.pixels + 2**24, 3, 0.5, 0.2)

    pretend(monkeypatch, special)
    monkeypatch.setattr(measuring, "available_bytes", lambda _: 2**30)
    code, out, _, found = bench("model --sizes 16 1024 --batch-sizes 1 --work train")
    assert code == 0
    assert 1024 not in tried
    assert {(m["kind"], m["size"]) for m in found["missing"]} == {("memory", 1024)}
    assert "and 1.0 GiB are available" in out


def test_an_export_only_translates(bench, monkeypatch):
    pretend(monkeypatch)
    code, out, err, found = bench("exported --sizes 32 --batch-sizes 1")
    assert code == 0, err
    (point,) = found["points"]
    assert (point["work"], point["precision"]) == ("translate", "fp32")
    assert "torch (exported)" in out
    assert "An export only translates" in out


@pytest.mark.slow
def test_an_export_is_measured_without_its_run(model, tmp_path):
    export_model(model, tmp_path / "exported", format="torch-export", direction="a2b")
    subject = find_subject(tmp_path / "exported", "paper", [], tmp_path)
    point = Point("translate", str(tmp_path / "exported"), "fp32", 32, 1)
    found = measuring.run_point(point, subject, torch.device("cpu"), (), 100)
    assert isinstance(found, Measured), found
    assert found.seconds > 0
    assert found.decibels is None  # there is no run to compare it with


def test_an_export_is_listed_with_the_engines_of_its_run(bench, monkeypatch):
    pretend(monkeypatch)
    code, out, err, found = bench("model --export exported --sizes 32 --batch-sizes 1 --work translate")
    assert code == 0, err
    assert ("exported", "fp32") in {(p["side"], p["precision"]) for p in found["points"]}
    assert "torch (exported)" in out


def test_ctrl_c_keeps_what_was_measured(bench, tmp_path, monkeypatch):
    tried = []

    def special(point):
        tried.append(point)
        if len(tried) == 2 + 3:  # two first looks, then the points
            raise KeyboardInterrupt

    pretend(monkeypatch, special)
    code, out, err, found = bench("model --sizes 16")
    assert code == 130
    assert "Stopped by Ctrl-C" in out
    assert "Traceback" not in err
    assert found["stopped"]
    assert len(found["points"]) == 2
    assert (tmp_path / "found/bench.png").is_file()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_ctrl_c_in_a_terminal_reaches_every_process_and_keeps_what_was_measured(model, tmp_path):
    command = [sys.executable, "-m", "cyclegan", "bench", str(model), "--device", "cpu", "--sizes", "16"]
    command += ["--minutes", "60", "--out", str(tmp_path / "bench")]
    log = tmp_path / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
    deadline = time.monotonic() + 300
    while "[3/" not in log.read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Stopped by Ctrl-C" in out
    found = json.loads((tmp_path / "bench/bench.json").read_text())
    assert found["stopped"]
    # All but the one that was being measured; it may just have been done.
    begun = int(re.findall(r"\[(\d+)/", log.read_text())[-1])
    assert 2 <= begun - 1 <= len(found["points"]) <= begun
    assert (tmp_path / "bench/bench.png").is_file()
    assert "Traceback" not in log.read_text()


def test_both_curves_cross_at_the_base_which_comes_first():
    assert cross([16, 32], [1, 2], 32, 1) == [(32, 1), (16, 1), (32, 2)]


def test_training_and_translation_take_turns_so_that_no_budget_is_spent_on_one():
    ways = [Point("train", "ours", "fp32", 0, 0), *(Point("translate", name, "fp32", 0, 0) for name in ("torch", "x"))]
    points = [replace(way, size=size, batch_size=1) for size in (16, 32, 64) for way in ways]
    ordered = in_order(points, (32, 1))
    assert sorted(map(str, ordered)) == sorted(map(str, points))
    assert {point.size for point in ordered[:3]} == {32}
    trained = [place for place, point in enumerate(ordered) if point.work == "train"]
    assert max(trained) < 7


def test_memory_is_predicted_in_proportion_to_pixels_plus_a_constant():
    point = Point("train", "ours", "fp32", 32, 1)
    expected = expect(replace(point, size=64), [Measured(point, 1.0, 1100, 3, 0.5, 5.0)], {"train": 100})
    assert expected == (1 + 2 * 4, 4100)  # the start, one call to warm up and one that is timed
    assert find_lack(point, expected, 1000, 4000).kind == "memory"
    assert find_lack(point, expected, 1, 10**6).kind == "time"
    assert find_lack(point, expected, 1000, 10**6) is None
