"""A logo's name and its first bytes must agree; documents are never images."""

import pytest
from waifu_lollms.personalities.images import LOGO_NAMES, MAGIC_BYTES, content_type

HEADS = {
    "image/gif": b"GIF89a\x01\0\x01\0",
    "image/webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "image/png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "image/bmp": b"BM\x10\0\0\0\0\0\0\0\x36",
}
BY_NAME = {"logo.gif": "image/gif", "logo.webp": "image/webp", "logo.png": "image/png", "logo.bmp": "image/bmp"}
BY_NAME |= {"logo.jpg": "image/jpeg", "logo.jpeg": "image/jpeg"}


def test_the_order_of_preference_is_the_published_one() -> None:
    assert LOGO_NAMES == ("logo.gif", "logo.webp", "logo.png", "logo.jpg", "logo.jpeg", "logo.bmp")
    assert set(LOGO_NAMES) == set(BY_NAME)


@pytest.mark.parametrize("name", LOGO_NAMES)
@pytest.mark.parametrize("kind", HEADS)
def test_a_type_is_told_only_where_name_and_bytes_agree(name: str, kind: str) -> None:
    expected = kind if BY_NAME[name] == kind else None
    assert content_type(name, HEADS[kind][:MAGIC_BYTES]) == expected


@pytest.mark.parametrize("head", [b"", b"<svg xmlns=", b"<html>", b"BMW is a car.", b"RIFF\0\0\0\0WAVE", b"\x89PN"])
@pytest.mark.parametrize("name", [*LOGO_NAMES, "logo.svg", "logo"])
def test_what_is_no_image_has_no_type(name: str, head: bytes) -> None:
    assert content_type(name, head) is None


def test_an_older_gif_is_one_and_a_vector_image_never() -> None:
    assert content_type("logo.gif", b"GIF87a") == "image/gif"
    assert content_type("logo.svg", HEADS["image/png"]) is None
