"""Known changes that are put into images, and what translations make of them."""

import contextlib
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from conftest import TINY, make_folder
from cyclegan import InputError, Translator, evaluate, train
from cyclegan.cli import main
from cyclegan.storage.scores import read_scores
from cyclegan.storage.showcase import read_showcase
from cyclegan.translate.probes.making import CONTRASTS, KINDS, WEBER, make_probes, visible_contrast
from cyclegan.translate.probes.rates import interval, summarise
from cyclegan.translate.probes.response import slide
from pictures import make_translator

SIDE = 64


def scene(seed=0, channels=3, side=SIDE):
    """A smooth picture with fine grain, (C, H, W) in [-1, 1]."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-0.5, 0.5, (1, channels, 5, 5)).astype(np.float32))
    smooth = functional.interpolate(coarse, (side, side), mode="bicubic")[0]
    return smooth + 0.02 * torch.from_numpy(rng.standard_normal((channels, side, side)).astype(np.float32))


def picture(seed=0):
    return ((scene(seed).permute(1, 2, 0).numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


class Through(nn.Module):
    """A network that computes this function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def probed(function, **options):
    options = {"places": 3, "kinds": ["lesion"], "sizes": [1 / 8], "contrasts": [0.2]} | options
    return make_translator(Through(function)).probe(picture(), **options).responses


def blurred(images):
    return functional.avg_pool2d(functional.pad(images, (3, 3, 3, 3), "reflect"), 7, stride=1)


def test_changes_are_the_contrast_size_and_place_that_they_claim():
    image = torch.zeros(3, SIDE, SIDE)
    for probe in make_probes(image, kinds=["lesion", "line"], sizes=[1 / 8], contrasts=[0.1], places=5):
        change = (probe.image - image)[0]
        inside = probe.distances() <= 0
        assert probe.nominal == 0.1
        assert abs(probe.contrast) == pytest.approx(0.1, abs=0.02)
        assert change[inside].abs().max() == pytest.approx(0.2)
        assert not change[probe.distances() > 1].any()
        rows, columns = np.nonzero(change.numpy())
        assert (rows.mean(), columns.mean()) == pytest.approx((probe.row, probe.column), abs=0.01)
        diameter = SIDE / 8
        extent = {"lesion": diameter, "line": 4 * diameter}[probe.kind]
        assert np.hypot(np.ptp(rows), np.ptp(columns)) <= 1.5 * extent
        area = {"lesion": np.pi / 4 * diameter**2, "line": diameter**2}[probe.kind]
        assert float(change.abs().sum()) / 0.2 == pytest.approx(area, rel=0.15)


def test_a_structure_is_removed_and_what_is_around_it_stays():
    image = torch.full((1, SIDE, SIDE), -0.5)
    spot = torch.hypot(torch.arange(SIDE)[:, None] - 30.0, torch.arange(SIDE) - 25.0) <= 3
    image[:, spot] = 0.3
    options = {"kinds": ["missing"], "sizes": [1 / 8], "contrasts": [0.4], "places": 9}
    removed = [probe for seed in range(20) for probe in make_probes(image, seed=seed, **options)]
    assert removed
    for probe in removed:
        assert probe.contrast < -0.25
        assert probe.is_seen
        assert np.hypot(probe.row - 30, probe.column - 25) < 3
        assert torch.equal(probe.image[:, probe.distances() > 1], image[:, probe.distances() > 1])
        assert float(probe.image[:, spot].mean()) < -0.2


def test_brightness_changes_everywhere_and_keeps_to_the_range():
    image = scene()
    (probe,) = make_probes(image, kinds=["brightness"], contrasts=[0.1])
    assert probe.image.abs().max() <= 1
    assert abs(probe.contrast) == pytest.approx(0.1, abs=0.01)
    assert (probe.image - image).abs().min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_changes_of_the_same_seed_are_the_same_and_of_another_are_not(kind):
    def images(seed):
        return [probe.image for probe in make_probes(scene(), kinds=[kind], sizes=[1 / 16], seed=seed, places=2)]

    first, again, other = images(3), images(3), images(4)
    assert first
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    if kind != "brightness":
        assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=False))


@pytest.mark.parametrize("kind", KINDS)
def test_transparency_and_holes_are_never_changed(kind):
    image = scene(channels=4)
    valid = torch.ones(SIDE, SIDE, dtype=torch.bool)
    valid[:, 20:44] = False
    probes = list(make_probes(image, valid, kinds=[kind], sizes=[1 / 16], places=4, alpha=True))
    assert probes
    for probe in probes:
        assert torch.equal(probe.image[3], image[3])
        assert torch.equal(probe.image[:, ~valid], image[:, ~valid])
        assert probe.is_whole or valid[probe.row, probe.column]


def test_lesions_are_put_into_tissue_and_not_into_air():
    image = torch.full((1, SIDE, SIDE), -1.0)
    image[:, 20:40, 24:44] = scene(channels=1)[:, 20:40, 24:44]
    for probe in make_probes(image, kinds=["lesion"], sizes=[1 / 32], contrasts=[0.1], places=50):
        assert 16 <= probe.row < 44
        assert 20 <= probe.column < 48


def test_a_person_sees_less_in_noise_and_more_where_it_is_large():
    even = torch.zeros(1, SIDE, SIDE)
    noisy = 0.2 * torch.randn(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert float(visible_contrast(even, None, 8, 50).max()) == pytest.approx(WEBER)
    # Rose: 5 standard deviations over the root of the number of pixels; the range is 2.
    assert float(visible_contrast(noisy, None, 8, 25).mean()) == pytest.approx(0.1, rel=0.05)
    assert float(visible_contrast(noisy, None, 8, 100).mean()) == pytest.approx(0.05, rel=0.05)


def test_a_slow_change_of_the_background_hides_nothing():
    ramp = torch.linspace(-1, 1, SIDE).expand(1, SIDE, SIDE)
    assert float(visible_contrast(ramp, None, 8, 50).max()) == pytest.approx(WEBER)
    assert float(visible_contrast(ramp.mT + ramp / 2, None, 8, 50).max()) == pytest.approx(WEBER)


def test_strength_under_a_footprint_is_that_of_plain_sums():
    rng = torch.Generator().manual_seed(0)
    energy, valid = torch.rand(9, 11, generator=rng), torch.rand(9, 11, generator=rng) > 0.2
    shape = torch.rand(3, 3, generator=rng) > 0.4
    found = slide(energy, shape, valid)
    for row, column in np.ndindex(9, 11):
        values = [
            float(energy[row + y - 1, column + x - 1])
            for y, x in np.ndindex(3, 3)
            if shape[y, x] and 0 <= row + y - 1 < 9 and 0 <= column + x - 1 < 11 and valid[row + y - 1, column + x - 1]
        ]
        enough = len(values) >= int(shape.sum()) / 2
        assert float(found[row, column]) == pytest.approx(np.mean(values) ** 0.5 / 2 if enough else 0, abs=1e-4)


def test_a_translator_that_changes_nothing_keeps_what_a_person_sees():
    responses = probed(lambda x: x, kinds=list(KINDS), sizes=[1 / 16, 1 / 8], contrasts=[0.02, 0.05, 0.1, 0.2])
    assert {each.kind for each in responses} == set(KINDS)
    for each in responses:
        assert (each.outcome == "kept") or not each.is_seen
        assert not each.invented
        if each.kind == "lesion":
            assert each.response == pytest.approx(abs(each.contrast), rel=0.01)
            assert each.remaining == pytest.approx(1, rel=0.02)
            assert each.share_inside == pytest.approx(1)
            assert each.displacement < 1


def test_a_translator_that_ignores_its_input_loses_everything():
    responses = probed(lambda x: torch.zeros_like(x) + 0.3, kinds=list(KINDS))
    assert {each.outcome for each in responses} == {"lost"}
    assert not any(each.invented for each in responses)
    assert all(each.share_inside is None for each in responses)


def test_a_translator_that_fills_in_what_is_around_loses_small_lesions():
    responses = probed(blurred, sizes=[1 / 32], contrasts=[0.1], places=9)
    assert all(each.outcome == "lost" for each in responses)
    assert all(each.outcome == "kept" for each in probed(blurred, sizes=[1 / 4], contrasts=[0.1], places=9))


@pytest.mark.parametrize(("by", "outcome"), [(2, "kept"), (8, "moved"), (20, "lost")])
def test_a_translator_that_moves_things_is_found_out(by, outcome):
    responses = probed(lambda x: x.roll(by, -1), sizes=[1 / 8], contrasts=[0.3], places=8)
    inside = [each for each in responses if each.column + by < SIDE - 8]
    assert inside
    for each in inside:
        assert each.outcome == outcome
        assert each.invented == (outcome == "lost")
        assert outcome == "lost" or each.displacement == pytest.approx(by, abs=1)


def test_a_change_far_from_the_lesion_is_invented():
    def two(x):
        # What is bright at the left also appears at the right.
        return (x + x.roll(32, -1)).clamp(-1, 1)

    assert all(each.invented and each.outcome == "kept" for each in probed(two, contrasts=[0.3]))
    assert not any(each.invented for each in probed(lambda x: x, contrasts=[0.3]))


def test_brightness_that_becomes_another_brightness_invents_nothing():
    brighter = {"kinds": ["brightness"], "contrasts": [0.1]}
    (plain,) = probed(lambda x: 0.7 * x + 0.1, **brighter)
    assert plain.outcome == "kept"
    assert not plain.invented
    (other,) = probed(lambda x: (6 * x).sin(), **brighter)
    assert other.invented


def test_chaos_is_not_taken_for_a_response():
    def chaotic(x):
        return x + 0.5 * (1000 * x).sin()

    # Noise that nobody sees changes this translation as much as a lesion does.
    responses = probed(chaotic, contrasts=[0.1], places=9)
    assert all(each.outcome == "lost" and each.threshold > 0.1 for each in responses)


def test_results_do_not_depend_on_the_batch_size_and_repeat():
    one = probed(blurred, kinds=list(KINDS), batch_size=1)
    assert one == probed(blurred, kinds=list(KINDS), batch_size=7)
    assert one != probed(blurred, kinds=list(KINDS), seed=1)


def test_images_of_any_kind_and_size_are_probed(tmp_path):
    translator = make_translator(Through(blurred))
    for size in ((17, 31), (200, 40), (9, 9)):
        image = Image.fromarray(picture()).resize(size)
        assert translator.probe(image, places=1).responses
    image.save(tmp_path / "x.png")
    assert translator.probe(tmp_path / "x.png", places=1) == translator.probe(image, places=1)
    assert translator.probe(Image.new("RGB", (1, 1)), places=1).rates
    image = (scene(channels=1).permute(1, 2, 0).numpy() + 1) * 200
    (lesion,) = (
        make_translator(Through(lambda x: x), 1, 1, "float32", 400.0)
        .probe(image, kinds=["lesion"], sizes=[0.1], contrasts=[0.2], places=1)
        .responses
    )
    assert lesion.outcome == "kept"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["tumour"]}, "kinds is 'tumour'; expected lesion, missing, line or brightness"),
        ({"kinds": []}, "kinds is"),
        ({"sizes": [0]}, "sizes holds 0; expected shares above 0, up to 0.5"),
        ({"sizes": 0.1}, "sizes is 0.1; expected a list"),
        ({"contrasts": [2.0]}, "contrasts holds 2; expected shares above 0, up to 1"),
        ({"contrasts": [float("nan")]}, "contrasts is nan"),
        ({"places": 0}, "places is 0; expected at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"batch_size": "many"}, "batch_size is 'many'"),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        make_translator(Through(blurred)).probe(picture(), **options)


def test_rates_count_outcomes_by_kind_size_and_contrast():
    responses = [probed(lambda x: x, contrasts=[0.02, 0.2], places=4, seed=seed) for seed in range(3)]
    rates = summarise(responses)
    assert [(rate.contrast, rate.num_images) for rate in rates] == [(0.02, 3), (0.2, 3), (None, 3)]
    for rate in rates:
        assert rate.kept + rate.moved + rate.lost == pytest.approx(1)
        assert rate.low <= rate.kept <= rate.high
    assert (rates[1].seen, rates[1].kept, rates[1].num_probes) == (1, 1, 12)
    assert rates[2].kept == 1


def test_intervals_count_images_and_not_their_probes_where_those_are_alike():
    independent = interval([(1, 2)] * 50)
    alike = interval([(2, 2), (0, 2)] * 25)
    assert independent == pytest.approx(interval([(1, 1), (0, 1)] * 50), abs=0.01)
    assert alike == pytest.approx(interval([(1, 1), (0, 1)] * 25), abs=0.01)
    # Wilson: with no miss in 20 the rate may be as low as 0.84.
    assert interval([(5, 5)] * 20) == pytest.approx((0.839, 1), abs=0.001)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A tiny run, evaluated with probes."""
    root = tmp_path_factory.mktemp("probes")
    for index, name in enumerate(("trainA", "trainB", "testA", "testB")):
        make_folder(root / name, 4, seed=index)
    train(root, out=root / "run", preset="paper", quiet=True, **{**TINY, "steps": 1})
    arguments = ["evaluate", str(root / "run"), "--probe", "--probe-images", "2", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as shown:
        patch.setenv("COLUMNS", "80")
        main(arguments)
    return root, shown.getvalue()


def test_evaluating_with_probes_adds_rates_to_the_scores(evaluated):
    root, _ = evaluated
    for result in read_scores(root / "run").directions.values():
        assert {rate.kind for rate in result.probes} >= {"lesion", "line", "brightness"}
        assert all(rate.num_images <= 2 for rate in result.probes)
        lesions = [rate for rate in result.probes if (rate.kind, rate.size) == ("lesion", 1 / 16)]
        assert [rate.contrast for rate in lesions][:5] == list(CONTRASTS)


def test_rates_are_those_of_the_translator_itself(evaluated):
    root, _ = evaluated
    translator = Translator.load(root / "run", device="cpu")
    paths = [root / "testA" / name for name in ("0.png", "2.png")]  # at equal distances in the list of files
    images = [translator.probe(path, places=1, number=number).responses for number, path in enumerate(paths)]
    for own, scored in zip(summarise(images), read_scores(root / "run").directions["a2b"].probes, strict=True):
        # Batches of another size round otherwise.
        ours, theirs = own.model_dump(), scored.model_dump()
        assert {name for name, value in ours.items() if value is None} == {
            name for name, value in theirs.items() if value is None
        }
        for name, value in ours.items():
            assert value == (
                pytest.approx(theirs[name], rel=1e-3, abs=1e-3) if isinstance(value, float) else theirs[name]
            )


def test_the_page_and_the_terminal_show_what_is_kept(evaluated):
    root, shown = evaluated
    page = (root / "run" / "report.html").read_text()
    assert "Lost, moved, invented" in page
    assert "Kept: round lesion, A to B" in page
    assert "A to B: known changes of the input" in shown
    assert "shift of brightness" in shown
    tables = [line for line in shown.splitlines() if not line.startswith(("Step", "Page"))]
    assert max(map(len, tables)) <= 80


def test_pictures_of_probes_are_shown_apart_from_usual_images(evaluated):
    root, _ = evaluated
    showcase = read_showcase(root / "run")
    probes = showcase.of("a2b", "probe")
    assert probes
    for example in probes:
        assert set(example.pictures) == {"input", "probed", "output", "probed_output", "change"}
        assert "contrast" in example.note
    assert not any(example.kind == "probe" for example in showcase.of("a2b"))


def test_scores_without_probes_have_none(evaluated, tmp_path):
    root, _ = evaluated
    scores = evaluate(root / "run", direction="a2b", out=tmp_path / "out", quiet=True, device="cpu")
    assert scores.directions["a2b"].probes == ()
    assert "invented" not in (tmp_path / "out" / "report.html").read_text()


def test_a_number_of_images_without_probes_is_refused(evaluated):
    root, _ = evaluated
    with pytest.raises(InputError, match="probe_images is 3 without probe; pass --probe as well"):
        evaluate(root / "run", probe_images=3)
    with pytest.raises(InputError, match="probe_images is 0; expected at least 1"):
        evaluate(root / "run", probe=True, probe_images=0)
