// Runs a JavaScript snippet of docs/CLIENTS.md many times, each time as a new client. Prints what a client logs as the
// msg of a message, after the client's number.
globalThis.window = globalThis; // some of the packages are made for pages
globalThis.document = { readyState: "complete", hidden: false, addEventListener() {}, removeEventListener() {} };

const [snippet, clients] = process.argv.slice(2);
const [line, name, from] = /^import \{ (\w+) \} from "(.*)";\n/.exec(snippet);
const module = await import(from);
const run = new Function(name, "console", snippet.slice(line.length));
for (let i = 0; i < Number(clients); i++) {
  run(module[name] ?? module.default[name], { log: (msg) => process.stdout.write(`${i} ${JSON.stringify({ msg })}\n`) });
}
