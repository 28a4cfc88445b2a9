"""What docs/providers.md says of the providers is what their manifests and presets say."""

import re
from pathlib import Path

import pytest
from support.providers import WORKERS
from waifu_openai_compatible.presets import ANY, PRESETS, Preset

from waifu_llm.catalog import read_manifest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "providers.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def row(name: str, preset: Preset) -> str:
    """A preset as the table has it."""
    dialect = preset.dialect
    cells = (
        name,
        dialect.title,
        f"`{preset.url}`" if preset.url else "`base_url`",
        f"`{dialect.length_fields[0]}`",
        "field" if dialect.names else "in front",
        "any" if dialect.stop_limit is None else str(dialect.stop_limit),
        f"{dialect.temperature[1]:g}",
        ", ".join(
            ours if ours == theirs else f"{ours} (`{theirs}`)" for ours, theirs in sorted(dialect.samplers.items())
        ),
        f"`{dialect.key_path or dialect.models_path}`",
        f"`{dialect.text_path}`" if dialect.text_path else "no",
    )
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize(("name", "preset"), [("(none)", ANY), *sorted(PRESETS.items())])
def test_the_table_of_presets_has_what_the_code_has(name: str, preset: Preset) -> None:
    assert row(name, preset) in SECTIONS["openai_compatible"].splitlines()


def test_the_table_of_presets_has_nothing_else() -> None:
    rows = re.findall(r"^\| (?!preset|-)", SECTIONS["openai_compatible"], re.MULTILINE)
    assert len(rows) == len(PRESETS) + 1


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_names_every_option_and_every_variable_of_its_provider(name: str) -> None:
    declared = read_manifest(WORKERS / name).declared
    options = {option for option in declared.options if not option.startswith("_")}
    variables = {*declared.key.env, *(option.env for option in declared.options.values() if option.env)}
    missing = {word for word in options | variables if f"`{word}`" not in SECTIONS[name]}
    assert not missing


def test_every_provider_has_its_section() -> None:
    assert set(SECTIONS) == {manifest.parent.name for manifest in WORKERS.glob("*/pyproject.toml")}
