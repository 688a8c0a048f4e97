// Tests of the ways by which watchbox.js receives messages through proxies, with a clock of their own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { begin, broken, done, event, list, message, minute, pass, seen, second, settle, stream, time } from "./world.mjs";
import { Watchbox } from "../../../web/watchbox.js";

const order = ["GET", "POST", "poll"];

/** A network that passes the answers to one kind of request, whose connections last ten seconds. */
function passing(kind) {
  return (r) => {
    if (r.method === "DELETE") return done();
    if (r.kind === "wait") return r.query.get("since") === "x-1" ? list([message("x-2", "a")], "x-2") : { ...broken(), after: 10 * second };
    if (r.kind !== kind) return undefined;
    if (kind === "poll") return list([], r.query.get("since") ?? "x-1");
    const s = stream();
    s.write(event("x-2", "a"));
    setTimeout(s.end, 10 * second);
    return s;
  };
}

/** Joins a group, as a page does that was just opened. */
async function join() {
  const wb = new Watchbox("http://hub/", { maxDelay: second });
  const got = [];
  const joined = wb.join("a", (m) => got.push(m.msg));
  joined.catch(() => {});
  await settle();
  return { wb, got, joined };
}

for (const [i, kind] of order.entries()) {
  test(`a network that passes ${kind} alone: ${order.slice(0, i + 1).join(", ")}`, async (t) => {
    begin(passing(kind));
    const page = await join();
    const begun = time();
    while (page.got.length === 0 && time() < begun + minute) await pass(10);
    t.diagnostic(`the first message came after ${time() - begun} ms of the page's clock`);
    assert.ok(time() - begun <= 3 * second);
    assert.equal(seen(), [...order.slice(0, i + 1), ...kind === "poll" ? ["wait", "wait"] : []].join(" "));
    await page.joined;

    await pass(5 * minute);
    const later = new Set(seen().split(" "));
    later.delete("wait");
    assert.deepEqual([...later], [kind], "after losses it begins with what worked");
    await page.wb.close();

    const next = await join();
    await pass(10);
    assert.equal(seen().split(" ")[0], kind, "the next page begins with what worked");
    await next.joined;
    await next.wb.close();

    await pass(61 * minute);
    const late = await join();
    await pass(3 * second);
    assert.equal(seen().split(" ").slice(0, i + 1).join(" "), order.slice(0, i + 1).join(" "), "after an hour it tries the better ways again");
    await late.wb.close();
  });
}

test("a page that stays open tries the better ways again when it loses its stream after an hour", async () => {
  let holds = true;
  let newest;
  begin((r) => {
    if (r.method === "DELETE") return done();
    if (r.kind === "GET" && holds || r.kind !== "GET" && r.kind !== "POST") return undefined;
    newest = stream();
    const beat = () => { newest.write(":\nid: x-1\n\n"); setTimeout(beat, 15 * second); };
    setTimeout(beat, 15 * second);
    return newest;
  });
  const page = await join();
  await pass(3 * second);
  assert.equal(seen(), "GET POST");
  holds = false;
  await pass(61 * minute);
  assert.equal(seen(), "");
  newest.end();
  await pass(5 * second);
  assert.equal(seen(), "GET");
  await page.wb.close();
});

test("a way on which no byte follows the first ones is followed by the next", async () => {
  begin((r) => {
    if (r.method === "DELETE") return done();
    if (r.kind === "poll") return list([], "x-1");
    return r.kind === "wait" ? undefined : stream();
  });
  const page = await join();
  for (const [after, want] of [[0, "GET"], [22 * second, ""], [4 * second, "POST"], [18 * second, ""], [5 * second, "poll wait"]]) {
    await pass(after);
    assert.equal(seen(), want);
  }
  await page.wb.close();
});

test("a slow network is not taken for a proxy that holds streams back", async () => {
  begin((r) => r.method === "DELETE" ? done() : { ...r.kind === "poll" ? list([], "x-1") : stream(), after: 1500 });
  const page = await join();
  await pass(10 * second);
  assert.equal(seen(), "GET POST poll GET");
  await page.joined;
  await page.wb.close();
  const next = await join();
  await pass(10 * second);
  assert.equal(seen().split(" ")[0], "GET");
  await next.wb.close();
});

test("polls that a proxy cuts off become shorter", async () => {
  const waits = [];
  begin((r) => {
    if (r.method === "DELETE") return done();
    if (r.kind === "poll") return list([], "x-1");
    if (r.kind !== "wait") return undefined;
    const wait = parseFloat(r.query.get("wait"));
    waits.push(wait);
    return wait > 5 ? { ...broken(), status: 504, after: 5 * second } : { ...list([], "x-1"), after: wait * second };
  });
  const page = await join();
  await pass(minute);
  assert.deepEqual(waits.slice(0, 4), [25, 2.5, 2.5, 2.5]);
  assert.equal(page.wb.state, "open");
  await page.wb.close();
});
