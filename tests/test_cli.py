"""The command line as a script or a person uses it."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from conftest import make_folder
from cyclegan import __version__
from cyclegan.cli import COMMANDS, main
from cyclegan.config import field_sections
from cyclegan.networks import DISCRIMINATORS, GENERATORS

FLAGS = (
    "--width 4 --blocks 1 --discriminator-layers 1 --discriminator-width 4 --crop-size 16 --no-tensorboard --device cpu"
)


def run(capsys, command):
    """Exit code, stdout, stderr of a command line given as one string."""
    try:
        main(command.split())
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_train_and_translate_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos"), make_folder(tmp_path / "maps", seed=1)
    train = f"train photos maps --out runs/maps --preset paper --steps 3 --seed 7 --batch-size 2 --load-size 20 {FLAGS}"
    code, out, err = run(capsys, train)
    assert (code, out.strip()) == (0, "runs/maps")
    assert "identity weight 0.5" in err
    config = tomllib.loads(Path("runs/maps/config.toml").read_text())
    assert (config["steps"], config["seed"], config["batch_size"]) == (3, 7, 2)
    assert (config["model"]["width"], config["data"]["load_size"]) == (4, 20)

    # Folders may stand on both sides of the flags.
    code, out, err = run(capsys, train.replace("photos maps", "photos") + " maps")
    assert code == 0
    assert "complete" in err
    code, out, err = run(capsys, train.replace("--seed 7", "--seed 8"))
    assert code == 2
    assert re.search(r"seed 7 -> 8.*--fresh", err)
    assert "Traceback" not in err

    command = "translate runs/maps photos photos/0.png --out out --direction b2a --batch-size 4 --device cpu"
    code, out, err = run(capsys, command.replace(" photos/0.png", ""))
    assert (code, out.strip()) == (0, "6 images translated into out")
    assert Image.open("out/0.png").size == (24, 20)

    command = "translate runs/maps photos --out few --max-images 2 --scale-width 30 --device cpu"
    code, out, err = run(capsys, command)
    assert (code, out.strip()) == (0, "2 images translated into few")
    assert sorted(path.name for path in Path("few").iterdir()) == ["0.png", "1.png"]

    (tmp_path / "photos" / "bad.png").write_bytes(b"")
    code, out, err = run(capsys, "translate runs/maps photos --out out2")
    assert code == 1
    assert "bad.png" in err
    assert "6 images" in out


def test_a_configuration_file_lies_between_preset_and_flags(tmp_path, capsys):
    a, b = make_folder(tmp_path / "a"), make_folder(tmp_path / "b", seed=1)
    (tmp_path / "my.toml").write_text("steps = 2\nlearning_rate = 1e-3\n[model]\nnorm = 'none'\nwidth = 99\n")
    code, _, _ = run(capsys, f"train {a} {b} --out {tmp_path}/run --config {tmp_path}/my.toml {FLAGS}")
    assert code == 0
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert (config["steps"], config["learning_rate"]) == (2, 1e-3)
    assert (config["model"]["norm"], config["model"]["width"]) == ("none", 4)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("train nowhere", 2, "nowhere; expected a folder of images"),
        ("train . --widht 3", 2, "no flag --widht; did you mean --width"),
        ("train . --width wide", 2, "width is 'wide'"),
        ("train . --steps 3 --minutes 2", 2, "one length of the run"),
        ("train . --preset best", 2, "no preset 'best'"),
        ("train --preset best --help", 2, "no preset 'best'"),
        ("train . --config .", 2, "configuration file . cannot be read"),
        ("train a b c", 2, "Give two folders, or one root"),
        ("train --steps 3", 2, "No folder of images was given"),
        ("train . --config nothing.toml", 2, "no configuration file nothing.toml"),
        ("train . --generator vgg", 2, "invalid choice: 'vgg'"),
        ("translate nowhere x.png --out y", 2, "There is no nowhere"),
        ("translate . x.png", 2, "--out"),
        ("translate . x.png --out y --scale-width 0", 2, "--scale-width is 0; expected at least 1 pixel"),
        ("translate . x.png --out y --max-images 0", 2, "--max-images is 0"),
        ("translate . x.png --out y --scale-width 9 --short-side 9", 2, "not allowed with"),
        ("train . --from-reference train.py", 2, "stands alone"),
        ("train --from-reference train.py", 2, "no --dataroot"),
        ("compare nowhere elsewhere", 2, "no run directory nowhere"),
        ("compare .", 2, "at least two runs"),
        ("download moon", 2, "no dataset 'moon'"),
        ("download earth --variant moon", 2, "no variant 'moon' of earth"),
        ("tarin x y", 2, "there is no command 'tarin'; did you mean train?"),
        ("trnaslate run x.png", 2, "there is no command 'trnaslate'; did you mean translate?"),
        ("xyzzy", 2, "there is no command 'xyzzy'; choose one of: train, translate, "),
        ("", 2, "COMMAND"),
    ],
)
def test_mistakes_are_reported_in_one_sentence_with_a_failing_exit(
    capsys, tmp_path, monkeypatch, command, code, message
):
    monkeypatch.chdir(tmp_path)
    got, out, err = run(capsys, command)
    assert got == code
    assert message in err
    assert not out
    assert "Traceback" not in err


def test_every_setting_has_a_flag_with_its_meaning_and_default(capsys):
    code, out, _ = run(capsys, "train --help")
    assert code == 0
    for name, section in field_sections().items():
        if name not in ("a", "b", "preset"):
            assert re.search(rf"--{name.replace('_', '-')}\b", out), name
            assert section.model_fields[name].description.split()[0] in out
    assert "examples:" in out
    assert "(default: layer)" in out


@pytest.mark.parametrize("value", ["-9999", "-3.4028235e+38", "-3.4E38", "-1.e-3", "-.5"])
def test_negative_numbers_are_values_of_flags_in_every_spelling(tmp_path, monkeypatch, capsys, value):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, f"train nowhere there --nodata-a {value} --range-b {value} 9")
    assert code == 2
    assert "nowhere; expected a folder of images" in err


def test_networks_are_listed_and_old_words_are_taken(capsys, tmp_path):
    _, out, _ = run(capsys, "train --help")
    assert f"--generator {{{','.join(GENERATORS)}}}" in out
    assert f"--discriminator {{{','.join(DISCRIMINATORS)}}}" in out
    code, _, err = run(capsys, f"train {tmp_path}/a {tmp_path}/b --norm pixel --discriminator-norm pixel")
    assert code == 2
    assert f"{tmp_path}/a" in err  # the folders are missing, the norm is not refused
    code, _, err = run(capsys, f"train {tmp_path}/a {tmp_path}/b --generator-options width=3 --generator-options c=4")
    assert code == 2
    assert "ResnetGenerator has no option 'width'" in err


def test_help_shows_the_defaults_of_the_preset_that_is_given(capsys):
    _, paper, _ = run(capsys, "train --preset paper --help")
    _, demo, _ = run(capsys, "train --preset demo --help")
    assert "(default: layer)" not in paper
    assert "(default: layer)" in demo


@pytest.mark.parametrize(
    "command", ["", "train", "translate", "evaluate", "compare", "inspect", "push", "download", "demo"]
)
def test_help_ends_with_examples(capsys, command):
    code, out, _ = run(capsys, f"{command} --help")
    assert code == 0
    assert "examples:\n  cyclegan" in out


def test_version_and_module_entry_points():
    for command in (["-m", "cyclegan"], ["-c", "from cyclegan.cli import main; main()"]):
        shown = subprocess.run([sys.executable, *command, "--version"], capture_output=True, text=True, check=True)
        assert shown.stdout.strip() == f"cyclegan {__version__}"


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["translate", "--help"], ["--version"]])
def test_help_does_not_wait_for_heavy_modules(command):
    code = f"import sys; from cyclegan.cli import main\ntry: main({command})\nexcept SystemExit: pass\n"
    code += "import json; print(json.dumps(sorted({'torch', 'numpy', 'PIL', 'rich', 'matplotlib'} & set(sys.modules))))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(shown.splitlines()[-1]) == []


def test_importing_the_package_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import cyclegan; print(sorted(set(sys.modules) - before))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = {name.split(".")[0] for name in ast.literal_eval(shown)}
    assert "cyclegan" in modules
    assert modules - {"cyclegan"} <= set(sys.stdlib_module_names)


def test_importing_the_translator_loads_no_charts_and_no_scores():
    code = "import sys; from cyclegan import Translator; print(sorted(m for m in ('matplotlib', 'torchmetrics', 'rich',"
    code += " 'tensorboard', 'scipy', 'pandas', 'sklearn', 'huggingface_hub') if m in sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_options_of_the_reference_are_answered_with_the_options_of_this_program(capsys):
    for command in (
        "train a --lambda_L1 3",
        "train a --verbose",
        "inspect a --num_threads 3",
        "download maps --name x",
    ):
        code, _, err = run(capsys, command)
        assert code == 2
        assert " here" not in err
    for flag, ours in (
        ("--netG", "--generator, --blocks, --depth"),
        ("--niter", "--epochs"),
        ("--lr", "--learning-rate"),
    ):
        code, _, err = run(capsys, f"train data {flag} 3")
        assert code == 2
        assert re.search(rf"no flag {flag}, which is {ours}.*--from-reference", err)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --dataroot x", "no flag --dataroot; name the folders themselves: A B, or one ROOT"),
        ("train a --name x", "no flag --name; give the whole path of the run: --out checkpoints/maps_cyclegan"),
        ("train a --checkpoints_dir x", "give the whole path of the run: --out"),
        ("train a --model cycle_gan", "no flag --model; leave it out, because every run is a CycleGAN"),
        ("train a --gpu_ids 0", "no flag --gpu_ids, which is --device here"),
        ("train a --phase train", "no flag --phase; name the folders that are read: A B"),
        ("train a --direction BtoA", "for BtoA name the folders in the order B A"),
        ("train a --dataset_mode unaligned", "images are always unpaired"),
        ("train a --use_wandb", "no flag --use_wandb, which is --wandb here"),
        ("train a --display_id 0", "leave it out: there is no visdom here"),
        ("train a --lambda_L1 3", "leave it out: an option of pix2pix"),
        ("translate r x --out y --dataroot d", "no flag --dataroot; name the images themselves, after RUN"),
        ("translate r x --out y --name n", "no flag --name; give the whole path of the run, as RUN"),
        ("translate r x --out y --model test", "no flag --model; leave it out, because a run knows its model"),
        ("translate r x --out y --netG unet_256", "no flag --netG; leave it out, because a run knows its networks"),
        ("translate r x --out y --gpu_ids 0", "no flag --gpu_ids, which is --device here"),
        ("translate r x --out y --results_dir d", "no flag --results_dir, which is --out here"),
        ("translate r x --out y --num_test 3", "no flag --num_test, which is --max-images here"),
        ("translate r x --out y --epoch 5", "give the checkpoint as RUN"),
        ("translate r x --out y --lr 5", "no flag --lr, which the reference implementation has for training"),
        ("evaluate r --dataroot d", "name the folders of test images: --a ROOT/testA --b ROOT/testB"),
        ("evaluate r --name d", "give the whole path of the run, as RUN"),
        ("export r --format onnx --out o --netG x", "leave it out, because a run knows its networks"),
        ("inspect a --phase x", "no flag --phase, which the reference implementation has for training"),
    ],
)
def test_habits_of_the_reference_are_answered_and_never_with_a_flag_that_only_sounds_alike(capsys, command, message):
    code, _, err = run(capsys, command)
    assert code == 2
    assert message in err
    assert "did you mean" not in err


def test_many_files_of_the_wrong_kind_are_reported_in_few_lines(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos"), make_folder(tmp_path / "maps", seed=1)
    run(capsys, f"train photos maps --out run --steps 1 --load-size 20 {FLAGS}")
    for index in range(14):
        Image.new("I;16", (24, 20)).save(tmp_path / "photos" / f"deep{index}.png")
    code, out, err = run(capsys, "translate run photos --out out --device cpu")
    assert code == 1
    assert out == "6 images translated into out\n"
    lines = [line for line in err.splitlines() if line.startswith("Left out")]
    assert len(lines) == 11
    assert lines[-1] == "Left out: 4 more, 14 of 20 in all."
    assert all(line.count("deep") == 1 for line in lines[:-1])
    code, out, _ = run(capsys, "translate run photos/0.png --out one.png --device cpu")
    assert (code, out) == (0, "1 image translated into one.png\n")
    assert Image.open("one.png").size == (24, 20)


@pytest.mark.parametrize(("policy", "spins"), [(None, "1000"), ("active", None)])
def test_threads_wait_briefly_unless_the_user_says_how(monkeypatch, policy, spins):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_the_help_of_train_begins_with_ten_settings_and_shows_every_flag_in_one_group(capsys):
    _, out, _ = run(capsys, "train --help")
    groups = dict(re.findall(r"^([a-z ,]+):\n((?:  .*\n)+)", out, re.MULTILINE))
    flags = {title: re.findall(r"^  --([\w-]+)", text, re.MULTILINE) for title, text in groups.items()}
    assert len(flags["most used settings"]) == 10
    for title in ("data", "networks", "losses", "optimisation", "machine", "what is written"):
        assert flags[title], title
    shown = [flag for group in flags.values() for flag in group]
    assert len(set(shown)) == len(shown)
    assert flags["losses"][:2] == ["cycle-weight", "adversarial"]


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_terminal_except_for_examples(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in COMMANDS:
        _, out, _ = run(capsys, f"{command} --help")
        for line in out.splitlines():
            assert len(line) <= columns or line.startswith(("  cyclegan", "  --", "                       {")), line
