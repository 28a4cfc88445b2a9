"""What makes one environment another one, and what a stamp proves."""

import msgspec
import pytest

from waifu_llm.environment.stamp import Basis, Stamp, problem, recorded

LOCK = "msgspec==0.22.0 --hash=sha256:00\n"
BASIS = Basis(lock="l", python="3.11", abi="cpython-311", platform="linux-x86_64", unhashed=("torch==2.13.0",))
STAMP = Stamp(
    name="hf_local",
    basis=BASIS,
    interpreter="/usr/bin/python3.11",
    version="3.11.7",
    identity=(1, 2),
    uv="0.13.9",
)


def test_the_folder_is_named_for_the_provider_and_all_that_it_is_built_from() -> None:
    name = BASIS.folder_name("hf_local")
    assert name.startswith("hf_local-") and len(name) == len("hf_local-") + 16
    others = [
        msgspec.structs.replace(BASIS, lock="m"),
        msgspec.structs.replace(BASIS, python="3.12"),
        msgspec.structs.replace(BASIS, abi="cpython-311t"),
        msgspec.structs.replace(BASIS, platform="macosx-14-arm64"),
        msgspec.structs.replace(BASIS, unhashed=()),
    ]
    assert len({basis.folder_name("hf_local") for basis in [BASIS, *others]}) == 6


def test_line_ends_of_a_checkout_do_not_matter() -> None:
    assert Basis.here(LOCK) == Basis.here(LOCK.replace("\n", "\r\n"))
    assert Basis.here(LOCK) != Basis.here(LOCK + "# more\n")
    assert Basis.here(LOCK) != Basis.here(LOCK, ("torch==2.13.0",))


def test_a_stamp_that_was_written_is_read_again() -> None:
    assert recorded(STAMP.encode()) == STAMP
    assert problem(STAMP.encode(), "hf_local", BASIS) is None


def test_what_is_only_recorded_never_makes_an_environment_another_one() -> None:
    other = msgspec.structs.replace(STAMP, interpreter="/elsewhere", version="3.11.9", identity=(3, 4), uv="1.0.0")
    assert problem(other.encode(), "hf_local", BASIS) is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("lock", "m", "another lock"),
        ("python", "3.12", "another Python version"),
        ("abi", "x", "another Python build"),
        ("platform", "x", "another platform"),
        ("unhashed", (), "another pin"),
    ],
)
def test_a_stamp_of_another_basis_says_what_differs(field: str, value: object, words: str) -> None:
    wanted = msgspec.structs.replace(BASIS, **{field: value})
    assert words in str(problem(STAMP.encode(), "hf_local", wanted))


def test_a_stamp_of_another_provider_is_refused() -> None:
    assert "'hf_local'" in str(problem(STAMP.encode(), "echo", BASIS))


@pytest.mark.parametrize(
    "data", [b"", b"{}", STAMP.encode()[:50], b"\xff", b"[" * 200_000, b'{"x": ' + b"[" * 200_000, b'{"name": "\xff"}']
)
def test_what_cannot_be_read_is_no_stamp(data: bytes) -> None:
    assert problem(data, "hf_local", BASIS) == "its stamp cannot be read"
    with pytest.raises(ValueError):
        recorded(data)
