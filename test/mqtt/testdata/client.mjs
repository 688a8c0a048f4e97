// A client of mqtt.js that is told what to do by lines of JSON on stdin, and says on stdout what happens.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import mqtt from "mqtt";

const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const [url, text] = process.argv.slice(2);
const options = JSON.parse(text);
if (options.ca) options.ca = readFileSync(options.ca);
if (options.will) options.will.payload = Buffer.from(options.will.payload, "base64");

const client = mqtt.connect(url, { ...options, reconnectPeriod: 0 });
let reason = 0;
client.on("connect", (packet) => say({ present: packet.sessionPresent }));
client.on("message", (topic, payload, packet) =>
  say({ message: { topic, payload: payload.toString("base64"), qos: packet.qos, retain: packet.retain } }));
client.on("disconnect", (packet) => (reason = packet.reasonCode));
client.on("error", (err) => say({ error: `${err.message} ${err.code ?? ""}` }));
client.on("close", () => say({ lost: reason }));

const calls = {
  subscribe: async ({ filter, qos }) => {
    const [granted] = await client.subscribeAsync(filter, { qos });
    if (granted.qos >= 0x80) throw new Error(`refused with ${granted.qos}`);
  },
  publish: ({ topic, payload, qos, retain }) =>
    client.publishAsync(topic, Buffer.from(payload, "base64"), { qos, retain }),
  cut: () => client.stream.destroy(),
  end: () => client.endAsync(),
};
for await (const line of createInterface(process.stdin)) {
  const call = JSON.parse(line);
  try {
    await calls[call.op](call);
    say({ done: call.op });
  } catch (err) {
    say({ done: call.op, error: err.message });
  }
}
client.end(true);
