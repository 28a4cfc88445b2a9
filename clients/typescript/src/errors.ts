/** The codes there are; there will never be others. */
export enum LLM_GEN_ERR {
    SUCCESS = "SUCCESS",
    UNEXPECTED = "UNEXPECTED",
    AUTHORIZATION = "AUTHORIZATION",
    INVALID_PROMPT = "INVALID_PROMPT",
    INVALID_PROVIDER = "INVALID_PROVIDER",
    INVALID_MODEL = "INVALID_MODEL",
    TIMEOUT = "TIMEOUT",
    INTERRUPT = "INTERRUPT",
}

/** Every failure: a code to act on, and a sentence for the user that says what to do next. */
export class LlmError extends Error {
    override name = "LlmError";

    constructor(
        message: string,
        readonly code: LLM_GEN_ERR = LLM_GEN_ERR.UNEXPECTED,
        /** A finer word than the code, where there is one; take new ones. */
        readonly reason?: string,
        /** When to try again, where known. */
        readonly retryAfterMs?: number,
    ) {
        super(message);
    }
}

/** The connection to the module ended, or the module does not answer on it any more. */
export class ConnectionLostError extends LlmError {
    override name = "ConnectionLostError";
}

/** No module answers at the address. */
export class ModuleNotRunningError extends LlmError {
    override name = "ModuleNotRunningError";
}
