"""What `cyclegan push` sends, and what it does to a repository when something goes wrong."""

import _thread
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY, TINY_MODEL, make_folder
from cyclegan import InputError, ModelConfig, Translator, train
from cyclegan.cli import main
from cyclegan.images.codecs import write_image
from cyclegan.publishing.facts import read_subject
from cyclegan.publishing.publish import push
from cyclegan.reference.importing import import_reference
from cyclegan.storage.model import read_info
from cyclegan.storage.scores import read_scores
from make_reference import reference_state
from make_run import make_examples, make_scores

GENERATORS = [f"{direction}{of}.safetensors" for direction in ("a2b", "b2a") for of in ("", "_average")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 4 steps with samples, on a dataset with an about.json."""
    root = tmp_path_factory.mktemp("secret_place") / "earth"
    for name, count in (("trainA", 12), ("trainB", 11), ("testA", 3), ("testB", 3)):
        make_folder(root / name, count, seed=len(name) + count)
    about = {"name": "tiny", "a": "photos | of mine", "licence": "CC0", "source": f"copied from {root}/raw files"}
    (root / "about.json").write_text(json.dumps(about))
    return train(root, out=root.parent / "run", quiet=True, **{**TINY, "steps": 4, "sample_steps": 2, "num_samples": 2})


@pytest.fixture
def run(trained, tmp_path):
    """The run, for a test to change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def scored(run):
    scores = make_scores(step=4).replace(model=str(run), command=f"cyclegan evaluate {run}")
    scores.write(run / "scores.json")
    make_examples(run)
    return run


@pytest.fixture
def writer(hub, monkeypatch):
    """The stand-in, and a token that may write to user/..."""
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    return hub


def picture(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (21, 30, 3), dtype=np.uint8))


def card(folder):
    return (folder / "README.md").read_text()


# ---- what is sent


def test_a_pushed_model_translates_bit_for_bit_like_the_run_online_and_offline(run, writer):
    address = push(run, "user/maps", licence="mit")
    assert address == f"{writer.url}/user/maps"
    repository = writer.repositories["user/maps"]
    pictures = {"samples/a2b.png", "samples/b2a.png"}
    assert set(repository.files) == {".gitattributes", "README.md", "config.json", *pictures, *GENERATORS}
    assert [message for _, message, _ in repository.commits] == [
        "initial commit",
        "Model of step 4, made with cyclegan",
    ]
    assert not repository.private
    for weights in (None, "final", "average"):
        for direction in ("a2b", "b2a"):
            options = {"direction": direction, "weights": weights, "device": "cpu"}
            expected = Translator.load(run, **options)(picture()).tobytes()
            assert Translator.from_pretrained("user/maps", **options)(picture()).tobytes() == expected
    writer.stop()
    assert Translator.from_pretrained("user/maps", **options)(picture()).tobytes() == expected


def test_a_dry_run_writes_the_files_and_contacts_no_server(scored, writer, tmp_path):
    shown = []
    out = push(scored, "user/maps", licence="mit", dry_run=tmp_path / "card", show=shown.append)
    assert out == str(tmp_path / "card")
    assert writer.requests == []
    push(scored, "user/maps", licence="mit")
    written = {path.relative_to(out).as_posix(): path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}
    sent = writer.repositories["user/maps"].files
    assert written == {name: content for name, content in sent.items() if name != ".gitattributes"}
    assert shown[0].files == {name: len(content) for name, content in written.items()}


def test_a_dry_run_touches_no_folder_that_holds_something(run, tmp_path):
    folder, file = tmp_path / "mine", tmp_path / "file"
    (folder / "samples").mkdir(parents=True)
    for name in ("README.md", "config.json", "samples/mine.png"):
        (folder / name).write_text("mine")
    file.write_text("mine")
    push(run, "user/maps", dry_run=tmp_path / "card")
    (tmp_path / "card" / "README.md").write_text("edited")
    for place in (folder, tmp_path / "card", run / "model", file, Path("/")):
        with pytest.raises(InputError, match=f"{place} exists and is not empty; remove it or choose another folder"):
            push(run, "user/maps", dry_run=place)
    assert [(folder / name).read_text() for name in ("README.md", "samples/mine.png")] == ["mine", "mine"]
    assert card(tmp_path / "card") == "edited"
    assert not [*tmp_path.glob(".*"), *folder.glob(".*"), *(run / "model").glob(".*")]


def test_a_dry_run_fills_the_current_folder_and_the_folder_behind_a_link(run, tmp_path, monkeypatch):
    for name in ("here", "behind"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "behind")
    monkeypatch.chdir(tmp_path / "here")
    assert push(run, "user/maps", dry_run=".") == "."
    push(run, "user/maps", dry_run=tmp_path / "link")
    for name in ("here", "behind"):
        assert {path.name for path in (tmp_path / name).iterdir()} == {
            "README.md",
            "config.json",
            "samples",
            *GENERATORS,
        }
    assert Path("README.md").is_file()  # the folder is still the one that the shell stands in
    assert (tmp_path / "link").is_symlink()
    assert not list(tmp_path.glob(".*"))


def test_a_dry_run_that_fails_leaves_an_empty_folder_empty(run, tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            push(run, "user/maps", dry_run=place, show=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "run"]
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("kept", ["b2a.safetensors", "a2b_average.safetensors"])
def test_a_model_directory_with_one_generator_is_sent_as_it_is(run, writer, tmp_path, kept):
    model = tmp_path / "imported"
    model.mkdir()
    config = json.loads((run / "model" / "config.json").read_text())
    config["translate_with"] = "average" if "average" in kept else "final"
    (model / "config.json").write_text(json.dumps(config))
    shutil.copy(run / "model" / kept, model)
    shutil.copy(run / "model" / "b2a.safetensors", model / "discriminator_a.safetensors")
    push(model, "user/one")
    files = writer.repositories["user/one"].files
    assert set(files) == {".gitattributes", "README.md", "config.json", kept}
    direction = kept[:3]
    there = Translator.from_pretrained("user/one", direction=direction, device="cpu")
    assert there(picture()).tobytes() == Translator.load(model, direction=direction, device="cpu")(picture()).tobytes()
    text = files["README.md"].decode()
    assert "An image translator" in text
    assert f'direction="{direction}"' in text
    assert "The other way" not in text
    assert "The settings of its training are not known" in text
    assert "No picture of its translations" in text


def test_weights_of_one_kind_can_be_sent_alone(run, tmp_path):
    push(run, "user/maps", weights="average", dry_run=tmp_path / "card")
    names = {path.name for path in (tmp_path / "card").glob("*.safetensors")}
    assert names == {"a2b_average.safetensors", "b2a_average.safetensors"}
    there = Translator.load(tmp_path / "card", device="cpu")
    expected = Translator.load(run, weights="average", device="cpu")
    assert there(picture()).tobytes() == expected(picture()).tobytes()
    # The samples of the run are translations by its final weights, so they are not shown for these.
    assert not (tmp_path / "card" / "samples").exists()
    (run / "model" / "a2b_average.safetensors").unlink()
    (run / "model" / "b2a_average.safetensors").unlink()
    with pytest.raises(InputError, match="holds no average weights"):
        push(run, "user/maps", weights="average", dry_run=tmp_path / "card")


def test_a_checkpoint_shows_the_samples_of_its_own_step(run, tmp_path):
    checkpoint = next((run / "checkpoints").glob("step_*"))
    push(checkpoint, "user/maps", dry_run=tmp_path / "card")
    sheet = Image.open(run / "samples" / "step_0000004.png").convert("RGB")
    assert Image.open(tmp_path / "card" / "samples" / "samples.png").tobytes() == sheet.tobytes()


def test_the_card_of_a_checkpoint_has_the_history_up_to_its_step_alone(run, tmp_path):
    early = run / "checkpoints" / "step_0000002"
    shutil.copytree(run / "model", early / "model")
    info = json.loads((early / "model" / "config.json").read_text())
    (early / "model" / "config.json").write_text(json.dumps({**info, "step": 2}))
    late = {"event": "session", "step": 3, "device": "another machine", "precision": "bf16"}
    warning = {"event": "warning", "step": 4, "check": "late", "message": "It went wrong later."}
    seconds = {"step": 2, "seconds": 120.0}
    with (run / "log.jsonl").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in (seconds, late, warning, {"step": 4, "seconds": 900.0})))
    push(early, "user/maps", dry_run=tmp_path / "early")
    push(run, "user/maps", dry_run=tmp_path / "all")
    first, whole = card(tmp_path / "early"), card(tmp_path / "all")
    assert "| training time | 2.0 minutes |" in first
    assert "| training time | 15.0 minutes |" in whole
    for text in ("another machine", "It went wrong later."):
        assert text not in first
        assert text in whole


def test_a_later_push_removes_files_of_the_earlier_model(scored, writer):
    push(scored, "user/maps")
    repository = writer.repositories["user/maps"]
    repository.commit({**repository.files, "notes.md": b"by hand"}, "notes")
    shown = []
    push(scored, "user/maps", weights="final", samples=False, message="final weights", show=shown.append)
    assert set(repository.files) == {
        *(".gitattributes", "README.md", "config.json", "scores.json", "notes.md"),
        *("a2b.safetensors", "b2a.safetensors"),
    }
    assert repository.commits[-1][1] == "final weights"
    assert set(shown[0].delete) == {f"{d}_average.safetensors" for d in ("a2b", "b2a")} | {
        "samples/a2b.png",
        "samples/b2a.png",
    }


# ---- the card


def test_the_lines_of_the_card_work_as_they_stand(scored, writer, tmp_path, monkeypatch):
    push(scored, "user/maps")
    text = writer.repositories["user/maps"].files["README.md"].decode()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    install, command = re.findall(r"```sh\n(.*?)\n```", text, re.DOTALL)
    assert install == "pip install 'cyclegan[hub]'"
    picture().save(tmp_path / "input.png")
    where = {"HF_ENDPOINT": writer.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"} | where
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    program, *arguments = command.split()
    assert program == "cyclegan"
    monkeypatch.chdir(tmp_path)
    main([*arguments, "--precision", "fp32"])  # as Python does it; by itself the command may take bf16
    expected = Translator.load(scored)(picture()).tobytes()
    for name in ("translated.png", "translated/input.png"):
        assert Image.open(tmp_path / name).tobytes() == expected


@pytest.mark.parametrize(("channels_a", "channels_b"), [(2, 3), (3, 2)])
def test_the_python_lines_of_a_model_of_other_images_work(hub, tmp_path, monkeypatch, channels_a, channels_b):
    for name, channels in (("a", channels_a), ("b", channels_b)):
        for index in range(3):
            values = np.random.default_rng(index).integers(0, 256, (20, 20, channels)).astype(np.uint8)
            place = tmp_path / name / f"{index}{'.png' if channels == 3 else '.npy'}"
            write_image(place, values)
    channels = {"channels_a": channels_a, "channels_b": channels_b}
    run = train(tmp_path / "a", tmp_path / "b", out=tmp_path / "run", quiet=True, **channels, **{**TINY, "steps": 1})
    push(run, "user/deep", dry_run=tmp_path / "card")
    (code,) = re.findall(r"```python\n(.*?)```", card(tmp_path / "card"), re.DOTALL)
    files = {path.name: path.read_bytes() for path in (tmp_path / "card").iterdir() if path.is_file()}
    hub.add("user/deep", files)
    monkeypatch.chdir(tmp_path)
    shutil.copy(next((tmp_path / "a").iterdir()), f"input{'.png' if channels_a == 3 else '.npy'}")
    exec(code, {})
    assert np.load("translated.npy").shape == (20, 20, channels_b)


def test_the_card_shows_scores_data_training_and_licence(scored, tmp_path):
    with (scored / "log.jsonl").open("a") as log:
        for step, message in ((2, "They are all alike."), (9, "Of a step that came later.")):
            log.write(json.dumps({"event": "warning", "step": step, "check": f"c{step}", "message": message}) + "\n")
    push(scored, "user/maps", licence="cc-by-4.0", data_licence="photos: mine", dry_run=tmp_path / "card")
    text = card(tmp_path / "card")
    header = text.split("---\n")[1].splitlines()
    assert {"license: cc-by-4.0", "library_name: cyclegan", "pipeline_tag: image-to-image"} <= set(header)
    assert "| KID, EfficientNet-Lite0 (less is better) | 0.120 | 0.096 to 0.144 | 0.001 | 0.900 |  | 2 |" in text
    assert "| L1 (less is better) | 0.200 |  |  |  | 0.310 | 2 |" in text
    assert "87 % of the way" in text
    assert "2 test images are far too few." in text
    assert "PSNR: measured on whole images." in text
    assert "neither standard FID" in text
    assert text.count("FID") == 1
    assert "| A | 3 x uint8 in [0, 255] | `trainA`: 12 | `testA`: 3 |" in text
    assert "- A: photos \\| of mine" in text
    assert "- Licence: CC0" in text
    assert "publisher of this model: photos: mine" in text
    assert "`resize-and-crop`, size 18 pixels, crops of 16 pixels, mirrored at random" in text
    assert "| adversarial (lsgan) | 1 |" in text
    assert "| cycle A to B to A | 1 |" in text
    assert "resnet, 1 residual blocks, width 4" in text
    assert "`cc-by-4.0` (of the weights" in text
    assert "Seen in training at step 2: They are all alike." in text
    assert "came later" not in text
    assert "Zhu, Jun-Yan" in text
    pictures = re.findall(r"\]\((samples/.*?)\)", text)
    assert pictures == ["samples/a2b.png", "samples/b2a.png"]
    # Input, output and truth of both examples, one below the other.
    sheet = Image.open(tmp_path / "card" / "samples" / "a2b.png")
    assert sheet.size == (2 * 24 + 6, 3 * 20 + 2 * 6)
    colours = [[sheet.getpixel((x, y)) for y in (5, 31, 57)] for x in (5, 35)]
    assert colours == [[(255, 0, 0), (0, 0, 255), (0, 128, 0)], [(255, 255, 0), (0, 255, 255), (255, 0, 255)]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"step": 3}, "It was scored at step 3; this is step 4."),
        ({"step": 4, "weights": "average"}, "It was scored with its average weights; these are the final ones."),
    ],
)
def test_scores_of_another_model_are_not_shown(scored, tmp_path, fields, message):
    make_scores(**fields).write(scored / "scores.json")
    push(scored, "user/maps", dry_run=tmp_path / "card")
    text = card(tmp_path / "card")
    assert message in text
    assert "how good it is was not measured" in text
    assert "| KID" not in text
    assert not (tmp_path / "card" / "scores.json").exists()
    assert not (tmp_path / "card" / "samples" / "a2b.png").exists()


def test_without_a_licence_and_scores_the_card_says_so(run, tmp_path):
    push(run, "user/maps", dry_run=tmp_path / "card")
    text = card(tmp_path / "card")
    assert "license:" not in text
    assert "The licence of these weights is not stated" in text
    assert "This model was not scored on test images." in text
    assert "Beyond that, the licence of the images is not stated." in text


def test_published_files_hold_nothing_of_the_machine(scored, tmp_path, monkeypatch):
    """Paths stand in the configuration, in the scores, in about.json and in messages."""
    home = tmp_path / "Jane Doe"
    monkeypatch.setenv("HOME", str(home))
    notes = (
        f"No floor: the training images are not there (no {home}/private pictures/trainB).",
        "See C:\\Users\\x\\y.",
    )
    scores = make_scores(step=4).replace(model=str(scored), command=f"cyclegan evaluate {scored} --a {home}/x")
    directions = {name: of.replace(notes=notes) for name, of in scores.directions.items()}
    files = {name: of.replace(root=str(scored / of.root)) for name, of in scores.files.items()}
    scores.replace(directions=directions, files=files).write(scored / "scores.json")
    with (scored / "log.jsonl").open("a") as log:
        message = f"Look at {scored}/samples and https://example.org/a/b."
        log.write(json.dumps({"event": "warning", "step": 2, "check": "c", "message": message}) + "\n")
    push(scored, "user/maps", dry_run=tmp_path / "card")
    paths = [place for place in (tmp_path, Path.home(), scored.resolve()) if len(str(place)) > 1]
    for name in ("README.md", "config.json", "scores.json"):
        text = (tmp_path / "card" / name).read_text()
        for told in (*map(str, paths), "secret_place", "Jane", "Users", "private"):
            assert told not in text, (name, told)
        assert not re.search(r"(?<![\w:/.])/[\w.-]+/", text), name
    assert "Look at run/samples and https://example.org/a/b." in card(tmp_path / "card")
    assert "(no trainB)" in card(tmp_path / "card")
    assert (
        read_subject(scored, "user/maps").clean("kept: a/b, 1 / 2, and/or, x - y") == "kept: a/b, 1 / 2, and/or, x - y"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in (/mnt/PACS/Smith John, 1970/ct.png)", "in (ct.png)"),
        ("/mnt/Smith (John) [1970]/ct.png is damaged", "ct.png is damaged"),
        ("/data/a,b/secret/x.png", "x.png"),
        ("/data/O'Brien; 12:30/secret/x.png", "x.png"),
        ("path:/home/bob/secret/x", "path:x"),
        ("file:///home/bob/secret/x", "x"),
        ("../../patients/Smith_John/x.png", "x.png"),
        ("see ./patients/Smith_John/x.png.", "see x.png."),
        ("near C:\\patients\\Smith, John\\x.png", "near x.png"),
        ("/data/one/x.png, /data/two/y.png", "x.png, y.png"),
        ("{a}/Smith_John/x.png", "x.png"),
        ("{run}s/Smith_John/x.png", "x.png"),
        ("{run}/samples", "run/samples"),
        ("/data/x.png, from hf:user/maps@v1", "x.png, from hf:user/maps@v1"),
        ("/data/x.png, from https://example.org/a,b/c_(d)/e", "x.png, from https://example.org/a,b/c_(d)/e"),
        ("hf:user/maps, (http://example.org/a/../b)", "hf:user/maps, (http://example.org/a/../b)"),
        ("a/b, 1 / 2, and/or (c/d), x - y ...", "a/b, 1 / 2, and/or (c/d), x - y ..."),
    ],
)
def test_only_the_last_name_of_a_path_is_published(trained, text, expected):
    images = trained.parent / "earth" / "trainA"
    subject = read_subject(trained, "user/maps")
    assert subject.config.a in (images, images.parent)
    assert subject.clean(text.format(a=subject.config.a, run=trained)) == expected


def test_names_of_scored_images_are_not_published(scored, tmp_path):
    names = ("Smith_John/ct.png", "Doe_Jane/ct (2).png")
    scores = make_scores(step=4, files=names)
    notes = ("1 test file of A cannot be read (Roe (Jim).png: truncated (I/O)).", "Only 2 (see its interval).")
    directions = {name: of.replace(notes=notes, images=of.images[::-1]) for name, of in scores.directions.items()}
    training = scores.files["test_a"].replace(root="data/train_a", files=("Poe.png", *names))
    mean = training.replace(files=("Smith_John/ct.png", "Poe.png"))
    scores.replace(directions=directions, files={**scores.files, "train_a": training, "mean_image_a": mean}).write(
        scored / "scores.json"
    )
    push(scored, "user/maps", dry_run=tmp_path / "card")
    for name in ("README.md", "scores.json", "config.json"):
        text = (tmp_path / "card" / name).read_text()
        assert not [told for told in ("Smith", "Doe", "Roe", "Poe", "ct.png") if told in text], name
    sent = read_scores(tmp_path / "card")
    lists = {name: (of.root, of.files) for name, of in sent.files.items()}
    assert lists["test_a"] == ("test_a", ("image 1", "image 2"))
    assert lists["train_a"] == ("train_a", ("image 1", "image 2", "image 3"))
    assert lists["mean_image_a"] == ("train_a", ("image 2", "image 1"))
    for of in sent.directions.values():
        assert [image.file for image in of.images] == ["image 2", "image 1"]
        assert of.notes == ("1 test file of A cannot be read.", "Only 2 (see its interval).")


def test_the_card_of_a_fine_tuned_model_names_its_base(run, tmp_path):
    text = (run / "config.toml").read_text()
    push(run, "user/maps", dry_run=tmp_path / "scratch")
    assert "started from" not in card(tmp_path / "scratch")
    assert "frozen" not in card(tmp_path / "scratch")
    starts = (("/mnt/secret/base", "none", "base"), ("hf:user/base@v1", "both", "hf:user/base@v1"))
    for index, (start, freeze, shown) in enumerate(starts):
        changed = re.sub(r"(?m)^freeze = .*", f'freeze = "{freeze}"\ninit_from = "{start}"', text)
        (run / "config.toml").write_text(changed)
        push(run, "user/maps", dry_run=tmp_path / f"card{index}")
        assert f"| started from | {shown} |" in card(tmp_path / f"card{index}")
        assert ("| frozen | encoder and discriminator |" in card(tmp_path / f"card{index}")) == (freeze == "both")
        assert "secret" not in card(tmp_path / f"card{index}")


def test_the_card_of_a_run_whose_images_have_gone_names_their_folders(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace(str(trained.parent / "earth"), "/somewhere/else/photos"))
    push(run, "user/maps", dry_run=tmp_path / "card")
    assert "`photos`" in card(tmp_path / "card")
    assert "somewhere" not in card(tmp_path / "card")


# ---- what can go wrong


def test_a_push_that_fails_leaves_the_repository_as_it_was(run, writer):
    push(run, "user/maps", licence="mit")
    repository = writer.repositories["user/maps"]
    before = list(repository.commits)
    writer.fail = "commit"
    shutil.copy(run / "model" / "b2a.safetensors", run / "model" / "a2b.safetensors")
    with pytest.raises(ConnectionError, match=r"answers with error 500; .*user/maps is unchanged, push again"):
        push(run, "user/maps")
    assert repository.commits == before
    with pytest.raises(ConnectionError, match=r"user/new was created and is still empty, push again"):
        push(run, "user/new")
    assert set(writer.repositories["user/new"].files) == {".gitattributes"}


def test_a_push_that_is_stopped_leaves_the_repository_as_it_was(run, writer, tmp_path, monkeypatch):
    push(run, "user/maps", licence="mit")
    repository = writer.repositories["user/maps"]
    before = list(repository.commits)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shutil.copy(run / "model" / "b2a_average.safetensors", run / "model" / "a2b.safetensors")
    writer.large.clear()
    writer.on["put"] = _thread.interrupt_main  # Ctrl-C while the weights are on their way
    with pytest.raises(KeyboardInterrupt):
        push(run, "user/maps")
    assert writer.paths("PUT")
    assert repository.commits == before
    assert not list(tmp_path.glob("cyclegan-push-*"))
    push(run, "user/maps")
    assert len(repository.commits) == len(before) + 1


def test_commits_of_others_are_not_overwritten(run, writer):
    push(run, "user/maps")
    repository = writer.repositories["user/maps"]
    with pytest.raises(ConnectionError, match="has changed in the meantime"):
        push(run, "user/maps", licence="mit", show=lambda _: repository.commit({"theirs": b""}, "theirs"))
    assert repository.files == {"theirs": b""}


def test_a_repository_of_other_things_is_not_touched_unless_asked(run, writer):
    other = {".gitattributes": b"", "README.md": b"mine", "config.json": b"{}", "model.safetensors": b"weights"}
    repository = writer.add("user/other", other)
    with pytest.raises(InputError, match=r"holds other files \(config.json, model.safetensors\).*--overwrite"):
        push(run, "user/other")
    assert repository.files == other
    push(run, "user/other", overwrite=True)
    assert repository.files["model.safetensors"] == b"weights"
    assert set(GENERATORS) <= set(repository.files)
    writer.add("user/fresh", {".gitattributes": b"", "README.md": b"# fresh"})
    push(run, "user/fresh")
    assert set(GENERATORS) <= set(writer.repositories["user/fresh"].files)


def test_a_private_repository_is_private_from_the_start(run, writer):
    push(run, "user/maps", private=True)
    assert writer.repositories["user/maps"].private
    push(run, "user/maps", private=True)
    push(run, "user/public")
    with pytest.raises(InputError, match="user/public exists and is public"):
        push(run, "user/public", private=True)


@pytest.mark.parametrize(
    ("token", "repo_id", "options", "message"),
    [
        (None, "user/maps", {}, "you must be logged in: log in with `hf auth login`, or set HF_TOKEN"),
        ("hf_wrong", "user/maps", {}, "rejects your token"),
        ("hf_reader", "user/maps", {}, "Your token does not allow this"),
        ("hf_writer", "other/maps", {}, "Your token does not allow this"),
        ("hf_writer", "maps", {}, "expected user/name"),
        ("hf_writer", "user/maps", {"licence": "CC BY"}, "licence is 'CC BY'; expected an id"),
        ("hf_writer", "user/maps", {"licence": "gpl99"}, "refuses this .*license"),
    ],
)
def test_failed_pushes_are_reported_in_one_sentence(run, hub, monkeypatch, token, repo_id, options, message):
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=message) as told:
        push(run, repo_id, **options)
    assert "\n" not in str(told.value)
    assert not any(GENERATORS[0] in repository.files for repository in hub.repositories.values())


def test_offline_nothing_is_pushed(run, writer, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set; unset it"):
        push(run, "user/maps")
    assert writer.requests == []


def test_the_command_lists_its_files_and_prints_the_address(scored, writer, capsys, tmp_path):
    main(["push", str(scored), "user/maps", "--private"])
    told = capsys.readouterr()
    assert told.out.strip() == f"{writer.url}/user/maps"
    assert "user/maps (new, private)" in told.err
    assert re.search(r"a2b\.safetensors +[\d.]+ kB", told.err)
    assert "9 files" in told.err
    assert "--no-samples" in told.err
    assert "--licence ID does" in told.err
    main(["push", str(scored), "user/maps", "--licence", "mit", "--weights", "final", "--no-samples"])
    told = capsys.readouterr()
    assert "existing, private" in told.err
    assert "replaces an existing file" in told.err
    assert re.search(r"a2b_average\.safetensors +is deleted: part of the previous model", told.err)
    assert "--licence" not in told.err
    main(["push", str(scored), "user/maps", "--dry-run", str(tmp_path / "card")])
    told = capsys.readouterr()
    assert told.out.strip() == str(tmp_path / "card")
    assert "nothing is sent" in told.err
    for arguments, code in ((["nowhere", "user/maps"], 2), (["hf:user/maps", "user/maps"], 2), ([str(scored), "x"], 2)):
        with pytest.raises(SystemExit) as stop:
            main(["push", *arguments])
        assert stop.value.code == code
        assert "Traceback" not in capsys.readouterr().err
    writer.fail = "commit"
    with pytest.raises(SystemExit) as stop:
        main(["push", str(scored), "user/maps"])
    assert stop.value.code == 1


def test_an_imported_model_of_one_direction_is_published_with_its_origin(tmp_path):
    torch.save(reference_state(ModelConfig(**TINY_MODEL)), tmp_path / "latest_net_G_B.pth")
    model = import_reference(tmp_path / "latest_net_G_B.pth", out=tmp_path / "model").path
    push(model, "me/imported", dry_run=tmp_path / "sent")
    card = (tmp_path / "sent" / "README.md").read_text()
    assert "imported from the reference implementation: latest_net_G_B.pth" in card
    assert "| steps |" not in card
    assert "Imported with `cyclegan`" in card
    assert "brought to size is not known" in card
    info = read_info(tmp_path / "sent")
    assert (info.directions, info.averages) == (("b2a",), False)
    assert not (tmp_path / "sent" / "discriminator_a.safetensors").exists()


def test_the_configuration_that_is_sent_describes_the_files_that_are_sent(folders, tmp_path):
    run = train(*folders, out=tmp_path / "run", steps=1, quiet=True, **TINY)
    push(run, "me/run", dry_run=tmp_path / "sent", weights="average")
    info = read_info(tmp_path / "sent")
    assert (info.directions, info.averages, info.translate_with) == (("a2b", "b2a"), True, "average")
    Translator.load(tmp_path / "sent", device="cpu")
    push(run, "me/run", dry_run=tmp_path / "final", weights="final")
    assert not read_info(tmp_path / "final").averages
