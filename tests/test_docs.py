"""The documentation: it builds, its links lead somewhere, its commands and examples run.

Commands stand in blocks of ```bash, examples in ```python. A comment on the line above says what a block needs:

    <!-- needs: network -->, <!-- needs: gpu -->, <!-- needs: time -->    its commands are parsed, not run
    <!-- slow -->                                                          it is run by the slow tests

All other blocks of a page are run in their order, in a folder of tiny images and runs (`workshop`). Trainings are
made tiny by the flags in TINY_FLAGS, which are added to each command.
"""

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from rasterio.transform import Affine

import cyclegan
from conftest import TINY, make_folder
from cyclegan.cli import COMMANDS, main
from cyclegan.config import field_sections, make_config, read_config_file
from geo_files import NORTH_UP, smooth, write_geotiff
from make_slide import draw_tissue, write_slide

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCE = Path(cyclegan.__file__).parent
NEEDS = ("network", "gpu", "time")
TINY_FLAGS = shlex.split(
    "--steps 2 --crop-size 16 --load-size 18 --width 4 --blocks 1 --discriminator-width 4 --discriminator-layers 1 "
    "--num-samples 0 --num-validation 0 --no-tensorboard --device cpu"
)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    needs: str | None
    slow: bool

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self):
        """The words of each command, without comments."""
        joined = self.text.replace("\\\n", " ")
        for line in joined.replace("&&", "\n").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def blocks_of(page):
    found, lines, start = [], page.read_text(encoding="utf-8").splitlines(), None
    for number, line in enumerate(lines):
        if line.startswith("```") and start is None:
            start = number
        elif line == "```":
            above = lines[start - 1] if start else ""
            needs = re.fullmatch(r"<!-- needs: (\w+) -->", above)
            text = "\n".join(lines[start + 1 : number])
            language = lines[start].removeprefix("```")
            found.append(
                Block(page, start + 1, language, text, needs and needs[1], slow=above.strip() == "<!-- slow -->")
            )
            start = None
    assert start is None, f"{page}: a code block has no end"
    return found


BLOCKS = {page: blocks_of(page) for page in PAGES}
ALL = [block for blocks in BLOCKS.values() for block in blocks]


def prose_of(page):
    """The text of a page outside its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def code_of(page):
    """What is set in code inside the text."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose_of(page))


@pytest.fixture(scope="module")
def hooks():
    """docs/hooks.py, which knows the parsers of all subcommands."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def flags(hooks):
    """The flags of each subcommand."""
    return {
        name: {flag for action in parser._actions for flag in action.option_strings} | {"--help"}
        for name, parser in hooks.parsers().items()
    }


# The site


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path, hooks, flags):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install -c constraints.txt -e '.[docs]'")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    assert len(pages) >= len([page for page in PAGES if page.is_relative_to(ROOT / "docs")])
    for path, text in pages.items():
        loads = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]*)\"", text)
        loads += re.findall(r"<link\b(?=[^>]*rel=\"?(?:stylesheet|pre|icon))[^>]*href=\"([^\"]*)\"", text)
        assert not [url for url in loads if re.match(r"(https?:)?//", url)], path
        assert "<!-- commands -->" not in text
        assert "<!-- settings" not in text
    for path in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", path.read_text(encoding="utf-8")), path
    reference = pages[tmp_path / "site" / "reference" / "cli.html"]
    for name, known in flags.items():
        assert f'id="{name}"' in reference
        assert all(flag in reference for flag in known if flag.startswith("--"))
    options = re.findall(r"^\| `(--\w+)`", hooks.options_of_the_reference(), re.MULTILINE)
    assert len(options) > 50
    assert all(option in pages[tmp_path / "site" / "reference" / "original-options.html"] for option in options)
    python = pages[tmp_path / "site" / "reference" / "python.html"]
    assert all(name in python for name in cyclegan.__all__ if name != "__version__")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_pictures_and_named_files_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if not re.match(r"https?:|#|mailto:", target):
            assert (page.parent / target.partition("#")[0]).exists(), target
    for word in code_of(page):
        if re.fullmatch(r"(benchmarks|tests|docs)/[\w./-]+", word):
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "src"])
def test_pages_that_files_name_exist(folder):
    for path in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.md"), ROOT / "CHANGELOG.md"]:
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8")):
            assert (ROOT / page).is_file(), f"{path} names {page}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name == "architecture.md" or "research" in page.parts])
def test_modules_that_a_page_names_exist(page):
    for word in code_of(page):
        is_package = page.name == "architecture.md" and re.fullmatch(r"[a-z_]+/", word)
        if is_package or (
            re.fullmatch(r"[a-z_]+/[a-z_/]+(\.py)?", word) and not re.match("tests|docs|benchmarks", word)
        ):
            assert (SOURCE / word).exists() or (SOURCE / f"{word}.py").exists(), word


def test_messages_that_a_page_explains_are_those_of_the_program():
    """Each in one string of the program, with values in the place of `...`."""
    texts = []
    for path in SOURCE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if id(node) in docstrings:
                continue
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            words = [part.value if isinstance(part, ast.Constant) else "{}" for part in parts]
            texts.append("".join(word for word in words if isinstance(word, str)))
    page = (ROOT / "docs" / "guides" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = [row for part in page.split("## ") for row in re.findall(r"^\| `(.*?)` \|", part, re.MULTILINE)]
    assert len(messages) > 15
    pieces = {message: [re.escape(piece.strip()) for piece in message.split("...")] for message in messages}
    known = {message: re.compile(".*".join(parts), re.DOTALL) for message, parts in pieces.items()}
    assert [message for message, pattern in known.items() if not any(map(pattern.search, texts))] == []


def test_the_readme_is_short_and_has_the_commands_of_a_newcomer():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 120
    assert "make demo" in text
    assert "make test" in text
    for page in PAGES[2:]:
        part = page.relative_to(ROOT / "docs").parts[0]
        if part != "reference" and page.name != "index.md" and part != "research":
            assert f"](docs/{page.relative_to(ROOT / 'docs').as_posix()})" in text, f"{page} is not in the index"


# Commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_are_of_known_kinds_and_unmarked_commands_can_be_run(page):
    for block in BLOCKS[page]:
        assert block.language in ("bash", "python", "text", "toml", "yaml", "json", "diff"), block
        assert block.needs in (None, *NEEDS), block
        if block.language == "bash" and block.needs is None:
            assert all(words[0] == "cyclegan" for words in block.commands()), f"{block}: mark what it needs"
    assert not re.search(r"^(    |\t)(\$ )?(cyclegan|pip|python|make) ", prose_of(page), re.MULTILINE)


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "bash"], ids=str)
def test_commands_are_understood(block, monkeypatch):
    """By the real parsers, those that are not run as well; values of settings are checked, too."""
    parsed = []
    for module in COMMANDS.values():
        monkeypatch.setattr(module, "run", parsed.append)
    for words in block.commands():
        if words[0] == "cyclegan":
            main(words[1:])
            settings = {name: value for name, value in vars(parsed[-1]).items() if name in field_sections()}
            if words[1] == "train" and not parsed[-1].from_reference:
                make_config(settings, preset=parsed[-1].preset)
        elif words[0] == "make":
            targets = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            assert set(words[1:]) <= set(targets)
        elif words[:1] == ["python"] and words[1].startswith("benchmarks/"):
            script = (ROOT / words[1]).read_text(encoding="utf-8")
            siblings = [ROOT / "benchmarks" / f"{name}.py" for name in re.findall(r"^from (\w+) import", script, re.M)]
            script += "".join(path.read_text(encoding="utf-8") for path in siblings if path.is_file())
            assert all(f'"{word}"' in script for word in words if word.startswith("--"))
        elif words[:2] == ["pip", "install"]:
            extras = re.findall(r"\[([\w,]+)\]", " ".join(words))
            project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
            assert all(f"\n{extra} = [" in project for each in extras for extra in each.split(","))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_flags_in_the_text_exist(page, flags, hooks):
    theirs = set(re.findall(r"--\w+", hooks.options_of_the_reference()))
    ours = set().union(*flags.values(), {"--version"})
    other = {"--backend-store-uri", "--device", "--cases", "--logdir"}  # of mlflow, the benchmarks, tensorboard
    other |= {"--against"}  # of benchmarks/folder.py
    other |= {"--head", "--address"}  # of ray
    other |= {"--frequency-weight"}  # of the example in docs/extending.md
    for text in code_of(page):
        words = text.replace("'", " ").split()
        named = [word.partition("=")[0] for word in words if re.match(r"--[a-zA-Z]", word)]
        if words[:1] == ["cyclegan"] and len(words) > 1 and words[1] not in ("COMMAND", "--help"):
            assert words[1] in COMMANDS, text
            if "python" not in words:  # a command of the reference in quotes
                assert set(named) <= flags[words[1]], text
        elif "python" not in words and "test.py" not in words:
            assert set(named) <= ours | theirs | other, text


def test_settings_in_toml_are_valid(tmp_path):
    for block in ALL:
        if block.language == "toml":
            (tmp_path / "settings.toml").write_text(block.text)
            make_config(read_config_file(tmp_path / "settings.toml"))


# Running


def tiny(words):
    """The command, with its training made tiny."""
    if words[1] != "train" or "--from-reference" in words:
        return words
    kept = list(words)
    for length in ("--steps", "--epochs", "--minutes"):
        while length in kept:
            place = kept.index(length)
            del kept[place : place + 2]
    return [*kept, *TINY_FLAGS]


def exit_status(words):
    try:
        main(words[1:])
    except SystemExit as end:
        return end.code or 0
    return 0


def give_best(run):
    """What a run has that was long enough to be scored: best/, a whole checkpoint."""
    if not (run / "best").exists():
        shutil.copytree(max((run / "checkpoints").iterdir()), run / "best")


def make_clip(path):
    import av

    with av.open(str(path), "w") as clip:
        stream = clip.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for shade in (40, 120, 200):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), shade, np.uint8), format="rgb24")
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode())


def make_scenes(root):
    """Satellite images: with names of bands, a scene of single bands, and two that lie beside each other."""
    for folder in ("satellite_a", "satellite_b", "scene", "tiles"):
        (root / folder).mkdir()
    for index in range(4):
        values = np.roll(smooth(24, 20, 4), index, 0)
        names = ("blue", "green", "red", "nir")
        write_geotiff(root / f"satellite_a/{index}.tif", values, names=names, photometric="minisblack")
        write_geotiff(root / f"satellite_b/{index}.tif", np.roll(smooth(24, 20), index + 2, 1))
    write_geotiff(root / "scene.tif", smooth(40, 48, 4), names=names, photometric="minisblack")
    for number, name in enumerate(("B02", "B03", "B04")):
        write_geotiff(root / f"scene/T32TQM_20200101_{name}_10m.tif", smooth(channels=3)[..., number : number + 1])
    for name, shift in (("west", 0), ("east", 60)):
        write_geotiff(root / f"tiles/{name}.tif", place=NORTH_UP @ Affine.translation(shift, 0))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder that has everything that the pages name, as small as can be."""
    root = tmp_path_factory.mktemp("workshop")
    folders = ["photos", "maps", "new_photos", "test/photos", "test/maps", "frames", "day1", "day2"]
    folders += [f"data/horse2zebra/{name}" for name in ("trainA", "trainB", "testA", "testB")]
    for seed, name in enumerate(folders):
        make_folder(root / name, count=4, seed=seed)
    for seed, name in enumerate(("scans_a", "scans_b")):
        (root / name).mkdir()
        for index in range(4):
            values = np.random.default_rng([seed, index]).integers(0, 4000, (24, 20)).astype(np.uint16)
            Image.fromarray(values).save(root / name / f"{index}.tif")
    for name in ("sprites", "dem", "scenes"):
        (root / name).mkdir()
        for index in range(4):
            bands = np.random.default_rng([7, index]).integers(0, 256, (24, 20, 4), dtype=np.uint8)
            if name == "sprites":
                Image.fromarray(bands).save(root / name / f"{index}.png")
            elif name == "scenes":
                tifffile.imwrite(root / name / f"{index}.tif", bands, photometric="rgb", extrasamples=[0])
            else:
                heights = np.where(bands[..., 0] < 20, -9999, bands[..., 1] * 10.0).astype(np.float32)
                tifffile.imwrite(root / name / f"{index}.tif", heights, extratags=[(42113, "s", 0, "-9999", True)])
    make_scenes(root)
    for name in ("photos", "maps"):
        shutil.make_archive(str(root / name), "zip", root / name)
    picture = Image.open(root / "photos/0.png")
    picture.save(root / "photo.jpg")
    for name in ("scan.tif", "huge.tif"):
        picture.resize((48, 40)).save(root / name)
    frames = [Image.fromarray(np.full((24, 32, 3), shade, np.uint8)) for shade in (40, 120, 200)]
    for name in ("loop.gif", "stack.tif"):
        frames[0].save(root / name, save_all=True, append_images=frames[1:])
    for name in ("clip.mp4", "extra.mov"):
        make_clip(root / name)
    for seed, name in enumerate(("slides_a", "slides_b")):
        (root / name).mkdir()
        write_slide(root / name / "slide.svs", draw_tissue(2100, 1100, seed=seed, share=1.0)[0])
    for block in ALL:
        if block.language == "toml":
            (root / "settings.toml").write_text(block.text)
    settings = {**TINY, "steps": 2, "quiet": True}
    for name, more in {
        "maps": {},
        "other": {"seed": 1},
        "paper": {"preset": "paper"},
    }.items():
        give_best(cyclegan.train(root / "photos", root / "maps", out=root / "runs" / name, **settings, **more))
    cyclegan.evaluate(root / "runs/other", a=root / "test/photos", b=root / "test/maps")
    return root


def run_page(page, workshop, folder, monkeypatch, *, slow):
    """All blocks of a page that can be run, in their order."""
    shutil.copytree(workshop, folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    train = cyclegan.train

    def train_tiny(*arguments, **settings):
        kept = {name: value for name, value in settings.items() if name not in ("steps", "epochs", "minutes")}
        return train(*arguments, **kept, **TINY, steps=2, quiet=True, fresh=True)

    monkeypatch.setattr(cyclegan, "train", train_tiny, raising=False)
    trained = set()
    pictures = [Image.open(path) for path in sorted(Path("frames").iterdir())]
    names = {"images": pictures, "frames": pictures}
    for block in BLOCKS[page]:
        if block.needs or (block.slow and not slow):
            continue
        if block.language == "bash":
            for words in block.commands():
                out = words[words.index("--out") + 1] if words[1] == "train" and "--out" in words else None
                if out and out not in trained:
                    shutil.rmtree(out, ignore_errors=True)  # the run that other pages start from; a second time resumes
                    trained.add(out)
                assert exit_status(tiny(words)) == 0, f"{block}: {shlex.join(words)}"
                if out:
                    give_best(Path(out))
        elif block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)


def pages_that_run(*, slow):
    """Pages with blocks to run; with slow: those that have a slow one."""

    def runs(block):
        return block.language in ("bash", "python") and not block.needs and block.slow == slow

    pages = {page: blocks for page, blocks in BLOCKS.items() if page.name != "extending.md"}  # see test_extending.py
    return [page for page, blocks in pages.items() if any(map(runs, blocks))]


@pytest.mark.parametrize("page", pages_that_run(slow=False), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_examples_of_a_page_run(page, workshop, tmp_path, monkeypatch):
    run_page(page, workshop, tmp_path, monkeypatch, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_that_run(slow=True), ids=lambda page: str(page.relative_to(ROOT)))
def test_slow_commands_and_examples_of_a_page_run(page, workshop, tmp_path, monkeypatch):
    run_page(page, workshop, tmp_path, monkeypatch, slow=True)
