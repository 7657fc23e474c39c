"""`--engine auto`: another engine than torch where it is faster, close, and the work is worth its preparation."""

import numpy as np
import pytest
from PIL import Image

import cyclegan.translate.engine_choice as engine_choice
from cyclegan import InputError, Translator, cli, translate_folder
from cyclegan.translate.engine_choice import Timing, choose_engine
from cyclegan.translate.engines import Engine
from cyclegan.translate.engines.registry import ENGINES, EngineInfo
from cyclegan.translate.options import TranslateOptions
from cyclegan.translate.plan import TranslationPlan
from test_engines import make_model

# Stand-ins: seconds of an image in each engine.
SECONDS = {"torch": 1.0, "onnxruntime": 0.8, "openvino": 0.5}


@pytest.fixture
def translator(tmp_path):
    return Translator.load(make_model(tmp_path / "model"))


@pytest.fixture
def plan(tmp_path):
    """A thousand times one file."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    return TranslationPlan.of([(path, tmp_path / "out" / f"{index}.png") for index in range(1000)])


@pytest.fixture
def opened(monkeypatch):
    """Both other engines are stand-ins that are installed; the names of those that were opened."""
    names = []

    def stand_in(name):
        def open_it(network, _channels, _multiple, precision, device):
            names.append(name)
            return Engine(name, precision, device, network)

        return EngineInfo(open=open_it, precisions=("fp32", "bf16"), package=name)

    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(ENGINES, name, stand_in(name))
    monkeypatch.setattr(engine_choice, "_seconds", lambda engines, *_: [SECONDS[each.name] for each in engines])
    return names


@pytest.fixture
def choose(translator, plan, tmp_path):
    """The engine for the first images of the plan."""

    def choose(count=1000, translator=translator, **options):
        return choose_engine(
            translator, plan[:count], TranslateOptions(**options), cache=tmp_path / "engines.json"
        ).engine

    return choose


def test_much_work_is_done_by_the_fastest_engine(choose, opened):
    engine = choose()
    assert (engine.name, engine.precision) == ("openvino", "fp32")
    assert "2.0x as fast as torch here" in str(engine)
    assert "dB to fp32" in str(engine)
    assert engine.original is not None  # which computes tiles
    assert opened == ["onnxruntime", "openvino"]


@pytest.mark.parametrize("count", [1, 15, 100])
def test_little_work_is_done_by_torch_without_a_trial(choose, opened, tmp_path, count):
    assert choose(count).name == "torch"
    assert not opened
    assert not (tmp_path / "engines.json").exists()


def test_a_trial_is_remembered(choose, opened, monkeypatch):
    first = choose()
    monkeypatch.setattr(engine_choice, "_try", None)
    assert str(choose()) == str(first)
    assert opened == ["onnxruntime", "openvino", "openvino"]
    assert choose(20).name == "openvino"  # what is known takes no trial, and these engines are ready at once


def test_a_damaged_cache_is_passed_over(choose, opened, tmp_path):
    first = choose()
    (tmp_path / "engines.json").write_text("{")
    assert str(choose()) == str(first)
    text = (tmp_path / "engines.json").read_text().replace('"torch": {', '"other": {')
    (tmp_path / "engines.json").write_text(text)
    assert str(choose()) == str(first)
    assert opened.count("onnxruntime") == 3


def test_an_engine_that_has_gone_since_the_trial_leaves_it_to_torch(choose, opened, monkeypatch):
    assert choose().name == "openvino"

    def fail(*_):
        raise InputError("onnxscript is not installed.")

    monkeypatch.setitem(ENGINES, "openvino", EngineInfo(open=fail, precisions=("fp32",), package="openvino"))
    assert choose().name == "torch"
    assert opened


def test_images_for_tiles_do_not_count(choose, opened, monkeypatch):
    monkeypatch.setattr(engine_choice, "image_size", lambda _: (20_000, 20_000))
    assert choose().name == "torch"
    assert choose(short_side=64).name == "openvino"
    monkeypatch.setattr(engine_choice, "image_size", lambda _: None)
    assert choose().name == "torch"
    assert opened == ["onnxruntime", "openvino"]


def test_the_time_until_an_engine_is_ready_counts(choose, opened, monkeypatch):
    timings = {"torch": Timing(0, 0.5), "openvino": Timing(50, 0.25)}
    monkeypatch.setattr(engine_choice, "_try", lambda *_: (timings, {}))
    assert [choose(count).name for count in (1000, 16, 200, 300)] == ["openvino", "torch", "torch", "openvino"]
    assert opened == ["openvino", "openvino"]


def test_a_small_gain_leaves_it_to_torch(choose, opened, monkeypatch):
    monkeypatch.setitem(SECONDS, "openvino", 0.95)
    monkeypatch.setitem(SECONDS, "onnxruntime", 1.2)
    engine = choose()
    assert engine.name == "torch"
    assert "no other engine saves a tenth of the time here" in str(engine)
    assert opened


@pytest.mark.usefixtures("opened")
def test_an_engine_that_is_not_close_is_not_taken(choose, monkeypatch):
    def open_it(network, _channels, _multiple, precision, device):
        return Engine("openvino", precision, device, lambda images: network(images) + 0.1)

    monkeypatch.setitem(ENGINES, "openvino", EngineInfo(open=open_it, precisions=("fp32",), package="openvino"))
    engine = choose()
    assert engine.name == "torch"
    assert "openvino keeps only 26 dB of this model, less than 40" in str(engine)


def test_an_engine_that_is_not_installed_or_does_not_work_is_not_tried(choose, opened, monkeypatch):
    versions = {"torch": "2", "onnxruntime": "1", "openvino": None}
    monkeypatch.setattr(engine_choice, "installed_version", versions.get)
    assert choose().name == "onnxruntime"
    monkeypatch.setattr(engine_choice, "installed_version", {"torch": "2"}.get)
    assert choose().name == "torch"
    assert opened == ["onnxruntime"]

    def fail(*_):
        raise RuntimeError("no such operation")

    monkeypatch.setattr(engine_choice, "installed_version", lambda _: "3")
    monkeypatch.setitem(ENGINES, "openvino", EngineInfo(open=fail, precisions=("fp32",), package="openvino"))
    assert choose().name == "onnxruntime"


def test_what_only_torch_does_is_done_by_torch(choose, opened, tmp_path):
    deep = Translator.load(make_model(tmp_path / "deep", dtype="uint16"))
    assert choose(translator=deep).name == "torch"
    assert choose(stabilise=True).name == "torch"
    assert choose(tile=64).name == "torch"
    assert not opened


@pytest.mark.usefixtures("opened")
def test_each_shard_chooses_the_same_engine(choose, monkeypatch):
    timings = {"torch": Timing(0, 0.5), "openvino": Timing(50, 0.25)}
    monkeypatch.setattr(engine_choice, "_try", lambda *_: (timings, {}))
    assert [choose(shard=f"{number}/2").name for number in (1, 2)] == ["openvino"] * 2
    assert [choose(shard=f"{number}/10").name for number in (1, 10)] == ["torch"] * 2


def test_python_takes_torch_whatever_is_installed(translator):
    assert translator.engine.name == "torch"


@pytest.mark.usefixtures("translator")
def test_the_command_and_the_function_choose_and_say_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(engine_choice, "FEWEST_IMAGES", 2)
    monkeypatch.setattr(engine_choice, "WORTH_TRYING", 0.0)
    monkeypatch.setattr(engine_choice, "trial_file", lambda name: tmp_path / name)
    timings = {"torch": Timing(0, 100), "openvino": Timing(1, 50)}
    monkeypatch.setattr(engine_choice, "_try", lambda *_: (timings, {}))
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{index}.png")
    words = ["translate", str(tmp_path / "model"), str(folder), "--precision", "fp32", "--out"]
    cli.main([*words, str(tmp_path / "auto")])
    said = capsys.readouterr().err
    assert "Trying which engine is the fastest here" in said
    assert "Engine: openvino 20" in said
    assert "2.0x as fast as torch here" in " ".join(said.split())
    cli.main([*words, str(tmp_path / "torch"), "--engine", "torch"])
    assert "Engine: torch" in capsys.readouterr().err
    translate_folder(tmp_path / "model", folder, tmp_path / "function", precision="fp32")
    for index in range(3):
        auto, exact, function = (
            np.asarray(Image.open(tmp_path / name / f"{index}.png")).astype(int)
            for name in ("auto", "torch", "function")
        )
        assert np.abs(auto - exact).max() <= 1
        assert np.array_equal(auto, function)


def test_a_real_trial_times_every_engine(translator):
    timings, opened = engine_choice._try(translator, ["openvino"], 64)
    assert set(timings) == set(opened) == {"torch", "openvino"}
    assert timings["torch"].ready == 0 < timings["openvino"].ready
    assert all(timing.image > 0 for timing in timings.values())
