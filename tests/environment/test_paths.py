"""One home for everything."""

from pathlib import Path

import platformdirs

from waifu_llm.paths import Home


def test_one_variable_moves_everything(tmp_path: Path) -> None:
    home = Home.find({"WAIFU_LLM_HOME": str(tmp_path)})
    places = [
        home.config_file,
        home.keys_file,
        home.envs,
        home.locks,
        home.seed,
        home.logs,
        home.run,
        home.data,
    ]
    assert {place.parent for place in places} == {tmp_path}
    assert len(set(places)) == len(places)
    assert list(tmp_path.iterdir()) == [], "asking makes nothing"


def test_without_it_the_platforms_user_data_folder_is_home() -> None:
    expected = Path(platformdirs.user_data_dir("waifu-llm", appauthor=False))
    assert Home.find({}).root == expected
    assert Home.find({"WAIFU_LLM_HOME": ""}).root == expected


def test_a_home_is_absolute_whatever_folder_the_module_stands_in(tmp_path: Path) -> None:
    assert Home.find({"WAIFU_LLM_HOME": "~/x"}).root == Path.home() / "x"
    assert Home.find({"WAIFU_LLM_HOME": "relative"}).root.is_absolute()
