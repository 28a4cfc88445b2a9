"""What a worker's process may see of the environment."""

from waifu_llm.catalog import Declaration, Key, KeyNeed
from waifu_llm.supervision.environ import worker_environ

DECLARED = Declaration(
    kind="worker",
    title="T",
    description="",
    homepage="",
    category="api",
    package="waifu_t",
    key=Key(KeyNeed.REQUIRED, ("T_KEY",)),
    env=("T_OWN", "T_KEY"),
)


def test_only_listed_and_declared_variables_pass_and_never_a_key() -> None:
    environ = {
        "PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "HTTPS_PROXY": "p", "T_OWN": "1", "T_KEY": "secret",
        "OTHER_API_KEY": "x", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "/x", "VIRTUAL_ENV": "/v",
        "LD_PRELOAD": "/x",
    }  # fmt: skip
    assert worker_environ(DECLARED, environ) == {
        "PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "HTTPS_PROXY": "p", "T_OWN": "1",
    }  # fmt: skip
