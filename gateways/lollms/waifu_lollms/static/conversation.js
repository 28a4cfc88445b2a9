// What was said, one conversation per personality, as the server keeps it too.
import { make, portrait } from "./dom.js";

/** How far from the end somebody may have scrolled and still be taken along. */
const NEAR_THE_END_PX = 48;

/** An answer on the page, from its waiting to its end. */
class Answer {
    constructor(element, log) {
        this.element = element;
        this.body = element.querySelector(".text");
        this.log = log;
        this.node = document.createTextNode("");
        this.body.append(this.node);
        this.state("waiting");
    }

    state(name) {
        this.element.dataset.state = name;
        // A screen reader reads the answer when it is there, not piece by piece.
        this.element.setAttribute("aria-busy", String(name === "waiting" || name === "streaming"));
    }

    append(piece) {
        this.log.follow(() => {
            this.node.appendData(piece);
            this.state("streaming");
        });
    }

    /** `state`: done, cancelled or failed. A text that is given is the whole one. */
    finish(state, text, remark) {
        this.log.follow(() => {
            if (typeof text === "string" && (text !== "" || state === "done")) this.node.data = text;
            this.state(state);
            if (remark) this.element.querySelector(".words").append(make("p", { class: "remark", text: remark }));
        });
    }
}

export class Conversation {
    constructor(log) {
        this.element = log;
        this.pages = new Map();
        this.current = null;
    }

    /** Show the conversation with the personality `key`; `welcome` and `hint` are for its first time. */
    show(key, { name, avatar, welcome, hint }) {
        if (this.current !== null) this.current.hidden = true;
        let page = this.pages.get(key);
        if (page === undefined) {
            page = make("div", { class: "page" });
            page.append(
                make(
                    "div",
                    { class: "empty" },
                    portrait(name, avatar),
                    make("h2", { text: name }),
                    make("p", { text: hint }),
                ),
            );
            this.pages.set(key, page);
            this.element.append(page);
        }
        page.hidden = false;
        this.current = page;
        if (welcome && page.querySelector(".message") === null) this.answer(name, avatar).finish("done", welcome);
        this.toEnd();
    }

    /** Forget everything, as the server does with a client that leaves. */
    clear() {
        this.pages.clear();
        this.current = null;
        this.element.replaceChildren();
    }

    asked(prompt) {
        this.add(
            make(
                "article",
                { class: "message user", "aria-label": "You" },
                make("div", { class: "words" }, make("p", { class: "text", text: prompt })),
            ),
        );
        this.toEnd();
    }

    answer(name, avatar) {
        const copy = make("button", {
            type: "button",
            class: "copy",
            text: "Copy",
            "aria-label": `Copy what ${name} said`,
            onclick: async () => {
                await navigator.clipboard.writeText(element.querySelector(".text").textContent);
                copy.textContent = "Copied";
                setTimeout(() => (copy.textContent = "Copy"), 1500);
            },
        });
        const head = make("p", { class: "who" }, make("span", { text: name }), navigator.clipboard ? copy : null);
        const words = make("div", { class: "words" }, head, make("p", { class: "text" }));
        const element = make("article", { class: "message answer", "aria-label": name }, portrait(name, avatar), words);
        this.add(element);
        return new Answer(element, this);
    }

    /** A line across every conversation that has begun. */
    divide(sentence) {
        for (const page of this.pages.values()) {
            if (page.querySelector(".message.user") !== null)
                page.append(make("p", { class: "divider", text: sentence }));
        }
    }

    add(element) {
        this.follow(() => this.current.append(element));
    }

    /** Do `change`, and stay at the end where the reader was there. */
    follow(change) {
        const { scrollHeight, scrollTop, clientHeight } = this.element;
        const atEnd = scrollHeight - scrollTop - clientHeight < NEAR_THE_END_PX;
        change();
        if (atEnd) this.toEnd();
    }

    toEnd() {
        this.element.scrollTop = this.element.scrollHeight;
    }
}
