// The reference SDK, @openclaw/gateway-client: connecting, calling, hearing, coming back.
import assert from "node:assert/strict";
import { connect, hostOf, newDevice, protocol, relay, run, within } from "./connect.mjs";

const owner = await connect({ clientName: "cli", mode: "cli", clientVersion: "2026.9.1" });
const serves = owner.hello.features.methods;
const call = (method, params = {}) => owner.client.request(method, params);
const failure = async (promise) => {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("it was expected to be refused");
};
const tea = { name: "tea", schedule: { kind: "every", everyMs: 3_600_000 }, sessionTarget: "main",
  wakeMode: "now", payload: { kind: "systemEvent", text: "tea time" } };

const cases = {
  "the hello is of wire 4 and holds what its schema requires": () => {
    assert.equal(owner.hello.protocol, 4);
    assert.equal(owner.hello.type, "hello-ok");
    assert.deepEqual(owner.hello.auth.scopes.toSorted(), ["operator.admin", "operator.approvals",
      "operator.pairing", "operator.read", "operator.write"]);
    for (const member of ["presence", "health", "stateVersion", "uptimeMs"])
      assert.ok(member in owner.hello.snapshot, member);
    for (const member of ["maxPayload", "maxBufferedBytes", "tickIntervalMs"])
      assert.equal(typeof owner.hello.policy[member], "number");
  },
  "read calls are answered": async () => {
    assert.equal((await call("health")).ok, true);
    assert.ok((await call("status")).runtimeVersion);
    assert.equal((await call("config.get")).valid, true);
    assert.ok((await call("system-presence"))[0].text);
    assert.ok(Array.isArray((await call("logs.tail", { limit: 5 })).lines));
  },
  "cron lives and its events come": async () => {
    const job = await call("cron.add", tea);
    await owner.next("cron", (cron) => cron.action === "added" && cron.jobId === job.id);
    const page = await call("cron.list", { includeDisabled: true, limit: 200, offset: 0 });
    assert.equal(typeof page.snapshotRevision, "string");
    assert.deepEqual(page.jobs.map((one) => one.id), [job.id]);
    const { runId } = await call("cron.run", { id: job.id, mode: "force" });
    const ended = await owner.next("cron", (cron) => cron.action === "finished" && cron.jobId === job.id);
    assert.equal(ended.payload.status, "ok");
    assert.equal((await call("cron.runs", { id: job.id, runId })).entries[0].runId, runId);
    assert.equal((await call("cron.remove", { id: job.id })).removed, true);
  },
  "a refused call keeps its code, its details and the connection": async () => {
    const unknown = await failure(call("no.such.method"));
    assert.equal(unknown.gatewayCode, "INVALID_REQUEST");
    assert.match(unknown.message, /unknown method/);
    const missing = await failure(call("cron.get", { id: "00000000-0000-4000-8000-000000000000" }));
    assert.equal(missing.details?.code, "CRON_JOB_NOT_FOUND");
    const wrong = await failure(call("cron.list", { limit: "many" }));
    assert.match(wrong.message, /invalid cron.list params: at \/limit: must be integer/);
    assert.equal((await call("health")).ok, true);
  },
  "a missing scope is told in the form that the SDK reads": async () => {
    const reader = await connect({ clientName: "cli", mode: "cli", scopes: ["operator.read"] });
    const error = await failure(reader.client.request("cron.add", tea));
    reader.client.stop();
    assert.equal(error.gatewayCode, "FORBIDDEN");
    assert.equal(protocol.readMissingScopeErrorDetails(error.details)?.missingScope, "operator.admin");
  },
  "a backend without a device keeps its scopes on this machine": async () => {
    const backend = await connect();
    assert.ok(backend.hello.auth.scopes.includes("operator.admin"));
    backend.client.stop();
  },
  "a device is paired, keeps its token, and comes back with it alone": async () => {
    const host = hostOf(newDevice());
    const options = { clientName: "openclaw-tui", mode: "ui", deviceIdentity: undefined, hostDeps: host };
    const first = await connect(options);
    await within((async () => { while (!host.kept.has("operator")) await new Promise(setImmediate); })(), "device token");
    first.client.stop();
    const second = await connect({ ...options, token: undefined });
    assert.equal(second.hello.auth.method, "device-token");
    assert.ok(second.hello.auth.scopes.includes("operator.admin"));
    const { paired } = await second.client.request("device.pair.list", {});
    assert.ok(paired.some((one) => one.deviceId === host.loadOrCreateDeviceIdentity().deviceId));
    second.client.stop();
  },
  "a wrong token is refused with its code": async () => {
    const error = await failure(connect({ clientName: "cli", mode: "cli", token: "wrong" }));
    assert.equal(error.details?.code, "AUTH_TOKEN_MISMATCH");
  },
  "a device from elsewhere waits for its approval and gets in after it": async () => {
    const far = await relay("X-Forwarded-For: 203.0.113.7\r\n");
    const host = hostOf(newDevice());
    const options = { url: far.url, clientName: "openclaw-tui", mode: "ui", scopes: ["operator.read"],
      deviceIdentity: undefined, hostDeps: host };
    try {
      const error = await failure(connect(options));
      assert.equal(error.details?.code, "PAIRING_REQUIRED");
      await owner.next("device.pair.requested", (one) => one.requestId === error.details.requestId);
      await call("device.pair.approve", { requestId: error.details.requestId });
      const { hello, client } = await connect(options);
      assert.deepEqual(hello.auth.scopes, ["operator.read"]);
      client.stop();
    } finally {
      far.close();
    }
  },
  "a connection that is cut comes back by itself and hears again": async () => {
    const between = await relay();
    const closed = [];
    const session = await connect({ url: between.url, clientName: "cli", mode: "cli",
      onClose: (code) => closed.push(code) });
    const back = new Promise((resolve) => {
      const push = session.hellos.push.bind(session.hellos);
      session.hellos.push = (hello) => (push(hello), resolve(hello));
    });
    between.cut();
    assert.equal((await within(back, "second hello")).protocol, 4);
    assert.equal(closed.length, 1);
    const job = await session.client.request("cron.add", { ...tea, name: "after" });
    await session.next("cron", (cron) => cron.action === "added" && cron.jobId === job.id);
    await session.client.request("cron.remove", { id: job.id });
    session.client.stop();
    between.close();
  },
  "sequence numbers of one connection leave no gap": async () => {
    const numbers = owner.events.filter((event) => typeof event.seq === "number").map((event) => event.seq);
    assert.deepEqual(numbers, numbers.map((_, at) => at + 1));
  },
  "a session is changed and listed": { needs: ["sessions.patch", "sessions.delete"], does: async () => {
    await call("sessions.patch", { key: "agent:main:trial", label: "trial" });
    const { sessions } = await call("sessions.list", {});
    assert.ok(sessions.some((one) => one.key === "agent:main:trial" && one.label === "trial"));
    await call("sessions.delete", { key: "agent:main:trial" });
  } },
  "changes of sessions are heard by who subscribed": { needs: ["sessions.subscribe", "sessions.patch"], does: async () => {
    await call("sessions.subscribe");
    await call("sessions.patch", { key: "agent:main:heard", label: "heard" });
    await owner.next("sessions.changed");
  } },
  "configuration is patched with its hash and refused with an old one": { needs: ["config.patch"], does: async () => {
    const { hash } = await call("config.get");
    await call("config.patch", { raw: JSON.stringify({ cron: { maxConcurrentRuns: 3 } }), baseHash: hash });
    const after = await call("config.get");
    assert.equal(after.config.cron.maxConcurrentRuns, 3);
    await failure(call("config.patch", { raw: JSON.stringify({ cron: { maxConcurrentRuns: 4 } }), baseHash: hash }));
  } },
  "a node is invoked and answers": { needs: ["node.invoke"], does: async () => {
    const host = hostOf(newDevice());
    const wanted = { clientName: "node-host", mode: "node", role: "node", scopes: [], platform: "linux",
      caps: ["system"], commands: ["system.which"], deviceIdentity: undefined, hostDeps: host };
    let node = await connect(wanted);
    const nodeId = host.loadOrCreateDeviceIdentity().deviceId;
    // Its commands may wait for an approval of their own.
    const { pending = [] } = await call("node.pair.list");
    for (const one of pending.filter((one) => one.nodeId === nodeId)) {
      await call("node.pair.approve", { requestId: one.requestId });
      node.client.stop();
      node = await connect(wanted);
    }
    const answer = call("node.invoke", { nodeId, command: "system.which", params: { bins: ["sh"] },
      timeoutMs: 10_000, idempotencyKey: "trial-1" });
    answer.catch(() => {});
    const asked = await Promise.race([node.next("node.invoke.request"), answer.then(() => {
      throw new Error("it was answered before the node was asked");
    })]);
    assert.equal(asked.payload.command, "system.which");
    await node.client.request("node.invoke.result", { id: asked.payload.id, nodeId, ok: true,
      payloadJSON: JSON.stringify({ bins: { sh: "/bin/sh" } }) });
    const result = await answer;
    assert.equal(result.ok, true);
    assert.equal((result.payload ?? JSON.parse(result.payloadJSON)).bins.sh, "/bin/sh");
    node.client.stop();
  } },
};

await run(cases, serves);
owner.client.stop();
