// Choosing a binding and a model.
import { byId, choice, size, tell } from "./dom.js";

const LONGEST_LIST = 200;
const list = (value) => (Array.isArray(value) ? value : []);

export class Bindings {
    /** `selected(name, model)` is called once the server has switched. */
    constructor(socket, selected) {
        this.socket = socket;
        this.selected = selected;
        this.bindings = [];
        this.current = "";
        this.asked = false;
        this.wanted = null;
        socket.on("bindings_list", (said) => this.listed(said ?? {}));
        socket.on("select_binding", (said) => this.answered(said ?? {}));
        socket.on("notification", (said) => this.progress(said ?? {}));
        socket.on("disconnect", () => this.settle());
    }

    listed({ bindings, binding_name, error }) {
        this.bindings = list(bindings);
        // Another server may have come back under this address, which has nothing selected.
        if (binding_name === "" && this.current) this.selected("", "");
        if (typeof binding_name === "string") this.current = binding_name;
        // At first the question is which one; where somebody has answered it, it need not be asked.
        if (!this.asked && this.current) byId("binding-section").open = false;
        this.asked = true;
        tell(byId("binding-error"), error);
        this.draw();
    }

    draw() {
        const items = this.bindings.map(({ name, card }) =>
            choice({
                title: card?.title || name,
                lines: [card?.description, facts(card ?? {})],
                chosen: name === this.current,
                onclick: () => this.choose(name),
            }),
        );
        byId("bindings").replaceChildren(...items);
        byId("bindings").setAttribute("aria-busy", String(this.wanted !== null));
        byId("binding-now").textContent = this.title(this.current) || "choose one";
    }

    title(name) {
        return this.bindings.find((binding) => binding.name === name)?.card?.title || name;
    }

    choose(name) {
        if (this.wanted !== null) return;
        this.wanted = name;
        tell(byId("binding-error"), "");
        tell(byId("binding-progress"), `Loading ${this.title(name)}…`);
        this.draw();
        this.socket.emit("select_binding", { binding_name: name });
    }

    progress({ content }) {
        if (this.wanted !== null && typeof content === "string") tell(byId("binding-progress"), content);
    }

    answered({ success, binding_name, model_name, error, warning }) {
        const name = binding_name || this.wanted;
        this.settle();
        if (!success) {
            tell(byId("binding-error"), error || `${this.title(name)} could not be loaded.`);
            return;
        }
        this.current = name;
        tell(byId("binding-error"), warning);
        byId("binding-section").open = Boolean(warning);
        this.draw();
        this.selected(name, model_name);
    }

    settle() {
        this.wanted = null;
        tell(byId("binding-progress"), "");
        this.draw();
    }
}

function facts({ category, installed, size_bytes }) {
    const kind = category === "api" ? "a service" : category === "local" ? "on this machine" : "";
    const state = installed ? "installed" : "installs when it is chosen";
    return [kind, state, size(size_bytes)].filter((fact) => fact).join(" · ");
}

export class Models {
    constructor(socket) {
        this.socket = socket;
        this.models = [];
        this.current = "";
        this.wanted = null;
        socket.on("available_models_list", (said) => this.listed(said ?? {}));
        socket.on("select_model", (said) => this.answered(said ?? {}));
        socket.on("disconnect", () => (this.wanted = null));
        byId("model-filter").addEventListener("input", () => this.draw());
    }

    listed({ success, available_models, model_name, error, warning }) {
        this.models = success ? list(available_models) : [];
        if (typeof model_name === "string") this.current = model_name;
        this.error = success ? warning : error;
        this.draw();
    }

    /** The server has another binding: its models follow. */
    switched(model) {
        this.current = typeof model === "string" ? model : "";
        this.models = [];
        byId("model-filter").value = "";
        this.draw();
    }

    draw() {
        const filter = byId("model-filter");
        const asked = filter.value.trim().toLowerCase();
        const found = this.models.filter(({ title }) => String(title).toLowerCase().includes(asked));
        const items = found.slice(0, LONGEST_LIST).map((model) =>
            choice({
                title: model.title,
                lines: [model.description, size(model.filesize)],
                chosen: model.title === this.current,
                onclick: () => this.choose(model.title),
            }),
        );
        byId("models").replaceChildren(...items);
        filter.hidden = this.models.length < 8;
        tell(
            byId("models-more"),
            found.length > LONGEST_LIST ? `… and ${found.length - LONGEST_LIST} more; filter them` : "",
        );
        tell(byId("model-error"), this.error);
        byId("model-now").textContent = this.current || (this.models.length > 0 ? "choose one" : "after a binding");
    }

    choose(title) {
        if (this.wanted !== null) return;
        this.wanted = title;
        this.error = "";
        this.draw();
        this.socket.emit("select_model", { model_name: title });
    }

    answered({ success, model_name, error, warning }) {
        const title = model_name || this.wanted;
        this.wanted = null;
        if (success) {
            this.current = title;
            byId("model-section").open = Boolean(warning);
        }
        this.error = success ? warning : error || `${title} could not be selected.`;
        this.draw();
    }
}

/** The parameters that were filled in, in the shape of `generate_text`; null where one is wrong, which then has the focus. */
export function parameters(form) {
    const request = {};
    const sampling = {};
    for (const input of form.querySelectorAll("input")) {
        if (!input.checkValidity()) {
            input.closest("details").open = true;
            input.focus();
            input.reportValidity();
            return null;
        }
        if (input.value === "") continue;
        (input.name === "n_predicts" ? request : sampling)[input.name] = input.valueAsNumber;
    }
    return { ...request, parameters: sampling };
}

/** Say beside the title of the section how many are filled in. */
export function countParameters(form) {
    const filled = [...form.querySelectorAll("input")].filter((input) => input.value !== "").length;
    byId("parameters-now").textContent = filled === 0 ? "the personality’s" : `${filled} of your own`;
}
