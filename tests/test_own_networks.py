"""Networks that a user adds: what is checked, and what is refused. docs/extending.md has the usual ones."""

import pickle

import pytest
import torch
from torch import nn

from cyclegan import InputError, ModelConfig
from cyclegan.config import make_config
from cyclegan.export import export_model
from cyclegan.networks import GENERATORS, Generator, ResnetGenerator, Sizes, build_generator
from cyclegan.networks.layers import Conv2d, norm_layer
from cyclegan.storage.model import load_generator
from cyclegan.translate.tiling.network import why_no_tiles
from cyclegan.translate.tiling.pictures import check_tile
from networks_tester import NORMS, SMALL, is_the_same_in_tiles_or_refuses_them, saved_model


class Naf(Generator):
    """A generator with two options of its own, without features, dropout and a choice of resampling."""

    def __init__(self, in_channels, out_channels, *, width, global_skip, num_blocks: int = 4, expand: int = 2):
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, 1)
        self.settings = (width, global_skip, num_blocks, expand)

    @classmethod
    def sizes(cls, _settings):
        return Sizes(multiple=2, smallest=2)


@pytest.fixture
def registry(monkeypatch):
    """A registry with the generator `naf` that forgets what a test adds."""
    monkeypatch.setitem(GENERATORS, "mine", None)
    del GENERATORS["mine"]
    monkeypatch.setitem(GENERATORS, "naf", Naf)


@pytest.mark.usefixtures("registry")
def test_options_are_checked_by_the_class():
    made = ModelConfig(generator="naf", generator_options={"num_blocks": 3})
    assert made.generator_options == {"num_blocks": 3, "expand": 2}
    assert ModelConfig(generator="naf", generator_options=["num_blocks=3"]) == made  # as on the command line
    for settings, message in (
        ({"generator": "naf", "generator_options": {"blocks": 3}}, "no option 'blocks'; it has num_blocks, expand"),
        ({"generator": "naf", "generator_options": ["num_blocks=many"]}, "num_blocks is 'many': .*integer"),
        ({"generator": "naf", "generator_options": {"num_blocks": "3"}}, "num_blocks is '3': expected a number"),
        ({"generator_options": {"num_blocks": 3}}, "ResnetGenerator has no option 'num_blocks'; it has none"),
        ({"generator": "naf", "dropout": True}, "dropout is True, which a naf generator does not have"),
        ({"generator": "nav"}, r"generator is 'nav': .*'naf' \(did you mean 'naf'\?\)"),
        ({"discriminator": "pach"}, r"discriminator is 'pach': .*\(did you mean 'patch'\?\)"),
    ):
        with pytest.raises(InputError, match=message):
            make_config(settings, preset="paper")


@pytest.mark.usefixtures("registry")
def test_a_preset_leaves_out_what_the_generator_does_not_have():
    model = make_config({"generator": "naf", "contrastive_weight": 0}, preset="modern").model
    assert (model.resampling, model.global_skip) == ("strided", True)
    with pytest.raises(InputError, match="contrastive_weight is 0.5, and a naf generator has no features"):
        make_config({"generator": "naf"}, preset="modern")


@pytest.mark.usefixtures("registry")
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


@pytest.mark.usefixtures("registry")
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


@pytest.mark.usefixtures("registry")
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


@pytest.mark.usefixtures("registry")
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


@pytest.mark.usefixtures("registry")
def test_a_row_that_is_no_generator_is_refused():
    GENERATORS["mine"] = nn.Conv2d
    with pytest.raises(ValueError, match="expected a subclass of cyclegan.networks.Generator"):
        ModelConfig(generator="mine")
    GENERATORS["mine"] = type("Mine", (Generator,), {})
    with pytest.raises(ValueError, match="has no sizes; define it"):
        ModelConfig(generator="mine")


@pytest.mark.usefixtures("registry")
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
