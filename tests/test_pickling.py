"""Translators that are sent to other processes, and copied."""

import copy
import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from test_hub import content
from torch.utils.data import DataLoader, Dataset

from conftest import TINY_MODEL
from cyclegan import InputError, ModelConfig, Translator, export_model
from cyclegan.networks import build_generator
from cyclegan.translate.engines.registry import open_engine
from test_engines import make_model

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def in_child(translator, image=PICTURE):
    """What another process makes of a translator: its name, engine and result."""
    return translator.name, translator.engine.name, translator.engine.precision, translator(image)


class Translated(Dataset):
    """A dataset that translates in the processes of a loader."""

    def __init__(self, translator):
        self.translator = translator

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.translator(PICTURE) if index == 0 else PICTURE


@pytest.fixture(scope="module")
def executor():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.mark.parametrize("options", [{}, {"precision": "bf16", "direction": "b2a"}, {"engine": "onnxruntime"}])
def test_a_translator_of_a_path_travels_as_that_path(model, executor, monkeypatch, options):
    monkeypatch.chdir(model.parent)
    translator = Translator.load("model", **options)
    sent = pickle.dumps(translator)
    assert len(sent) < 2000
    name, engine, precision, result = executor.submit(in_child, translator).result()  # in another folder
    assert (name, engine, precision) == ("model", translator.engine.name, translator.engine.precision)
    assert np.array_equal(result, translator(PICTURE))
    twin = pickle.loads(sent)
    assert twin.direction == translator.direction
    assert np.array_equal(twin(PICTURE), translator(PICTURE))
    assert twin.__reduce__() == translator.__reduce__()


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torch-export"])
def test_an_export_travels_as_its_path(model, tmp_path, executor, kind):
    export_model(model, tmp_path / "out", format=kind, direction="b2a")
    translator = Translator.load(tmp_path / "out", direction="b2a")
    assert np.array_equal(executor.submit(in_child, translator).result()[3], translator(PICTURE))
    sent = pickle.dumps(translator)
    copied = copy.deepcopy(translator)
    assert np.array_equal(copied(PICTURE), translator(PICTURE))
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(InputError, match=r"out cannot be read here \(No such file or directory\).*keep the model"):
        pickle.loads(sent)
    with pytest.raises(InputError, match=r"out was replaced or removed.*load it there"):
        pickle.dumps(translator)


def test_a_pool_and_the_processes_of_a_loader_translate(model):
    translator = Translator.load(model)
    expected = translator(PICTURE)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for result in pool.map(translator, [PICTURE, PICTURE]):
            assert np.array_equal(result, expected)
        assert np.array_equal(pool.apply(partial(in_child, translator))[3], expected)
    loader = DataLoader(Translated(translator), batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert np.array_equal(next(iter(loader)), expected)


def test_another_model_at_the_same_path_is_refused(model, executor):
    translator = Translator.load(model)
    sent = pickle.dumps(translator)
    shutil.copy(model / "b2a.safetensors", model / "a2b.safetensors")
    with pytest.raises(InputError, match=r"holds another model than the translator that was sent to this process"):
        pickle.loads(sent)
    # What is in memory is the older model, and that is what travels now.
    result = executor.submit(in_child, translator).result()[3]
    assert np.array_equal(result, translator(PICTURE))
    assert not np.array_equal(result, Translator.load(model)(PICTURE))
    shutil.rmtree(model)
    with pytest.raises(InputError, match=r"cannot be read here .No such file"):
        pickle.loads(sent)
    assert np.array_equal(pickle.loads(pickle.dumps(translator))(PICTURE), result)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_translator_without_a_path_travels_as_its_weights(model, executor, precision):
    info = Translator.load(model).info
    network = build_generator(ModelConfig(**TINY_MODEL, init_gain=0.1), 3, 3, seed=5).eval().requires_grad_(False)
    translator = Translator(open_engine(network, 3, 4, precision=precision), info, "a2b", name="of mine")
    name, _, found, result = executor.submit(in_child, translator).result()
    assert (name, found) == ("of mine", precision)
    assert np.array_equal(result, translator(PICTURE))


def test_changes_of_the_network_in_memory_travel_as_well(model):
    translator = Translator.load(model)
    with torch.no_grad():
        translator.network.head.bias += 0.3
    twin = pickle.loads(pickle.dumps(translator))
    assert np.array_equal(twin(PICTURE), translator(PICTURE))
    assert not np.array_equal(twin(PICTURE), Translator.load(model)(PICTURE))


@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"engine": "onnxruntime"}])
def test_a_deep_copy_has_weights_of_its_own(model, options):
    translator = Translator.load(model, **options)
    twin = copy.deepcopy(translator)
    assert np.array_equal(twin(PICTURE), translator(PICTURE))
    before = translator(PICTURE)
    with torch.no_grad():
        twin.original.head.bias += 0.3
        if twin.engine.network is not None:
            twin.network.get_parameter("network.head.bias" if options else "head.bias").add_(0.3)
    assert np.array_equal(translator(PICTURE), before)


def test_a_model_of_the_hub_travels_as_the_files_of_its_revision(hub, model):
    repository = hub.add("user/maps", content(model))
    translator = Translator.load("hf:user/maps")
    again = Translator.from_pretrained("user/maps")
    assert translator.name == again.name == "hf:user/maps"
    sent = pickle.dumps(translator)
    repository.commit({**content(model), "a2b.safetensors": (model / "b2a.safetensors").read_bytes()})
    assert not np.array_equal(Translator.load("hf:user/maps")(PICTURE), translator(PICTURE))
    hub.stop()
    twin = pickle.loads(sent)
    assert np.array_equal(twin(PICTURE), translator(PICTURE))
