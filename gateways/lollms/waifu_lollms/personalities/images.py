"""Which image files are logos: by their names and by their first bytes, which must agree. Pure."""

from typing import Final

MOST_LOGO_BYTES: Final = 8 * 1024 * 1024
MAGIC_BYTES: Final = 16
# In the published order of preference. No SVG: it is a document that may hold scripts.
LOGO_NAMES: Final = ("logo.gif", "logo.webp", "logo.png", "logo.jpg", "logo.jpeg", "logo.bmp")
_TYPES: Final = {
    "gif": "image/gif",
    "webp": "image/webp",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "bmp": "image/bmp",
}


def content_type(name: str, head: bytes) -> str | None:
    """The media type of a file called `name` that begins with `head`; None where the two don't agree."""
    expected = _TYPES.get(name.rpartition(".")[2])
    return expected if expected is not None and expected == _sniffed(head) else None


def _sniffed(head: bytes) -> str | None:
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "image/png"
    if head[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    # Two letters are little proof: the four reserved bytes of a bitmap's header are zero too.
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "image/bmp"
    return None
