"""Where each value of a generation comes from: the program, the personality, lollms.yaml, in this order. Pure."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from waifu_client.prompts import Params
from waifu_lollms.numbers import LENGTH, LIMITS, MOST, Limits, kind, number

if TYPE_CHECKING:
    from waifu_lollms.personalities.model import Personality
    from waifu_lollms.state.model import State

_LONGEST_NUMBER: Final = 64  # characters of one that comes as a text
NO_SEED: Final = -1


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """One generation's values; `n_predicts` is the most tokens of the answer, from 1 on. Without a seed: None."""

    n_predicts: int
    temperature: float
    top_k: int
    top_p: float
    repeat_penalty: float
    repeat_last_n: int
    seed: int | None

    def for_client(self) -> Params:
        """The same for `waifu_client`: `client.stream(messages, **parameters.for_client())`."""
        return Params(
            max_output_length=self.n_predicts,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            repeat_penalty=self.repeat_penalty,
            repeat_last_n=self.repeat_last_n,
            seed=self.seed,
        )


def settle(asked: Mapping[str, object], personality: "Personality | None", state: "State") -> Parameters:
    """The values of one generation. Raises: ValueError, a sentence that names the field.

    `asked`: the payload of `generate_text`: `n_predicts`, `parameters {...}`, and the same fields beside it. Each
    counts first where the published document has it: samplers in `parameters`, `n_predicts` beside it. null, "" and
    an `n_predicts` below 1 are absent. `personality`: whose own values come next, unless the user overrides them.
    """
    inner = _inner(asked.get("parameters"))
    sampling = personality.sampling if personality and not state.override_personality_model_parameters else None

    def value(name: str) -> float:
        for given in (inner.get(name), asked.get(name)):
            if not _absent(given):
                return _checked(name, given, LIMITS[name])
        own = getattr(sampling, name, None)  # no personality has a seed
        if own is not None:
            return _checked(f"model_{name} of the personality", own, LIMITS[name])
        configured: float = getattr(state, name)
        return configured

    seed = int(value("seed"))
    return Parameters(
        n_predicts=_length(asked.get("n_predicts"), inner.get("n_predicts"), sampling and sampling.n_predicts)
        or state.n_predict,
        temperature=value("temperature"),
        top_k=int(value("top_k")),
        top_p=value("top_p"),
        repeat_penalty=value("repeat_penalty"),
        repeat_last_n=int(value("repeat_last_n")),
        seed=None if seed == NO_SEED else seed,
    )


def _inner(parameters: object) -> Mapping[str, object]:
    if _absent(parameters):
        return {}
    if not isinstance(parameters, Mapping):
        raise ValueError(f"parameters must be an object, not {kind(parameters)}")  # noqa: TRY004 - the program's error
    return parameters


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _length(*givens: object) -> int | None:
    """The first that is a length, at most the longest there can be."""
    for given in givens:
        if not _absent(given):
            length = int(_checked("n_predicts", given, LENGTH))
            if length > 0:
                return min(length, MOST)
    return None


def _checked(name: str, value: object, limits: Limits) -> float:
    """Old programs send what stands in their input fields: "0.7" is a number too."""
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER:
        with suppress(ValueError):
            value = float(value)
    try:
        return number(value, limits)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
