"""A package index on this machine, which can also fail as real ones do."""

import hashlib
import json
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class PackageIndex:
    """`folder` holds wheels; `times` gives the upload time by version, `yanked` versions are. `fault`: "", "error",
    "hang" or "cut".
    """

    def __init__(self, folder: Path, times: Mapping[str, str] | None = None, *, yanked: Collection[str] = ()) -> None:
        self.folder = folder
        self.times = times or {}
        self.yanked = yanked
        self.fault = ""
        self.asked: list[str] = []
        self.let_go = threading.Event()
        self.address = ""

    @property
    def simple(self) -> str:
        """What UV_DEFAULT_INDEX wants."""
        return f"{self.address}/simple"

    def page(self, path: str) -> tuple[bytes, str] | None:
        """The content and its type."""
        kind, _, rest = path.strip("/").partition("/")
        if kind == "files" and (self.folder / rest).is_file():
            return (self.folder / rest).read_bytes(), "application/zip"
        files = [file for file in sorted(self.folder.iterdir()) if file.name.split("-")[0] == rest]
        if kind != "simple" or not files:
            return None
        listed = [
            {
                "filename": file.name,
                "url": f"/files/{file.name}",
                "hashes": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
                "upload-time": self.times.get(file.name.split("-")[1], "2020-01-01T00:00:00Z"),
                "yanked": "it was a mistake" if file.name.split("-")[1] in self.yanked else False,
            }
            for file in files
        ]
        page = {"meta": {"api-version": "1.1"}, "name": rest, "files": listed}
        return json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json"


@contextmanager
def serving(index: PackageIndex) -> Iterator[PackageIndex]:
    """The index, listening."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> bytes:
            index.asked.append(self.path)
            if index.fault == "hang":
                index.let_go.wait()
            page = index.page(self.path) if index.fault != "error" else None
            data, kind = page or (b"", "text/plain")
            self.send_response(500 if index.fault == "error" else 200 if page else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return data[: len(data) // 2] if index.fault == "cut" and "/files/" in self.path else data

        def do_GET(self) -> None:
            self.wfile.write(self.do_HEAD())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that gave up is wanted
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        index.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield index
        finally:
            index.let_go.set()
            server.shutdown()
            thread.join()
