// Tests of how watchbox.js learns that it was kicked, with a clock of their own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { begin, broken, done, list, minute, pass, problem, second, settle, stream } from "./world.mjs";
import { Watchbox } from "../../../web/watchbox.js";

const names = (r) => r.query.getAll("group").join(" ");

/** Requests that a hub may answer with session-ended, by the kinds that the network passes. */
const places = {
  "the first stream": [["GET"], (r) => r.kind === "GET", true],
  "the first stream by POST": [["POST"], (r) => r.kind === "POST", true],
  "the first poll": [["poll", "wait"], (r) => r.kind === "poll", true],
  "the next poll": [["poll", "wait"], (r) => r.kind === "wait" && names(r) === "a b"],
  "a poll of a join": [["poll", "wait"], (r) => r.kind === "poll" && names(r) === "b"],
  "the poll before that of a join": [["poll", "wait"], (r) => r.kind === "poll" && names(r) === "a" && r.query.has("since")],
  "a stream after a loss": [["GET"], (r) => r.kind === "GET"],
  "a POST stream after a loss": [["POST"], (r) => r.kind === "POST"],
  "a join": [["GET"], (r) => r.kind === "join"],
  "a leave": [["GET"], (r) => r.kind === "leave"],
  "a leave while it polls": [["poll", "wait"], (r) => r.kind === "leave"],
};

for (const [place, [passes, kicks, atOnce]] of Object.entries(places)) {
  test(`a kick is told once: ${place}`, async () => {
    let kicking = atOnce;
    let kicked = 0;
    let after = 0;
    begin((r) => {
      const changes = r.kind === "join" || r.kind === "leave";
      if (kicked) {
        after++;
        return broken();
      }
      if (kicking && kicks(r)) {
        kicked++;
        return problem(410, "session-ended");
      }
      if (changes) return done();
      if (!passes.includes(r.kind)) return undefined;
      if (r.kind === "poll") return list([], "x-1");
      if (r.kind === "wait") return { ...list([], "x-1"), after: 5 * second };
      const s = stream();
      setTimeout(s.end, minute);
      for (let at = 10; at < 60; at += 10) setTimeout(() => s.write(":\nid: x-1\n\n"), at * second);
      return s;
    });
    const wb = new Watchbox("http://hub/", { maxDelay: second });
    const events = [];
    for (const type of ["disconnect", "reconnect", "closed"]) {
      wb.addEventListener(type, ({ detail }) => events.push(`${type} ${detail?.error?.code ?? ""}`.trim()));
    }
    const codes = [];
    const join = (filter) => wb.join(filter, () => {}).catch((e) => { codes.push(e.code); });
    join("a");
    await pass(10 * second);
    kicking = true;
    join("b");
    await pass(10 * second);
    wb.leave("b");
    await pass(3 * minute);
    await join("c");
    await settle();
    assert.equal(kicked, 1);
    assert.equal(after, 0, "nothing is asked any more");
    assert.equal(wb.state, "closed");
    assert.deepEqual(codes.filter((code) => code !== "kicked"), []);
    assert.equal(codes.at(-1), "kicked", "the join after it");
    assert.deepEqual(events.filter((e) => e.endsWith("kicked")), atOnce || place.includes("loss") ? ["closed kicked"] : ["disconnect kicked", "closed kicked"]);
    assert.equal(events.filter((e) => e.startsWith("closed")).length, 1);
  });
}
