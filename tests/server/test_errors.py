"""The one table from any failure to what a client is told."""

import pytest

from waifu_client.protocol import ErrorCode
from waifu_llm import errors
from waifu_llm.errors import Failure, ModuleError, WorkerFailure, failure_of
from waifu_worker.wire import Code, Failed

TABLE: list[tuple[type[ModuleError], ErrorCode, str | None]] = [
    (errors.UsageError, ErrorCode.UNEXPECTED, None),
    (errors.UnknownProvider, ErrorCode.INVALID_PROVIDER, None),
    (errors.MissingKey, ErrorCode.AUTHORIZATION, None),
    (errors.BadLoadField, ErrorCode.UNEXPECTED, None),
    (errors.InstallFailed, ErrorCode.UNEXPECTED, "install_failed"),
    (errors.StartFailed, ErrorCode.UNEXPECTED, "start_failed"),
    (errors.WorkerCrashed, ErrorCode.UNEXPECTED, "worker_crashed"),
    (errors.OutOfMemory, ErrorCode.UNEXPECTED, "out_of_memory"),
    (errors.ProviderDown, ErrorCode.UNEXPECTED, "provider_down"),
    (errors.Busy, ErrorCode.UNEXPECTED, "busy"),
    (errors.Closing, ErrorCode.INTERRUPT, "closing"),
    (errors.Unloaded, ErrorCode.INTERRUPT, "unloaded"),
    (errors.TimedOut, ErrorCode.TIMEOUT, None),
]


@pytest.mark.parametrize(("kind", "code", "reason"), TABLE)
def test_each_error_has_its_code_and_reason(kind: type[ModuleError], code: ErrorCode, reason: str | None) -> None:
    assert failure_of(kind("what to do", retry_after_ms=5)) == Failure(code, "what to do", reason, 5)


def test_every_error_is_in_the_table() -> None:
    ours = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ModuleError) and kind not in (ModuleError, WorkerFailure)
    }
    assert {kind for kind, _, _ in TABLE} == ours


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.SUCCESS])
def test_a_workers_failure_is_carried_as_it_came(code: Code) -> None:
    failed = Failed(id=1, error=code, message="rate limit", reason="rate_limited", retry_after_ms=9)
    assert failure_of(WorkerFailure(failed)) == Failure(ErrorCode(code), "rate limit", "rate_limited", 9)


def test_a_bug_says_its_name_and_nothing_of_its_text(canary: str) -> None:
    failure = failure_of(ValueError(canary))
    assert (failure.code, failure.reason) == (ErrorCode.UNEXPECTED, None)
    assert "ValueError" in failure.message
    assert canary not in failure.message
