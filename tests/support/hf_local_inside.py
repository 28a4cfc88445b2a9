"""What only shows inside a worker of hf_local, as a program for its environment's Python.

`python hf_local_inside.py FOLDER`: FOLDER holds the tiny models; prints a JSON object of each check's traceback, or
null where all is as it must be.
"""

import gc
import json
import sys
import threading
import traceback
import weakref
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "core"), str(ROOT / "tests"), str(ROOT / "workers" / "hf_local")]

from support.tiny_models import SAYS  # noqa: E402 - after the path
from waifu_hf_local import generation, loading  # noqa: E402
from waifu_hf_local.library import Library  # noqa: E402

from waifu_worker.provider import Finish, GenerateRequest, ProviderError  # noqa: E402
from waifu_worker.wire import ChatMessage, Params  # noqa: E402


def wanted(folder: Path, model_id: str) -> loading.Wanted:
    """One of the tiny models, on the processor."""
    path = Library(folder / "hub").find(model_id)
    assert path is not None
    return loading.Wanted(model_id, path, "cpu", "auto")


def speak(loaded: loading.Loaded, gone: threading.Event) -> tuple[str, Finish]:
    """The text of an answer and its end."""
    request = GenerateRequest(
        Params(model_id=loaded.wanted.model_id), [ChatMessage(role="user", content="hi")], None, None
    )
    pieces: list[str] = []
    finish = generation.speak(loaded, request, pieces.append, gone)
    return "".join(pieces), finish


def left_while_reading(folder: Path) -> None:
    """An interrupt during the prompt's own step stops before the next layer, and leaves nothing behind."""
    loaded = loading.Holder().get(wanted(folder, "tiny/random"))
    first, second = loaded.layers
    gone, reached = threading.Event(), []
    set_gone = first.register_forward_pre_hook(lambda *_: gone.set())
    note = second.register_forward_pre_hook(lambda *_: reached.append(True))
    text, _ = speak(loaded, gone)
    assert (text, reached) == ("", [])
    set_gone.remove()
    note.remove()
    assert not first._forward_pre_hooks and not second._forward_pre_hooks
    _, finish = speak(loaded, threading.Event())
    assert finish.usage is not None and finish.usage.completion_tokens > 0


def one_model_at_a_time(folder: Path) -> None:
    """The one before is gone before the next is loaded; the same one is not loaded again."""
    holder = loading.Holder()
    one = weakref.ref(holder.get(wanted(folder, "tiny/sure")).model)
    assert holder.get(wanted(folder, "tiny/sure")).model is one()
    two = weakref.ref(holder.get(wanted(folder, "tiny/strict")).model)
    assert one() is None
    holder.release()
    assert two() is None


def out_of_memory(folder: Path) -> None:
    """Torch's own exception has its reason, keeps no tensor, and the model goes on."""
    import torch

    loaded = loading.Holder().get(wanted(folder, "tiny/sure"))
    kept: list[weakref.ref[Any]] = []

    def fail(*_: Any) -> None:
        tensor = torch.zeros(1000)
        kept.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = loaded.layers[0].register_forward_pre_hook(fail)
    try:
        speak(loaded, threading.Event())
    except ProviderError as error:
        assert error.reason == "out_of_memory", error
        gc.collect()
        assert kept[0]() is None, "the error still holds it"
    else:
        raise AssertionError("it must fail")
    hook.remove()
    assert speak(loaded, threading.Event())[0] == SAYS


def no_memory_to_load(folder: Path) -> None:
    """The same while the model is brought to its device."""
    import torch

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with patch.object(torch.nn.Module, "to", fail):
        try:
            loading.Holder().get(wanted(folder, "tiny/sure"))
        except ProviderError as error:
            assert error.reason == "out_of_memory", error
        else:
            raise AssertionError("it must fail")


CHECKS: Final = (left_while_reading, one_model_at_a_time, out_of_memory, no_memory_to_load)


def main() -> None:
    """Run all of them."""
    results: dict[str, str | None] = {}
    for check in CHECKS:
        try:
            check(Path(sys.argv[1]))
        except Exception:
            results[check.__name__] = traceback.format_exc()
        else:
            results[check.__name__] = None
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
