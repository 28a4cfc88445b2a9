"""The fake services, for all tests of workers."""

import pytest

pytest.register_assert_rewrite("support.contract", "support.module_contract")

from support.upstream import openai_upstream  # noqa: E402 - after the line above, or its asserts say nothing

__all__ = ["openai_upstream"]
