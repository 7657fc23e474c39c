"""`cyclegan serve`: images, batches, tiles, queue and limits, by a server on this machine."""

import io
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom.data import get_testdata_file

from conftest import TINY, TINY_MODEL, make_folder
from cyclegan import ModelConfig, Translator, train, translate_folder
from cyclegan.images.codecs import read_image
from cyclegan.serving import picture as picture_module
from cyclegan.serving import uploads
from cyclegan.serving.models import ModelStore
from geo_files import write_geotiff
from profiles import rgb_profile
from serving_client import Gate, detail, file_of, pixels, running
from test_engines import make_model

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (20, 24, 3), np.uint8)
PNG = file_of(PHOTO, "PNG")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    a, b = make_folder(root / "a"), make_folder(root / "b", seed=1)
    return train(a, b, out=root / "run", quiet=True, **{**TINY, "steps": 2})


@pytest.fixture(scope="module")
def client(run, deep_run):
    with running({"maps": run, "deep": deep_run}) as client:
        yield client


def by_command(run, file, direction="a2b", **options):
    """The bytes that `cyclegan translate` writes for a file."""
    out = file.with_name("out")
    translate_folder(run, file, out, direction=direction, device="cpu", engine="torch", precision="fp32", **options)
    (written,) = (path for path in out.iterdir() if path.stem == file.stem)
    return written.read_bytes()


# ---- images


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WebP", "TIFF", "BMP", "AVIF"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_becomes_the_file_that_translate_writes(client, run, tmp_path, format, channels):
    if format == "JPEG" and channels == 4:
        pytest.skip("has no transparency")
    array = PHOTO[..., 0] if channels == 1 else np.dstack([PHOTO, PHOTO[..., 0]])[..., :channels]
    file = tmp_path / f"x.{format.lower()}"
    file.write_bytes(file_of(array, format))
    answer = client.translate(file.read_bytes())
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == f"image/{format.lower()}"
    assert answer.content == by_command(run, file)


@pytest.mark.parametrize(
    ("array", "format", "direction", "kind"),
    [
        (RNG.integers(0, 3000, (20, 24), np.uint16), "PNG", "a2b", "image/tiff"),
        (RNG.integers(0, 3000, (20, 24), np.uint16), "TIFF", "a2b", "image/tiff"),
        (RNG.integers(0, 3000, (20, 24, 1), np.uint16), "NPY", "a2b", "application/x-npy"),
        (RNG.integers(0, 3000, (20, 24), np.uint16), "NPY", "a2b", "application/x-npy"),
        ((RNG.random((20, 24, 5)) * 2).astype(np.float32), "NPY", "b2a", "application/x-npy"),
    ],
)
def test_other_depths_and_channels(client, deep_run, tmp_path, array, format, direction, kind):
    suffix = {"PNG": ".png", "TIFF": ".tif", "NPY": ".npy"}[format]
    file = tmp_path / f"x{suffix}"
    file.write_bytes(file_of(array, format))
    answer = client.translate(file.read_bytes(), "deep", direction)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == kind
    assert answer.content == by_command(deep_run, file, direction)


@pytest.fixture(scope="module")
def scan_run(tmp_path_factory):
    """A tiny run from signed slices to signed slices."""
    root = tmp_path_factory.mktemp("scans")
    for seed, name in enumerate("ab"):
        (root / name).mkdir()
        for index in range(3):
            values = np.random.default_rng((seed, index)).integers(-1000, 3000, (20, 20)).astype(np.int16)
            np.save(root / name / f"{index}.npy", values)
    channels = {"channels_a": 1, "channels_b": 1}
    return train(root / "a", root / "b", out=root / "run", quiet=True, **channels, **{**TINY, "steps": 2})


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 1)])
def test_an_array_comes_back_in_its_shape(scan_run, shape):
    with running({"scans": scan_run}) as client:
        answer = client.translate(file_of(RNG.integers(-1000, 3000, shape).astype(np.int16), "NPY"), "scans")
    assert np.load(io.BytesIO(answer.content)).shape == shape


@pytest.mark.parametrize("preamble", [b"", b"II*\0T\x18\x08", b"MM\0*\0\0\0\x08"])
def test_a_dicom_file_may_begin_like_another(scan_run, tmp_path, preamble):
    file = tmp_path / "x.dcm"
    content = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    file.write_bytes(preamble.ljust(128, b"\0") + content[128:])
    with running({"scans": scan_run}) as client:
        answer = client.translate(file.read_bytes(), "scans")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/tiff"
    expected = Translator.load(scan_run, device="cpu")(read_image(file, 1))
    assert np.array_equal(tifffile.imread(io.BytesIO(answer.content)), np.asarray(expected)[..., 0])


def test_a_slide_in_dicom_is_refused_for_what_it_is(client):
    content = bytearray(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    kind = b"1.2.840.10008.5.1.4.1.1.2\0"
    content = content.replace(kind, b"1.2.840.10008.5.1.4.1.1.77.1.6", 1)
    said = detail(client.translate(bytes(content)), 415)
    assert said == "The image is a part of a whole slide in DICOM; translate the slide on a disk."


def test_an_array_of_objects_is_named(client):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object), allow_pickle=True)
    said = detail(client.translate(buffer.getvalue()), 422)
    assert said == "The image cannot be read: it holds Python objects; expected numbers."


def test_five_bands_of_floats_from_a_tiff_become_a_png_of_16_bits_where_that_is_accepted(client, deep_run):
    array = (RNG.random((5, 20, 24)) * 2).astype(np.float32)
    content = file_of(array, "TIFF", planarconfig="separate", photometric="minisblack")
    answer = client.translate(content, "deep", "b2a", headers={"accept": "image/png, image/tiff;q=0.1"})
    assert answer.headers["content-type"] == "image/png"
    translator = Translator.load(deep_run, direction="b2a", device="cpu")
    expected = np.asarray(translator(np.ascontiguousarray(array.transpose(1, 2, 0))))
    assert np.array_equal(pixels(answer.content), expected[..., 0])


def test_what_belongs_to_a_geotiff_is_kept(client, run, tmp_path):
    file = tmp_path / "x.tif"
    write_geotiff(file)
    answer = client.translate(file.read_bytes())
    assert answer.status_code == 200, answer.text
    assert answer.content == by_command(run, file)


def test_what_cannot_be_kept_is_said_in_a_header(client):
    seen = np.dstack([PHOTO, np.full((20, 24), 7, np.uint8)])
    answer = client.translate(file_of(seen, "PNG"), headers={"accept": "image/jpeg"})
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cyclegan-note"] == (
        "The transparency of 1 image is not kept: .jpg files have no place for it."
    )


def test_a_profile_is_converted_and_the_note_names_no_flag(client):
    answer = client.translate(file_of(PHOTO, "PNG", icc_profile=rgb_profile("adobe-rgb")))
    note = answer.headers["cyclegan-note"]
    assert note.startswith("The colours of 1 image were converted from ")
    assert "--" not in note


def test_a_form_with_one_file(client):
    answer = client.post("/v1/models/maps/a2b:translate", files={"image": ("x.png", PNG, "image/png")})
    assert answer.content == client.translate(PNG).content


def test_the_content_decides_not_the_declared_type(client):
    answer = client.translate(PNG, headers={"content-type": "image/jpeg"})
    assert answer.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/avif,image/webp,*/*;q=0.8", "image/webp"),
        ("image/webp;q=0.2, application/x-npy;q=0.4", "application/x-npy"),
        ("text/html, image/tiff", "image/tiff"),
        ("nonsense, ;;, image/webp", "image/webp"),
    ],
)
def test_accept_chooses_the_type(client, accept, kind):
    answer = client.translate(PNG, headers={"accept": accept})
    assert answer.headers["content-type"] == kind


def test_quality_counts_for_lossy_types(client):
    sizes = [
        len(client.translate(PNG, headers={"accept": "image/jpeg"}, quality=quality).content) for quality in (5, 95)
    ]
    assert sizes[0] < sizes[1]
    default = client.translate(PNG, headers={"accept": "image/jpeg"}).content
    assert client.translate(PNG, headers={"accept": "image/jpeg"}, quality=95).content == default
    assert client.translate(PNG, quality=5).content == client.translate(PNG).content


def test_a_photo_of_a_phone_is_upright(client, run, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "x.jpg"
    file.write_bytes(file_of(PHOTO, "JPEG", exif=exif))
    answer = client.translate(file.read_bytes())
    assert pixels(answer.content).shape == (24, 20, 3)
    assert answer.content == by_command(run, file)


# ---- what is refused


def animation():
    frames = [Image.fromarray(PHOTO), Image.fromarray(255 - PHOTO)]
    return file_of(PHOTO, "GIF", save_all=True, append_images=frames[1:], duration=40)


def test_files_of_several_pictures_are_refused(client):
    assert detail(client.translate(animation()), 415) == (
        "The image is an animation; send its pictures one at a time, or translate it as a whole with "
        "`cyclegan translate`."
    )
    assert detail(client.translate(b"PK\3\4" + bytes(99)), 415) == "The file is a zip; send one image at a time."
    several = file_of(np.stack([PHOTO, PHOTO]), "TIFF", photometric="rgb")
    assert "2 pages" in detail(client.translate(several), 422)


def test_a_file_that_names_others_of_the_machine_is_no_image(client, tmp_path):
    write_geotiff(tmp_path / "x.tif")
    band = f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>{tmp_path}/x.tif</SourceFilename>'
    vrt = f'<VRTDataset rasterXSize="9" rasterYSize="9">{band}</SimpleSource></VRTRasterBand></VRTDataset>'
    said = detail(client.translate(vrt.encode()), 415)
    assert said.startswith("The file is not an image of a known type, or it is damaged; send a PNG, JPEG")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WebP", "TIFF", "AVIF"])
def test_damage_is_one_sentence_without_a_path(client, format):
    content = file_of(PHOTO, format)
    said = detail(client.translate(content[: len(content) // 2]), 422)
    assert said.startswith("The image cannot be read: ")
    assert "/" not in said


def test_a_model_that_takes_other_images_says_which(client):
    said = detail(client.translate(PNG, "deep"), 422)
    assert said.startswith("The image is an 8-bit picture, and the model takes 1 x uint16")
    assert "--" not in said
    assert "/" not in said


@pytest.mark.parametrize("content", [b"", b"not an image", bytes(1000), b"%!PS-Adobe-3.0 EPSF-3.0\n" + bytes(99)])
def test_no_image(client, content):
    assert client.translate(content).status_code == (415 if content else 400)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"tile": "5"}, "tile is '5'; expected auto, none, or a number of pixels, at least 16."),
        ({"tile": "15"}, "tile is '15'; expected auto, none, or a number of pixels, at least 16."),
        ({"tile": "1e3"}, "tile is '1e3'; expected auto, none, or a number of pixels, at least 16."),
        ({"tile": "x" * 500}, "tile is"),
        ({"quality": "0"}, "quality is '0'; expected a whole number from 1 to 100."),
        ({"quality": "many"}, "quality is 'many'; expected a whole number from 1 to 100."),
        ({"tiles": "512"}, "There is no parameter 'tiles'; did you mean tile?"),
        ({"tile": ["16", "32"]}, "tile is given twice; give it once."),
    ],
)
def test_parameters_that_cannot_be_used(client, params, said):
    assert detail(client.translate(PNG, **params), 400).startswith(said)


def test_addresses_that_there_are_not(client):
    said = detail(client.translate(PNG, "other"), 404)
    assert said == "There is no model 'other'; there is maps, deep: see /v1/models."
    assert detail(client.translate(PNG, direction="c2d"), 404).startswith("The model maps has no direction 'c2d'")
    assert detail(client.get("/v1/models/other"), 404) == said
    assert detail(client.get("/nothing"), 404) == "There is no '/nothing'; see /openapi.json."
    response = client.get("/v1/models/maps/a2b:translate")
    assert detail(response, 405) == "GET is not for this address; use POST."
    assert response.headers["allow"] == "POST"
    assert detail(client.translate(PNG, headers={"accept": "text/html"}), 406).startswith("None of the accepted types")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x\r\n",
        b'--x\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nabc\r\n--x--\r\n',
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc\r\n',
        b"--x\r\nContent-Disposition: " + b"a" * 20000 + b"\r\n\r\nabc\r\n--x--\r\n",
    ],
)
def test_forms_that_are_damaged(client, body):
    answer = client.translate(body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert detail(answer, 400)
    assert detail(client.translate(body, headers={"content-type": "multipart/form-data"}), 400)


# ---- what is known about models


def test_models_are_described(client, run):
    models = client.get("/v1/models").json()["models"]
    assert [model["name"] for model in models] == ["maps", "deep"]
    assert client.get("/v1/models/maps").json() == models[0]
    assert models[1]["directions"]["a2b"]["source"] == {
        "channels": 1,
        "dtype": "uint16",
        "low": pytest.approx(0, abs=3000),
        "high": pytest.approx(3000, abs=3000),
        "alpha": False,
    }
    assert models[0]["directions"]["b2a"]["is_local"] is True  # the default norm needs no statistics of the image
    assert models[0]["card"].startswith("# maps\n")
    for model in models:
        assert str(run.parent) not in json.dumps(model)
        assert "from_pretrained" not in model["card"]


def test_a_model_without_statistics_of_the_image_is_local(tmp_path):
    for name, norm in (("modern", "layer"), ("paper", "instance")):
        make_model(tmp_path / name, ModelConfig(**TINY_MODEL, norm=norm))
        directions = ModelStore({name: tmp_path / name}).describe(name).directions
        assert [directions[each].is_local for each in ("a2b", "b2a")] == 2 * [norm == "layer"]


def test_the_description_names_every_answer(client):
    paths = client.get("/openapi.json").json()["paths"]
    translate = paths["/v1/models/{name}/{direction}:translate"]["post"]
    assert {"200", "400", "404", "406", "413", "415", "422", "503"} <= set(translate["responses"])
    assert {"image/png", "multipart/form-data"} <= set(translate["requestBody"]["content"])
    assert "application/problem+json" in translate["responses"]["422"]["content"]
    assert "422" not in paths["/v1/models/{name}"]["get"]["responses"]
    assert client.get("/docs").status_code == 404


def test_metrics_count_requests_batches_and_memory(run):
    with running({"maps": run}) as client:
        for content in (PNG, PNG, b"no image"):
            client.translate(content)
        client.translate(PNG, "invented")
        text = client.get("/metrics").text
    assert 'cyclegan_requests_total{direction="a2b",model="maps",status="200"} 2.0' in text
    assert 'cyclegan_requests_total{direction="a2b",model="maps",status="415"} 1.0' in text
    assert 'cyclegan_requests_total{direction="",model="",status="404"} 1.0' in text
    assert "invented" not in text
    assert "cyclegan_batch_size_count 2.0" in text
    assert 'cyclegan_request_seconds_count{direction="a2b",model="maps"} 2.0' in text
    assert "cyclegan_queue_length 0.0" in text
    assert float(re.search(r"^process_resident_memory_bytes (.*)$", text, re.MULTILINE)[1]) > 2**20


# ---- batches, queue, time


def test_requests_of_one_size_share_a_batch(run, monkeypatch):
    gate = Gate(monkeypatch)
    with running({"maps": run}) as client:
        results = []
        threads = [threading.Thread(target=lambda: results.append(client.translate(PNG)))]
        threads[0].start()
        assert gate.come.wait(30)
        other = file_of(PHOTO[:18], "PNG")
        for content in [PNG] * 5 + [other] * 2:
            threads.append(threading.Thread(target=lambda c=content: results.append(client.translate(c))))
            threads[-1].start()
        wait_for(lambda: client.service.num_waiting == 7)
        gate.opened.set()
        for thread in threads:
            thread.join()
        expected = client.translate(PNG).content
        by_size = client.translate(other).content
    assert sorted(gate.sizes[:3]) == [1, 2, 5]
    assert sorted(result.content for result in results) == sorted([expected] * 6 + [by_size] * 2)


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_full_queue_answers_503_with_the_time_to_wait(run, monkeypatch):
    gate = Gate(monkeypatch)
    with running({"maps": run}, queue=2) as client:
        results = []
        threads = [threading.Thread(target=lambda: results.append(client.translate(PNG))) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(client.service._tasks) == 2)
        refused = client.translate(PNG)
        assert detail(refused, 503) == "The server is busy; try again later."
        assert int(refused.headers["retry-after"]) >= 1
        gate.opened.set()
        for thread in threads:
            thread.join()
        assert [result.status_code for result in results] == [200, 200]
        assert client.translate(PNG).status_code == 200


def test_a_request_that_waited_too_long_is_dropped(run, monkeypatch):
    gate = Gate(monkeypatch)
    with running({"maps": run}, timeout=0.5) as client:
        results = []
        first = threading.Thread(target=lambda: results.append(client.translate(PNG)))
        first.start()
        assert gate.come.wait(30)
        late = client.translate(PNG)
        assert "has waited for 0.5 seconds" in detail(late, 503)
        assert late.headers["retry-after"]
        first.join()
        assert "was not done after 0.5 seconds" in detail(results[0], 504)
        gate.opened.set()
        wait_for(lambda: not client.service._tasks)
        assert gate.sizes == [1]  # the second was never begun
        assert client.translate(PNG).status_code == 200


def test_a_client_that_hangs_up_leaves_the_queue(run, monkeypatch):
    gate = Gate(monkeypatch)
    with running({"maps": run}) as client:
        first = threading.Thread(target=lambda: client.translate(PNG))
        first.start()
        assert gate.come.wait(30)
        head = f"POST /v1/models/maps/a2b:translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(PNG)}\r\n\r\n"
        with client.connect() as connection:
            connection.sendall(head.encode() + PNG)
            wait_for(lambda: client.service.num_waiting == 1)
        wait_for(lambda: client.service.num_waiting == 0)
        gate.opened.set()
        first.join()
        assert gate.sizes == [1]


# ---- limits


def test_bodies_that_are_too_large(run):
    with running({"maps": run}, max_body=5000) as client:
        declared = client.translate(bytes(5001))
        assert "more than 5,000 bytes" in detail(declared, 413)
        chunked = client.translate(iter([bytes(3000)] * 3))
        assert "more than 5,000 bytes" in detail(chunked, 413)
        assert client.translate(PNG).status_code == 200


def test_bodies_count_until_their_requests_end(run, monkeypatch):
    monkeypatch.setattr(uploads, "_LEAST_BYTES", 0)
    gate = Gate(monkeypatch)
    with running({"maps": run}, max_body=len(PNG)) as client, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(client.translate, PNG) for _ in range(4)]
        wait_for(lambda: len(client.service._tasks) == 4)
        refused = client.translate(PNG)
        gate.opened.set()
        assert "holds too many bytes" in detail(refused, 503)
        assert [future.result().status_code for future in waiting] == [200] * 4
        assert client.translate(PNG).status_code == 200


def test_pixels_are_counted_before_decoding(run, monkeypatch):
    def never(*_, **__):
        raise AssertionError("decoded")

    with running({"maps": run}, max_pixels=480) as client:
        assert client.translate(PNG).status_code == 200
        monkeypatch.setattr(picture_module, "read_raster", never)
        said = detail(client.translate(file_of(np.zeros((5000, 5000), np.uint8), "PNG")), 413)
        assert said == "The image has 5,000x5,000 pixels, and the limit here is 480; make it smaller first."
        assert detail(client.translate(file_of(np.zeros((30, 40), np.uint16), "NPY")), 413)
    with running({"maps": run}, max_pixels=2**21) as client:
        said = detail(client.translate(file_of(np.zeros((5000, 5000), np.uint8), "PNG")), 413)
        assert "the limit here is 2.1 megapixels" in said


def test_a_body_that_comes_too_slowly_is_not_waited_for(run, monkeypatch):
    monkeypatch.setattr(uploads, "GRACE_SECONDS", 0.3)
    with running({"maps": run}) as client, client.connect() as connection:
        head = "POST /v1/models/maps/a2b:translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n"
        connection.sendall(head.encode() + PNG[:99])
        with connection.makefile("rb") as file:
            answer = file.read()  # to its end: the connection is closed
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"too slowly" in answer


def test_a_head_that_comes_too_slowly_is_cut_off(run, monkeypatch):
    monkeypatch.setattr("cyclegan.serving.server.IDLE_SECONDS", 0.3)
    with running({"maps": run}) as client, client.connect() as connection:
        connection.sendall(b"GET /healthz HTT")
        with suppress(ConnectionResetError):
            assert connection.recv(99) == b""


def test_an_answer_is_sent_whole_to_a_client_that_reads_slowly(run, monkeypatch):
    monkeypatch.setattr("cyclegan.serving.server.IDLE_SECONDS", 0.3)
    content = file_of(np.zeros((1500, 1500, 3), np.uint8), "PNG")
    head = f"POST /v1/models/maps/a2b:translate?tile=none HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}"
    with running({"maps": run}) as client, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", int(client.address.rpartition(":")[2])))
        connection.sendall(f"{head}\r\nAccept: application/x-npy\r\n\r\n".encode() + content)
        with connection.makefile("rb") as file:
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"
            length = int(next(line for line in file if line.startswith(b"content-length:")).split()[1])
            while file.readline() != b"\r\n":
                pass
            received = 0
            while chunk := file.read(min(length // 8, length - received)):
                received += len(chunk)
                time.sleep(0.15)
        assert received == length


# ---- large images


@pytest.fixture
def large(monkeypatch):
    """Images of more than 2,000 pixels count as large, and have tiles of 32 pixels."""
    monkeypatch.setattr(picture_module, "LARGE_PIXELS", 2000)
    monkeypatch.setattr(picture_module, "LARGE_TILE", 32)
    return RNG.integers(0, 256, (90, 110, 3), np.uint8)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("side", ["auto", 48])
def test_large_images_are_translated_in_the_tiles_of_the_translator(client, run, large, tmp_path, format, side):
    options = {"tile": (16, 16), "compression": "deflate", "photometric": "rgb"} if format == "TIFF" else {}
    file = tmp_path / ("x.tif" if format == "TIFF" else "x.png")
    file.write_bytes(file_of(large, format, **options))
    answer = client.translate(file.read_bytes(), tile=side)
    assert answer.status_code == 200, answer.text
    assert answer.content == by_command(run, file, tile=32 if side == "auto" else side)
    expected = next(iter(Translator.load(run, device="cpu").translate([large], tile=32 if side == "auto" else side)))
    found = pixels(answer.content)
    assert np.array_equal(found, np.asarray(expected))


def test_tile_none_translates_as_a_whole(client, run, large):
    answer = client.translate(file_of(large, "PNG"), tile="none")
    translator = Translator.load(run, device="cpu")
    assert np.array_equal(pixels(answer.content), np.asarray(translator(large)))


def test_small_images_are_answered_between_the_tiles_of_a_large_one(run, large, monkeypatch):
    with running({"maps": run}) as client:
        expected = client.translate(PNG).content
        whole = client.translate(file_of(large, "PNG")).content
        gate = threading.Event()
        check_finite = Translator.check_finite

        def slow(self, *args, **options):
            if options.get("precision") == "fp32":  # of a tile
                gate.wait(0.05)
            return check_finite(self, *args, **options)

        monkeypatch.setattr(Translator, "check_finite", slow)
        done = []
        thread = threading.Thread(target=lambda: done.append(client.translate(file_of(large, "PNG")).content))
        thread.start()
        wait_for(lambda: client.service._tasks)
        small = [client.translate(PNG).content for _ in range(3)]
        assert not done
        gate.set()
        thread.join()
        assert small == [expected] * 3
        assert done == [whole]


def test_a_large_job_ends_when_its_client_hangs_up(run, large, monkeypatch):
    steps = []
    check_finite = Translator.check_finite

    def counted(self, *args, **options):
        steps.append(0)
        time.sleep(0.05)
        return check_finite(self, *args, **options)

    content = file_of(large, "PNG")
    head = f"POST /v1/models/maps/a2b:translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    with running({"maps": run}) as client:
        monkeypatch.setattr(Translator, "check_finite", counted)
        with client.connect() as connection:
            connection.sendall(head.encode() + content)
            wait_for(lambda: steps)
        wait_for(lambda: not client.service._tasks)
        assert len(steps) < 12
