"""Providers' API keys: from the variables that a manifest names, else from the store.

The store is `<home>/keys.json`, for its owner alone; with the extra `waifu-llm[keyring]` the keys themselves lie in the
operating system's keyring, and the file only says which.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from waifu_llm.catalog import KeyNeed, Manifest
from waifu_llm.errors import ModuleError
from waifu_llm.paths import Home
from waifu_llm.private_files import make_private_folder, mode_problem, read_private, write_private

_SERVICE: Final = "waifu-llm"
LONGEST_KEY: Final = 16384
_USABLE: Final = re.compile(rf"[!-~]{{1,{LONGEST_KEY}}}\Z")
_LOCK_TIMEOUT_S: Final = 10.0
_NO_KEYRINGS: Final = ("keyring.backends.fail", "keyring.backends.null")


class KeyStoreError(ModuleError):
    """The stored keys cannot be read or written, or a key is none."""


class Keyring(Protocol):
    """What is used of the package keyring's backends; they raise what they like."""

    def get_password(self, service: str, username: str) -> str | None:
        """The stored password, or None."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Store it."""

    def delete_password(self, service: str, username: str) -> None:
        """Forget it."""


def find_keyring(load: Callable[[str], Any] = importlib.import_module) -> Keyring | None:
    """The operating system's keyring, where the package is installed and has a backend that keeps anything."""
    try:
        backend: Keyring = load("keyring").get_keyring()
    except Exception:  # a backend that cannot even be looked for is as good as none, whatever it raises
        return None
    return None if type(backend).__module__.startswith(_NO_KEYRINGS) else backend


class StoredKey(msgspec.Struct, frozen=True):
    """A stored key as it may be shown. `where`: file or keyring."""

    provider: str
    masked: str
    where: str


class KeyStore:
    """The stored keys of one home. All methods raise KeyStoreError or PrivateFileError; they may block on a keyring."""

    def __init__(self, home: Home, keyring: Callable[[], Keyring | None] = find_keyring) -> None:
        self._home = home
        self._find_keyring = keyring

    def has(self, provider: str) -> bool:
        """Whether a key is stored; asks no keyring, so it never blocks on one."""
        return provider in self._read()

    def get(self, provider: str) -> str | None:
        """The stored key, or None."""
        entries = self._read()
        if provider not in entries:
            return None
        stored = entries[provider]
        return stored if stored is not None else self._from_keyring(provider)

    def set(self, provider: str, key: str) -> str:
        """Store a key, in the keyring where there is one; returns where it went: file or keyring."""
        key = key.strip()
        if not _USABLE.match(key):
            raise KeyStoreError("that is no key: one line of printable ASCII without blanks is needed")
        keyring = self._find_keyring()
        if keyring is not None:
            try:
                keyring.set_password(_SERVICE, provider, key)
            except Exception as error:
                raise KeyStoreError(
                    f"the keyring did not take the key of {provider} ({type(error).__name__}); unlock it, or set "
                    "PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring to store keys in a file"
                ) from None
        self._write({provider: key if keyring is None else None})
        return "file" if keyring is None else "keyring"

    def remove(self, provider: str) -> bool:
        """Forget a key; False where none was stored."""
        entries = self._read()
        if provider not in entries:
            return False
        if entries[provider] is None and (keyring := self._find_keyring()) is not None:
            try:
                keyring.delete_password(_SERVICE, provider)
            except Exception as error:
                sentence = f"the keyring did not forget the key of {provider}: {type(error).__name__}"
                raise KeyStoreError(sentence) from None
        self._write({}, without=provider)
        return True

    def stored(self) -> list[StoredKey]:
        """All stored keys, masked, sorted by provider."""
        return [
            StoredKey(provider, "(in the keyring)" if key is None else mask(key), "keyring" if key is None else "file")
            for provider, key in sorted(self._read().items())
        ]

    def problems(self) -> list[str]:
        """Sentences about modes that let other users read the keys. Never raises."""
        file = self._home.keys_file
        found = [mode_problem(file), mode_problem(file.parent) if file.exists() else None]
        return [sentence for sentence in found if sentence is not None]

    def _from_keyring(self, provider: str) -> str:
        keyring = self._find_keyring()
        if keyring is None:
            raise KeyStoreError(
                f"the key of {provider} is in the keyring, and there is none now; run `waifu-llm keys set {provider}`"
            )
        try:
            key = keyring.get_password(_SERVICE, provider)
        except Exception as error:
            raise KeyStoreError(f"the keyring did not give the key of {provider}: {type(error).__name__}") from None
        if not key:
            raise KeyStoreError(f"the keyring has no key of {provider} any more; run `waifu-llm keys set {provider}`")
        return key

    def _read(self) -> dict[str, str | None]:
        content = read_private(self._home.keys_file)
        if content is None:
            return {}
        try:
            return msgspec.json.decode(content, type=dict[str, str | None])
        except (msgspec.DecodeError, UnicodeDecodeError):
            file = self._home.keys_file
            # The text of the decoder's own error could hold a part of a key.
            raise KeyStoreError(f"{file} is damaged; remove it and set the keys again") from None

    def _write(self, entries: Mapping[str, str | None], without: str | None = None) -> None:
        from filelock import FileLock  # late: most starts store no key

        make_private_folder(self._home.root)
        lock = self._home.locks / "keys.lock"
        try:
            lock.parent.mkdir(exist_ok=True)
            with FileLock(lock, timeout=_LOCK_TIMEOUT_S):
                kept = {**self._read(), **entries}
                kept.pop(without or "", None)
                write_private(self._home.keys_file, msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
        except (OSError, TimeoutError) as error:
            raise KeyStoreError(f"the keys cannot be written: {lock}: {error}") from error


def find_key(manifest: Manifest, environ: Mapping[str, str], store: KeyStore) -> str | None:
    """The server's own key for a provider: the manifest's variables in order, then the store.

    Raises: KeyStoreError, PrivateFileError. May block where a keyring asks its owner: call it in a thread.
    """
    if manifest.declared.key.need is KeyNeed.NONE:
        return None
    return key_in_variables(manifest, environ) or store.get(manifest.name)


def has_key(manifest: Manifest, environ: Mapping[str, str], store: KeyStore) -> bool:
    """Whether `find_key` would find one, without asking a keyring. Raises: KeyStoreError, PrivateFileError."""
    if manifest.declared.key.need is KeyNeed.NONE:
        return False
    return key_in_variables(manifest, environ) is not None or store.has(manifest.name)


def mask(key: str) -> str:
    """A key as it may be shown: its last four characters where that leaves enough unknown."""
    return f"…{key[-4:]}" if len(key) >= 16 else "…"


def key_in_variables(manifest: Manifest, environ: Mapping[str, str]) -> str | None:
    """The server's own key as far as it is known without a look at any file."""
    return next((value for name in manifest.declared.key.env if (value := environ.get(name, "").strip())), None)
