// The published SDK, found in CLIENTS_DIR, and what the cases need around it: a device key, waits
// with a deadline, and a relay whose connections can be cut.
import { generateKeyPairSync, createHash, createPublicKey, sign } from "node:crypto";
import { createServer, connect as dial } from "node:net";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.CLIENTS_DIR}/sdk/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
export const { GatewayClient } = await load("@openclaw/gateway-client");
export const protocol = await load("@openclaw/gateway-protocol");

const raw = (pem) =>
  createPublicKey(pem).export({ type: "spki", format: "der" }).subarray(-32);

// A device: an Ed25519 key in the form that the SDK takes.
export function newDevice() {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const publicKeyPem = publicKey.export({ type: "spki", format: "pem" });
  return {
    deviceId: createHash("sha256").update(raw(publicKeyPem)).digest("hex"),
    publicKeyPem,
    privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }),
  };
}

// What the SDK leaves to its host: signing, and keeping the device tokens that it is given.
export function hostOf(device, kept = new Map()) {
  return {
    kept,
    loadOrCreateDeviceIdentity: () => device,
    signDevicePayload: (pem, payload) => sign(null, Buffer.from(payload), pem).toString("base64url"),
    publicKeyRawBase64UrlFromPem: (pem) => raw(pem).toString("base64url"),
    loadDeviceAuthToken: ({ role }) => kept.get(role) ?? null,
    storeDeviceAuthToken: ({ role, token, scopes }) => kept.set(role, { token, scopes }),
    clearDeviceAuthToken: ({ role }) => kept.delete(role),
  };
}

export function within(promise, what, ms = 20_000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Connects the SDK's client; `events` collects what it receives, `next(name)` waits for one.
export async function connect(options = {}) {
  const events = [];
  const waiting = new Set();
  const hellos = [];
  let client;
  const hello = await within(
    new Promise((resolve, reject) => {
      client = new GatewayClient({
        url: process.env.GATEWAY_URL,
        token: process.env.GATEWAY_TOKEN,
        scopes: ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"],
        deviceIdentity: null,
        ...options,
        onHelloOk: (hello) => {
          hellos.push(hello);
          resolve(hello);
          options.onHelloOk?.(hello);
        },
        onConnectError: (error) => {
          options.onConnectError?.(error);
          reject(error);
        },
        onEvent: (event) => {
          events.push(event);
          for (const wait of waiting) wait(event);
          options.onEvent?.(event);
        },
      });
      client.start();
    }),
    "hello",
  ).catch((error) => {
    client.stop();
    throw error;
  });
  const next = (name, fits = () => true) => {
    const ready = events.find((event) => event.event === name && fits(event.payload));
    if (ready) return Promise.resolve(ready);
    return within(
      new Promise((resolve) => {
        const wait = (event) => {
          if (event.event !== name || !fits(event.payload)) return;
          waiting.delete(wait);
          resolve(event);
        };
        waiting.add(wait);
      }),
      `event ${name}`,
    );
  };
  return { client, hello, hellos, events, next };
}

// Forwards to the gateway; `cut()` ends every connection without a word.
export async function relay(headers = "") {
  const target = new URL(process.env.GATEWAY_URL);
  const sockets = new Set();
  const server = createServer((near) => {
    const far = dial(Number(target.port), target.hostname);
    let begun = headers === "";
    near.on("data", (bytes) => {
      if (!begun) {
        begun = true;
        const text = bytes.toString("latin1");
        const end = text.indexOf("\r\n") + 2;
        bytes = Buffer.from(text.slice(0, end) + headers + text.slice(end), "latin1");
      }
      far.write(bytes);
    });
    far.on("data", (bytes) => near.write(bytes));
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `ws://127.0.0.1:${server.address().port}`,
    cut: () => sockets.forEach((socket) => socket.destroy()),
    close: () => {
      sockets.forEach((socket) => socket.destroy());
      server.close();
    },
  };
}

// Runs cases one after the other and prints what became of them.
export async function run(cases, serves) {
  for (const [name, one] of Object.entries(cases)) {
    const { needs = [], does = one } = typeof one === "function" ? {} : one;
    const missing = needs.filter((method) => !serves.includes(method));
    if (missing.length > 0) {
      console.log(`wait ${name}: ${missing.join(", ")} is not served`);
      continue;
    }
    try {
      await does();
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`FAIL ${name}: ${String(error?.message ?? error).replaceAll("\n", " ")}`);
    }
  }
}
