import type { LLM_GEN_ERR } from "./errors.js";

export type LlmProviderName = string;

export type LlmMessage = {
    role: "function" | "tool" | "system" | "user" | "assistant";
    content: string;
    name?: string | null | undefined;
};

/** How to generate; lengths in tokens, times in milliseconds. What is left out has the protocol's value. */
export type LlmGenParams = {
    /** Left out: the provider's default model, or the first of its list where that is not in it. */
    model_id?: string | undefined;
    character_name?: string | undefined;
    temperature?: number | undefined;
    max_output_length?: number | undefined;
    stop_tokens?: readonly string[] | readonly number[] | null | undefined;
    timeout_ms?: number | null | undefined;
    top_p?: number | undefined;
    top_k?: number | undefined;
    min_p?: number | undefined;
    repeat_penalty?: number | undefined;
    repeat_last_n?: number | undefined;
    presence_penalty?: number | undefined;
    frequency_penalty?: number | undefined;
    seed?: number | undefined;
};

/** `api_key`, and whatever else the provider takes, such as `base_url`. */
export type LlmProviderLoadParams = {
    api_key?: string | undefined;
    preload_model_id?: string | undefined;
    timeout_ms?: number | undefined;
    [field: string]: unknown;
};

export type LlmRequestOptions = {
    /** Which of this connection's loaded providers; left out: the one loaded last. */
    provider?: LlmProviderName | undefined;
    /** Aborting interrupts the request at the provider too. */
    signal?: AbortSignal | undefined;
};

export type LlmUsage = { prompt_tokens: number; completion_tokens: number; total_tokens: number };

/** How a stream that ended by itself ended. */
export type LlmStreamEnd = { usage?: LlmUsage; finish_reason?: string; ignored: string[] };

export type LlmLoadProgress = { stage: string; detail: string; fraction: number | null };

export type LlmStats = {
    workers: {
        provider: string;
        state: string;
        pid: number | null;
        memory_bytes: number | null;
        running: number;
        queued: number;
        uptime_s: number | null;
        restarts: number;
        kind: "worker" | "gateway";
        address: string | null;
        memory_limit_bytes?: number | null;
    }[];
    environments: { name: string; state: string }[];
    connections: number;
    counters: Record<string, unknown>;
};

type Id = { unique_request_id: string };

type Outcome = Id & {
    is_error: boolean;
    error: LLM_GEN_ERR;
    message?: string;
    reason?: string;
    retry_after_ms?: number;
};

type ProviderDetails = Record<string, { default_model?: string | null }>;

type Ending = { usage?: LlmUsage; finish_reason?: string; ignored?: string[] };

export type Replies = {
    load_ack: Id & { type: "load_ack"; provider: string };
    load_progress: Id & { type: "load_progress" } & LlmLoadProgress;
    load_done: Outcome & { type: "load_done"; provider: string; warning?: string };
    generate_ack: Id & { type: "generate_ack" };
    generate_done: Outcome & Ending & { type: "generate_done"; response: string };
    generate_stream_chunk: Id & { type: "generate_stream_chunk"; chunk: string };
    generate_stream_done: Outcome & Ending & { type: "generate_stream_done" };
    interrupt_ack: Id & { type: "interrupt_ack"; interrupted?: string[] };
    close_ack: Id & { type: "close_ack" };
    get_providers_done: Id & { type: "get_providers_done"; providers: string[]; details?: ProviderDetails };
    get_models_done: Outcome & { type: "get_models_done"; models: string[]; warning?: string };
    unload_done: Outcome & { type: "unload_done"; provider: string };
    get_stats_done: Outcome & { type: "get_stats_done" } & LlmStats;
    error: Outcome & { type: "error" };
};

export type Reply = Replies[keyof Replies];

export type Request = { type: string; [field: string]: unknown };
