"""What a value of lollms.yaml means, as YAML resolved it: one rule per field of `State`. Pure."""

from collections.abc import Callable
from typing import Final

from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.nodes import Node, ScalarNode, SequenceNode

from waifu_lollms.numbers import LENGTH, LIMITS, MOST, Limits, number
from waifu_lollms.state.model import State

_NO_NAMES: Final = frozenset({"", "none", "null"})
# LoLLMs read its files by YAML 1.1, where these words are booleans too.
_WORDS: Final = {"yes": True, "on": True, "no": False, "off": False}
_KINDS: Final = {"seq": "a list", "map": "an object", "str": "a text", "bool": "true or false", "null": "nothing"}
_DEFAULTS: Final = State()


def value_of(name: str, node: Node, constructor: SafeConstructor) -> object:
    """The value of the field `name`; null means its default. Raises: ValueError, the end of a sentence."""
    if _kind(node) == "null":
        return getattr(_DEFAULTS, name)
    return _RULES[name](name, node, constructor)


def _kind(node: Node) -> str:
    return str(node.tag).rpartition(":")[2]


def _called(node: Node) -> str:
    return _KINDS.get(_kind(node), "a number" if _kind(node) in ("int", "float") else "that")


def _text(_: str, node: Node, __: SafeConstructor) -> str:
    if isinstance(node, ScalarNode) and _kind(node) == "str":
        return str(node.value)
    hint = "; put it in quotes" if isinstance(node, ScalarNode) else ""
    raise ValueError(f"must be a text, not {_called(node)}{hint}")


def _name(name: str, node: Node, constructor: SafeConstructor) -> str | None:
    text = _text(name, node, constructor)
    return None if text.strip().lower() in _NO_NAMES else text


def _texts(name: str, node: Node, constructor: SafeConstructor) -> tuple[str, ...]:
    if not isinstance(node, SequenceNode):
        raise ValueError(f"must be a list of texts, not {_called(node)}")  # noqa: TRY004 - the user's, as all of them
    if any(not isinstance(item, ScalarNode) or _kind(item) != "str" for item in node.value):
        raise ValueError("must be a list of texts only")
    return tuple(_text(name, item, constructor) for item in node.value)


def _boolean(_: str, node: Node, constructor: SafeConstructor) -> bool:
    if isinstance(node, ScalarNode) and _kind(node) == "bool":
        return bool(constructor.construct_yaml_bool(node))
    if isinstance(node, ScalarNode) and _kind(node) == "str" and not node.style and node.value.lower() in _WORDS:
        return _WORDS[node.value.lower()]
    raise ValueError(f"must be true or false, not {_called(node)}")


def _number(name: str, node: Node, constructor: SafeConstructor) -> float:
    return number(_plain_number(node, constructor), _LIMITS[name])


def _n_predict(_: str, node: Node, constructor: SafeConstructor) -> int:
    """What is no length means the default, as where a program asks."""
    length = int(number(_plain_number(node, constructor), LENGTH))
    return min(length, MOST) if length > 0 else _DEFAULTS.n_predict


def _plain_number(node: Node, constructor: SafeConstructor) -> float:
    match _kind(node):
        case "int" if isinstance(node, ScalarNode):
            return int(constructor.construct_yaml_int(node))
        case "float" if isinstance(node, ScalarNode):
            return float(constructor.construct_yaml_float(node))
        case _:
            raise ValueError(f"must be a number, not {_called(node)}")


_LIMITS: Final = {**LIMITS, "ctx_size": Limits(1, MOST), "active_personality_id": Limits(-1, MOST)}
_RULES: Final[dict[str, Callable[[str, Node, SafeConstructor], object]]] = {
    "binding_name": _name,
    "model_name": _name,
    "personalities": _texts,
    "discussion_prompt_separator": _text,
    "n_predict": _n_predict,
    "user_name": _text,
    "use_user_name_in_discussions": _boolean,
    "override_personality_model_parameters": _boolean,
    **dict.fromkeys(_LIMITS, _number),
}
