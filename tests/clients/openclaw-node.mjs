// openclaw-node, a client library by others.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { connect, run, within } from "./connect.mjs";

const require = createRequire(`${process.env.CLIENTS_DIR}/openclaw-node/package.json`);
const { OpenClawClient } = await import(pathToFileURL(require.resolve("openclaw-node")).href);
const owner = await connect({ clientName: "cli", mode: "cli" });
const serves = owner.hello.features.methods;
const open = async (more = {}) => {
  const client = new OpenClawClient({ url: process.env.GATEWAY_URL, token: process.env.GATEWAY_TOKEN,
    deviceIdentityPath: `${process.env.HOME}/${more.role ?? "operator"}.json`, autoReconnect: false, ...more });
  client.on("error", () => {});
  const hello = await within(client.connect(), "hello");
  return { client, hello };
};

const cases = {
  "it connects as an operator, is told what is served, and calls": async () => {
    const { client, hello } = await open();
    assert.equal(hello.protocol, 4);
    assert.ok(client.hasMethod("cron.list"));
    assert.equal((await client.health()).ok, true);
    assert.ok(Array.isArray((await client.agents.list()).agents));
    assert.ok(Array.isArray((await client.sessions.list()).sessions));
    const config = await client.config.get();
    assert.equal(typeof config.hash, "string");
    await client.disconnect();
  },
  "it comes back as the device that it was": async () => {
    const { client, hello } = await open();
    assert.ok(hello.auth.scopes.includes("operator.read"));
    await client.disconnect();
  },
  "a turn that nothing can make is refused and not left hanging": async () => {
    const { client } = await open();
    const chunks = [];
    const ended = (async () => {
      for await (const chunk of client.chat("hello")) chunks.push(chunk);
    })();
    await within(ended.catch((error) => chunks.push({ type: "error", text: String(error) })), "end of the turn");
    assert.equal(chunks.at(-1)?.type === "error" || chunks.some((one) => one.type === "error"), true, JSON.stringify(chunks));
    await client.disconnect();
  },
  "it connects as a node, and the node is known": { needs: ["node.list"], does: async () => {
    const { client, hello } = await open({ role: "node", scopes: [] });
    assert.equal(hello.auth.role, "node");
    const { nodes } = await owner.client.request("node.list", {});
    assert.ok(nodes.some((one) => one.connected), JSON.stringify(nodes));
    await client.disconnect();
  } },
};

await run(cases, serves);
owner.client.stop();
process.exit(0);
