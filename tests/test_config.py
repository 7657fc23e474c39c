import pytest
from pydantic import ValidationError

from cyclegan import DataConfig, InputError, ModelConfig, TrainConfig
from cyclegan.config import (
    CHANGEABLE_ON_RESUME,
    PRESETS,
    FlagText,
    field_sections,
    flat_values,
    make_config,
    read_config_file,
    saved_config,
    to_toml,
)
from cyclegan.networks import GENERATORS


def test_defaults_are_the_recipe_of_the_paper():
    config = make_config(preset="paper")
    assert config == TrainConfig()
    assert (config.learning_rate, config.beta1, config.beta2) == (2e-4, 0.5, 0.999)
    assert (config.cycle_weight_a, config.cycle_weight_b, config.identity_weight) == (10, 10, 0.5)
    assert (config.epochs, config.decay_share, config.batch_size, config.pool_size) == (200, 0.5, 1, 50)
    assert (config.model.blocks, config.model.width, config.data.crop_size) == (9, 64, 256)
    assert config.data.resolved_load_size == 286


def test_a_unet_takes_a_preset_without_the_resampling_of_a_resnet():
    assert make_config({"generator": "unet"}, preset="modern").model.resampling == "strided"
    assert make_config({"blocks": 4}, {"generator": "unet"}, preset="conservative").model.resampling == "strided"
    with pytest.raises(InputError, match="resampling is 'smooth', which a unet generator does not have"):
        make_config({"generator": "unet", "resampling": "smooth"})
    # The last layer decides.
    assert make_config({"generator": "unet"}, {"generator": "resnet"}, preset="modern").model.resampling == "smooth"


def test_norm_pixel_of_earlier_releases_is_norm_layer():
    old = {"norm": "pixel", "discriminator_norm": "pixel", "discriminator": "pixel"}
    model = ModelConfig(**old)
    assert (model.norm, model.discriminator_norm, model.discriminator) == ("layer", "layer", "pixel")
    saved = saved_config({"model": old})
    assert saved.model == model
    assert 'norm = "layer"' in to_toml(saved)
    assert PRESETS["modern"]["norm"] == "layer"


def test_options_of_networks_are_read_back(tmp_path):
    from cyclegan.networks import GENERATORS, ResnetGenerator

    class Mine(ResnetGenerator):
        def __init__(self, in_channels, out_channels, *, name: str = 'a "b"', sizes: tuple[int, ...] = (1, 2)):
            super().__init__(in_channels, out_channels, width=4, blocks=1, norm="instance", dropout=False)
            self.name, self.sizes_of_mine = name, sizes

    GENERATORS["mine"] = Mine
    try:
        config = TrainConfig(model=ModelConfig(generator="mine", generator_options={"sizes": [3]}))
        (tmp_path / "config.toml").write_text(to_toml(config))
        again = saved_config(read_config_file(tmp_path / "config.toml"))
    finally:
        del GENERATORS["mine"]
    assert again == config
    assert again.model.generator_options == {"name": 'a "b"', "sizes": [3]}


def test_later_layers_win_over_the_preset(tmp_path):
    (tmp_path / "my.toml").write_text("batch_size = 3\nwidth = 24\n[data]\ncrop_size = 128\n")
    config = make_config(read_config_file(tmp_path / "my.toml"), {"width": FlagText("32")}, preset="demo")
    assert (config.batch_size, config.model.width, config.data.crop_size) == (3, 32, 128)
    assert config.preset == "demo"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("width", "8", "a number"),
        ("minutes", "3", "a number"),
        ("cycle_weight_a", "1e1", "a number"),
        ("flip", "no", "True or False"),
    ],
)
def test_text_in_the_place_of_a_number_is_refused_in_programs(name, text, expected):
    with pytest.raises(InputError, match=f"{name} is '{text}': expected {expected}, and this is text; leave out"):
        make_config({name: text})
    with pytest.raises(InputError, match=f"{name} is '{text}': expected"):
        make_config(**{name: text})
    words = {"width": 8, "minutes": 3.0, "cycle_weight_a": 10.0, "flip": False}
    assert flat_values(make_config({name: FlagText(text)}))[name] == words[name]


def test_keywords_win_over_every_layer():
    config = make_config({"width": 24, "steps": 9}, {"batch_size": 3}, preset="demo", steps=5, width=32, crop_size=128)
    assert (config.preset, config.steps, config.model.width, config.data.crop_size) == ("demo", 5, 32, 128)
    assert config.batch_size == 3
    with pytest.raises(InputError, match="Did you mean 'batch_size'"):
        make_config(batchsize=2)


def test_a_length_on_a_later_layer_replaces_one_of_another_kind():
    config = make_config({"minutes": 5}, {"steps": 100})
    assert (config.steps, config.epochs, config.minutes) == (100, None, None)


def test_a_length_is_replaced_by_one_of_another_kind_in_a_copy_too():
    assert TrainConfig().replace(steps=5).epochs is None
    assert make_config({"steps": 5}).replace(seed=1).steps == 5


def test_the_last_layer_names_the_preset():
    assert make_config({"preset": "demo"}, {"preset": "paper"}).preset == "paper"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_configuration_does_not_depend_on_later_changes_of_its_preset(preset, tmp_path):
    config = TrainConfig(preset=preset, steps=5)
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert saved_config(read_config_file(tmp_path / "config.toml")) == config


def test_a_configuration_survives_its_file(tmp_path):
    config = make_config(
        {"width": 7, "a": "x y/ü 🌍", "range_a": (0, 4095), "minutes": 1.5, "flip": False}, preset="demo"
    )
    (tmp_path / "config.toml").write_text(to_toml(config), encoding="utf-8")
    assert make_config(read_config_file(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widht": 3}, "Did you mean 'width'"),
        ({"width": "wide"}, "width is 'wide'"),
        ({"batch_size": 0}, "batch_size is 0: .*greater than or equal to 1"),
        ({"generator": "vgg"}, "generator is 'vgg': expected " + " or ".join(map(repr, GENERATORS))),
        ({"steps": 3, "minutes": 3}, "more than once"),
        ({"crop_size": 16}, "crop_size 16 is too small.* at least 24"),
        ({"crop_size": 64, "load_size": 32}, "load_size 32 is smaller than crop_size 64"),
        ({"batch_size": 2, "preprocess": "none"}, "batch_size 2 needs images of one size"),
        ({"adversarial_weight": 0, "cycle_weight": 0}, "nothing would be learned"),
        ({"range_a": (5, 5)}, "range_a is 5"),
        ({"preset": "best"}, "no preset 'best'"),
        ({"minutes": float("inf")}, "finite"),
        ({"model": "resnet"}, "expected a table"),
        ({"adversarial": "wgan-gp", "preprocess": "none"}, "wgan-gp mixes real and fake"),
        ({"adversarial": "wgan-gp", "compile": True}, "compile is on, and adversarial wgan-gp differentiates twice"),
        ({"r1_weight": 1.0, "compile": True}, "compile is on, and r1_weight 1 differentiates twice"),
    ],
)
def test_mistakes_are_reported_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        make_config(settings)


def test_configurations_are_frozen_and_strict():
    with pytest.raises(ValidationError):
        TrainConfig().seed = 3
    with pytest.raises(ValidationError):
        ModelConfig(depht=3)
    with pytest.raises(ValidationError):
        DataConfig().replace(crop_size=0)


def test_names_are_unique_described_and_presets_use_them():
    sections = field_sections()
    assert set(sections) >= CHANGEABLE_ON_RESUME
    for name, section in sections.items():
        assert section.model_fields[name].description, name
    for preset in PRESETS:
        assert make_config(preset=preset).preset == preset
