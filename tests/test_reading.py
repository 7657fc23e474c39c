"""What is read back may be damaged or made to do harm: older whole files are used, the rest is refused briefly."""

import json
import resource
import shutil
import struct
import sys
import time
import zipfile
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from safetensors.torch import load_file, save_file

from conftest import TINY, TINY_MODEL, make_folder
from cyclegan import DataConfig, InputError, ModelConfig, TrainConfig, Translator, export_model, make_config, train
from cyclegan.cli import main
from cyclegan.config import read_config_file, to_toml
from cyclegan.errors import UnreadableError
from cyclegan.images.formats import ImageFormat
from cyclegan.images.headers import HeaderIndex
from cyclegan.networks import build_discriminator, build_generator
from cyclegan.publishing.card import card_text
from cyclegan.publishing.facts import read_subject
from cyclegan.reference.pickles import read_state_dict
from cyclegan.report.compare import compare
from cyclegan.report.run import write_run_report
from cyclegan.step.state import TrainState
from cyclegan.storage.model import find_model, read_info
from cyclegan.storage.run import list_checkpoints, read_log, read_run_config
from cyclegan.storage.showcase import read_showcase
from cyclegan.storage.weights import read_tensors
from cyclegan.training.checkpoint import load_checkpoint
from make_run import make_examples, make_run, make_scores


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three checkpoints, of steps 2, 4 and 6."""
    root = tmp_path_factory.mktemp("reading")
    a, b = make_folder(root / "a", 3), make_folder(root / "b", 3, seed=1)
    settings = {**TINY, "steps": 6, "checkpoint_steps": 2, "log_steps": 1}
    return train(a, b, out=root / "run", quiet=True, **settings)


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def config_of(run, **changes):
    """The configuration of a copied run."""
    return read_run_config(run).replace(out=run, **changes)


def edit(path, **changes):
    """Change keys of a JSON file; ... takes one out."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def edit_tensors(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def rename(tensors, before, after):
    tensors[after] = tensors.pop(before)


TRAINING, WEIGHTS = "training.safetensors", "model/b2a_average.safetensors"
DAMAGE = {
    "not UTF-8": lambda step: (step / "training.json").write_bytes(b"\xff\xfe{}"),
    "no key": lambda step: edit(step / "training.json", seconds=...),
    "odd type": lambda step: edit(step / "training.json", seconds=[1]),
    "text for a number": lambda step: edit(step / "training.json", step="6"),
    "odd precision": lambda step: edit(step / "training.json", precision="fp12"),
    "negative step": lambda step: edit(step / "training.json", step=-6),
    "another step": lambda step: edit(step / "training.json", step=5),
    "NaN": lambda step: edit(step / "training.json", seconds=float("nan")),
    "brackets": lambda step: (step / "training.json").write_text("[" * 200_000),
    "torn tensors": lambda step: cut(step / TRAINING),
    "other shapes": lambda step: edit_tensors(step / TRAINING, lambda x: x.update({"pool_a.0": torch.ones(4)})),
    "a gap in the pool": lambda step: edit_tensors(step / TRAINING, lambda x: rename(x, "pool_b.1", "pool_b.9")),
    "no number": lambda step: edit_tensors(
        step / TRAINING, lambda x: rename(x, "generator_optimizer.0.exp_avg", "generator_optimizer.x.exp_avg")
    ),
    "other moments": lambda step: edit_tensors(
        step / TRAINING, lambda x: x.update({"discriminator_optimizer.0.exp_avg_sq": torch.ones(3)})
    ),
    "a weight is missing": lambda step: edit_tensors(step / TRAINING, lambda x: x.pop("discriminator.b.head.bias")),
    "torn weights": lambda step: cut(step / WEIGHTS),
    "whole numbers": lambda step: edit_tensors(
        step / WEIGHTS, lambda x: x.update({"stem.weight": x["stem.weight"].int()})
    ),
    "no weights": lambda step: (step / WEIGHTS).unlink(),
    "torn config": lambda step: cut(step / "model" / "config.json"),
    "no config": lambda step: (step / "model" / "config.json").unlink(),
    "no file": lambda step: (step / "training.json").unlink(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_leaves_no_trace_and_is_refused_in_one_sentence(run, kind):
    newest = list_checkpoints(run)[0]
    DAMAGE[kind](newest)
    state = TrainState.create(read_run_config(run))
    fresh = TrainState.create(state.config)
    with pytest.raises(InputError, match="step_0000006 cannot be read: ") as raised:
        load_checkpoint(newest, state)
    assert len(str(raised.value)) < 500 + 2 * len(str(newest))
    for ours, theirs in (
        (state.generator, fresh.generator),
        (state.average, fresh.average),
        (state.discriminator, fresh.discriminator),
    ):
        for one, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(one, other)
    assert (state.step, state.pool_a.images, state.pool_b.images) == (0, [], [])
    assert all(not optimizer.state for optimizer in state.optimizers.values())


@pytest.mark.parametrize("kind", ["not UTF-8", "other shapes", "torn config"])
def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(run, kind, capfd):
    DAMAGE[kind](list_checkpoints(run)[0])
    train(config_of(run, steps=7), resume=True)
    shown = " ".join(capfd.readouterr().err.split())
    assert "step_0000004 is used instead: The checkpoint" in shown
    assert read_info(run / "model").step == 7
    # The damaged one is kept aside, and does not count as one of the newest.
    assert [path.name for path in list_checkpoints(run)] == ["step_0000007", "step_0000006", "step_0000004"]
    assert (run / "checkpoints" / "step_0000006.damaged").is_dir()


def test_a_model_that_is_damaged_is_passed_over_for_the_newest_whole_one(run, capfd):
    cut(run / "model" / "a2b.safetensors")
    assert find_model(run) == run / "checkpoints" / "step_0000006" / "model"
    assert "model of step 6 is used instead" in " ".join(capfd.readouterr().err.split())
    Translator.load(run, device="cpu")
    (run / "checkpoints" / "step_0000006" / "model" / "config.json").write_text("{")
    assert find_model(run).parent.name == "step_0000004"
    for checkpoint in list_checkpoints(run):
        cut(checkpoint / "model" / "a2b.safetensors")
    with pytest.raises(InputError, match=r"run/model/a2b.safetensors does not hold the weights"):
        Translator.load(run, device="cpu")
    # A complete run writes it again.
    shutil.rmtree(run / "checkpoints" / "step_0000006")


def test_a_complete_run_writes_a_damaged_model_again(run):
    cut(run / "model" / "a2b.safetensors")
    train(config_of(run), quiet=True)
    Translator.load(run / "model", device="cpu")


ODD_LINES = [
    "[1]",
    '"text"',
    "{}",
    '{"step": "3"}',
    '{"step": -3, "cycle_a": 1.0}',
    '{"step": 3.5, "cycle_a": 1.0}',
    '{"step": 3, "cycle_a": "far"}',
    '{"step": 3, "seconds": []}',
    '{"event": ["scores"], "step": 3}',
    '{"event": "warning", "step": 3}',
    '{"event": "unreadable", "step": 3, "path": 1, "reason": "x"}',
    '{"event": "scores", "step": 3, "kid": "small"}',
    '{"event": "scores", "step": 3, "scoring_seconds": {}}',
    '{"event": "validation", "step": 3, "num_images": [1]}',
    '{"event": "session", "step": 3, "held_out": 5}',
    "[" * 200_000,
    '{"step": 3, "cyc',
]


def test_odd_lines_of_a_log_are_left_out_with_one_warning(run, capfd):
    before = read_log(run / "log.jsonl")
    with (run / "log.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "\xff": 1}\n' + "\n".join(ODD_LINES).encode())
    assert read_log(run / "log.jsonl") == before
    text = f"{run / 'log.jsonl'}: {len(ODD_LINES) + 1} lines left out, incomplete or damaged."
    write_run_report(run)
    card_text(read_subject(run, "user/maps"))
    assert " ".join(capfd.readouterr().err.split()).count(text) == 1
    train(config_of(run, steps=7), resume=True)
    assert " ".join(capfd.readouterr().err.split()).count(text) == 1
    lines = (run / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines][: len(before)] == before


@pytest.mark.parametrize("content", ["{", '{"step": "3", "kid": 0.1}', '{"step": 3, "kid": NaN}', '{"kid": 0.1}'])
def test_training_goes_on_without_a_damaged_best(run, content):
    (run / "best").mkdir()
    (run / "best" / "validation.json").write_text(content)
    train(config_of(run, steps=7), resume=True)
    assert read_info(run / "model").step == 7
    (run / "trackers.json").write_text(content)
    train(config_of(run, steps=8), resume=True, quiet=True)


def test_a_damaged_configuration_of_a_run_names_the_remedy(run, capsys):
    (run / "config.toml").write_text("steps = [")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--out", str(run)])
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert "Restore the file, or train anew with --fresh" in shown
    assert "Traceback" not in shown
    assert find_model(run) == run / "model"


def test_damaged_scores_stop_neither_a_report_nor_a_comparison(tmp_path):
    runs = [make_run(tmp_path / name) for name in ("one", "two", "three")]
    edit(runs[1] / "scores.json", step=-1)
    assert "scores.json cannot be read" in write_run_report(runs[1]).read_text()
    comparison = compare(*runs, out=tmp_path / "page.html")
    assert comparison.names == ("one", "three")
    assert comparison.remarks[0].startswith(f"{runs[1]} is left out: {runs[1] / 'scores.json'} cannot be read")
    assert "is left out" in (tmp_path / "page.html").read_text()
    (runs[2] / "scores.json").write_text("[]")
    with pytest.raises(InputError, match="Fewer than two runs are left"):
        compare(*runs)


def test_a_showcase_shows_no_picture_from_elsewhere(tmp_path):
    run = make_run(tmp_path / "run")
    shutil.copy(run / "examples" / "a2b" / "0_input.png", tmp_path / "secret.png")
    record = json.loads((run / "examples" / "examples.json").read_text())
    for place in (str(tmp_path / "secret.png"), "../../secret.png", "\0", "x" * 5000):
        record["examples"][0]["pictures"]["input"] = place
        (run / "examples" / "examples.json").write_text(json.dumps(record))
        assert len(read_showcase(run).examples) == 3


# ---- limits


@pytest.mark.parametrize(
    "settings",
    [
        {"blocks": 300_000},
        {"width": 1e18},
        {"width": 10**400},
        {"channels_a": 10**9},
        {"discriminator_width": 10**9},
        {"load_size": 10**12},
        {"crop_size": 10**12},
        {"steps": 10**400},
        {"seed": -1},
        {"seed": 2**63},
        {"batch_size": 10**12},
        {"learning_rate": float("nan")},
        {"cycle_weight": float("inf")},
        {"range_a": (5.0, 5.0)},
        {"range_a": (0.0, 1e300)},
        {"range_b": (float("nan"), 1.0)},
        {"generator_options": {"k" * 200_000: 1}},
        {"generator": "r" * 200_000},
        {"preset": [1]},
        {"preset": "p" * 200_000},
        {"k" * 200_000: 1},
        {"a": "x\0y"},
        {"out": "x/" * 100_000},
        {"model": {"model": {"width": 3}}},
    ],
    ids=lambda settings: f"{next(iter(settings))[:20]}",
)
def test_settings_beyond_all_limits_are_refused_in_one_short_sentence(settings):
    started = time.process_time()
    with pytest.raises(InputError) as raised:
        make_config(settings)
    assert len(str(raised.value)) < 400
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_generator(ModelConfig(width=2**14, blocks=1000), 3, 3),
        lambda: build_generator(ModelConfig(generator="unet", width=2**14, depth=12), 3, 3),
        lambda: build_discriminator(ModelConfig(discriminator_width=2**14, discriminator_layers=8), 3),
    ],
)
def test_networks_that_fit_no_machine_are_refused_before_they_are_built(build):
    started = time.process_time()
    with pytest.raises(InputError, match=r"too large for any machine: [\d,]+ parameters"):
        build()
    assert time.process_time() - started < 3


def test_formats_of_images_are_of_a_closed_set():
    assert DataConfig(range_a=(-3.0e38, 0.0)).range_a == (-3.0e38, 0.0)
    for fields in ({"dtype": "evil"}, {"dtype": "object"}, {"low": 3.0, "high": 3.0}, {"low": 2.0, "high": 1.0}):
        with pytest.raises(ValueError, match="dtype|range of values"):
            ImageFormat(**fields)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = " + b"[" * 200_000, "nested too deeply"),
        (b"a" + b".a" * 100_000 + b" = 1", "nested too deeply"),
        (b'"a"' + b'."a"' * 40_000 + b" = 1", "nested too deeply"),
        (b"[model.model.model]\nwidth = 1", "holds another table"),
        (b"preset = [1]", r"no preset \[1\]"),
        (b"steps = " + b"1" * 5001, "too many digits"),
        (b"steps = 2020-01-01", "steps is datetime.date"),
        (b"width = {a = 1}", "width is {'a': 1}"),
        (b"k" * 200_000 + b" = 1", "There is no setting 'k{50}"),
        (b'a = "x\0y"', "Illegal character"),
        (b'a = "x\\u0000y"', "no file system"),
        (b"\xff\xfes\0t\0", "not text in UTF-8"),
        (b"\n" * 300_000, "expected a file of settings"),
    ],
)
def test_hostile_toml_is_refused_in_one_short_sentence(tmp_path, content, message):
    path = tmp_path / "my.toml"
    path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(InputError, match=message) as raised:
        make_config(read_config_file(path))
    assert len(str(raised.value)) < 300 + len(str(path))
    assert time.process_time() - started < 1


def test_a_mark_at_the_beginning_of_a_file_is_no_error(tmp_path):
    (tmp_path / "my.toml").write_bytes(b"\xef\xbb\xbfsteps = 5\r\n")
    assert make_config(read_config_file(tmp_path / "my.toml")).steps == 5


def test_channels_that_contradict_the_weights_are_named(run):
    model = run / "model"
    whole = json.loads((model / "config.json").read_text())
    for name in ("a", "b"):
        config = {**whole, "model": {**whole["model"], f"channels_{name}": 4}, name: {**whole[name], "channels": 4}}
        (model / "config.json").write_text(json.dumps(config))
        for direction in ("a2b", "b2a"):
            with pytest.raises(InputError, match=f"channels_{name} is 4, but the weights take 3"):
                Translator.load(model, direction=direction, device="cpu")
    (model / "config.json").write_text(json.dumps({**whole, "a": {**whole["a"], "channels": 4}}))
    with pytest.raises(InputError, match="a.channels is 4, but model.channels_a is 3"):
        Translator.load(model, device="cpu")
    for changes in ({"step": -1}, {"load_size": 10**12}, {"load_size": 0}, {"a": {**whole["a"], "dtype": "evil"}}):
        (model / "config.json").write_text(json.dumps({**whole, **changes}))
        with pytest.raises(InputError, match="config.json cannot be read"):
            Translator.load(model, device="cpu")


def test_an_export_whose_description_contradicts_its_graph_is_refused(trained, tmp_path):
    export_model(trained, out=tmp_path / "x", format="onnx", direction="a2b")
    path = tmp_path / "x" / "config.json"
    whole = path.read_text()
    Translator.load(tmp_path / "x")
    content = json.loads(whole)
    for image in (content["networks"]["a2b"]["input"]["image"], content["origin"]["a"]):
        image["channels"] = 4
    content["origin"]["model"]["channels_a"] = 4
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"input of a2b in .* has 4 channels, but a2b.onnx takes 3"):
        Translator.load(tmp_path / "x")
    for change in ({"multiple": 0}, {"smallest": -8}, {"multiple": 10**12}):
        path.write_text(json.dumps({**json.loads(whole), **change}))
        with pytest.raises(InputError, match="config.json cannot be read"):
            Translator.load(tmp_path / "x")
    for name in ("../a2b.onnx", "/etc/passwd", "x/a2b.onnx", "..", "x\\a2b.onnx"):
        content = json.loads(whole)
        content["networks"]["a2b"]["file"] = name
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match="config.json cannot be read: networks.a2b.file is"):
            Translator.load(tmp_path / "x")


# ---- archives and headers


def peak_mib():
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def test_a_small_checkpoint_that_becomes_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "latest_net_G_A.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
        with archive.open("x/data/0", "w", force_zip64=True) as entry:
            for _ in range(256):
                entry.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    before, started = peak_mib(), time.process_time()
    with pytest.raises(InputError, match="its entries are compressed"):
        read_state_dict(path)
    assert time.process_time() - started < 1
    assert peak_mib() - before < 50


def test_an_exported_program_with_compressed_entries_is_refused(trained, tmp_path):
    export_model(trained, out=tmp_path / "x", format="torch-export", direction="a2b")
    path = tmp_path / "x" / "a2b.pt2"
    Translator.load(path, device="cpu")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="its entries are compressed"):
        Translator.load(path, device="cpu")


def test_entries_that_overlap_are_refused(tmp_path):
    path = tmp_path / "latest_net_G_A.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}." + bytes(5000))
        # Many names for the same bytes.
        for index in range(100):
            entry = archive.infolist()[0]
            again = zipfile.ZipInfo(f"x/data/{index}")
            again.header_offset, again.CRC = entry.header_offset, entry.CRC
            again.compress_size = again.file_size = entry.file_size
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    with pytest.raises(InputError, match="overlap or are longer than the file"):
        read_state_dict(path)


def test_a_storage_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path):
    path = tmp_path / "latest_net_G_A.pth"
    torch.save({"model.1.weight": torch.ones(1000)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<H", 1000), struct.pack("<H", 65535)))
    before = peak_mib()
    with pytest.raises(InputError):
        read_state_dict(path)
    assert peak_mib() - before < 50


def test_a_header_index_with_odd_arrays_is_as_good_as_none(tmp_path):
    good = {
        "keys": np.array([3, 5], np.uint64),
        "sizes": np.ones((2, 2), np.int32),
        "kinds": np.zeros(2, np.int16),
        "dtypes": np.array(["uint8"]),
        "channels": np.array([-1]),
        "alpha": np.array([False]),
    }
    path = tmp_path / "index.npz"
    np.savez(path, **good)
    assert len(HeaderIndex.load(path).keys) == 2
    np.savez_compressed(path, **good)
    assert len(HeaderIndex.load(path).keys) == 0
    for change in (
        {"keys": np.array([5, 3], np.uint64)},
        {"keys": np.array(["a", "b"])},
        {"keys": np.array([{}, {}], dtype=object)},
        {"sizes": np.ones(2, np.int32)},
        {"kinds": np.full(2, -1, np.int16)},
        {"kinds": np.full(2, 1, np.int16)},
        {"dtypes": np.array(["evil"])},
        {"channels": np.array([0])},
    ):
        np.savez(path, **{**good, **change})
        assert len(HeaderIndex.load(path).keys) == 0, change
    huge = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<u8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117)
        + b"\n"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("keys.npy", huge)
    assert len(HeaderIndex.load(path).keys) == 0


def safetensors_file(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        struct.pack("<Q", 2**63) + b"{}",
        safetensors_file({"x": {"dtype": "F32", "shape": [10**18, 10**18], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_file({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, b"1234"),
        safetensors_file(
            {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in ("x", "y")}, b"1234"
        ),
        safetensors_file({"x": {"dtype": "EVIL", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_file({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_file({"__metadata__": {"x": float("nan")}}),
        safetensors_file({"__metadata__": {"x": [1]}}),
        safetensors_file({"k" * 200_000: {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
)
def test_headers_of_safetensors_that_lie_are_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "a2b.safetensors"
    path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(UnreadableError, match="a2b.safetensors cannot be read: it is cut off or damaged") as raised:
        read_tensors(path)
    assert len(str(raised.value)) < 300 + len(str(path))
    assert "\n" not in str(raised.value)
    assert time.process_time() - started < 1


# ---- pages that show text of unknown origin

HOSTILE = [
    "[x](javascript:alert(1))",
    "](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "<img src=x onerror=alert(1)>",
    "<javascript:alert(1)>",
    "<https://evil.example>",
    "[x]: javascript:alert(1)",
    "# heading",
    "a\n\n# heading\n\n<div>\n---\n",
    "---\nlicense: mit\n---",
    "a | b | c",
    "`code` ``` ~~~",
    "*bold* __strong__ ~~gone~~",
    "&lt;script&gt; &#60;b&#62;",
    "- item",
    "1. item",
    "> quote",
    "\\[x](javascript:alert(1))",
    "{{ 7 * 7 }} {% raw %}",
    "\x1b[31m\u202e",
]
FORBIDDEN = {
    "link_open",
    "html_inline",
    "html_block",
    "s_open",
    "strong_open",
    "blockquote_open",
    "ordered_list_open",
    "hr",
}


def tokens(text):
    found = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text.split("---\n", 2)[2])
    return [*found, *(child for token in found for child in token.children or ())]


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_text_is_only_text_in_a_model_card(tmp_path, evil):
    pytest.importorskip("huggingface_hub")

    def write(name, text):
        run = tmp_path / name
        (run / "model").mkdir(parents=True)
        about = dict.fromkeys(("name", "a", "b", "source", "url", "licence", "citation"), text)
        (tmp_path / name / "about.json").write_text(json.dumps(about))
        info = read_info_of(text)
        (run / "model" / "config.json").write_text(info)
        (run / "model" / "a2b.safetensors").write_bytes(b"")
        folder = "".join(c for c in text if c not in "/\0\x1b\n") or "x"
        config = TrainConfig(a=run / folder, b=run / f"{folder}2", out=run, model=ModelConfig(**TINY_MODEL))
        (run / "config.toml").write_text(to_toml(config))
        lines = [
            {"event": "session", "step": 0, "device": text, "precision": text, "cyclegan": text, "torch": text},
            {"event": "warning", "step": 1, "check": text, "message": text},
            {"event": "validation", "step": 0, "origin": text, "num_images": {"a": 2}, "features": {"name": text}},
            {"event": "scores", "step": 3, "directions": {"a2b": {"kid": {"value": 0.1}}}},
        ]
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        make_examples(run)
        edit(run / "examples" / "examples.json", origin=text)
        scores = make_scores(step=3)
        of = scores.directions["a2b"].replace(notes=(text,))
        scores.replace(directions={"a2b": of}, cyclegan_version=text[:50]).write(run / "scores.json")
        with_scores = card_text(read_subject(run, "user/maps"), ["samples/a2b.png"], data_licence=text)
        (run / "scores.json").unlink()
        return with_scores, card_text(read_subject(run, "user/maps"), data_licence=text)

    for expected, found in zip(write("plain", "words"), write("hostile", evil), strict=True):
        assert found.split("---\n")[1] == expected.split("---\n")[1]
        plain, hostile = tokens(expected), tokens(found)
        assert {token.type for token in hostile} & FORBIDDEN == set()
        # No heading, picture, table, list or block more than with plain words.
        for kind in (
            "heading_open",
            "image",
            "tr_open",
            "td_open",
            "bullet_list_open",
            "fence",
            "code_block",
            "em_open",
        ):
            count = [sum(token.type == kind for token in each) for each in (plain, hostile)]
            assert count[0] == count[1], kind


def read_info_of(text):
    fields = {"cyclegan_version": text[:50], "model": ModelConfig(**TINY_MODEL).model_dump(), "a": {}, "b": {}}
    fields |= {"preprocess": "none", "load_size": 18, "crop_size": 16, "step": 3, "translate_with": "final"}
    return json.dumps({**fields, "directions": ["a2b"], "averages": False, "origin": text})


def test_addresses_of_a_dataset_are_links_and_scripts_are_not(trained):
    about = trained.parent / "about.json"
    for url, is_link in (
        ("https://earth.example/a_b?x=1", True),
        ("javascript:alert(1)", False),
        ("https://x y", False),
    ):
        about.write_text(json.dumps({"name": "earth", "url": url}))
        text = card_text(read_subject(trained, "user/maps"))
        links = [token.attrs["href"] for token in tokens(text) if token.type == "link_open"]
        assert links == ([url] if is_link else [])
    about.unlink()


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize(
    "evil", ['"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "</script><script>alert(1)"]
)
def test_hostile_text_is_only_text_in_a_report(tmp_path, evil):
    def page(text):
        run = make_run(tmp_path / ("evil" if text == evil else "plain"))
        record = json.loads((run / "examples" / "examples.json").read_text())
        for example in record["examples"]:
            example |= {"file": text, "score_name": text}
        (run / "examples" / "examples.json").write_text(json.dumps({**record, "origin": text}))
        with (run / "log.jsonl").open("a") as log:
            log.write(json.dumps({"event": "warning", "step": 9, "check": text, "message": text}) + "\n")
            log.write(json.dumps({"event": "session", "step": 9, "command": text, "device": text}) + "\n")
            log.write(json.dumps({"event": "unreadable", "step": 9, "path": text, "reason": text}) + "\n")
            log.write(json.dumps({"event": "validation", "step": 9, "features": {"name": text}, "origin": text}) + "\n")
        scores = make_scores().replace(command=text, model=text)
        directions = {name: of.replace(notes=(text,)) for name, of in scores.directions.items()}
        features = scores.features.replace(label=text, name=text)
        scores.replace(directions=directions, features=features).write(run / "scores.json")
        tags = Tags()
        tags.feed(write_run_report(run).read_text())
        return tags.found

    plain, hostile = page("words"), page(evil)
    assert [tag for tag, _ in plain] == [tag for tag, _ in hostile]
    for tag, attributes in hostile:
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "img" or attributes["src"].startswith("data:image/")
