"""Keys at rest: who may read them, where they are looked for, what is said of them."""

import os
import stat
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import msgspec
import pytest

from waifu_llm.catalog import Declaration, Manifest
from waifu_llm.keys import Keyring, KeyStore, KeyStoreError, find_key, find_keyring, has_key, mask
from waifu_llm.paths import Home
from waifu_llm.private_files import PrivateFileError

KEY = "sk-0123456789abcdefghij"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


class FakeKeyring:
    """A keyring in memory; `broken` makes every call fail as a locked one does."""

    def __init__(self) -> None:
        self.passwords: dict[tuple[str, str], str] = {}
        self.broken = False

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.passwords.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.passwords[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        del self.passwords[service, username]

    def _check(self) -> None:
        if self.broken:
            raise RuntimeError(f"locked, and this holds {KEY}")


@pytest.fixture
def root(home: Path) -> Path:
    return home


@pytest.fixture
def store(root: Path) -> KeyStore:
    return KeyStore(Home(root), lambda: None)


@pytest.fixture
def keyring() -> FakeKeyring:
    return FakeKeyring()


@pytest.fixture
def with_keyring(root: Path, keyring: FakeKeyring) -> KeyStore:
    return KeyStore(Home(root), lambda: keyring)


def manifest(need: str, *variables: str) -> Manifest:
    declared = msgspec.convert(
        {
            "kind": "worker",
            "title": "",
            "description": "",
            "homepage": "",
            "category": "api",
            "package": "waifu_x",
            "key": {"need": need, "env": variables},
        },
        Declaration,
    )
    return Manifest("openai", Path(), "1", "", declared)


def test_a_key_that_was_set_is_got_until_it_is_removed(store: KeyStore) -> None:
    assert store.set("openai", f"  {KEY}\n") == "file"
    assert (store.get("openai"), store.has("openai")) == (KEY, True)
    assert store.remove("openai")
    assert (store.get("openai"), store.has("openai")) == (None, False)
    assert not store.remove("openai")


def test_keys_of_several_providers_lie_side_by_side(store: KeyStore) -> None:
    store.set("openai", KEY)
    store.set("groq", "short-key")
    store.set("openai", KEY + "x")
    assert [(key.provider, key.masked, key.where) for key in store.stored()] == [
        ("groq", "…", "file"),
        ("openai", "…hijx", "file"),
    ]
    assert store.get("groq") == "short-key"


@pytest.mark.parametrize("key", ["", "  ", "two words", "a\nb", "schlüssel", "x" * 16385])
def test_what_no_header_can_carry_is_no_key(store: KeyStore, root: Path, key: str) -> None:
    with pytest.raises(KeyStoreError, match="that is no key"):
        store.set("openai", key)
    assert not (root / "keys.json").exists()


@posix
def test_only_the_owner_may_read_the_file_whatever_the_umask(store: KeyStore, root: Path) -> None:
    before = os.umask(0)
    try:
        store.set("openai", KEY)
        store.set("groq", KEY)
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "keys.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert store.problems() == []


@posix
def test_modes_that_let_others_in_are_told_and_mended_by_the_next_write(store: KeyStore, root: Path) -> None:
    store.set("openai", KEY)
    (root / "keys.json").chmod(0o644)
    root.chmod(0o755)
    assert store.problems() == [
        f"{root}/keys.json can be read by other users; run: chmod 600 {root}/keys.json",
        f"{root} can be read by other users; run: chmod 700 {root}",
    ]
    store.set("openai", KEY)
    assert [problem.split()[0] for problem in store.problems()] == [str(root)]


def test_without_stored_keys_there_is_nothing_to_tell(store: KeyStore, root: Path) -> None:
    root.mkdir(mode=0o755)
    assert store.problems() == []
    assert store.stored() == []


@posix
def test_a_link_in_place_of_the_file_is_neither_read_nor_written(store: KeyStore, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.json"
    target.write_text('{"openai": "stolen-key"}')
    root.mkdir()
    (root / "keys.json").symlink_to(target)
    with pytest.raises(PrivateFileError, match="is a link"):
        store.get("openai")
    with pytest.raises(PrivateFileError, match="is a link"):
        store.set("openai", KEY)
    assert target.read_text() == '{"openai": "stolen-key"}'


@pytest.mark.parametrize("content", [b"{", b'{"openai": 3}', b"[]", b"\xff", f'{{"openai": "{KEY}'.encode()])
def test_a_damaged_file_is_told_without_its_content(store: KeyStore, root: Path, content: bytes) -> None:
    root.mkdir()
    (root / "keys.json").write_bytes(content)
    with pytest.raises(KeyStoreError) as caught:
        store.get("openai")
    assert caught.value.message == f"{root}/keys.json is damaged; remove it and set the keys again"
    assert caught.value.__cause__ is None


def test_two_that_set_keys_at_once_both_succeed(store: KeyStore) -> None:
    names = [f"provider{number}" for number in range(8)]
    threads = [threading.Thread(target=store.set, args=(name, KEY)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [key.provider for key in store.stored()] == names


def test_a_home_that_cannot_be_written_is_named(root: Path) -> None:
    root.mkdir()
    (root / "locks").write_text("in the way")
    with pytest.raises(KeyStoreError, match="the keys cannot be written"):
        KeyStore(Home(root), lambda: None).set("openai", KEY)


# The operating system's keyring.


def test_with_a_keyring_the_file_holds_names_only(with_keyring: KeyStore, keyring: FakeKeyring, root: Path) -> None:
    assert with_keyring.set("openai", KEY) == "keyring"
    assert keyring.passwords == {("waifu-llm", "openai"): KEY}
    assert KEY not in (root / "keys.json").read_text()
    assert with_keyring.get("openai") == KEY
    assert [(key.masked, key.where) for key in with_keyring.stored()] == [("(in the keyring)", "keyring")]
    assert with_keyring.remove("openai")
    assert keyring.passwords == {}
    assert with_keyring.get("openai") is None


def test_keys_of_the_file_are_found_and_removed_when_a_keyring_came_later(
    store: KeyStore, with_keyring: KeyStore
) -> None:
    store.set("openai", KEY)
    assert with_keyring.get("openai") == KEY
    assert with_keyring.remove("openai")
    assert store.get("openai") is None


def test_a_keyring_that_refuses_is_told_without_its_words(with_keyring: KeyStore, keyring: FakeKeyring) -> None:
    with_keyring.set("openai", KEY)
    keyring.broken = True
    for act in (
        lambda: with_keyring.get("openai"),
        lambda: with_keyring.set("openai", KEY),
        lambda: with_keyring.remove("openai"),
    ):
        with pytest.raises(KeyStoreError, match="RuntimeError") as caught:
            act()
        assert KEY not in caught.value.message
        assert caught.value.__suppress_context__


def test_a_key_that_its_keyring_lost_is_told(with_keyring: KeyStore, keyring: FakeKeyring) -> None:
    with_keyring.set("openai", KEY)
    keyring.passwords.clear()
    with pytest.raises(KeyStoreError, match="has no key of openai any more"):
        with_keyring.get("openai")


def test_a_keyring_that_is_gone_is_told_and_its_key_can_be_forgotten(with_keyring: KeyStore, store: KeyStore) -> None:
    with_keyring.set("openai", KEY)
    assert store.has("openai")
    with pytest.raises(KeyStoreError, match="and there is none now"):
        store.get("openai")
    assert store.remove("openai")


def a_backend(module: str) -> Keyring:
    kind = type("Keyring", (FakeKeyring,), {"__module__": module})
    backend: Keyring = kind()
    return backend


@pytest.mark.parametrize("module", ["keyring.backends.fail", "keyring.backends.null"])
def test_a_backend_that_keeps_nothing_counts_as_none(module: str) -> None:
    package = SimpleNamespace(get_keyring=lambda: a_backend(module))
    assert find_keyring(lambda name: package) is None


def test_a_real_backend_is_used() -> None:
    backend = a_backend("keyring.backends.SecretService")
    assert find_keyring(lambda name: SimpleNamespace(get_keyring=lambda: backend)) is backend


def test_without_the_package_or_with_a_broken_one_there_is_no_keyring() -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(name)

    def broken(name: str) -> ModuleType:
        raise RuntimeError("no D-Bus here")

    assert find_keyring(missing) is None
    assert find_keyring(broken) is None


# Where a provider's key comes from.


@pytest.mark.parametrize(
    ("environ", "stored", "key"),
    [
        ({"FIRST": "one", "SECOND": "two"}, "kept", "one"),
        ({"SECOND": " two "}, "kept", "two"),
        ({"FIRST": "  "}, "kept", "kept"),
        ({}, "kept", "kept"),
        ({"OTHER": "x"}, None, None),
    ],
)
def test_variables_in_their_order_go_before_the_store(
    store: KeyStore, environ: dict[str, str], stored: str | None, key: str | None
) -> None:
    if stored is not None:
        store.set("openai", stored)
    wanted = manifest("required", "FIRST", "SECOND")
    assert find_key(wanted, environ, store) == key
    assert has_key(wanted, environ, store) == (key is not None)


def test_a_provider_without_keys_gets_none(store: KeyStore) -> None:
    store.set("openai", KEY)
    wanted = manifest("none", "FIRST")
    assert find_key(wanted, {"FIRST": "one"}, store) is None
    assert not has_key(wanted, {"FIRST": "one"}, store)


def test_whether_there_is_a_key_is_known_without_asking_the_keyring(
    with_keyring: KeyStore, keyring: FakeKeyring
) -> None:
    with_keyring.set("openai", KEY)
    keyring.broken = True
    assert has_key(manifest("required"), {}, with_keyring)


@pytest.mark.parametrize(("key", "shown"), [("", "…"), ("x" * 15, "…"), ("x" * 12 + "abcd", "…abcd")])
def test_a_mask_leaves_enough_unknown(key: str, shown: str) -> None:
    assert mask(key) == shown
