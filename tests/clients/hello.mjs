// Prints the names of the methods that the gateway's hello advertises on wire 4.
import { connect } from "./connect.mjs";

const { client, hello } = await connect();
console.log(JSON.stringify(hello.features.methods));
client.stop();
