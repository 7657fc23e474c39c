"""Runs side by side: what is marked, noted and refused."""

from pathlib import Path

import pytest

from cyclegan import InputError
from cyclegan.cli import main
from cyclegan.metrics.features import features_info
from cyclegan.report.compare import compare, print_comparison, short_names, warning
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
