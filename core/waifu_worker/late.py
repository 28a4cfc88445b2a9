"""Modules that libraries import and that nothing looks into while a process starts: their code runs at the first look,
from whatever thread that comes.

Everybody gets the one module object that there is, so that nothing but the time of the work changes. A package is on
the list only where nobody imports what lies in it by its own name, a module only where nothing that it imports looks
into it at once: two threads that begin at the two ends would wait for each other.
"""

import contextlib
import sys
from _thread import RLock
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader

# What asyncio, msgspec, aiohttp and websockets import, and what that does, without a need of it in a worker or a
# gateway. Who asks for TLS, a traceback, a folder or a version has some of them read then.
IN_A_WORKER = (
    *("asyncio.sslproto", "attr.converters", "attr.validators", "email.header", "importlib.metadata", "locale"),
    *("mimetypes", "msgspec.inspect", "ntpath", "shlex", "shutil", "ssl", "tokenize"),
)

_HOW = "__waifu_llm_late__"
# What the import system itself looks at while it makes a module.
_OF_THE_IMPORT = frozenset(("__class__", "__file__", "__loader__", "__name__", "__package__", "__path__", "__spec__"))


def postpone(names: Sequence[str]) -> None:
    """From now on these run at the first look at them. Those that have been imported are left as they are."""
    sys.meta_path.insert(0, _Finder(frozenset(names)))


def catch_up(names: Sequence[str]) -> None:
    """Run those that somebody imported and nobody looked into; some milliseconds, in any thread. Never raises: who
    looks into one that fails is told.
    """
    for name in names:
        with contextlib.suppress(Exception):
            hasattr(sys.modules.get(name), "what it has not")


class _Unread(ModuleType):
    """A module whose code has not run. It becomes a plain one when that is done: until then others wait for it."""

    def __getattribute__(self, name: str) -> object:
        _look(self, name)
        return ModuleType.__getattribute__(self, name)

    # Its code would undo what was changed before.

    def __setattr__(self, name: str, value: object) -> None:
        _look(self, name)
        ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        _look(self, name)
        ModuleType.__delattr__(self, name)


def _look(module: ModuleType, name: str) -> None:
    # Also for a name that is there already: what it leads to may need one that is not.
    if name not in _OF_THE_IMPORT:
        how = ModuleType.__getattribute__(module, "__dict__").get(_HOW)
        if how is not None:
            how.run(module)


class _Late:
    """How one of them is run, once; a loader for the import system, until then."""

    def __init__(self, loader: "Loader") -> None:
        self._loader = loader
        self._lock = RLock()
        self._is_due = True

    def __getattr__(self, name: str) -> object:
        # Who reads code without running it asks for more than an import does.
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader itself wants it."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Not now."""
        setattr(module, _HOW, self)
        module.__class__ = _Unread

    def run(self, module: ModuleType) -> None:
        """Now, unless it has run or this is from inside. What it raises it raises again at the next look."""
        with self._lock:
            if not self._is_due:
                return
            self._is_due = False
            module.__loader__ = self._loader
            if module.__spec__ is not None:
                module.__spec__.loader = self._loader
            try:
                self._loader.exec_module(module)
            except BaseException:
                self._is_due = True
                raise
            delattr(module, _HOW)
            module.__class__ = ModuleType


class _Finder:
    """Finds what is on the list as the system would, but to be run late."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for all others."""
        spec = PathFinder.find_spec(name, path, target) if name in self._names else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Late(spec.loader)  # type: ignore[assignment]
        return spec
