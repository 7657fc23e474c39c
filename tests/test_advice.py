"""Messages name flags that the command has which prints them."""

import re
import shutil
from contextlib import suppress

import numpy as np
import pytest
import tifffile

from conftest import TINY, make_folder
from cyclegan import train
from cyclegan.cli import COMMANDS, _parser, main
from cyclegan.system.advice import advise, flags_of_command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    a, b = make_folder(root / "a", 12), make_folder(root / "b", 12, seed=1)
    return train(a, b, out=root / "run", quiet=True, **{**TINY, "steps": 2})


def test_advice_names_flags_of_the_running_command():
    choices = ("take --page 2 or --bands 1", "take --page 2", "save it")
    assert advise(*choices) == choices[0]  # in Python
    for flags, expected in ((["--page", "--bands"], 0), (["--page"], 1), (["--pages"], 2), ([], 2)):
        with flags_of_command(flags):
            assert advise(*choices) == choices[expected]
    assert advise(*choices) == choices[0]


def flags_of(command):
    parser = _parser([command])._subparsers._group_actions[0].choices[command]
    return {flag for action in parser._actions for flag in action.option_strings}


def several_pages(path):
    tifffile.imwrite(path, np.zeros((3, 40, 40, 3), np.uint8), photometric="rgb")


def many_bands(path):
    tifffile.imwrite(path, np.zeros((40, 40, 5), np.uint8), photometric="minisblack", planarconfig="contig")


def two_bands(path):
    tifffile.imwrite(path, np.zeros((40, 40, 2), np.uint16), photometric="minisblack", planarconfig="contig")


def too_large(path):
    tifffile.imwrite(path, np.zeros((2000, 2000, 3), np.uint8), photometric="rgb", compression="zlib")


COMMAND_LINES = {
    "train": [
        *("{bad}", "{good}", "--out", "{out}", "--steps", "1", "--device", "cpu"),
        *("--crop-size", "32", "--width", "4", "--blocks", "1", "--discriminator-width", "4"),
    ],
    "inspect": ["{bad}", "{good}"],
    "translate": ["{run}", "{bad}", "--out", "{out}", "--device", "cpu"],
    "evaluate": ["{run}", "--a", "{bad}", "--b", "{good}", "--out", "{out}", "--device", "cpu"],
}


@pytest.mark.parametrize("command", COMMAND_LINES)
@pytest.mark.parametrize("make", [several_pages, many_bands, two_bands, too_large])
@pytest.mark.parametrize("num_good", [0, 12])
def test_every_flag_in_a_message_is_one_of_the_command(run, tmp_path, capsys, command, make, num_good):
    places = {name: tmp_path / name for name in ("bad", "good", "out")}
    make_folder(places["good"], 12)
    places["bad"].mkdir()
    for index in range(num_good):
        shutil.copy(places["good"] / f"{index}.png", places["bad"] / f"{index}.png")
    make(places["bad"] / "a.tif")
    words = [word.format(run=run, **places) for word in COMMAND_LINES[command]]
    words += ["--max-pixels", "1000000"] if make is too_large else []
    capsys.readouterr()
    with suppress(SystemExit):
        main([command, *words])
    output = capsys.readouterr()
    text = output.out + output.err
    assert "a.tif" in text or command == "inspect"  # which reads other channels as they are
    of_others = r"cyclegan (?!" + command + r"\b)\w+[^;.]*|(?i:train(ing)? with) --\S+|--crop-size|--preprocess"
    found = set(re.findall(r"--[a-z][a-z-]*", re.sub(of_others, "", text)))
    assert found <= flags_of(command), text


def test_every_command_has_flags():
    assert all(flags_of(command) for command in COMMANDS)
