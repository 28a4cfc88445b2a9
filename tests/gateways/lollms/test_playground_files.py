"""The files of the playground need nothing but each other, and write no HTML of anybody's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import waifu_lollms
from support.javascript_client import node_with_client
from support.waiting import WAIT_S

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = Path(waifu_lollms.__file__).parent
STATIC = {file.name: file for file in (PACKAGE / "static").iterdir()}
PAGE = (PACKAGE / "playground.html").read_text("utf-8")
# What Socket.IO's authors wrote is held against what they published.
OURS = {name: file.read_text("utf-8") for name, file in STATIC.items() if not name.startswith("socket.io")}
HTML_WRITERS = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "srcdoc", "eval(")
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


def test_the_socket_io_client_is_the_published_one() -> None:
    node_with_client()
    argv = [sys.executable, str(ROOT / "scripts" / "socket_io_client.py"), "--check"]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=WAIT_S, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_its_licence_stands_in_it_and_beside_it() -> None:
    assert "Released under the MIT License" in STATIC["socket.io.min.js"].read_text("utf-8")[:200]
    assert "MIT License" in STATIC["socket.io.LICENSE.txt"].read_text("utf-8")


def test_the_page_and_its_files_name_each_other_and_nothing_else() -> None:
    named = set(re.findall(r'(?:src|href)="(?!#)([^"]+)"', PAGE))
    imported = {f"static/{name}" for text in OURS.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert named | imported == {f"static/{name}" for name in STATIC} - {"static/socket.io.LICENSE.txt"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_file_of_ours_asks_no_other_server_and_writes_no_html(name: str) -> None:
    text = OURS[name].replace(SVG_NAMESPACE, "")
    assert not re.search(r"\b(https?|wss?):", text)
    assert "url(http" not in text
    assert not [writer for writer in HTML_WRITERS if writer in text]


def test_the_page_has_nothing_inline_that_its_policy_would_refuse() -> None:
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", PAGE)
