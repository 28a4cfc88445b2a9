"""The lists' published form."""

import pytest
from waifu_lollms import listings
from waifu_lollms.payloads import Refused
from waifu_lollms.personalities.model import Personality, Survey

from waifu_client.protocol import ModelDetails, ProviderDetails
from waifu_client.results import Models, Providers


def details(category: str = "api", **more: str) -> ProviderDetails:
    return ProviderDetails(
        title="Open Thing",
        description="a service",
        homepage="https://example.org",
        category=category,
        installed=True,
        running=False,
        needs_api_key=True,
        has_api_key=True,
        abilities=["chat"],
        options={},
        author="them",
        version="2.0",
        size_bytes=3145728,
        **more,
    )


def personality(folder: str, category: str = "fun", language: str = "english", *, logo: bool = False) -> Personality:
    return Personality(
        key=f"{language}/{category}/{folder}",
        folder=folder,
        language=language,
        category=category,
        name=folder.title(),
        author="me",
        version="1",
        description="d",
        has_logo=logo,
    )


SURVEY = Survey(
    {
        "deutsch": {"spaß": [personality("ähm?", "spaß", "deutsch", logo=True)]},
        "english": {"fun": [personality("ann")]},
    },
    [],
)


def test_a_binding_is_a_card_and_the_models_that_are_known() -> None:
    providers = Providers(("bare", "thing"), {"thing": details()})
    known = {"thing": Models(tuple(f"m{n}" for n in range(3)), {})}
    bare, thing = listings.bindings(providers, known)
    assert thing == {
        "name": "thing",
        "card": {
            "name": "thing",
            "title": "Open Thing",
            "author": "them",
            "version": "2.0",
            "description": "a service",
            "link": "https://example.org",
            "category": "api",
            "installed": True,
            "size_bytes": 3145728,
        },
        "models": ["m0", "m1", "m2"],
    }
    assert bare["models"] == []
    assert bare["card"] == {
        "name": "bare",
        "title": "bare",
        "author": "",
        "version": "",
        "description": "",
        "link": "",
        "category": "",
        "installed": False,
        "size_bytes": 0,
    }


def test_two_hundred_models_of_a_binding_are_shown_and_all_are_counted() -> None:
    known = {"thing": Models(tuple(map(str, range(201))), {})}
    (entry,) = listings.bindings(Providers(("thing",), {}), known)
    assert entry["models"] == [str(n) for n in range(200)]
    assert entry["models_total"] == 201


def test_the_models_of_a_service_are_installed() -> None:
    models = Models(("a", "b"), {"a": ModelDetails(kind="chat", owner="them", size_bytes=7, context=4096)})
    first, second = listings.models(models, "thing", details())
    assert first == {
        "title": "a",
        "icon": "",
        "license": "unknown",
        "owner": "them",
        "owner_link": "https://example.org",
        "description": "4096 tokens of context",
        "isInstalled": True,
        "path": "a",
        "filesize": 7,
        "model_type": "api",
    }
    assert (second["owner"], second["filesize"], second["description"]) == ("Open Thing", 0, "")


def test_a_local_model_has_the_kind_it_is_of() -> None:
    models = Models(("a", "b"), {"a": ModelDetails(kind="gguf")})
    assert [each["model_type"] for each in listings.models(models, "thing", details("local"))] == ["gguf", "local"]
    assert listings.models(Models(("a",), {}), "thing", None)[0]["owner"] == "thing"


def test_personalities_stand_below_their_language_and_category() -> None:
    listed = listings.personalities(SURVEY, "http://localhost:9600/")
    assert listed["english"]["fun"] == [
        {
            "folder": "ann",
            "name": "Ann",
            "description": "d",
            "author": "me",
            "version": "1",
            "has_scripts": False,
            "has_logo": False,
            "avatar": "",
        }
    ]
    (with_logo,) = listed["deutsch"]["spaß"]
    assert with_logo["avatar"] == "http://localhost:9600/avatars/deutsch/spa%C3%9F/%C3%A4hm%3F"


def test_categories_and_names_are_those_of_the_survey() -> None:
    assert listings.categories(SURVEY, "english") == ["fun"]
    assert listings.names(SURVEY, "deutsch", "spaß") == ["ähm?"]


@pytest.mark.parametrize(
    ("language", "category", "sentence"),
    [
        ("klingon", "fun", "there is no language 'klingon'; there are: deutsch, english"),
        ("english", "sad", "there is no category 'sad' in 'english'; there are: fun"),
        ("x" * 1000, "fun", f"there is no language {'x' * 80!r}; there are: deutsch, english"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(language: str, category: str, sentence: str) -> None:
    with pytest.raises(Refused) as caught:
        listings.names(SURVEY, language, category)
    assert str(caught.value) == sentence


def test_without_any_personality_there_is_none() -> None:
    with pytest.raises(Refused, match="there are: none"):
        listings.categories(Survey({}, []), "english")
