"""What uv writes on a pipe, word for word, and what becomes of it."""

import pytest

from waifu_llm.environment.uv_output import UvProgress, disk_is_full, failure, last_line, sentence

ONLINE = """\
Using Python 3.11.7 environment at: a
Resolved 11 packages in 140ms
Downloading aiohttp (1.8MiB)
Downloading torch (800.1MiB)
 Downloaded aiohttp
 Downloaded torch
Prepared 10 packages in 41ms
Installed 11 packages in 6ms
 + aiohappyeyeballs==2.7.1
"""

WRONG_HASH = """\
Resolved 11 packages in 208ms
error: Failed to download `aiohappyeyeballs==2.7.1`
  cause: Hash mismatch for `aiohappyeyeballs==2.7.1`

         Expected:
           sha256:165665c041c42a5938ed220bdcd7230f22527fbec085e1853d2402c8a3615d9d

         Computed:
           sha256:9243213661e29250eb41368e5daa826fc017156c3b8a11440826b2e3ed376472
"""

NO_NETWORK = """\
error: Request failed after 3 retries in 5.3s
  cause: Failed to fetch: https://index.example.org/simple/yarl/
  cause: error sending request for url (https://index.example.org/simple/yarl/)
  cause: client error (Connect)
  cause: dns error
  cause: failed to lookup address information: Temporary failure in name resolution
"""

OFFLINE = """\
error: Failed to download `frozenlist==1.8.0`
  cause: Network connectivity is disabled, but the requested data wasn't found in the cache: https://x/f.whl
"""

OFFLINE_FROM_THE_START = """\
error: No solution found when resolving dependencies
  cause: Because aiohappyeyeballs was not found in the cache and you require aiohappyeyeballs==2.7.1, we can conclude \
that your requirements are unsatisfiable.

hint: Packages were unavailable because the network was disabled. When the network is disabled, registry packages may \
only be read from the cache.
"""

DISK_FULL = """\
error: Failed to install: multidict-7.2.1.whl (multidict==7.2.1)
  cause: Failed to copy to `/h/envs/.tmp-1-00/lib/multidict/_multidict.so`
  cause: failed to copy file from /c/_multidict.so to /h/.tmpUNCIVC: No space left on device (os error 28)
"""

NO_MATCH = """\
error: No solution found when resolving dependencies
  cause: Because nonexistent-pkg-zzz was not found in the package registry and you require nonexistent-pkg-zzz==1.0, \
we can conclude that your requirements are unsatisfiable.
"""

FETCH = "error: Failed to fetch: `"
TIMED_OUT = "  cause: timed out"


def test_its_lines_are_counted_as_progress() -> None:
    progress = UvProgress()
    steps = [step for line in ONLINE.splitlines() if (step := progress.feed(line)) is not None]
    assert [(step.detail, step.fraction) for step in steps] == [
        ("11 packages are needed", 0.1),
        ("downloading aiohttp (1.8MiB)", None),
        ("downloading torch (800.1MiB)", None),
        ("downloaded aiohttp, 1 of 2 large packages", None),
        ("downloaded torch, 2 of 2 large packages", None),
        ("prepared 10 packages", 0.7),
        ("installed 11 packages", 0.8),
    ]


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (WRONG_HASH, ["hash mismatch", "aiohappyeyeballs==2.7.1", "index"]),
        (NO_NETWORK, ["from index.example.org (", "Temporary failure in name resolution", "network", "load it again"]),
        (
            "error: Failed to fetch: `https://me:secret@wheels.example.org:8443/torch/`\n  cause: timed out",
            ["from wheels.example.org (timed out)"],
        ),
        (f"{FETCH}https://me:p@ss@wheels.example.org:8443/torch/`\n{TIMED_OUT}", ["from wheels.example.org (timed"]),
        (f"{FETCH}https://[2001:db8::1]:8443/torch/`\n{TIMED_OUT}", ["from [2001:db8::1] (timed out)"]),
        (f"{FETCH}https://wheels.example.org`: 503\n{TIMED_OUT}", ["from wheels.example.org (timed out)"]),
        (f"{FETCH}https://tok/en@wheels.example.org:8443/`\n{TIMED_OUT}", ["could not be downloaded (timed out)"]),
        (f"{FETCH}https://me:12)en@wheels.example.org/`\n{TIMED_OUT}", ["from wheels.example.org (timed out)"]),
        ("cause: Failed to fetch: https://x.example.org/f", ["downloaded (Failed to fetch: https://x.example.org/f)"]),
        (OFFLINE, ["not all in uv's cache", "UV_OFFLINE"]),
        (OFFLINE_FROM_THE_START, ["not all in uv's cache", "UV_OFFLINE"]),
        (NO_MATCH, ["no fitting wheels", "platform"]),
        ("thread 'main' panicked\n\n", ["thread 'main' panicked", "waifu-llm.log"]),
        ("", ["it said nothing"]),
    ],
)
def test_a_failure_is_one_sentence_that_says_what_to_do(tail: str, words: list[str]) -> None:
    message = failure("openai", tail)
    assert all(word in message for word in words)
    assert "openai" in message
    assert len(message) <= 300 and "\n" not in message


@pytest.mark.parametrize("tail", [DISK_FULL, "x: There is not enough space on the disk. (os error 112)"])
def test_a_full_disk_is_known_on_every_platform(tail: str) -> None:
    assert disk_is_full(tail)


@pytest.mark.parametrize("tail", [WRONG_HASH, NO_NETWORK, "(os error 280)"])
def test_other_failures_are_no_full_disk(tail: str) -> None:
    assert not disk_is_full(tail)


def test_long_texts_are_cut() -> None:
    assert len(sentence("word " * 200)) == 300
    assert sentence(" a\n b ") == "a b"
    assert len(last_line("x" * 1000)) == 160
