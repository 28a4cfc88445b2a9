// npm ci && npm run example -- echo          (needs a running module: waifu-llm serve)
// LLM_API_KEY=... npm run example -- openai gpt-4o-mini
import { LlmError, wAIfuLlmClient } from "./src/index.js";

const [provider = "echo", wantedModel, url] = process.argv.slice(2);

async function main(): Promise<void> {
    const client = new wAIfuLlmClient(url);
    try {
        console.log("[LOG] Available providers:", await client.getProviders());

        await client.loadProvider(provider, { api_key: process.env["LLM_API_KEY"] }, ({ stage, detail }) => {
            console.log(`[LOG] ${stage}: ${detail}`);
        });

        const models = await client.getModels();
        console.log("[LOG] Available models:", models);
        const model_id = wantedModel || models[0];

        console.log("[INP] User: How are you feeling?");
        const messages = [{ role: "user" as const, content: "How are you feeling?" }];
        const response = await client.generate(messages, { model_id, character_name: "AI", timeout_ms: 20_000 });
        console.log("[OUT] AI:", response);

        console.log("[INP] User: Tell me a long story.");
        process.stdout.write("[OUT] AI: ");
        const story = client.stream("Tell me a long story.", { model_id, max_output_length: 500 });
        for await (const chunk of story) process.stdout.write(chunk);
        console.log(`\n[LOG] Done: ${story.finish_reason ?? "no reason given"}.`);
    } catch (error) {
        if (!(error instanceof LlmError)) throw error;
        console.error(`[ERR] ${error.code}: ${error.message}`);
        process.exitCode = 1;
    } finally {
        await client.disconnect();
    }
}

await main();
