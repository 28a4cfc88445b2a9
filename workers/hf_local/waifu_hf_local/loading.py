"""The one model that is in memory: loaded when it is first asked for, given back when another one is.

Everything here runs in the engine's thread and imports torch and transformers only when it is called.
"""

import gc
import os
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from waifu_hf_local.failures import is_out_of_memory, not_loadable, out_of_memory, said
from waifu_worker.provider import ProviderError
from waifu_worker.wire import Code

_DEVICE: Final = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")
_LENGTHS: Final = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
# Tokenizers that know no limit say a number with thirty digits.
_NO_LIMIT: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model as it shall be in memory: `dtype` as the option has it, `device` never `auto`."""

    model_id: str
    path: Path
    device: str
    dtype: str


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model in memory. `context`: how many tokens it takes, prompt and answer together; None where it says none.

    `layers`: what it runs through one after the other, and can be left between.
    """

    wanted: Wanted
    tokenizer: Any
    model: Any
    context: int | None
    layers: tuple[Any, ...]


def check_device(name: str) -> None:
    """Raises: ProviderError where nothing is called so."""
    if not _DEVICE.fullmatch(name):
        raise ProviderError(Code.UNEXPECTED, f"there is no device {name[:32]!r}: use auto, cpu, cuda, cuda:N or mps")


def start(device: str) -> str:
    """Import torch and transformers, and find the device. Takes seconds. Raises: ProviderError."""
    # Torch's threads would spin while they wait for each other: where other programs run, that made an answer take
    # two to six times as long (measured on two cores). Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch
        import transformers
    except (ImportError, OSError) as error:
        traceback.print_exc()
        raise ProviderError(Code.UNEXPECTED, f"torch cannot be used here: {said(error)}") from error
    # The models' own classes, which come lazily: imported now, the first answer need not wait for them.
    _ = transformers.AutoModelForCausalLM, transformers.AutoTokenizer
    transformers.utils.logging.disable_progress_bar()
    return _find_device(torch, device)


class Holder:
    """Holds one model at most."""

    def __init__(self) -> None:
        self._loaded: Loaded | None = None

    def get(self, wanted: Wanted) -> Loaded:
        """The model, loaded where another one or none is there, which goes first. Raises: ProviderError."""
        if self._loaded is None or self._loaded.wanted != wanted:
            self.release()
            self._loaded = _load(wanted)
        return self._loaded

    def preload(self, wanted: Wanted) -> None:
        """Have the model in memory, as `get`. Raises: ProviderError."""
        self.get(wanted)

    def release(self) -> None:
        """Give the memory back, the GPU's too."""
        if self._loaded is not None:
            self._loaded = None
            free_memory()


def free_memory() -> None:
    """Have Python and torch give back what nobody refers to."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _find_device(torch: Any, device: str) -> str:
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    missing = (device == "mps" and not has_mps) or (
        device.startswith("cuda") and int(device.partition(":")[2] or 0) >= count
    )
    if missing:
        there_are = ["cpu", *(f"cuda:{number}" for number in range(count)), *(["mps"] if has_mps else [])]
        raise ProviderError(Code.UNEXPECTED, f"torch finds no device {device} here; there are: {', '.join(there_are)}")
    return device


def _load(wanted: Wanted) -> Loaded:
    failure = None
    try:
        return _read(wanted)
    except ProviderError:
        raise
    except Exception as error:
        traceback.print_exc()
        if is_out_of_memory(error):
            failure = out_of_memory(wanted.model_id, wanted.device)
        else:
            failure = ProviderError(
                Code.UNEXPECTED, f"{wanted.model_id} cannot be brought to {wanted.device}: {said(error)}"
            )
    # Not inside the handler: what is raised there would keep the half-loaded model in its context.
    free_memory()
    raise failure


def _read(wanted: Wanted) -> Loaded:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.modeling_layers import GradientCheckpointingLayer

    dtype = "auto" if wanted.dtype == "auto" else getattr(torch, wanted.dtype)
    try:
        # Both read a local folder; code in it is never run.
        tokenizer = AutoTokenizer.from_pretrained(  # nosec B615
            wanted.path, local_files_only=True, trust_remote_code=False
        )
        model = AutoModelForCausalLM.from_pretrained(  # nosec B615
            wanted.path, dtype=dtype, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        traceback.print_exc()
        raise not_loadable(wanted.model_id, error) from None
    model = model.to(wanted.device).eval()
    layers = tuple(module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))
    return Loaded(wanted, tokenizer, model, _context(model.config, tokenizer), layers)


def _context(config: Any, tokenizer: Any) -> int | None:
    inner = config.get_text_config()
    for name in _LENGTHS:
        length = getattr(inner, name, None)
        if isinstance(length, int) and length > 0:
            return length
    limit = int(tokenizer.model_max_length)
    return limit if limit < _NO_LIMIT else None
