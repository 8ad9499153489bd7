// The reference SDK holds conversations: streamed, with a tool, aborted, as a run of an agent. What
// it hears is held against the published schemas, closed as they are.
import assert from "node:assert/strict";
import { connect, run, within } from "./connect.mjs";
import { fits } from "./schema.mjs";
import { BEFORE_TOOL, SLOW_WORDS, WORDS } from "../provider.mjs";

const host = { clientName: "cli", mode: "cli" };
const owner = await connect({ ...host, caps: ["tool-events"] });
const other = await connect(host);
const call = (method, params = {}, options) => owner.client.request(method, params, options);
const whole = WORDS.join("");
const key = "agent:main:main";
const provider = (path, method = "GET") => within(fetch(`${process.env.PROVIDER_URL}${path}`, { method }), path);
const send = (idempotencyKey, message, more = {}) => call("chat.send", { sessionKey: "main", message, idempotencyKey, ...more });
const text = (message) => message.content.filter(({ type }) => type === "text").map(({ text }) => text).join("");
const told = (session, event, runId) => session.events.filter((one) => one.event === event && one.payload.runId === runId)
  .map(({ payload }) => payload);
const over = ({ state }) => !["delta", "status"].includes(state);
const last = async (runId, session = owner) =>
  (await session.next("chat", (chat) => chat.runId === runId && over(chat))).payload;
const failure = (promise) => promise.then(() => { throw new Error("it was expected to be refused"); }, (error) => error);

// Members beyond AgentEvent: what 2026.9.6 itself sends beside them (sessionKey, agentId, and sessionId
// of what is told of a session), without which nobody knows where a step belongs.
const BEYOND_AGENT = ["sessionKey", "agentId", "sessionId"];

function fitsSchemas(runId, session = owner) {
  const chats = told(session, "chat", runId);
  for (const chat of chats) fits("ChatEvent", chat, { closed: true });
  for (const step of told(session, "agent", runId)) fits("AgentEvent", step, { closed: true, beyond: BEYOND_AGENT });
  return chats;
}

/** What the parts of a run come to. */
const added = (chats) => chats.reduce((sum, { state, deltaText, replace }) =>
  state === "delta" ? (replace ? deltaText : sum + deltaText) : sum, "");

const cases = {
  "an answer is heard while it is made, and its parts add up to the last word": async () => {
    assert.deepEqual(await send("step-1", "STEP by step"), { runId: "step-1", status: "started" });
    const first = (await owner.next("chat", (chat) => chat.runId === "step-1")).payload;
    assert.equal(first.state, "delta");
    assert.equal(first.deltaText, WORDS[0]);
    assert.equal(first.sessionKey, key);
    assert.deepEqual(await send("step-1", "STEP by step"), { runId: "step-1", status: "in_flight" });
    const { inFlightRun } = await call("chat.history", { sessionKey: "main" });
    assert.deepEqual([inFlightRun.runId, inFlightRun.text], ["step-1", WORDS[0]]);
    await provider("/go", "POST");
    const end = await last("step-1");
    assert.deepEqual([end.state, text(end.message)], ["final", whole]);
    const chats = fitsSchemas("step-1");
    assert.ok(chats.filter(({ state }) => state === "delta").length >= 2, "it came in one piece");
    assert.equal(added(chats), whole);
    assert.equal(chats.filter(over).length, 1, "it ended more than once");
    const steps = told(owner, "agent", "step-1");
    assert.deepEqual(steps.map(({ seq }) => seq), steps.map((_, at) => at + 1));
    assert.equal(steps.filter(({ stream }) => stream === "assistant").map(({ data }) => data.delta).join(""), whole);
    assert.deepEqual([steps[0], steps.at(-1)].map(({ data }) => data.phase), ["start", "end"]);
    assert.deepEqual(await send("step-1", "STEP by step"), { runId: "step-1", status: "ok" });
  },
  "a tool call is told to who asked and can show it, and to nobody else": async () => {
    await send("tool-1", "USE_TOOL please");
    const end = await last("tool-1");
    assert.equal(text(end.message), BEFORE_TOOL + whole);
    assert.equal(added(fitsSchemas("tool-1")), BEFORE_TOOL + whole);
    const tools = told(owner, "agent", "tool-1").filter(({ stream }) => stream === "tool").map(({ data }) => data);
    assert.deepEqual([tools[0].phase, tools[0].name, tools[0].args.command], ["start", "exec", "echo tool-ran"]);
    assert.deepEqual([tools.at(-1).phase, tools.at(-1).toolCallId, tools.at(-1).isError], ["result", tools[0].toolCallId, false]);
    await last("tool-1", other);
    assert.ok(!told(other, "agent", "tool-1").some(({ stream }) => stream === "tool"), "somebody else heard of a tool");
    const { messages } = await call("chat.history", { sessionKey: "main" });
    const [calls, result] = messages.slice(-3);
    assert.equal(calls.content.find(({ type }) => type === "toolCall").name, "exec");
    assert.deepEqual([result.role, result.toolName, result.isError], ["toolResult", "exec", false]);
    assert.match(text(result), /tool-ran/);
  },
  "an abort ends the answer, keeps what was said, and closes the provider's request": async () => {
    await send("slow-1", "SLOW please");
    const said = SLOW_WORDS.join("");
    await owner.next("chat", (chat) => chat.runId === "slow-1" && text(chat.message) === said);
    assert.deepEqual(await call("chat.abort", { sessionKey: "main", runId: "slow-1" }),
      { ok: true, aborted: true, runIds: ["slow-1"] });
    const end = await last("slow-1");
    assert.deepEqual([end.state, end.stopReason, text(end.message)], ["aborted", "rpc", said]);
    fitsSchemas("slow-1");
    await provider("/gone/1");
    const { messages } = await call("chat.history", { sessionKey: "main" });
    assert.equal(text(messages.at(-1)), said);
    await send("after-1", "and now");
    assert.equal((await last("after-1")).state, "final");
  },
  "an agent is asked, accepts, and answers; who waits learns the end": async () => {
    const accepted = [];
    const params = { message: "hello", agentId: "main", idempotencyKey: "agent-1" };
    const done = await call("agent", params, { expectFinal: true, onAccepted: (payload) => accepted.push(payload) });
    assert.deepEqual([done.status, done.summary, done.result.payloads[0].text], ["ok", "completed", whole]);
    assert.deepEqual([done.result.meta.agentMeta.provider, done.result.meta.agentMeta.model], ["scripted", "some-model"]);
    if (accepted.length > 0) assert.equal(accepted[0].status, "accepted");
    const waited = await call("agent.wait", { runId: "agent-1", timeoutMs: 10_000 });
    assert.equal(waited.status, "ok");
    assert.ok(waited.startedAt <= waited.endedAt);
    assert.equal(added(fitsSchemas("agent-1")), whole);
    assert.deepEqual((await call("agent", params, { expectFinal: true })).result.payloads, done.result.payloads);
    assert.equal((await call("agent.wait", { runId: "never", timeoutMs: 1 })).status, "timeout");
  },
  "what the provider refuses is an error with its words": async () => {
    await send("bad-1", "REFUSED please");
    const end = await last("bad-1");
    assert.equal(end.state, "error");
    assert.match(end.errorMessage, /the provider refuses this/);
    fitsSchemas("bad-1");
    const error = await failure(call("agent", { message: "REFUSED", idempotencyKey: "bad-2" }, { expectFinal: true }));
    assert.match(error.message, /the provider refuses this/);
    assert.equal((await call("agent.wait", { runId: "bad-2" })).status, "error");
  },
  "who only hears of own sessions hears of this one after subscribing": async () => {
    const far = await connect({ ...host, caps: ["session-scoped-events", "tool-events"] });
    await send("own-1", "unheard");
    await last("own-1");
    await far.client.request("health", {});
    assert.equal(told(far, "chat", "own-1").length, 0);
    await far.client.request("sessions.messages.subscribe", { key });
    await send("own-2", "heard");
    assert.equal((await last("own-2", far)).state, "final");
    far.client.stop();
  },
};

await run(cases, owner.hello.features.methods);
owner.client.stop();
other.client.stop();
