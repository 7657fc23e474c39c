"""Every file that is read back, damaged in ways that nobody thought of: a result or a short error, and never a trace.

CYCLEGAN_FUZZ=1000 pytest tests/test_fuzz_files.py tries a thousand times as many.
"""

import copy
import json
import time
import warnings
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import cyclegan.step.precision
from conftest import TINY, TINY_MODEL, make_folder
from cyclegan import ModelConfig, Translator, import_reference, make_config, train
from cyclegan.config import DataConfig, read_config_file
from cyclegan.data.image_folder import scan_folder
from cyclegan.data.image_order import ImageOrder, Stretch
from cyclegan.data.known_images import KnownImages
from cyclegan.errors import CycleganError, InputError, UnreadableError
from cyclegan.images import headers
from cyclegan.images.codecs import probe_image, read_image, write_image
from cyclegan.images.file_formats import FILE_FORMATS
from cyclegan.images.file_list import list_images
from cyclegan.images.headers import HeaderIndex, image_size, read_header, read_headers
from cyclegan.inspection.run_summary import summarise_run
from cyclegan.networks import build_generator
from cyclegan.publishing.card import card_pictures, card_text
from cyclegan.publishing.facts import read_subject
from cyclegan.reference import to_reference
from cyclegan.report.compare import compare
from cyclegan.report.record import read_record
from cyclegan.report.run_charts import loss_charts, validation_charts
from cyclegan.step.precision import Choice, resolve_precision
from cyclegan.step.state import TrainState
from cyclegan.storage.model import find_model, load_generator, read_discriminators, read_info
from cyclegan.storage.run import list_checkpoints, read_run_config
from cyclegan.system.messages import Messages
from cyclegan.training.checkpoint import load_checkpoint, read_best
from cyclegan.training.run_log import RunLog
from cyclegan.training.trackers import open_trackers
from cyclegan.translate.engines.exported import Check, ExportInfo, Network, Side, find_export
from fuzzing import fuzz_settings
from make_run import events, make_examples, make_scores, write_log

QUIET = Messages("fuzz", quiet=True)


# ---- damage

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 10**12, 10**400, 2**63, 1e308, -0.0])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "../x", "/etc/passwd", "\0", "\x1b[31m", "<img src=x onerror=alert(1)>", "k" * 100_000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def damaged_bytes(content):
    """The content cut off, with bytes changed, moved, put in or taken out."""
    return _damaged_bytes(lambda: bytearray(content))  # hypothesis prints arguments


@st.composite
def _damaged_bytes(draw, whole):
    content = whole()
    kind = draw(st.sampled_from(["cut", "change", "begin", "put in", "take out", "other", "zeros", "twice"]))
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    if kind == "cut":
        del content[place:]
    elif kind in ("change", "begin") and content:  # most of what can be misunderstood is at the beginning
        for _ in range(draw(st.integers(1, 8))):
            end = len(content) if kind == "change" else min(len(content), 400)
            content[draw(st.integers(0, end - 1))] = draw(st.integers(0, 255))
    elif kind == "put in":
        content[place:place] = draw(st.binary(min_size=1, max_size=20))
    elif kind == "take out":
        del content[place : place + draw(st.integers(1, 20))]
    elif kind == "zeros":
        content[place:] = bytes(len(content) - place)
    elif kind == "twice":
        content = content * 2
    elif kind == "other":
        content = bytearray(draw(st.binary(max_size=60)))
    return bytes(content)


@st.composite
def damaged_value(draw, value):
    """The value with one part of it changed, taken out or put in."""
    value = copy.deepcopy(value)
    inner = value
    while draw(st.integers(0, 3)) and isinstance(inner, (dict, list)) and inner:
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        key = draw(st.sampled_from(keys))
        if not isinstance(inner[key], (dict, list)) or not inner[key]:
            break
        inner = inner[key]
    if not isinstance(inner, (dict, list)) or not inner:
        return draw(values)
    keys = list(inner) if isinstance(inner, dict) else range(len(inner))
    key = draw(st.sampled_from(keys))
    kind = draw(st.sampled_from(["change", "change", "change", "take out", "put in", "whole"]))
    if kind == "change":
        inner[key] = draw(values)
    elif kind == "take out":
        del inner[key]
    elif kind == "put in" and isinstance(inner, dict):
        inner[draw(st.text(max_size=8))] = draw(values)
    else:
        return draw(values)
    return value


def damaged_json(text):
    """Bytes or values of a JSON file damaged."""
    text = text if isinstance(text, bytes) else text.encode()
    whole = json.loads(text)
    return damaged_bytes(text) | damaged_value(whole).map(lambda value: json.dumps(value).encode())


def damaged_lines(text):
    """Bytes or values of one line of a file of JSON lines damaged."""
    lines = text.splitlines()

    @st.composite
    def one_line(draw):
        place = draw(st.integers(0, len(lines) - 1))
        changed = json.dumps(draw(damaged_value(json.loads(lines[place]))))
        return "\n".join([*lines[:place], changed, *lines[place + 1 :]]).encode()

    return damaged_bytes(text.encode()) | one_line()


@contextmanager
def damage(path, content):
    """The file with this content, for the block."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def attempt(*uses, path, allowed=CycleganError):
    """Each use gives a result or one short error of this package, in less than a second of work."""
    for use in uses:
        message, seconds = worked(use, allowed)
        assert message.strip()
        assert len(message) < 500 + 3 * len(str(path)), message
        if seconds > 1:  # a collection of garbage of the tests adds to it now and then
            seconds = worked(use, allowed)[1]
        assert seconds < 1, use


def check_damaged(path, num_examples, *uses, allowed=CycleganError):
    """`attempt` with a file in many states of damage."""

    @fuzz_settings(num_examples)
    @given(damaged_bytes(path.read_bytes()))
    def check(content):
        with damage(path, content):
            attempt(*uses, path=path, allowed=allowed)

    check()


def worked(use, allowed):
    """What an error says, or that there is a result; and the seconds of work."""
    started, message = time.process_time(), "a result"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            use()
        except allowed as error:
            message = str(error)
    return message, time.process_time() - started


# ---- a whole run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two checkpoints, with everything that a run can hold."""
    root = tmp_path_factory.mktemp("fuzz")
    a, b = make_folder(root / "a", 3), make_folder(root / "b", 3, seed=1)
    (root / "about.json").write_text('{"name": "shapes", "a": "photos", "source": "here", "url": "https://x.example/"}')
    run = train(a, b, out=root / "run", quiet=True, **{**TINY, "steps": 4, "checkpoint_steps": 2, "log_steps": 1})
    write_log(run, [line for line in events() if line["step"] < 2000])
    make_scores(step=4).write(run / "scores.json")
    make_examples(run)
    (run / "best").mkdir()
    (run / "best" / "validation.json").write_text('{"event": "scores", "step": 3, "kid": 0.25, "directions": {}}')
    (run / "trackers.json").write_text('{"mlflow": {"in": "x", "run_id": "y"}}')
    return run


def card(run):
    subject = read_subject(run, "user/maps")
    card_pictures(subject)
    card_text(subject)


def record(run):
    log = read_record(run)
    _ = log.step, log.seconds, log.best, log.validation_images, log.features
    list(validation_charts(log, {"a": "A", "b": "B"}))
    list(loss_charts(log))


def fresh_log(run):
    with ExitStack() as stack:
        RunLog(run, 10**6, QUIET, stack)


def trackers(run):
    with ExitStack() as stack:
        open_trackers(make_config(out=run, tensorboard=False), 0, QUIET, stack)


@pytest.mark.parametrize("name", ["config.toml", "log.jsonl", "scores.json", "best/validation.json", "trackers.json"])
def test_files_of_a_run(run, name):
    path = run / name
    config = read_run_config(run)
    uses = {
        "config.toml": [lambda: read_run_config(run), lambda: card(run)],
        "log.jsonl": [
            lambda: record(run),
            lambda: card(run),
            lambda: summarise_run(run, config),
            lambda: fresh_log(run),
        ],
        "scores.json": [lambda: card(run), lambda: compare(run, run / "model")],
        "best/validation.json": [lambda: read_best(run), lambda: summarise_run(run, config)],
        "trackers.json": [lambda: trackers(run)],
    }[name]
    text = path.read_text()
    kinds = {"config.toml": lambda text: damaged_bytes(text.encode()), "log.jsonl": damaged_lines}

    @fuzz_settings(40)
    @given(kinds.get(name, damaged_json)(text))
    def check(content):
        with damage(path, content):
            attempt(*uses, path=path)

    check()


def test_the_showcase_of_a_run(run):
    path = run / "examples" / "examples.json"

    @fuzz_settings(30)
    @given(damaged_json(path.read_text()))
    def check(content):
        with damage(path, content):
            attempt(lambda: card(run), path=path)

    check()


@pytest.mark.parametrize(
    "name", ["training.json", "training.safetensors", "model/config.json", "model/a2b.safetensors"]
)
def test_checkpoints(run, name):
    newest = list_checkpoints(run)[0]
    path = newest / name
    state = TrainState.create(read_run_config(run))

    def digest():
        moments = [t for o in state.optimizers.values() for s in o.state.values() for t in s.values()]
        tensors = [state.generator_weights, state.discriminator_weights, state.average_weights, *moments]
        return state.step, [float(tensor.detach().double().sum()) for tensor in tensors], len(state.pool_a.images)

    before = digest()

    def load():
        nonlocal state
        try:
            load_checkpoint(newest, state)
        except CycleganError:
            assert digest() == before  # a damaged checkpoint leaves no traces
            raise
        state = TrainState.create(state.config)

    kinds = {True: damaged_json, False: damaged_bytes}

    @fuzz_settings(40)
    @given(kinds[path.suffix == ".json"](path.read_bytes()))
    def check(content):
        with damage(path, content):
            attempt(load, lambda: read_discriminators(newest / "model"), path=path)
            # Another one is whole.
            load_generator(find_model(run), "a2b")

    check()


@pytest.mark.parametrize("name", ["config.json", "a2b.safetensors"])
def test_models(run, name):
    path = run / "model" / name
    picture = Image.new("RGB", (16, 16), (9, 200, 30))
    kinds = {True: damaged_json, False: damaged_bytes}

    @fuzz_settings(60)
    @given(kinds[path.suffix == ".json"](path.read_bytes()))
    def check(content):
        with damage(path, content):
            attempt(
                lambda: Translator.load(run / "model", device="cpu")(picture),
                lambda: Translator.load(run, device="cpu"),
                path=path,
            )

    check()


def test_exports(run, tmp_path):
    info = read_info(run / "model")
    side = Side(name="image", image=info.a)
    check_of = Check(sizes=("1x16x16",), images="test pictures", largest_difference=0.0, decibels=None)
    network = Network(file="a2b.onnx", input=side, output=side, check=check_of)
    settings_of = {"export_format": "onnx", "precision": "fp32", "multiple": 4, "smallest": 8}
    export = ExportInfo(**settings_of, networks={"a2b": network}, origin=info)
    path = tmp_path / "config.json"
    path.write_text(export.model_dump_json())
    (tmp_path / "a2b.onnx").write_bytes(b"no graph")

    @fuzz_settings(60)
    @given(damaged_json(path.read_text()))
    def check(content):
        with damage(path, content):
            for place in (tmp_path, tmp_path / "a2b.onnx"):
                attempt(lambda place=place: find_export(place), path=path)
                attempt(lambda place=place: Translator.load(place), path=path)

    check()


# ---- files beside runs


def test_configurations(tmp_path):
    text = 'preset = "paper"\nsteps = 5\na = "x"\nrange_a = [0.0, 2.5]\n[model]\nwidth = 8\n[data]\ncrop_size = 64\n'
    path = tmp_path / "my.toml"
    path.write_text(text)
    lines = text.splitlines()
    odd = [
        "[1]",
        "{a = 1}",
        "2020-01-01",
        "10:00:00",
        "nan",
        "inf",
        "-1",
        "true",
        '"x"',
        "[[]]",
        "1" * 5001,
        "0x" + "f" * 99,
    ]

    @st.composite
    def changed(draw):
        place = draw(st.integers(0, len(lines) - 1))
        name = draw(
            st.sampled_from(sorted(["steps", "model", "generator", "width", "preset", "generator_options", "out"]))
        )
        line = f"{name} = {draw(st.sampled_from(odd))}"
        return "\n".join([*lines[:place], line, *lines[place:]]).encode()

    @fuzz_settings(120)
    @given(damaged_bytes(text.encode()) | changed())
    def check(content):
        with damage(path, content):
            attempt(lambda: make_config(read_config_file(path)), path=path, allowed=InputError)

    check()


def test_header_indices(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "MIN_INDEXED", 1)
    files = list_images(make_folder(tmp_path / "a", 3))
    index = HeaderIndex.empty()
    index.replace(list(read_headers(files, index)))
    path = tmp_path / "index.npz"
    index.save(path)

    def use():
        found = HeaderIndex.load(path)
        for chunk in read_headers(files, found):
            assert not chunk.unreadable

    check_damaged(path, 80, use)


def test_the_images_that_a_run_knows(tmp_path):
    folder = scan_folder(make_folder(tmp_path / "a", 4), 3, None, DataConfig(crop_size=16))
    stretches = (Stretch(0, 1, 3), Stretch(5, 2, 4, np.array([1], np.int32)))
    known = KnownImages(
        training=folder.paths,
        keys=folder.keys,
        held=("held.png",),
        held_keys=np.array([7], np.uint64),
        copies=("copy.png",),
        scored=("held.png",),
        num_validation=10,
        num_samples=4,
        stretches=stretches,
    )
    path = tmp_path / ".images_a.npz"
    known.save(path)
    assert known.is_like(KnownImages.load(path))

    def use():
        found = KnownImages.load(path)
        if found is not None:
            order = ImageOrder(0, 0, True, found.stretches)
            images, place = order.at(found.stretches[-1].step, 0)
            assert 0 <= images[place] < len(found.training)
            assert len(found.find(folder)) == len(found.training)

    check_damaged(path, 80, use)


def test_the_cache_of_precisions(tmp_path, monkeypatch):
    monkeypatch.setattr(cyclegan.step.precision, "_try", lambda _config: Choice("fp32", "measured"))
    monkeypatch.setattr(cyclegan.step.precision, "has_fast_bf16", lambda _device: True)
    config = make_config(precision="auto", steps=1000)
    path = tmp_path / "tuning.json"
    resolve_precision(config, torch.device("cpu"), path)

    @fuzz_settings(50)
    @given(damaged_json(path.read_text()))
    def check(content):
        with damage(path, content):
            choice = resolve_precision(config, torch.device("cpu"), path)
            assert choice.precision in ("fp32", "bf16", "fp16")

    check()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("generator", ["resnet", "unet"])
def test_checkpoints_of_the_reference(tmp_path, zipped, generator):
    settings_of = {**TINY_MODEL, "generator": generator, "width": 2, "depth": 5}
    network = build_generator(ModelConfig(**settings_of), 3, 3, seed=0)
    path = tmp_path / "latest_net_G_A.pth"
    torch.save(to_reference(network.state_dict()), path, _use_new_zipfile_serialization=zipped)
    done = iter(range(10**9))

    check_damaged(path, 40, lambda: import_reference(path, out=tmp_path / str(next(done))), allowed=InputError)


def images_of(name):
    """What a format holds, as arrays."""
    file_format = FILE_FORMATS[name]
    kinds = [(3, "uint8"), (1, "uint16"), (3, "uint16"), (5, "float32")]
    return [kind for kind in kinds if file_format.can_hold(*kind)]


@pytest.mark.parametrize(
    ("name", "channels", "dtype"), [(name, *kind) for name in FILE_FORMATS for kind in images_of(name)]
)
def test_images(tmp_path, name, channels, dtype):
    path = tmp_path / f"image{FILE_FORMATS[name].suffixes[0]}"
    write_image(path, (np.random.default_rng(0).random((11, 13, channels)) * 200).astype(dtype))

    @fuzz_settings(40)
    @given(damaged_bytes(path.read_bytes()))
    def check(content):
        with damage(path, content):
            attempt(
                lambda: read_image(path, channels),
                lambda: probe_image(path),
                lambda: read_header(str(path)),
                lambda: image_size(path),
                path=path,
                allowed=(InputError, UnreadableError),
            )

    check()
