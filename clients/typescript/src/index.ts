export { wAIfuLlmClient } from "./client.js";
export { ConnectionLostError, LLM_GEN_ERR, LlmError, ModuleNotRunningError } from "./errors.js";
export type {
    LlmGenParams,
    LlmLoadProgress,
    LlmMessage,
    LlmProviderLoadParams,
    LlmProviderName,
    LlmRequestOptions,
    LlmStats,
    LlmUsage,
} from "./protocol.js";
export { LlmStream } from "./stream.js";
