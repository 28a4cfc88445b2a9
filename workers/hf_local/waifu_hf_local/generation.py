"""One answer of a model in memory: prompt, sampling, tokens to text. Runs in the engine's thread."""

import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from waifu_hf_local.detokenizer import Detokenizer
from waifu_hf_local.failures import is_out_of_memory, out_of_memory
from waifu_hf_local.loading import Loaded, free_memory
from waifu_hf_local.prompts import Prompt, make_prompt
from waifu_worker.provider import Finish, GenerateRequest, ProviderError
from waifu_worker.text import AnswerFilter
from waifu_worker.wire import Code, Params, Usage

SAMPLERS: Final = frozenset({"top_p", "top_k", "min_p", "repeat_penalty", "seed"})
# Enough for a tokenizer to see whether what follows begins a word.
_CONTEXT_TOKENS: Final = 8
# transformers refuses zero, and below this the most likely token is the only one anyway.
_COLDEST: Final = 1e-4


def speak(loaded: Loaded, request: GenerateRequest, emit: Callable[[str], None], gone: threading.Event) -> Finish:
    """Generate to the end, or until `gone`. Raises: ProviderError; whatever transformers raises."""
    failure = None
    try:
        return _speak(loaded, request, emit, gone)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.print_exc()
        failure = out_of_memory(loaded.wanted.model_id, loaded.wanted.device)
    # Not inside the handler, which still holds the tensors.
    free_memory()
    raise failure


class _Left(Exception):
    """Nobody wants more."""


@contextmanager
def _leaving(loaded: Loaded, gone: threading.Event) -> Iterator[None]:
    """Leave between two layers: reading a long prompt is one step, which may take a minute without a GPU."""

    def look(*_: Any) -> None:
        if gone.is_set():
            raise _Left

    handles = [layer.register_forward_pre_hook(look) for layer in loaded.layers]
    try:
        yield
    except _Left:
        pass
    finally:
        for handle in handles:
            handle.remove()


def _speak(loaded: Loaded, request: GenerateRequest, emit: Callable[[str], None], gone: threading.Event) -> Finish:
    import torch

    prompt = make_prompt(loaded.tokenizer, request)
    room = _room(loaded, len(prompt.ids), request.params.max_output_length)
    ends = _ends(loaded, request.params.stop_ids)
    listener = _Listener(loaded.tokenizer, prompt, ends, emit)
    if request.params.seed is not None:
        torch.manual_seed(request.params.seed % 2**63)
    else:
        torch.seed()

    def is_gone(ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((ids.shape[0],), gone.is_set() or listener.full, dtype=torch.bool, device=ids.device)

    ids = torch.tensor([prompt.ids], dtype=torch.long, device=loaded.model.device)
    with torch.inference_mode(), _leaving(loaded, gone):
        loaded.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=_config(loaded, request.params, room, ends),
            stopping_criteria=[is_gone],
            streamer=listener,
        )
    return listener.finish()


def _room(loaded: Loaded, prompt_tokens: int, wanted: int) -> int:
    """How many tokens the answer may have. Raises: ProviderError where the prompt leaves none."""
    if not prompt_tokens:
        raise ProviderError(Code.INVALID_PROMPT, "the prompt is empty")
    context = loaded.context
    if context is None:
        return wanted
    if prompt_tokens >= context:
        raise ProviderError(
            Code.INVALID_PROMPT,
            f"the prompt has {prompt_tokens} tokens, but {loaded.wanted.model_id} takes {context} at most, "
            "its answer included: leave older messages out",
        )
    return min(wanted, context - prompt_tokens)


def _ends(loaded: Loaded, stop_ids: Sequence[int]) -> frozenset[int]:
    """The tokens that end an answer: the model's own and the client's. Ids that no token has cannot come.

    A model taught to chat often ends with its tokenizer's token, while its config still names that of its base.
    """
    own = loaded.model.generation_config.eos_token_id
    ids = {own} if isinstance(own, int) else set(own or ())
    if loaded.tokenizer.eos_token_id is not None:
        ids.add(loaded.tokenizer.eos_token_id)
    return frozenset(ids | {token for token in stop_ids if token < loaded.model.config.get_text_config().vocab_size})


def _config(loaded: Loaded, params: Params, room: int, ends: frozenset[int]) -> Any:
    """What differs from the model's own defaults, which transformers fills in."""
    from transformers import GenerationConfig

    # Compiled on the way it would need a C compiler, and the first answer minutes.
    asked: dict[str, object] = {"max_new_tokens": room, "num_beams": 1, "use_cache": True, "disable_compile": True}
    if params.temperature < _COLDEST:
        asked["do_sample"] = False
    else:
        asked |= {"do_sample": True, "temperature": params.temperature}
        asked |= {name: value for name in ("top_p", "min_p") if (value := getattr(params, name)) is not None}
        if params.top_k is not None:
            asked["top_k"] = params.top_k
    if params.repeat_penalty is not None and params.repeat_penalty > 0:
        asked["repetition_penalty"] = params.repeat_penalty
    own = loaded.model.generation_config
    pad = loaded.tokenizer.pad_token_id
    asked["bos_token_id"] = own.bos_token_id
    asked["eos_token_id"] = sorted(ends) or None
    asked["pad_token_id"] = pad if pad is not None else min(ends, default=0)
    return GenerationConfig(**asked)


class _Listener:
    """What transformers calls a streamer: gets the prompt's tokens first, then each token as it is chosen.

    `full`: somebody else's turn begins, so the answer is at its end.
    """

    def __init__(self, tokenizer: Any, prompt: Prompt, ends: frozenset[int], emit: Callable[[str], None]) -> None:
        def decode(ids: Sequence[int]) -> str:
            text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            return text

        self._emit = emit
        self._ends = ends
        self._prompt_tokens = len(prompt.ids)
        self._text = Detokenizer(decode, prompt.ids[-_CONTEXT_TOKENS:] if prompt.continues else ())
        self._turns = AnswerFilter(stops=prompt.turns)
        self._tokens: int | None = None
        self._ended = False
        emit(prompt.begun)

    @property
    def full(self) -> bool:
        return self._turns.stopped

    def put(self, value: Any) -> None:
        if self._tokens is None:
            self._tokens = 0
            return
        for token in value.flatten().tolist():
            self._tokens += 1
            if token in self._ends:
                self._ended = True
            else:
                self._emit(self._turns.feed(self._text.feed(token)))

    def end(self) -> None:
        """Called by transformers; the rest is said in `finish`, where an exception did not come before."""

    def finish(self) -> Finish:
        """Say what was held back; how it ended."""
        self._emit(self._turns.feed(self._text.end()))
        self._emit(self._turns.end())
        made = self._tokens or 0
        usage = Usage(
            prompt_tokens=self._prompt_tokens, completion_tokens=made, total_tokens=self._prompt_tokens + made
        )
        return Finish("stop" if self._ended or self.full else "length", usage)
