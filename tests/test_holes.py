"""Images with holes: what stands in them is in no range, batch, loss, score or statistic."""

import json
from contextlib import closing

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from PIL import Image

from conftest import TINY, TINY_MODEL
from cyclegan import evaluate, train
from cyclegan.config import DataConfig, ModelConfig, Reading, make_config
from cyclegan.data.dataset import UnpairedDataset
from cyclegan.data.image_folder import scan_folder
from cyclegan.data.loader import batches
from cyclegan.data.preprocessing import LEAST_VALID, augment, load_resized, load_sample
from cyclegan.data.splits import SampleImages, ValidationImages
from cyclegan.errors import InputError
from cyclegan.images.codecs import load_raster
from cyclegan.images.drawing import mark_holes
from cyclegan.images.file_list import list_files
from cyclegan.images.filetypes.tiff_regions import TiffReader
from cyclegan.images.formats import ImageFormat
from cyclegan.images.regions import Box
from cyclegan.images.resizing import resize_mask
from cyclegan.inspection import inspect_folders
from cyclegan.metrics import functions
from cyclegan.metrics.table import METRICS, ImageMetric, measure_image
from cyclegan.step.state import Generators
from cyclegan.storage.run import read_run_config
from cyclegan.training.samples import translate_samples
from cyclegan.training.validation import Validation

LOWEST, HIGHEST = 100.0, 855.0


def heights(seed, size=40):
    """A hill of known extremes, (size, size)."""
    y, x = np.mgrid[:size, :size] / size
    hill = np.sin(3 * x + seed) * np.cos(4 * y) + 0.2 * np.random.default_rng(seed).random((size, size))
    hill = (hill - hill.min()) / (hill.max() - hill.min())
    return (LOWEST + (HIGHEST - LOWEST) * hill).astype(np.float32)


def write_dem(path, values, holes, nodata=-9999.0):
    """A GeoTIFF whose holes have the number that its tag names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.where(holes, np.float32(nodata), values)
    tag = (42113, "s", 0, f"{nodata:g}", True)
    tifffile.imwrite(path, values, photometric="minisblack", metadata=None, extratags=[tag])


def fifth(size=40, seed=0):
    """Round holes, about a fifth of an image, that leave its extremes."""
    y, x = np.mgrid[:size, :size]
    row, column = 0.3 * size + seed, 0.6 * size - seed
    return (y - row) ** 2 + (x - column) ** 2 < size**2 / (5 * np.pi)


def no_holes(_index, size=40):
    return np.zeros((size, size), bool)


def make_dems(folder, count=5, nodata=-9999.0, seed=0, holes=lambda index: fifth(seed=index)):
    for index in range(count):
        values = heights(seed + index)
        write_dem(folder / f"{index}.tif", values, holes(index), nodata)
    return folder


def valid_extremes(count=5, seed=0):
    found = np.concatenate([heights(seed + index)[~fifth(seed=index)] for index in range(count)])
    return float(found.min()), float(found.max())


DATA = DataConfig(load_size=20, crop_size=16)


def make_dataset(folder, data=DATA, **arguments):
    images = scan_folder(folder, 1, None, data)
    model = ModelConfig(**TINY_MODEL, channels_a=1, channels_b=1)
    return UnpairedDataset(images, images, data, model, batch_size=2, seed=0, **arguments)


# ---- ranges and batches


def test_the_range_of_a_folder_is_that_of_its_valid_values(tmp_path):
    found = scan_folder(make_dems(tmp_path / "a"), 1, None, DATA).image_format
    assert (found.low, found.high) == valid_extremes()


def test_without_nodata_all_values_count(tmp_path):
    folder = make_dems(tmp_path / "a")
    found = scan_folder(folder, 1, None, DATA, reading=Reading(nodata="none")).image_format
    assert found.low == -9999


def test_batches_have_masks_and_do_not_depend_on_the_number_in_the_holes(tmp_path):
    one, other = (
        make_dataset(make_dems(tmp_path / name, nodata=nodata)) for name, nodata in (("a", -9999.0), ("b", 3e38))
    )
    shares = []
    for step in range(10):
        batch, same = one[step], other[step]
        for images, mask in ((batch.a, batch.mask_a), (batch.b, batch.mask_b)):
            assert images.shape == (2, 1, 16, 16)
            assert images.abs().max() <= 1
            if mask is not None:
                assert mask.shape == (2, 1, 16, 16)
                assert mask.dtype == torch.float32
                assert set(mask.unique().tolist()) == {0, 1}
                shares.append(mask.mean().item())
        assert torch.equal(batch.a, same.a)
        assert (batch.mask_a is None) == (same.mask_a is None)
        assert batch.mask_a is None or torch.equal(batch.mask_a, same.mask_a)
    assert 0.7 < np.mean(shares) < 0.95


def test_images_without_holes_have_no_mask(tmp_path):
    dataset = make_dataset(make_dems(tmp_path / "a", holes=no_holes))
    assert all((dataset[step].mask_a, dataset[step].mask_b) == (None, None) for step in range(4))


def test_masks_are_cropped_and_mirrored_with_their_images(tmp_path):
    """Without resizing, every pixel is a height of the file or lies in a hole."""
    data = DataConfig(preprocess="crop", crop_size=16)
    dataset = make_dataset(make_dems(tmp_path / "a"), data)
    low, high = dataset.a.image_format.low, dataset.a.image_format.high
    known = np.unique(np.concatenate([heights(seed)[~fifth(seed=seed)] for seed in range(5)]))
    for step in range(10):
        batch = dataset[step]
        mask = torch.ones_like(batch.a) if batch.mask_a is None else batch.mask_a
        found = (batch.a[mask == 1].double().numpy() + 1) * (high - low) / 2 + low
        nearest = known[np.clip(np.searchsorted(known, found), 1, len(known) - 1)]
        before = known[np.clip(np.searchsorted(known, found), 1, len(known) - 1) - 1]
        assert np.minimum(abs(found - nearest), abs(found - before)).max() < 1e-3


def test_a_cache_changes_nothing(tmp_path):
    folder = make_dems(tmp_path / "a")
    plain, cached = make_dataset(folder), make_dataset(folder, cache_bytes=2**20)
    for step in (*range(4), *range(4)):
        assert torch.equal(plain[step].a, cached[step].a)
        masks = plain[step].mask_a, cached[step].mask_a
        assert masks == (None, None) or torch.equal(*masks)


def mostly_hole(_index):
    """Valid in the right 14 of 40 columns."""
    return np.broadcast_to(np.arange(40) < 26, (40, 40))


def test_crops_that_are_mostly_hole_are_drawn_again(tmp_path):
    data = DataConfig(preprocess="crop", crop_size=16)
    dataset = make_dataset(make_dems(tmp_path / "a", holes=mostly_hole), data)
    again = make_dataset(make_dems(tmp_path / "b", holes=mostly_hole), data)
    first_draws = 0
    for step in range(12):
        batch = dataset[step]
        assert torch.equal(batch.a, again[step].a)
        assert batch.mask_a is not None
        assert (batch.mask_a.mean((1, 2, 3)) >= LEAST_VALID).all()
        order, first = dataset.orders[0].at(step, 0)
        resized = load_resized(dataset.a.paths[int(order[first])], dataset.a.image_format, data)
        drawn = augment(resized, data, np.random.default_rng([12, 0, 0, step, 0]))
        if drawn.valid_share >= LEAST_VALID:
            first_draws += 1
            assert np.array_equal(batch.mask_a[0, 0].numpy() == 1, drawn.valid)
    assert 0 < first_draws < 12


def test_an_image_without_a_good_crop_is_passed_over(tmp_path):
    folder = make_dems(tmp_path / "a", count=3)
    write_dem(folder / "1.tif", heights(1), np.ones((40, 40), bool))
    dataset = make_dataset(folder)
    left_out = set()
    for step in range(6):
        batch = dataset[step]
        assert batch.mask_a is None or (batch.mask_a.mean((1, 2, 3)) >= LEAST_VALID).all()
        left_out.update(batch.unreadable)
    ((path, reason),) = left_out
    assert path.endswith("1.tif")
    assert reason == "it is mostly hole: 0% of its pixels have values, and at most 0% in the best of 32 crops"


def test_a_file_that_is_left_out_is_named_once(tmp_path, capsys):
    a, b = make_dems(tmp_path / "a"), make_dems(tmp_path / "b")
    write_dem(a / "9.tif", heights(9), np.ones((40, 40), bool) & (np.arange(40) > 5))
    options = {"channels_a": 1, "channels_b": 1, "test_a": a, "test_b": b}
    train(a, b, out=tmp_path / "run", steps=1, **{**TINY, "num_samples": 9}, **options)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "mostly hole" in line)
    assert line.count(str(a / "9.tif")) == 1


def test_a_folder_of_holes_is_refused(tmp_path):
    folder = make_dems(tmp_path / "a", holes=lambda _: np.ones((40, 40), bool))
    with pytest.raises(InputError, match="All pixels of the images in .* are holes"):
        make_dataset(folder)
    with pytest.raises(InputError, match="All pixels of the 5 images in .* are holes"):
        inspect_folders(folder, quiet=True)


def test_a_folder_without_a_good_crop_is_refused_with_the_numbers(tmp_path):
    def holes(_index):
        return np.broadcast_to(np.arange(40) < 36, (40, 40))

    dataset = make_dataset(make_dems(tmp_path / "a", holes=holes), DataConfig(preprocess="crop", crop_size=16))
    with pytest.raises(
        InputError, match=r"No crop of the 5 images .* best of 32 in each image has them in \d+%.*--background-a white"
    ):
        dataset[0]


def test_loading_processes_make_the_same_masks(tmp_path):
    dataset = make_dataset(make_dems(tmp_path / "a"))
    with closing(batches(dataset, 0, num_workers=1)) as found:
        for step in range(3):
            batch, expected = next(found), dataset[step]
            assert torch.equal(batch.a, expected.a)
            assert (batch.mask_a is None) == (expected.mask_a is None)
            assert expected.mask_a is None or torch.equal(batch.mask_a, expected.mask_a)


@pytest.mark.parametrize("background", [None, "white"])
def test_transparent_pixels_are_holes_unless_there_is_a_colour_behind_them(tmp_path, background):
    pixels = np.full((40, 40, 4), (200, 10, 90, 255), np.uint8)
    pixels[fifth()] = (0, 255, 0, 0)
    (tmp_path / "a").mkdir()
    for index in range(2):
        Image.fromarray(pixels).save(tmp_path / "a" / f"{index}.png")
    data = DATA.replace(background_a=background)
    folder = scan_folder(tmp_path / "a", 3, None, data, reading=data.reading("a"))
    dataset = UnpairedDataset(folder, folder, data, ModelConfig(**TINY_MODEL), batch_size=2, seed=0)
    for step in range(4):
        batch = dataset[step]
        assert (batch.mask_a is None) == (background == "white")
        sprite = torch.tensor([200, 10, 90])[:, None, None] / 127.5 - 1
        is_sprite = ((batch.a - sprite).abs() < 0.02).all(1)
        assert is_sprite.all() == (background is None)  # what was behind transparent pixels is nowhere


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        ([[1, 1, 0, 0]], (1, 2), [[1, 0]]),
        ([[1, 0, 0, 0]], (1, 2), [[1, 0]]),  # half of it is valid
        ([[1, 0], [0, 0]], (1, 1), [[0]]),
        ([[1, 0], [0, 1]], (1, 1), [[1]]),
        ([[1, 0, 0]], (1, 2), [[1, 0]]),  # two thirds are valid
        ([[0, 1, 0]], (1, 2), [[0, 0]]),  # a third is
        ([[1, 1, 0, 1, 1]], (1, 3), [[1, 0, 1]]),  # two fifths of the middle one are
        ([[1, 0]], (2, 4), [[1, 1, 0, 0]] * 2),
    ],
)
def test_a_resized_pixel_is_valid_if_half_of_its_area_is(rows, size, expected):
    assert resize_mask(np.array(rows, bool), *size).astype(int).tolist() == expected


# ---- training


@pytest.mark.usefixtures("without_pages")
def test_two_runs_that_differ_in_the_holes_alone_are_one(tmp_path):
    settings = {**TINY, "steps": 4, "quiet": True, "channels_a": 1, "channels_b": 1, "num_samples": 1, "log_steps": 1}
    found = []
    for name, nodata in (("one", -9999.0), ("other", 1e6)):
        folders = (make_dems(tmp_path / name / side, nodata=nodata, seed=seed) for side, seed in (("a", 0), ("b", 9)))
        run = train(*folders, out=tmp_path / name / "run", preset="modern", **settings)
        losses = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        losses = [{k: v for k, v in line.items() if k.endswith(("_a", "_b", "b2a", "a2b"))} for line in losses]
        weights = [(run / "model" / f"{direction}.safetensors").read_bytes() for direction in ("a2b", "b2a")]
        samples = [path.read_bytes() for path in sorted((run / "samples").iterdir())]
        data = read_run_config(run).data
        found.append((losses, weights, samples, data.range_a, data.range_b))
    assert found[0] == found[1]
    assert found[0][3] == valid_extremes()


def test_samples_show_their_holes():
    image, mask = torch.zeros(3, 16, 16), torch.ones(16, 16, dtype=torch.bool)
    mask[:, 8:] = False
    same = Generators(torch.nn.Identity(), torch.nn.Identity())
    samples = SampleImages((image, image), (), "", masks_a=(mask, None))
    trip, plain = translate_samples(samples, same, torch.device("cpu"))["a2b"]
    for shown in trip:
        assert (shown[:, mask] == 0).all()
        assert len(shown[:, ~mask].unique()) == 2
    assert all((shown == 0).all() for shown in plain)
    assert mark_holes(image, None) is image


def test_a_sample_that_is_mostly_hole_is_refused(tmp_path):
    folder = make_dems(tmp_path / "a", count=1, holes=mostly_hole)
    image_format = scan_folder(folder, 1, None, DATA).image_format
    with pytest.raises(InputError, match=r"0.tif is mostly hole: 3\d% of the pixels to be used have values"):
        load_sample(folder / "0.tif", image_format, DATA, ModelConfig(**TINY_MODEL))
    sample = load_sample(make_dems(tmp_path / "b") / "0.tif", image_format, DATA, ModelConfig(**TINY_MODEL))
    assert sample.mask.shape == sample.image.shape[1:] == (16, 16)
    assert 0.7 < sample.mask.float().mean() < 0.9


# ---- scores


def test_metrics_count_valid_pixels_alone():
    draw = torch.Generator().manual_seed(0)
    truth, noise = torch.rand(3, 40, 60, generator=draw) * 2 - 1, torch.rand(3, 40, 60, generator=draw) * 0.2
    output, mask = truth + noise, torch.ones(40, 60, dtype=torch.bool)
    mask[:, 32:] = False
    for function in (functions.l1, functions.psnr, functions.colour_difference):
        assert function(output, truth, mask) == pytest.approx(function(output[..., :32], truth[..., :32]))
        assert function(output, truth, torch.ones_like(mask)) == pytest.approx(function(output, truth))
    # Windows that reach into the hole are left out.
    whole = torch.zeros_like(mask)
    whole[:, :27] = True
    expected = functions.ssim(output, truth, torch.ones_like(mask))
    assert expected == pytest.approx(functions.ssim(output, truth), abs=1e-6)
    changed = torch.where(mask, output, torch.tensor(-0.3))
    assert functions.ssim(changed, truth, mask) == pytest.approx(functions.ssim(output, truth, mask), abs=1e-6)
    assert functions.ssim(output, truth, mask) == pytest.approx(expected, abs=0.02)
    assert functions.ssim(output, truth, torch.zeros_like(mask)) is None
    edges = functions.edge_correlation(changed, truth, mask)
    assert edges == pytest.approx(functions.edge_correlation(output[..., :32], truth[..., :32]))


def test_a_metric_that_knows_no_masks_has_no_score_for_images_with_holes():
    METRICS["plain"] = ImageMetric("plain", "less", "Mean.", lambda x: float(x.mean()), ("output",))
    picture, mask = torch.zeros(1, 16, 16), torch.ones(16, 16, dtype=torch.bool)
    pictures = {"output": picture, "truth": picture}
    assert {"plain", "l1"} <= measure_image(pictures, {}).keys()
    mask[3:] = False
    found = measure_image(pictures, {}, masks={"truth": mask})
    assert "l1" in found
    assert "plain" in found  # it compares outputs, which have no holes here
    found = measure_image(pictures, {}, masks={"output": mask})
    assert "plain" not in found
    # Valid in both: none.
    found = measure_image(pictures, {}, masks={"output": mask, "truth": ~mask})
    assert found == {}


class Paints(torch.nn.Module):
    """Returns its input with some value in the right quarter."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        quarter = x.shape[-1] // 4
        return torch.cat([x[..., :-quarter], torch.full_like(x[..., -quarter:], self.value)], -1)


def test_scores_in_training_do_not_depend_on_what_a_generator_paints_into_holes(tmp_path):
    def right_quarter(_index):
        return np.broadcast_to(np.arange(40) >= 30, (40, 40))

    root = make_dems(tmp_path / "a", holes=right_quarter)
    folder = scan_folder(root, 1, None, DATA)
    config = make_config({**TINY, "channels_a": 1, "channels_b": 1, "num_validation": 10})
    paths = tuple(folder.paths)
    files = ValidationImages(paths, paths, (), (), "", "")
    found = []
    for value in (-1.0, 0.9):
        validation = Validation(config, files, folder, folder, torch.device("cpu"))
        validation.open()
        found.append(validation.score(Paints(value), Paints(-value)))
    assert found[0].directions == found[1].directions
    assert found[0].findings == found[1].findings
    scores = found[0].directions["a2b"]
    assert scores["cycle"] < 1e-3
    assert scores["edges"] == pytest.approx(1, abs=1e-3)
    assert abs(scores["kid"]["value"]) < 0.05  # the translations are the real images


@pytest.fixture(scope="module")
def dem_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("dems")
    settings = {**TINY, "steps": 2, "quiet": True, "channels_a": 1, "channels_b": 1}
    return train(make_dems(root / "a"), make_dems(root / "b", seed=9), out=root / "run", **settings)


def test_scores_do_not_depend_on_what_stands_in_the_holes(dem_run, tmp_path):
    found = []
    for name, nodata in (("one", -9999.0), ("other", 1e6)):
        folders = [make_dems(tmp_path / name / side, 4, nodata, seed) for side, seed in (("a", 20), ("b", 30))]
        write_dem(folders[0] / "3.tif", heights(23), mostly_hole(0), nodata)
        write_dem(folders[1] / "2.tif", heights(32), np.zeros((40, 40), bool), nodata)
        out = tmp_path / name / "scores"
        found.append(evaluate(dem_run, *folders, paired=True, out=out, quiet=True, device="cpu"))
    one, other = ({name: replace_files(scores) for name, scores in each.directions.items()} for each in found)
    assert one == other
    scores = found[0].directions["a2b"]
    assert scores.metrics["l1"].num_images == 3
    assert scores.metrics["l1"].mean_image is not None
    notes = " ".join(scores.notes)
    assert "3 of 3 test images of A have holes" in notes
    assert "more than half of their pixels are holes: 1 (3.tif has values in 35% of its pixels)" in notes
    assert "1 pairs are left out, because one image is mostly hole." in notes


def replace_files(scores):
    return scores.replace(images=tuple(image.replace(file="") for image in scores.images))


def test_values_in_holes_are_not_clipped(dem_run, tmp_path):
    folders = [make_dems(tmp_path / side, 3, seed=seed) for side, seed in (("a", 0), ("b", 9))]
    scores = evaluate(dem_run, *folders, out=tmp_path / "scores", quiet=True, device="cpu")
    assert not any("range of the model" in note for note in scores.directions["a2b"].notes)


# ---- inspect


def test_inspect_names_the_holes_and_leaves_them_out(tmp_path):
    folders = make_dems(tmp_path / "a"), make_dems(tmp_path / "b", nodata=1e6)
    plain = inspect_folders(make_dems(tmp_path / "c", holes=no_holes), quiet=True)
    found = inspect_folders(*folders, quiet=True)
    a, b = found.folders["A"], found.folders["B"]
    assert (a.low, a.high) == (b.low, b.high) == valid_extremes()
    assert LOWEST <= a.middle[0] < a.middle[1] <= HIGHEST
    assert a.colour == b.colour
    assert a.colour.brightness == pytest.approx(plain.folders["A"].colour.brightness, abs=0.05)
    (sentence,) = (advice.text for advice in found.advice if advice.topic == "holes" and "of A" in advice.text)
    assert "5 of the 5 images of A have holes" in sentence
    assert "20% of all pixels" in sentence
    assert "marked by no data -9999" in sentence
    assert "more than half" not in sentence
    assert not any("outliers" in advice.text for advice in found.advice)
    assert plain.folders["A"].holes is None


def test_inspect_counts_images_that_are_mostly_hole_and_names_transparency(tmp_path):
    (tmp_path / "a").mkdir()
    for index, share in enumerate((0.3, 0.7)):
        pixels = np.full((40, 40, 4), (200, 10, 90, 255), np.uint8)
        pixels[: round(40 * share), :, 3] = 0
        Image.fromarray(pixels).save(tmp_path / "a" / f"{index}.png")
    found = inspect_folders(tmp_path / "a", quiet=True)
    (advice,) = (advice for advice in found.advice if advice.topic == "holes")
    assert advice.problem
    assert "2 of the 2 images of A have holes, 50% of all pixels, marked by transparent pixels." in advice.text
    assert "In 1 image more than half is hole" in advice.text
    assert "--background-a white" in advice.text
    assert "--nodata" not in advice.text
    assert found.folders["A"].colour.channels == pytest.approx((200 / 255, 10 / 255, 90 / 255), abs=0.01)


def test_inspect_suggests_nodata_that_no_file_names(tmp_path):
    for index in range(4):
        path = tmp_path / "a" / f"{index}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, np.where(fifth(seed=index), np.float32(-9999), heights(index)), metadata=None)
    found = inspect_folders(tmp_path / "a", quiet=True)
    (sentence,) = (advice.text for advice in found.advice if advice.topic == "holes")
    assert "--nodata-a=-9999" in sentence
    assert not any("outliers" in advice.text for advice in found.advice)


@pytest.mark.parametrize("text", ["-3.40282e+38", "-3.4e+38", "-3.4028234663852886e+38", "-1.79769313486232e+308"])
def test_the_lowest_float_marks_holes_however_its_tag_is_rounded(tmp_path, text):
    values = heights(0)
    stored = np.where(fifth(), np.finfo(np.float32).min, values)
    tifffile.imwrite(
        tmp_path / "dem.tif", stored, photometric="minisblack", metadata=None, extratags=[(42113, "s", 0, text, True)]
    )
    raster = load_raster(tmp_path / "dem.tif", 1)
    assert np.array_equal(raster.valid, ~fifth())
    assert np.array_equal(raster.values[~fifth(), 0], values[~fifth()])
    assert raster.values.min() >= LOWEST
    assert raster.values.max() <= HIGHEST


@pytest.mark.parametrize(("text", "marks"), [("0 0 0", 0), ("7abc", 7), ("7,5", 7.5), ("no", None)])
def test_a_tag_is_read_as_far_as_it_is_a_number_as_gdal_does(tmp_path, text, marks):
    values = heights(0)
    if marks is not None:
        values[fifth()] = marks
    tifffile.imwrite(
        tmp_path / "dem.tif", values, photometric="minisblack", metadata=None, extratags=[(42113, "s", 0, text, True)]
    )
    expected = fifth() if marks is not None else no_holes(0)
    with rasterio.open(tmp_path / "dem.tif") as file:
        assert np.array_equal(file.dataset_mask() == 0, expected)
    valid = load_raster(tmp_path / "dem.tif", 1).valid
    assert np.array_equal(valid, ~fifth()) if marks is not None else valid is None


def test_no_data_of_a_palette_is_one_of_its_numbers(tmp_path):
    numbers = np.random.default_rng(0).integers(10, 200, (40, 40), np.uint8)
    numbers[fifth()] = 7
    profile = {"driver": "GTiff", "height": 40, "width": 40, "count": 1, "dtype": "uint8", "nodata": 7}
    with rasterio.open(tmp_path / "cover.tif", "w", **profile, photometric="palette") as file:
        # Class 9 has the colour that the number 7 would have as grey, and is no hole.
        file.write_colormap(1, {i: (7, 7, 7) if i == 9 else (i, 255 - i, i // 2) for i in range(256)})
        numbers[0, 0] = 9
        file.write(numbers, 1)
    raster = load_raster(tmp_path / "cover.tif", 3)
    assert np.array_equal(raster.valid, ~fifth())
    seen = numbers[~fifth()][1:]
    assert np.array_equal(raster.values[~fifth()][1:], np.stack([seen, 255 - seen, seen // 2], -1))
    assert raster.values[0, 0].tolist() == [7, 7, 7]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_mask_that_gdal_writes_beside_a_file_counts(tmp_path, dtype):
    values = heights(0)[None].astype(dtype)
    profile = {"driver": "GTiff", "height": 40, "width": 40, "count": 1, "dtype": dtype}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(tmp_path / "dem.tif", "w", **profile) as file:
        file.write(values)
        file.write_mask(~fifth())
    assert (tmp_path / "dem.tif.msk").exists()
    raster = load_raster(tmp_path / "dem.tif", 1)
    assert np.array_equal(raster.valid, ~fifth())
    assert np.array_equal(raster.values[~fifth(), 0], values[0][~fifth()])
    assert np.array_equal(load_raster(tmp_path / "dem.tif", 1, Reading(page=1)).valid, ~fifth())
    reader = TiffReader.open(tmp_path / "dem.tif", ImageFormat(channels=1, dtype=dtype, high=900))
    assert np.array_equal(reader.read_raster(Box(2, 30, 3, 33)).valid, ~fifth()[2:30, 3:33])
    reader.close()
    assert list_files(tmp_path, (".tif",)).left_out == {}
    with rasterio.open(tmp_path / "dem.tif.msk", "w", **{**profile, "dtype": "uint8", "width": 39}) as file:
        file.write(np.ones((1, 40, 39), np.uint8))
    with pytest.raises(InputError, match="39x40"):
        load_raster(tmp_path / "dem.tif", 1)
