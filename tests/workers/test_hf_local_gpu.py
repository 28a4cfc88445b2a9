"""hf_local on a GPU, where the build of torch that the tests took finds one."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import hf_local_on_gpu
from support.hf_local import NAME, torch_environment

from waifu_llm.environment import uv

__all__ = ["torch_environment"]
pytestmark = [pytest.mark.full, pytest.mark.timeout(600), pytest.mark.xdist_group(NAME)]
NO_GPU = 3


def test_a_gpu_is_used_and_its_memory_given_back(torch_environment: Path, tmp_path: Path) -> None:
    argv = [str(uv.python_of(torch_environment, sys.platform)), hf_local_on_gpu.__file__, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False)
    if done.returncode == NO_GPU:
        pytest.skip("NOT TESTED, hf_local on a GPU: torch finds none here")
    assert done.returncode == 0, done.stderr[-3000:]
