"""The error tree, and the one table from any failure to the eight client codes."""

from enum import StrEnum

import msgspec

from waifu_client.protocol import ErrorCode
from waifu_worker.wire import Failed


class Reason(StrEnum):
    """The `reason` beside an error code: what clients may act on. They must take new ones."""

    QUOTA = "quota"
    RATE_LIMITED = "rate_limited"
    PROVIDER_DOWN = "provider_down"
    WORKER_CRASHED = "worker_crashed"
    BUSY = "busy"
    INSTALL_FAILED = "install_failed"
    START_FAILED = "start_failed"
    TRUNCATED = "truncated"
    OUT_OF_MEMORY = "out_of_memory"
    PROVIDER_TIMEOUT = "provider_timeout"
    CLOSING = "closing"
    UNLOADED = "unloaded"
    REFUSED = "refused"


class Failure(msgspec.Struct, frozen=True):
    """What a client is told: a code, a sentence that says what to do next, a reason where one fits."""

    code: ErrorCode
    message: str
    reason: str | None = None
    retry_after_ms: int | None = None


class ModuleError(Exception):
    """Root of everything this package raises on purpose; the message is a sentence for the user."""

    code = ErrorCode.UNEXPECTED
    reason: Reason | None = None

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms

    def failure(self) -> Failure:
        """This error as a client is told it."""
        return Failure(self.code, self.message, self.reason, self.retry_after_ms)


class UsageError(ModuleError):
    """The command line or the config file asks for something that makes no sense."""


class UnknownProvider(ModuleError):
    """No worker of that name, or the one named is not loaded."""

    code = ErrorCode.INVALID_PROVIDER


def quoted(name: str) -> str:
    """What a client called a provider, short enough for a sentence, however its characters must be written."""
    return repr(name[:64])[:80]


class MissingKey(ModuleError):
    """The provider needs a key and there is none."""

    code = ErrorCode.AUTHORIZATION


class BadLoadField(ModuleError):
    """A field of a load that the manifest does not allow."""


class InstallFailed(ModuleError):
    """An environment could not be built."""

    reason = Reason.INSTALL_FAILED


class StartFailed(ModuleError):
    """A worker did not become ready."""

    reason = Reason.START_FAILED


class WorkerCrashed(ModuleError):
    """A worker died, or was killed, with this request in its hands."""

    reason = Reason.WORKER_CRASHED


class OutOfMemory(ModuleError):
    """A worker was ended because it, or the machine, had used up its memory."""

    reason = Reason.OUT_OF_MEMORY


class ProviderDown(ModuleError):
    """The provider did not answer a credential check in time."""

    reason = Reason.PROVIDER_DOWN


class Busy(ModuleError):
    """A limit of this module is reached."""

    reason = Reason.BUSY


class Closing(ModuleError):
    """The module stops."""

    code = ErrorCode.INTERRUPT
    reason = Reason.CLOSING


class Unloaded(ModuleError):
    """The worker was unloaded under the request."""

    code = ErrorCode.INTERRUPT
    reason = Reason.UNLOADED


class TimedOut(ModuleError):
    """The time the client gave ran out."""

    code = ErrorCode.TIMEOUT


class WorkerFailure(ModuleError):
    """A worker's own `failed` answer, carried as it came."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message, retry_after_ms=failed.retry_after_ms)
        self.failed = failed

    def failure(self) -> Failure:
        """The worker's code and reason, unchanged."""
        return Failure(ErrorCode(self.failed.error), self.message, self.failed.reason, self.retry_after_ms)


def failure_of(error: BaseException) -> Failure:
    """Any exception as a client is told it; what is not ours is a bug and says so without its details."""
    if isinstance(error, ModuleError):
        return error.failure()
    return Failure(
        ErrorCode.UNEXPECTED,
        f"an error inside the module ({type(error).__name__}); its log, waifu-llm.log, has the details",
    )
