"""The examples of docs/_extending_networks.md are executed as they are printed."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from conftest import TINY, make_folder
from cyclegan import InputError, ModelConfig, Translator, train
from cyclegan.config import make_config, read_config_file, saved_config
from cyclegan.export import export_model
from cyclegan.networks import DISCRIMINATORS, GENERATORS, Generator, ResnetGenerator, Sizes, build_generator
from cyclegan.networks.layers import Conv2d, norm_layer
from cyclegan.storage.model import load_generator
from cyclegan.translate.tiling.network import why_no_tiles
from cyclegan.translate.tiling.pictures import check_tile
from networks_tester import NORMS, SMALL, all_checks, is_the_same_in_tiles_or_refuses_them, saved_model

PAGE = Path(__file__).parents[1] / "docs" / "_extending_networks.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
GENERATOR, USE, FULL, DISCRIMINATOR, USE_DISCRIMINATOR = BLOCKS


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the printed code needs: two folders of images, and registries that forget it."""
    make_folder(tmp_path / "photos", size=(40, 36))
    make_folder(tmp_path / "maps", size=(40, 36), seed=1)
    monkeypatch.chdir(tmp_path)
    for registry in (GENERATORS, DISCRIMINATORS):
        for name in ("naf", "full_naf", "detail", "mine"):
            monkeypatch.setitem(registry, name, None)
            del registry[name]
    return {"Image": Image, "train": train}


def test_examples_have_at_most_thirty_lines():
    for block in BLOCKS:
        code = [line for line in block.splitlines() if line.strip()]
        assert len(code) <= 30


def test_the_generator_is_trained_saved_translates_and_is_exported_as_printed(names, tmp_path):
    pytest.importorskip("onnxscript", reason="the example exports to ONNX")
    exec(GENERATOR + USE, names)
    assert names["picture"].size == (40, 36)
    saved = json.loads((tmp_path / "runs/naf/model/config.json").read_text())["model"]
    assert saved["generator_options"] == {"num_blocks": 2, "expand": 2}  # the default is saved, too
    config = saved_config(read_config_file(tmp_path / "runs/naf/config.toml"))
    assert config.model.generator_options == saved["generator_options"]
    exact, other = (Translator.load(path, direction="a2b") for path in ("runs/naf", "exported"))
    x = torch.rand(1, 3, 37, 33) * 2 - 1
    torch.testing.assert_close(other.translate_tensor(x), exact.translate_tensor(x), atol=1e-4, rtol=0)
    # The same call goes on with the run, and a model of it starts another one.
    again = train("photos/", "maps/", out="runs/naf", crop_size=32, steps=2, **names["settings"])
    assert again.name == "naf"
    train("photos/", "maps/", out="runs/fine", crop_size=32, steps=1, init_from="runs/naf", contrastive_weight=0)


def test_the_full_generator_is_tiled_frozen_and_compared_as_printed(names):
    exec(GENERATOR + FULL, names)
    settings = {**TINY, "steps": 2, "crop_size": 32, "load_size": 36, "generator": "full_naf", "quiet": True}
    train("photos/", "maps/", out="run", **settings)  # with the contrastive loss of the default preset
    train("photos/", "maps/", out="more", init_from="run", freeze="encoder", checkpoint_activations=True, **settings)
    translator = Translator.load("run")
    image = np.random.default_rng(0).integers(0, 256, (71, 90, 3), np.uint8)
    whole, tiled = (next(iter(translator.translate([image], tile=tile))) for tile in (None, 16))
    assert np.abs(whole.astype(int) - tiled).max() <= 1


@pytest.mark.parametrize("kind", ["naf", "full_naf"])
def test_the_printed_generators_pass_the_shared_tester(names, tmp_path, kind):
    exec(GENERATOR + FULL, names)
    for name, check in all_checks(GENERATORS, kind, tmp_path).items():
        if name != "is_exported_to_onnx":  # the first test does that
            check()


def test_the_printed_discriminator_is_trained_and_passes_the_shared_tester(names, tmp_path):
    exec(DISCRIMINATOR, names)
    for check in all_checks(DISCRIMINATORS, "detail", tmp_path).values():
        check()
    exec(USE_DISCRIMINATOR, names)
    saved = json.loads((tmp_path / "runs/detail/model/config.json").read_text())["model"]
    assert saved["discriminator_options"] == {"blur": 5}


# ---- mistakes


def test_options_are_checked_by_the_class(names):
    exec(GENERATOR, names)
    made = ModelConfig(generator="naf", generator_options={"num_blocks": "3"})
    assert made.generator_options == {"num_blocks": 3, "expand": 2}
    assert ModelConfig(generator="naf", generator_options=["num_blocks=3"]) == made  # as on the command line
    for settings, message in (
        ({"generator": "naf", "generator_options": {"blocks": 3}}, "no option 'blocks'; it has num_blocks, expand"),
        ({"generator": "naf", "generator_options": {"num_blocks": "many"}}, "num_blocks is 'many': .*integer"),
        ({"generator_options": {"num_blocks": 3}}, "ResnetGenerator has no option 'num_blocks'; it has none"),
        ({"generator": "naf", "dropout": True}, "dropout is True, which a naf generator does not have"),
        ({"generator": "nav"}, r"generator is 'nav': .*'naf' \(did you mean 'naf'\?\)"),
        ({"discriminator": "pach"}, r"discriminator is 'pach': .*\(did you mean 'patch'\?\)"),
    ):
        with pytest.raises(InputError, match=message):
            make_config(settings, preset="paper")


def test_a_preset_leaves_out_what_the_generator_does_not_have(names):
    exec(GENERATOR, names)
    model = make_config({"generator": "naf", "contrastive_weight": 0}, preset="modern").model
    assert (model.resampling, model.global_skip) == ("strided", True)
    with pytest.raises(InputError, match="contrastive_weight is 0.5, and a naf generator has no features"):
        make_config({"generator": "naf"}, preset="modern")


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("norm", NORMS)
def test_a_local_generator_is_tiled_unless_its_norm_needs_the_whole_image(norm):
    class Mine(Generator):
        tiling = "local"

        def __init__(self, in_channels, out_channels, *, width, norm, reach: int = 15):
            super().__init__()
            self.reach = reach
            down, inner = Conv2d(in_channels, width, 4, 4), Conv2d(width, width, 7, 1, 3)
            up = nn.ConvTranspose2d(width, out_channels, 4, 4)
            self.layers = nn.Sequential(down, inner, norm_layer(norm, width), nn.ReLU(), up)

        @classmethod
        def sizes(cls, _settings):
            return Sizes(multiple=4, smallest=8)

        def forward(self, x):
            return self.layers(x).float().tanh()

    GENERATORS["mine"] = Mine
    config = ModelConfig(**SMALL, generator="mine", norm=norm)
    is_the_same_in_tiles_or_refuses_them(config)
    reason = why_no_tiles(build_generator(config, 3, 3, seed=0))
    assert reason == ("its instance norm needs the whole image" if norm == "instance" else None)
    if reason is None:  # the check sees a reach that is too small
        with pytest.raises(AssertionError):
            is_the_same_in_tiles_or_refuses_them(config.replace(generator_options={"reach": 8}))


@pytest.mark.usefixtures("names")
def test_parameters_that_are_no_convolutions_keep_the_values_of_the_constructor(tmp_path):
    class Mine(Generator):
        def __init__(self, in_channels, out_channels):
            super().__init__()
            self.conv = Conv2d(in_channels, out_channels, 1)
            self.scale = nn.Parameter(torch.full((1, out_channels, 1, 1), 0.5))
            self.draw = nn.Parameter(torch.randn(out_channels))
            self.grid = torch.linspace(0, 1, 2)

        @classmethod
        def sizes(cls, _settings):
            return Sizes(1, 1)

        def forward(self, x):
            return (self.conv(x).float() * self.scale + self.draw.sum() + self.grid.sum()).tanh()

    GENERATORS["mine"] = Mine
    config = ModelConfig(generator="mine")
    first, again, other = (build_generator(config, 3, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.scale, torch.full((1, 3, 1, 1), 0.5))
    assert torch.equal(first.grid, torch.tensor([0.0, 1.0]))
    assert torch.equal(first.draw, again.draw)
    assert not torch.equal(first.draw, other.draw)
    x = torch.rand(1, 3, 8, 8) * 2 - 1
    loaded, _ = load_generator(saved_model(tmp_path / "model", config, first), "a2b")
    assert torch.equal(loaded(x), first(x))


@pytest.mark.usefixtures("names")
def test_sizes_are_known_where_the_class_is_not():
    class Mine(ResnetGenerator):
        @classmethod
        def sizes(cls, _settings):
            return Sizes(multiple=12, smallest=24)

    GENERATORS["mine"] = Mine
    kept = pickle.dumps(ModelConfig(generator="mine"))
    del GENERATORS["mine"]  # as in a process that loads images
    config = pickle.loads(kept)
    assert (config.multiple, config.smallest_side, config.smallest_crop) == (12, 24, 24)


@pytest.mark.usefixtures("names")
def test_a_subclass_says_again_how_it_is_tiled_and_is_not_of_the_reference(tmp_path):
    class Mine(ResnetGenerator):
        """With other blocks, perhaps."""

    GENERATORS["mine"] = Mine
    config = ModelConfig(**SMALL, generator="mine")
    with pytest.raises(InputError, match="A Mine cannot be run in tiles, because its class declares no way"):
        check_tile(64, build_generator(config, 3, 3, seed=0))
    model = saved_model(tmp_path / "model", config, build_generator(config, 3, 3, seed=0))
    with pytest.raises(InputError, match="reference have no generator mine"):
        export_model(model, tmp_path / "out", format="reference")
    assert config.generator_summary == "mine, 2 residual blocks, width 4"


@pytest.mark.usefixtures("names")
def test_a_row_that_is_no_generator_is_refused():
    GENERATORS["mine"] = nn.Conv2d
    with pytest.raises(ValueError, match="expected a subclass of cyclegan.networks.Generator"):
        ModelConfig(generator="mine")
    GENERATORS["mine"] = type("Mine", (Generator,), {})
    with pytest.raises(ValueError, match="has no sizes; define it"):
        ModelConfig(generator="mine")


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("layer", "message"),
    [(nn.BatchNorm2d(4), "batch norm, and norm is 'instance'"), (nn.Dropout(0.3), "dropout is off")],
)
def test_layers_that_the_training_step_must_know_of_need_their_setting(layer, message):
    class Mine(Generator):
        def __init__(self, in_channels, out_channels):
            super().__init__()
            self.layers = nn.Sequential(Conv2d(in_channels, 4, 1), layer, Conv2d(4, out_channels, 1))

        @classmethod
        def sizes(cls, _settings):
            return Sizes(1, 1)

        def forward(self, x):
            return self.layers(x).float().tanh()

    GENERATORS["mine"] = Mine
    with pytest.raises(InputError, match=message):
        build_generator(ModelConfig(generator="mine"), 3, 3, seed=0)
