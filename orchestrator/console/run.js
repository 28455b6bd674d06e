// One run: its states, its error, its steps and attempts, the facts, the event on demand.

import { replayRun, whyNoReplay } from "./actions.js";
import { api, now } from "./api.js";
import { h, outside, runHref, s, tenantHref } from "./dom.js";
import { machine } from "./machine.js";
import { operationOf, runOf } from "./model.js";
import { action, cell, empty, head, reasonCell, rowHead, table, title } from "./parts.js";
import {
  builderName, clock, KINDS, lasted, mono, plural, short, stamp, statusMark, STATUSES, time, words,
} from "./words.js";

const SIDE = 452; // the column of facts, with the space beside it
const WIDEST = 1100;
const ONE_COLUMN = 1060;
const ATTEMPTS_SHOWN = 12;
const KEPT_FOR = "Settled runs are kept for a time (ledger.retention_days), by default 90 days.";

export async function load({ id, signal }) {
  const found = await api.run(id, signal);
  if (!found) return { run: null };
  const operation = await api.operation(found.outcomeOf ?? found.operationId, signal);
  return { run: runOf(found), operation: operationOf(operation?.kind ? operation : null) };
}

export function show({ run, operation }, context) {
  if (!run) {
    return h("div", { class: "view" }, title("No such run"),
      empty(`There is no run ${context.id}`, h("p", null, KEPT_FOR)));
  }
  const wide = innerWidth > ONE_COLUMN;
  const room = wide ? Math.min(context.room - SIDE, WIDEST) : context.room;
  return h("div", { class: "view" },
    heading(run, operation, context.refresh),
    h("div", { class: "two" },
      h("div", null,
        h("section", { "aria-labelledby": "machinetitle" },
          h("h2", { id: "machinetitle", class: "unseen" }, "States"), machine(run, room, now())),
        errorSection(run), stepsSection(run), attemptsSection(run)),
      h("div", { class: "side" }, facts(run, operation), payloadSection(run, context))));
}

const tenantLink = ({ tenantId }) =>
  tenantId ? h("a", { href: tenantHref(tenantId) }, tenantId) : null;

function heading(run, operation, refresh) {
  const tenant = run.tenantId ? [" / ", tenantLink(run)] : null;
  const replay = action("Replay", {
    name: "replay",
    look: run.status === "failed" ? "main" : "",
    why: whyNoReplay(run, operation),
    act: () => replayRun(run.runId, refresh),
  });
  return h("div", { class: "title" },
    h("div", null,
      h("p", { class: "crumb" }, h("a", { href: "#/runs" }, "Runs"), tenant),
      title(run.eventType),
      h("p", { class: "under" },
        statusMark(run.status),
        run.status === "queued" ? null : h("span", null, plural(run.attempt, "attempt")),
        mono(run.runId, { class: "faint wrap" }))),
    h("div", { class: "acts" }, replay));
}

// ---- why

function errorSection(run) {
  if (!run.error) return null;
  const paths = run.error.errors.map(({ path, message }) =>
    h("div", null, h("dt", null, mono(breakable(path))), h("dd", null, message)));
  return h("section", { class: `problem ${STATUSES[run.status]}`, "aria-labelledby": "errortitle" },
    h("h2", { id: "errortitle" }, run.status === "retry" ? "Why it waits" : "Error"),
    h("p", null, run.error.message),
    paths.length ? h("dl", { class: "paths" }, paths) : null);
}

// A path may be broken at its dots; its last part says most.
const breakable = (path) =>
  path.split(/(?<=\.)/).map((part, i, all) =>
    (i === all.length - 1 ? h("b", null, part) : [part, h("wbr")]));

// ---- steps and attempts

function stepsSection(run) {
  const heads = [head("name", "Step"), head("at", "Started"), head("took", "Took")];
  const longest = Math.max(...run.steps.map((step) => step.to - (step.from ?? step.to)), 1);
  return h("section", { "aria-labelledby": "stepstitle" },
    h("h2", { id: "stepstitle" }, "Steps"),
    run.steps.length
      ? table("steps", "Steps of the run", heads, run.steps.map((step) => stepRow(step, longest)))
      : h("p", { class: "faint" }, "None was done."));
}

function stepRow(step, longest) {
  const begin = step.from ?? step.to;
  return h("tr", { role: "row" },
    rowHead("name", mono(step.name)),
    cell("at", time(begin, stamp(begin, now()))),
    cell("took", step.from === null ? "–" : meter(step.to - step.from, longest)));
}

function meter(ms, longest) {
  const shape = { width: Math.max(2, (ms / longest) * 120), height: 6, rx: 2, class: "bar ok" };
  return h("span", { class: "meter" }, h("span", null, lasted(ms)),
    s("svg", { width: 120, height: 6, "aria-hidden": "true" }, s("rect", shape)));
}

const ATTEMPT_STATUS = { ok: "succeeded", retry: "retry", failed: "failed" };

function attemptsSection(run) {
  if (!run.attempts.length) return null;
  const shown = run.attempts.slice(-ATTEMPTS_SHOWN).reverse();
  const heads = [
    head("n", "Attempt"), head("at", "Started"), head("took", "Took"), head("status", "Ended as"),
    head("why", "Reason"),
  ];
  const isCut = run.attempt > shown.length;
  const rest = `The latest ${shown.length} of ${run.attempt}. ${waitsText(run)}`;
  return h("section", { "aria-labelledby": "triestitle" },
    h("h2", { id: "triestitle" }, "Attempts"),
    table("attempts", "Attempts", heads, shown.map(attemptRow)),
    isCut ? h("p", { class: "faint" }, rest) : null);
}

function attemptRow(one) {
  const by = one.isReplay ? `replayed by ${one.by}` : null;
  return h("tr", { role: "row" },
    rowHead("n", String(one.number)),
    cell("at", time(one.from, stamp(one.from, now()))),
    cell("took", lasted((one.to ?? now()) - one.from)),
    cell("status", statusMark(ATTEMPT_STATUS[one.end] ?? "running")),
    reasonCell([by, one.why].filter(Boolean).join("; "), "soft"));
}

const WAITS = {
  tenant: "for another operation",
  temporary: "for what was out of order",
  bug: "after a bug",
  crash: "after its process crashed",
};

const waitsText = (run) =>
  run.waits.map(({ kind, count, seconds }) =>
    `Waited ${count}× ${WAITS[kind] ?? kind}, ${lasted(seconds * 1000)} in all.`).join(" ");

// ---- facts

const fact = (name, ...value) => [h("dt", null, name), h("dd", null, value)];

function facts(run, operation) {
  const replays = run.attempts.filter((one) => one.isReplay);
  return h("section", { "aria-labelledby": "factstitle" },
    h("h2", { id: "factstitle", class: "unseen" }, "Facts"),
    h("dl", { class: "facts" },
      fact("Tenant", tenantLink(run) ?? "–"),
      operation ? fact("Operation", ...operationFact(operation)) : null,
      fact("Job", jobFact(run, operation)),
      run.status === "retry" && run.dueAt ? fact("Retrying at", ...dueFact(run)) : null,
      run.waitsFor?.runId ? fact("Waits for", runLink(run.waitsFor.runId)) : null,
      run.duplicateOf ? fact("Duplicate of", runLink(run.duplicateOf)) : null,
      replays.length ? fact("Replayed", replays.map(replayFact)) : null,
      run.note && run.note !== run.error?.message ? fact("Note", run.note) : null,
      fact("First seen", time(run.at, stamp(run.at, now()))),
      run.source ? fact("Source", run.source) : null,
      run.eventId ? fact("Event id", mono(run.eventId, { class: "wrap" })) : null));
}

const runLink = (id) => h("a", { href: runHref(id) }, mono(short(id)));

function operationFact(operation) {
  const link = tenantHref(operation.tenantId, { span: short(operation.operationId) });
  const end = operation.state === "open" ? "open" : operation.succeeded ? "succeeded" : "failed";
  const name = words(operation.kind);
  const text = operation.state === "given_back" ? "never begun" : end;
  return [operation.tenantId ? h("a", { href: link }, name) : name, ` ${text}`];
}

function jobFact(run, operation) {
  const isOwn = operation && operation.openerId === run.runId;
  const opens = isOwn || run.eventType in KINDS;
  const none = opens ? "none was started" : "none of its own";
  if (!run.job) return h("span", { class: "faint" }, none);
  const job = isOwn ? operation.job : null;
  const took = job?.to ? `${job.status.toLowerCase()} after ${lasted(job.to - job.from)}`
    : job ? `running for ${lasted(now() - job.from)}` : builderName(run.job.builder);
  const log = outside(run.job.logUrl, "log", `Log of ${run.job.jobIdentifier}`);
  return [mono(run.job.jobIdentifier), " ", log, h("br"), h("span", { class: "faint" }, took)];
}

const dueFact = ({ dueAt }) => {
  const left = dueAt - now();
  const text = left > 0 ? ` in ${lasted(left)}` : " by the next sweep";
  return [time(dueAt, clock(dueAt)), h("span", { class: "faint" }, text)];
};

const replayFact = (one, i) => [
  i ? h("br") : null, `by ${one.by} `, time(one.from, stamp(one.from, now())),
];

// ---- the event, as the text that came: parsing would break 9007199254740993

const ON_DEMAND = "Asked for on demand; secrets are never sent.";
let shown = { runId: null, text: null };

function payloadSection(run, { redraw }) {
  const isShown = shown.runId === run.runId;
  const toggle = async () => {
    if (isShown) shown = { runId: null, text: null };
    else await loadPayload(run.runId, redraw);
    redraw();
  };
  const button = h("button", {
    class: "calm", "data-key": "payload", "aria-expanded": String(isShown), on: { click: toggle },
  }, isShown ? "Hide" : "Show, redacted");
  return h("section", { "aria-labelledby": "payloadtitle" },
    h("div", { class: "bar" }, h("h2", { id: "payloadtitle" }, "Payload"), button),
    isShown ? payload() : h("p", { class: "faint" }, ON_DEMAND));
}

async function loadPayload(runId, redraw) {
  shown = { runId, text: null };
  redraw();
  try {
    shown = { runId, text: await api.payload(runId) };
  } catch (problem) {
    const isGone = problem.status === 404;
    shown = { runId, problem: isGone ? "The event is no longer kept." : problem.message };
  }
}

function payload() {
  if (shown.problem) return h("p", { class: "reason" }, shown.problem);
  if (shown.text === null) return h("p", { class: "faint" }, "Loading…");
  const given = { class: "payload", tabindex: 0, "aria-label": "Payload, redacted" };
  const isLarge = shown.text.length > COLOURED_UP_TO;
  return h("pre", given, isLarge ? shown.text : shown.text.split(PARTS).map(coloured));
}

const COLOURED_UP_TO = 100_000;

const PARTS = /("(?:[^"\\]|\\.)*"(?:\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/;

function coloured(part) {
  const look = /^".*:$/s.test(part) ? "k"
    : part === '"***"' ? "gone"
      : part.startsWith('"') ? "v" : /^-?\d/.test(part) ? "d" : null;
  return look ? h("span", { class: look }, part) : part;
}
