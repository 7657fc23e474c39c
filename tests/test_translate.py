import itertools
import json
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import InputError, ModelConfig, Translator, train
from cyclegan.cli import main
from cyclegan.images.codecs import read_image, write_image
from cyclegan.images.formats import ImageFormat
from cyclegan.storage.model import ModelInfo
from cyclegan.storage.run import list_checkpoints
from cyclegan.translate import files as translate_files_module
from cyclegan.translate.files import translate_files
from cyclegan.translate.folder import translate_folder
from cyclegan.translate.plan import plan_outputs
from cyclegan.translate.progress import FolderProgress


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    a, b = make_folder(root / "a"), make_folder(root / "b", seed=1)
    return train(a, b, out=root / "run", quiet=True, **{**TINY, "steps": 3, "dropout": True})


def picture(width, height, seed=0, mode="RGB"):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (1, 1), (3, 50), (64, 5)])
@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_images_of_any_size_keep_it(run, size, direction):
    result = Translator.load(run, direction=direction)(picture(*size))
    assert isinstance(result, Image.Image)
    assert (result.size, result.mode) == (size, "RGB")


def test_run_checkpoint_and_model_directory_are_the_same_translator(run):
    image = picture(20, 20)
    results = [Translator.load(path)(image) for path in (run, list_checkpoints(run)[0], run / "model")]
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


def test_a_run_without_a_model_directory_translates_with_its_newest_checkpoint(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    image = picture(20, 20)
    assert Translator.load(tmp_path / "run")(image).tobytes() == Translator.load(run)(image).tobytes()


def test_an_image_is_translated_the_same_with_any_neighbours(run):
    translator = Translator.load(run)
    images = [picture(*size, seed=i) for i, size in enumerate([(20, 20), (20, 20), (13, 9), (20, 20), (20, 20)])]
    alone = [np.asarray(translator(image)) for image in images]
    for batch_size in (1, 2, 8):
        together = list(translator.translate(iter(images), batch_size=batch_size))
        assert [image.size for image in together] == [image.size for image in images]
        for one, other in zip(alone, together, strict=True):
            assert np.abs(one.astype(int) - np.asarray(other)).max() <= 1  # sums in another order may round otherwise


def test_translating_is_lazy(run):
    def endless():
        while True:
            yield picture(16, 16)

    results = Translator.load(run).translate(endless(), batch_size=2)
    assert next(results).size == (16, 16)


def test_final_and_averaged_weights_can_be_chosen(run):
    image = picture(20, 20)
    final, average = (Translator.load(run, weights=kind)(image).tobytes() for kind in ("final", "average"))
    assert final != average
    assert Translator.load(run)(image).tobytes() == final


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_every_mode_are_translated(run, mode):
    result = Translator.load(run)(picture(16, 12, mode="RGB").convert(mode))
    assert (result.size, result.mode) == ((16, 12), "RGBA" if mode == "RGBA" else "RGB")


def test_arrays_keep_type_depth_and_range_of_their_domains(deep_run):
    array = (np.random.default_rng(0).random((13, 22, 1)) * 3000).astype(np.uint16)
    there = Translator.load(deep_run)(array)
    assert (there.shape, there.dtype) == ((13, 22, 5), np.float32)
    assert 0 <= there.min() < there.max() <= 2.5
    back = Translator.load(deep_run, direction="b2a")(there)
    assert (back.shape, back.dtype) == ((13, 22, 1), np.uint16)
    assert 1 < back.max() <= 3000


def test_wrong_input_is_refused(run, deep_run, tmp_path):
    with pytest.raises(InputError, match=r"takes \(H, W, 3\)"):
        Translator.load(run)(np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(InputError, match="pass arrays"):
        Translator.load(deep_run)(picture(4, 4))
    with pytest.raises(InputError, match="direction is 'c2d'"):
        Translator.load(run, direction="c2d")
    with pytest.raises(InputError, match="There is no"):
        Translator.load(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no model"):
        Translator.load(tmp_path)
    with pytest.raises(InputError, match="sees no CUDA|CUDA devices"):
        Translator.load(run, device="cuda:77")


def test_damaged_models_are_refused(run, tmp_path):
    model = shutil.copytree(run / "model", tmp_path / "model")
    weights = (model / "a2b.safetensors").read_bytes()
    (model / "a2b.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="does not hold the weights"):
        Translator.load(model)
    (model / "a2b.safetensors").write_bytes((model / "b2a.safetensors").read_bytes())
    config = json.loads((model / "config.json").read_text())
    config["model"]["blocks"] = 2
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="does not hold the weights"):
        Translator.load(model)
    (model / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        Translator.load(model)


def test_folders_are_mirrored_without_collisions(run, tmp_path):
    for name in ("in/x.png", "in/x.jpg", "in/deep/x.png", "other/x.png", "single.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(9, 7).save(tmp_path / name)
    (tmp_path / "in" / "broken.png").write_bytes(b"nonsense")
    translator, out = Translator.load(run), tmp_path / "out"
    plan = plan_outputs([tmp_path / "in", tmp_path / "other", tmp_path / "single.png"], out, translator)
    done = []
    failed = translate_files(translator, plan, batch_size=4, on_done=done.append)
    assert [path.name for path, _ in failed] == ["broken.png"]
    assert len(done) == 6
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {"in/x.png", "in/x.jpg", "in/deep/x.png", "other/x.png", "single.png"}
    expected = np.asarray(translator(Image.open(tmp_path / "in" / "x.png")))
    assert np.array_equal(read_image(out / "in" / "x.png", 3), expected)


def test_equal_names_get_different_outputs(deep_run, tmp_path):
    # Neither JPEG nor PNG holds five channels of floats: both would become x.tif.
    (tmp_path / "in").mkdir()
    for name in ("x.png", "x.tif"):
        write_image(tmp_path / "in" / name, np.full((9, 9, 1), 1500, np.uint16))
    translator = Translator.load(deep_run)
    plan = plan_outputs([tmp_path / "in"], tmp_path / "out", translator)
    assert len({target for _, target in plan}) == 2
    assert translate_files(translator, plan) == []
    for _, target in plan:
        assert read_image(target, 5).dtype == np.float32


def test_inputs_are_never_overwritten(run, tmp_path):
    picture(9, 7).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="would be overwritten"):
        plan_outputs([tmp_path], tmp_path, Translator.load(run))
    with pytest.raises(InputError, match="There is no file or folder"):
        plan_outputs([tmp_path / "y.png"], tmp_path / "out", Translator.load(run))


def test_short_side_changes_the_scale_of_the_network_and_not_the_size_of_the_result(run, tmp_path):
    picture(40, 30).save(tmp_path / "x.png")
    translator = Translator.load(run)
    results = []
    for side in (None, 15):
        plan = plan_outputs([tmp_path / "x.png"], tmp_path / f"out{side}", translator)
        assert translate_files(translator, plan, short_side=side) == []
        results.append(read_image(plan[0][1], 3))
    assert results[0].shape == results[1].shape == (30, 40, 3)
    assert not np.array_equal(*results)


def test_the_network_runs_in_evaluation_mode(run):
    translator = Translator.load(run)  # trained with dropout
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(translator.translate_tensor(image), translator.translate_tensor(image))


def test_a_picture_of_more_depth_is_not_squashed(run):
    deep = Image.fromarray(np.full((8, 8), 40000, np.uint16))
    with pytest.raises(InputError, match="mode I;16"):
        Translator.load(run)(deep)


def test_translated_files_are_not_translated_again(run, tmp_path):
    picture(9, 7).save(tmp_path / "x.png")
    translator = Translator.load(run)
    for _ in range(2):
        plan = plan_outputs([tmp_path], tmp_path / "out", translator)
        assert [target.relative_to(tmp_path).as_posix() for _, target in plan] == ["out/x.png"]
        translate_files(translator, plan)


def test_folders_of_one_name_are_numbered_and_odd_suffixes_become_png(run, tmp_path):
    for name in ("one/test/x.png", "two/test/x.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        picture(9, 7).save(tmp_path / name)
    picture(9, 7).save(tmp_path / "photo", "PNG")
    inputs = [tmp_path / "one/test", tmp_path / "two/test", tmp_path / "photo"]
    plan = plan_outputs(inputs, tmp_path / "out", Translator.load(run))
    targets = {target.relative_to(tmp_path / "out").as_posix() for _, target in plan}
    assert targets == {"test/x.png", "test_2/x.png", "photo.png"}
    assert translate_files(Translator.load(run), plan) == []


def test_an_output_that_cannot_be_written_is_reported(run, tmp_path):
    picture(9, 7).save(tmp_path / "x.png")
    (tmp_path / "file").write_text("")
    translator = Translator.load(run)
    plan = plan_outputs([tmp_path / "x.png"], tmp_path / "file" / "out", translator)
    with pytest.raises(InputError, match="could not be written"):
        translate_files(translator, plan)


def test_scale_width_changes_the_scale_of_the_network_and_not_the_size_of_the_result(run, tmp_path):
    picture(40, 30).save(tmp_path / "wide.png")
    picture(30, 40).save(tmp_path / "high.png")
    translator = Translator.load(run)
    results = {}
    for flags in ({"scale_width": 20}, {"short_side": 15}, {"scale_width": 30}, {}):
        out = tmp_path / f"out{len(results)}"
        plan = plan_outputs([tmp_path / "wide.png", tmp_path / "high.png"], out, translator)
        assert translate_files(translator, plan, **flags) == []
        results[str(flags)] = [np.asarray(Image.open(target)) for _, target in plan]
    assert [array.shape for array in results["{'scale_width': 20}"]] == [(30, 40, 3), (40, 30, 3)]
    # 40x30 at a width of 20 is 20x15, as at a short side of 15; 30x40 at a width of 30 is itself.
    assert np.array_equal(results["{'scale_width': 20}"][0], results["{'short_side': 15}"][0])
    assert not np.array_equal(results["{'scale_width': 20}"][1], results["{'short_side': 15}"][1])
    assert np.array_equal(results["{'scale_width': 30}"][1], results["{}"][1])
    with pytest.raises(InputError, match="pass one of them"):
        translate_files(translator, plan, short_side=9, scale_width=9)


def test_a_deep_image_that_is_brought_to_another_scale_stays_in_its_range(tmp_path):
    # A hard edge, at which bicubic resizing overshoots.
    pixels = np.full((40, 40, 1), 10800, np.uint16)
    pixels[:, 17:] = 14000
    write_image(tmp_path / "edge.png", pixels)
    image_format = ImageFormat(channels=1, dtype="uint16", low=10800, high=14000)
    model = ModelConfig(width=4, blocks=1, channels_a=1, channels_b=1)
    info = ModelInfo(
        **{"cyclegan_version": "0", "model": model, "a": image_format, "b": image_format, "preprocess": "none"},
        **{"load_size": 32, "crop_size": 32, "step": 0, "translate_with": "final"},
    )
    translator = Translator(torch.nn.Identity(), info, "a2b", torch.device("cpu"))
    plan = plan_outputs([tmp_path / "edge.png"], tmp_path / "out", translator)
    for size in ({"short_side": 20}, {"scale_width": 60}):
        assert translate_files(translator, plan, **size) == []
        array = read_image(plan[0][1], 1)
        assert array.dtype == np.uint16
        assert (array.min(), array.max()) == (10800, 14000)


def test_one_image_may_be_given_the_name_of_its_translation(run, tmp_path):
    translator = Translator.load(run)
    picture(20, 16).save(tmp_path / "x.jpg")
    plan = plan_outputs([tmp_path / "x.jpg"], tmp_path / "out" / "y.png", translator)
    assert translate_files(translator, plan) == []
    assert Image.open(tmp_path / "out" / "y.png").size == (20, 16)
    picture(20, 16).save(tmp_path / "z.png")
    for inputs, out, message in (
        (["x.jpg", "z.png"], "y.png", "is one image, and the input is not"),
        (["out"], "y.png", "is one image, and the input is not"),
        (["z.png"], "z.png", "would be overwritten"),
        (["none.png"], "y.png", "There is no file or folder"),
    ):
        with pytest.raises(InputError, match=message):
            plan_outputs([tmp_path / name for name in inputs], tmp_path / out, translator)


def test_the_name_must_be_one_that_holds_the_translation(deep_run, tmp_path):
    write_image(tmp_path / "x.npy", np.zeros((16, 16, 5), np.float32))
    with pytest.raises(InputError, match="cannot hold 1 x uint16.*use .png instead"):
        plan_outputs([tmp_path / "x.npy"], tmp_path / "y.jpg", Translator.load(deep_run, direction="b2a"))
    for name, kind in (("y.nii.gz", "a volume"), ("y.dcm", "a DICOM file")):
        with pytest.raises(InputError, match=f"{name} is {kind}, and one picture is made of .*x.npy; use .png instead"):
            plan_outputs([tmp_path / "x.npy"], tmp_path / name, Translator.load(deep_run, direction="b2a"))


def test_files_of_one_size_share_batches_wherever_they_stand(run, tmp_path):
    sizes = [(20, 16), (24, 16), (20, 20)]
    for index in range(12):
        picture(*sizes[index % 3], seed=index).save(tmp_path / f"{index:02d}.png")
    translator, shapes = Translator.load(run), []
    hook = translator.network.register_forward_hook(lambda _network, images, _result: shapes.append(images[0].shape[0]))
    plan = plan_outputs([tmp_path], tmp_path / "out", translator)
    assert translate_files(translator, plan, batch_size=4) == []
    hook.remove()
    assert shapes == [4, 4, 4]
    for source, target in plan:
        alone = np.asarray(translator(Image.open(source))).astype(int)
        assert np.abs(alone - read_image(target, 3)).max() <= 1


def test_a_few_files_are_read_ahead_and_no_more(run, tmp_path, monkeypatch):
    for index in range(60):
        picture(16, 16, seed=index).save(tmp_path / f"{index:02d}.png")
    translator, read, done = Translator.load(run), [], []
    real = translate_files_module.read_part
    monkeypatch.setattr(translate_files_module, "read_part", lambda path, *more: read.append(path) or real(path, *more))
    plan = plan_outputs([tmp_path], tmp_path / "out", translator)
    ahead = []
    hook = translator.network.register_forward_hook(lambda *_: ahead.append(len(read) - len(ahead)))
    assert translate_files(translator, plan, on_done=done.append) == []
    hook.remove()
    assert done == [source for source, _ in plan]
    assert max(ahead[:40]) <= 12 + 4


def test_large_files_that_the_network_takes_small_are_not_held_whole_in_all_threads(run, tmp_path, monkeypatch):
    for index in range(14):
        picture(16, 16, seed=index).resize((64, 64)).save(tmp_path / f"{index:02d}.png")
    monkeypatch.setattr(translate_files_module, "num_cores", lambda: 8)
    monkeypatch.setattr(translate_files_module, "MAX_BYTES", 30_000)  # two images of 12,288 bytes
    lock, never = threading.Lock(), threading.Event()

    def counted(function, numbers):
        working = []

        def call(path, *more, **options):
            with lock:
                working.append(path)
                numbers.append(len(working))
            never.wait(0.03)  # time for others to begin
            try:
                return function(path, *more, **options)
            finally:
                with lock:
                    working.remove(path)

        return call

    read, written = [], []
    for name, numbers in (("read_part", read), ("write_finished", written)):
        monkeypatch.setattr(translate_files_module, name, counted(getattr(translate_files_module, name), numbers))
    plan = plan_outputs([tmp_path], tmp_path / "out", Translator.load(run))
    assert translate_files(Translator.load(run), plan, short_side=16) == []
    assert len(read) == len(written) == 14
    assert max(read) <= 2
    assert max(written) <= 2


def test_a_disk_that_is_full_ends_with_the_number_of_images_that_are_kept(run, tmp_path, monkeypatch):
    for index in range(12):
        picture(16, 16, seed=index).save(tmp_path / f"{index:02d}.png")
    translator, numbers = Translator.load(run), itertools.count()
    real = translate_files_module.write_finished

    def full(path, output, **options):
        if next(numbers) >= 5:
            raise OSError(28, "No space left on device")
        real(path, output, **options)

    monkeypatch.setattr(translate_files_module, "write_finished", full)
    before = threading.active_count()
    with pytest.raises(InputError, match="No space left on device. 5 images are done and kept"):
        translate_files(translator, plan_outputs([tmp_path], tmp_path / "out", translator))
    assert len(list((tmp_path / "out").iterdir())) == 5
    assert threading.active_count() == before


def test_an_interrupted_translation_leaves_whole_files_and_no_threads(run, tmp_path):
    for index in range(12):
        picture(16, 16, seed=index).save(tmp_path / f"{index:02d}.png")
    translator, done, before = Translator.load(run), [], threading.active_count()

    def stop(path):
        done.append(path)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        translate_files(translator, plan_outputs([tmp_path], tmp_path / "out", translator), on_done=stop)
    assert threading.active_count() == before
    written = sorted((tmp_path / "out").iterdir())
    assert 3 <= len(written) < 12
    assert all(read_image(path, 3).shape == (16, 16, 3) for path in written)


def test_an_unreadable_last_file_of_a_sequence_does_not_disturb_the_next_one(run, tmp_path):
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(16, 16).save(tmp_path / name)
    (tmp_path / "a" / "1.png").write_bytes(b"nonsense")
    translator = Translator.load(run)
    plan = plan_outputs([tmp_path / "a", tmp_path / "b"], tmp_path / "out", translator)
    failed = translate_files(translator, plan, stabilise=True)
    assert [path for path, _ in failed] == [tmp_path / "a" / "1.png"]
    first = read_image(tmp_path / "out" / "a" / "0.png", 3)
    assert np.array_equal(first, read_image(tmp_path / "out" / "b" / "0.png", 3))
    assert np.array_equal(first, np.asarray(translator(picture(16, 16))))


def test_links_in_the_place_of_outputs_lead_to_no_input(run, tmp_path):
    for name in ("in/x.png", "in/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(9, 7).save(tmp_path / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "y.png").symlink_to(tmp_path / "in" / "x.png")
    plan = plan_outputs([tmp_path / "in"], tmp_path / "out", Translator.load(run))
    assert [target.name for _, target in plan] == ["x.png", "y.png.png"]
    (tmp_path / "out" / "x.png").symlink_to(tmp_path / "in" / "x.png")
    with pytest.raises(InputError, match="would be overwritten"):
        plan_outputs([tmp_path / "in"], tmp_path / "out", Translator.load(run))


def test_files_of_one_name_from_several_places_keep_apart(run, tmp_path):
    for name in ("one/x.png", "two/x.png", "three/x.png"):
        (tmp_path / name).parent.mkdir()
        picture(9, 7).save(tmp_path / name)
    inputs = [tmp_path / "one" / "x.png", tmp_path / "two" / "x.png", tmp_path / "three"]
    plan = plan_outputs(inputs, tmp_path / "out", Translator.load(run))
    assert [target.name for _, target in plan] == ["x.png", "x.png.png", "x_2.png"]
    assert [target.name for _, target in plan[1:]] == ["x.png.png", "x_2.png"]
    assert plan[-1] == (tmp_path / "three" / "x.png", tmp_path / "out" / "x_2.png")


@pytest.fixture
def photos(tmp_path):
    for index, name in enumerate(("in/x.png", "in/y.jpg", "in/deep/x.png", "in/deep/z.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(30, 20, seed=index).save(tmp_path / name)
    (tmp_path / "in" / "broken.png").write_bytes(b"nonsense")
    return tmp_path / "in"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("flags", [{}, {"batch_size": 4}, {"tile": 16}, {"short_side": 12}, {"direction": "b2a"}])
def test_a_folder_is_translated_from_python_as_by_the_command(run, photos, tmp_path, capsys, flags):
    result = translate_folder(run, photos, tmp_path / "python", device="cpu", **flags)
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with pytest.raises(SystemExit) as stop:
        main(["translate", str(run), str(photos), "--out", str(tmp_path / "command"), "--device", "cpu", *words])
    assert stop.value.code == 1  # one file is broken
    assert "broken.png" in capsys.readouterr().err
    assert contents(tmp_path / "python") == contents(tmp_path / "command") != {}
    assert [path.name for path, _ in result.skipped] == ["broken.png"]
    assert [target for _, target in result.written] == [
        tmp_path / "python" / source.relative_to(photos) for source, _ in result.written
    ]
    assert {source.name for source, _ in result.written} == {"x.png", "y.jpg", "z.png"}


def test_a_translator_and_several_inputs_may_be_given(run, photos, tmp_path):
    translator = Translator.load(run, direction="b2a")
    result = translate_folder(translator, [photos / "deep", photos / "y.jpg"], str(tmp_path / "out"), max_images=2)
    assert [target.name for _, target in result.written] == ["x.png", "z.png"]
    assert np.array_equal(
        read_image(tmp_path / "out" / "z.png", 3), np.asarray(translator(Image.open(photos / "deep" / "z.png")))
    )
    single = translate_folder(translator, photos / "x.png", tmp_path / "one.png", tile=None)
    assert list(single.written) == [(photos / "x.png", tmp_path / "one.png")]


def test_progress_receives_what_is_done(run, photos, tmp_path):
    class Recorded(FolderProgress):
        def __init__(self):
            self.events = []

        def note(self, message):
            self.events.append(message)

        def skipped(self, images, num_images):
            self.events.append((len(images), num_images))

        def written(self, num_images, target, tile):
            self.events.append((num_images, target, tile))

    whole, tiles = Recorded(), Recorded()
    translate_folder(run, photos, tmp_path / "out", progress=whole)
    assert whole.events == [(1, 5), (4, None, None)]
    translate_folder(run, photos / "x.png", tmp_path / "out", tile=16, progress=tiles)
    assert tiles.events == [
        "Images are translated in tiles of 16 pixels, in float32.",
        (1, tmp_path / "out" / "x.png", 16),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"scale_width": 0}, "scale_width is 0; expected at least 1 pixel"),
        ({"short_side": 9, "scale_width": 9}, "pass one of them"),
        ({"max_images": 0}, "max_images is 0; expected at least 1"),
        ({"memory_frames": 5}, "memory_frames is for stabilise; give both"),
        ({"stabilise": True, "memory_frames": 0.5}, "memory_frames is 0.5; expected at least 1"),
        ({"tile": 64, "short_side": 9}, "tile 64 is for images by themselves"),
        ({"tile": "no"}, "tile is 'no'; expected a number of pixels, auto or None"),
        ({"tile": 3}, "tile is 3; expected at least 16 pixels"),
        ({"direction": "c2d"}, "direction is 'c2d'"),
    ],
)
def test_options_that_make_no_sense_are_refused(run, photos, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        translate_folder(run, photos, tmp_path / "out", **options)
    with pytest.raises(InputError, match="translates a2b, and direction is b2a"):
        translate_folder(Translator.load(run), photos, tmp_path / "out", direction="b2a")
    assert not (tmp_path / "out").exists()
