"""Sprites: pictures on a transparent ground, whose hidden colour is white."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cyclegan.cli import main
from cyclegan.config import DataConfig
from cyclegan.data.preprocessing import load_resized
from cyclegan.images.formats import ImageFormat
from pictures import make_translator

INK = (200, 30, 60)


def sprite(path, radius, side=64, ink=INK):
    """A disc with soft edges. Colours are straight, and white where nothing is seen."""
    alpha = Image.new("L", (8 * side, 8 * side))
    middle = 4 * side
    ImageDraw.Draw(alpha).ellipse([middle - 8 * radius] * 2 + [middle + 8 * radius] * 2, fill=255)
    alpha = alpha.resize((side, side), Image.Resampling.BOX)
    rgba = np.full((side, side, 4), 255, np.uint8)
    rgba[..., 3] = alpha
    rgba[rgba[..., 3] > 0, :3] = ink
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(rgba).save(path)
    return path


@pytest.mark.parametrize("load_size", [32, 48, 64, 128])
def test_no_white_bleeds_into_the_training_set(tmp_path, load_size):
    path = sprite(tmp_path / "x.png", 28)
    config = DataConfig(crop_size=load_size, load_size=load_size)
    pixels = load_resized(path, ImageFormat(), config)
    assert np.abs(pixels.values.astype(int) - INK).max() <= 2  # everywhere, since holes are filled from around them
    share = np.pi * 28**2 / 64**2
    assert pixels.valid.mean() == pytest.approx(share, abs=0.04)
    # With transparency as a channel, colours are weighted with it.
    rgba = load_resized(path, ImageFormat(channels=4), config).values
    seen = rgba[..., 3] > 64
    assert np.abs(rgba[seen][:, :3].astype(int) - INK).max() <= 20
    assert rgba[..., 3].mean() / 255 == pytest.approx(share, abs=0.02)
    # On a colour, edges are mixed with it.
    grey = load_resized(path, ImageFormat(background="#808080"), config)
    assert grey.valid is None
    assert grey.values[0, 0].tolist() == [128, 128, 128]
    assert grey.values[..., 0].min() >= 112


def test_sprites_that_are_mostly_transparent_are_refused_in_one_sentence(tmp_path, capsys):
    for name in "ab":
        for index in range(12):
            sprite(tmp_path / name / f"{index}.png", 10, ink=(20 * index, 90, 60 if name == "a" else 120))
    words = ["train", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "run"), "--steps", "1"]
    words += ["--crop-size", "64", "--load-size", "64", "--width", "4", "--blocks", "1", "--device", "cpu"]
    words += ["--discriminator-layers", "1", "--discriminator-width", "4"]
    with pytest.raises(SystemExit):
        main(words)
    shown = capsys.readouterr()
    assert "Left out" not in shown.err + shown.out
    assert "No crop of the 12 images in" in shown.err
    assert "--background-a white" in shown.err
    assert shown.err.count("\n") <= 2
    assert not (tmp_path / "run").exists()
    main([*words, "--background-a", "white", "--background-b", "white"])
    assert (tmp_path / "run" / "model" / "config.json").is_file()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_translator_keeps_the_transparency_of_a_picture(tmp_path, mode):
    with Image.open(sprite(tmp_path / "x.png", 20)) as picture:
        given = picture.quantize(16) if mode == "P" else picture.convert(mode)
    result = make_translator()(given)
    assert result.mode == "RGBA"
    assert np.array_equal(result.getchannel("A"), given.convert("RGBA").getchannel("A"))
