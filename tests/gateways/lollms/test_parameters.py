"""Where a generation's values come from, and which are refused."""

from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waifu_lollms.numbers import MOST, kind
from waifu_lollms.parameters import Parameters, settle
from waifu_lollms.personalities.model import Personality, Sampling
from waifu_lollms.state import State

from waifu_client.prompts import as_params

CONFIGURED: Final = State()
OWN: Final = Sampling(temperature=0.1, top_k=7, top_p=0.3, repeat_penalty=1.1, repeat_last_n=9, n_predicts=77)
ANN: Final = Personality(
    key="english/generic/ann", folder="ann", language="english", category="generic", name="Ann", sampling=OWN
)


def test_what_nobody_says_comes_from_the_configuration() -> None:
    assert settle({}, None, CONFIGURED) == Parameters(
        n_predicts=1024, temperature=0.9, top_k=50, top_p=0.95, repeat_penalty=1.2, repeat_last_n=40, seed=None
    )


def test_what_stands_in_the_personalitys_file_comes_before_the_configuration() -> None:
    assert settle({}, ANN, CONFIGURED) == Parameters(
        n_predicts=77, temperature=0.1, top_k=7, top_p=0.3, repeat_penalty=1.1, repeat_last_n=9, seed=None
    )


def test_what_a_personality_leaves_out_comes_from_the_configuration() -> None:
    silent = msgspec.structs.replace(ANN, sampling=Sampling(top_k=7))
    assert settle({}, silent, CONFIGURED) == msgspec.structs.replace(settle({}, None, CONFIGURED), top_k=7)


def test_a_personalitys_own_values_count_for_nothing_where_the_user_overrides_them() -> None:
    overriding = State(override_personality_model_parameters=True)
    assert settle({}, ANN, overriding) == settle({}, None, CONFIGURED)


def test_what_the_program_asks_for_comes_first() -> None:
    asked = {"temperature": 0.5, "top_k": 1, "top_p": 0.5, "repeat_penalty": 1.5, "repeat_last_n": 2, "seed": 42}
    wanted = Parameters(**asked, n_predicts=5)  # type: ignore[arg-type] # numbers of both kinds
    assert settle({"n_predicts": 5, "parameters": asked}, ANN, CONFIGURED) == wanted
    assert settle({"n_predicts": 5, **asked}, ANN, CONFIGURED) == wanted


def test_each_field_counts_first_where_it_was_published() -> None:
    asked = {"temperature": 0.2, "n_predicts": 2, "parameters": {"temperature": 0.3, "n_predicts": 3}}
    settled = settle(asked, None, CONFIGURED)
    assert (settled.temperature, settled.n_predicts) == (0.3, 2)
    assert settle({"parameters": {"n_predicts": 3}}, None, CONFIGURED).n_predicts == 3


def test_null_and_empty_texts_are_absent() -> None:
    asked = {"n_predicts": "", "temperature": 0.4, "parameters": {"temperature": None, "top_k": " ", "seed": None}}
    assert settle(asked, None, CONFIGURED) == msgspec.structs.replace(settle({}, None, CONFIGURED), temperature=0.4)
    for parameters in (None, ""):
        assert settle({"parameters": parameters}, None, CONFIGURED) == settle({}, None, CONFIGURED)


def test_numbers_in_texts_are_numbers() -> None:
    settled = settle({"n_predicts": "64", "parameters": {"temperature": " 0.7 ", "top_k": "40.0"}}, None, CONFIGURED)
    assert (settled.n_predicts, settled.temperature, settled.top_k) == (64, 0.7, 40)
    assert isinstance(settled.top_k, int) and isinstance(settled.n_predicts, int)


@pytest.mark.parametrize("length", [0, -1, -5, "0", "-1", None, ""])
def test_no_length_is_the_default_length(length: object) -> None:
    assert settle({"n_predicts": length}, None, CONFIGURED).n_predicts == 1024
    assert settle({"n_predicts": length}, ANN, CONFIGURED).n_predicts == 77


@pytest.mark.parametrize("length", [MOST + 1, 10**12, 1e300, 10**400, "1e300"])
def test_a_length_beyond_all_is_the_longest_there_is(length: object) -> None:
    assert settle({"n_predicts": length}, None, CONFIGURED).n_predicts == MOST


@pytest.mark.parametrize(("seed", "settled"), [(-1, None), ("-1", None), (0, 0), (-2, -2), (2**53 - 1, 2**53 - 1)])
def test_seed_minus_one_is_no_seed(seed: object, settled: int | None) -> None:
    assert settle({"seed": seed}, None, CONFIGURED).seed == settled
    assert settle({}, None, State(seed=7)).seed == 7


def test_n_crop_and_what_is_unknown_change_nothing() -> None:
    asked = {"n_crop": "whatever", "parameters": {"n_crop": [], "mirostat": 2}, "callback": {}}
    assert settle(asked, None, CONFIGURED) == settle({}, None, CONFIGURED)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"temperature": True}, "temperature must be a number from 0 to 1000, not true"),
        ({"temperature": False}, "temperature must be a number from 0 to 1000, not false"),
        ({"temperature": -0.1}, "temperature must be a number from 0 to 1000, not -0.1"),
        ({"temperature": float("nan")}, "temperature must be a number from 0 to 1000, not nan"),
        ({"temperature": "nan"}, "temperature must be a number from 0 to 1000, not nan"),
        ({"temperature": "hot"}, "temperature must be a number from 0 to 1000, not a text"),
        ({"temperature": "0" * 1000}, "temperature must be a number from 0 to 1000, not a text"),
        ({"temperature": 10**400}, "temperature must be a number from 0 to 1000, not a number that large"),
        ({"parameters": {"top_p": 1.5}}, "top_p must be a number from 0 to 1, not 1.5"),
        ({"top_k": 1.5}, "top_k must be a whole number from 0 to 2147483647, not 1.5"),
        ({"top_k": -1}, "top_k must be a whole number from 0 to 2147483647, not -1"),
        ({"top_k": [1]}, "top_k must be a whole number from 0 to 2147483647, not a list"),
        ({"top_k": {"a": 1}}, "top_k must be a whole number from 0 to 2147483647, not an object"),
        ({"top_k": b"1"}, "top_k must be a whole number from 0 to 2147483647, not binary data"),
        ({"repeat_last_n": -2}, "repeat_last_n must be a whole number from -1 to 2147483647, not -2"),
        ({"n_predicts": True}, "n_predicts must be a whole number, not true"),
        ({"n_predicts": 1.5}, "n_predicts must be a whole number, not 1.5"),
        ({"n_predicts": float("inf")}, "n_predicts must be a whole number, not inf"),
        ({"n_predicts": "many"}, "n_predicts must be a whole number, not a text"),
        ({"parameters": [0.5]}, "parameters must be an object, not a list"),
        ({"parameters": 5}, "parameters must be an object, not a number"),
    ],
)
def test_what_is_no_such_number_is_refused_with_a_sentence(asked: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError) as refusal:
        settle(asked, None, CONFIGURED)
    assert str(refusal.value) == sentence


def test_a_value_that_no_model_takes_in_a_personalitys_file_is_named() -> None:
    wrong = msgspec.structs.replace(ANN, sampling=Sampling(temperature=-3.0))
    with pytest.raises(ValueError, match="model_temperature of the personality must be a number from 0 to 1000"):
        settle({}, wrong, CONFIGURED)


def test_a_number_too_long_to_be_written_out_is_refused_or_bounded_too() -> None:
    assert settle({"n_predicts": 10**5000}, None, CONFIGURED).n_predicts == MOST
    with pytest.raises(ValueError, match="not a number that large"):
        settle({"top_k": 10**5000}, None, CONFIGURED)


def test_nothing_is_called_nothing() -> None:
    assert kind(None) == "nothing"


VALUES: Final[st.SearchStrategy[object]] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just([])
)
FIELDS: Final = st.sampled_from(
    "n_predicts temperature top_k top_p repeat_penalty repeat_last_n seed n_crop parameters".split()
)


@settings(deadline=None)
@given(outer=st.dictionaries(FIELDS, VALUES), inner=st.none() | st.dictionaries(FIELDS, VALUES))
def test_whatever_is_asked_it_is_refused_by_name_or_the_module_takes_it(
    outer: dict[str, object], inner: dict[str, object] | None
) -> None:
    asked = {"parameters": inner, **outer}
    try:
        settled = settle(asked, ANN, CONFIGURED)
    except ValueError as error:
        assert str(error).split()[0] in outer.keys() | (inner or {}).keys()
    else:
        params = as_params("model", settled.for_client())
        assert (params.max_output_length, params.temperature) == (settled.n_predicts, settled.temperature)
        assert (params.top_k, params.seed) == (settled.top_k, settled.seed)
