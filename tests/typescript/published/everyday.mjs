// What programs do with the published client, in the order of its README; says in JSON what came of it.
import { PublishedClient } from "./published_client.mjs";

const client = new PublishedClient(process.argv[2]);
const user = (content) => [{ role: "user", content, name: null }];
const failure = (promise) => promise.then(() => "no error", (error) => error.message);
const found = {};

found.modelsBeforeLoad = await client.getModels();
found.generateBeforeLoad = await failure(client.generate(user("Hi"), { model_id: "echo", character_name: "AI" }));
found.providers = await client.getProviders();
found.badProvider = await failure(client.loadProvider("no_such_provider", { api_key: "" }));
await client.loadProvider("echo", { api_key: "" });
found.models = await client.getModels();
found.modelsOfAnOlderClient = await client.getModels("providers");

const params = {
    model_id: "echo", character_name: "AI", max_output_length: 250, temperature: 1.0, stop_tokens: null, timeout_ms: null,
};
found.response = await client.generate(user("How are you feeling?"), params);
found.stopsAtALineBreak = await client.generate(user("one\ntwo"), { model_id: "echo", character_name: "AI" });

const chunks = [];
await client.generateStream(user("Write me a story"), { ...params, timeout_ms: 15_000 }, (chunk) => chunks.push(chunk));
found.chunks = chunks;
const few = [];
await client.generateStream(user("a\nb"), { model_id: "echo", character_name: "AI" }, (chunk) => few.push(chunk));
found.streamWithFewParameters = few.join("");

found.badModel = await failure(client.generate(user("Hi"), { ...params, model_id: "no-such-model" }));
found.emptyMessages = await failure(client.generate([], params));

const pieces = await Promise.all(
    ["x y z", "1 2 3"].map(async (text) => {
        const own = [];
        await client.generateStream(user(text), params, (chunk) => own.push(chunk));
        return own.join("");
    }),
);
found.twoAtOnce = pieces;

let heard;
const first = new Promise((resolve) => (heard = resolve));
const slow = failure(client.generateStream(user("word ".repeat(1000)), { ...params, model_id: "echo-slow" }, heard));
await first;
await client.interrupt();
found.interrupted = await slow;

const ended = new Promise((resolve) => client.socket.on("close", resolve));
await client.close();
found.closeCode = await ended;
found.complaints = client.complaints;
console.log(JSON.stringify(found));
