"""benchmarks/quality.py: what it makes of runs and their scores, and that it goes on where it stopped."""

import importlib
import io
import json
import math
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cyclegan import InputError
from cyclegan.config import flat_values, make_config
from cyclegan.metrics.features import features_info
from cyclegan.storage.scores import DirectionScores, Estimate, FileList, ImageScores, Score, Scores

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "quality.py"
TINY = ["width=4", "blocks=1", "discriminator_width=4", "discriminator_layers=1", "crop_size=16"]


@pytest.fixture(scope="module")
def quality():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as for a script, which finds its neighbours
        return importlib.import_module("quality")


@pytest.fixture
def tasks(quality):
    return sys.modules[quality.TASKS["etopo1"].__module__]


@pytest.fixture
def tables(quality):
    return sys.modules[quality.markdown.__module__]


@pytest.fixture
def recipes(quality):
    return sys.modules[quality.resolve.__module__]


def made_up_scores(l1, kid=0.1, kid_resnet=None):
    """Scores of a run with this L1 and KID; the other numbers are fixed."""

    def score(value, **baselines):
        known = {name: Estimate(value=number) for name, number in baselines.items()}
        return Score(value=Estimate(value=value), num_images=2, **known)

    direction = DirectionScores(
        metrics={
            "l1": score(l1, ceiling=0.96, mean_image=0.3),
            "kid": score(kid, floor=0.02, ceiling=0.5).replace(num_real=2),
            **({} if kid_resnet is None else {"kid_resnet": score(kid_resnet)}),
            "cycle_rise": score(-0.0001),
            **{name: score(0.5) for name in ("psnr", "ssim", "colour", "cycle", "edges", "ssim_input")},
        },
        images=(ImageScores(file="x.png", scores={"l1": l1}), ImageScores(file="y.png", scores={"l1": l1})),
        notes=(),
    )
    return Scores(
        cyclegan_version="0",
        torch_version="0",
        created="2000-01-01T00:00:00+00:00",
        model="a/private/place",
        step=40,
        weights="final",
        device="cpu",
        seconds=1.0,
        peak_mib=None,
        features=features_info(),
        paired=True,
        short_side=None,
        noise_sigma=0.01,
        seed=0,
        num_bootstrap=100,
        files={"a": FileList(root="a/private/place", files=("x.png", "y.png"))},
        directions={"a2b": direction, "b2a": direction},
    )


def put_run(quality, folder, task, recipe, seed, l1, kid=0.1, kid_resnet=None, **changes):
    """A finished run on disk, as the benchmark leaves it."""
    place = folder / task / recipe / f"seed{seed}"
    place.mkdir(parents=True)
    made_up_scores(l1, kid, kid_resnet).write(place / "scores.json")
    run = quality.Run(
        task=task,
        recipe=recipe,
        seed=seed,
        split="val",
        settings={"crop_size": 64},
        device="cpu",
        steps=40,
        step_seconds=0.25,
        threads=1,
        machine="abacus, 2 cores",
        command="python benchmarks/quality.py --steps 40",
    )
    (place / "run.json").write_text(run.replace(**changes).model_dump_json())
    return place


def cells(page, start):
    """The cells of the table rows of a page that begin with this text."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith(start)]


def write(quality, tmp_path, label="mine"):
    quality.write_results(tmp_path / "results", label, quality.collect(tmp_path / "work"))
    return (tmp_path / "results" / "quality.md").read_text()


def test_recipes_are_compared_with_paper_task_by_task(quality, tmp_path):
    for seed, (theirs, ours) in enumerate([(0.2, 0.1), (0.4, 0.1), (0.3, 0.3)]):
        put_run(quality, tmp_path / "work", "etopo1", "paper", seed, l1=0.2, kid=theirs)
        put_run(quality, tmp_path / "work", "etopo1", "paper+noise", seed, l1=0.1, kid=ours)
    for recipe, l1 in (("paper", 0.5), ("paper+noise", 0.4)):
        put_run(quality, tmp_path / "work", "drawings", recipe, 0, l1=l1)
    page = write(quality, tmp_path)
    paper, noise = cells(page, "| `paper")[:2]
    assert paper == ["`paper`", "0.2500", *["1.00"] * 6]
    # The geometric mean of 1/2, 1/4 and 1 is 1/2, and the logarithms have a deviation of log 2.
    spread = math.exp(4.303 * math.log(2) / math.sqrt(3))
    assert noise[2] == f"0.50 ({0.5 / spread:.2f}-{0.5 * spread:.2f})"
    # The means are of seed 0 alone, which both tasks have.
    assert noise[3:] == ["1.00", "0.71", "0.50 (0.50-0.50)", "0.80", "0.63"]


def test_means_over_tasks_are_of_seeds_that_were_run_on_all_of_them(quality, tmp_path):
    for seed, l1 in enumerate((0.1, 0.2, 0.4)):
        for task in ("etopo1", "drawings"):
            put_run(quality, tmp_path / "work", task, "paper", seed, 0.4)
            if (task, seed) != ("drawings", 2):
                put_run(quality, tmp_path / "work", task, "modern", seed, l1)
    put_run(quality, tmp_path / "work", "etopo1", "conservative", 0, 0.1)
    page = write(quality, tmp_path)
    titles, ours = cells(page, "| recipe | s a step")[0], ("modern", "conservative")
    modern, conservative = (dict(zip(titles, cells(page, f"| `{name}`")[0], strict=True)) for name in ours)
    assert modern["L1 etopo1"].startswith("0.50 (")
    # Of 1/4 and 1/2, whose logarithms have a deviation of log(2) / sqrt(2).
    spread = math.exp(12.706 * math.log(2) / 2)
    mean = math.sqrt(1 / 8)
    assert modern["L1 mean"] == f"{mean:.2f} ({mean / spread:.2f}-{mean * spread:.2f})"
    assert conservative["L1 etopo1"] == "0.25"
    assert conservative["L1 mean"] == ""


def test_tasks_with_the_same_photos_count_as_one_in_a_mean(quality, tmp_path):
    for task, l1 in (("shadedrelief", 0.1), ("etopo1", 0.4), ("drawings", 0.8)):
        put_run(quality, tmp_path / "work", task, "paper", 0, 0.8)
        put_run(quality, tmp_path / "work", task, "modern", 0, l1)
    page = write(quality, tmp_path)
    modern = dict(zip(cells(page, "| recipe | s a step")[0], cells(page, "| `modern`")[0], strict=True))
    # 1/8 and 1/2 together are 1/4.
    assert modern["L1 mean"] == "0.50"


@pytest.mark.parametrize(("second", "says"), [((0.118, 0.12, 0.122), True), ((0.11, 0.02, 0.13), False)])
def test_a_line_says_where_the_feature_networks_disagree(quality, tmp_path, second, says):
    for seed, value in enumerate(second):
        put_run(quality, tmp_path / "work", "etopo1", "paper", seed, 0.1, kid=0.2, kid_resnet=0.1)
        put_run(quality, tmp_path / "work", "etopo1", "modern", seed, 0.1, kid=0.1, kid_resnet=value)
    page = write(quality, tmp_path)
    titles = cells(page, "| recipe | s a step")[0]
    assert titles[2:] == ["KID etopo1", "KID, thin ResNet-50 etopo1", "L1 etopo1"]
    line = "* The two networks disagree on `modern`, etopo1: KID 0.50, KID, thin ResNet-50 1.20."
    assert (line in page) == says


def test_recipes_with_one_ingredient_changed_are_compared_with_their_base(quality, tmp_path):
    for seed in (0, 1, 2):
        for recipe, l1 in (("paper", 0.4), ("paper+noise", 0.4), ("modern", 0.1), ("modern-smooth", 0.2)):
            put_run(quality, tmp_path / "work", "etopo1", recipe, seed, l1)
    page = write(quality, tmp_path)
    against_paper, against_modern = cells(page, "| `modern-smooth` | 0.2500")
    assert against_paper[-1] == "0.50 (0.50-0.50)"
    assert against_modern[-1] == "2.00 (2.00-2.00)"
    assert "`paper` with one ingredient" not in page


def test_a_label_without_paper_has_no_ratios_to_it(quality, tmp_path):
    for recipe in ("modern", "modern-smooth", "modern-smooth-batch"):
        put_run(quality, tmp_path / "work", "etopo1", recipe, 0, 0.2)
    page = write(quality, tmp_path)
    assert len(cells(page, "| recipe | s a step")) == 2
    assert len(cells(page, "| `modern-smooth` | 0.2500")) == 2
    # Two ingredients from `modern`, one from `modern-smooth`.
    assert len(cells(page, "| `modern-smooth-batch` | 0.2500")) == 1


def test_a_task_shows_each_score_of_each_recipe_and_its_baselines(quality, tmp_path):
    for seed, l1 in enumerate((0.1, 0.2, 0.6)):
        put_run(quality, tmp_path / "work", "shadedrelief", "paper", seed, l1)
    page = write(quality, tmp_path)
    row = cells(page, "| `paper` | a2b")[0]
    assert row[:6] == ["`paper`", "a2b", "0, 1, 2", "40", "0.100 (0.100-0.100)", "0.300 (0.100-0.600)"]
    assert cells(page, "| *real images* | a2b")[0][4:6] == ["0.020", ""]
    assert cells(page, "| *mean image* | b2a")[0][4:6] == ["", "0.300"]
    for said in ("abacus", "scored on val", "`python benchmarks/quality.py --steps 40`"):
        assert page.count(said) == 1, said


def test_a_run_without_a_score_has_its_others(quality, tables, tmp_path):
    for seed in (0, 1):
        put_run(quality, tmp_path / "work", "etopo1", "paper", seed, l1=0.1)
    blank = tmp_path / "work" / "etopo1" / "paper" / "seed1" / "scores.json"
    scores = json.loads(blank.read_text())
    for direction in scores["directions"].values():  # translations without edges, as white ones are
        del direction["metrics"]["edges"]
    blank.write_text(json.dumps(scores))
    page = write(quality, tmp_path)
    row = cells(page, "| `paper` | a2b")[0]
    assert row[5] == "0.100 (0.100-0.100)"
    assert row[-1] == "0.500"
    runs = quality.read_results(tmp_path / "results")["mine"]
    assert tables.ratio(runs, runs, "edges", ["etopo1"]) is None
    assert tables.ratio(runs, runs, "l1", ["etopo1"])[0] == 1


def test_a_score_of_zero_or_less_has_no_ratio(quality, tmp_path):
    put_run(quality, tmp_path / "work", "etopo1", "paper", 0, 0.2, kid=0.1)
    put_run(quality, tmp_path / "work", "etopo1", "paper+noise", 0, 0.1, kid=-0.01)
    noise = cells(write(quality, tmp_path), "| `paper+noise`")[0]
    assert noise[2:] == ["", "0.50"]


def test_the_json_holds_every_score_of_every_run_and_no_place_of_this_machine(quality, tmp_path):
    put_run(quality, tmp_path / "work", "etopo1", "paper", 3, 0.25)
    write(quality, tmp_path)
    text = (tmp_path / "results" / "quality" / "mine.json").read_text()
    [run] = quality.read_results(tmp_path / "results")["mine"]
    assert (run["task"], run["recipe"], run["seed"], run["steps"]) == ("etopo1", "paper", 3, 40)
    assert {"kid", "cycle_rise", "ssim_input", "l1"} <= set(run["scores"]["a2b"])
    assert run["baselines"]["b2a"]["l1"]["mean_image"] == 0.3
    assert "private" not in text


def test_results_of_other_labels_stay(quality, tmp_path):
    put_run(quality, tmp_path / "work", "etopo1", "paper", 0, 0.25)
    for label in ("one", "two", "one"):
        page = write(quality, tmp_path, label)
    assert page.index("## one") < page.index("## two")
    assert len(cells(page, "| `paper` | a2b")) == 2


def test_runs_are_added_to_those_of_another_checkout(quality, tmp_path):
    for seed in (0, 1):
        put_run(quality, tmp_path / f"work{seed}", "etopo1", "paper", seed, 0.25)
        quality.write_results(tmp_path / "results", "mine", quality.collect(tmp_path / f"work{seed}"))
    runs = quality.read_results(tmp_path / "results")["mine"]
    assert [run["seed"] for run in runs] == [0, 1]


def test_a_run_without_its_record_does_not_count(quality, tmp_path):
    (put_run(quality, tmp_path, "etopo1", "paper", 0, 0.25) / "run.json").unlink()
    assert quality.collect(tmp_path) == []


@pytest.mark.parametrize(
    ("pair", "message"),
    [("widht=3", "Did you mean 'width'"), ("width=wide", "width is 'wide'"), ("width", "NAME=VALUE")]
    + [(f"{name}=1", f"cannot change {name}") for name in ("seed", "steps", "out", "device")],
)
def test_settings_are_checked_before_anything_is_done(quality, pair, message):
    with pytest.raises(InputError, match=message):
        quality.read_settings([pair])


def test_a_recipe_is_its_preset_with_ingredients_added_and_taken_away(recipes):

    common = {"width": 16, "norm": "batch"}
    assert recipes.resolve("paper", common) == common
    assert recipes.resolve("paper+noise+contrastive", common) == {
        **common,
        "cycle_noise": 0.05,
        "contrastive_weight": 0.5,
    }
    assert recipes.resolve("demo-average", common) == {**common, "translate_with": "final"}
    for recipe, message in (
        ("papr", "no preset"),
        ("paper+salt", "no ingredient 'salt'"),
        ("modern-noise", "no noise to take away"),
        ("conservative-light_cycle", "not all of it"),
    ):
        with pytest.raises(InputError, match=message):
            recipes.resolve(recipe, {})


def test_every_ingredient_changes_the_paper(recipes):

    paper = make_config(preset="paper")
    for name in recipes.INGREDIENTS:
        assert make_config(recipes.resolve(f"paper+{name}", {}), preset="paper") != paper, name
        again = make_config(recipes.resolve(f"paper+{name}-{name}", {}), preset="paper")
        assert again.model.resolved_discriminator_norm == "instance"
        assert again.replace(model=again.model.replace(discriminator_norm=None)) == paper, name


def test_other_norms_of_the_generators_are_not_those_of_the_discriminators(recipes):
    for recipe, expected in (
        ("paper+pixel_norm", "instance"),
        ("paper+spectral+pixel_norm", "spectral"),
        ("modern-pixel_norm", "spectral"),
    ):
        preset = recipes.preset_of(recipe)
        config = make_config(recipes.resolve(recipe, {}), preset=preset)
        assert config.model.resolved_discriminator_norm == expected, recipe


def test_each_ingredient_of_modern_can_be_left_out_by_itself(recipes):

    modern = flat_values(make_config(preset="modern"))
    left_out = set()
    for name in ("contrastive", "spectral", "smooth", "pixel_norm", "global_skip", "light_cycle"):
        settings = recipes.resolve(f"modern-{name}", {})
        assert settings
        left_out |= settings.keys()
        assert all(modern[key] != value for key, value in settings.items()), name
    # Together they are all of it.
    paper = flat_values(make_config(preset="paper"))
    assert left_out == {key for key, value in modern.items() if value != paper[key]} - {"preset", "precision"}


def test_the_recorded_command_holds_no_paths_of_this_machine(quality, monkeypatch):
    given = ["--work", "/home/me/work", "--steps", "5", "--results=/home/me/results", "--set", "crop_size=32"]
    monkeypatch.setattr(sys, "argv", ["quality.py", *given])
    assert quality.command_line() == "python benchmarks/quality.py --steps 5 --set crop_size=32"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--minutes 1 --set crop_size=32", "'crop_size': 32"),
        ("--minutes 1 --split test", "scored on test"),
        ("--minutes 1 --device cuda", "on cuda"),
        ("--steps 50", "of equal steps"),
    ],
)
@pytest.mark.parametrize("recipe", ["paper", "paper+noise"])
def test_a_label_keeps_to_one_kind_of_run(options, told, recipe, quality, tmp_path, monkeypatch, capsys):
    put_run(quality, tmp_path / "work" / "recipes", "etopo1", "paper", 0, 0.25, settings=quality.SMALL)
    places = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["quality.py", *options.split(), *places, "--recipes", recipe])
    with pytest.raises(SystemExit):
        quality.main()
    said = capsys.readouterr().err
    assert "choose another --label" in said
    assert told in said


def test_a_recipe_that_has_changed_since_is_not_mixed_with_itself(quality, tmp_path, monkeypatch, capsys):
    settings, folder = quality.SMALL, tmp_path / "work" / "recipes"
    old = {**quality.beyond_paper("modern", settings), "contrastive_weight": 2.0}
    put_run(quality, folder, "etopo1", "modern", 0, 0.25, settings=settings, beyond_paper=old)
    places = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["quality.py", "--minutes", "1", *places, "--recipes", "modern"])
    with pytest.raises(SystemExit):
        quality.main()
    assert "from when it was" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_the_earth_is_split_by_blocks(tasks, tmp_path):
    tasks.TASKS["etopo1"](tmp_path / "etopo1", 24)
    names = {split: {path.name for path in (tmp_path / "etopo1" / f"{split}A").iterdir()} for split in ("val", "test")}
    for split, found in names.items():
        assert len(found) > 50
        assert found == {path.name for path in (tmp_path / "etopo1" / f"{split}B").iterdir()}
    blocks = [{tasks._block(name, 300) for name in found} for found in names.values()]
    assert not blocks[0] & blocks[1]


def test_paired_training_tiles_show_the_same_places_and_none_that_are_held_out(tasks, tmp_path):
    tasks.TASKS["etopo1"](tmp_path / "unpaired", 12)
    tasks.PAIRED["etopo1"](tmp_path / "paired", 12)
    before, after = (
        {
            path.name: {file.name: file.read_bytes() for file in path.iterdir()}
            for path in root.iterdir()
            if path.is_dir()
        }
        for root in (tmp_path / "unpaired", tmp_path / "paired")
    )
    assert after["trainA"].keys() == after["trainB"].keys() == before["trainA"].keys() | before["trainB"].keys()
    for folder, files in before.items():
        assert files.items() <= after[folder].items()
    assert not after["trainA"].keys() & (after["valA"].keys() | after["testA"].keys())


def pack(target, files):
    """What `fetch` returns for an npm package with these files."""
    with tarfile.open(target, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return SimpleNamespace(path=target)


def test_drawings_are_split_by_code_point_and_their_lines_lie_where_they_were(tasks, tmp_path, monkeypatch):
    rows = ["hexcode,group,skintone", *(f"{i:04X},{'flags' if i % 7 == 0 else 'objects'}," for i in range(140))]
    rows += ["1F44B-1F3FB,people-body,1", "1F468-200D-1F692,people-body,"]
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">%s</svg>'
    line = '<rect x="18" y="18" width="36" height="36" fill="none" stroke="#000" stroke-width="6"/>'

    files = {"package/data/openmoji.csv": "\n".join(rows)}
    for row in rows[1:]:
        name = row.partition(",")[0]
        files[f"package/color/svg/{name}.svg"] = drawing % f'<circle cx="36" cy="36" r="9" fill="#f00"/>{line}'
        files[f"package/black/svg/{name}.svg"] = drawing % line
    monkeypatch.setattr(tasks, "fetch", lambda _, work, **__: pack(work / "package.tgz", files))
    out = tmp_path / "drawings"
    tasks.build_drawings(out, 24)
    names = {path.name: {file.name for file in path.iterdir()} for path in out.iterdir() if path.is_dir()}
    assert names["valA"] == names["valB"]
    assert names["testA"] == names["testB"]
    shown = [names["trainA"], names["trainB"], names["valA"], names["testA"]]
    assert sum(map(len, shown)) == len(set().union(*shown)) == 120
    pictures = [np.asarray(Image.open(next((out / f"val{domain}").iterdir()))) for domain in "AB"]
    for picture, middle in zip(pictures, ((255, 0, 0), (255, 255, 255)), strict=True):
        assert picture.shape == (24, 24, 3)
        assert tuple(picture[12, 12]) == middle
        assert tuple(picture[1, 1]) == (255, 255, 255)
        assert tuple(picture[6, 12]) == (0, 0, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"drawings"}

    tasks.build_drawings(tmp_path / "paired", 24, paired=True)
    for domain in "AB":
        paired = {path.name for path in (tmp_path / "paired" / f"train{domain}").iterdir()}
        assert paired == names["trainA"] | names["trainB"]


def test_emoji_of_one_family_are_in_one_split(tasks, tmp_path, monkeypatch):
    names = [f"{thing}{i:02d}" for thing in ("cook", "dove") for i in range(40)]
    names += [f"woman-{name}" for name in names[:40]] + ["cook05-dark", "dove05-facing-right"]

    def fetch(url, work, **_):
        colour = "#800" if "-flat" in url else "#f00"
        body = f'<rect x="8" y="8" width="16" height="16" fill="{colour}"/>'
        icons = {"height": 32, "width": 32, "icons": {name: {"body": body} for name in names}}
        return pack(work / "package.tgz", {"package/icons.json": json.dumps(icons), "package/info.json": "{}"})

    monkeypatch.setattr(tasks, "fetch", fetch)
    tasks.build_emoji(tmp_path / "emoji", 16)
    held = {path.name: {file.stem for file in path.iterdir()} for path in (tmp_path / "emoji").glob("*[AB]")}
    assert held["valA"] == held["valB"]
    assert held["testA"] == held["testB"]
    splits = [held["trainA"], held["trainB"], held["valA"], held["testA"]]
    families = [{name.removeprefix("woman-") for name in split} for split in splits]
    assert sum(map(len, families)) == len(set().union(*families)) == 80
    assert sum(map(len, splits)) == 120
    for domain, red in (("A", 255), ("B", 136)):
        picture = np.asarray(Image.open(next((tmp_path / "emoji" / f"val{domain}").iterdir())))
        assert tuple(picture[8, 8]) == (red, 0, 0)
        assert tuple(picture[1, 1]) == (255, 255, 255)


def test_slices_of_the_head_are_split_by_height(tasks, tmp_path):
    tasks.build_t1(tmp_path / "t1", 16)
    names = {path.name: {file.name for file in path.iterdir()} for path in (tmp_path / "t1").glob("*[AB]")}
    heights = {folder: {int(name[1:4]) for name in found} for folder, found in names.items()}
    assert names["valA"] == names["valB"]
    assert names["testA"] == names["testB"]
    assert not heights["trainA"] & heights["trainB"]
    for held_out, others in (("val", ("trainA", "trainB", "testA")), ("test", ("trainA", "trainB", "valA"))):
        assert len(names[f"{held_out}A"]) > 40
        for other in others:
            assert min(abs(z - w) for z in heights[f"{held_out}A"] for w in heights[other]) > 2
    name = min(names["testA"])
    t1, grey = (np.asarray(Image.open(tmp_path / "t1" / f"test{domain}" / name)).astype(float) for domain in "AB")
    assert t1.shape == grey.shape == (16, 16, 3)
    assert grey[t1 == 0].mean() < 0.1 * grey[t1 > 0].mean()  # there is none outside the head


def test_digits_are_told_apart_by_classifiers_of_the_training_images_alone(tasks, tmp_path, monkeypatch):
    digits = sys.modules[tasks.build_digits.__module__]
    # A square for each class, of its own size.
    squares = {
        digit: [[float(max(abs(x - 14), abs(y - 14)) <= digit + 1) for x in range(28)] for y in range(28)] * 40
        for digit in range(10)
    }
    files = {
        f"package/src/digits/{digit}.json": json.dumps({"data": [value for row in rows for value in row]})
        for digit, rows in squares.items()
    }
    monkeypatch.setattr(tasks, "fetch", lambda _, work, **__: pack(work / "package.tgz", files))
    monkeypatch.setattr(digits, "COUNTS", {"train": 30, "val": 4, "test": 4})
    out = tmp_path / "digits"
    digits.build_digits(out, 32)
    names = {path.name: {file.name for file in path.iterdir()} for path in out.glob("*[AB]")}
    assert {folder: len(found) for folder, found in names.items()} == {
        f"{split}{domain}": 10 * count for split, count in digits.COUNTS.items() for domain in "AB"
    }
    faces = {split: {name.split("_")[2] for name in names[f"{split}B"]} for split in digits.COUNTS}
    assert not faces["train"] & (faces["val"] | faces["test"])

    # A translator that changes nothing makes the errors of images that are not translated.
    unchanged = SimpleNamespace(translate_tensor=lambda images: images)
    monkeypatch.setattr(digits.Translator, "load", lambda *_, **__: unchanged)
    errors = digits.class_errors(tmp_path, out, "test", "cpu")
    for of in errors.values():
        assert of["value"] == of["ceiling"] > 0.5 > of["floor"]  # squares are no print, and print is no squares


def test_the_class_error_is_in_the_tables_where_there_is_no_truth(quality, tmp_path):
    for recipe, error in (("paper", 0.5), ("modern", 0.1)):
        of = {"value": error, "floor": 0.02, "ceiling": 0.25}
        place = put_run(quality, tmp_path / "work", "digits", recipe, 0, 0.1, class_error={"a2b": of, "b2a": of})
        scores = json.loads((place / "scores.json").read_text())
        for direction in scores["directions"].values():
            del direction["metrics"]["l1"]
        (place / "scores.json").write_text(json.dumps(scores))
        put_run(quality, tmp_path / "work", "etopo1", recipe, 0, 0.1)
    page = write(quality, tmp_path)
    modern = dict(zip(cells(page, "| recipe | s a step")[0], cells(page, "| `modern`")[0], strict=True))
    assert (modern["class error digits"], modern["L1 etopo1"]) == ("0.20", "1.00")
    assert not {"L1 digits", "L1 mean", "class error etopo1"} & set(modern)
    of_digits = page[page.index("### mine: digits") :]
    titles = cells(of_digits, "| recipe | direction")[0]
    for start, value in (("| `modern` | a2b", "0.100"), ("| *real images* | a2b", "0.020")):
        row = dict(zip(titles, cells(of_digits, start)[0], strict=True))
        assert row["class error, less is better"] == value


def test_a_generator_trained_on_pairs_approaches_the_truth(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    paired = importlib.import_module("paired")
    source = torch.rand(16, 3, 72, 72, generator=torch.Generator().manual_seed(0)) * 2 - 1
    target = -source
    untrained, trained = (paired.train_paired(source, target, steps=steps, seed=0) for steps in (0, 40))
    assert paired.distance(trained, source, target) < 0.9 * paired.distance(untrained, source, target)


def start(tmp_path, *options):
    places = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    command = [sys.executable, str(SCRIPT), *places, "--set", *TINY, "--jobs", "2", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_benchmark_trains_scores_and_does_nothing_twice(quality, tmp_path):
    options = ["--steps", "3", "--seeds", "0", "1", "--tasks", "etopo1"]
    process = start(tmp_path, *options)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert said.count(": done") == 2
    [first, second] = quality.read_results(tmp_path / "results")["recipes"]
    assert (first["seed"], second["seed"], first["steps"]) == (0, 1, 3)
    assert first["threads"] == max(1, quality.num_cores() // 2)
    values = [run["scores"]["a2b"]["l1"] for run in (first, second)]
    assert values[0] != values[1]

    # Another recipe is added to what there is.
    process = start(tmp_path, *options, "--recipes", "paper", "paper+noise")
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "2 runs are complete, 2 to do" in said
    assert "paper on etopo1" not in said
    runs = quality.read_results(tmp_path / "results")["recipes"]
    assert [(run["recipe"], run["seed"]) for run in runs] == [
        (recipe, seed) for recipe in ("paper", "paper+noise") for seed in (0, 1)
    ]
    assert runs[:2] == [first, second]

    # What the results hold is not made again, even where the runs are gone.
    shutil.rmtree(tmp_path / "work")
    process = start(tmp_path, *options)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "4 runs are complete, 0 to do" in said


def test_a_recipe_that_is_added_later_is_timed_against_one_that_is_known(quality, tmp_path, monkeypatch):
    put_run(quality, tmp_path, "etopo1", "paper", 0, 0.25)  # 0.25 s a step
    asked = []

    def start_job(_kind, job, _at_once, **_pipes):
        asked.append([name for name, _ in job["recipes"]])
        return SimpleNamespace(communicate=lambda: (b"[1.0, 2.0]\n", None), returncode=0)

    monkeypatch.setattr(quality, "start_job", start_job)
    done = quality.to_json(quality.collect(tmp_path))
    options = SimpleNamespace(device="cpu", timed_seconds=1.0, jobs=2, checkouts={})
    seconds = quality.time_recipes({"modern": {"crop_size": 64}}, options, tmp_path / "timings.json", done)
    assert asked == [["paper", "modern"]] * 2
    assert seconds["modern"] == 0.5
    # Timed once, but anew with other settings.
    asked.clear()
    assert quality.time_recipes({"modern": {"crop_size": 64}}, options, tmp_path / "timings.json", done) == seconds
    assert asked == []
    # Also where others were timed in between.
    quality.time_recipes({"paper+noise": {"crop_size": 64}}, options, tmp_path / "timings.json", done)
    asked.clear()
    assert quality.time_recipes({"modern": {"crop_size": 64}}, options, tmp_path / "timings.json", done) == seconds
    assert asked == []
    quality.time_recipes({"modern": {"crop_size": 32}}, options, tmp_path / "timings.json", done)
    assert asked == [["paper", "modern"]] * 2


@pytest.mark.slow
def test_equal_minutes_are_steps_that_take_so_long(quality, tmp_path):
    process = start(tmp_path, "--minutes", "0.02", "--timed-seconds", "0.5", "--seeds", "0", "--tasks", "etopo1")
    _, said = process.communicate()
    assert process.returncode == 0, said
    [run] = quality.read_results(tmp_path / "results")["recipes"]
    assert run["steps"] == max(1, round(1.2 / run["step_seconds"]))


@pytest.mark.slow
def test_a_stopped_benchmark_goes_on_where_it_was(tmp_path):
    options = ["--steps", "400", "--seeds", "0", "--tasks", "etopo1"]
    run, log = (tmp_path / "work" / "recipes" / "etopo1" / "paper" / name for name in ("seed0", "seed0.log"))
    process = start(tmp_path, *options)
    # Before its first step a run has nothing to save, and a signal ends it at once.
    while not (run / "log.jsonl").is_file() or '"epoch"' not in (run / "log.jsonl").read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    [checkpoint] = (run / "checkpoints").iterdir()
    assert "Stopped and saved after step" in log.read_text()
    assert not (run / "run.json").exists()

    process = start(tmp_path, *options)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert f"Resuming after step {int(checkpoint.name.removeprefix('step_'))}" in log.read_text()
    assert json.loads((run / "run.json").read_text())["steps"] == 400


@pytest.mark.slow
def test_a_failing_run_is_reported_with_its_reason_and_the_others_go_on(tmp_path):
    place = tmp_path / "work" / "recipes" / "etopo1" / "paper" / "seed0"
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("keep")
    process = start(tmp_path, "--steps", "2", "--seeds", "0", "1", "--tasks", "etopo1")
    _, said = process.communicate()
    assert process.returncode == 1
    assert "paper on etopo1, seed 0: failed" in said
    assert "is not a run directory" in said
    assert "paper on etopo1, seed 1: done" in said
