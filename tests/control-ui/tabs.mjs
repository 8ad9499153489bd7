// What each tab asks for, and what of the gateway's state must then stand on it. The calls are those
// that the page makes of its own accord, as recorded from OpenClaw's own gateway.

export const names = {
  session: "holiday plans",
  note: "a note that was put into the transcript",
  job: "water the plants",
  phone: "Phone on the road",
  node: "Attic machine",
  agent: "Mia",
  bindHost: "192.0.2.77",
};

export const tabs = [
  {
    tab: "chat",
    calls: ["chat.history", "sessions.list", "agents.list", "agent.identity.get", "models.list", "node.list"],
    shows: [names.note, names.agent],
  },
  {
    tab: "overview",
    calls: ["channels.status", "system-presence", "sessions.list", "cron.status", "cron.list", "status", "health",
      "models.list", "last-heartbeat", "skills.status", "sessions.usage", "usage.cost", "logs.tail"],
    shows: [names.session, "1 job"],
  },
  { tab: "channels", calls: ["channels.status", "config.schema", "config.get"], shows: ["Channel health"] },
  { tab: "instances", calls: ["system-presence"], shows: ["operator", "webchat"] },
  { tab: "sessions", calls: ["sessions.list"], shows: ["agent:main:main", names.session] },
  // The page has what it needs from the overview.
  { tab: "usage", calls: [], shows: ["1 sessions in range"] },
  {
    tab: "cron",
    calls: ["cron.status", "cron.list", "cron.runs", "channels.status"],
    shows: [names.job, "plants are thirsty"],
  },
  { tab: "agents", calls: ["agents.list", "config.get", "agent.identity.get"], shows: [names.agent, "main"] },
  { tab: "skills", calls: ["skills.status"], shows: ["Skills"] },
  {
    tab: "nodes",
    calls: ["node.list", "device.pair.list", "config.get", "exec.approvals.get"],
    shows: [names.node, names.phone, "Exec approvals"],
  },
  { tab: "config", calls: ["config.schema", "config.get"], shows: ["No changes", "Form", "Raw"] },
  { tab: "communications", calls: ["config.schema", "config.get"], shows: ["Messages"] },
  { tab: "appearance", calls: ["config.schema", "config.get"], shows: ["Theme"] },
  { tab: "automation", calls: ["config.schema", "config.get"], shows: ["Cron"] },
  { tab: "infrastructure", calls: ["config.schema", "config.get"], shows: ["Gateway", names.bindHost] },
  { tab: "ai-agents", calls: ["config.schema", "config.get"], shows: ["Agents"] },
  { tab: "debug", calls: ["status", "health", "models.list", "last-heartbeat"], shows: ["\"heartbeat\""] },
  { tab: "logs", calls: ["logs.tail"], shows: ["pairing required"] },
];
