"""What a translator takes in Python: pictures, arrays of the model's type, and paths."""

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, train
from cyclegan.errors import UnreadableError
from cyclegan.images.codecs import write_image
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import from_tensor


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    a, b = make_folder(root / "a"), make_folder(root / "b", seed=1)
    return Translator.load(train(a, b, out=root / "run", quiet=True, **{**TINY, "steps": 2}))


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 256, (14, 18, 3), dtype=np.uint8)


EIGHT_BIT = r"3 x uint8 in \[0, 255\]"


@pytest.mark.parametrize(
    ("change", "name", "remedy"),
    [
        (lambda x: x / 255, "float64", r"pass \(array \* 255\)\.round\(\)\.astype\('uint8'\) if its values are 0 to 1"),
        (lambda x: (x / 255).astype(np.float32), "float32", r"\(array \* 255\)"),
        (lambda x: (x / 127.5 - 1).astype(np.float16), "float16", r"\(\(array \+ 1\) \* 127\.5\)\.round\(\)"),
        (lambda x: x.astype(np.float32), "float32", r"pass array\.round\(\)\.astype\('uint8'\)"),
        (lambda x: x.astype(np.uint16) * 257, "uint16", r"pass \(array / 257\)\.round\(\).*0 to 65535"),
        (lambda x: x.astype(np.int64), "int64", r"pass array\.astype\('uint8'\)"),
        (lambda x: x.astype(np.int64) * 1000, "int64", r"bring its values to this range"),
        (lambda x: x > 100, "bool", r"pass np\.where\(array, 255, 0\)\.astype\('uint8'\)"),
        (lambda x: x.astype(object), "object", "pass an array of numbers"),
        (lambda x: x.astype(complex), "complex128", "pass an array of numbers"),
        (lambda x: np.where(x > 9, np.nan, x), "float64", "fill NaN and infinity"),
    ],
)
@pytest.mark.parametrize("tile", [None, 16])
def test_an_array_of_another_type_is_refused_with_the_conversion(translator, array, change, name, remedy, tile):
    with pytest.raises(InputError, match=rf"of type {name}, and this model takes {EIGHT_BIT}: .*{remedy}"):
        list(translator.translate([change(array)], tile=tile))


def test_the_advised_conversion_gives_the_same_result(translator, array):
    expected = translator(array)
    assert np.array_equal(translator((array / 255 * 255).round().astype("uint8")), expected)
    sixteen = array.astype(np.uint16) * 257
    assert np.array_equal(translator((sixteen / 257).round().astype("uint8")), expected)
    assert np.array_equal(translator(array[::-1].copy()[::-1]), expected)  # of any strides


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_an_error_and_not_an_image(deep_run, value):
    back = Translator.load(deep_run, direction="b2a")
    good = np.ones((20, 20, 5), np.float32)
    bad = good.copy()
    bad[3, 4, 0] = value
    message = r"NaN or infinity; fill these .* \(1 of 2,000 values; this model takes 5 x float32"
    for tile in (None, 16):
        with pytest.raises(InputError, match=message):
            list(back.translate([bad], tile=tile))
        each = list(back.translate_each([good, bad, good], tile=tile))
        assert [isinstance(one, InputError) for one in each] == [False, True, False]
    assert np.array_equal(back(good.astype(">f4")), back(good))
    with pytest.raises(InputError, match=r"of type float64, and this model takes 5 x float32 .*astype\('float32'\)"):
        back(good.astype(np.float64))


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((3, 14, 18), r"array\.transpose\(1, 2, 0\) puts the channels last"),
        ((14, 18), r"np\.stack\(\[array\] \* 3, axis=-1\)"),
        ((14, 18, 4), r"array\[\.\.\., :3\] leaves alpha out"),
        ((2, 14, 18, 3), "pass several images to translator.translate"),
        ((0, 18, 3), "it is empty"),
        ((14,), ""),
        ((), ""),
    ],
)
def test_wrong_shapes_are_refused_with_the_right_one(translator, shape, remedy):
    with pytest.raises(InputError, match=rf"this model takes \(H, W, 3\).*{remedy}"):
        translator(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "None was given; expected a Pillow image, a numpy array"),
        ([[1, 2], [3, 4]], "A list of 2 was given; pass several images to translator.translate"),
        (3, "3 was given; expected a Pillow image"),
        (torch.zeros(1, 3, 8, 8), r"torch tensor of shape \(1, 3, 8, 8\).*translator.translate_tensor"),
        (np.ma.masked_less(np.ones((8, 8, 3), np.uint8), 2), "masked values"),
        (b"x.png", "was given; expected"),
        ("a\0b", "null character"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(translator, value, message):
    with pytest.raises(InputError, match=message):
        translator(value)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1, 16, 20, 3), r"has shape \(1, 16, 20, 3\); expected a torch tensor of floats \(N, 3, H, W\)"),
        (torch.zeros(3, 16, 20), r"has shape \(3, 16, 20\)"),
        (torch.zeros(1, 3, 16, 20, dtype=torch.uint8), r"of type torch.uint8; .*images / 127.5 - 1"),
        (torch.full((1, 3, 16, 20), 200.0), r"values up to 200; .*images / 127.5 - 1"),
        (np.zeros((1, 3, 16, 20), np.float32), "expected a torch tensor"),
    ],
)
def test_tensors_that_are_no_images_in_their_range_are_refused(translator, tensor, message):
    with pytest.raises(InputError, match=message):
        translator.translate_tensor(tensor)


def test_tensors_of_any_float_give_the_same_result(translator):
    images = torch.linspace(-1, 1, 3 * 16 * 20).bfloat16().reshape(1, 3, 16, 20)
    expected = translator.translate_tensor(images.float())
    assert torch.equal(translator.translate_tensor(images), expected)
    assert torch.equal(translator.translate_tensor(images.double()), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1.5}, "batch_size is 1.5; expected a whole number"),
        ({"tile": "auto"}, "tile is 'auto'; expected a"),
    ],
)
def test_options_of_another_type_are_refused(translator, array, options, message):
    with pytest.raises(InputError, match=message):
        list(translator.translate([array], **options))


def test_an_empty_picture_is_refused(translator):
    with pytest.raises(InputError, match="has 0x5 pixels; it is empty"):
        translator(Image.new("RGB", (0, 5)))


def test_one_image_in_the_place_of_several_is_refused_in_one_sentence(translator, array):
    for one in ("x.png", Image.fromarray(array), None, 3):
        with pytest.raises(InputError, match="images is .*pass several, such as a list"):
            list(translator.translate(one))


def test_paths_are_translated_among_other_images(translator, array, tmp_path, monkeypatch):
    Image.fromarray(array).save(tmp_path / "x.png")
    Image.fromarray(array).convert("L").save(tmp_path / "grey.png")
    picture = translator(Image.fromarray(array))
    grey = translator(Image.open(tmp_path / "grey.png"))
    monkeypatch.setenv("HOME", str(tmp_path))
    given = [tmp_path / "x.png", array, str(tmp_path / "grey.png"), Image.fromarray(array), "~/x.png"]
    for options in ({}, {"batch_size": 3}, {"tile": 16}):
        results = list(translator.translate(given, **options))
        kinds = [isinstance(result, Image.Image) for result in results]
        assert kinds == [True, False, True, True, True]
        for result, expected in zip(results, (picture, picture, grey, picture, picture), strict=True):
            difference = np.abs(np.asarray(result).astype(int) - np.asarray(expected))
            assert difference.max() <= 1  # sums in another order may round otherwise


def test_paths_of_deep_files_give_arrays(deep_run, tmp_path):
    array = (np.random.default_rng(0).random((13, 22, 1)) * 3000).astype(np.uint16)
    write_image(tmp_path / "x.tif", array)
    forward = Translator.load(deep_run)
    assert np.array_equal(forward(tmp_path / "x.tif"), forward(array))
    with pytest.raises(InputError, match=r"x\.tif is 1 x uint16, and the model takes .*its other direction"):
        Translator.load(deep_run, direction="b2a")(tmp_path / "x.tif")


def test_paths_that_cannot_be_read_are_named(translator, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"There is no file .*missing\.png"):
        translator(tmp_path / "missing.png")
    with pytest.raises(UnreadableError, match=r"bad\.png cannot be read"):
        translator(tmp_path / "bad.png")
    with pytest.raises(InputError, match="is a folder; translate_folder"):
        translator(tmp_path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_values_of_a_file_are_those_that_float64_gives(dtype, kind):
    image_format = ImageFormat(dtype=dtype, low=3, high=250)
    tensor = (torch.rand(3, 40, 30, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2).to(kind)
    tensor[:, 0] = torch.linspace(-1, 1, 30)
    before = tensor.clone()
    values = from_tensor(tensor, image_format)
    expected = (tensor.double().clamp(-1, 1).add(1).mul(247 / 2).add(3)).numpy().transpose(1, 2, 0)
    expected = np.rint(expected) if image_format.dtype != "float32" else expected
    assert values.dtype == dtype
    assert values.flags.c_contiguous
    assert np.array_equal(values, expected.astype(dtype))
    assert torch.equal(tensor, before)
