"""The fake services, for all tests of workers."""

import pytest

pytest.register_assert_rewrite("support.contract")
