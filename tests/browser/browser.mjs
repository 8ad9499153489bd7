// A browser that is told what to do over its DevTools socket.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How long anything may take on a busy machine. */
export const PATIENCE_MS = 60_000;

/** Fails with `what` unless `promise` is settled in time. */
export function within(promise, what, ms = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(typeof what === "function" ? what() : what)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Whatever ends this program ends what it started. */
export function endsWithUs(child) {
  process.once("exit", () => child.kill());
  return child;
}
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

/**
 * Starts Chromium without a window and without a way to other hosts; gives its one page. `hosts` are names
 * that lead to this machine in it.
 */
export async function openBrowser(program, hosts = []) {
  const rules = [...hosts.map((host) => `MAP ${host} 127.0.0.1`), "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"].join(", ");
  const profile = mkdtempSync(join(tmpdir(), "control-ui-"));
  const child = endsWithUs(spawn(program, [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--remote-debugging-port=0", `--user-data-dir=${profile}`, "--window-size=1400,1000", "--lang=en-US",
    `--host-resolver-rules=${rules}`, "--disable-background-networking", "--disable-component-update",
    "about:blank",
  ], { stdio: ["ignore", "ignore", "pipe"] }));
  let said = "";
  const address = await within(new Promise((resolve, reject) => {
    child.stderr.on("data", (data) => {
      said += data;
      const found = said.match(/DevTools listening on (ws:\S+)/);
      if (found) resolve(found[1]);
    });
    child.once("exit", () => reject(new Error(`the browser ended: ${said}`)));
  }), () => `the browser does not start: ${said}`);
  const targets = await (await fetch(`http://${new URL(address).host}/json/list`)).json();
  const page = await Page.attach(targets.find((target) => target.type === "page").webSocketDebuggerUrl);
  const close = async () => {
    // Its helpers outlive it and still write into the profile; the last of them closes the pipe.
    const gone = new Promise((resolve) => child.once("close", resolve));
    child.kill();
    await within(gone, "the browser does not end");
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  return { page, close };
}

/** One page: what it sent over its socket, what went wrong on it, and what stands on it. */
class Page {
  static async attach(url) {
    const page = new Page(new WebSocket(url));
    await within(new Promise((resolve) => { page.socket.onopen = resolve; }), "no page");
    for (const domain of ["Page", "Runtime", "Network", "Log"]) await page.send(`${domain}.enable`);
    return page;
  }

  constructor(socket) {
    this.socket = socket;
    this.next = 1;
    this.waiting = new Map();
    /** What went wrong since it was last asked for. */
    this.faults = [];
    /** Calls over the page's WebSocket, in order: {id, method, params, answer?}. */
    this.calls = [];
    /** Events that came over it, in order: {event, payload}. */
    this.events = [];
    this.watchers = new Set();
    socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
  }

  send(method, params = {}) {
    const id = this.next++;
    const answer = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    this.socket.send(JSON.stringify({ id, method, params }));
    return within(answer, `${method} is not answered`);
  }

  hear(message) {
    if (message.id) {
      const { resolve, reject } = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.error) reject(new Error(message.error.message));
      else resolve(message.result);
      return;
    }
    const { method, params } = message;
    if (method === "Runtime.exceptionThrown") {
      const { text, exception } = params.exceptionDetails;
      this.faults.push(`uncaught: ${exception?.description ?? text}`);
    } else if (method === "Log.entryAdded" && params.entry.level === "error") {
      const { url = "", text } = params.entry;
      // There is no way to other hosts here.
      if (!/^https:/.test(url)) this.faults.push(`${text} ${url}`);
    } else if (method === "Network.webSocketFrameSent") {
      const frame = parsed(params.response.payloadData);
      if (frame?.type === "req") this.calls.push({ id: frame.id, method: frame.method, params: frame.params });
    } else if (method === "Network.webSocketFrameReceived") {
      const frame = parsed(params.response.payloadData);
      const call = frame?.type === "res" && this.calls.find((call) => call.id === frame.id);
      if (call) call.answer = frame;
      if (frame?.type === "event") this.events.push({ event: frame.event, payload: frame.payload ?? {} });
    }
    for (const watcher of this.watchers) watcher();
  }

  /** Waits until a look at what was heard is good. */
  until(isGood, what) {
    let watcher;
    const seen = new Promise((resolve) => {
      watcher = () => isGood() && resolve();
      this.watchers.add(watcher);
      watcher();
    });
    return within(seen, what).finally(() => this.watchers.delete(watcher));
  }

  /** Runs a function in the page; its arguments and its result are JSON. */
  async evaluate(run, ...args) {
    const expression = `(${run})(...${JSON.stringify(args)})`;
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression, awaitPromise: true, returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until every text stands on the page, in what is written or filled in. */
  async shows(texts, where = "main") {
    const missing = await this.evaluate((texts, where, ms) => new Promise((resolve) => {
      const missing = () => {
        const place = document.querySelector(where);
        const filled = [...(place?.querySelectorAll("input,textarea,select") ?? [])].map((field) => field.value);
        const all = `${place?.textContent ?? ""}\n${filled.join("\n")}`;
        return texts.filter((text) => !all.includes(text));
      };
      const look = () => {
        const left = missing();
        if (left.length > 0 && Date.now() < end) return;
        observer.disconnect();
        clearInterval(timer);
        resolve(left);
      };
      const end = Date.now() + ms;
      const observer = new MutationObserver(look);
      observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
      // A field's value changes without a mutation.
      const timer = setInterval(look, 250);
      look();
    }), texts, where, PATIENCE_MS / 3);
    if (missing.length > 0) throw new Error(`not on the page: ${missing.map((text) => JSON.stringify(text)).join(", ")}`);
  }

  async screenshot(path) {
    const { data } = await this.send("Page.captureScreenshot", { format: "png", captureBeyondViewport: false });
    writeFileSync(path, Buffer.from(data, "base64"));
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
