import json

import pytest
import torch

import cyclegan.step.precision
from conftest import TINY, TINY_MODEL, make_folder
from cyclegan import train
from cyclegan.config import make_config
from cyclegan.step.precision import resolve_precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fast_bf16(monkeypatch):
    monkeypatch.setattr(cyclegan.step.precision, "has_fast_bf16", lambda _: True)  # whatever this machine has


def config(**settings):
    return make_config({**TINY_MODEL, "crop_size": 16, "precision": "auto", "steps": 1000, **settings}, preset="paper")


@pytest.mark.parametrize("fastest", ["fp32", "bf16"])
def test_a_trial_takes_the_fastest_and_says_why(tmp_path, monkeypatch, fastest):
    times = {"fp32": 0.2, "bf16": 0.2} | {fastest: 0.1}
    monkeypatch.setattr(cyclegan.step.precision, "_time", lambda ways: {name: times[name] for name in ways})
    choice = resolve_precision(config(), CPU, tmp_path / "tuning.json")
    assert choice.precision == fastest
    assert f"100 ms in {fastest}" in choice.reason


def test_a_real_trial_measures_every_way(tmp_path):
    choice = resolve_precision(config(), CPU, tmp_path / "tuning.json")
    assert choice.precision in ("fp32", "bf16")
    assert "ms in fp32" in choice.reason
    assert "ms in bf16" in choice.reason


def test_a_trial_is_remembered_for_its_shapes_alone(tmp_path, monkeypatch):
    cache = tmp_path / "tuning.json"
    first = resolve_precision(config(), CPU, cache)
    trials = []
    monkeypatch.setattr(cyclegan.step.precision, "_time", lambda ways: trials.append(ways) or dict.fromkeys(ways, 1.0))
    assert resolve_precision(config(), CPU, cache) == first
    assert not trials
    resolve_precision(config(crop_size=24), CPU, cache)
    assert trials


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_damaged_records_are_measured_again(tmp_path, content):
    cache = tmp_path / "tuning.json"
    cache.write_text(content)
    assert resolve_precision(config(), CPU, cache).precision in ("fp32", "bf16")
    assert len(json.loads(cache.read_text())) >= 1


def test_a_place_that_cannot_be_written_to_costs_only_the_memory(tmp_path):
    (tmp_path / "file").write_text("")
    assert resolve_precision(config(), CPU, tmp_path / "file" / "tuning.json").precision in ("fp32", "bf16")


@pytest.mark.parametrize("settings", [{"steps": 10}, {"steps": None, "minutes": 0.1}])
def test_a_short_run_is_not_held_up_by_a_trial(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(cyclegan.step.precision, "_try", None)
    choice = resolve_precision(config(**settings), CPU, tmp_path / "tuning.json")
    assert choice.precision == "bf16"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_requested_precision_is_used_without_a_trial(tmp_path, monkeypatch, precision):
    monkeypatch.setattr(cyclegan.step.precision, "_try", None)
    assert resolve_precision(config(precision=precision), CPU, tmp_path / "tuning.json").precision == precision


def test_a_requested_precision_that_is_slow_here_is_used_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("cyclegan.system.devices.has_fast_bf16", lambda _: False)
    assert "so fp32 is faster" in resolve_precision(config(precision="bf16"), CPU, tmp_path / "tuning.json").reason
    assert resolve_precision(config(precision="fp32"), CPU, tmp_path / "tuning.json").reason == "as requested"


def test_a_cpu_without_bf16_computes_in_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr(cyclegan.step.precision, "has_fast_bf16", lambda _: False)
    choice = resolve_precision(config(), CPU, tmp_path / "tuning.json")
    assert choice.precision == "fp32"
    assert "no bf16" in choice.reason


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_that_goes_on_keeps_its_precision_without_a_trial(tmp_path, monkeypatch, precision):
    a, b = make_folder(tmp_path / "a"), make_folder(tmp_path / "b", seed=1)
    settings = {**TINY, "precision": "auto", "out": tmp_path / "run"}
    monkeypatch.setattr(cyclegan.step.precision, "FEWEST_STEPS", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cyclegan.step.precision, "_try", lambda _: cyclegan.step.precision.Choice(precision, "tried"))
    train(a, b, **settings, steps=2, quiet=True)
    (tmp_path / "cyclegan" / "tuning.json").unlink()
    monkeypatch.setattr(cyclegan.step.precision, "_try", None)
    train(a, b, **settings, steps=2, quiet=True)  # complete: nothing is tried
    train(a, b, **settings, steps=4, resume=True, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["precision"] for line in lines if line.get("event") == "session"] == [precision] * 2


def test_a_resumed_run_uses_a_precision_that_is_fast_here(tmp_path, monkeypatch):
    monkeypatch.setattr(cyclegan.step.precision, "has_fast_bf16", lambda _: False)
    assert resolve_precision(config(), CPU, tmp_path / "tuning.json", began_with="bf16").precision == "fp32"
    assert resolve_precision(config(), CPU, tmp_path / "tuning.json", began_with="fp16").precision == "fp32"
