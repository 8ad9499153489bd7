// What the gateway answers on wire 4 against the schemas that are published for it. The schemas
// allow no other properties and 2026.9.6 itself sends some, so those are not looked at.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { connect, hostOf, newDevice, run } from "./connect.mjs";

const require = createRequire(`${process.env.CLIENTS_DIR}/sdk/package.json`);
const entry = require.resolve("@openclaw/gateway-protocol");
const { definitions } = JSON.parse(readFileSync(join(dirname(entry), "../protocol.schema.json"), "utf8"));

const kinds = {
  null: (value) => value === null,
  array: Array.isArray,
  object: (value) => value !== null && typeof value === "object" && !Array.isArray(value),
  integer: Number.isInteger,
  number: (value) => typeof value === "number",
  string: (value) => typeof value === "string",
  boolean: (value) => typeof value === "boolean",
};

// What of a schema does not hold.
function wrongs(schema, value, path = "$") {
  if (schema.$ref) return wrongs(definitions[schema.$ref.split("/").at(-1)], value, path);
  const wrong = [];
  const say = (what) => wrong.push(`${path}: ${what}, got ${JSON.stringify(value)?.slice(0, 80)}`);
  for (const one of schema.allOf ?? []) wrong.push(...wrongs(one, value, path));
  const branches = schema.anyOf ?? schema.oneOf;
  if (branches) {
    const found = branches.map((branch) => wrongs(branch, value, path));
    if (!found.some((one) => one.length === 0))
      wrong.push(...found.reduce((least, one) => (one.length < least.length ? one : least)));
  }
  if ("const" in schema && value !== schema.const) say(`not ${JSON.stringify(schema.const)}`);
  if (schema.enum && !schema.enum.includes(value)) say(`not one of ${schema.enum}`);
  const types = [schema.type ?? []].flat();
  if (types.length > 0 && !types.some((type) => kinds[type](value))) {
    say(`no ${types.join("|")}`);
    return wrong;
  }
  if (value < schema.minimum) say(`below ${schema.minimum}`);
  if (value > schema.maximum) say(`above ${schema.maximum}`);
  if (typeof value === "string") {
    if (value.length < schema.minLength) say("too short");
    if (value.length > schema.maxLength) say("too long");
    if (schema.pattern && !new RegExp(schema.pattern, "u").test(value)) say(`no match of ${schema.pattern}`);
  }
  if (kinds.array(value) && schema.items && !Array.isArray(schema.items))
    value.forEach((item, at) => wrong.push(...wrongs(schema.items, item, `${path}/${at}`)));
  if (kinds.object(value)) {
    for (const name of schema.required ?? []) if (!(name in value)) wrong.push(`${path}/${name}: it is missing`);
    for (const [name, one] of Object.entries(schema.properties ?? {}))
      if (name in value) wrong.push(...wrongs(one, value[name], `${path}/${name}`));
    for (const [pattern, one] of Object.entries(schema.patternProperties ?? {}))
      for (const name of Object.keys(value))
        if (new RegExp(pattern, "u").test(name)) wrong.push(...wrongs(one, value[name], `${path}/${name}`));
  }
  return wrong;
}

const fits = (name, value) => {
  assert.ok(definitions[name], `there is no schema ${name}`);
  const wrong = wrongs(definitions[name], value);
  assert.equal(wrong.length, 0, `${name}: ${wrong.slice(0, 6).join("; ")}`);
};

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
