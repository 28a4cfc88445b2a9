"""What clients change and everybody shares, in the published names and with the published defaults. Pure."""

import msgspec


class StateError(Exception):
    """lollms.yaml cannot be read or saved. Its text is a sentence, with the line where one is to blame."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of lollms.yaml that mean something here; lengths in tokens.

    `binding_name` is a provider's name as it stands in the file, one that does not exist too: whoever selects tells.
    `active_personality_id` counts in `personalities`; -1 is none.
    """

    binding_name: str | None = None
    model_name: str | None = None
    personalities: tuple[str, ...] = ("english/generic/lollms",)
    active_personality_id: int = 0
    discussion_prompt_separator: str = "!@>"
    n_predict: int = 1024
    ctx_size: int = 2048
    temperature: float = 0.9
    top_k: int = 50
    top_p: float = 0.95
    repeat_last_n: int = 40
    repeat_penalty: float = 1.2
    seed: int = -1
    user_name: str = "user"
    use_user_name_in_discussions: bool = False
    override_personality_model_parameters: bool = False
