// One generation at a time: which of the server's events belong to it, and how it ends.

export class Generation {
    /** `changed` is called whenever one begins or ends; `otherwise` with what is said about another event. */
    constructor(socket, changed, otherwise) {
        this.socket = socket;
        this.otherwise = otherwise;
        this.changed = changed;
        this.answer = null;
        this.id = null;
        this.cancelling = false;
        // What still comes of an answer that is over here: its id, or, where an error ended it, the `text_generated` after it.
        this.over = new Set();
        this.owed = 0;
        socket.on("text_chunk", (said) => this.chunk(said ?? {}));
        socket.on("text_generated", (said) => this.generated(said ?? {}));
        socket.on("generation_error", (said) => this.failed(said ?? {}));
        socket.on("generation_canceled", (said) => this.canceled(said ?? {}));
        socket.on("busy", (said) => this.busy(said ?? {}));
        socket.on("disconnect", () => this.lost());
    }

    get running() {
        return this.answer !== null;
    }

    start(answer, request) {
        this.answer = answer;
        this.id = null;
        this.cancelling = false;
        this.socket.emit("generate_text", request);
        this.changed();
    }

    /** Nothing is added from here on, whatever is still on its way. */
    cancel() {
        if (!this.running || this.cancelling) return;
        this.cancelling = true;
        this.answer.state("cancelling");
        this.socket.emit("cancel_generation", {});
        this.changed();
    }

    end(state, text, remark) {
        const answer = this.answer;
        if (this.id !== null) this.over.add(this.id);
        this.answer = null;
        this.cancelling = false;
        answer.finish(state, text, remark);
        this.changed();
    }

    /** Whether an event with this id is about the running generation; the first id that is seen is its own. */
    concerns(id) {
        if (!this.running || this.over.has(id)) return false;
        if (this.id === null) this.id = id ?? null;
        return this.id === (id ?? null);
    }

    chunk({ chunk, request_id }) {
        if (this.concerns(request_id) && !this.cancelling && typeof chunk === "string") this.answer.append(chunk);
    }

    generated({ text, error, request_id }) {
        if (error && this.owed > 0) {
            this.owed -= 1;
            return;
        }
        if (!this.concerns(request_id)) return;
        if (error) this.end("failed", text, error);
        else this.end("done", text);
    }

    failed({ error }) {
        if (!this.running) return;
        this.owed += 1;
        this.end("failed", undefined, error || "The generation failed.");
    }

    canceled({ text, request_id }) {
        if (!this.running || !this.cancelling) return;
        if (this.id === null && request_id !== undefined) this.id = request_id;
        this.end("cancelled", text, "Cancelled");
    }

    /** About a generation that has not begun, or about another event. */
    busy({ message }) {
        const sentence = message || "The server is busy.";
        if (this.running && this.id === null && !this.cancelling) this.end("failed", undefined, sentence);
        else this.otherwise(sentence);
    }

    lost() {
        if (this.running) this.end("failed", undefined, "The connection was lost.");
        this.over.clear();
        this.owed = 0;
    }
}
