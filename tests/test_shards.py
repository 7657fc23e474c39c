"""Parts of a folder for several machines: together they are the whole, and each file is in one of them."""

import pytest

from conftest import TINY, make_folder
from crashes import contents
from cyclegan import InputError, Translator, train, translate_folder
from cyclegan.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    a, b = make_folder(folder / "a"), make_folder(folder / "b", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cyclegan.training.monitor.Monitor.write_page", lambda _: None)
        return train(a, b, out=folder / "run", steps=1, quiet=True, **TINY)


@pytest.fixture
def photos(tmp_path):
    for name in ("one", "two", "three/four"):
        make_folder(tmp_path / "photos" / name, count=3, seed=len(name))
    return tmp_path / "photos"


def names(result):
    return {source for source, _ in result.written}


def test_shards_together_are_the_folder(run, photos, tmp_path):
    translator = Translator.load(run)
    whole = translate_folder(translator, photos, tmp_path / "whole")
    parts = [names(translate_folder(translator, photos, tmp_path / "out", shard=f"{i}/4")) for i in (1, 2, 3, 4)]
    assert [len(part) for part in parts] == [3, 2, 2, 2]
    assert set.union(*parts) == names(whole)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_shards_of_stabilised_frames_are_whole_folders(run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("cyclegan.translate.options.needs_stabilising", lambda _: True)
    translator = Translator.load(run)
    parts = [
        names(translate_folder(translator, photos, tmp_path / "out", shard=f"{i}/2", stabilise=True)) for i in (1, 2)
    ]
    assert sorted(len(part) for part in parts) == [3, 6]
    folders = [{path.parent for path in part} for part in parts]
    assert not folders[0] & folders[1]


def test_a_shard_beyond_the_files_is_empty_and_no_error(run, photos, tmp_path):
    result = translate_folder(run, photos, tmp_path / "out", shard="20/20", device="cpu")
    assert not result.written
    main(["translate", str(run), str(photos), "--out", str(tmp_path / "out"), "--shard", "20/20", "--device", "cpu"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", "", 3])
def test_a_shard_that_is_none_is_named(run, photos, tmp_path, shard):
    with pytest.raises(InputError, match="expected the number of a part and how many there are, such as 1/8"):
        translate_folder(run, photos, tmp_path / "out", shard=shard)


def test_the_command_skips_what_an_earlier_job_of_the_shard_has_done(run, photos, tmp_path, capsys):
    command = ["translate", str(run), str(photos), "--out", str(tmp_path / "out"), "--shard", "2/2", "--device", "cpu"]
    main(command)
    done = contents(tmp_path / "out")
    assert len([name for name in done if name.endswith(".png")]) == 4
    capsys.readouterr()
    main([*command, "--skip-existing"])
    assert contents(tmp_path / "out") == done
    assert "4 of 4" in capsys.readouterr().out
