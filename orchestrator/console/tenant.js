// One tenant: its state and the reason, its operations as a picture, and its timeline as a list.

import { cancelTenant, replayTenant } from "./actions.js";
import { api, now } from "./api.js";
import { h, href, outside, runHref, tenantHref } from "./dom.js";
import { reportText } from "./marks.js";
import { lifeOf, runOf, runToReplay } from "./model.js";
import {
  action, cell, empty, head, pages, reasonCell, row, rowHead, table, title, unseen,
} from "./parts.js";
import { legend, picture, SPANS } from "./picture.js";
import {
  age, brief, capital, dueText, icon, lasted, mono, short, stamp, stateMark, STATES, statusMark,
  time, words,
} from "./words.js";

const PICTURE_HEAD = 236; // of the lanes' heads, in pixels
const NARROW = 960;

export async function load({ id, params, signal }) {
  const query = { cursor: params.get("cursor"), operationsCursor: params.get("operations") };
  const found = await api.tenant(id, query, signal);
  if (!found) return { life: null };
  const life = lifeOf(found);
  const row = runShown(life, params.get("span") ?? "");
  if (row) await addSteps(row, signal);
  return { life };
}

// The operation whose run alone is shown, with its steps.
function runShown(life, span) {
  const [key, part] = span.split(".");
  return part === "run" ? life.rows.find((row) => row.operationId.startsWith(key)) : null;
}

async function addSteps(row, signal) {
  const run = await api.run(row.openerId, signal);
  if (run) row.starts.at(-1).steps = runOf(run).steps;
}

export function show({ life }, context) {
  const { id, refresh } = context;
  if (!life) return unknown(id);
  const link = (params) => tenantHref(id, { ...Object.fromEntries(context.params), ...params });
  const isOlder = ["cursor", "operations"].some((name) => context.params.get(name));
  return h("div", { class: "view" },
    heading(life, refresh),
    present(life),
    lifeSection(life, context, link),
    h("section", { "aria-labelledby": "listtitle" },
      h("h2", { id: "listtitle" }, "What happened"),
      happened(life),
      pages("", {
        first: isOlder ? tenantHref(id) : null,
        next: life.cursor ? link({ cursor: life.cursor }) : null,
        nextText: "Older events",
      })));
}

function unknown(id) {
  const prefix = id.slice(0, 3);
  const near = h("a", { href: href("/tenants", { prefix }) }, `Tenants that begin with ${prefix}`);
  return h("div", { class: "view" }, title(id),
    empty("The ledger has not seen this tenant", h("p", null, near)));
}

// ---- where it stands

const lastOf = (life) => life.operation ?? life.last ?? life.operations[0] ?? null;

function heading(life, refresh) {
  const { tenantId, state, operation, tier } = life;
  const isNone = state === "none";
  const for_ = isNone
    ? `, asked ${age(now() - life.changedAt)} ago`
    : ` for ${age(now() - life.changedAt)}`;
  const waitsForJob = operation !== null && operation.job === null;
  return h("div", { class: "title" },
    h("div", null,
      h("p", { class: "crumb" }, h("a", { href: "#/tenants" }, "Tenants")),
      title(tenantId),
      h("p", { class: "under" },
        stateMark(state, waitsForJob ? "wait" : undefined), h("span", null, for_),
        tier ? h("span", null, "tier ", h("b", null, tier)) : null)),
    h("div", { class: "acts" }, replayButton(life, refresh), cancelButton(life, refresh)));
}

function replayButton(life, refresh) {
  const { operation, tenantId } = life;
  const nothing = runToReplay(life) ? null : "There is no run to replay";
  const why = operation ? `${words(operation.kind)} is under way` : nothing;
  const look = STATES[life.state] === "bad" ? "main" : "";
  const act = () => replayTenant(tenantId, refresh);
  return action("Replay", { name: "replay", why, look, act });
}

function cancelButton({ operation, tenantId }, refresh) {
  const text = operation ? `Cancel ${words(operation.kind)}` : "Cancel";
  const why = operation ? null : "Nothing is under way";
  const act = () => cancelTenant(tenantId, refresh);
  return action(text, { name: "cancel", look: "calm", why, act });
}

function present(life) {
  const isBad = STATES[life.state] === "bad";
  const { operation } = life;
  const rest = isBad || life.reason ? "bad" : "ok";
  const look = operation ? (operation.job ? "run" : "wait") : rest;
  const inside = life.operation ? underWay(life)
    : isBad ? failedText(life) : restText(life);
  return h("section", { class: `present ${look}`, "aria-label": "Where it stands" }, inside);
}

const logOf = (job) => job && outside(job.logUrl, "Log", `Log of ${job.name}`);
const reasonText = (text) => h("span", { class: "reason", title: text }, brief(text));
const soft = (...inside) => h("p", { class: "soft" }, inside);

function underWay(life) {
  const { kind, job, reason, deadlineAt } = life.operation;
  const name = h("b", null, `${capital(words(kind))}: `);
  const lead = job
    ? [name, "the job ", mono(job.name),
      ` has been running for ${lasted(now() - job.from)}. `, logOf(job)]
    : [name, `no job yet, for ${lasted(now() - life.operation.startedAt)}. `, nextTry(life)];
  const [before, start] = lastStarts(life);
  const trouble = reason ?? life.reason;
  return [
    h("p", { class: "lead" }, lead),
    trouble && trouble !== before?.reason ? soft(brief(trouble)) : null,
    job && deadlineAt ? soft(`Its deadline is at ${stamp(deadlineAt, now())}.`) : null,
    start ? earlierStart(before, start) : null,
    life.rows.filter((one) => one.waits).map((one) => waiter(one, life)),
  ];
}

function nextTry(life) {
  const run = life.runs.find((one) => one.runId === life.operation.openerId);
  return run?.dueAt ? `${capital(dueText(run.dueAt, now()))}. ` : null;
}

// The two latest starts of the operation under way, or its only one.
function lastStarts(life) {
  const { operationId } = life.operation;
  return life.operations.find((one) => one.operationId === operationId)?.starts.slice(-2) ?? [];
}

// The start before the present one, and who began that.
function earlierStart(before, start) {
  const by = start.by ? `, replayed by ${start.by}` : "";
  const end = before.succeeded ? "succeeded" : "failed";
  return soft(
    `Start ${start.number}${by} at ${stamp(start.from, now())}. Start ${before.number} ${end}`,
    before.endedAt ? ` at ${stamp(before.endedAt, now())}` : "",
    before.reason ? [": ", reasonText(before.reason)] : "", " ", logOf(before.job));
}

function waiter(row, life) {
  const run = life.runs.find((one) => one.runId === row.openerId);
  return soft(icon("wait"), " ", h("b", null, capital(words(row.kind))),
    ` waits behind it, since ${stamp(row.openedAt, now())}`,
    run?.dueAt ? `; ${dueText(run.dueAt, now())}. ` : ". ",
    h("a", { href: runHref(row.openerId) }, "Run"));
}

function failedText(life) {
  const last = lastOf(life);
  const runId = runToReplay(life);
  const whole = life.operations.find((one) => one.operationId === last?.operationId);
  const report = whole?.reports.at(-1);
  const job = whole?.job ?? last?.job;
  const where = logOf(job) ?? (runId ? h("a", { href: runHref(runId) }, "Run") : null);
  const kind = capital(words(last?.kind ?? "provisioning"));
  return [
    h("p", { class: "lead" }, h("b", null, `${kind} failed ${age(now() - life.changedAt)} ago: `),
      reasonText(life.reason ?? "no reason was kept"), " ", where),
    last?.cancelledBy ? soft(`Cancelled by ${last.cancelledBy}.`) : null,
    report ? soft(`Report to the control plane: ${reportText(report)}.`) : null,
  ];
}

function restText(life) {
  const failed = life.runs.find((run) => run.status === "failed");
  if (!life.reason) return h("p", { class: "lead" }, "Nothing is under way, nothing waits.");
  return h("p", { class: "lead" }, reasonText(`Last request failed: ${life.reason}`), " ",
    failed ? h("a", { href: runHref(failed.runId) }, "Run") : null);
}

// ---- its life

const opened = new Map();

function lifeSection(life, context, link) {
  const span = context.params.get("span") ?? "";
  const toggle = (key, isOpen) => {
    opened.set(key, isOpen);
    context.redraw();
  };
  const frame = innerWidth <= NARROW ? 2 : PICTURE_HEAD + 2;
  const drawn = picture(life.rows, {
    span, room: context.room - frame, now: now(), opened, toggle,
    more: life.operationsCursor !== null,
  });
  return h("section", { "aria-labelledby": "lifetitle" },
    h("div", { class: "bar" },
      h("h2", { id: "lifetitle" }, "Life"), spans(life, span), legend()),
    drawn,
    pages("", {
      next: life.operationsCursor ? link({ operations: life.operationsCursor, span: null }) : null,
      nextText: "Older operations",
    }));
}

function spans(life, span) {
  const last = lastOf(life);
  const own = last ? short(last.operationId) : null;
  const choices = SPANS.map(([key, text]) => [key, text, `span-${key}`]);
  if (last) {
    choices.push([own, "latest operation", "span-op"], [`${own}.run`, "its run", "span-run"]);
  }
  return h("nav", { class: "seg", "aria-label": "Time shown" }, choices.map(([key, text, name]) => {
    const link = tenantHref(life.tenantId, { span: key });
    const isHere = span === key ? "true" : null;
    return h("a", { href: link, "data-key": name, "aria-current": isHere }, text);
  }));
}

// ---- what happened: events, what operators did, reports to the control plane

function happened(life) {
  const entries = [...life.runs.map(eventOf), ...replaysOf(life), ...reportsOf(life)];
  const heads = [
    head("at", "When"), head("type", "What"), head("status", "Came of it"), head("took", "Took"),
    head("why", "Reason"), head("link", unseen("Links")),
  ];
  entries.sort((one, other) => other.at - one.at);
  return table("happened", "What happened, the newest first", heads, entries.map(entryRow));
}

function entryRow({ at, key, run, what, mark, took, why, isLoud, link }) {
  const target = run ? runHref(run.runId) : null;
  return row(target,
    cell("at", time(at, stamp(at, now()))),
    rowHead("type", target ? h("a", { href: target, "data-key": `h-${key}` }, what) : what),
    cell("status", mark),
    cell("took", took),
    reasonCell(why, isLoud ? "" : "soft"),
    cell("link", outside(link, "log", "Log of the job")));
}

const typeName = (type) => {
  const [, opened_] = /^(.*)_FAILURE$/.exec(type) ?? [];
  return opened_ ? [`${opened_}_`, reasonText("FAILURE")] : type;
};

function eventOf(run) {
  const end = run.endedAt ?? now();
  const waits = run.attempts.filter((one) => one.end === "retry").length;
  const waited = waits ? `after ${waits} waits` : null;
  const cancelled = run.cancelledBy ? `cancelled by ${run.cancelledBy}` : null;
  return {
    at: run.at,
    key: run.runId,
    run,
    what: typeName(run.eventType),
    mark: statusMark(run.status),
    took: lasted(firstEnd(run, end) - run.at),
    why: [cancelled, run.reason ?? waited].filter(Boolean).join("; "),
    isLoud: run.status === "failed" || run.eventType.endsWith("_FAILURE"),
    link: run.link,
  };
}

// Without what a replay added later: that has a line of its own.
function firstEnd(run, end) {
  const replay = run.attempts.findIndex((one) => one.isReplay);
  return replay > 0 ? (run.attempts[replay - 1].to ?? end) : end;
}

const ATTEMPT_STATUS = { ok: "succeeded", retry: "retry", failed: "failed" };
const attemptStatus = (one) => ATTEMPT_STATUS[one.end] ?? "running";

function replaysOf(life) {
  return life.runs.flatMap((run) => run.attempts.filter((one) => one.isReplay).map((one) => ({
    at: one.from,
    key: `${run.runId}-${one.number}`,
    run,
    what: `replayed by ${one.by}`,
    mark: statusMark(attemptStatus(one)),
    took: lasted((one.to ?? now()) - one.from),
    why: one.why ?? `${run.eventType}, attempt ${one.number}`,
    isLoud: one.end === "failed",
    link: null,
  })));
}

function reportsOf(life) {
  return life.operations.flatMap((operation) =>
    operation.reports.filter((report) => report.tries.length).map((report) => ({
      at: report.doneAt ?? report.tries.at(-1).at,
      key: null,
      run: null,
      what: "report to the control plane",
      mark: statusMark(report.doneAt === null ? "retry" : report.trouble ? "failed" : "succeeded"),
      took: lasted((report.doneAt ?? now()) - report.tries[0].at),
      why: `of ${words(operation.kind)}: ${reportText(report)}`,
      isLoud: Boolean(report.trouble),
      link: null,
    })));
}
