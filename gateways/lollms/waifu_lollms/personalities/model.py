"""What a personality is. Pure: shapes and no more."""

from typing import Any

from msgspec import Struct, field


class Sampling(Struct, frozen=True, kw_only=True):
    """The `model_*` values that stand in the personality's file; None for those that don't."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    n_predicts: int | None = None


class Personality(Struct, frozen=True, kw_only=True):
    """One folder's `config.yaml`, with the published defaults for what it leaves out.

    `key` is `language/category/folder` (normalised to NFC): unique, and what `add_personality` takes. The texts are
    as written: `{{date}}` and the like are still to be replaced. `commands`, `dependencies` and `processor_cfg` are
    kept as plain data and never acted on.
    """

    key: str
    folder: str
    language: str
    category: str
    name: str
    author: str = ""
    version: str = ""
    description: str = ""
    conditioning: str = ""
    welcome_message: str = ""
    include_welcome_message: bool = True
    user_name: str = ""
    user_message_prefix: str = "!@> Human: "
    link_text: str = "\n"
    ai_message_prefix: str = "!@> lollms:"
    anti_prompts: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    disclaimer: str = ""
    help: str = ""
    commands: Any = None
    dependencies: Any = None
    processor_cfg: Any = None
    has_scripts: bool = False
    has_logo: bool = False


class BrokenPersonality(Struct, frozen=True):
    """A folder that is no usable personality: where it lies below its root, and a sentence that says why."""

    path: str
    message: str


class Survey(Struct, frozen=True):
    """All there are: language -> category -> personalities, each level sorted by name, and the broken ones."""

    languages: dict[str, dict[str, list[Personality]]]
    errors: list[BrokenPersonality]
