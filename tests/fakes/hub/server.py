"""A hub for models: what `huggingface_hub` asks when it downloads one, with the real one's refusals.

`with running(Hub(folder_of_files)) as hub`: every repository in `Hub.OPEN`, and with the right token those in
`Hub.GATED`, holds the files of that folder. `slow` ones send half of the weights and wait, `silent` ones close the
connection.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import unquote, urlsplit

TOKEN: Final = "hf_0123456789abcdefghijklmnopqrstuv"
REVISION: Final = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS: Final = "model.safetensors"


class Hub:
    """The repositories and what was asked for."""

    OPEN: ClassVar = frozenset({"far/open", "far/slow", "far/empty"})
    GATED: ClassVar = frozenset({"far/gated"})

    def __init__(self, files: Path) -> None:
        # What no loader needs must not be fetched: the folder `original` and weights in another format.
        self.files = {file.name: file.read_bytes() for file in files.iterdir()}
        self.files |= {"original/consolidated.safetensors": b"o", "pytorch_model.bin": b"p", "README.md": b"r"}
        self.asked: list[tuple[str, str]] = []
        self.left = threading.Event()
        self.half_sent = threading.Event()

    def files_of(self, repository: str) -> dict[str, bytes]:
        """Name and content."""
        return {"README.md": b"r"} if repository == "far/empty" else self.files


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""

    def _answer(self, *, body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.hub.asked.append((self.command, "/".join(parts)))
        if "silent" in parts:
            self.close_connection = True
        elif parts[:2] == ["api", "models"]:
            self._describe("/".join(parts[2:4]), parts[4:])
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), "/".join(parts[4:]), body=body)
        else:
            self._send(404, b"{}")

    def _describe(self, repository: str, rest: list[str]) -> None:
        if not self._may(repository, files=False):
            return
        files = self.hub.files_of(repository)
        if rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            self._send(200, json.dumps(entries).encode())
        else:
            siblings = [{"rfilename": name} for name in files]
            self._send(200, json.dumps({"id": repository, "sha": REVISION, "siblings": siblings}).encode())

    def _may(self, repository: str, *, files: bool) -> bool:
        """Answer with the real hub's refusal where this client may not read."""
        given = self.headers.get("Authorization")
        known = repository in self.hub.OPEN | self.hub.GATED
        if given is not None and given != f"Bearer {TOKEN}":
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif not known:
            # Whether it is private or not there at all is nobody's business.
            self._refuse(401 if given is None else 404, "RepoNotFound", "Repository not found")
        elif files and repository in self.hub.GATED and given is None:
            self._refuse(401, "GatedRepo", f"Access to model {repository} is restricted")
        else:
            return True
        return False

    def _file(self, repository: str, name: str, *, body: bool) -> None:
        if not self._may(repository, files=True):
            return
        data = self.hub.files_of(repository).get(name)
        if data is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if body and repository == "far/slow" and name == WEIGHTS:
            self._half(data[begin:])
        elif body:
            self.wfile.write(data[begin:])

    def _half(self, data: bytes) -> None:
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self.hub.half_sent.set()
        with suppress(OSError):
            self.rfile.read(1)
        self.hub.left.set()
        self.close_connection = True

    def _refuse(self, status: int, code: str, text: str) -> None:
        self._send(status, json.dumps({"error": text}).encode(), {"X-Error-Code": code, "X-Error-Message": text})

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def running(hub: Hub) -> Iterator[str]:
    """Its address."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="hub", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
