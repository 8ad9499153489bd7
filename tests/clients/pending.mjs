// A device that asks from elsewhere and is told to wait: prints its request.
import { connect, hostOf, newDevice, relay } from "./connect.mjs";

const far = await relay("X-Forwarded-For: 203.0.113.7\r\n");
const device = newDevice();
try {
  await connect({ url: far.url, clientName: "openclaw-tui", mode: "ui", scopes: ["operator.read"],
    deviceIdentity: undefined, hostDeps: hostOf(device) });
} catch (error) {
  console.log(JSON.stringify({ code: error.details?.code, requestId: error.details?.requestId, deviceId: device.deviceId }));
}
far.close();
process.exit(0);
