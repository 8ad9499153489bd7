// A provider of models that speaks OpenAI's chat completions over HTTP and answers what a
// conversation asks for, so that programs of others can hold one:
//
//   a message with    is answered with
//   USE_TOOL          some words, a call of `exec` with `echo tool-ran`, then the usual words
//   STEP              the first of the usual words, and the others when `go` is called
//   SLOW              a few words and nothing more, until whoever asked goes away
//   REFUSED           HTTP 400
//   anything else     the usual words
//
// In a program: `startProvider()`. By itself it prints `{"url", "config"}`, where `config` is what a
// gateway is configured with to use it, and is told what to do over HTTP: `POST /go`, and
// `GET /gone/N`, which is answered when N requests were left before their end.

import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

export const WORDS = ["Hello", " from", " the", " scripted", " model."];
export const SLOW_WORDS = ["word0", " word1", " word2"];
export const BEFORE_TOOL = "Let me look.";
export const KEY = "sk-scripted-provider-key";

/**
 * What a gateway is configured with to use it. Its conversations do not begin anew at night, which
 * would be in the middle of somebody's run.
 */
export const configOf = (url) => ({
  session: { reset: { mode: "idle", idleMinutes: 1_440 } },
  models: { providers: { scripted: {
    baseUrl: `${url}/v1`, apiKey: KEY, api: "openai-completions",
    models: [{ id: "some-model", name: "Some Model", contextWindow: 32_000, maxTokens: 1_024, input: ["text"],
      cost: { input: 1, output: 2, cacheRead: 0, cacheWrite: 0 } }],
  } } },
  agents: { defaults: { model: { primary: "scripted/some-model" } } },
});

const textOf = ({ content }) => Array.isArray(content) ? content.map((part) => part.text ?? "").join("") : content ?? "";

/** Starts one on a port of loopback. */
export async function startProvider() {
  const waiting = [];
  const lookers = [];
  const provider = {
    /** Bodies of what it was asked, in order. */
    asked: [],
    /** How many requests were left before their end. */
    gone: 0,
    /** Lets an answer to STEP go on. */
    go: () => waiting.shift()?.(),
    /** Waits until it was asked so often. */
    untilAsked: (many) => new Promise((resolve) => {
      lookers.push(() => provider.asked.length >= many && resolve());
      lookers.at(-1)();
    }),
    /** Waits until so many were left. */
    untilGone: (many) => new Promise((resolve) => {
      lookers.push(() => provider.gone >= many && resolve());
      lookers.at(-1)();
    }),
  };
  const answer = async (body, res) => {
    provider.asked.push(body);
    for (const look of lookers) look();
    const last = body.messages.at(-1);
    const asks = last.role === "tool" ? "" : textOf(body.messages.findLast(({ role }) => role === "user") ?? last);
    if (asks.includes("REFUSED")) {
      res.writeHead(400, { "content-type": "application/json" });
      return res.end(JSON.stringify({ error: { message: "the provider refuses this", type: "invalid_request_error" } }));
    }
    res.writeHead(200, { "content-type": "text/event-stream" });
    const chunk = (choices, more = {}) => res.write(`data: ${JSON.stringify({ id: "chatcmpl-1",
      object: "chat.completion.chunk", created: 1, model: body.model, choices, ...more })}\n\n`);
    const says = (delta, finish = null) => chunk([{ index: 0, delta, finish_reason: finish }]);
    says({ role: "assistant", content: "" });
    let finish = "stop";
    if (asks.includes("USE_TOOL")) {
      says({ content: BEFORE_TOOL });
      says({ tool_calls: [{ index: 0, id: "call_1", type: "function",
        function: { name: "exec", arguments: JSON.stringify({ command: "echo tool-ran" }) } }] });
      finish = "tool_calls";
    } else if (asks.includes("SLOW")) {
      // As slowly as a gateway may hold words back for the next ones.
      for (const word of SLOW_WORDS) {
        says({ content: word });
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      return;
    } else {
      for (const [at, word] of WORDS.entries()) {
        if (at === 1 && asks.includes("STEP")) await new Promise((resolve) => waiting.push(resolve));
        says({ content: word });
      }
    }
    says({}, finish);
    chunk([], { usage: { prompt_tokens: 120, completion_tokens: 8, total_tokens: 128 } });
    res.end("data: [DONE]\n\n");
  };
  const server = createServer((req, res) => {
    if (req.url === "/go") return provider.go(), res.end();
    const gone = req.url.match(/^\/gone\/(\d+)$/);
    if (gone) return provider.untilGone(Number(gone[1])).then(() => res.end());
    const parts = [];
    req.on("data", (part) => parts.push(part));
    req.on("end", () => answer(JSON.parse(Buffer.concat(parts)), res));
    res.on("close", () => {
      if (!res.writableFinished) provider.gone += 1;
      for (const look of lookers) look();
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  provider.url = `http://127.0.0.1:${server.address().port}`;
  provider.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return provider;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { url } = await startProvider();
  console.log(JSON.stringify({ url, config: configOf(url) }));
}
