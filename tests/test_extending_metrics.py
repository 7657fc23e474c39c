"""The examples of docs/_extending_metrics.md, run as printed."""

import re
from pathlib import Path

import pytest

from conftest import TINY, make_folder
from cyclegan import train
from cyclegan.cli import main
from cyclegan.metrics.features import FEATURE_NETWORKS
from cyclegan.metrics.table import METRICS
from cyclegan.storage.scores import read_scores

PAGE = Path(__file__).parents[1] / "docs" / "_extending_metrics.md"
METRIC, NETWORK = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with testA, testB and runs/maps, as the examples expect."""
    root = tmp_path_factory.mktemp("extending")
    for name, seed in (("trainA", 0), ("trainB", 1), ("testA", 2), ("testB", 3)):
        make_folder(root / name, 4, seed=seed)
    train(root, out=root / "runs" / "maps", preset="paper", quiet=True, **{**TINY, "steps": 1})
    return root


@pytest.fixture
def run_example(trained, monkeypatch):
    """Execute an example in that folder; the tables are restored afterwards."""
    monkeypatch.chdir(trained)
    tables = {id(table): (table, dict(table)) for table in (METRICS, FEATURE_NETWORKS)}

    def run(code):
        assert len(code.strip().splitlines()) <= 30
        exec(compile(code, str(PAGE), "exec"), {"__name__": "example"})

    yield run
    for table, rows in tables.values():
        table.clear()
        table.update(rows)


def test_a_metric_is_a_function_and_a_row(run_example, trained, capsys):
    run_example(METRIC)
    assert "value=" in capsys.readouterr().out
    run = trained / "runs" / "maps"
    score = read_scores(run).directions["a2b"].metrics["gms"]
    assert 0 < score.value.value < 1
    assert score.ceiling is not None
    assert score.num_images == 4
    assert "gradient similarity" in (run / "report.html").read_text()
    main(["evaluate", str(run), "--paired", "--out", str(trained / "again")])
    assert "gradient similarity" in capsys.readouterr().out
    main(["compare", str(run), str(trained / "again"), "--out", str(trained / "compared.html")])
    assert "gradient similarity" in capsys.readouterr().out
    assert "gradient similarity" in (trained / "compared.html").read_text()


def test_scores_of_a_metric_that_is_gone_still_load(run_example, trained, capsys):
    run_example(METRIC)
    del METRICS["gms"]
    main(["compare", str(trained / "runs" / "maps"), str(trained / "again"), "--out", str(trained / "compared.html")])
    assert "gradient similarity" not in capsys.readouterr().out


def test_a_feature_network_is_a_class_and_a_row(run_example, trained, capsys):
    run_example(NETWORK)
    assert "KID, colour grid" in capsys.readouterr().out
    scores = read_scores(trained / "runs" / "maps")
    assert (scores.features.name, scores.features.dimensions) == ("colour-grid", 48)
    page = (trained / "runs" / "maps" / "report.html").read_text()
    assert "KID, colour grid (less is better)" in page
    assert "by colour grid features" in page
