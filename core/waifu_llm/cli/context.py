"""What most commands need: the home, the settings, the providers."""

import os
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from waifu_llm.catalog import Catalog
from waifu_llm.cli.output import warn
from waifu_llm.config import Settings, TableFlags, resolve
from waifu_llm.config.resolve import Flags
from waifu_llm.keys import KeyStore
from waifu_llm.paths import Home
from waifu_llm.private_files import make_private_folder


class Context:
    """The home and environment of this call; what is expensive is made when it is asked for."""

    def __init__(self) -> None:
        self.environ: Mapping[str, str] = dict(os.environ)

    @cached_property
    def home(self) -> Home:
        """Where everything lives."""
        return Home.find(self.environ)

    @cached_property
    def catalog(self) -> Catalog:
        """The workers and gateways there are."""
        return Catalog.read()

    @cached_property
    def keys(self) -> KeyStore:
        """The stored keys."""
        return KeyStore(self.home)

    def settings(self, flags: Flags | None = None, table_flags: TableFlags | None = None) -> Settings:
        """The settings of this call; what is unwise in them is said on stderr. Raises: UsageError."""
        resolved = resolve(self.home, self.environ, flags, self.catalog, table_flags)
        for sentence in resolved.warnings:
            warn(sentence)
        return resolved.settings

    def own_home(self) -> Home:
        """The home, made for its owner alone where it did not exist. Raises: PrivateFileError."""
        make_private_folder(self.home.root)
        return self.home

    def free_bytes(self) -> int:
        """Free space where the home is, or will be."""
        folder = self.home.root
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return shutil.disk_usage(Path(folder)).free
