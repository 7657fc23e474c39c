"""A local stand-in for the Hugging Face Hub: as much of its protocol as huggingface_hub uses without xet.

It keeps repositories in memory. `fail` names a kind of request that answers 500 from then on;
with `html` every answer is the page of a proxy.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

TOKENS = {"hf_writer": {"user"}, "hf_reader": set()}  # token: namespaces that it may write to


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: list = field(default_factory=list)  # (sha, message, {path: content}), oldest first
    tags: dict = field(default_factory=dict)

    def commit(self, files, message="initial commit"):
        sha = hashlib.sha1(f"{len(self.commits)}{message}{sorted(files)}".encode()).hexdigest()
        self.commits.append((sha, message, dict(files)))
        return sha

    def at(self, revision):
        """The commit of a branch, tag or hash, or None."""
        if revision == "main":
            return self.commits[-1]
        wanted = self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit[0] == wanted), None)

    @property
    def files(self):
        return self.commits[-1][2]


class Hub:
    """Used as a context manager: serves on a free port of 127.0.0.1 until the block ends or `stop` is called."""

    def __init__(self):
        self.repositories = {}
        self.large = {}  # LFS objects by their sha256, committed or not
        self.fail = None
        self.on = {}  # what to call once at a kind of request
        self.requests = []  # (method, path, token)
        self.connections = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        # Large files lie on another host than the Hub, which is not sent the token.
        self.storage = self.url.replace("127.0.0.1", "localhost")
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def add(self, repo_id, files, **kind):
        """A repository with one commit; files: content by path."""
        repository = self.repositories[repo_id] = Repository(**kind)
        repository.commit(files)
        return repository

    def paths(self, method):
        return [path for verb, path, _ in self.requests if verb == method]

    def __enter__(self):
        self._thread.start()
        return self

    def stop(self):
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for connection in self.connections:  # kept open for another request
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __exit__(self, *_):
        self.stop()


def is_large(path):
    return path.endswith((".safetensors", ".png", ".bin", ".pth"))


def oid_of(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            super().setup()
            hub.connections.append(self.connection)

        def log_message(self, *_):
            pass

        # ---- requests

        def do_GET(self):
            self._serve()

        do_HEAD = do_POST = do_PUT = do_GET

        def _serve(self):
            body, path = self._body(), unquote(urlparse(self.path).path)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
            hub.requests.append((self.command, path, token))
            if hub.fail == "html":
                return self._answer(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
            if token is not None and token not in TOKENS:
                message = "Invalid credentials in Authorization header"
                return self._answer(401, {"error": message}, {"X-Error-Message": message})
            for name, pattern, answer in ROUTES:
                match = re.fullmatch(pattern, path)
                if match:
                    hub.on.pop(name, lambda: None)()
                    if hub.fail == name:
                        return self._answer(500, {"error": "out of order"})
                    return answer(self, body, token, *match.groups())
            return self._answer(404, {"error": f"no route {path}"})

        def _body(self):
            if self.headers.get("Transfer-Encoding") == "chunked":
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _answer(self, status, content=b"", headers=()):
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": len(content), **dict(headers)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _repository(self, repo_id, token, *, write=False):
            """The repository, or None when it was answered that there is none for this token."""
            repository = hub.repositories.get(repo_id)
            may_see = repository is not None and (not repository.private or token is not None)
            if not may_see:
                status = 404 if token is not None else 401  # the Hub does not tell strangers what there is not
                self._answer(status, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
                return None
            if write and repo_id.split("/")[0] not in TOKENS.get(token, ()):
                self._answer(403, {"error": "no right to write"}, {"X-Error-Message": "no right to write"})
                return None
            return repository

        def _commit_at(self, repository, revision):
            commit = repository.at(revision)
            if commit is None:
                self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return commit

        # ---- reading

        def info(self, _, token, repo_id, revision):
            repository = self._repository(repo_id, token)
            commit = repository and self._commit_at(repository, revision or "main")
            if commit:
                about = {"_id": "1", "id": repo_id, "modelId": repo_id, "sha": commit[0], "tags": [], "downloads": 0}
                about |= {"private": repository.private, "gated": "auto" if repository.gated else False, "likes": 0}
                self._answer(200, {**about, "siblings": [{"rfilename": path} for path in commit[2]]})

        def tree(self, _, token, repo_id, revision):
            repository = self._repository(repo_id, token)
            commit = repository and self._commit_at(repository, revision)
            if commit:
                entries = []
                for path, content in commit[2].items():
                    entry = {"type": "file", "path": path, "size": len(content), "oid": oid_of(content)}
                    if is_large(path):
                        sha256 = hashlib.sha256(content).hexdigest()
                        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
                    entries.append(entry)
                self._answer(200, entries)

        def resolve(self, _, token, repo_id, revision, path):
            repository = self._repository(repo_id, token)
            commit = repository and self._commit_at(repository, revision)
            if not commit:
                return None
            if repository.gated:
                return self._answer(401 if token is None else 403, b"", {"X-Error-Code": "GatedRepo"})
            if path not in commit[2]:
                return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            content, headers = commit[2][path], {"X-Repo-Commit": commit[0]}
            if not is_large(path):
                return self._answer(200, content, {**headers, "ETag": f'"{oid_of(content)}"'})
            sha256 = hashlib.sha256(content).hexdigest()
            hub.large[sha256] = content
            headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": len(content)}
            return self._answer(302, b"", {**headers, "Location": f"{hub.storage}/cdn/{sha256}"})

        def download(self, _, __, sha256):
            content, start = hub.large[sha256], 0
            if "Range" in self.headers:  # how an interrupted download goes on
                start = int(re.match(r"bytes=(\d+)-", self.headers["Range"]).group(1))
            self._answer(206 if start else 200, content[start:], {"ETag": f'"{sha256}"'})

        # ---- writing

        def create(self, body, token):
            request = json.loads(body)
            repo_id = f"{request['organization']}/{request['name']}"
            if request["organization"] not in TOKENS.get(token, ()):
                return self._answer(403, {"error": "no right"}, {"X-Error-Message": "no right to make this"})
            if repo_id in hub.repositories:
                return self._answer(409, {"error": "You already created this model repo"})
            private = request.get("visibility") == "private" or request.get("private") is True
            hub.add(repo_id, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
            return self._answer(200, {"url": f"{hub.url}/{repo_id}"})

        def validate(self, body, _):
            text = json.loads(body)["content"]
            licence = re.search(r"^license: (.*)$", text, re.MULTILINE)
            if licence and licence[1].strip('"') not in ("mit", "cc-by-4.0", "other"):
                return self._answer(400, {"errors": [{"message": '"license" must be one of [...]'}], "warnings": []})
            return self._answer(200, {"errors": [], "warnings": []})

        def preupload(self, body, token, repo_id, _):
            if repository := self._repository(repo_id, token, write=True):
                files = []
                for file in json.loads(body)["files"]:
                    mode = "lfs" if is_large(file["path"]) else "regular"
                    content = repository.files.get(file["path"])
                    oid = None if content is None else hashlib.sha256(content).hexdigest()
                    if content is not None and mode == "regular":
                        oid = oid_of(content)
                    files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
                self._answer(200, {"files": files})

        def batch(self, body, token, repo_id):
            if self._repository(repo_id, token, write=True):
                objects = []
                for wanted in json.loads(body)["objects"]:
                    upload = {"upload": {"href": f"{hub.storage}/lfs/{wanted['oid']}", "header": {}}}
                    objects.append({**wanted, **({} if wanted["oid"] in hub.large else {"actions": upload})})
                self._answer(200, {"transfer": "basic", "objects": objects})

        def put(self, body, _, sha256):
            assert hashlib.sha256(body).hexdigest() == sha256
            hub.large[sha256] = body
            self._answer(200)

        def commit(self, body, token, repo_id, _):
            repository = self._repository(repo_id, token, write=True)
            if repository is None:
                return None
            header, *operations = [json.loads(line) for line in body.splitlines()]
            parent = header["value"].get("parentCommit")
            if parent is not None and parent != repository.commits[-1][0]:
                return self._answer(412, {"error": "A commit has happened since"})
            files = dict(repository.files)
            for operation in operations:
                value = operation["value"]
                if operation["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif operation["key"] == "lfsFile":
                    files[value["path"]] = hub.large[value["oid"]]
                else:
                    del files[value["path"]]
            sha = repository.commit(files, header["value"]["summary"])
            return self._answer(200, {"commitUrl": f"{hub.url}/{repo_id}/commit/{sha}", "commitOid": sha})

    repo = r"([\w.-]+/[\w.-]+)"
    ROUTES = [
        ("info", rf"/api/models/{repo}(?:/revision/(.+))?", Handler.info),
        ("tree", rf"/api/models/{repo}/tree/([^/]+)", Handler.tree),
        ("resolve", rf"/{repo}/resolve/([^/]+)/(.+)", Handler.resolve),
        ("download", r"/cdn/(\w+)", Handler.download),
        ("create", r"/api/repos/create", Handler.create),
        ("validate", r"/api/validate-yaml", Handler.validate),
        ("preupload", rf"/api/models/{repo}/preupload/(.+)", Handler.preupload),
        ("batch", rf"/{repo}\.git/info/lfs/objects/batch", Handler.batch),
        ("put", r"/lfs/(\w+)", Handler.put),
        ("commit", rf"/api/models/{repo}/commit/(.+)", Handler.commit),
    ]
    return Handler
