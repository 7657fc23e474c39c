"""Malformed, hostile and half-sent requests to a server of this machine. Not a command: benchmarks/serve.py sends them.

They speak to 127.0.0.1 only.
"""

import gzip
import io
import itertools
import json
import random
import socket
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image

ADDRESS = "127.0.0.1"
SECONDS = 30  # most that a request waits for its answer

# An object array that writes this file if anyone unpickles it.
MARKER = "unpickled-by-cyclegan"

# Files that readers may take, without what is hostile in them.
MILD = ("PNG with a text bomb", "PNG with a profile bomb", "PNG whose pixels are a bomb")


@dataclass(frozen=True)
class Request:
    """Bytes of a connection. may_succeed: the content may be a valid request after all. is_whole: it gets an answer."""

    name: str
    pieces: tuple[bytes, ...]
    pause: float = 0.0  # seconds between the pieces
    hang_up: bool = False  # reset the connection without reading an answer
    may_succeed: bool = False
    is_whole: bool = True


@dataclass(frozen=True)
class Answer:
    """What came back: the status, None for a connection that was closed without one, and all bytes."""

    status: int | None
    content: bytes


def send(port: int, request: Request) -> Answer:
    """Send one request, and read until the server closes the connection or the first answer is complete."""
    with socket.create_connection((ADDRESS, port), SECONDS) as connection:
        if request.hang_up:  # closing sends RST, as a process that is killed does
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            for index, piece in enumerate(request.pieces):
                time.sleep(request.pause * (index > 0))
                connection.sendall(piece)
            if request.hang_up:
                return Answer(None, b"")
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent: there may be an answer
        content = b""
        try:
            if not request.is_whole:
                connection.settimeout(0.3)
            while len(content) < 2**24 and (part := connection.recv(2**16)):
                content += part
        except ConnectionResetError:
            pass
        except TimeoutError:
            if request.is_whole:
                raise  # else the server waits for the rest
    content = content.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    is_http = content.startswith(b"HTTP/1.1 ") and content[9:12].isdigit()
    return Answer(int(content[9:12]) if is_http else None, content)


def find_fault(request: Request, answer: Answer, secrets: tuple[bytes, ...]) -> str | None:
    """What is wrong with an answer: its status, a word that must stay in the server, an error without problem+json.

    An answer in plain text is that of the HTTP parser, to what is no HTTP.
    """
    if not is_refused(request, answer):
        return f"status {answer.status}"
    if found := [secret for secret in secrets if secret in answer.content]:
        return f"names {found[0]!r}"
    head, _, body = answer.content.partition(b"\r\n\r\n")
    if answer.status in (None, 200) or b"content-type: text/plain" in head.lower():
        return None
    if b"content-type: application/problem+json" not in head.lower():
        return "no problem+json"
    try:
        problem, _ = json.JSONDecoder().raw_decode(body.decode())  # another answer may follow it
    except ValueError:
        return "no JSON"
    is_whole = {"title", "status", "detail"} <= set(problem) and problem["status"] == answer.status
    return None if is_whole else "an incomplete problem"


def is_refused(request: Request, answer: Answer) -> bool:
    """Whether the server answered well: with an error of the client, "busy", or by closing the connection."""
    status = answer.status
    return status is None or 400 <= status < 500 or status == 503 or (request.may_succeed and status == 200)


def requests(path: str, host: str, headers: dict[str, str], seed: int = 0) -> Iterator[Request]:
    """An endless, repeatable sequence for the address of a translation, first each known kind once.

    headers: of every request, such as Authorization.
    """
    rng = random.Random(seed)
    make = Maker(path, host, headers)
    known = make.known()
    rng.shuffle(known)
    yield from known
    honest = list(pictures().items())
    for number in itertools.count():
        if number % 2:
            yield rng.choice(known)
            continue
        name, content = rng.choice(honest)
        kind, content = damage(content, rng)
        yield make.post(f"{name} {kind}", content, f"image/{name}", may_succeed=True)


def damage(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(["cut", "change", "put in", "take out", "twice"])
    place, length = rng.randrange(len(content)), rng.randrange(1, 40)
    if kind == "cut":
        return kind, content[:place]
    if kind == "change":
        changed = bytearray(content)
        for _ in range(length):
            changed[rng.randrange(len(content))] = rng.randrange(256)
        return kind, bytes(changed)
    if kind == "put in":
        return kind, content[:place] + rng.randbytes(length) + content[place:]
    if kind == "take out":
        return kind, content[:place] + content[place + length :]
    return kind, content[:place] + content


class Maker:
    """Requests for one address."""

    def __init__(self, path: str, host: str, headers: dict[str, str]) -> None:
        self.path, self.host, self.headers = path, host, headers
        self.png = pictures()["png"]

    def known(self) -> list[Request]:
        """One of each kind."""
        return [*self.transport(), *self.addresses(), *self.bodies(), *self.forms()]

    def head(self, line: str = "", **more: str) -> bytes:
        """The request line and headers, without the empty line. Underscores in names stand for hyphens."""
        fields = {"Host": self.host, "Connection": "close", **self.headers}
        fields |= {name.replace("_", "-"): value for name, value in more.items()}
        lines = [line or f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n"

    def post(
        self, name: str, content: bytes, kind: str = "image/png", *, may_succeed: bool = False, **more: str
    ) -> Request:
        more = {"Content_Type": kind, "Content_Length": str(len(content)), **more}
        return Request(name, (self.head(**more) + b"\r\n", content), may_succeed=may_succeed)

    def transport(self) -> Iterator[Request]:
        """What is wrong is not the picture but how it is sent. Whether there is an answer depends."""
        for request in self._transport():
            yield replace(request, is_whole=False)

    def _transport(self) -> Iterator[Request]:
        png, head = self.png, self.head
        length = f"Content-Length: {len(png)}\r\n".encode()
        whole = head(Content_Type="image/png", Content_Length=str(len(png))) + b"\r\n" + png
        for share in (0.02, 0.3, 0.6, 0.99):
            part = whole[: int(len(whole) * share)]
            yield Request(f"half-sent {share}", (part,))
            yield Request(f"half-sent {share}, then reset", (part,), hang_up=True)
        for wait in (0.0, 0.02):
            yield Request(f"sent whole, reset after {wait} s", (whole, b""), pause=wait, hang_up=True)
        drops = tuple(whole[place : place + 8] for place in range(0, 160, 8))
        yield Request("slow header, never complete", drops, pause=0.05)
        yield Request("slow header, then reset", drops, pause=0.05, hang_up=True)
        slow = (whole[:-40], *(whole[place : place + 8] for place in range(len(whole) - 40, len(whole) - 8, 8)))
        yield Request("slow body, never complete", slow, pause=0.1)
        # A connection that is never told to close stays until it is idle for too long.
        yield Request("two requests at once", (whole + whole,), may_succeed=True)
        for value in ("-1", "abc", "1e3", "0x10", "9" * 30, " ", "1, 2", str(2**40), str(2**63)):
            yield Request(f"length {value}", (head(Content_Length=value) + b"\r\n", png))
        yield Request("length too short", (head(Content_Length="10") + b"\r\n", png))
        yield Request("two lengths", (head() + length + b"Content-Length: 3\r\n\r\n", png))
        both = head(Transfer_Encoding="chunked") + length + b"\r\n"
        yield Request("length and chunks", (both, b"0\r\n\r\n", png))
        yield Request("no length", (head() + b"\r\n", png))
        chunked = head(Content_Type="image/png", Transfer_Encoding="chunked") + b"\r\n"
        whole_chunk = b"%x\r\n%b\r\n" % (len(png), png)
        for name, content in {
            "not a number": b"zz\r\nabc\r\n0\r\n\r\n",
            "negative": b"-5\r\nabc\r\n",
            "enormous": b"ffffffffffffffff\r\nabc",
            "long number": b"0" * 5000 + b"5\r\nabcde\r\n0\r\n\r\n",
            "without line breaks": b"5abcde0",
            "shorter than said": b"ff\r\nabc\r\n0\r\n\r\n",
            "without end": whole_chunk,
            "long extension": b"5;" + b"x" * 100_000 + b"\r\nabcde\r\n0\r\n\r\n",
            "many trailers": whole_chunk + b"0\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
            "single bytes": b"1\r\nx\r\n" * 3000 + b"0\r\n\r\n",
        }.items():
            yield Request(f"chunks: {name}", (chunked, content), may_succeed=name == "many trailers")
        for encoding in ("gzip", "chunked, gzip", "identity", "chunked, chunked", "xchunked"):
            yield Request(f"transfer encoding {encoding}", (head(Transfer_Encoding=encoding) + b"\r\n", png))
        line = b"GET /healthz HTTP/1.1\r\n"
        host = f"Host: {self.host}\r\n".encode()
        for name, content in {
            "long header": line + host + b"A: " + b"x" * 200_000 + b"\r\n\r\n",
            "many headers": line + host + b"A: b\r\n" * 40_000 + b"\r\n",
            "long address": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
            "zero in header": line + host + b"A: b\0c\r\n\r\n",
            "name with space": line + host + b"A b: c\r\n\r\n",
            "no name": line + host + b": c\r\n\r\n",
            "no colon": line + host + b"abc\r\n\r\n",
            "version 9": b"GET /healthz HTTP/9.9\r\n" + host + b"\r\n",
            "no version": b"GET /healthz\r\n\r\n",
            "three spaces": b"GET   /healthz   HTTP/1.1\r\n" + host + b"\r\n",
            "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
            "TLS": bytes.fromhex("1603010200010001fc0303") + b"\x5a" * 300,
            "PROXY": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + line + host + b"\r\n",
            "random bytes": random.Random(1).randbytes(5000),
            "zeros": bytes(5000),
            "line breaks": b"\r\n" * 5000,
            "nothing": b"",
            "no host": line + b"\r\n",
            "two hosts": line + host + host + b"\r\n",
        }.items():
            yield Request(name, (content,), may_succeed=name == "version 9")
        line = line.replace(b"GET", b"POST").replace(b"/healthz", self.path.encode())
        for name in ("evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "[::1", "", "a b", "*"):
            fields = f"Host: {name}\r\nContent-Length: {len(png)}\r\n\r\n".encode()
            yield Request(f"host {name!r}", (line + fields, png))

    def addresses(self) -> Iterator[Request]:
        """Methods, paths, parameters and headers that do not exist."""
        for method in ("PUT", "DELETE", "PATCH", "GET", "TRACE", "CONNECT", "post", "X" * 5000, "P\xd6ST"):
            yield Request(
                f"method {method[:20]}", (self.head(f"{method} {self.path} HTTP/1.1", Content_Length="0"), b"\r\n")
            )
        stem, _, verb = self.path.rpartition("/")
        root = stem.rpartition("/")[0]
        climbing = (
            "..",
            "../../etc/passwd",
            "..%2f..%2fetc%2fpasswd",
            "%2e%2e/%2e%2e",
            "..%5c..%5c",
            "%252e%252e%252f",
            ".",
        )
        for name in (
            *climbing,
            "%00",
            "a%00b",
            "%0d%0aX-Bad:%201",
            "%ff%fe",
            "a" * 30_000,
            "CON",
            "~",
            "$(id)",
            "%7b%7d",
        ):
            yield Request(f"model {name[:30]}", self.bodiless("POST", f"{root}/{name}/{verb}"))
            yield Request(f"show {name[:30]}", self.bodiless("GET", f"{root}/{name}"))
            yield Request(f"page {name[:30]}", self.bodiless("GET", f"/{name}/x"))
        for action in (
            "c2d:translate",
            "a2b",
            "a2b:",
            "a2b:train",
            "A2B:translate",
            "a2b%3Atranslat",
            ":translate",
            "a2b::translate",
        ):
            yield Request(f"direction {action}", self.bodiless("POST", f"{stem}/{action}"))
        bad = ["tile=-1", "tile=0", "tile=1e9", "tile=" + "9" * 400, "tile=NaN", "tile=", "tile=%00", "tile=many"]
        bad += [
            "quality=0",
            "quality=101",
            "quality=x",
            "quality=1.5",
            "quality=" + "9" * 400,
            "quality=-5",
            "tile[]=1&tile=x",
        ]
        for query in bad:
            head = self.head(f"POST {self.path}?{query} HTTP/1.1", Content_Length=str(len(self.png)))
            yield Request(f"query {query[:30]}", (head + b"\r\n", self.png))
        for accept in ("text/html", "image/svg+xml", "application/pdf", "nonsense", "x/" + "y" * 5000, "image/png;q=0"):
            # What is no media type is passed over.
            yield self.post(f"accept {accept[:20]}", self.png, Accept=accept, may_succeed=accept == "nonsense")
        odd = {"Content_Encoding": "gzip", "Range": "bytes=5-1", "If_Match": '"x"', "X_HTTP_Method_Override": "DELETE"}
        odd |= {
            "Upgrade": "websocket",
            "Expect": "the-unexpected",
            "X_Forwarded_For": "x" * 3000,
            "Cookie": "a=" + "b" * 8000,
        }
        odd |= {"Forwarded": 'for="_x";host=evil.example', "X_Forwarded_Host": "evil.example", "TE": "trailers"}
        odd |= {
            "Accept": "image/png;q=abc,,;=;,*/*;q=",
            "Content_Type": 'image/png; charset="',
            "Expect_": "100-continue",
        }
        for name, value in odd.items():
            yield self.post(
                f"header {name}", self.png, **{"kind": "image/png", "may_succeed": True, name.rstrip("_"): value}
            )
        for origin in ("https://evil.example", "null", "file://", "http://127.0.0.1.evil.example"):
            yield self.post(f"origin {origin}", self.png, Origin=origin)
        yield self.post("fetched by another site", self.png, Sec_Fetch_Site="cross-site")

    def bodiless(self, method: str, path: str) -> tuple[bytes, ...]:
        return (self.head(f"{method} {path} HTTP/1.1", Content_Length="0") + b"\r\n",)

    def bodies(self) -> Iterator[Request]:
        """Files that are no pictures, not whole, or far more than they seem."""
        for name, content in files().items():
            mild = name in MILD
            yield self.post(name, content, "application/octet-stream", may_succeed=mild)
            yield self.post(f"{name}, called PNG", content, "image/png", may_succeed=mild)
        for name, content in pictures().items():
            for share in (0.1, 0.5, 0.9):
                cut = content[: int(len(content) * share)]
                yield self.post(f"{name} cut at {share}", cut, f"image/{name}", may_succeed=True)
        for name, content in {**files(), **pictures()}.items():
            called = content if len(content) < 100_000 else content[:100_000]
            yield self.form(f"{name} as a form", called, may_succeed=name in pictures() or name in MILD)

    def form(self, name: str, content: bytes, filename: str = "x.png", *, may_succeed: bool = False) -> Request:
        part = f'--frame\r\nContent-Disposition: form-data; name="image"; filename="{filename}"\r\n\r\n'
        body = part.encode("latin-1", "replace") + content + b"\r\n--frame--\r\n"
        return self.post(name, body, "multipart/form-data; boundary=frame", may_succeed=may_succeed)

    def forms(self) -> Iterator[Request]:
        """Forms that are damaged, and file names that lead elsewhere."""
        traps = [
            "../../../tmp/x.png",
            "/etc/passwd",
            "C:\\x.png",
            "a\0b.png",
            "x.svg",
            "x" * 5000,
            "%00.png",
            "\xff\xfe",
            ".",
            "",
        ]
        for trap in (*traps, "x.npy", "x.php", "a.png; name=b", 'a"; filename="b.svg', "a\r\nX: y"):
            yield self.form(f"file name {trap[:20]!r}", self.png, trap, may_succeed=True)
        disposition = b'Content-Disposition: form-data; name="%b"; filename="x.png"\r\n'
        part = b"--frame\r\n" + disposition % b"image" + b"\r\n" + self.png + b"\r\n"
        for name, content in {
            "empty": b"",
            "no part": b"--frame--\r\n",
            "no end": part,
            "cut": part[: len(part) // 2],
            "two files": part + part + b"--frame--\r\n",
            "other field": part.replace(b'name="image"', b'name="picture"') + b"--frame--\r\n",
            "text": b'--frame\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc\r\n--frame--\r\n',
            "no disposition": b"--frame\r\n\r\n" + self.png + b"\r\n--frame--\r\n",
            "long part header": b"--frame\r\nA: " + b"x" * 200_000 + b"\r\n" + part,
            "many part headers": b"--frame\r\n" + b"A: b\r\n" * 20_000 + b"\r\n" + part,
            "many fields": b'--frame\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 5000
            + b"--frame--\r\n",
            "many files": part.replace(self.png, b"x") * 5000 + b"--frame--\r\n",
            "nested": part.replace(b"\r\n\r\n", b"\r\nContent-Type: multipart/mixed; boundary=frame\r\n\r\n", 1),
            "garbage": random.Random(2).randbytes(3000),
            "only frames": b"--frame\r\n" * 5000,
            "base64": part.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1) + b"--frame--\r\n",
        }.items():
            # An encoding of the part that is not known may be passed over, and a lost end be forgiven.
            mild = name in ("base64", "nested", "no end")
            yield self.post(f"form: {name}", content, "multipart/form-data; boundary=frame", may_succeed=mild)
        for kind in (
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=" + "x" * 3000,
        ):
            yield self.post(f"form of {kind[-20:]}", part + b"--frame--\r\n", kind)
        for kind in (
            "multipart/mixed; boundary=frame",
            "multipart/form-data; boundary=other",
            'multipart/form-data; boundary="',
        ):
            yield self.post(f"form as {kind[-20:]}", part + b"--frame--\r\n", kind)
        yield self.post("form as fields", b"image=abc&tile=1", "application/x-www-form-urlencoded")
        yield self.post("JSON", b'{"image": "' + b"A" * 1000 + b'"}', "application/json")
        yield self.post("deep JSON", b"[" * 50_000, "application/json")


@cache
def pictures(width: int = 24, height: int = 20) -> dict[str, bytes]:
    """A small honest picture in each kind of file."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    found = {}
    for kind in ("png", "jpeg", "webp", "tiff", "gif", "bmp"):
        file = io.BytesIO()
        picture.save(file, kind)
        found[kind] = file.getvalue()
    return {**found, "npy": npy(np.asarray(picture))}


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype.hasobject)
    return file.getvalue()


class _Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return open, (MARKER, "w")


def npy_header(text: str, content: bytes = b"") -> bytes:
    padded = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + content


def png_chunks(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


def tiff_of(*tags: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A TIFF of one directory with tags of (number, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + bytes(64)


def zeros(count: int) -> bytes:
    """So many zeros, compressed."""
    packer, parts, block = zlib.compressobj(9), [], bytes(2**20)
    for place in range(0, count, len(block)):
        parts.append(packer.compress(block[: count - place]))
    return b"".join([*parts, packer.flush()])


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name.replace("__", "../"), content)
    return file.getvalue()


@cache
def files() -> dict[str, bytes]:
    """Files of which none is a picture that may be translated."""
    pixels = np.zeros((20, 24, 3), np.float32)
    pixels[3] = np.nan
    side = 30_000
    # 900 million pixels in 110 KB, all of it a valid file.
    one_bit = zeros((side // 8 + 1) * side)
    far = bytearray(pictures()["jpeg"])
    frame = far.index(b"\xff\xc0")
    far[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    gif = bytearray(pictures()["gif"])
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    bmp = bytearray(pictures()["bmp"])
    bmp[18:26] = struct.pack("<ii", 2**31 - 1, -(2**31))
    short, long = 3, 4  # types of a TIFF
    size = ((256, long, 1, 2**31), (257, long, 1, 2**31))
    rest = (
        (258, short, 1, 8),
        (259, short, 1, 1),
        (262, short, 1, 1),
        (273, long, 1, 64),
        (278, long, 1, 2**31),
        (279, long, 1, 60),
    )
    small = ((256, short, 1, 4), (257, short, 1, 4))
    shape = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
    return {
        "empty": b"",
        "one byte": b"\0",
        "text": b"not a picture " * 50,
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>',
        "SVG that reads a file": b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "XML bomb": b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><svg>&c;&c;&c;</svg>',
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(/etc/passwd) (r) file\n",
        "PDF": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "program": b"\x7fELF\x02\x01\x01" + bytes(200),
        "pickle": b"cbuiltins\nopen\n(S'" + MARKER.encode() + b"'\nS'w'\ntR.",
        "VRT": b'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        b"<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
        "playlist": b"#EXTM3U\nconcat:file:///etc/passwd\n",
        "npy of NaN": npy(pixels),
        "npy of objects": npy(np.array([[_Trap()]], dtype=object)),
        "npy of fields": npy(np.zeros((9, 9), [("a", "u1"), ("b", "f4")])),
        "npy of text": npy(np.full((9, 9, 3), "abc")),
        "npy of complex numbers": npy(np.zeros((9, 9, 3), np.complex64)),
        "npy of no pixels": npy(np.zeros((0, 9, 3), np.uint8)),
        "npy of five axes": npy(np.zeros((2, 2, 2, 2, 3), np.uint8)),
        "npy of a number": npy(np.array(5, np.uint8)),
        "npy of many channels": npy(np.zeros((3, 3, 5000), np.uint8)),
        "npy far too large": npy_header(shape % ("|u1", (10**6, 10**6, 3)), bytes(100)),
        "npy of negative size": npy_header(shape % ("|u1", (-9, -9, 3)), bytes(300)),
        "npy of enormous numbers": npy_header(shape % ("|u1", (10**30, 3, 3)), bytes(300)),
        "npy of a deep header": npy_header("(" * 110, bytes(300)),
        "npy of a long header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{" * 3000,
        "npy of version 9": b"\x93NUMPY\x09\x00" + bytes(300),
        "zip of arrays": archive(**{"x.npy": npy(np.zeros((2000, 2000, 3), np.uint8))}),
        "zip bomb": archive(**{f"{index}.png": bytes(2**24) for index in range(4)}),
        "zip that climbs": archive(__etc_x=b"x"),
        "gzip bomb": gzip.compress(bytes(2**26), mtime=0),
        "volume": gzip.compress(struct.pack("<i", 348) + bytes(2**24), mtime=0),
        "PNG bomb": png_chunks(side, side, (b"IDAT", one_bit), depth=1, colour=0),
        "PNG of 2^31": png_chunks(2**31 - 1, 2**31 - 1, (b"IDAT", zlib.compress(bytes(100)))),
        "PNG of no pixels": png_chunks(0, 0, (b"IDAT", zlib.compress(b""))),
        "PNG of few pixels": png_chunks(4000, 4000, (b"IDAT", zlib.compress(bytes(100)))),
        "PNG with a text bomb": png_chunks(
            9, 9, (b"zTXt", b"a\0\0" + zeros(2**28)), (b"IDAT", zlib.compress(bytes(50)))
        ),
        "PNG with a profile bomb": png_chunks(
            9, 9, (b"iCCP", b"a\0\0" + zeros(2**28)), (b"IDAT", zlib.compress(bytes(50)))
        ),
        "PNG whose pixels are a bomb": png_chunks(9, 9, (b"IDAT", zeros(2**28)[:-4])),
        "PNG of type 5": png_chunks(9, 9, (b"IDAT", zlib.compress(bytes(300))), colour=5),
        "PNG without pixels": png_chunks(9, 9),
        "PNG of wrong length": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**31) + b"IHDR" + bytes(30),
        "JPEG of 65500": bytes(far),
        "JPEG without end": b"\xff\xd8" + b"\xff\xe1\xff\xff" * 3000,
        "GIF of 65535": bytes(gif),
        "BMP of 2^31": bytes(bmp),
        "TIFF of 2^31": tiff_of(*size, *rest),
        "TIFF in a circle": tiff_of(*small, following=8),
        "TIFF without pixels": tiff_of(*small),
        "TIFF that begins nowhere": b"II*\0" + struct.pack("<I", 2**32 - 8),
        "TIFF of a million strips": tiff_of(*small, (273, long, 10**6, 8), (279, long, 10**6, 8)),
        "TIFF of 65535 samples": tiff_of(*small, (258, short, 65535, 8), (277, short, 1, 65535), *rest[1:]),
        "TIFF with 65535 tags": b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(2000),
        "BigTIFF that begins nowhere": b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63),
        "WebP of wrong length": b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\xff" * 40,
        "WebP of 16384": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff\x3f\0" * 2 + bytes(20),
        "AVIF without content": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0\0\0\x08meta" * 30,
        "HEIC without content": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\xff" * 200,
        "JPEG XL without content": b"\xff\x0a" + b"\xff" * 200,
        "JPEG 2000 without content": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 200,
        "DICOM without content": bytes(128) + b"DICM" + b"\xff" * 200,
        "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30000, 30000, 8, 3) + bytes(100),
        "PPM of 10^9": b"P6 1000000000 1000000000 255\n" + bytes(100),
        "FITS": b"SIMPLE  =                    T".ljust(80)
        + b"NAXIS1  =           1000000000".ljust(80)
        + b"END".ljust(80),
    }
