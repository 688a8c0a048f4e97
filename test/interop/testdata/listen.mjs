// Listens to a URL with many EventSources: prints the number of each, and the data of a message.
import { EventSource } from "eventsource";

const [url, many] = process.argv.slice(2);
for (let i = 0; i < Number(many); i++) {
  new EventSource(url).onmessage = (event) => process.stdout.write(`${i} ${event.data}\n`);
}
