"""`cyclegan serve`."""

import argparse
import os
from functools import partial

from cyclegan.cli.arguments import PRECISIONS, WEIGHTS, add_argument, add_device, check_serve_packages
from cyclegan.system.terminal import say

SUMMARY = "Serve models over HTTP: send an image, get its translation."

EXAMPLES = """examples:
  cyclegan serve runs/maps
  cyclegan serve runs/maps winter=runs/seasons hf:user/name --port 8080
  cyclegan serve runs/maps --host 0.0.0.0 --allowed-host images.example.com --cors https://example.com

  curl --data-binary @photo.jpg -o map.jpg \\
    http://127.0.0.1:8000/v1/models/maps/a2b:translate

Uploads stay in memory. Ctrl-C and SIGTERM let requests under way end, SIGHUP loads the models again. Requests must
carry the token of --token, or of the environment variable CYCLEGAN_TOKEN, if there is one. docs/guides/serve.md
describes the interface."""

# Bytes of a unit of --max-body.
_MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    models_help = (
        "Run directories, checkpoints, model directories, hf:user/name, or exports; NAME=PATH to name one "
        "(default: the last part of its path)."
    )
    add("models", str, models_help, metavar="MODEL", nargs="+")
    add("--host", str, "Address to listen on; 0.0.0.0: all of this machine", "127.0.0.1", metavar="ADDRESS")
    add("--port", int, "Port to listen on; 0: a free one", 8000, metavar="PORT")
    access = partial(add_argument, parser.add_argument_group("access"))
    token_help = "Answer only requests with this token; other users of this machine see it, unlike CYCLEGAN_TOKEN."
    access("--token", str, token_help, metavar="TOKEN")
    cors_help = "Another site whose pages may use the server; give it once for each."
    access("--cors", str, cors_help, metavar="ORIGIN", action="append")
    host_help = "Name under which the server is reached, beside its own address; give it once for each."
    access("--allowed-host", str, host_help, metavar="NAME", action="append")
    limits = partial(add_argument, parser.add_argument_group("limits"))
    limits("--max-body", int, "Largest request", 256, metavar="MIB")
    limits("--max-pixels", int, "Largest number of pixels of an image", 2**27, metavar="COUNT")
    limits("--timeout", float, "Longest time from the last byte of a request to its answer", 600.0, metavar="SECONDS")
    limits("--queue", int, "Requests that are worked on or wait; more get 503", 64, metavar="COUNT")
    add("--log", bool, "Write a line for each request to standard error: method, path, status, milliseconds.")
    add_device(parser)
    arithmetic = partial(add_argument, parser.add_argument_group("model and arithmetic"))
    arithmetic("--weights", WEIGHTS, "Weights to use (default: those that the run was configured for).")
    engine_help = "Engine; auto: torch, or that of an export"
    arithmetic("--engine", ("auto", "torch", "onnxruntime", "openvino"), engine_help, "auto")
    precision_help = "Arithmetic (default: fp32, or that of an export)."
    arithmetic("--precision", ("auto", *PRECISIONS), precision_help)


def run(parsed: argparse.Namespace) -> None:
    check_serve_packages("serve")
    from cyclegan.serving.settings import ServeSettings
    from cyclegan.system.arguments import check_int

    check_int("--max-body", parsed.max_body, least=1)
    token = parsed.token if parsed.token is not None else os.environ.get("CYCLEGAN_TOKEN") or None
    settings = ServeSettings(
        host=parsed.host,
        port=parsed.port,
        token=token,
        cors=tuple(parsed.cors or ()),
        allowed_hosts=tuple(parsed.allowed_host or ()),
        max_body=parsed.max_body * _MIB,
        max_pixels=parsed.max_pixels,
        timeout=parsed.timeout,
        queue=parsed.queue,
        log=parsed.log,
    )
    settings.check(_flag)

    from cyclegan.serving.app import create_app
    from cyclegan.serving.models import ModelStore, name_models
    from cyclegan.serving.server import serve

    if token is None and not settings.is_loopback:
        say(f"--host {settings.host} lets other computers in, and there is no --token: all of them may use the models.")
    options = {name: getattr(parsed, name) for name in ("device", "engine", "precision", "weights")}
    store = ModelStore(name_models(parsed.models), **options)
    serve(create_app(store, settings), store, settings)


def _flag(field: str) -> str:
    return {"allowed_hosts": "--allowed-host"}.get(field, f"--{field.replace('_', '-')}")
