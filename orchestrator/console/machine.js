// Draws one run as its state machine: the boxes show times, transitions that happened are bold.

import { s } from "./dom.js";
import { fit, width } from "./measure.js";
import { icon, lasted, plural, stamp } from "./words.js";

const TALL = 64; // of a box
const NARROW = 620;
const TIP = 3; // an arrow ends this far before its box

export function machine(run, room, now) {
  const facts = factsOf(run, now);
  const plan = room < NARROW ? narrowPlan(run, facts, room) : widePlan(run, facts, room, now);
  const frame = { class: "machine", width: plan.width, height: plan.height, role: "img" };
  return s("svg", { ...frame, "aria-label": sentence(run, facts, now) },
    s("defs", null, arrowHead("on"), arrowHead("off")),
    plan.ways,
    boxesOf(run, facts, now).map((box) => drawBox(box, plan)));
}

// ---- facts

function factsOf(run, now) {
  const tries = run.attempts;
  const retries = tries.filter((one) => one.end === "retry");
  const kept = run.waits.reduce((sum, one) => sum + one.count, 0);
  const last = tries.at(-1) ?? null;
  const good = run.status === "duplicate" ? "duplicate" : "succeeded";
  return {
    tries,
    last,
    retries,
    replays: tries.filter((one) => one.isReplay),
    count: Math.max(run.attempt ?? 0, tries.length),
    // The attempts are the latest ones, `waits` counts all.
    waits: Math.max(kept, retries.length),
    waited: waitedMs(run, retries, now),
    worked: tries.reduce((sum, one) => sum + (one.to ?? now) - one.from, 0),
    hasFailed: tries.some((one) => one.end === "failed") || run.status === "failed",
    good,
    // The end that was reached, else success, is drawn in the row of "running".
    ahead: run.status === "failed" ? "failed" : good,
    other: run.status === "failed" ? good : "failed",
  };
}

function waitedMs(run, retries, now) {
  if (run.waits.length) return run.waits.reduce((sum, one) => sum + one.seconds * 1000, 0);
  return retries.reduce((sum, one) => {
    const next = run.attempts[run.attempts.indexOf(one) + 1];
    return sum + (next?.from ?? now) - (one.to ?? one.from);
  }, 0);
}

function sentence(run, facts, now) {
  const state = run.status === "retry" && run.dueAt
    ? `waiting, next try ${stamp(run.dueAt, now)}`
    : run.status;
  return [
    `The run's states: received ${stamp(run.at, now)}`,
    plural(facts.count, "attempt"),
    facts.waits ? `${plural(facts.waits, "wait")}, ${lasted(facts.waited)} in all` : null,
    ...facts.replays.map((one) => `replayed by ${one.by} ${stamp(one.from, now)}`),
    `now ${state}`,
  ].filter(Boolean).join("; ");
}

// ---- boxes

function boxesOf(run, facts, now) {
  const made = [
    { name: "received", title: "received", look: "rest", when: stamp(run.at, now),
      what: run.source ? `from ${run.source}` : "", seen: true },
    runningBox(run, facts, now),
    retryBox(run, facts, now),
    endBox("failed", "bad", run, now, failedText(run, facts)),
  ];
  if (run.status === "duplicate") made.push(endBox("duplicate", "twin", run, now, run.note ?? ""));
  else made.push(endBox("succeeded", "ok", run, now, tookText(run)));
  if (run.status === "queued") {
    made.push({ name: "queued", title: "queued", look: "queue", when: stamp(run.at, now),
      what: "for a worker", seen: true });
  }
  return made.map((box) => ({ ...box, isHere: box.name === run.status }));
}

function runningBox(run, facts, now) {
  const seen = facts.count > 0 && run.status !== "queued";
  const when = facts.last ? stamp(facts.last.from, now) : "–";
  const many = plural(facts.count, "attempt");
  const isWhole = facts.tries.length === facts.count && facts.tries.length > 0;
  const what = seen ? `${many}${isWhole ? `, ${lasted(facts.worked)} in all` : ""}` : "not begun";
  return { name: "running", title: "running", look: "run", when, what, seen };
}

function retryBox(run, facts, now) {
  const seen = facts.waits > 0 || run.status === "retry";
  const last = facts.retries.at(-1);
  const since = last?.to ? stamp(last.to, now) : "";
  const when = run.status === "retry" && run.dueAt ? `next at ${stamp(run.dueAt, now)}` : since;
  const what = seen
    ? `${plural(facts.waits, "wait")}, ${lasted(facts.waited)} in all`
    : "never had to wait";
  return { name: "retry", title: "retrying", look: "wait", when, what, seen };
}

function endBox(name, look, run, now, what) {
  const seen = run.status === name;
  const when = seen && run.endedAt ? stamp(run.endedAt, now) : "";
  return { name, title: name, look, when, what, seen };
}

function failedText(run, facts) {
  if (run.status === "failed") return `at attempt ${facts.count}`;
  return facts.hasFailed ? "before the replay" : "";
}

function tookText(run) {
  if (run.status !== "succeeded" || run.endedAt === null) return "";
  const first = run.attempts[0];
  const begin = first && run.attempts.length === run.attempt ? first.from : run.at;
  return `after ${lasted(run.endedAt - begin)}`;
}

function drawBox({ name, title, look, when, what, seen, isHere }, plan) {
  const [x, y] = plan.at[name];
  const mark = icon(look);
  mark.setAttribute("x", x + 11);
  mark.setAttribute("y", y + 10);
  const lower = plan.isNarrow && name === "retry" && seen ? when || what : what;
  const upper = plan.isNarrow && name === "retry" ? "" : when;
  const shown = [upper, upper.replace(/:\d\d$/, "")].find((text) =>
    width(text, "13px") + width(title, "600 13px") + 50 < plan.wide);
  const shape = { x: x + 0.5, y: y + 0.5, width: plan.wide - 1, height: TALL - 1, rx: 7 };
  const right = { x: x + plan.wide - 11, y: y + 21, "text-anchor": "end", class: "at" };
  return s("g", { class: `box ${look} ${seen ? "seen" : "unseenbox"} ${isHere ? "here" : ""}` },
    s("rect", shape), mark,
    s("text", { x: x + 32, y: y + 21, class: "name" }, title),
    seen && shown ? s("text", right, shown) : null,
    s("text", { x: x + 11, y: y + 47, class: "what" }, fit(lower, plan.wide - 22)));
}

// ---- ways

function arrowHead(id) {
  const shape = {
    id, viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto",
  };
  return s("marker", shape, s("path", { d: "M0 0.8L7 4L0 7.2z", class: `head ${id}` }));
}

const way = (d, isGone) => {
  const head = `url(#${isGone ? "on" : "off"})`;
  return s("path", { d, class: `way${isGone ? " on" : ""}`, "marker-end": head });
};

const wayText = (text, x, y, anchor) =>
  s("text", { x, y, class: "waytext", "text-anchor": anchor }, text);

/** A straight arrow, level or upright. */
function straight([x0, y0], [x1, y1]) {
  if (y0 === y1) return `M${x0} ${y0}H${x1 - Math.sign(x1 - x0) * TIP}`;
  return `M${x0} ${y0}V${y1 - Math.sign(y1 - y0) * TIP}`;
}

function sides(at, wide) {
  return {
    right: (name, dy = 0) => [at[name][0] + wide, at[name][1] + TALL / 2 + dy],
    left: (name, dy = 0) => [at[name][0], at[name][1] + TALL / 2 + dy],
    bottom: (name, dx = 0) => [at[name][0] + wide / 2 + dx, at[name][1] + TALL],
    top: (name, dx = 0) => [at[name][0] + wide / 2 + dx, at[name][1]],
  };
}

const waitedOnce = (run, facts) => facts.waits > 0 || run.status === "retry";
const wentOn = (run, facts) => facts.waits > (run.status === "retry" ? 1 : 0);
const begun = (run, facts) => facts.count > 0 && run.status !== "queued";

function widePlan(run, facts, room, now) {
  const wide = Math.min(216, (room - 2 * 92) / 3);
  const whole = Math.min(room, 3 * wide + 2 * 150);
  const [x0, x1, x2] = [0, (whole - wide) / 2, whole - wide];
  const y0 = facts.replays.length ? 30 : 1;
  const y1 = y0 + TALL + 46;
  const at = {
    received: [x0, y0], running: [x1, y0], retry: [x1, y1], queued: [x0, y1],
    [facts.ahead]: [x2, y0], [facts.other]: [x2, y1],
  };
  const { right, left, top, bottom } = sides(at, wide);
  const low = facts.replays.length ? 6 : 0;
  const fork = (right("running")[0] + left("failed")[0]) / 2;
  const [, otherY] = left(facts.other);
  const aside = `M${right("running")[0]} ${y0 + TALL - 12}H${fork}V${otherY}H${x2 - TIP}`;
  const isFailed = run.status === "failed";
  const ways = [
    way(straight(right("received"), left("running")), begun(run, facts)),
    way(straight(bottom("running", -14), top("retry", -14)), waitedOnce(run, facts)),
    way(straight(top("retry", 14), bottom("running", 14)), wentOn(run, facts)),
    facts.waits ? wayText(`${facts.waits}×`, x1 + wide / 2 - 20, y0 + TALL + 27, "end") : null,
    way(straight(right("running", low), left(facts.ahead, low)), run.status === facts.ahead),
    way(aside, !isFailed && facts.hasFailed),
    facts.replays.length ? replayArc(facts, at, wide, now) : null,
    run.status === "queued" ? way(straight(bottom("received"), top("queued")), true) : null,
  ];
  return { at, wide, width: whole, height: y1 + TALL + 4, ways, isNarrow: false };
}

// Back from the end to "running", above the boxes.
function replayArc(facts, at, wide, now) {
  const last = facts.replays.at(-1);
  const y = at[facts.ahead][1] - 12;
  const from = at[facts.ahead][0] + wide / 2;
  const into = at.running[0] + wide / 2;
  const up = `M${from} ${at[facts.ahead][1]}V${y + 6}q0 -6 -6 -6`;
  const arc = `${up}H${into + 6}q-6 0 -6 6V${at.running[1] - TIP}`;
  const times = facts.replays.length > 1 ? `, ${facts.replays.length}×` : "";
  const text = `replayed by ${last.by} ${stamp(last.from, now)}${times}`;
  return [way(arc, true), wayText(text, (from + into) / 2, y - 5, "middle")];
}

function narrowPlan(run, facts, room) {
  const wide = (room - 44) / 2;
  const [x0, x1] = [0, room - wide];
  const [y0, y1, y2] = [0, 108, 216];
  const { good } = facts;
  const at = {
    received: [x0, y0], queued: [x1, y0], running: [x0, y1], retry: [x1, y1],
    [good]: [x0, y2], failed: [x1, y2],
  };
  const { right, left, top, bottom } = sides(at, wide);
  const middle = (right("running")[0] + left("retry")[0]) / 2;
  const below = y1 + TALL;
  const aside = `M${x0 + wide - 22} ${below}V${below + 22}H${x1 + wide / 2}V${y2 - TIP}`;
  const ways = [
    way(straight(bottom("received"), top("running")), begun(run, facts)),
    way(straight(right("running", -8), left("retry", -8)), waitedOnce(run, facts)),
    way(straight(left("retry", 8), right("running", 8)), wentOn(run, facts)),
    facts.waits ? wayText(`${facts.waits}×`, middle, y1 + TALL / 2 - 14, "middle") : null,
    way(straight(bottom("running", -20), top(good, -20)), run.status === good),
    way(aside, facts.hasFailed),
    facts.replays.length ? narrowReplay(facts, at, wide, room) : null,
    run.status === "queued" ? way(straight(right("received"), left("queued")), true) : null,
  ];
  return { at, wide, width: room, height: y2 + TALL + 26, ways, isNarrow: true };
}

function narrowReplay(facts, at, wide, room) {
  const text = `replayed by ${facts.replays.at(-1).by}`;
  const below = at.running[1] + TALL;
  if (facts.ahead === facts.good) {
    const x = at[facts.good][0] + wide / 2;
    const y = at[facts.good][1];
    return [way(`M${x} ${y}V${below + TIP}`, true), wayText(text, x + 8, y - 8, "start")];
  }
  const [x, y] = at.failed;
  const between = (at.running[0] + wide + x) / 2;
  const into = at.running[0] + wide - 44;
  const back = `M${x} ${y + TALL / 2}H${between}V${below + 8}H${into}V${below + TIP}`;
  return [way(back, true), wayText(text, room, y + TALL + 18, "end")];
}
