"""Checkpoints of the reference implementation: taken over, written, and refused."""

import json
import os
import pickle
import struct
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from conftest import TINY, TINY_MODEL
from cyclegan import InputError, ModelConfig, Translator, evaluate, train
from cyclegan.cli import main
from cyclegan.export import export_model
from cyclegan.networks import build_generator
from cyclegan.reference.importing import import_reference
from cyclegan.reference.keys import recognise, to_reference
from cyclegan.reference.pickles import read_state_dict
from cyclegan.storage.model import read_discriminators, read_info
from make_reference import reference_state, write_folder

GOLDEN = Path(__file__).parent / "golden"


def golden(name):
    """The reference's own weights of a network, and an input with its output."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    weights = {key.removeprefix("weight."): value for key, value in tensors.items() if key.startswith("weight.")}
    return weights, tensors["input"], tensors["output"]


SMALL = ModelConfig(**TINY_MODEL)


# ---- taken over


@pytest.mark.parametrize(
    ("name", "settings"),
    {
        "generator_resnet9": {"generator": "resnet", "blocks": 9, "width": 4, "dropout": False},
        "generator_resnet6_dropout": {"generator": "resnet", "blocks": 6, "width": 4, "dropout": True},
        "generator_unet128": {"generator": "unet", "depth": 7, "width": 2},
    }.items(),
)
def test_a_generator_of_the_reference_translates_as_it_did_there(name, settings, tmp_path):
    weights, images, output = golden(name)
    torch.save(weights, tmp_path / "latest_net_G.pth")
    imported = import_reference(tmp_path / "latest_net_G.pth", out=tmp_path / "model")
    info = read_info(imported.path)
    assert {key: getattr(info.model, key) for key in settings} == settings
    assert info.model.norm == "instance"
    translator = Translator.load(tmp_path / "model", device="cpu")
    assert (translator.translate_tensor(images) - output).abs().max() < 1e-5


ARCHITECTURES = {
    "resnet": ModelConfig(blocks=3, width=4, channels_a=1, channels_b=5, discriminator_width=4),
    "resnet without blocks": ModelConfig(blocks=0, width=4),
    "resnet batch dropout": ModelConfig(blocks=2, width=4, norm="batch", dropout=True),
    "resnet without norm": ModelConfig(blocks=2, width=4, norm="none"),
    "unet": ModelConfig(generator="unet", depth=5, width=2, channels_b=1),
    "unet batch": ModelConfig(generator="unet", depth=6, width=2, norm="batch"),
    "unet without norm": ModelConfig(generator="unet", depth=5, width=2, norm="none"),
}
DISCRIMINATORS = {
    "five layers": ModelConfig(discriminator_width=2, discriminator_layers=5),
    "one layer, batch": ModelConfig(discriminator_width=4, discriminator_layers=1, norm="batch"),
    "without norm": ModelConfig(discriminator_width=4, discriminator_layers=2, norm="none"),
    "pixel": ModelConfig(discriminator="pixel", discriminator_width=4),
    "pixel batch": ModelConfig(discriminator="pixel", discriminator_width=4, norm="batch"),
    "pixel without norm": ModelConfig(discriminator="pixel", discriminator_width=4, norm="none"),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_architecture_of_a_generator_is_found_from_its_tensors(name):
    config = ARCHITECTURES[name]
    network = recognise(reference_state(config, (config.channels_a, config.channels_b)))
    assert (network.kind, network.channels) == ("generator", (config.channels_a, config.channels_b))
    assert {key: getattr(config, key) for key in network.settings} == network.settings
    assert {"width", "norm", "dropout" if config.generator == "resnet" else "depth"} <= network.settings.keys()


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_the_architecture_of_a_discriminator_is_found_from_its_tensors(name):
    config = DISCRIMINATORS[name]
    network = recognise(reference_state(config, (4,)))
    assert (network.kind, network.channels) == ("discriminator", (4,))
    assert {key: getattr(config, key) for key in network.settings} == network.settings


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_and_leftovers_of_old_releases_are_dropped(prefix):
    clean = reference_state(SMALL)
    stale = {}
    for key, tensor in clean.items():
        stale[prefix + key] = tensor
    for norm in ("model.2", "model.5", "model.10.conv_block.2", "model.10.conv_block.6"):
        statistics = {"running_mean": torch.zeros(16), "running_var": torch.ones(16)}
        statistics["num_batches_tracked"] = torch.tensor(7)
        stale |= {f"{prefix}{norm}.{name}": tensor for name, tensor in statistics.items()}
    expected, found = recognise(clean), recognise(stale)
    assert found.settings == expected.settings
    assert found.settings["norm"] == "instance"
    assert found.weights.keys() == expected.weights.keys()
    assert all(torch.equal(found.weights[key], expected.weights[key]) for key in found.weights)


def test_batch_norm_of_releases_that_kept_no_counter_and_half_precision_are_taken():
    state = reference_state(ARCHITECTURES["resnet batch dropout"])
    old = {key: tensor.half() for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    network = recognise(old)
    assert network.settings["norm"] == "batch"
    assert network.weights["stem_norm.num_batches_tracked"] == 0
    assert network.weights["stem.weight"].dtype == torch.float32


def test_a_folder_of_the_reference_becomes_a_model_with_its_preprocessing(tmp_path):
    options = {"preprocess": "scale_width_and_crop", "load_size": 300, "crop_size": 128, "direction": "AtoB"}
    config = ModelConfig(**{**TINY_MODEL, "channels_a": 1, "dropout": True, "norm": "batch"})
    folder = write_folder(tmp_path / "checkpoints" / "maps", config, options=options, channels=(1, 3))
    imported = import_reference(folder, out=tmp_path / "model")
    assert set(imported.networks) == {"a2b", "b2a", "discriminator_a", "discriminator_b"}
    assert [note[:17] for note in imported.notes] == ["It has batch norm"]
    info = read_info(tmp_path / "model")
    assert info.model == config
    assert (info.preprocess, info.load_size, info.crop_size) == ("scale-width-and-crop", 300, 128)
    assert (info.directions, info.averages, info.a.channels, info.b.channels) == (("a2b", "b2a"), False, 1, 3)
    assert "latest_net_G_A.pth (sha256 " in info.origin
    # D_A scores the images that G_A makes: those of domain B.
    assert imported.networks["discriminator_b"][0].name == "latest_net_D_A.pth"
    assert read_discriminators(tmp_path / "model")["b"]["stem.weight"].shape[1] == 3
    picture = Image.fromarray(np.zeros((12, 16), np.uint8))
    for direction, mode in (("a2b", "RGB"), ("b2a", "L")):
        assert Translator.load(tmp_path / "model", direction=direction)(picture).mode == mode


@pytest.mark.parametrize("no_dropout", ["True", "False", None])
def test_dropout_of_a_unet_comes_from_the_options_or_is_asked_for(no_dropout, tmp_path):
    config = ModelConfig(**{**TINY_MODEL, "generator": "unet", "depth": 5})
    options = {"no_dropout": no_dropout} if no_dropout else None
    imported = import_reference(write_folder(tmp_path / "run", config, options=options), out=tmp_path / "model")
    assert read_info(tmp_path / "model").model.dropout == (no_dropout == "False")
    assert any("--dropout" in note for note in imported.notes) == (no_dropout is None)


def test_any_epoch_of_a_folder_can_be_chosen(tmp_path):
    folder = write_folder(tmp_path / "run", SMALL)
    other = ModelConfig(**{**TINY_MODEL, "blocks": 2})
    for epoch in ("5", "200", "iter_5000"):
        write_folder(folder, other, epoch=epoch)
    assert read_info(import_reference(folder, out=tmp_path / "latest").path).model.blocks == 1
    assert read_info(import_reference(folder, out=tmp_path / "it", epoch="iter_5000").path).model.blocks == 2
    with pytest.raises(InputError, match="nothing of epoch 7; pass --epoch with one of: 5, 200, latest, iter_5000"):
        import_reference(folder, out=tmp_path / "none", epoch="7")
    assert not (tmp_path / "none").exists()


def test_pretrained_generators_of_both_ways_make_one_model(tmp_path):
    for name, seed in (("horse2zebra", 1), ("zebra2horse", 2)):
        torch.save(reference_state(SMALL, seed=seed), tmp_path / f"{name}.pth")
    files = [tmp_path / "horse2zebra.pth", tmp_path / "zebra2horse.pth"]
    imported = import_reference(*files, out=tmp_path / "model")
    assert [imported.networks[name][0] for name in ("a2b", "b2a")] == files
    assert read_discriminators(imported.path) == {}


def test_a_single_generator_is_a_model_of_one_direction(tmp_path):
    torch.save(reference_state(SMALL), tmp_path / "200_net_G_B.pth")
    import_reference(tmp_path / "200_net_G_B.pth", out=tmp_path / "model")
    Translator.load(tmp_path / "model", direction="b2a")
    with pytest.raises(InputError, match="only the direction b2a; pass that, not a2b"):
        Translator.load(tmp_path / "model")
    with pytest.raises(InputError, match="no averaged weights"):
        Translator.load(tmp_path / "model", direction="b2a", weights="average")
    torch.save(reference_state(SMALL), tmp_path / "style_monet.pth")
    import_reference(tmp_path / "style_monet.pth", out=tmp_path / "other", direction="b2a")
    assert read_info(tmp_path / "other").directions == ("b2a",)


def test_a_discriminator_that_does_not_fit_is_left_out_and_reported(tmp_path):
    folder = write_folder(tmp_path / "run", SMALL)
    torch.save(reference_state(SMALL, (6,)), folder / "latest_net_D_A.pth")  # of a conditional model
    torch.save({"mlp_0.0.weight": torch.ones(2, 2)}, folder / "latest_net_F.pth")
    imported = import_reference(folder, out=tmp_path / "model")
    assert set(imported.networks) == {"a2b", "b2a", "discriminator_a"}
    assert len(imported.notes) == 2
    assert any("latest_net_D_A.pth is left out" in note and "6 channels" in note for note in imported.notes)
    assert any("latest_net_F.pth" in note for note in imported.notes)


def test_a_discriminator_without_biases_goes_with_generators_of_instance_norm(tmp_path):
    # Early releases of the reference gave the pixel discriminator none.
    config = ModelConfig(**{**TINY_MODEL, "discriminator": "pixel"})
    folder = write_folder(tmp_path / "run", config)
    for role in ("D_A", "D_B"):
        bare = reference_state(config.replace(norm="none"), (3,))
        torch.save(bare, folder / f"latest_net_{role}.pth")
    imported = import_reference(folder, out=tmp_path / "model")
    assert "discriminator_a" in imported.networks
    assert read_info(tmp_path / "model").model.norm == "instance"


def test_a_model_of_one_direction_can_be_scored(folders, tmp_path):
    torch.save(reference_state(SMALL), tmp_path / "latest_net_G_B.pth")
    model = import_reference(tmp_path / "latest_net_G_B.pth", out=tmp_path / "model").path
    scores = evaluate(model, *folders, num_bootstrap=100, device="cpu", quiet=True)
    assert set(scores.directions) == {"b2a"}
    assert "kid" in scores.directions["b2a"].metrics
    assert "cycle" not in scores.directions["b2a"].metrics
    assert any("no way back" in note for note in scores.directions["b2a"].notes)
    page = (model / "report.html").read_text()
    assert "B to A" in page
    assert "0 steps" not in page
    assert "step 0" not in page


@pytest.mark.skipif(os.name == "nt", reason="other permissions")
def test_others_may_read_a_model_as_they_may_read_its_folder(tmp_path):
    torch.save(reference_state(SMALL), tmp_path / "g.pth")
    model = import_reference(tmp_path / "g.pth", out=tmp_path / "model").path
    assert {path.stat().st_mode & 0o777 for path in model.iterdir()} == {model.stat().st_mode & 0o666}


# ---- written, and back


@pytest.mark.parametrize("name", ["generator_resnet9", "generator_resnet6_dropout", "generator_unet128"])
def test_a_generator_of_the_reference_comes_out_as_it_went_in(name, tmp_path):
    weights, _, _ = golden(name)
    torch.save(weights, tmp_path / "latest_net_G_A.pth")
    import_reference(tmp_path / "latest_net_G_A.pth", out=tmp_path / "model")
    exported = export_model(tmp_path / "model", tmp_path / "back", format="reference")
    assert [path.name for path in exported.files] == ["latest_net_G_A.pth"]
    back = torch.load(exported.files[0], weights_only=True)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], weights[key]) for key in weights)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_a_folder_comes_out_as_it_went_in(norm, tmp_path):
    folder = write_folder(tmp_path / "run", ModelConfig(**{**TINY_MODEL, "norm": norm, "dropout": True}))
    import_reference(folder, out=tmp_path / "model")
    exported = export_model(tmp_path / "model", tmp_path / "back", format="reference")
    assert len(exported.files) == 4
    for path in exported.files:
        before, after = (torch.load(place / path.name, weights_only=True) for place in (folder, tmp_path / "back"))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_run_survives_the_way_there_and_back(folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", steps=3, preset="paper", quiet=True, dropout=True, **TINY)
    for source in (run, run / "checkpoints" / "step_0000003"):
        place = tmp_path / source.name
        exported = export_model(source, place / "out", format="reference")
        assert {path.name for path in exported.files} == {f"latest_net_{n}.pth" for n in ("G_A", "G_B", "D_A", "D_B")}
        import_reference(place / "out", out=place / "back")
        for direction in ("a2b", "b2a"):
            one, other = (Translator.load(p, direction=direction).network.state_dict() for p in (run, place / "back"))
            assert all(torch.equal(one[key], other[key]) for key in one)
        one, other = read_discriminators(run / "model"), read_discriminators(place / "back")
        assert all(torch.equal(one[d][key], other[d][key]) for d in "ab" for key in one[d])
    assert any("--netG resnet_1blocks --ngf 4 --norm instance" in note for note in exported.notes)
    assert any("n_blocks" in note for note in exported.notes)
    assert any("dropout" in note for note in exported.notes)


def test_a_damaged_discriminator_is_not_exported(tmp_path):
    model = import_reference(write_folder(tmp_path / "run", SMALL), out=tmp_path / "model").path
    save_file({"stem.weight": torch.ones(2)}, model / "discriminator_a.safetensors")
    with pytest.raises(InputError, match="discriminator a .* does not match its config.json"):
        export_model(model, tmp_path / "out", format="reference")
    assert not (tmp_path / "out").exists()


def test_an_export_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    model = import_reference(write_folder(tmp_path / "run", SMALL), out=tmp_path / "model").path
    done, save = [], torch.save

    def write(state, path):
        if len(done) == 2:
            raise OSError("No space left on device")
        done.append(path)
        save(state, path)

    monkeypatch.setattr("torch.save", write)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space"):
        export_model(model, tmp_path / "out", format="reference")
    assert len(done) == 2
    assert sorted(tmp_path.iterdir()) == before


def test_using_a_checkpoint_of_the_reference_as_a_model_names_the_import_command(tmp_path):
    folder = write_folder(tmp_path / "my maps", SMALL)
    for path in (folder, folder / "latest_net_G_A.pth"):
        with pytest.raises(InputError, match=f"cyclegan import '{path}' --out "):
            Translator.load(path)


def test_safetensors_whose_header_begins_like_a_tag_are_read(tmp_path):
    for extra in range(0x3C00, 0x3D00, 8):  # lengths of the header that contain the byte of "<"
        save_file({"weight": torch.ones(1)}, tmp_path / "g.safetensors", {"note": "x" * extra})
        assert torch.equal(read_state_dict(tmp_path / "g.safetensors")["weight"], torch.ones(1))


def test_averaged_weights_and_one_direction_can_be_exported(folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", steps=3, preset="paper", quiet=True, **TINY)
    exported = export_model(run, tmp_path / "b2a", format="reference", direction="b2a", weights="average")
    assert [path.name for path in exported.files] == ["latest_net_G_B.pth"]
    state = recognise(read_state_dict(exported.files[0])).weights
    average = Translator.load(run, direction="b2a", weights="average").network.state_dict()
    assert all(torch.equal(state[key], average[key]) for key in state)
    assert not torch.equal(state["stem.weight"], Translator.load(run, direction="b2a").network.stem.weight)


def test_an_export_never_overwrites(folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", steps=1, preset="paper", quiet=True, **TINY)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "latest_net_D_B.pth").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"latest_net_D_B.pth already exists"):
        export_model(run, tmp_path / "theirs", format="reference")
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["latest_net_D_B.pth"]


def test_settings_that_the_reference_lacks_are_refused():
    state = build_generator(ModelConfig(width=4, blocks=1, norm="none"), 3, 3, seed=0).state_dict()
    state["down.0.bias"][0] = 0.5
    with pytest.raises(InputError, match=r"down.0.bias is not zero"):
        to_reference(state, norm="none")


def test_networks_beyond_the_reference_are_not_written_in_its_format(folders, tmp_path):
    settings = {"global_skip": True, "resampling": "smooth", "norm": "layer", "discriminator_norm": "spectral"}
    run = train(*folders, out=tmp_path / "run", steps=1, quiet=True, **TINY, **settings)
    with pytest.raises(
        InputError, match=r"no norm layer and no discriminator_norm spectral and no resampling smooth an"
    ):
        export_model(run, tmp_path / "theirs", format="reference")
    assert not (tmp_path / "theirs").exists()


# ---- refused


def cut_generator():
    """Keys of CUT's default generator, which resamples with fixed filters."""
    return {**reference_state(SMALL), "model.6.filt": torch.ones(128, 1, 3, 3)}


def variant(**changes):
    return {**reference_state(SMALL), **changes}


def without(key):
    return {name: tensor for name, tensor in reference_state(SMALL).items() if name != key}


@pytest.mark.parametrize(
    ("state", "reason"),
    {
        "CUT": (cut_generator, "anti-aliasing filters"),
        "CUT's projection head": (lambda: {"mlp_0.0.weight": torch.ones(2, 2)}, "projection head of CUT"),
        "spectral norm": (lambda: variant(**{"model.1.weight_orig": torch.ones(1)}), "spectral norm"),
        "affine instance norm": (lambda: variant(**{"model.2.weight": torch.ones(4)}), "learned scales"),
        "another model": (lambda: {"layer1.0.conv1.weight": torch.ones(4, 3, 3, 3)}, "no entry of a generator"),
        "classifier": (lambda: {"features.0.weight": torch.ones(4, 3, 3, 3)}, "another kind of network"),
        "incomplete": (lambda: without("model.4.bias"), "lacks model.4.bias"),
        "no head": (lambda: without("model.18.weight"), "lacks the convolution head.weight"),
        "another size": (lambda: variant(**{"model.4.weight": torch.ones(9, 4, 3, 3)}), "has the shape"),
        "NaN": (lambda: variant(**{"model.4.bias": torch.full((8,), float("nan"))}), "NaN"),
        "integers": (lambda: variant(**{"model.4.weight": torch.ones(8, 4, 3, 3, dtype=torch.int8)}), "torch.int8"),
        "nothing wide": (lambda: {key: tensor[:0] for key, tensor in reference_state(SMALL).items()}, "represented"),
        "huge": (lambda: variant(**{"model.4.weight": torch.ones(1).expand(10**12)}), "not an ordinary tensor"),
        "sparse": (lambda: variant(**{"model.4.bias": torch.ones(8).to_sparse()}), "not an ordinary tensor"),
        "linear": (lambda: {"weight": torch.ones(2, 2), "bias": torch.ones(2)}, "no entry of a generator"),
    }.values(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_networks_that_cannot_be_represented_are_refused_with_the_reason(state, reason, tmp_path):
    torch.save(state(), tmp_path / "latest_net_G_A.pth")
    with pytest.raises(InputError, match=reason) as error:
        import_reference(tmp_path / "latest_net_G_A.pth", out=tmp_path / "model")
    assert "latest_net_G_A.pth" in str(error.value)
    assert not (tmp_path / "model").exists()


class Payload:
    """Unpickled, it creates a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def hostile(kind, path, target):
    content = {**reference_state(SMALL), "model.19.weight": Payload(target)}
    if kind == "zip":
        torch.save(content, path)
    elif kind == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content["model.19.weight"], protocol=int(kind[-1])))


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle 0", "pickle 2", "pickle 4"])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(kind, tmp_path, capsys, recwarn):
    target, path = tmp_path / "owned", tmp_path / "latest_net_G_A.pth"
    hostile(kind, path, target)
    with pytest.raises(InputError) as error:
        import_reference(path, out=tmp_path / "model")
    assert "\n" not in str(error.value)
    if kind in ("zip", "legacy", "pickle 2"):
        assert "would call posix.mkdir" in str(error.value) or "would call nt.mkdir" in str(error.value)
    with pytest.raises(SystemExit):
        main(["import", str(path), "--out", str(tmp_path / "model")])
    assert "Traceback" not in capsys.readouterr().err
    assert not target.exists()
    assert not (tmp_path / "model").exists()
    assert list(recwarn) == []

    # The payload is live: loading the file as a plain pickle would run it.
    if kind.startswith("pickle"):
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert target.is_dir()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint_is_refused_at_every_length(zipped, tmp_path):
    path = tmp_path / "latest_net_G_A.pth"
    small = {"model.1.weight": torch.ones(1, 1, 2, 2), "model.1.bias": torch.ones(1)}
    torch.save(small, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as error:
            read_state_dict(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_checkpoint_with_a_changed_byte_is_refused(tmp_path):
    path = tmp_path / "latest_net_G_A.pth"
    torch.save(reference_state(SMALL), path)
    whole = bytearray(path.read_bytes())
    place = whole.index(reference_state(SMALL)["model.4.weight"].numpy().tobytes()) + 11
    whole[place] ^= 64
    path.write_bytes(whole)
    assert torch.load(path, weights_only=True)["model.4.weight"].shape  # torch itself does not see it
    with pytest.raises(InputError, match="damaged; download it again"):
        import_reference(path, out=tmp_path / "model")
    for byte in range(0, len(whole), 97):  # wherever it is, it is one sentence or does no harm
        whole[byte] ^= 255
        path.write_bytes(whole)
        with pytest.raises(InputError):
            read_state_dict(path)
        whole[byte] ^= 255


def test_a_checkpoint_without_checksums_is_taken(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(reference_state(SMALL), tmp_path / "g.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    import_reference(tmp_path / "g.pth", out=tmp_path / "model")


def t7():
    version, kind = b"V 1", b"nn.Sequential"
    return struct.pack("<iii", 4, 1, 3) + version + struct.pack("<i", len(kind)) + kind + bytes(64)


def torch_script(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such files are old, and so is the way to make one
        torch.jit.save(torch.jit.trace(torch.nn.Conv2d(3, 3, 1), torch.ones(1, 3, 2, 2)), str(path))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.write_bytes(t7()), "Lua Torch"),
        (lambda path: path.write_text("<!DOCTYPE html><title>404"), "web page"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "LFS"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "HDF5"),
        (torch_script, "TorchScript"),
        (lambda path: torch.save(torch.nn.Conv2d(3, 3, 1), path), "whole network, saved with torch.save"),
        (lambda path: torch.save([1, 2], path), "holds list"),
        (lambda path: torch.save({"epoch": 3, "lr": 0.1}, path), "no state dict of one network"),
        (lambda path: path.write_text("hello"), "damaged, or no PyTorch checkpoint"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), "damaged, or no PyTorch checkpoint"),
    ],
)
def test_files_of_other_kinds_are_named(write, reason, tmp_path):
    path = tmp_path / "horse.pth"
    write(path)
    with pytest.raises(InputError, match=reason) as error:
        import_reference(path, out=tmp_path / "model")
    assert "horse.pth" in str(error.value)


def test_weights_inside_a_training_state_and_in_safetensors_are_found(tmp_path):
    state = reference_state(SMALL)
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {}}, tmp_path / "g.pth")
    save_file(state, tmp_path / "g.safetensors")
    for name in ("g.pth", "g.safetensors"):
        import_reference(tmp_path / name, out=tmp_path / f"{name}_model")
        found = Translator.load(tmp_path / f"{name}_model", device="cpu").network.stem.weight
        assert torch.equal(found, state["model.1.weight"])


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    def write(name, config, channels=(3, 3)):
        torch.save(reference_state(config, channels), tmp_path / name)
        return tmp_path / name

    good, wide = write("good.pth", SMALL), write("wide.pth", SMALL.replace(width=8))
    discriminator, grey = write("discriminator.pth", SMALL, (3,)), write("grey.pth", SMALL, (1, 3))
    named = write("latest_net_D_A.pth", SMALL)
    ours = import_reference(good, out=tmp_path / "ours").path
    right = write("latest_net_G_A.pth", SMALL)
    cases = [
        ((good, wide), {}, "do not belong to one model: .*4 wide.* and .*8 wide"),
        ((good, grey), {}, "do not belong to one model"),
        ((good, good, good), {}, "both for a2b"),
        ((discriminator,), {}, "does not say of which domain"),
        ((named,), {}, "which contradicts its name"),
        ((good,), {"epoch": "3"}, "no folder was given"),
        ((right,), {"direction": "b2a"}, "contradicts the names of these files: latest_net_G_A.pth is a2b"),
        ((good, good), {"direction": "b2a"}, "both for b2a"),
        ((tmp_path / "none.pth",), {}, "There is no file"),
        ((tmp_path,), {"epoch": "9"}, "nothing of epoch 9"),
        ((tmp_path, good), {}, "one folder of checkpoints"),
        ((ours,), {}, "of cyclegan itself; use it as it is"),
    ]
    for paths, options, message in cases:
        with pytest.raises(InputError, match=message):
            import_reference(*paths, out=tmp_path / "model", **options)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        import_reference(good, out=tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").exists()
    with pytest.raises(InputError, match="expected the name of a new folder"):
        import_reference(good, out=".")


@pytest.mark.skipif(os.name == "nt", reason="links want rights there")
def test_a_link_to_an_empty_folder_is_followed(tmp_path):
    torch.save(reference_state(SMALL), tmp_path / "g.pth")
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "disk")
    import_reference(tmp_path / "g.pth", out=tmp_path / "model")
    assert (tmp_path / "model").is_symlink()
    assert (tmp_path / "disk" / "config.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"g.pth", "disk", "model"}


def test_a_model_without_a_direction_is_refused(tmp_path):
    torch.save(reference_state(SMALL), tmp_path / "g.pth")
    config = import_reference(tmp_path / "g.pth", out=tmp_path / "model").path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "directions": []}))
    with pytest.raises(InputError, match="directions"):
        Translator.load(tmp_path / "model")


def test_import_and_export_from_the_command_line(tmp_path, capsys):
    folder = write_folder(tmp_path / "checkpoints" / "maps", SMALL, options={"direction": "BtoA"})
    main(["import", str(folder), "--out", str(tmp_path / "model")])
    shown = capsys.readouterr()
    assert shown.out.strip() == str(tmp_path / "model")
    assert "a2b: latest_net_G_A.pth, ResNet generator, 1 blocks, 4 wide, instance norm, no dropout" in shown.err
    assert "--direction BtoA" in shown.err
    assert f"--init-from {tmp_path / 'model'}" in shown.err
    main(["export", str(tmp_path / "model"), "--format", "reference", "--out", str(tmp_path / "back")])
    assert len(capsys.readouterr().out.splitlines()) == 4
    with pytest.raises(SystemExit):
        main(["import", str(tmp_path / "checkpoints"), "--out", str(tmp_path / "other")])
    assert "Its folders maps do" in capsys.readouterr().err


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("end", [b"", b"\nx\n."])
def test_a_name_without_an_end_is_refused_in_no_time(tmp_path, zipped, end):
    """The message of torch about one of 200 KB takes it half an hour."""
    path = tmp_path / "latest_net_G.pth"
    torch.save(reference_state(SMALL), path, _use_new_zipfile_serialization=zipped)
    bad = b"\x80\x02ctorch._utils\n_rebuild" + bytes(200_000) + end
    if zipped:
        again = tmp_path / "bad.pth"
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(again, "w") as new:
            for entry in old.infolist():
                new.writestr(entry.filename, bad if entry.filename.endswith("data.pkl") else old.read(entry))
        path = again
    else:
        content = path.read_bytes()
        path.write_bytes(content[: content.index(b"ctorch._utils")] + bad[2:])
    started = time.process_time()
    with pytest.raises(InputError, match=r"is cut off, damaged|its pickle is damaged|cannot be read"):
        read_state_dict(path)
    assert time.process_time() - started < 1
