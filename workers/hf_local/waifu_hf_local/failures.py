"""What went wrong in torch or transformers, as an outward failure; imports neither. Pure."""

from typing import Final

from waifu_worker.provider import ProviderError
from waifu_worker.wire import Code

_NO_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory")
_LONGEST: Final = 300


def is_out_of_memory(error: BaseException) -> bool:
    """The machine's memory or the GPU's did not suffice; torch says it in several ways."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def out_of_memory(model_id: str, device: str) -> ProviderError:
    """The model, or its prompt, is too large for the device."""
    return ProviderError(
        Code.UNEXPECTED,
        f"{model_id} does not fit into the memory of {device}: use a smaller model, dtype or prompt",
        reason="out_of_memory",
    )


def not_here(model_id: str, *, begun: bool, offline: bool) -> ProviderError:
    """A model that is not on this machine, and that this load may not download."""
    if model_id.startswith("/") or "\\" in model_id:
        problem = f"the folder {model_id} holds no whole model (config.json, a tokenizer and the weights)"
    else:
        problem = f"the model {model_id!r} is {'only partly' if begun else 'not'} on this machine"
        problem += "; offline is set" if offline else f"; run: hf download {model_id}, or load with pull: true"
    return ProviderError(Code.INVALID_MODEL, problem)


def not_loadable(model_id: str, error: BaseException) -> ProviderError:
    """Its files are there, but transformers cannot make a model of them."""
    if "trust_remote_code" in str(error):
        return ProviderError(
            Code.INVALID_MODEL,
            f"{model_id} needs program code of its own, which hf_local does not run; use another model",
        )
    return ProviderError(Code.INVALID_MODEL, f"{model_id} cannot be loaded: {said(error)}")


def said(error: BaseException) -> str:
    """The kind of an error and its first line."""
    first = str(error).strip().partition("\n")[0][:_LONGEST]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
