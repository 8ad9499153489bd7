// A client of the gateway with a device of its own, as any program would write it.

import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { within } from "./browser.mjs";

export class Device {
  constructor() {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    const raw = Buffer.from(publicKey.export({ format: "jwk" }).x, "base64url");
    this.privateKey = privateKey;
    this.publicKey = raw.toString("base64url");
    this.id = createHash("sha256").update(raw).digest("hex");
  }

  proof({ client, role, scopes, token, nonce }) {
    const signedAt = Date.now();
    const text = ["v2", this.id, client.id, client.mode, role, scopes.join(","), signedAt, token, nonce].join("|");
    const signature = sign(null, Buffer.from(text), this.privateKey).toString("base64url");
    return { id: this.id, publicKey: this.publicKey, signature, signedAt, nonce };
  }
}

/** An answer that is a refusal. */
export class Refused extends Error {
  constructor(method, error) {
    super(`${method}: ${error.message}`);
    this.error = error;
  }
}

export class Peer {
  /** Connects, or throws what the gateway says. `more` goes into the connect's params. */
  static async connect(address, { token, device, client, role = "operator", scopes = [], headers = {}, more = {} }) {
    const peer = new Peer(new WebSocket(address.replace(/^http/, "ws"), { headers }));
    const { nonce } = await within(peer.challenge, "no challenge");
    const proof = device.proof({ client, role, scopes, token, nonce });
    await peer.call("connect", {
      minProtocol: 3, maxProtocol: 3, client: { version: "1.0", platform: "linux", ...client }, role, scopes,
      device: proof, auth: { token }, ...more,
    });
    return peer;
  }

  constructor(socket) {
    this.socket = socket;
    this.next = 1;
    this.waiting = new Map();
    this.challenge = new Promise((resolve, reject) => {
      socket.onerror = () => reject(new Error("the gateway cannot be reached"));
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.event === "connect.challenge") resolve(frame.payload);
        if (frame.type === "res") this.waiting.get(frame.id)?.(frame);
      };
    });
  }

  async call(method, params = {}) {
    const id = String(this.next++);
    const answer = new Promise((resolve) => this.waiting.set(id, resolve));
    this.socket.send(JSON.stringify({ type: "req", id, method, params }));
    const frame = await within(answer, `${method} is not answered`);
    if (!frame.ok) throw new Refused(method, frame.error);
    return frame.payload;
  }

  close() {
    this.socket.close();
  }
}
