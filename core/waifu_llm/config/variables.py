"""The variables WAIFU_LLM_<SECTION>_<KEY>: each a setting; one that nothing reads is a mistake."""

from collections.abc import Mapping
from typing import Final

from waifu_llm.config.check import check_value, nearest
from waifu_llm.config.settings import NAMED_SECTIONS, SECTIONS
from waifu_llm.config.values import setting_from_text
from waifu_llm.errors import UsageError

_PREFIX: Final = "WAIFU_LLM_"
_VARIABLES: Final = {
    f"{_PREFIX}{section}_{key}".upper(): (section, key)
    for section, struct in SECTIONS.items()
    for key in struct.__struct_fields__
}
_OTHERS: Final = ("WAIFU_LLM_HOME", "WAIFU_LLM_TOKEN", "WAIFU_LLM_RUN")


def read_variables(environ: Mapping[str, str]) -> dict[tuple[str, str], object]:
    """What they set, by section and key. Raises: UsageError.

    An empty one counts as none, as it does where a service manager hands out variables that nobody filled.
    """
    values: dict[tuple[str, str], object] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or not text:
            continue
        path = _VARIABLES.get(variable)
        if path is None:
            _refuse_unknown(variable)
            continue
        values[path] = setting_from_text(getattr(SECTIONS[path[0]](), path[1]), text)
        if (problem := check_value(*path, values[path])) is not None:
            raise UsageError(f"the variable {variable}: {problem}")
    return values


def _refuse_unknown(variable: str) -> None:
    """A variable of ours that nothing reads is a mistake; one that only begins alike may be somebody else's."""
    if variable in _OTHERS:
        return
    suggestion = nearest(variable, (*_VARIABLES, *_OTHERS), cutoff=0.85)
    section = variable.removeprefix(_PREFIX).split("_")[0].lower()
    if section in NAMED_SECTIONS:
        raise UsageError(
            f"the variable {variable} is not read: options of a {section} are set in waifu-llm.toml or by serve --set"
        )
    if section in SECTIONS or suggestion:
        raise UsageError(f"there is no setting for the variable {variable}{suggestion}")
