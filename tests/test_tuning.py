import json

import pytest
import torch

import cyclegan.tuning
from conftest import TINY_MODEL
from cyclegan.config import make_config
from cyclegan.tuning import choose

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch):
    # A fast bf16 and two cores, whatever this machine has.
    monkeypatch.setattr(cyclegan.tuning, "has_fast_bf16", lambda _: True)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def config(**settings):
    return make_config({**TINY_MODEL, "crop_size": 16, "precision": "auto", "steps": 1000, **settings})


def test_a_trial_takes_the_fastest_and_says_why(tmp_path, monkeypatch):
    times = {"fp32": 0.4, "bf16": 0.1, "True": 0.2, "False": 0.1}
    monkeypatch.setattr(cyclegan.tuning, "_time", lambda ways: {name: times[name] for name in ways})
    choice = choose(config(), CPU, tmp_path / "tuning.json")
    assert (choice.precision, choice.side_by_side) == ("bf16", False)
    assert "400 ms in fp32, 100 ms in bf16" in choice.reason
    times |= {"fp32": 0.05, "True": 0.05}
    choice = choose(config(), CPU, tmp_path / "other.json")
    assert (choice.precision, choice.side_by_side) == ("fp32", True)


def test_a_real_trial_measures_every_way(tmp_path):
    choice = choose(config(), CPU, tmp_path / "tuning.json")
    assert choice.precision in ("fp32", "bf16")
    assert "ms in fp32" in choice.reason
    assert "ms in bf16" in choice.reason


def test_a_trial_is_remembered_for_its_shapes_alone(tmp_path, monkeypatch):
    cache = tmp_path / "tuning.json"
    first = choose(config(), CPU, cache)
    trials = []
    monkeypatch.setattr(cyclegan.tuning, "_time", lambda ways: trials.append(ways) or dict.fromkeys(ways, 1.0))
    assert choose(config(), CPU, cache) == first
    assert not trials
    choose(config(crop_size=24), CPU, cache)
    assert trials


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_damaged_memories_are_tried_anew(tmp_path, content):
    cache = tmp_path / "tuning.json"
    cache.write_text(content)
    assert choose(config(), CPU, cache).precision in ("fp32", "bf16")
    assert len(json.loads(cache.read_text())) >= 1


def test_a_place_that_cannot_be_written_to_costs_only_the_memory(tmp_path):
    (tmp_path / "file").write_text("")
    assert choose(config(), CPU, tmp_path / "file" / "tuning.json").precision in ("fp32", "bf16")


@pytest.mark.parametrize("settings", [{"steps": 10}, {"steps": None, "minutes": 0.1}])
def test_a_short_run_is_not_held_up_by_a_trial(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(cyclegan.tuning, "_try", None)
    choice = choose(config(**settings), CPU, tmp_path / "tuning.json")
    assert (choice.precision, choice.side_by_side) == ("bf16", True)
    assert not list(tmp_path.iterdir())


def test_what_was_asked_for_is_taken_and_not_tried(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(cyclegan.tuning, "_time", lambda ways: tried.extend(ways) or dict.fromkeys(ways, 1.0))
    assert choose(config(precision="fp32"), CPU, tmp_path / "tuning.json").precision == "fp32"
    assert "bf16" not in tried


def test_a_cpu_without_bf16_computes_in_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr(cyclegan.tuning, "has_fast_bf16", lambda _: False)
    choice = choose(config(), CPU, tmp_path / "tuning.json")
    assert choice.precision == "fp32"
    assert "no bf16" in choice.reason
