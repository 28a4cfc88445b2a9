"""What the lists say of bindings, models and personalities, in the published form. Pure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from waifu_lollms.payloads import Refused

if TYPE_CHECKING:
    from waifu_client.protocol import ModelDetails, ProviderDetails
    from waifu_client.results import Models, Providers
    from waifu_lollms.personalities.model import Personality, Survey

MODELS_SHOWN: Final = 200  # of one binding, in the list of all


def bindings(providers: "Providers", known: Mapping[str, "Models"]) -> list[dict[str, object]]:
    """One entry for each provider; `known` has the models that somebody has asked for already."""
    return [_binding(name, providers.details.get(name), known.get(name)) for name in providers.names]


def _binding(name: str, details: "ProviderDetails | None", known: "Models | None") -> dict[str, object]:
    ids = known.ids if known is not None else ()
    entry: dict[str, object] = {"name": name, "card": _card(name, details), "models": list(ids[:MODELS_SHOWN])}
    if len(ids) > MODELS_SHOWN:
        entry["models_total"] = len(ids)
    return entry


def _card(name: str, details: "ProviderDetails | None") -> dict[str, object]:
    return {
        "name": name,
        "title": details.title if details else name,
        "author": details.author if details else "",
        "version": details.version if details else "",
        "description": details.description if details else "",
        "link": details.homepage if details else "",
        "category": details.category if details else "",
        "installed": details.installed if details else False,
        "size_bytes": details.size_bytes if details else 0,
    }


def models(listed: "Models", provider: str, details: "ProviderDetails | None") -> list[dict[str, object]]:
    """The models of the selected binding; `title` is what selects one."""
    return [_model(model_id, listed.details.get(model_id), provider, details) for model_id in listed.ids]


def _model(
    model_id: str, model: "ModelDetails | None", provider: str, details: "ProviderDetails | None"
) -> dict[str, object]:
    is_api = details is not None and details.category == "api"
    kind = (model and model.kind) or "local"
    return {
        "title": model_id,
        "icon": "",
        "license": "unknown",
        "owner": (model and model.owner) or (details.title if details else provider),
        "owner_link": details.homepage if details else "",
        "description": f"{model.context} tokens of context" if model and model.context else "",
        "isInstalled": True,
        "path": model_id,
        "filesize": (model and model.size_bytes) or 0,
        "model_type": "api" if is_api else kind,
    }


def personalities(survey: "Survey", base_url: str) -> dict[str, dict[str, list[dict[str, object]]]]:
    """All personalities, by language and category."""
    return {
        language: {category: [_personality(each, base_url) for each in there] for category, there in categories.items()}
        for language, categories in survey.languages.items()
    }


def _personality(personality: "Personality", base_url: str) -> dict[str, object]:
    return {
        "folder": personality.folder,
        "name": personality.name,
        "description": personality.description,
        "author": personality.author,
        "version": personality.version,
        "has_scripts": personality.has_scripts,
        "has_logo": personality.has_logo,
        "avatar": f"{base_url.rstrip('/')}/avatars/{quote(personality.key)}" if personality.has_logo else "",
    }


def categories(survey: "Survey", language: str) -> list[str]:
    """The categories of a language. Raises: Refused."""
    return sorted(_of_language(survey, language))


def names(survey: "Survey", language: str, category: str) -> list[str]:
    """The folders of a category, which is what a path to add is made of. Raises: Refused."""
    there = _of_language(survey, language)
    if category not in there:
        raise Refused(f"there is no category {_short(category)} in {_short(language)}; there are: {_among(there)}")
    return [each.folder for each in there[category]]


def _of_language(survey: "Survey", language: str) -> Mapping[str, Sequence["Personality"]]:
    if language not in survey.languages:
        raise Refused(f"there is no language {_short(language)}; there are: {_among(survey.languages)}")
    return survey.languages[language]


def _among(known: Mapping[str, object]) -> str:
    return ", ".join(sorted(known)) or "none"


def _short(name: str) -> str:
    return repr(name[:80])
