// Opens pages of strangers in a browser and lets them try; see ./run.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { openBrowser, within } from "../browser/browser.mjs";
import { startProgram } from "../browser/gateway.mjs";
import { Device, Peer } from "../browser/peer.mjs";
import { configOf, startProvider } from "../provider.mjs";
import { connects, embeds, posts, reads } from "./attempts.mjs";

const { values: options } = parseArgs({
  options: Object.fromEntries(["chromium", "bin"].map((name) => [name, { type: "string" }])),
});
const TOKEN = "foreign-page-shared-token";
const HOOK = "foreign-page-hook-token";
const STRANGER = "stranger.example";
const FRIEND = "friend.example";
const ASSISTANT = "Only friends know this name";
/** What a page is told before it has a credential, whatever the gateway's assistant is. */
const CONSTANTS = JSON.stringify(
  { basePath: "", assistantName: "Assistant", assistantAvatar: "A", assistantAgentId: null, serverVersion: null },
);
/** More than the failures after which an address of elsewhere is locked out. */
const GUESSES = Array.from({ length: 25 }, (_, number) => `guess-${number}`);
const CLIENTS = [
  { id: "openclaw-control-ui", mode: "webchat" },
  { id: "cli", mode: "cli" },
  { id: "gateway-client", mode: "backend" },
];
/** What tells something of the gateway to whoever may ask. */
const TELLING = ["/v1/models", "/v1/models/openclaw", "/tools/invoke", "/hooks/wake", "/__openclaw/control-ui-config.json",
  "/avatar/main", "/sessions/main/history", "/api/channels"];
/** What does something for whoever may ask. */
const ACTING = ["/hooks/wake", "/hooks/agent", "/v1/chat/completions", "/v1/responses", "/tools/invoke"];

const config = (auth, friend, models) => ({
  gateway: {
    mode: "local", auth, http: { endpoints: { chatCompletions: { enabled: true }, responses: { enabled: true } } },
    controlUi: { allowedOrigins: [friend] },
  },
  hooks: { enabled: true, token: HOOK },
  ...models, agents: { ...models.agents, list: [{ id: "main", identity: { name: ASSISTANT } }] },
});

/** Pages of other sites, whose names lead to this machine: what they serve is empty. */
async function startSites() {
  const server = createServer((_, answer) => {
    answer.setHeader("Content-Type", "text/html");
    answer.end("<!doctype html><title>a page</title><body></body>");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  return { of: (name) => `http://${name}:${port}`, close: () => server.close() };
}

async function main() {
  const provider = await startProvider();
  const sites = await startSites();
  const browser = await openBrowser(options.chromium, [STRANGER, FRIEND]);
  let passed = 0;
  let failed = 0;
  const check = async (name, run) => {
    try {
      await run();
      passed += 1;
      console.log(`ok    ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}\n      ${error.message}`);
    }
  };
  const wrong = (what, found) => {
    throw new Error(`${what}: ${JSON.stringify(found).slice(0, 600)}`);
  };
  const { page } = browser;
  const open = async (url) => {
    const before = await page.evaluate(() => performance.timeOrigin);
    await page.send("Page.navigate", { url });
    for (;;) {
      // While a page goes, the question goes with it.
      const there = await page.evaluate(() => ({ at: performance.timeOrigin, ready: document.readyState === "complete" }))
        .catch(() => null);
      if (there && there.at !== before && there.ready) return;
    }
  };

  for (const [mode, auth] of [["token", { mode: "token", token: TOKEN }], ["none", { mode: "none" }]]) {
    const gateway = await startProgram(options.bin, config(auth, sites.of(FRIEND), configOf(provider.url)));
    const { port } = new URL(gateway.address);
    const rebound = `http://${STRANGER}:${port}/`;
    const place = { gateway: gateway.address, secret: TOKEN };
    const asked = provider.asked.length;
    try {
      // A page that may: the same attempt comes to something.
      await check(`${mode}/an-allowed-page-connects`, async () => {
        await open(sites.of(FRIEND));
        const all = await page.evaluate(connects, { ...place, secrets: [TOKEN], protocol: 3, client: CLIENTS[0] });
        // Without a device it is bounded, or refused for that: either way its page was welcome.
        if (!all[0].hello && !/DEVICE/.test(all[0].said.join())) wrong("an allowed page", all);
      });
      const pages = [["foreign", sites.of(STRANGER), gateway.address], ["rebound", rebound, rebound]];
      for (const [kind, url, target] of pages) {
        const there = { ...place, gateway: target };
        await check(`${mode}/${kind}-page-does-not-connect`, async () => {
          await open(url);
          for (const protocol of [3, 4]) {
            for (const client of CLIENTS) {
              const all = await page.evaluate(connects, { ...there, secrets: [TOKEN, null], protocol, client });
              if (all.some(({ hello }) => hello)) wrong(`${client.id} on wire ${protocol}`, all);
            }
          }
        });
        await check(`${mode}/${kind}-page-does-not-guess`, async () => {
          const all = await page.evaluate(connects, { ...there, secrets: [...GUESSES, TOKEN], protocol: 3, client: CLIENTS[1] });
          if (all.some(({ hello }) => hello)) wrong("guesses", all.filter(({ hello }) => hello));
          // A right guess is told apart from a wrong one by nothing.
          const answers = new Set(all.map(({ said, code }) => JSON.stringify([said, code])));
          if (answers.size !== 1) wrong("answers to guesses differ", [...answers]);
        });
        await check(`${mode}/${kind}-page-reads-nothing`, async () => {
          const read = await page.evaluate(reads, { ...there, paths: TELLING });
          // The browser takes a rebound page for the gateway's own and hands it every answer; there is nothing in them.
          const told = kind === "foreign" ? read : read.filter(({ status, body }) => status < 400 && body !== CONSTANTS);
          if (told.length > 0) wrong("read", told);
        });
        await check(`${mode}/${kind}-page-sets-nothing-going`, async () => {
          await page.evaluate(posts, { ...there, paths: ACTING });
          await page.evaluate(posts, { ...there, secret: HOOK, paths: ACTING.slice(0, 2) });
        });
        await check(`${mode}/${kind}-page-embeds-nothing`, async () => {
          await open(url);
          const worked = await page.evaluate(embeds, { ...there, paths: TELLING });
          if (worked.length > 0) wrong("embedded", worked);
        });
      }
      await check(`${mode}/a-page-without-an-origin-does-not-connect`, async () => {
        await open(sites.of(STRANGER));
        const all = await page.evaluate(async (source, args) => {
          const frame = document.createElement("iframe");
          frame.sandbox = "allow-scripts";
          const told = new Promise((resolve) => addEventListener("message", ({ data }) => resolve(data), { once: true }));
          frame.srcdoc = `<script>(${source})(${JSON.stringify(args)}).then((all) => parent.postMessage(all, "*"))</script>`;
          document.body.append(frame);
          return told;
        }, String(connects), { ...place, secrets: [TOKEN, null], protocol: 3, client: CLIENTS[1] });
        if (all.some(({ hello }) => hello)) wrong("a page without an origin", all);
      });
      await check(`${mode}/nothing-came-of-it-and-the-owner-is-not-locked-out`, async () => {
        const scopes = ["operator.admin", "operator.pairing"];
        const owner = await Peer.connect(gateway.address, {
          token: TOKEN, device: new Device(), client: { id: "cli", mode: "cli" }, scopes,
        });
        const sessions = await owner.call("sessions.list");
        if (sessions.count !== 0) wrong("sessions", sessions);
        const { pending, paired } = await owner.call("device.pair.list");
        if (pending.length > 0 || paired.length > 1) wrong("devices", { pending, paired });
        const jobs = await owner.call("cron.list", { includeDisabled: true });
        if (jobs.total !== 0) wrong("jobs", jobs);
        if (provider.asked.length !== asked) wrong("the model was asked", provider.asked.slice(asked));
        if (gateway.log().includes(TOKEN) || gateway.log().includes(HOOK)) wrong("a secret is in the log", "");
        owner.close();
      });
      await check(`${mode}/the-same-of-a-program-does-something`, async () => {
        for (const [path, body] of [["hooks/wake", { text: "hello", mode: "now" }], ["hooks/agent", { message: "hello" }]]) {
          const before = provider.asked.length;
          const answer = await fetch(new URL(path, gateway.address), {
            method: "POST", headers: { Authorization: `Bearer ${HOOK}` }, body: JSON.stringify(body),
          });
          if (!answer.ok) wrong(path, await answer.text());
          await within(provider.untilAsked(before + 1), `${path}: the model is not asked`);
        }
      });
    } finally {
      await gateway.close();
    }
  }
  await browser.close();
  sites.close();
  provider.close();
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

await main();
