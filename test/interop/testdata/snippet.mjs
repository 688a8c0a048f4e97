// Runs a JavaScript snippet of docs/CLIENTS.md many times, as so many clients. What a client logs is printed as the
// msg of a message behind the client's number.
globalThis.window = globalThis; // some of the packages are made for pages
globalThis.document = { readyState: "complete", hidden: false, addEventListener() {}, removeEventListener() {} };

const [snippet, clients] = process.argv.slice(2);
const [line, name, from] = /^import \{ (\w+) \} from "(.*)";\n/.exec(snippet);
const module = await import(from);
const run = new Function(name, "console", snippet.slice(line.length));
for (let i = 0; i < Number(clients); i++) {
  run(module[name] ?? module.default[name], { log: (msg) => process.stdout.write(`${i} ${JSON.stringify({ msg })}\n`) });
}
