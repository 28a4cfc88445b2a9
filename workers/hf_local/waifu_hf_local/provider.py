"""The provider: what a load asks for, where the models are, and one generation after the other."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from waifu_hf_local import loading, pulling
from waifu_hf_local.engine import Engine
from waifu_hf_local.failures import not_here
from waifu_hf_local.generation import SAMPLERS, speak
from waifu_hf_local.library import Library, cache_folder
from waifu_worker.provider import Finish, GenerateRequest, LoadRequest, LoadResult, Piece, ProviderError
from waifu_worker.provider import Provider as Interface
from waifu_worker.wire import Code, ModelInfo, OptionValue

Report = Callable[[str, float | None], None]


@dataclass(frozen=True, slots=True)
class _Settings:
    """The load's options, checked."""

    device: str
    dtype: str
    folders: tuple[Path, ...]
    offline: bool
    pull: bool


class _Shared:
    """What all loads of one worker have in common: the thread, and the one model in memory."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.holder = loading.Holder()
        self.users: set[object] = set()


_SHARED: Final = _Shared()


class Provider(Interface):
    """One set of load options over the worker's one engine."""

    samplers: ClassVar[frozenset[str]] = SAMPLERS
    takes_stop_ids: ClassVar[bool] = True
    takes_prompt: ClassVar[bool] = True
    thinks_in_text: ClassVar[bool] = True

    def __init__(self) -> None:
        _SHARED.users.add(self)
        self._settings = _checked({})
        self._library = Library(cache_folder(os.environ))
        self._token: str | None = None
        self._device = "cpu"

    async def load(self, request: LoadRequest) -> LoadResult:
        """Read the list of models, start torch, and bring `preload_model_id` into memory. Raises: ProviderError."""

        def report(detail: str, fraction: float | None) -> None:
            request.report("model", detail, fraction)

        self._settings = _checked(request.options)
        self._token = request.api_key
        self._library = Library(cache_folder(os.environ), self._settings.folders)
        # From the first word on: the imports take long where the disk is slow.
        report("starting torch", None)
        self._device = await asyncio.to_thread(loading.start, self._settings.device)
        if request.preload_model_id is not None:
            wanted = await self._find(request.preload_model_id, report)
            report(f"loading {request.preload_model_id}", None)
            await _SHARED.engine.call(lambda: _SHARED.holder.preload(wanted))
            report(f"loaded {request.preload_model_id}", 1.0)
        return LoadResult(await self.models(), await asyncio.to_thread(self._warning))

    async def models(self) -> Sequence[ModelInfo]:
        """Those on this machine. Cancelling it is safe."""
        return await asyncio.to_thread(self._library.models)

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """The text as it is decoded, once it is this request's turn. Raises: ProviderError."""
        wanted = await self._find(request.params.model_id, lambda *_: None)

        def speaker(emit: Callable[[str], None], gone: Any) -> Finish:
            return speak(_SHARED.holder.get(wanted), request, emit, gone)

        pieces = _SHARED.engine.stream(speaker)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    async def close(self) -> None:
        """Give the model's memory back where no other load is left."""
        _SHARED.users.discard(self)
        if not _SHARED.users:
            await _SHARED.engine.call(_SHARED.holder.release)

    async def _find(self, model_id: str, report: Report) -> loading.Wanted:
        path = await asyncio.to_thread(self._library.find, model_id)
        if path is None and self._settings.pull and not self._settings.offline and not Path(model_id).is_absolute():
            await pulling.pull(model_id, self._library.cache, self._token, report)
            path = await asyncio.to_thread(self._library.find, model_id)
        if path is None:
            begun = await asyncio.to_thread(self._library.is_begun, model_id)
            raise not_here(model_id, begun=begun, offline=self._settings.offline)
        return loading.Wanted(model_id, path, self._device, self._settings.dtype)

    def _warning(self) -> str | None:
        missing = [str(folder) for folder in self._settings.folders if not folder.is_dir()]
        return f"there is no folder {', '.join(missing)}" if missing else None


def _checked(options: dict[str, OptionValue]) -> _Settings:
    device = str(options.get("device") or "auto")
    loading.check_device(device)
    folders = options.get("folders")
    paths = tuple(Path(folder).expanduser() for folder in folders) if isinstance(folders, list) else ()
    relative = [str(path) for path in paths if not path.is_absolute()]
    if relative:
        raise ProviderError(Code.UNEXPECTED, f"the option folders needs absolute paths, {relative[0]!r} is none")
    return _Settings(
        device, str(options.get("dtype") or "auto"), paths, bool(options.get("offline")), bool(options.get("pull"))
    )
