"""Every example of docs/extending.md runs as printed; trainings are made tiny."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_file_formats import check_file_format

import cyclegan
from conftest import TINY, make_folder
from cyclegan import InputError, Translator, evaluate, train
from cyclegan.cli import main
from cyclegan.config import read_config_file, saved_config
from cyclegan.images.codecs import probe_image, read_image, write_image
from cyclegan.images.file_formats import FILE_FORMATS
from cyclegan.metrics.features import FEATURE_NETWORKS
from cyclegan.metrics.table import METRICS
from cyclegan.networks import DISCRIMINATORS, GENERATORS
from cyclegan.step.terms import TERMS
from cyclegan.storage.model import read_info
from cyclegan.storage.scores import read_scores
from cyclegan.training import Batch, Scored
from networks_tester import all_checks

SMALL = {**TINY, "load_size": None}
PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
TABLES = (TERMS, GENERATORS, DISCRIMINATORS, METRICS, FEATURE_NETWORKS, FILE_FORMATS)


def read_examples(language):
    """The code blocks of each section of the page, by its title."""
    examples = {}
    for part in re.split(r"^#+ ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        examples[part.splitlines()[0]] = re.findall(rf"^```{language}\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    return examples


EXAMPLES = read_examples("python")
DIFFS = [diff for diffs in read_examples("diff").values() for diff in diffs]


@pytest.fixture
def run_examples(tmp_path, monkeypatch):
    """A function that executes all examples of a section in a folder of images, and returns their names.

    Its keyword arguments are settings of the trainings in them. All tables are restored afterwards.
    """
    kept = [(table, dict(table)) for table in TABLES]
    for seed, name in enumerate(("photos", "maps", "testA", "testB")):
        make_folder(tmp_path / name, 4, size=(40, 36), seed=seed)
    monkeypatch.chdir(tmp_path)

    def run(title, names=None, **settings):
        def train_tiny(*arguments, **printed):
            for length in ("steps", "epochs", "minutes"):
                printed.pop(length, None)
            return train(*arguments, **{**SMALL, "steps": 2, "quiet": True, **printed, **settings})

        names = {"__name__": "example"} if names is None else names
        with monkeypatch.context() as patch:
            patch.setattr(cyclegan, "train", train_tiny, raising=False)
            for code in EXAMPLES[title]:
                exec(compile(code, f"{PAGE.name}, {title}", "exec"), names)
        return names

    yield run
    for table, rows in kept:
        table.clear()
        table.update(rows)


@pytest.fixture
def trained(tmp_path, run_examples):  # noqa: ARG001, the folders are made there
    """The run that some examples evaluate."""
    return train("photos", "maps", out=tmp_path / "runs" / "maps", preset="paper", quiet=True, **TINY, steps=1)


def log_lines(run):
    return [json.loads(line) for line in (Path(run) / "log.jsonl").read_text().splitlines()]


def test_no_example_is_longer_than_thirty_lines():
    for title, codes in {**EXAMPLES, "diffs": DIFFS}.items():
        for code in codes:
            assert len([line for line in code.splitlines() if line.strip()]) <= 30, title


def test_the_page_has_every_table_and_every_event():
    page = PAGE.read_text(encoding="utf-8")
    for name in ("TERMS", "PENALTIES", "GENERATORS", "DISCRIMINATORS", "METRICS", "FEATURE_NETWORKS", "FILE_FORMATS"):
        assert name in page
    others = {"Batch", "BatchSource", "Event", "train"}
    assert all(f"`{event}`" in page for event in set(cyclegan.training.__all__) - others)
    for place in re.findall(r"`((?:\w+/)+\w+\.py)`", page):
        root = PAGE.parents[1]
        new = ("networks/naf.py", "images/filetypes/qoi.py")
        assert place in new or (root / place).exists() or (root / "src/cyclegan" / place).exists(), place


# ---- a loss term


def test_a_loss_term(run_examples):
    names = run_examples("A loss term", preset="paper")
    losses = [line for line in log_lines("runs/frequency") if "cycle_a" in line]
    assert all(line["frequency_a"] > 0 and line["frequency_b"] > 0 for line in losses)
    assert "Focal frequency losses" in Path("runs/frequency/report.html").read_text()
    loss = names["focal_frequency_loss"]
    x, y = torch.rand(2, 2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    assert loss(x, x) == 0
    spectrum = np.abs(np.fft.fft2((y - x).numpy(), norm="ortho"))
    weight = spectrum / spectrum.max((-2, -1), keepdims=True)
    assert loss(x, y).item() == pytest.approx((weight * spectrum**2).mean(), rel=1e-4)
    y.requires_grad_()
    loss(x, y).backward()
    assert y.grad.isfinite().all()


def apply_diff(diff, root):
    """Change the files below `root`: in each part of a diff, the lines without + are replaced by those without -."""
    for file in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]:
        name, *parts = re.split(r"^@@.*\n", file, flags=re.MULTILINE)
        path = root / name.strip()
        for part in parts:
            lines = part.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] != "+")
            new = "".join(line[1:] for line in lines if line[0] != "-")
            text = path.read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{name}: {old}"
            path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.usefixtures("run_examples")
def test_a_loss_term_and_a_generator_in_the_package(tmp_path):
    source = tmp_path / "src" / "cyclegan"
    shutil.copytree(Path(cyclegan.__file__).parent, source, ignore=shutil.ignore_patterns("__pycache__", "earth"))
    for diff in DIFFS:
        apply_diff(diff, tmp_path)
    with (source / "step" / "losses.py").open("a", encoding="utf-8") as file:
        file.write(EXAMPLES["A loss term"][0])
    naf = EXAMPLES["A generator"][0].replace("from cyclegan.networks import GENERATORS\n", "")
    (source / "networks" / "naf.py").write_text(naf.replace('\n\nGENERATORS["naf"] = NafGenerator\n', ""))
    flags = "--generator naf --generator-options num_blocks=2 --contrastive-weight 0 --frequency-weight 3 --width 4"
    flags += " --crop-size 16 --steps 2 --log-steps 1 --num-samples 0 --num-validation 0 --discriminator-layers 1"
    (tmp_path / "use.py").write_text(
        "from cyclegan.cli import main\n"
        f"main('train photos maps --out run {flags} --discriminator-width 4 --no-tensorboard'.split())\n"
        "main('push run user/name --dry-run card'.split())\n"
        "main(['train', '--help'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run([sys.executable, "use.py"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--frequency-weight" in done.stdout
    assert "{resnet,naf,unet}" in done.stdout
    assert "focal frequency weight 3" in " ".join(done.stderr.split())
    assert all(line["frequency_b"] > 0 for line in log_lines("run") if "cycle_a" in line)
    assert read_config_file(Path("run/config.toml"))["model"]["generator_options"] == {"num_blocks": 2}
    assert "| focal frequency A to B to A | 3 |" in Path("card/README.md").read_text()


def test_a_script_with_a_row_is_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes = [EXAMPLES["A generator"][0], EXAMPLES["Extending"][0]]
    (tmp_path / "mine.py").write_text("\n".join(codes))
    words = [sys.executable, "mine.py", "train", "--generator", "naf", "--help"]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True)
    assert b"{resnet,unet,naf}" in done.stdout, done.stderr


# ---- networks


def test_a_generator(run_examples):
    pytest.importorskip("onnxscript", reason="the example exports to ONNX")
    names = run_examples("A generator")
    assert names["picture"].size == (40, 36)
    saved = json.loads(Path("runs/naf/model/config.json").read_text())["model"]
    assert saved["generator_options"] == {"num_blocks": 8}
    config = saved_config(read_config_file(Path("runs/naf/config.toml")))
    assert config.model.generator_options == saved["generator_options"]
    exact, other = (Translator.load(path, direction="a2b") for path in ("runs/naf", "exported"))
    x = torch.rand(1, 3, 37, 33) * 2 - 1
    torch.testing.assert_close(other.translate_tensor(x), exact.translate_tensor(x), atol=1e-4, rtol=0)
    # The same call resumes the run, and its model starts another one.
    assert train("photos/", "maps/", out="runs/naf", steps=2, quiet=True, **SMALL, **names["settings"]).name == "naf"
    train("photos/", "maps/", out="runs/fine", steps=1, init_from="runs/naf", contrastive_weight=0, quiet=True, **TINY)


def test_a_generator_that_declares_more(run_examples):
    run_examples("What a generator can declare", run_examples("A generator"))
    settings = {**TINY, "steps": 2, "crop_size": 32, "load_size": 36, "generator": "full_naf", "quiet": True}
    train("photos/", "maps/", out="run", **settings)  # with the contrastive loss of the default preset
    train("photos/", "maps/", out="more", init_from="run", freeze="encoder", checkpoint_activations=True, **settings)
    translator = Translator.load("run")
    image = np.random.default_rng(0).integers(0, 256, (71, 90, 3), np.uint8)
    whole, tiled = (next(iter(translator.translate([image], tile=tile))) for tile in (None, 16))
    assert np.abs(whole.astype(int) - tiled).max() <= 1


@pytest.mark.parametrize("kind", ["naf", "full_naf"])
def test_both_generators_pass_the_shared_tester(run_examples, tmp_path, kind):
    names = {}
    exec(EXAMPLES["A generator"][0], names)
    run_examples("What a generator can declare", names)
    for name, check in all_checks(GENERATORS, kind, tmp_path).items():
        if name != "is_exported_to_onnx":  # the example does that
            check()


def test_a_discriminator(run_examples, tmp_path):
    run_examples("A discriminator")
    saved = json.loads(Path("runs/detail/model/config.json").read_text())["model"]
    assert saved["discriminator_options"] == {"blur": 7}
    for check in all_checks(DISCRIMINATORS, "detail", tmp_path).values():
        check()


# ---- scores


def test_a_metric(trained, run_examples, capsys):
    run_examples("A metric")
    assert "value=" in capsys.readouterr().out
    score = read_scores(trained).directions["a2b"].metrics["gms"]
    assert 0 < score.value.value < 1
    assert score.ceiling is not None
    assert score.num_images == 4
    assert "gradient similarity" in (trained / "report.html").read_text()
    main(["evaluate", str(trained), "--a", "testA", "--b", "testB", "--paired", "--out", "again"])
    assert "gradient similarity" in capsys.readouterr().out
    main(["compare", str(trained), "again", "--out", "compared.html"])
    assert "gradient similarity" in capsys.readouterr().out
    assert "gradient similarity" in Path("compared.html").read_text()
    # Scores of a metric that is gone still load.
    del METRICS["gms"]
    main(["compare", str(trained), "again", "--out", "compared.html"])
    assert "gradient similarity" not in capsys.readouterr().out


def test_a_feature_network(trained, run_examples, capsys):
    run_examples("A feature network")
    assert "KID, colour grid" in capsys.readouterr().out
    scores = read_scores(trained)
    assert (scores.features.name, scores.features.dimensions) == ("colour-grid", 48)
    page = (trained / "report.html").read_text()
    assert "KID, colour grid (less is better)" in page
    assert "by colour grid features" in page


# ---- files


def test_a_file_format(run_examples, tmp_path):
    row = EXAMPLES["A file format"][0]
    exec(row, {})
    for folder in ("photos", "maps"):
        for path in sorted((tmp_path / folder).iterdir()):
            write_image(path.with_suffix(".qoi"), np.asarray(Image.open(path)))
            path.unlink()
    names = run_examples("A file format")
    written = list(names["result"].written)
    assert [target for _, target in written] == [Path("translated", f"{index}.qoi") for index in range(4)]
    assert names["result"].skipped == ()
    for source, target in written:
        assert read_image(target, 3).shape == read_image(source, 3).shape
        assert probe_image(target)[:4] == (36, 40, "uint8", None)
    assert evaluate(names["run"], "photos", "maps", out="scores", quiet=True, num_bootstrap=100) is not None
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no readable images.*\.npy \.qoi"):
        train("empty", "maps", out="none", quiet=True, **TINY, steps=1)
    (tmp_path / "formats").mkdir()
    check_file_format(FILE_FORMATS["qoi"], tmp_path / "formats")


# ---- callbacks, data, messages


def test_a_callback(run_examples):
    names = run_examples("A callback", log_steps=1)
    rows = [line.split(",") for line in Path("losses.csv").read_text().splitlines()]
    assert [(row[0], len(row)) for row in rows] == [("1", 3), ("2", 3)]
    stop = names["StopWhenStuck"](patience=2)

    def scored(step, best):
        return Scored(step=step, seconds=1.0, kid=0.1, best=best, directions={}, scoring_seconds=0.1)

    for step, best in enumerate((True, False, True, False)):
        stop(scored(step, best))
    with pytest.raises(KeyboardInterrupt):
        stop(scored(5, False))


def test_own_data(run_examples):
    names = run_examples("Your own data")
    assert read_info(Path("runs/shapes/model")).step == 2
    source = names["DiscsAndSquares"]()
    batch, again = source.batch(7), source.batch(7)
    assert isinstance(batch, Batch)
    assert torch.equal(batch.a, again.a)
    assert (batch.a.flatten(1).max(1).values == batch.a.new_tensor(0.9)).all()
    assert (batch.b.flatten(1).min(1).values == batch.b.new_tensor(-0.9)).all()


def test_messages(run_examples, capfd):
    logger = logging.getLogger("cyclegan")
    before, level = list(logger.handlers), logger.level
    try:
        run_examples("Messages")
    finally:
        for handler in set(logger.handlers) - set(before):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)
    assert re.search(r"^\d{4}-\S+ \S+ INFO Done: 2 steps", Path("training.log").read_text(), re.MULTILINE)
    assert capfd.readouterr().err == ""
