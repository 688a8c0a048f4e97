// Listens to a URL with many connections of @microsoft/fetch-event-source: prints the number of each, and the
// data of a message. It is made for pages.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = (await import("@microsoft/fetch-event-source")).default;

const [url, many] = process.argv.slice(2);
for (let i = 0; i < Number(many); i++) {
  fetchEventSource(url, {
    onmessage(event) {
      if (event.event === "" && event.data !== "") process.stdout.write(`${i} ${event.data}\n`); // heartbeats have no data
    },
    onclose() { throw new Error("the server has ended the stream"); }, // or it would not come back
    onerror: () => 20,
  });
}
