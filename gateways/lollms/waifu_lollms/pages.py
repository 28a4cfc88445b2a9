"""The playground and the files it is made of, read once from this package."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from waifu_lollms.answers import Header

_HERE: Final = Path(__file__).resolve().parent
_PLAYGROUND: Final = ("/", "/playground")
_STATIC: Final = "/static/"
# The machine's own table may say otherwise, on Windows above all.
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    body: bytes
    content_type: bytes
    headers: Sequence[Header]


class Pages:
    """All files that there are, by path; other paths lead nowhere."""

    def __init__(self, playground: bytes, static: dict[str, bytes]) -> None:
        self._playground = playground
        self._static = {
            f"{_STATIC}{name}": (body, _TYPES[Path(name).suffix])
            for name, body in static.items()
            if Path(name).suffix in _TYPES
        }

    @classmethod
    def of_package(cls) -> "Pages":
        """Those that lie beside this module; blocks."""
        playground = _HERE / "playground.html"
        files = sorted((_HERE / "static").iterdir())
        return cls(playground.read_bytes(), {file.name: file.read_bytes() for file in files if file.is_file()})

    def find(self, path: str, host: str) -> Page | None:
        """The page at a path, for a client that names this host, which the doors know."""
        if path in _PLAYGROUND:
            policy = (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
                f"connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            )
            return _page(self._playground, "text/html; charset=utf-8", policy)
        if path in self._static:
            return _page(*self._static[path], "default-src 'none'")
        return None


def _page(body: bytes, content_type: str, policy: str) -> Page:
    headers = (
        (b"content-security-policy", policy.encode()),
        (b"cache-control", b"no-cache"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
    )
    return Page(body, content_type.encode(), headers)
