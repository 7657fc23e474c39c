"""Mistakes in parts that a user adds: each is one clear sentence, and nothing is written or lost."""

import numpy as np
import pytest
import torch
from torch import nn

from conftest import TINY, make_folder
from cyclegan import InputError, ModelConfig, train
from cyclegan.config import make_config
from cyclegan.images.codecs import read_image
from cyclegan.images.file_formats import FILE_FORMATS
from cyclegan.images.formats import FileFormat
from cyclegan.metrics.table import ImageMetric
from cyclegan.networks import GENERATORS, Generator, Sizes, build_generator
from cyclegan.networks.layers import Conv2d
from cyclegan.step import TrainState, train_step
from cyclegan.step.terms import TERMS, Term
from cyclegan.storage.run import list_checkpoints
from cyclegan.training import Ended, StepDone


class Wrong(Generator):
    """A generator whose `forward` is replaced by each case."""

    def __init__(self, in_channels, out_channels, *, width):
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, 1)
        self.width = width

    @classmethod
    def sizes(cls, _settings):
        return Sizes(multiple=1, smallest=1)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, x: self.conv(x)[..., 1:, :], r"returned torch.float32 \(1, 3, 5, 6\) for images of shape"),
        (lambda self, x: self.conv(x)[:, :2], r"returned torch.float32 \(1, 2, 6, 6\).* shape \(1, 3, 6, 6\)"),
        (lambda self, x: self.conv(x).half(), r"returned torch.float16 .*expected a torch.float32 tensor"),
        (lambda self, x: (self.conv(x),), "returned tuple for images of shape"),
        (lambda self, x: self.conv(x) + self.missing, "fails for images of shape .*AttributeError.*missing"),
    ],
)
def test_a_generator_with_a_wrong_output_is_named_before_a_run_begins(folders, tmp_path, monkeypatch, forward, message):
    monkeypatch.setattr(Wrong, "forward", forward)
    GENERATORS["wrong"] = Wrong
    with pytest.raises(InputError, match=f"Wrong {message}"):
        train(*folders, out=tmp_path / "run", preset="paper", quiet=True, **TINY, steps=2, generator="wrong")
    assert not (tmp_path / "run").exists()


def test_an_option_without_a_value_is_called_missing():
    class Needs(Wrong):
        def __init__(self, in_channels, out_channels, *, width, num_blocks: int):
            super().__init__(in_channels, out_channels, width=width)
            self.num_blocks = num_blocks

    GENERATORS["needs"] = Needs
    with pytest.raises(InputError, match="The options of Needs: num_blocks is missing"):
        make_config(preset="paper", generator="needs")


def test_a_convolution_may_keep_the_weights_of_its_constructor():
    class Keeps(Wrong):
        def __init__(self, in_channels, out_channels, *, width):
            super().__init__(in_channels, out_channels, width=width)
            self.conv.keeps_weights = True
            self.other = Conv2d(3, 3, 1)
            nn.init.constant_(self.conv.weight, 0.25)
            nn.init.constant_(self.other.weight, 0.25)

    GENERATORS["keeps"] = Keeps
    network = build_generator(ModelConfig(generator="keeps"), 3, 3, seed=0)
    assert (network.conv.weight == 0.25).all()
    assert (network.other.weight != 0.25).all()


def test_a_term_gets_only_what_its_row_needs():
    TERMS["extra"] = Term(
        name="extra", label="extra", short="ext", weight=lambda _config, _ending: 1.0, loss=lambda t: t.cycled.mean()
    )
    config = make_config(preset="paper", **{**TINY, "steps": 1})
    state = TrainState.create(config)
    images = torch.zeros(1, 3, 16, 16)
    with pytest.raises(LookupError, match=r"reads 'cycled', which its row does not list; add needs=\('cycled',\)"):
        train_step(state, images, images)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"needs": ("cycld",)}, "The loss term extra needs 'cycld'; expected some of: identity, cycled"),
        ({"per": "domain"}, "The loss term extra is per 'domain'; expected one of: direction, round trip"),
    ],
)
def test_a_misspelt_row_of_a_term_is_refused(row, message):
    with pytest.raises(ValueError, match=message):
        Term(name="extra", label="extra", short="ext", weight=lambda *_: 1.0, loss=lambda t: t.fake.mean(), **row)


def test_a_misspelt_picture_of_a_metric_is_refused():
    with pytest.raises(ValueError, match="Mine compares 'inptu'; expected one of: input, output"):
        ImageMetric("Mine", "less", "Of mine.", lambda _a, _b: 0.0, ("output", "inptu"))


def test_a_reader_that_returns_nothing_leaves_its_file_out_and_not_the_others(tmp_path):
    FILE_FORMATS["broken"] = FileFormat(suffixes=(".broken",), read=lambda _path: None)
    a, b = make_folder(tmp_path / "a"), make_folder(tmp_path / "b", seed=1)
    (a / "x.broken").write_bytes(b"anything")
    with pytest.raises(ValueError, match="its reader returned NoneType"):
        read_image(a / "x.broken", 3)
    run = train(a, b, out=tmp_path / "run", preset="paper", quiet=True, **TINY, steps=2)
    assert "x.broken" in (run / "log.jsonl").read_text()


def test_a_suffix_that_no_file_would_match_is_refused():
    with pytest.raises(ValueError, match=r"The suffix '\.FOO' of a file format is not lower case"):
        FileFormat(suffixes=(".FOO",), read=lambda _path: np.zeros((1, 1, 3), np.uint8))


@pytest.mark.parametrize("batches", [[1, 2], iter(())])
def test_batches_without_the_method_are_refused_before_anything_is_written(tmp_path, batches):
    with pytest.raises(InputError, match=r"batches is a \w+; expected an object with a method batch\(step\)"):
        train(batches=batches, out=tmp_path / "run", preset="paper", quiet=True, **TINY, steps=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["image_formats", "sample_images"])
def test_attributes_of_batches_that_are_no_pair_are_refused(tmp_path, name):
    class Source:
        def batch(self, step):
            raise AssertionError(step)

    source = Source()
    setattr(source, name, 3)
    with pytest.raises(InputError, match=f"batches.{name} is .*expected"):
        train(batches=source, out=tmp_path / "run", preset="paper", quiet=True, **TINY, steps=2)


@pytest.mark.parametrize("callbacks", [print, [3]])
def test_callbacks_that_cannot_be_called_are_refused_before_anything_is_written(folders, tmp_path, callbacks):
    with pytest.raises(InputError, match="expected a list of functions of one event"):
        train(*folders, out=tmp_path / "run", preset="paper", quiet=True, **TINY, steps=2, callbacks=callbacks)
    assert not (tmp_path / "run").exists()


def test_a_callback_that_stops_a_run_leaves_a_checkpoint_and_the_page(folders, tmp_path):
    events = []

    def stop(event):
        events.append(event)
        if isinstance(event, StepDone) and event.step == 2:
            with pytest.raises(TypeError):
                event.losses["cycle_a"] = 0.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(*folders, out=tmp_path / "run", preset="paper", quiet=True, **TINY, steps=4, callbacks=[stop])
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["step_0000002"]
    assert (tmp_path / "run" / "report.html").is_file()
    assert isinstance(events[-1], Ended)
    assert events[-1].status == "interrupted"


def test_a_changed_setting_that_the_networks_do_not_read_is_named(folders, tmp_path, capsys):
    settings = {**TINY, "generator": "unet", "depth": 5, "crop_size": 64, "load_size": 64, "blocks": 3}
    train(*folders, out=tmp_path / "run", preset="paper", steps=1, **settings)
    assert "Without effect: blocks 3, which a unet generator" in capsys.readouterr().err.replace("\n", " ")
    assert ModelConfig(generator="unet").settings_without_effect == []
    assert ModelConfig(discriminator="pixel", discriminator_layers=4).settings_without_effect == [
        "discriminator_layers 4"
    ]
