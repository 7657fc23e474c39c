"""Models on the Hugging Face Hub, against a local stand-in. Nothing here ever reaches the real one."""

import sys

import numpy as np
import pytest
from PIL import Image

from conftest import TINY, TINY_MODEL, make_folder
from cyclegan import InputError, Translator, evaluate, train
from cyclegan.storage.model import read_info


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    a, b = make_folder(root / "photos", count=12), make_folder(root / "maps", count=11, seed=1)
    options = {**TINY, "steps": 4, "sample_steps": 4, "num_samples": 2, "test_a": a, "test_b": b}
    test_a, test_b = make_folder(root / "photos_test", 3, seed=5), make_folder(root / "maps_test", 3, seed=6)
    return train(a, b, out=root / "run", quiet=True, **{**options, "test_a": test_a, "test_b": test_b})


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def picture(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (21, 30, 3), dtype=np.uint8))


def translated(translator):
    return translator(picture()).tobytes()


# ---- fetching


@pytest.mark.parametrize("folder", ["", "model/"])
@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_a_model_of_the_hub_translates_like_the_run(run, hub, folder, direction):
    hub.add("user/maps", {f"{folder}{name}": data for name, data in content(run / "model").items()})
    there = Translator.from_pretrained("user/maps", direction=direction, device="cpu")
    assert translated(there) == translated(Translator.load(run, direction=direction, device="cpu"))
    assert translated(Translator.load("hf:user/maps", direction=direction, device="cpu")) == translated(there)


def test_without_a_connection_the_model_comes_from_the_cache(run, hub, monkeypatch):
    repository = hub.add("user/maps", content(run / "model"))
    repository.tags["v1"] = repository.commits[0][0]
    expected = translated(Translator.from_pretrained("user/maps", device="cpu"))
    Translator.from_pretrained("user/maps", revision="v1", device="cpu")
    with monkeypatch.context() as offline:
        offline.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        asked = len(hub.requests)
        assert translated(Translator.from_pretrained("user/maps", device="cpu")) == expected
        assert len(hub.requests) == asked
    hub.stop()
    for options in ({}, {"revision": "v1"}, {"direction": "b2a"}):
        translator = Translator.from_pretrained("user/maps", device="cpu", **options)
        assert "direction" in options or translated(translator) == expected
    with pytest.raises(ConnectionError, match=r"user/other is not.* in the cache .*cannot be reached") as told:
        Translator.from_pretrained("user/other", device="cpu")
    assert "\n" not in str(told.value)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert translated(Translator.from_pretrained("user/maps", device="cpu")) == expected
    with pytest.raises(ConnectionError, match="user/other is not.* in the cache .*HF_HUB_OFFLINE is set"):
        Translator.from_pretrained("user/other", device="cpu")
    with pytest.raises(ConnectionError, match="user/maps at revision v2 is not"):
        Translator.from_pretrained("user/maps", revision="v2", device="cpu")


def test_nothing_but_config_and_generators_is_fetched(run, hub):
    others = ("pytorch_model.bin", "model.safetensors", "discriminator_a.safetensors", "checkpoints/a2b.safetensors")
    hub.add("user/maps", {**content(run / "model"), **dict.fromkeys(others, b"\x80\x04."), "hubconf.py": b"raise"})
    Translator.from_pretrained("user/maps", device="cpu")
    fetched = {path.rpartition("/")[2] for path in hub.paths("GET") if "/resolve/" in path}
    fetched |= {path.rpartition("/")[2] for path in hub.paths("HEAD")}
    generators = {f"{direction}{of}.safetensors" for direction in ("a2b", "b2a") for of in ("", "_average")}
    assert fetched == {"config.json", *generators}
    assert not any("checkpoints" in path for path in hub.paths("HEAD"))


def test_a_newer_commit_is_taken_and_an_older_one_can_be_asked_for(run, hub):
    repository = hub.add("user/maps", content(run / "model"))
    old = translated(Translator.from_pretrained("user/maps", device="cpu"))
    swapped = content(run / "model")
    swapped["a2b.safetensors"] = swapped["b2a.safetensors"]
    first, _ = repository.commits[0][0], repository.commit(swapped, "other weights")
    assert translated(Translator.from_pretrained("user/maps", device="cpu")) != old
    assert translated(Translator.from_pretrained("user/maps", revision=first, device="cpu")) == old
    assert translated(Translator.load(f"hf:user/maps@{first}", device="cpu")) == old


@pytest.mark.parametrize(
    ("repo_id", "options", "message"),
    [
        ("maps", {}, "'maps' cannot be a repository .* expected user/name"),
        ("user/maps/model", {}, "cannot be a repository"),
        ("user/--maps", {}, "cannot be a repository"),
        ("user/none", {}, "no model http.*/user/none, or it is private and you are not logged in; .*HF_TOKEN"),
        ("user/none", {"token": "hf_reader"}, "no model .*/user/none, or your token may not see it"),
        ("user/secret", {}, "or it is private and you are not logged in"),
        ("user/gated", {}, "user/gated is gated: request access"),
        ("user/maps", {"token": "hf_wrong"}, "rejects your token"),
        ("user/maps", {"revision": "v9"}, "user/maps has no revision 'v9'"),
        ("user/maps", {"direction": "a2c"}, "direction is 'a2c'"),
        ("user/reference", {}, "no cyclegan model .*latest_net_G_A.pth.* convert it with: cyclegan import"),
        ("user/diffusers", {}, "it holds config.json, d0.bin, d1.bin, d2.bin, d3.bin and 2 more files"),
        ("user/empty", {}, "user/empty holds no cyclegan model"),
        ("user/damaged", {}, "config.json cannot be read: cyclegan_version is missing"),
    ],
)
def test_failed_downloads_are_reported_in_one_sentence(run, hub, repo_id, options, message):
    hub.add("user/maps", content(run / "model"))
    hub.add("user/secret", content(run / "model"), private=True)
    hub.add("user/gated", content(run / "model"), gated=True)
    hub.add("user/reference", {"README.md": b"", "latest_net_G_A.pth": b"\x80\x04."})
    hub.add("user/diffusers", {"config.json": b"{}", **{f"d{index}.bin": b"" for index in range(6)}})
    hub.add("user/empty", {})
    hub.add("user/damaged", {"config.json": b'{"format_version": 1}', "a2b.safetensors": b""})
    with pytest.raises(InputError, match=message) as told:
        Translator.from_pretrained(repo_id, device="cpu", **options)
    assert "\n" not in str(told.value)
    assert "Traceback" not in str(told.value)
    assert not any("/cdn/" in path for path in hub.paths("GET"))


def test_a_path_mistaken_for_a_model_of_the_hub_is_reported(hub, tmp_path, monkeypatch):
    (tmp_path / "runs" / "base" / "best").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for place in ("runs/base", "runs/base/best", "./runs", "runs"):
        with pytest.raises(InputError, match=rf"[^.]; {place} is a local folder: load it with Translator\.load\.$"):
            Translator.from_pretrained(place, device="cpu")
    with pytest.raises(InputError, match=r"There is no model http.*/runs/other") as told:
        Translator.from_pretrained("runs/other", device="cpu")
    assert "folder" not in str(told.value)
    hub.stop()
    with pytest.raises(
        ConnectionError, match="cannot be reached.*; runs/base is a local folder: load it with Translator.load"
    ):
        Translator.from_pretrained("runs/base", device="cpu")


def test_a_private_model_is_read_with_a_token(run, hub, monkeypatch):
    hub.add("user/secret", content(run / "model"), private=True)
    expected = translated(Translator.load(run, device="cpu"))
    assert translated(Translator.from_pretrained("user/secret", token="hf_reader", device="cpu")) == expected
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert translated(Translator.load("hf:user/secret", device="cpu")) == expected
    stored = [token for _, path, token in hub.requests if path.startswith("/cdn/")]
    assert stored
    assert set(stored) == {None}  # a token is for the Hub, not for where it keeps large files


def test_a_model_of_one_direction_is_a_model(run, hub):
    one = {name: (run / "model" / name).read_bytes() for name in ("config.json", "b2a.safetensors")}
    hub.add("user/one", one)
    assert translated(Translator.from_pretrained("user/one", direction="b2a", device="cpu"))
    with pytest.raises(InputError, match="a2b.safetensors"):
        Translator.from_pretrained("user/one", direction="a2b", device="cpu")


def test_a_proxy_that_answers_for_the_hub_is_reported(hub):
    hub.fail = "html"
    with pytest.raises(ConnectionError, match="does not answer like a Hub"):
        Translator.from_pretrained("user/maps", device="cpu")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'cyclegan\[hub\]'"):
        Translator.load("hf:user/maps")


def test_a_model_of_the_hub_is_evaluated_like_the_run(run, hub, tmp_path):
    hub.add("user/maps", content(run / "model"))
    folders = run.parent / "photos_test", run.parent / "maps_test"
    options = {"device": "cpu", "num_bootstrap": 100, "quiet": True}
    with pytest.raises(InputError, match="hf:user/maps is not on this machine.*--out"):
        evaluate("hf:user/maps", *folders, **options)
    there = evaluate("hf:user/maps", *folders, out=tmp_path / "there", **options)
    here = evaluate(run / "model", *folders, out=tmp_path / "here", **options)
    assert (tmp_path / "there" / "report.html").is_file()
    assert there.model == "hf:user/maps"
    for direction in ("a2b", "b2a"):
        values = [scores.directions[direction].metrics["cycle"].value for scores in (there, here)]
        assert values[0] == values[1]


def unreachable(*_, **__):
    raise ConnectionError("user/maps is not in the cache; connect once")


def test_a_training_starts_from_a_model_of_the_hub(run, hub, folders, tmp_path, monkeypatch):
    hub.add("user/maps", content(run / "model"))
    settings = {name: value for name, value in TINY.items() if name not in TINY_MODEL}
    settings |= {
        "discriminator_layers": 1,
        "out": tmp_path / "fine",
        "init_from": "hf:user/maps",
        "steps": 1,
        "quiet": True,
    }
    fine = train(*folders, **settings)
    assert read_info(fine / "model").origin == "trained further from hf:user/maps"
    train(*folders, **settings)  # the same command again finds the same run
    hub.stop()
    monkeypatch.setattr("cyclegan.storage.hub.fetch_model", unreachable)
    train(*folders, **settings)
