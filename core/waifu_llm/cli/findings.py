"""What `waifu-llm check` found."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Findings:
    """What was looked at, by name, and what is wrong."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
