"""hf_local downloads models from a hub, only where it may, and each refusal has its own answer."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.hub.server import TOKEN, WEIGHTS, Hub, running
from support.environments import SharedEnvironments
from support.hf_local import NAME, log_of, patient, serving, tiny, torch_environment
from support.tiny_models import SAYS
from support.waiting import until

from waifu_client import connect
from waifu_client.errors import AuthorizationError, InvalidModel, LLMError

__all__ = ["tiny", "torch_environment"]
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group(NAME)]


@pytest.fixture(scope="module")
def home_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def hub(tiny: Path) -> Hub:
    (files,) = (tiny / "hub" / "models--tiny--sure" / "snapshots").iterdir()
    return Hub(files)


@pytest.fixture(scope="module")
def url(hub: Hub, home_of_all: Path, shared_environments: SharedEnvironments) -> Iterator[str]:
    with running(hub) as address:
        env = {"HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
        with serving(home_of_all, shared_environments, env) as module:
            yield module.url


async def refused(url: str, model_id: str, **fields: object) -> LLMError:
    async with patient(), connect(url) as llm:
        with pytest.raises(LLMError) as caught:
            await llm.load(NAME, preload_model_id=model_id, **{"pull": True, **fields})  # type: ignore[arg-type]  # as each test gives them
    return caught.value


async def test_a_pull_brings_what_a_model_needs_and_no_more_and_tells_how_far_it_is(url: str, hub: Hub) -> None:
    seen = []
    async with patient(), connect(url) as llm:
        await llm.load(NAME, preload_model_id="far/open", pull=True, on_progress=lambda step: seen.append(step))
        assert (await llm.generate("hi", model_id="far/open")).text == SAYS
        assert "far/open" in (await llm.models()).ids
    fetched = {path for method, path in hub.asked if method == "GET" and path.startswith("far/open/resolve")}
    names = {path.partition("resolve/")[2].partition("/")[2] for path in fetched}
    assert WEIGHTS in names and "config.json" in names
    assert not names & {"pytorch_model.bin", "original/consolidated.safetensors", "README.md"}
    downloading = [step for step in seen if step.detail.startswith("downloading far/open")]
    assert downloading and all(step.stage == "model" for step in downloading)
    # It lies there now: nobody asks again.
    asked = len(hub.asked)
    async with patient(), connect(url) as llm:
        await llm.load(NAME, preload_model_id="far/open", pull=True)
    assert len(hub.asked) == asked


async def test_without_pull_nothing_is_asked(url: str, hub: Hub) -> None:
    asked = len(hub.asked)
    assert isinstance(await refused(url, "far/gated", pull=False), InvalidModel)
    assert isinstance(await refused(url, "far/gated", offline=True), InvalidModel)
    assert len(hub.asked) == asked


@pytest.mark.parametrize("model_id", ["far/none", "not a name", "far/empty"])
async def test_what_the_hub_has_not_is_no_model(url: str, model_id: str) -> None:
    error = await refused(url, model_id)
    assert isinstance(error, InvalidModel)
    assert model_id in error.message


async def test_a_gated_model_needs_a_token_and_comes_with_one(url: str) -> None:
    error = await refused(url, "far/gated")
    assert isinstance(error, AuthorizationError)
    assert "is gated" in error.message
    async with patient(), connect(url) as llm:
        await llm.load(NAME, preload_model_id="far/gated", pull=True, api_key=TOKEN)
        assert (await llm.generate("hi", model_id="far/gated")).text == SAYS


async def test_a_wrong_token_is_told_and_is_in_no_log(url: str, canary: str, home_of_all: Path) -> None:
    error = await refused(url, "far/slow", api_key=f"hf_{canary}")
    assert isinstance(error, AuthorizationError)
    assert canary not in error.message
    assert canary not in log_of(home_of_all)
    assert TOKEN not in log_of(home_of_all)


async def test_a_pull_that_nobody_waits_for_ends_and_what_is_half_there_is_no_model(url: str, hub: Hub) -> None:
    async with patient(), connect(url) as llm:
        loading = asyncio.ensure_future(llm.load(NAME, preload_model_id="far/slow", pull=True))
        await until(hub.half_sent.is_set, "half of it has come")
        loading.cancel()
        await until(hub.left.is_set, "the download was ended")
        await llm.load(NAME)
        assert "far/slow" not in (await llm.models()).ids
        with pytest.raises(InvalidModel, match="only partly"):
            await llm.generate("hi", model_id="far/slow")


@pytest.mark.full  # its library tries for twenty seconds
async def test_a_hub_that_does_not_answer_says_nothing_about_the_model(url: str) -> None:
    error = await refused(url, "far/silent")
    assert (error.code, error.reason) == ("UNEXPECTED", "provider_down")
    assert "cannot be reached" in error.message
