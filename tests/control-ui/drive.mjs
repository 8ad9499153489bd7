// Drives the Control UI through everything that it has; see ./run.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openBrowser, within } from "../browser/browser.mjs";
import { startProgram } from "../browser/gateway.mjs";
import { Device, Peer } from "../browser/peer.mjs";
import { names, tabs } from "./tabs.mjs";
import { BEFORE_TOOL, SLOW_WORDS, WORDS, configOf, startProvider } from "../provider.mjs";

const { values: options } = parseArgs({
  options: Object.fromEntries(
    ["chromium", "root", "bin", "out", "url", "token", "only"].map((name) => [name, { type: "string" }]),
  ),
});
const OPERATOR = ["operator.admin", "operator.approvals", "operator.pairing"];
const CLI = { id: "cli", mode: "cli", displayName: "Setup" };
/** Something that forwards: whoever comes through it is not on this machine. */
const ELSEWHERE = { "X-Forwarded-For": "203.0.113.9" };

/** Starts a gateway with the UI, and models of a provider, on a state directory of its own. */
async function startGateway(models) {
  const token = "control-ui-shared-token";
  const config = {
    gateway: {
      mode: "local", auth: { mode: "token", token }, controlUi: { root: options.root }, customBindHost: names.bindHost,
    },
    ...models, agents: { ...models.agents, list: [{ id: "main", identity: { name: names.agent } }] },
  };
  return { ...await startProgram(options.bin, config), token };
}

/** Everything that the tabs should show. What cannot be made is told, and then missing on its tab. */
async function fill(address, token, report) {
  const operator = await Peer.connect(address, { token, device: new Device(), client: CLI, scopes: OPERATOR });
  const made = async (what, run) => {
    try {
      await run();
    } catch (error) {
      report.push({ step: `making ${what}`, faults: [error.message] });
    }
  };
  await made("a session", async () => {
    await operator.call("sessions.patch", { key: "main", label: names.session });
    await operator.call("chat.inject", { sessionKey: "main", message: names.note });
  });
  await made("a job that ran", async () => {
    const job = await operator.call("cron.add", {
      name: names.job, enabled: true, schedule: { kind: "every", everyMs: 3_600_000 }, sessionTarget: "main",
      wakeMode: "next-heartbeat", payload: { kind: "systemEvent", text: "the plants are thirsty" },
    });
    await operator.call("cron.run", { id: job.id, mode: "force" });
  });
  const nodes = [];
  await made("a node", async () => {
    nodes.push(await Peer.connect(address, {
      token, device: new Device(), role: "node",
      client: { id: "node-host", mode: "node", displayName: names.node, platform: "linux" },
      more: { caps: ["system"], commands: ["system.run", "system.which"] },
    }));
  });
  const phone = { token, device: new Device(), client: { ...CLI, displayName: names.phone }, scopes: ["operator.read"],
    headers: ELSEWHERE };
  await made("a device that asks", async () => {
    const refusal = await Peer.connect(address, phone).then(() => null, (error) => error);
    if (!/pairing required/.test(refusal?.message)) throw new Error(`a device from elsewhere: ${refusal?.message}`);
  });
  return { operator, nodes, phone };
}

/** Writes a message into the chat and sends it, as somebody at the page would. */
async function say(page, message) {
  await page.evaluate((message) => {
    const field = document.querySelector(".agent-chat__input textarea");
    field.value = message;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }, message);
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => {
    document.querySelector(".chat-send-btn:not(.chat-send-btn--stop)").click();
    resolve();
  })));
}

/** What is wrong on the page now: banners, refusals, errors. */
async function faults(page, from) {
  const banners = await page.evaluate(() => [...document.querySelectorAll(".callout.danger, .pill.danger")]
    .map((element) => element.textContent.trim().replace(/\s+/g, " ")).filter((text) => text));
  const refused = page.calls.slice(from).filter((call) => call.answer && !call.answer.ok);
  return [
    ...new Set([
      ...page.faults.splice(0),
      ...banners.map((text) => `banner: ${text}`),
      ...refused.map(({ method, answer }) => `${method} is refused: ${answer.error?.message}`),
    ]),
  ];
}

/** A conversation in the chat tab. */
async function converse(page, step, gateway, provider) {
  const whole = WORDS.join("");
  const slow = SLOW_WORDS.join("");
  const ended = (state, from) => page.until(
    () => page.events.slice(from).some(({ event, payload }) => event === "chat" && payload.state === state),
    `no word that it is ${state}`);

  await step("chat-streams", async () => {
    const from = page.events.length;
    await page.evaluate(() => document.querySelector('a.nav-item[href$="/chat"]').click());
    await page.shows([names.note]);
    await say(page, "STEP by step");
    await page.shows([WORDS[0]], ".chat-bubble.streaming");
    await page.shows(["STEP by step"]);
    const early = await page.evaluate(() => document.querySelector(".chat-bubble.streaming").textContent);
    if (early.includes(whole)) throw new Error("the answer was there before it was made");
    provider.go();
    await ended("final", from);
    await page.shows([whole]);
  });

  await step("chat-tool", async () => {
    const from = page.events.length;
    await say(page, "USE_TOOL please");
    await ended("final", from);
    await page.shows([BEFORE_TOOL, "echo tool-ran", "tool-ran"]);
    await page.shows(["Exec"], ".chat-tool-card");
    const tools = page.events.slice(from).filter(({ payload }) => payload.stream === "tool").map(({ payload }) => payload.data);
    const phases = tools.map(({ phase, name }) => `${phase} ${name}`);
    if (phases[0] !== "start exec" || phases.at(-1) !== "result exec") throw new Error(`the page heard ${phases}`);
    if (provider.asked.at(-1).messages.at(-1).role !== "tool") throw new Error("the model was not told of the result");
  });

  await step("chat-abort", async (calls) => {
    const from = page.events.length;
    await say(page, "SLOW please");
    await page.shows([slow], ".chat-bubble.streaming");
    await page.evaluate(() => document.querySelector(".chat-send-btn--stop").click());
    await page.until(() => page.calls.slice(calls).some(({ method, answer }) => method === "chat.abort" && answer?.payload?.aborted),
      "the abort is not answered");
    await ended("aborted", from);
    await within(provider.untilGone(1), "the provider's request goes on");
    await page.shows([slow]);
    const left = await page.evaluate(() => document.querySelectorAll(".chat-send-btn--stop, .chat-bubble.streaming").length);
    if (left > 0) throw new Error("the page still waits");
  });

  await step("chat-reload", async (from) => {
    await page.send("Page.navigate", { url: `${gateway.address}chat` });
    await page.until(() => page.calls.slice(from).some(({ method, answer }) => method === "chat.history" && answer?.ok),
      "the page does not ask for what was said");
    await page.shows([names.note, "STEP by step", whole, "USE_TOOL please", BEFORE_TOOL, "tool-ran", "SLOW please", slow]);
    const since = page.events.length;
    await say(page, "and now");
    await ended("final", since);
  });
}

async function main() {
  mkdirSync(options.out, { recursive: true });
  const report = [];
  // A gateway that runs already has models of its own, or none: nothing is said there.
  const provider = options.url ? null : await startProvider();
  const gateway = options.url ? { address: options.url, token: options.token, close() {} }
    : await startGateway(configOf(provider.url));
  const browser = await openBrowser(options.chromium);
  const { page } = browser;
  const step = async (name, run) => {
    const from = page.calls.length;
    const found = [];
    await run(from).catch((error) => found.push(error.message));
    found.push(...await faults(page, from));
    await page.screenshot(join(options.out, `${name}.png`));
    report.push({ step: name, faults: found });
    console.log(`${found.length === 0 ? "ok  " : "FAIL"} ${name}${found.map((fault) => `\n       ${fault}`).join("")}`);
  };
  try {
    const { operator, nodes, phone } = await fill(gateway.address, gateway.token, report);
    for (const { step, faults } of report) console.log(`FAIL ${step}\n       ${faults.join("\n       ")}`);

    await step("wrong-token", async () => {
      await page.send("Page.navigate", { url: `${gateway.address}#token=wrong` });
      await page.until(() => page.calls.some((call) => call.method === "connect" && call.answer),
        "the page does not try to connect");
      await page.shows(["unauthorized", "token"], ".login-gate .callout.danger");
      // That is what it should say; and it gives up, instead of trying until it is locked out.
      page.calls.length = 0;
      await page.send("Page.navigate", { url: "about:blank" });
    });

    await step("login", async () => {
      await page.send("Page.navigate", { url: `${gateway.address}#token=${gateway.token}` });
      await page.until(() => page.calls.some((call) => call.method === "connect" && call.answer?.ok),
        "the page does not connect");
      const place = await page.evaluate(() => location.href);
      if (place.includes(gateway.token)) throw new Error("the token stays in the address");
      const { paired } = await operator.call("device.pair.list");
      if (!paired.some((device) => device.clientId === "openclaw-control-ui")) {
        throw new Error("the browser is not among the paired devices");
      }
    });

    for (const { tab, calls, shows } of tabs) {
      await step(tab, async (from) => {
        // The chat is what the page begins with.
        const since = tab === "chat" ? 0 : from;
        // A line of today, whenever the gateway was started.
        if (tab === "logs") await Peer.connect(gateway.address, phone).catch(() => {});
        if (tab !== "chat") {
          await page.evaluate((tab) => document.querySelector(`a.nav-item[href$="/${tab}"]`).click(), tab);
        }
        const missing = () => calls.filter((method) =>
          !page.calls.slice(since).some((call) => call.method === method && call.answer));
        await page.until(() => missing().length === 0, () => `not called or not answered: ${missing().join(", ")}`);
        await page.shows(shows);
      });
    }

    await step("approve", async () => {
      await page.evaluate(() => document.querySelector(`a.nav-item[href$="/nodes"]`).click());
      await page.shows([names.phone, "Pending", "Approve"]);
      await page.evaluate((name) => {
        const row = [...document.querySelectorAll(".list-item")].find((row) => row.textContent.includes(name)
          && row.textContent.includes("Approve"));
        [...row.querySelectorAll("button")].find((button) => button.textContent.trim() === "Approve").click();
      }, names.phone);
      await page.until(() => page.calls.some((call) => call.method === "device.pair.approve" && call.answer?.ok),
        "the approval is not answered");
      (await Peer.connect(gateway.address, phone)).close();
    });

    await step("reload", async (from) => {
      await page.send("Page.navigate", { url: `${gateway.address}cron` });
      await page.until(() => page.calls.slice(from).some((call) => call.method === "cron.list" && call.answer?.ok),
        "the page does not come back");
      await page.shows([names.job]);
    });

    if (provider) await converse(page, step, gateway, provider);

    for (const peer of [operator, ...nodes]) peer.close();
  } finally {
    await browser.close();
    await gateway.close();
    provider?.close();
  }
  writeFileSync(join(options.out, "report.json"), JSON.stringify(report, null, 2));
  const failed = report.filter(({ faults }) => faults.length > 0);
  console.log(`${report.length - failed.length} of ${report.length} ok; see ${options.out}`);
  process.exitCode = failed.length === 0 ? 0 : 1;
}

await main();
