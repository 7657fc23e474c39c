"""Runs side by side: what is marked, noted and refused."""

import base64
import io
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from cyclegan import InputError, ModelConfig
from cyclegan.cli import main
from cyclegan.images.formats import ImageFormat
from cyclegan.metrics.features import features_info
from cyclegan.report.charts import Chart
from cyclegan.report.compare import compare, print_comparison, short_names, warning
from cyclegan.report.run import write_run_report
from cyclegan.storage.model import ModelInfo
from cyclegan.storage.run import evaluation_of
from make_run import make_examples, make_run, make_scores


@pytest.fixture
def runs(tmp_path):
    kids = {"seed0": 0.12, "seed1": 0.1, "wide": 0.2}
    return [make_run(tmp_path / "runs" / name / "run", kid=kid, l1=0.2) for name, kid in kids.items()]


def test_the_best_value_of_a_row_is_marked_and_equal_ones_are_not(runs, tmp_path):
    comparison = compare(*runs, out=tmp_path / "page.html")
    assert comparison.names == ("seed0", "seed1", "wide")
    best = {name: marked for name, _, marked in comparison.rows("a2b")}
    assert best == {"kid": {1}, "l1": set(), "psnr": set()}
    page = (tmp_path / "page.html").read_text()
    assert "0.100 *<small>0.080 to 0.120</small>" in page
    assert "KID (EfficientNet-Lite0) on validation images" in page
    assert page.count("2 test images are far too few.") == 2  # one for each direction, not for each run


def test_on_screen_three_runs_fit_into_100_columns(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    page = tmp_path / "page.html"
    main(["compare", *map(str, runs), "--out", str(page)])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    row = next(line for line in out.splitlines() if "KID, EfficientNet-Lite0" in line)
    assert [cell.strip() for cell in row.split("│")[2:5]] == ["0.120", "0.100 *", "0.200"]
    assert "0.160 to 0.240" in out
    assert out.splitlines()[-1] == str(page)
    assert page.is_file()


def test_a_score_that_more_is_better_of_is_marked_at_its_highest(runs):
    scores = make_scores()
    better = scores.directions["a2b"].metrics["psnr"].replace(value={"value": 25.0})
    metrics = {**scores.directions["a2b"].metrics, "psnr": better}
    changed = scores.directions["a2b"].replace(metrics=metrics)
    scores.replace(directions={**scores.directions, "a2b": changed}).write(runs[2] / "scores.json")
    best = {name: marked for name, _, marked in compare(*runs).rows("a2b")}
    assert best["psnr"] == {2}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"short_side": 128}, "size for translation differs (seed0: as it is, wide: short side 128)"),
        ({"noise_sigma": 0.5}, "noise on the translation differs"),
        ({"paired": False}, "comparison with the truth differs (seed0: yes, wide: no)"),
        ({"features": features_info().replace(label="other features")}, "feature network differs"),
        ({"features": features_info().replace(input_pixels=299)}, "way to the features differs"),
        ({"files": ("0.png", "2.png", "3.png")}, "images of test_a differ (seed0: 2, wide: 3; 1 names are in all"),
        ({"ceiling": 0.7}, "untranslated test images of A to B have different KID (seed0: 0.900, wide: 0.700)"),
    ],
)
def test_runs_measured_differently_are_reported_and_nothing_is_marked(runs, tmp_path, capsys, change, told):
    scores = make_scores(kid=0.2, **{k: v for k, v in change.items() if k in ("files", "ceiling")})
    scores.replace(**{k: v for k, v in change.items() if k not in ("files", "ceiling")}).write(runs[2] / "scores.json")
    comparison = compare(runs[0], runs[2], out=tmp_path / "page.html")
    assert told in warning(comparison)
    assert not any(marked for _, _, marked in comparison.rows("a2b"))
    page = (tmp_path / "page.html").read_text()
    assert page.index("not measured alike") < page.index("KID, EfficientNet-Lite0")
    print_comparison(comparison)
    assert "not measured alike" in capsys.readouterr().out


def test_equal_names_in_different_folders_are_a_remark(runs):
    scores = make_scores()
    files = {name: of.replace(root=f"elsewhere/{name}") for name, of in scores.files.items()}
    scores.replace(files=files).write(runs[1] / "scores.json")
    comparison = compare(runs[0], runs[1])
    assert comparison.differences == ()
    assert "test_a have the same names but lie in different folders" in comparison.remarks[0]


def test_the_page_shows_test_images_that_all_runs_share(runs, tmp_path):
    compare(*runs, out=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "The same images, A to B" in page
    assert "L1 0.100 | L1 0.100 | L1 0.100" in page
    examples = runs[1] / "examples" / "examples.json"
    examples.write_text(examples.read_text().replace('"0.png"', '"7.png"').replace('"1.png"', '"8.png"'))
    compare(*runs, out=tmp_path / "page.html")
    assert "The same images" not in (tmp_path / "page.html").read_text()
    make_examples(runs[1])
    (runs[2] / "examples" / "examples.json").unlink()
    compare(*runs, out=tmp_path / "page.html")
    assert "The same images" not in (tmp_path / "page.html").read_text()


# ---- checkpoints and models of runs


def evaluated(place, colour, *, step, file, **scores):
    """An evaluation with pictures of its own colour and of its own file."""
    place.mkdir(parents=True, exist_ok=True)
    make_scores(files=(file, "1.png"), **{**scores, "step": step}).write(place / "scores.json")
    make_examples(place)
    examples = place / "examples" / "examples.json"
    examples.write_text(examples.read_text().replace('"0.png"', f'"{file}"'))
    for picture in (place / "examples" / "a2b").glob("*_output.png"):
        Image.new("RGB", (24, 20), colour).save(picture)


def model_at(folder, step):
    info = ModelInfo(
        **{"cyclegan_version": "0", "model": ModelConfig(), "a": ImageFormat(), "b": ImageFormat()},
        **{"preprocess": "none", "load_size": 286, "crop_size": 256, "step": step, "translate_with": "final"},
    )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(info.model_dump_json())


def pictures_of(page):
    """The colours of all pictures of a page."""
    found = re.findall(r"data:image/[a-z]+;base64,([^\"')]+)", page)
    colours = set()
    for text in found:
        with Image.open(io.BytesIO(base64.b64decode(text))) as image:
            colours.add(image.convert("RGB").getpixel((image.width // 2, image.height // 2)))
    return colours


def curves_of(monkeypatch, *paths, out):
    """The steps of each curve of a comparison, by its name."""
    charts = []
    monkeypatch.setattr(
        "cyclegan.report.compare.Chart", lambda title, curves: charts.append(curves) or Chart(title, curves)
    )
    compare(*paths, out=out)
    return {curve.label: curve.steps for chart in charts for curve in chart}


PLACES = {
    "best": ("best/model", "evaluations/best"),
    "best/model": ("best/model", "evaluations/best"),
    "checkpoints/step_0002000": ("checkpoints/step_0002000/model", "evaluations/step_0002000"),
    "models/epoch_0005": ("models/epoch_0005", "evaluations/epoch_0005"),
    "evaluations/best": ("best/model", "evaluations/best"),
}


@pytest.mark.parametrize("path", PLACES)
def test_pictures_curves_and_steps_of_a_checkpoint_are_those_of_its_scores(runs, tmp_path, monkeypatch, path):
    run, other = runs[0], runs[1]
    model, place = PLACES[path]
    model_at(run / "model", 3000)
    model_at(run / model, 2000)
    evaluated(run / place, (9, 90, 200), step=2000, file="0.png", kid=0.05)
    (run / path).mkdir(parents=True, exist_ok=True)
    assert evaluation_of(run / path) == (run / place).resolve()
    page = tmp_path / "page.html"
    assert curves_of(monkeypatch, run / path, other, out=page) == {
        short_names([run / path, other])[0]: [1000, 2000],
        short_names([run / path, other])[1]: [1000, 2000, 3000],
    }
    comparison = compare(run / path, other)
    assert [of.step for of in comparison.scores] == [2000, 3000]
    assert not [remark for remark in comparison.remarks if "evaluate it again" in remark]
    colours = pictures_of(page.read_text())
    assert any(near(colour, (9, 90, 200)) for colour in colours)
    # Those of the run itself are not taken for it, also where the evaluation has none.
    shutil.rmtree(run / place / "examples")
    compare(run / path, other, out=page)
    assert "No pictures to compare, because the evaluation of" in page.read_text()
    assert "The same images" not in page.read_text()


def near(colour, wanted):
    return all(abs(one - other) < 12 for one, other in zip(colour, wanted, strict=True))


def test_a_bare_model_has_no_curve_and_says_so(runs, tmp_path, monkeypatch):
    model_at(tmp_path / "bare", 500)
    evaluated(tmp_path / "bare", (9, 90, 200), step=500, file="0.png")
    page = tmp_path / "page.html"
    names = curves_of(monkeypatch, tmp_path / "bare", runs[0], out=page)
    assert list(names.values()) == [[1000, 2000, 3000]]
    assert "No curve of bare" in page.read_text()


def test_a_model_that_was_trained_further_or_replaced_since_is_a_remark(runs):
    run = runs[0]
    model_at(run / "model", 5000)
    model_at(run / "best" / "model", 4000)
    evaluated(run / "evaluations" / "best", (9, 90, 200), step=2000, file="0.png")
    remarks = compare(run / "best", run).remarks
    assert "run/best was scored at step 2,000 and is at step 4,000 now: evaluate it again." in remarks
    assert "run was scored at step 3,000 and is at step 5,000 now: evaluate it again." in remarks


def test_a_run_is_compared_with_its_own_best_but_not_with_its_own_model(runs):
    run = runs[0]
    model_at(run / "model", 3000)
    model_at(run / "best" / "model", 2000)
    with pytest.raises(InputError, match=r"There is no .*evaluations.best.scores.json.*cyclegan evaluate .*run.best "):
        compare(run, run / "best")
    evaluated(run / "evaluations" / "best", (9, 90, 200), step=2000, file="0.png", kid=0.01)
    comparison = compare(run, run / "best")
    assert [of.directions["a2b"].metrics["kid"].value.value for of in comparison.scores] == [0.12, 0.01]
    with pytest.raises(InputError, match="given twice"):
        compare(run, run / "model")


def test_the_page_of_an_evaluated_checkpoint_ends_at_its_step(runs):
    run = runs[0]
    model_at(run / "best" / "model", 2000)
    place = run / "evaluations" / "best"
    evaluated(place, (9, 90, 200), step=2000, file="0.png")
    page = write_run_report(place).read_text()
    assert "CycleGAN run run, best" in page
    assert "Trained for 2,000 steps" in page
    assert "photos (A) to maps (B)" in page
    assert "3,000" not in re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    assert "The translations are all alike." in page  # the warning of step 2000
    (place / "scores.json").unlink()
    assert "Trained for" not in write_run_report(place).read_text()


def test_inputs_that_cannot_be_compared_are_refused_in_one_sentence(runs, tmp_path):
    with pytest.raises(InputError, match="at least two runs, not 1"):
        compare(runs[0])
    with pytest.raises(InputError, match="no run directory"):
        compare(runs[0], tmp_path / "nowhere")
    with pytest.raises(InputError, match="given twice"):
        compare(runs[0], runs[0] / ".." / "run")
    (runs[1] / "scores.json").unlink()
    with pytest.raises(InputError, match="cyclegan evaluate"):
        compare(*runs)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/r/runs/a", "/r/runs/b"], ("a", "b")),
        (["/r/x/seed0/run", "/r/x/seed1/run"], ("seed0", "seed1")),
        (["/r/a/v1", "/r/a/v2", "/r/b/v1"], ("a/v1", "a/v2", "b/v1")),
        (["/r/x", "/r/x/x"], ("x", "x/x")),
    ],
)
def test_names_of_runs_are_shortened_but_stay_distinct(paths, names):
    assert short_names([Path(path) for path in paths]) == names
