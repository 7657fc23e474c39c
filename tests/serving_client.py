"""A running server on a free port of this machine, and requests to it."""

import contextlib
import io
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import tifffile
from PIL import Image

from cyclegan.serving.app import create_app
from cyclegan.serving.models import ModelStore
from cyclegan.serving.server import serving
from cyclegan.serving.settings import ServeSettings


class Client(httpx.Client):
    """A client of a running server. app: the application."""

    def __init__(self, address, app):
        super().__init__(base_url=address, timeout=60)
        self.app, self.address = app, address

    @property
    def service(self):
        return self.app.state.service

    def translate(self, content, name="maps", direction="a2b", headers=None, **params):
        return self.post(f"/v1/models/{name}/{direction}:translate", content=content, headers=headers, params=params)

    def connect(self):
        """A connection for bytes of our own."""
        port = int(self.address.rpartition(":")[2])
        return socket.create_connection(("127.0.0.1", port), timeout=30)


@contextlib.contextmanager
def running(models, *, store=None, **settings):
    """A client of a server with these models, by name."""
    chosen = ServeSettings(port=0, **settings)
    chosen.check()
    store = store or ModelStore(models, device="cpu")
    app = create_app(store, chosen)
    with serving(app, store, chosen) as address, Client(address, app) as client:
        yield client


def together(count, call):
    """The results of this call in so many threads at once."""
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(count)]]


class Gate:
    """Holds the networks back until it is opened, after the first batch has come. sizes: of all batches."""

    def __init__(self, monkeypatch):
        from cyclegan.serving import worker

        translate_items = worker.translate_items
        self.come, self.opened, self.sizes = threading.Event(), threading.Event(), []

        def gated(translator, items, **options):
            self.sizes.append(len(items))
            self.come.set()
            assert self.opened.wait(60)
            return translate_items(translator, items, **options)

        monkeypatch.setattr(worker, "translate_items", gated)


def file_of(array, format, **options):
    """The bytes of a file with this array, (H, W) or (H, W, C)."""
    buffer = io.BytesIO()
    if format == "NPY":
        np.save(buffer, array)
    elif format == "TIFF" and (array.dtype != np.uint8 or options):
        tifffile.imwrite(buffer, array, **options)
    else:
        Image.fromarray(array).save(buffer, format, **options)
    return buffer.getvalue()


def pixels(content):
    """The values of a picture."""
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def detail(response, status):
    """The sentence of a problem with this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = json.loads(response.content)
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status
    return body["detail"]
