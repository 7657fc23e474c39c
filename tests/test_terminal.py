"""Names of files may hold anything; what reaches a terminal may not. Streams may be closed."""

import ast
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cyclegan
from conftest import TINY, make_folder
from cyclegan import train
from cyclegan.cli import main
from cyclegan.system.messages import make_console
from cyclegan.system.terminal import StandardError, print_result, printable, say, shell_quote

# ESC and a colour, BEL, newline, CR, backspace, DEL, C1 (the CSI of 8 bits), a mark that reorders text.
EVIL = "e\x1b[31mv\x07i\nl\r\b\x7f\x9b31m\u202e\u2066!"
SHOWN = r"e\x1b[31mv\x07i\nl\r\x08\x7f\x9b31m\u202e\u2066!"
UNSAFE = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")


def assert_safe(text):
    """No control but the ends of our lines; and no line begins with what followed a newline of a name."""
    assert not UNSAFE.search(text), repr(text)
    assert not any(line.startswith("l\\r") for line in text.splitlines()), text


def test_controls_become_escapes_and_all_other_text_stays():
    assert printable(EVIL) == SHOWN
    assert printable(os.fsdecode(b"x\xff")) == r"x\udcff"
    assert printable("a\u2028b\u2029c\u0085") == r"a\u2028b\u2029c\x85"
    assert printable("Zoë 馬 👩‍🎨 [/x] a\\b 100%") == "Zoë 馬 👩‍🎨 [/x] a\\b 100%"
    assert printable("a\nb\tc", keep="\n") == "a\nb\\tc"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    "name", [EVIL, "plain", "two words", "it's", "a'\x1b1\\b", "$x`y`\n", os.fsdecode(b"\xff7\x01")]
)
def test_a_quoted_name_is_the_same_name_for_a_shell(name):
    quoted = shell_quote(name)
    assert_safe(quoted)
    done = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(name)


# ---- every command


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run, its folders, test images, a broken image and a model of the reference, all under such names."""
    place = tmp_path_factory.mktemp("evil") / EVIL
    for name, seed in (("A", 0), ("B", 1), ("testA", 2), ("testB", 3)):
        folder = make_folder(place / "data" / name.replace("A", f"A{EVIL}").replace("B", f"B{EVIL}"), 10, seed=seed)
        shutil.copy(folder / "0.png", folder / f"copy{EVIL}.png")
        (folder / f"broken{EVIL}.png").write_bytes(b"no image")
    a, b, test_a, test_b = (place / "data" / f"{name}{EVIL}" for name in ("A", "B", "testA", "testB"))
    for name in ("run", "again"):
        train(a, b, out=place / name, test_a=test_a, test_b=test_b, quiet=True, preset="paper", **TINY | {"steps": 2})
    return place


def run_command(capfd, *arguments):
    """Standard output and standard error of a command, and its exit code."""
    capfd.readouterr()
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capfd.readouterr()
    return out, err, code


def folder(place, name):
    return place / "data" / f"{name}{EVIL}"


COMMANDS = {
    "train": lambda place, new: (
        *("train", folder(place, "A"), folder(place, "B"), "--out", new, "--steps", 1, "--width", 4, "--blocks", 1),
        *("--discriminator-width", 4, "--discriminator-layers", 1, "--crop-size", 16, "--load-size", 18),
        *("--device", "cpu", "--num-validation", 0, "--no-tensorboard"),
    ),
    "evaluate": lambda place, new: (
        *("evaluate", place / "run", "--a", folder(place, "testA"), "--b", folder(place, "testB"), "--out", new),
        *("--device", "cpu"),
    ),
    "inspect": lambda place, new: (
        *("inspect", folder(place, "A"), folder(place, "B"), "--test-a", folder(place, "testA")),
        *("--out", new.with_name(f"{new.name}.html")),
    ),
    "inspect a run": lambda place, _: ("inspect", place / "run"),
    "translate": lambda place, new: (
        "translate",
        place / "run",
        folder(place, "testA"),
        "--out",
        new,
        "--device",
        "cpu",
    ),
    "translate in tiles": lambda place, new: (
        *("translate", place / "run", folder(place, "testA") / f"copy{EVIL}.png"),
        *("--out", new.with_name(f"{new.name}.png"), "--device", "cpu", "--tile", 16),
    ),
    "export": lambda place, new: ("export", place / "run", "--format", "reference", "--out", new),
    "push": lambda place, new: ("push", place / "run", "me/name", "--dry-run", new),
}
EXACT = {"train": 1, "export": 4, "push": 1}  # lines of standard output that scripts read


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_controls_of_names(place, tmp_path, capfd, name):
    new = tmp_path / f"new{EVIL}"
    out, err, code = run_command(capfd, *COMMANDS[name](place, new))
    assert code == (1 if name == "translate" else 0), err
    if name in EXACT:
        assert str(new) in out
        assert out.count(str(new)) == EXACT[name]
        out = re.sub(rf"{re.escape(str(new))}\S*\n", "", out)
    assert_safe(out)
    assert_safe(err)
    if name not in ("export", "push"):  # which show no more than the results
        assert SHOWN in out + err
    for page in [*tmp_path.rglob("*.html"), *tmp_path.rglob("README.md")]:
        text = page.read_text(encoding="utf-8")
        assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), page.name


def test_compare_and_import_print_no_controls(place, tmp_path, capfd):
    for name in ("run", "again"):
        shutil.copytree(place / name, tmp_path / f"{name}{EVIL}")
        tests = ("--a", folder(place, "testA"), "--b", folder(place, "testB"), "--device", "cpu")
        assert run_command(capfd, "evaluate", tmp_path / f"{name}{EVIL}", *tests)[2] == 0
    runs = [tmp_path / f"{name}{EVIL}" for name in ("run", "again")]
    page = tmp_path / f"page{EVIL}.html"
    out, err, code = run_command(capfd, "compare", *runs, "--out", page)
    assert code == 0
    assert out.endswith(f"{page}\n")
    assert_safe(out.removesuffix(f"{page}\n"))
    assert_safe(err)
    assert not UNSAFE.search(page.read_text(encoding="utf-8").replace("\t", ""))

    files = tmp_path / f"reference{EVIL}"
    assert run_command(capfd, "export", runs[0], "--format", "reference", "--out", files)[2] == 0
    out, err, code = run_command(capfd, "import", files, "--out", tmp_path / f"model{EVIL}")
    assert code == 0
    assert out == f"{tmp_path / f'model{EVIL}'}\n"
    assert_safe(err)
    # The advice works.
    (line,) = [line for line in err.splitlines() if line.startswith("Translate with: ")]
    word = line.removeprefix("Translate with: cyclegan translate ").partition(" IMAGES")[0]
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(tmp_path / f"model{EVIL}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", f"missing{EVIL}", f"missing{EVIL}2", "--out", "new"),
        ("train", "a", "b", f"c{EVIL}"),
        ("train", "--from-reference", f"train.py --dataroot {shell_quote(EVIL)} --x{EVIL}"),
        ("train", "a", "b", "--config", f"missing{EVIL}.toml"),
        ("evaluate", f"missing{EVIL}"),
        ("inspect", f"missing{EVIL}"),
        ("inspect", "a", "--out", f"page{EVIL}"),
        ("translate", f"missing{EVIL}", "x.png", "--out", "y"),
        ("translate", "run", "x.png", "--out", "y", "--tile", EVIL),
        ("compare", f"missing{EVIL}", f"missing{EVIL}2"),
        ("export", f"missing{EVIL}", "--format", "onnx", "--out", "y"),
        ("export", "run", "--format", EVIL, "--out", "y"),
        ("import", f"missing{EVIL}.pth", "--out", "y"),
        ("bench", f"missing{EVIL}"),
        ("push", f"missing{EVIL}", "me/name"),
        ("push", f"missing{EVIL}", EVIL),
        ("download", EVIL),
        ("download", "horse2zebra", "--out", EVIL, "--mirror", f"http://127.0.0.1:9/{EVIL}"),
        ("download", "horse2zebra", "--mirror", EVIL),
        ("demo", "--quick", "--out", "run", "--data", f"{EVIL}/full"),
        ("inspect", f"--{EVIL}"),
        (EVIL,),
    ],
    ids=lambda arguments: printable(" ".join(arguments))[:40],
)
def test_no_error_prints_controls(arguments, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / EVIL).mkdir()
    (tmp_path / EVIL / "full").touch()
    out, err, code = run_command(capfd, *arguments)
    assert code in (1, 2)
    assert_safe(out)
    assert_safe(err)
    assert r"\x1b" in err


def test_a_name_that_is_not_unicode_is_printed_exactly_for_scripts_only(place, tmp_path):
    out = tmp_path / os.fsdecode(b"\xff\x1b")
    command = [sys.executable, "-m", "cyclegan", "export", place / "run", "--format", "reference", "--out", out]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.stdout.count(os.fsencode(out)) == 4
    assert b"\x1b" not in done.stderr


def test_a_result_is_escaped_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, expected in ((Terminal(), f"{SHOWN}\n"), (io.StringIO(), f"{EVIL}\n")):
        monkeypatch.setattr(sys, "stdout", stream)
        print_result(Path(EVIL))
        assert stream.getvalue() == expected


def test_consoles_progress_and_status_show_names_as_they_are(monkeypatch):
    from rich.progress import Progress, TextColumn
    from rich.table import Table

    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    console = make_console(stderr=True)
    console.print(f"[/x] {EVIL}", style="red")
    table = Table(EVIL)
    table.add_row(f"two\nlines {EVIL}")
    console.print(table)
    with console.status(f"[/x]{EVIL}") as status:
        status.update(f"[/y]{EVIL}")
    with Progress(TextColumn("{task.description}", markup=False), console=console) as progress:
        progress.add_task(printable(EVIL))
    text = written.getvalue()
    assert not UNSAFE.search(text)
    assert f"[/x] {SHOWN}" in text


# ---- streams that are closed


class Gone(io.StringIO):
    def write(self, _text):
        raise OSError(5, "Input/output error")

    def flush(self):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("stream", [Gone(), None])
def test_a_terminal_that_is_gone_stops_nothing(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    say("text")
    console = make_console(stderr=True)
    console.print("text")
    with console.status("working"):
        console.print("more")
    assert StandardError().isatty() is False


@pytest.mark.parametrize("arguments", [["inspect", "A"], ["--help"], ["download", "--list"]])
def test_a_pipe_that_is_closed_ends_a_command_without_a_word(arguments, tmp_path):
    make_folder(tmp_path / "A", 3)
    process = subprocess.Popen(
        [sys.executable, "-m", "cyclegan", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    process.stdout.close()
    err = process.stderr.read().decode()
    assert process.wait(timeout=300) in (0, 1)
    assert err == ""


# ---- source


def test_only_one_module_prints_and_makes_consoles():
    root = Path(cyclegan.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "Console"):
                found.append(path.relative_to(root).as_posix())
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stderr", "sys.stdout"):
                found.append(path.relative_to(root).as_posix())
    assert set(found) == {"system/terminal.py"}
