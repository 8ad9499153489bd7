// `openclaw node run`, the headless node of the command line, as a process of its own.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { connect, run, within } from "./connect.mjs";

const owner = await connect({ clientName: "cli", mode: "cli" });
const call = (method, params = {}) => owner.client.request(method, params);
const url = new URL(process.env.GATEWAY_URL);
const start = () => {
  const cli = `${process.env.CLIENTS_DIR}/openclaw/node_modules/openclaw/openclaw.mjs`;
  const child = spawn(process.execPath, [cli, "node", "run", "--host", url.hostname, "--port", url.port,
    "--display-name", "trial-node"], {
    env: { ...process.env, OPENCLAW_GATEWAY_TOKEN: process.env.GATEWAY_TOKEN },
    stdio: ["ignore", "pipe", "pipe"],
  });
  child.said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => (child.said += bytes));
  return child;
};

const cases = {
  "it is known, connected, with its commands, and answers an invoke": { needs: ["node.invoke", "node.list"], does: async () => {
    const child = start();
    try {
      const here = async () => {
        for (;;) {
          for (const one of (await call("node.pair.list")).pending ?? [])
            await call("node.pair.approve", { requestId: one.requestId });
          const { nodes } = await call("node.list");
          const node = nodes.find((one) => one.connected && (one.commands ?? []).includes("system.which"));
          if (node) return node;
          await new Promise((resolve) => setTimeout(resolve, 250));
        }
      };
      const node = await within(here(), `node; it said ${child.said.slice(-300)}`, 150_000);
      const result = await call("node.invoke", { nodeId: node.nodeId, command: "system.which",
        params: { bins: ["sh"] }, timeoutMs: 20_000, idempotencyKey: "host-1" });
      const answer = result.payload ?? JSON.parse(result.payloadJSON);
      assert.match(JSON.stringify(answer), /\/sh"/);
    } catch (error) {
      throw new Error(`${error.message}; the node said: ${child.said.slice(-400)}`);
    } finally {
      child.kill();
    }
  } },
};

await run(cases, owner.hello.features.methods);
owner.client.stop();
process.exit(0);
