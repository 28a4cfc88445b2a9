"""What the README shows works: its snippets, and the pages it points to."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.running_module import served
from support.waiting import WAIT_S

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))
SNIPPETS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
# A reader has the module on its usual port, and a key: a test has neither.
HERE = (
    ("connect()", "connect({url!r})"),
    ("connect_blocking()", "connect_blocking({url!r})"),
    ('"openai", api_key="sk-…"', '"echo"'),
    ('"gpt-4o-mini"', '"echo"'),
)


@pytest.mark.parametrize(("snippet", "said"), list(zip(SNIPPETS, ("Hello there", "Who are you?\n"), strict=True)))
def test_a_snippet_prints_the_reply(snippet: str, said: str, installed: Callable[..., None]) -> None:
    installed("echo")
    with served() as module:
        for written, here in HERE:
            snippet = snippet.replace(written, here.format(url=module.url))
        argv = [sys.executable, "-c", snippet]
        done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=WAIT_S, check=False)
    assert (done.stdout, done.stderr) == (said, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_something(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing
