"""The committed logos are what their script draws."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

from support.waiting import WAIT_S

ROOT = Path(__file__).resolve().parents[2]
SET = ROOT / "gateways" / "lollms" / "waifu_lollms" / "personality_set"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunks(png: bytes) -> dict[bytes, bytes]:
    """A file's chunks by kind, their checksums checked and the picture unpacked: zlibs differ in how they pack."""
    assert png.startswith(SIGNATURE)
    found: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        found[kind] = zlib.decompress(data) if kind == b"IDAT" else data
        at += 12 + length
    return found


def test_the_script_draws_the_logos_that_are_committed(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "personality_logos.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], timeout=WAIT_S, check=True)
    drawn = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*.png")}
    committed = {file.relative_to(SET): file.read_bytes() for file in SET.rglob("*.png")}
    assert {name: chunks(data) for name, data in drawn.items()} == {
        name: chunks(data) for name, data in committed.items()
    }
    assert {file.parent.parent for file in committed} == {
        file.parent.relative_to(SET) for file in SET.rglob("config.yaml")
    }


def test_every_logo_is_a_whole_picture_of_256_pixels_and_none_is_like_another() -> None:
    pictures = [chunks(file.read_bytes()) for file in SET.rglob("*.png")]
    for picture in pictures:
        assert struct.unpack(">II", picture[b"IHDR"][:8]) == (256, 256)
        assert len(picture[b"IDAT"]) == 256 * (1 + 3 * 256)
        assert b"IEND" in picture
    assert len({picture[b"IDAT"] for picture in pictures}) == len(pictures)
