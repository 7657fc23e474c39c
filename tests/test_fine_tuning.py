"""Training that starts from a model: --init-from and --freeze."""

import shutil

import numpy as np
import pytest
import torch
from test_recording import StandIn

from conftest import TINY, TINY_MODEL, make_folder
from cyclegan import InputError, ModelConfig, TrainConfig, Translator, train
from cyclegan.config import DataConfig, make_config
from cyclegan.images.codecs import write_image
from cyclegan.networks import build_discriminator, freeze, train_mode
from cyclegan.reference.importing import import_reference
from cyclegan.step import TrainState, train_step
from cyclegan.step.cuda_graphs import graph_step
from cyclegan.storage.model import find_model, read_discriminators, read_info, read_weights
from cyclegan.storage.run import read_run_config
from cyclegan.training.fine_tuning import check_formats, settings_of_start, start_from
from make_reference import reference_state, write_folder

pytestmark = pytest.mark.usefixtures("without_pages")

# Without the architecture, which comes from the model.
PLAIN = {name: value for name, value in TINY.items() if name not in TINY_MODEL}


def networks(path):
    """Every tensor of a model's networks."""
    tensors = {}
    for direction in ("a2b", "b2a"):
        kept = read_weights(find_model(path), direction, "final")
        tensors |= {f"{direction}.{key}": tensor for key, tensor in kept.items()}
    model = path / "model" if (path / "model").is_dir() else path
    for domain, state in read_discriminators(model).items():
        tensors |= {f"discriminator_{domain}.{key}": tensor for key, tensor in state.items()}
    return tensors


def architecture_of(path, out):
    """What a run takes over from a model, but for its preset."""
    return ModelConfig(**{name: value for name, value in settings_of_start(path, out).items() if name != "preset"})


def tensors_of(state):
    found = {}
    for name, owner in (("", state.generator), ("discriminator_", state.discriminator)):
        found |= {f"{name}{key}": tensor.clone() for key, tensor in owner.state_dict().items()}
    return found


@pytest.fixture
def model(folders, tmp_path):
    return train(*folders, out=tmp_path / "before", steps=3, seed=5, quiet=True, **TINY)


@pytest.fixture
def imported(tmp_path):
    folder = write_folder(tmp_path / "checkpoints" / "x", ModelConfig(**{**TINY_MODEL, "width": 6, "blocks": 2}))
    return import_reference(folder, out=tmp_path / "imported").path


@pytest.mark.parametrize("kind", ["run", "checkpoint", "imported"])
def test_all_networks_start_where_the_model_ended(kind, model, imported, tmp_path):
    path = {"run": model, "checkpoint": model / "checkpoints" / "step_0000003", "imported": imported}[kind]
    state = TrainState.create(TrainConfig(model=architecture_of(path, tmp_path), init_from=path, seed=1))
    assert start_from(state, path) == []
    expected, found = networks(path), tensors_of(state)
    assert len(expected) == len(found)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    average = state.average.state_dict()
    assert all(torch.equal(average[key], found[key]) for key in average)


def test_a_run_takes_its_architecture_from_the_model_and_learns_on(imported, folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", init_from=imported, steps=2, quiet=True, **PLAIN)
    config = read_info(run / "model").model
    assert (config.width, config.blocks, config.discriminator_width) == (6, 2, 4)
    before, after = networks(imported), networks(run)
    assert before.keys() == after.keys()
    changes = {key: (after[key] - before[key]).abs().max().item() for key in before}
    assert changes["a2b.head.weight"] > 0
    assert changes["discriminator_b.head.weight"] > 0
    assert max(changes.values()) < 10 * 2e-4  # two steps of Adam away, not elsewhere


@pytest.mark.parametrize("preset", ["paper", "modern", "conservative"])
def test_training_goes_on_with_the_preset_of_the_models_run(preset, folders, tmp_path):
    before = train(*folders, out=tmp_path / "before", preset=preset, steps=1, quiet=True, **TINY)
    settings = {"out": tmp_path / "after", "init_from": before, "steps": 1, "quiet": True, **PLAIN}
    run = read_run_config(train(*folders, **settings))
    assert run.preset == preset
    assert run.cycle_weight_a == make_config(preset=preset).cycle_weight_a
    train(*folders, **settings)  # the same command again is of the same run
    with pytest.raises(InputError, match=f"pass --preset {preset}, with which it began"):
        train(*folders, preset="modern" if preset != "modern" else "paper", **settings)


def test_an_imported_model_is_trained_further_with_the_losses_of_the_paper(imported, tmp_path):
    assert settings_of_start(imported, tmp_path)["preset"] == "paper"


def test_settings_that_contradict_the_model_are_refused(imported, folders, tmp_path):
    with pytest.raises(InputError, match=r"another architecture .*width 6 -> 4"):
        train(*folders, out=tmp_path / "run", init_from=imported, steps=1, quiet=True, **PLAIN, width=4)
    with pytest.raises(InputError, match="no such run"):
        train(*folders, out=tmp_path / "run", init_from="no such run", steps=1, quiet=True, **PLAIN)
    with pytest.raises(InputError, match=r"freeze is 'encoder'.*init_from"):
        train(*folders, out=tmp_path / "run", freeze="encoder", steps=1, quiet=True, **TINY)


def test_parts_that_the_model_lacks_start_from_scratch_with_a_message(folders, tmp_path, capsys):
    torch.save(reference_state(ModelConfig(**TINY_MODEL)), tmp_path / "horse2zebra.pth")
    single = import_reference(tmp_path / "horse2zebra.pth", out=tmp_path / "single").path
    train(*folders, out=tmp_path / "run", init_from=single, steps=1, **PLAIN, discriminator_layers=1)
    shown = capsys.readouterr().err
    assert "no generator b2a" in shown
    assert "no discriminator a" in shown
    assert "no discriminator b" in shown
    assert "Networks start from" in shown


@pytest.mark.parametrize("freeze", ["encoder", "discriminator", "both"])
def test_random_weights_are_never_frozen(freeze, imported, folders, tmp_path):
    torch.save(reference_state(ModelConfig(**TINY_MODEL)), tmp_path / "horse2zebra.pth")
    single = import_reference(tmp_path / "horse2zebra.pth", out=tmp_path / "single").path
    settings = {**PLAIN, "steps": 1, "freeze": freeze, "quiet": True}
    with pytest.raises(InputError, match="has no .* would keep random weights"):
        train(*folders, out=tmp_path / "run", init_from=single, discriminator_layers=1, **settings)
    if freeze != "encoder":
        with pytest.raises(InputError, match="another architecture .* would keep random weights"):
            train(*folders, out=tmp_path / "run", init_from=imported, discriminator_width=5, **settings)


def test_a_run_that_translates_with_averages_is_started_from_with_them(folders, tmp_path):
    before = train(*folders, out=tmp_path / "before", steps=4, quiet=True, translate_with="average", **TINY)
    state = TrainState.create(TrainConfig(model=architecture_of(before, tmp_path), init_from=before))
    start_from(state, before)
    weights = {name: Translator.load(before, weights=name).network.stem.weight for name in ("average", "final")}
    assert not torch.equal(weights["average"], weights["final"])
    assert torch.equal(state.generator.a2b.stem.weight, weights["average"])


def test_a_run_that_went_on_is_started_from_where_it_is_now(folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", steps=2, quiet=True, **TINY)
    kept = shutil.copytree(run / "model", tmp_path / "kept")
    train(*folders, out=run, steps=4, resume=True, quiet=True, **TINY)
    # As if it had been stopped at step 4 of more: the model directory is that of step 2.
    shutil.rmtree(run / "model")
    kept.rename(run / "model")
    shutil.rmtree(run / "checkpoints" / "step_0000002")
    assert find_model(run) == run / "checkpoints" / "step_0000004" / "model"
    state = TrainState.create(TrainConfig(model=architecture_of(run, tmp_path), init_from=run))
    assert start_from(state, run) == []
    # Discriminators of another step are not those of the model.
    assert read_discriminators(run / "model") == {}


def test_a_model_keeps_the_record_of_where_it_came_from(imported, folders, tmp_path):
    settings = {**PLAIN, "init_from": imported, "quiet": True}
    for steps in (1, 2):
        run = train(*folders, out=tmp_path / "run", steps=steps, resume=steps == 2, **settings)
    origin = read_info(run / "model").origin
    assert origin.startswith(
        "trained further from imported, imported from the reference implementation: latest_net_G_A"
    )
    again = train(*folders, out=tmp_path / "again", steps=1, **{**settings, "init_from": run})
    assert read_info(again / "model").origin == f"trained further from run, {origin}"
    with pytest.raises(InputError, match="init_from"):
        train(*folders, out=tmp_path / "run", steps=3, resume=True, **{**settings, "init_from": again})


def test_a_fresh_run_may_start_from_the_one_that_it_moves_aside(folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", steps=2, quiet=True, **TINY)
    with pytest.raises(InputError, match="another architecture"):
        train(*folders, out=run, init_from=run, fresh=True, steps=1, quiet=True, **PLAIN, width=9)
    assert read_info(run / "model").step == 2  # nothing was moved
    train(*folders, out=run, init_from=run, fresh=True, steps=1, quiet=True, **PLAIN)
    assert (tmp_path / "run.old1" / "model").is_dir()


def test_the_model_may_be_gone_also_where_the_run_is_in_its_usual_place(imported, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(*folders, init_from=imported, steps=1, quiet=True, **PLAIN)
    shutil.move(imported, tmp_path / "gone")
    train(*folders, init_from=imported, steps=1, quiet=True, **PLAIN)


def test_discriminators_of_another_kind_start_from_scratch(imported, tmp_path):
    model = architecture_of(imported, tmp_path).replace(discriminator_layers=2)
    state = TrainState.create(TrainConfig(model=model, init_from=imported))
    fresh = tensors_of(state)
    notes = start_from(state, imported)
    assert len(notes) == 1
    assert "discriminators" in notes[0]
    after = tensors_of(state)
    assert torch.equal(after["discriminator_a.head.weight"], fresh["discriminator_a.head.weight"])
    assert not torch.equal(after["a2b.head.weight"], fresh["a2b.head.weight"])


@pytest.mark.parametrize("freeze", ["none", "encoder", "discriminator", "both"])
@pytest.mark.parametrize("kind", ["resnet", "unet", "pixel"])
def test_frozen_layers_stay_and_all_others_move(kind, freeze, tmp_path):
    settings = {
        "resnet": {"width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 2},
        "unet": {"generator": "unet", "width": 2, "depth": 5, "discriminator_width": 4, "discriminator_layers": 3},
        "pixel": {"width": 4, "blocks": 1, "discriminator": "pixel", "discriminator_width": 4},
    }[kind]
    config = TrainConfig(model=ModelConfig(**settings), freeze=freeze, init_from=tmp_path, learning_rate=0.01)
    state = TrainState.create(config)
    before = tensors_of(state)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, 3, 64, 64, generator=generator) * 2 - 1
    train_step(state, images[0], images[1])
    after = tensors_of(state)
    still = {key for key in before if torch.equal(before[key], after[key])}

    frozen = {"encoder": ("a2b.stem", "a2b.down", "b2a.stem", "b2a.down")}
    frozen["discriminator"] = {
        "resnet": (
            "discriminator_a.stem",
            "discriminator_a.convs.0",
            "discriminator_b.stem",
            "discriminator_b.convs.0",
        ),
        "unet": tuple(f"discriminator_{d}.{name}" for d in "ab" for name in ("stem", "convs.0", "convs.1")),
        "pixel": ("discriminator_a.stem", "discriminator_b.stem"),
    }[kind]
    frozen |= {"none": (), "both": frozen["encoder"] + frozen["discriminator"]}
    expected = {key for key in before if key.startswith(frozen[freeze])}
    # Biases before instance norms have no effect and are never trained.
    plain = TrainState.create(config.replace(freeze="none"))
    for name, owner in (("", plain.generator), ("discriminator_", plain.discriminator)):
        expected |= {f"{name}{key}" for key, value in owner.named_parameters() if not value.requires_grad}
    assert still == expected


def test_frozen_batch_norms_keep_their_statistics_too(tmp_path):
    settings = {**TINY_MODEL, "discriminator_layers": 2, "norm": "batch"}
    config = TrainConfig(model=ModelConfig(**settings), freeze="both", init_from=tmp_path)
    state = TrainState.create(config)
    before = tensors_of(state)
    images = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    train_step(state, images[0], images[1])
    after = tensors_of(state)
    frozen = ("a2b.stem", "a2b.down", "b2a.stem", "b2a.down", "discriminator_a.stem", "discriminator_a.norms.0")
    for key in before:
        if key.startswith(frozen):
            assert torch.equal(before[key], after[key]), key
    for moved in ("a2b.up_norm.0.running_mean", "discriminator_a.norms.1.running_mean"):
        assert not torch.equal(before[moved], after[moved])


def frozen_names(network):
    """Keys of the state of a network's early layers."""
    layers = {id(layer) for part in network.early_layers() for layer in part.modules()}
    names = [name for name, module in network.named_modules() if id(module) in layers]
    return {key for key in network.state_dict() if key.startswith(tuple(f"{name}." for name in names))}


def early_results(network, image):
    """What the frozen layers compute as they are called in a step."""
    parts = [layer for part in network.early_layers() for layer in part.modules()]
    results = []
    hooks = [part.register_forward_hook(lambda *call: results.append(call[2].clone())) for part in parts]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    return results


def freezing(freeze, norm, discriminator_norm, path, **settings):
    model = ModelConfig(
        **{"width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 2},
        **{"norm": norm, "discriminator_norm": discriminator_norm},
    )
    data = DataConfig(crop_size=32)
    return TrainConfig(
        model=model, data=data, freeze=freeze, init_from=path, learning_rate=0.01, steps=10, batch_size=2, **settings
    )


BATCHES = 2 * torch.rand(6, 2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 1


@pytest.mark.parametrize("freeze", ["encoder", "discriminator", "both"])
@pytest.mark.parametrize("norm", ["instance", "batch", "layer"])
@pytest.mark.parametrize("discriminator_norm", ["instance", "batch", "layer", "spectral", "none"])
def test_frozen_layers_keep_their_buffers_and_what_they_compute(freeze, norm, discriminator_norm, tmp_path):
    if discriminator_norm == "batch" and norm != "batch":
        pytest.skip("batch norm is for all networks or none")
    state = TrainState.create(freezing(freeze, norm, discriminator_norm, tmp_path))
    parts = [state.generator.a2b, state.generator.b2a] if freeze in ("encoder", "both") else []
    averages = [state.average.a2b, state.average.b2a] if parts else []
    parts += [state.discriminator.a, state.discriminator.b] if freeze in ("discriminator", "both") else []
    for network in (state.generator, state.discriminator):
        train_mode(network)
    before = [{key: value.clone() for key, value in part.state_dict().items()} for part in (*parts, *averages)]
    expected = [early_results(part, BATCHES[0, 0]) for part in parts]
    for real_a, real_b in BATCHES[:3]:
        train_step(state, real_a, real_b)
    for part, old in zip((*parts, *averages), before, strict=True):
        names = frozen_names(part)
        assert names
        for name in names:
            assert torch.equal(part.state_dict()[name], old[name]), name
        assert any(not torch.equal(value, old[name]) for name, value in part.state_dict().items())
    for part, old in zip(parts, expected, strict=True):
        new = early_results(part, BATCHES[0, 0])
        assert len(new) == len(old) > 0
        assert all(torch.equal(one, other) for one, other in zip(new, old, strict=True))


@pytest.mark.parametrize("norm", ["torch", "old"])
def test_a_spectral_norm_of_torch_in_a_frozen_layer_keeps_its_estimates(norm):
    wrap = torch.nn.utils.parametrizations.spectral_norm if norm == "torch" else torch.nn.utils.spectral_norm
    network = build_discriminator(ModelConfig(**{**TINY_MODEL, "discriminator_layers": 2}), 3, seed=0)
    network.stem = wrap(torch.nn.Conv2d(3, 4, 4, 2, 1))
    freeze(network)
    train_mode(network)
    before = early_results(network, BATCHES[0, 0])
    for image in BATCHES[1]:
        network(image)
    assert all(torch.equal(*pair) for pair in zip(before, early_results(network, BATCHES[0, 0]), strict=True))


@pytest.mark.parametrize(
    ("precision", "norm", "discriminator_norm"),
    [("fp32", "instance", "spectral"), ("bf16", "instance", "spectral"), ("bf16", "layer", "none")],
)
@pytest.mark.parametrize("way", ["recomputed", "two threads", "recorded"])
def test_every_way_to_execute_a_step_freezes_the_same(way, precision, norm, discriminator_norm, tmp_path, monkeypatch):
    config = freezing("both", norm, discriminator_norm, tmp_path, precision=precision)
    plain = TrainState.create(config)
    other = TrainState.create(config.replace(checkpoint_activations=way == "recomputed"))
    step = graph_step(StandIn()) if way == "recorded" else train_step
    for real_a, real_b in BATCHES:
        train_step(plain, real_a, real_b)
    if way == "two threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # of which each direction has one
    for real_a, real_b in BATCHES:
        step(other, real_a, real_b)
    assert other.execution.two_threads.side_by_side
    one, two = tensors_of(plain), tensors_of(other)
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_a_resumed_fine_tuning_equals_an_uninterrupted_one_even_without_its_model(imported, folders, tmp_path):
    settings = {**PLAIN, "init_from": imported, "freeze": "both", "quiet": True, "schedule": "constant"}
    whole = train(*folders, out=tmp_path / "whole", steps=4, **settings)
    train(*folders, out=tmp_path / "parts", steps=2, **settings)
    shutil.move(imported, tmp_path / "gone")
    parts = train(*folders, out=tmp_path / "parts", steps=4, resume=True, **settings)
    one, other = networks(whole), networks(parts)
    assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(InputError, match="freeze both -> none"):
        train(*folders, out=tmp_path / "parts", steps=6, resume=True, **{**settings, "freeze": "none"})


def test_deep_images_keep_the_value_range_of_the_model(folders, tmp_path):
    for name, high in (("first", 4000), ("second", 900)):
        for index in range(4):
            pixels = np.linspace(10 * index, high, 24 * 20).reshape(20, 24, 1).astype(np.uint16)
            write_image(tmp_path / name / f"{index}.png", pixels)
    a, _ = folders
    deep = {"channels_b": 1, "steps": 1, "quiet": True}
    before = train(a, tmp_path / "first", out=tmp_path / "before", **TINY, **deep)
    after = train(a, tmp_path / "second", out=tmp_path / "after", init_from=before, steps=1, quiet=True, **PLAIN)
    assert read_info(after / "model").b == read_info(before / "model").b
    assert read_info(after / "model").b.high == 4000

    grey = make_folder(tmp_path / "grey", seed=9)
    with pytest.raises(InputError, match=r"domain B are uint8; .*uint16 in \[0, 4000\].*--range-b"):
        train(a, grey, out=tmp_path / "other", init_from=before, steps=1, quiet=True, **PLAIN)

    other = train(a, grey, out=tmp_path / "other", init_from=before, steps=1, quiet=True, range_b=(0, 255), **{**PLAIN})
    assert read_info(other / "model").b.high == 255
    notes = check_formats(before, read_info(other / "model").a, read_info(other / "model").b)
    assert len(notes) == 1
    assert "Domain B is" in notes[0]


def test_files_are_read_as_for_the_model_unless_told_otherwise(folders, tmp_path, capfd):
    for index in range(4):
        values = np.random.default_rng(index).integers(10, 4000, (20, 24, 4)).astype(np.uint16)
        values[:8, :8] = 9
        write_image(tmp_path / "bands" / f"{index}.tif", values)
    a, _ = folders
    reading = {"bands_b": "4,2", "channels_b": 2, "nodata_b": 9}
    before = train(a, tmp_path / "bands", out=tmp_path / "before", steps=1, **TINY, **reading)
    assert read_info(before / "model").b.low >= 10

    again = {"init_from": before, "steps": 1, **PLAIN}
    capfd.readouterr()
    after = train(a, tmp_path / "bands", out=tmp_path / "after", **again)
    assert "files are read with bands_b 4,2, nodata_b 9" in capfd.readouterr().err
    assert read_info(after / "model").b == read_info(before / "model").b
    other = train(a, tmp_path / "bands", out=tmp_path / "other", bands_b="1,3", nodata_b="none", quiet=True, **again)
    assert (read_info(other / "model").b.bands, read_info(other / "model").b.nodata) == ("1,3", "none")

    # Also where the model is gone.
    shutil.rmtree(before)
    train(a, tmp_path / "bands", out=tmp_path / "after", quiet=True, **again)


def test_a_run_continues_what_another_process_trained_meanwhile(imported, folders, tmp_path, monkeypatch):
    settings = {**PLAIN, "init_from": imported, "steps": 2, "quiet": True}
    run = tmp_path / "run"

    def start_late(state, path):
        monkeypatch.undo()
        train(*folders, out=run, **settings)  # the same command, faster
        return start_from(state, path)

    monkeypatch.setattr("cyclegan.training.setup.start_from", start_late)
    train(*folders, out=run, **settings)
    sessions = [line for line in (run / "log.jsonl").read_text().splitlines() if '"session"' in line]
    assert len(sessions) == 1
