// A gateway of its own for a test.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endsWithUs, within } from "./browser.mjs";

/** Starts the program with a configuration, on a state directory of its own; gives where it listens. */
export async function startProgram(bin, config) {
  const home = mkdtempSync(join(tmpdir(), "browser-gateway-"));
  writeFileSync(join(home, "clawgate.json"), JSON.stringify(config, null, 2));
  const child = endsWithUs(spawn(bin, ["gateway", "run", "--port", "0", "--state-dir", join(home, "state"), "--config",
    join(home, "clawgate.json")], {
    env: { HOME: home, PATH: process.env.PATH, NO_COLOR: "1" }, stdio: ["ignore", "ignore", "pipe"],
  }));
  let said = "";
  const address = await within(new Promise((resolve, reject) => {
    child.stderr.on("data", (data) => {
      said += data;
      const found = said.match(/listening url=ws:\/\/(\S+)/);
      if (found) resolve(`http://${found[1]}/`);
    });
    child.once("exit", () => reject(new Error(`the gateway ended: ${said}`)));
  }), () => `the gateway does not start: ${said}`);
  const close = async () => {
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill();
    await within(gone, "the gateway does not end");
    rmSync(home, { recursive: true, force: true });
  };
  return { address, close, log: () => said };
}
