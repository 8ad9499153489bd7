// What the gateway answers on wire 4 against the schemas that are published for it.
import assert from "node:assert/strict";
import { connect, hostOf, newDevice, run } from "./connect.mjs";
import { fits } from "./schema.mjs";

const owner = await connect({ clientName: "cli", mode: "cli" });
const serves = owner.hello.features.methods;
const call = (method, params = {}) => owner.client.request(method, params);

const cases = {
  "the hello": () => fits("HelloOk", owner.hello),
  "who is present": async () => (await call("system-presence")).forEach((one) => fits("PresenceEntry", one)),
  "jobs, their runs and the answers of their changes": async () => {
    const common = { sessionTarget: "main", wakeMode: "now", payload: { kind: "systemEvent", text: "x" } };
    const jobs = [];
    for (const schedule of [{ kind: "every", everyMs: 60_000 }, { kind: "cron", expr: "0 9 * * *", tz: "UTC" },
      { kind: "at", at: new Date(Date.now() + 3_600_000).toISOString() }])
      jobs.push(await call("cron.add", { ...common, name: schedule.kind, schedule }));
    jobs.push(await call("cron.add", { ...common, sessionTarget: "isolated", name: "command",
      schedule: { kind: "every", everyMs: 60_000 }, payload: { kind: "command", argv: ["/bin/true"] } }));
    jobs.forEach((job) => fits("CronJob", job));
    for (const { id } of jobs) {
      await call("cron.run", { id, mode: "force" });
      await owner.next("cron", (cron) => cron.action === "finished" && cron.jobId === id);
    }
    (await call("cron.list", { includeDisabled: true })).jobs.forEach((job) => fits("CronJob", job));
    const { entries } = await call("cron.runs", { scope: "all" });
    assert.ok(entries.length >= 4);
    entries.forEach((one) => fits("CronRunLogEntry", one));
    for (const { id } of jobs) await call("cron.remove", { id });
  },
  "errors": async () => {
    for (const [method, params] of [["no.such.method", {}], ["cron.list", { limit: 0 }], ["cron.get", { id: "x" }],
      ["device.pair.approve", { requestId: "x" }]]) {
      const error = await call(method, params).then(() => null, (error) => error);
      assert.ok(error, method);
      fits("ErrorShape", { code: error.gatewayCode, message: error.message, ...(error.details && { details: error.details }) });
    }
  },
  "events of pairing": async () => {
    const host = hostOf(newDevice());
    const { client } = await connect({ clientName: "openclaw-tui", mode: "ui", deviceIdentity: undefined, hostDeps: host });
    client.stop();
    fits("DevicePairResolvedEvent", (await owner.next("device.pair.resolved")).payload);
  },
};
const answers = [
  ["agents.list", {}, "AgentsListResult"],
  ["models.list", {}, "ModelsListResult"],
  ["logs.tail", { limit: 5 }, "LogsTailResult"],
  ["exec.approvals.get", {}, "ExecApprovalsSnapshot"],
  ["tools.catalog", {}, "ToolsCatalogResult"],
  ["channels.status", {}, "ChannelsStatusResult"],
  ["config.schema", {}, "ConfigSchemaResponse"],
  ["config.schema.lookup", { path: "gateway.port" }, "ConfigSchemaLookupResult"],
  ["talk.config", {}, "TalkConfigResult"],
  ["agent.identity.get", {}, "AgentIdentityResult"],
  ["agents.files.list", { agentId: "main" }, "AgentsFilesListResult"],
];
for (const [method, params, name] of answers)
  cases[`the answer of ${method}`] = { needs: [method], does: async () => fits(name, await call(method, params)) };
cases["sessions"] = { needs: ["sessions.patch"], does: async () => {
  await call("sessions.patch", { key: "agent:main:schemas", label: "schemas" });
  (await call("sessions.list")).sessions.forEach((one) => fits("SessionRow", one));
} };

await run(cases, serves);
owner.client.stop();
