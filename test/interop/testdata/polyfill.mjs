// Listens to a URL with many EventSources of event-source-polyfill, which resumes by a parameter of the query:
// prints the number of each, and the data of a message.
globalThis.window = globalThis; // where it looks for fetch
const { EventSourcePolyfill } = (await import("event-source-polyfill")).default;

const [url, many] = process.argv.slice(2);
for (let i = 0; i < Number(many); i++) {
  new EventSourcePolyfill(url).onmessage = (event) => process.stdout.write(`${i} ${event.data}\n`);
}
