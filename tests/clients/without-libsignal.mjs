// The interop kit installs OpenClaw without libsignal, which a channel that no case uses is made of
// and which `agent` loads all the same. It gets a module in its place that has the names.
import { registerHooks } from "node:module";

const names = "calculateMAC calculateSignature verifySignature decrypt encrypt deriveSecrets generateKeyPair".split(" ");
const source = names.map((name) => `export const ${name} = undefined;`).join("");

registerHooks({
  resolve: (specifier, context, next) => /^libsignal(\/|$)/.test(specifier)
    ? { url: `data:text/javascript,${encodeURIComponent(source)}`, shortCircuit: true } : next(specifier, context),
});
