"""The models on this machine: those of the hub's cache and those of configured folders. Reads, never loads."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from waifu_worker.wire import ModelInfo

_PREFIX: Final = "models--"
_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
_TOKENIZERS: Final = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model",
)  # fmt: skip
_TEMPLATES: Final = ("chat_template.jinja", "chat_template.json")
_GENERATORS: Final = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_LENGTHS: Final = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
# A folder of models holds them by their names, or by `owner/name` as the hub does.
_DEEPEST: Final = 2


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where the hub's library keeps what it downloads; empty variables count as absent."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name):
            return Path(environ[name]).expanduser()
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser() / "hub"
    return Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


@dataclass(frozen=True, slots=True)
class Library:
    """`cache`: the hub's cache folder; `folders`: models, or folders of them."""

    cache: Path
    folders: tuple[Path, ...] = ()

    def models(self) -> tuple[ModelInfo, ...]:
        """Every whole model, sorted by id; blocks. What cannot be read is left out."""
        found = {}
        for model_id, folder in self._all():
            if model_id not in found:
                config = _read(folder / "config.json")
                if _generates(config):
                    found[model_id] = _info(model_id, folder, config)
        return tuple(found[model_id] for model_id in sorted(found))

    def find(self, model_id: str) -> Path | None:
        """The folder with the files of a model: by its id in the list, or by its own absolute path; blocks."""
        path = Path(model_id)
        if path.is_absolute():
            return path if is_model(path) else None
        if ".." in path.parts:
            return None
        for folder in self.folders:
            if folder.name == model_id and is_model(folder):
                return folder
            if is_model(folder / path):
                return folder / path
        cached = self._snapshot(self._repository(model_id))
        return cached if cached is not None and is_model(cached) else None

    def is_begun(self, model_id: str) -> bool:
        """A download of it began and did not come to its end; blocks."""
        try:
            return bool(model_id) and self._repository(model_id).is_dir() and self.find(model_id) is None
        except OSError:
            return False

    def _all(self) -> Iterator[tuple[str, Path]]:
        for folder in self.folders:
            if is_model(folder):
                yield folder.name, folder
            else:
                yield from ((str(path.relative_to(folder).as_posix()), path) for path in _within(folder, _DEEPEST))
        for repository in _folders(self.cache):
            if repository.name.startswith(_PREFIX):
                snapshot = self._snapshot(repository)
                if snapshot is not None and is_model(snapshot):
                    yield repository.name.removeprefix(_PREFIX).replace("--", "/"), snapshot

    def _repository(self, model_id: str) -> Path:
        return self.cache / (_PREFIX + model_id.replace("/", "--"))

    @staticmethod
    def _snapshot(repository: Path) -> Path | None:
        """What the name alone means: the revision that `main` points to."""
        try:
            return repository / "snapshots" / (repository / "refs" / "main").read_text("utf-8").strip()
        except (OSError, ValueError):
            return None


def is_model(folder: Path) -> bool:
    """It holds a model's config, a tokenizer and all of its weights."""
    try:
        return (
            (folder / "config.json").is_file()
            and any((folder / name).is_file() for name in _TOKENIZERS)
            and any(_has_weights(folder, name) for name in _WEIGHTS)
        )
    except OSError:
        return False


def _has_weights(folder: Path, name: str) -> bool:
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return (folder / name).is_file()
    parts = _read(index).get("weight_map")
    return isinstance(parts, dict) and all((folder / str(part)).is_file() for part in set(parts.values()))


def _within(folder: Path, depth: int) -> Iterator[Path]:
    for path in _folders(folder):
        if is_model(path):
            yield path
        elif depth > 1:
            yield from _within(path, depth - 1)


def _folders(folder: Path) -> Iterable[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return ()


def _read(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _generates(config: Mapping[str, object]) -> bool:
    """Not a model that only embeds or classifies; one that does not say is taken."""
    names = config.get("architectures")
    return not isinstance(names, list) or not names or any(str(name).endswith(_GENERATORS) for name in names)


def _info(model_id: str, folder: Path, config: Mapping[str, object]) -> ModelInfo:
    owner, slash, _ = model_id.rpartition("/")
    has_template = any((folder / name).is_file() for name in _TEMPLATES)
    chats = has_template or bool(_read(folder / "tokenizer_config.json").get("chat_template"))
    return ModelInfo(
        id=model_id,
        kind="chat" if chats else "text",
        owner=owner if slash else None,
        size_bytes=_size(folder),
        context=_context(config),
    )


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    except OSError:
        return 0


def _context(config: Mapping[str, object]) -> int | None:
    inner = config.get("text_config")
    for table in (inner if isinstance(inner, dict) else {}, config):
        for name in _LENGTHS:
            length = table.get(name)
            if isinstance(length, int) and length > 0:
                return length
    return None
