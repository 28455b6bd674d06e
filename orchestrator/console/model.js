// What the views draw, made of the API's answers: times in milliseconds, and null for what is
// unknown.

import { brief, KINDS } from "./words.js";

const at = (text) => (text ? Date.parse(text) : null);

/** The run is handled, and an attempt's end as it is drawn. */
const ENDS = {
  running: null,
  succeeded: "ok",
  duplicate: "ok",
  failed: "failed",
  retry: "retry",
  lease_expired: "retry",
};

const attemptOf = (one) => ({
  number: one.number,
  from: at(one.startedAt),
  to: at(one.endedAt),
  end: ENDS[one.how] ?? null,
  how: one.how,
  why: one.reason ?? (one.how === "lease_expired" ? "its process crashed" : null),
  isReplay: Boolean(one.replayed || one.by),
  by: one.by ?? (one.replayed ? "an operator" : null),
});

const stepOf = (step) => ({
  name: step.name,
  from: at(step.startedAt),
  to: at(step.recordedAt),
});

/** A run in a list or on its own; what a list omits is empty. */
export const runOf = (run) => ({
  ...run,
  at: at(run.firstSeen ?? run.at),
  endedAt: at(run.endedAt),
  dueAt: at(run.dueAt),
  reason: run.error?.message ?? run.note ?? run.reason ?? null,
  attempts: (run.attempts ?? []).filter((one) => one.startedAt).map(attemptOf),
  steps: (run.steps ?? []).map(stepOf),
  waits: run.waits ?? [],
});

// ---- operations

const statusOf = (start) =>
  start.endedAt === null || start.state === "open"
    ? "IN_PROGRESS"
    : start.succeeded ? "SUCCEEDED" : "FAILED";

function jobOf(start) {
  if (!start.job) return null;
  return {
    name: start.job.jobIdentifier,
    builder: start.job.builder,
    id: start.job.id,
    logUrl: start.job.logUrl,
    from: at(start.jobSince) ?? at(start.openedAt),
    to: at(start.endedAt),
    status: statusOf(start),
    reason: start.reason,
  };
}

const startOf = (start) => ({
  number: start.number,
  from: at(start.openedAt),
  endedAt: at(start.endedAt),
  succeeded: start.succeeded,
  refused: start.state === "given_back",
  reason: start.reason ?? null,
  by: start.by ?? null,
  cancelledBy: start.cancelledBy ?? null,
  outcomeRunId: start.outcomeRunId ?? null,
  job: jobOf(start),
  attempts: [],
  steps: [],
});

/** The start that an operation's summary has. */
const onlyStart = (operation) => ({ ...operation, number: operation.startNumber ?? 1 });

const isAccepted = (answer) => /^20\d\b/.test(answer ?? "");

const reportOf = (report) => ({
  url: report.url,
  count: report.count,
  tries: (report.tries ?? []).map((one) => ({
    at: at(one.at),
    answer: one.answer ?? "no answer",
    accepted: isAccepted(one.answer),
  })),
  doneAt: at(report.doneAt),
  nextAt: at(report.nextAt),
  trouble: report.trouble ?? null,
});

/** An operation, from a summary or whole: it begins with its first start. */
export function operationOf(operation) {
  if (!operation) return null;
  const given = operation.starts?.length ? operation.starts : [onlyStart(operation)];
  const starts = given.map(startOf);
  const opened = at(operation.openedAt);
  return {
    operationId: operation.operationId,
    tenantId: operation.tenantId,
    kind: operation.kind,
    tier: operation.tier ?? null,
    state: operation.state,
    openerId: operation.runId,
    startNumber: operation.startNumber ?? starts.at(-1).number,
    openedAt: Math.min(opened, starts[0].from ?? opened),
    startedAt: opened,
    endedAt: operation.state === "open" ? null : (at(operation.endedAt) ?? opened),
    succeeded: operation.succeeded ?? null,
    reason: operation.reason ?? null,
    by: operation.by ?? null,
    cancelledBy: operation.cancelledBy ?? null,
    deadlineAt: at(operation.deadlineAt),
    refused: operation.state === "given_back",
    waits: false,
    starts,
    job: starts.at(-1).job,
    reports: [...earlierReports(operation), ...lastReport(operation)],
  };
}

const lastReport = ({ report }) => (report ? [reportOf(report)] : []);

// Of an earlier start only the time at which its report was accepted is kept; until the current
// start has a report of its own, the operation's is that of the start before.
const earlierReports = ({ starts = [], report }) => starts.slice(0, -1)
  .filter(({ reportedAt }) => reportedAt && reportedAt !== report?.doneAt)
  .map((start) => {
    const doneAt = at(start.reportedAt);
    const tries = [{ at: doneAt, answer: "accepted", accepted: true }];
    return { url: null, count: 1, tries, doneAt, nextAt: null, trouble: null };
  });

// ---- tenants

/** A tenant in a list or on its own. */
export function tenantOf(tenant) {
  const operation = operationOf(tenant.operation);
  return {
    tenantId: tenant.tenantId,
    state: tenant.state ?? "none",
    changedAt: at(tenant.changedAt),
    tier: tenant.tier,
    operation,
    last: operationOf(tenant.lastOperation),
    isSlow: tenant.isSlow ?? false,
    reason: tenant.reason ?? operation?.reason ?? null,
    waiting: tenant.waitingCount ?? 0,
  };
}

/** A tenant's life: its operations with the attempts of their runs, and the runs beside them. */
export function lifeOf(tenant) {
  const runs = tenant.timeline.map((entry) => runOf({ ...entry, tenantId: tenant.tenantId }));
  const operations = (tenant.operations ?? []).map(operationOf);
  for (const operation of operations) attach(operation, runs);
  const rows = [
    ...runs.filter(isWaiting).map(rowOfRun),
    ...runs.filter((run) => isRefused(run, operations, tenant.operationsCursor)).map(rowOfRun),
    ...operations,
  ];
  return {
    ...tenantOf(tenant),
    operations,
    runs,
    rows: rows.sort((one, other) => other.openedAt - one.openedAt),
    cursor: tenant.cursor,
    operationsCursor: tenant.operationsCursor ?? null,
  };
}

// Each attempt and each step belongs to the last start that began before it. Where a job's log is
// may be known from its end alone.
function attach(operation, runs) {
  for (const { job, outcomeRunId } of operation.starts) {
    if (job) job.logUrl ??= runs.find(({ runId }) => runId === outcomeRunId)?.link ?? null;
  }
  const run = runs.find(({ runId }) => runId === operation.openerId);
  const startAt = (moment) =>
    operation.starts.findLast((start) => start.from - 1000 <= moment) ?? operation.starts[0];
  for (const attempt of run?.attempts ?? []) startAt(attempt.from).attempts.push(attempt);
  for (const step of run?.steps ?? []) startAt(step.from ?? step.to).steps.push(step);
  if (run) operation.starts[0].hidden = hiddenOf(run);
}

/** How many attempts of a run are no longer kept one by one. */
const hiddenOf = ({ attempts }) => (attempts.length ? attempts[0].number - 1 : 0);

const isWaiting = (run) =>
  run.status === "retry" && Boolean(run.waitsFor) && run.eventType in KINDS;

// A request that failed before it opened an operation. Of operations that aren't loaded nothing is
// known, so their runs are left out.
function isRefused(run, operations, more) {
  if (run.status !== "failed" || !(run.eventType in KINDS)) return false;
  const oldest = operations.at(-1)?.openedAt ?? 0;
  return (
    !operations.some(({ operationId }) => operationId === run.operationId) &&
    !(more && run.at < oldest)
  );
}

function rowOfRun(run) {
  const waits = run.status === "retry";
  const start = {
    number: 1, from: run.at, endedAt: run.endedAt, succeeded: false, refused: !waits,
    reason: run.reason, by: null, job: null, attempts: run.attempts, hidden: hiddenOf(run),
    steps: [],
  };
  return {
    operationId: run.operationId ?? run.runId,
    tenantId: run.tenantId,
    kind: KINDS[run.eventType],
    openerId: run.runId,
    openedAt: run.at,
    endedAt: waits ? null : (run.endedAt ?? run.at),
    succeeded: false,
    reason: run.reason,
    waits,
    refused: !waits,
    starts: [start],
    reports: [],
  };
}

/** The run to replay for the tenant: the opener of its operation, else its failed request. */
export function runToReplay(tenant) {
  const opener = tenant.operation?.openerId ?? tenant.last?.openerId;
  return opener ?? tenant.runs?.find((run) => run.status === "failed")?.runId ?? null;
}

/** A reason without what differs from tenant to tenant: its id, and ids of runs and jobs. */
export function causeOf(run) {
  const reason = run.reason ?? "no reason was kept";
  const general = run.tenantId ? reason.replaceAll(run.tenantId, "…") : reason;
  return brief(general);
}

/** The runs by what made them fail, the commonest cause first. */
export function groupByCause(runs) {
  const groups = new Map();
  for (const run of runs) {
    const reason = causeOf(run);
    groups.set(reason, [...(groups.get(reason) ?? []), run]);
  }
  return [...groups].sort((one, other) => other[1].length - one[1].length);
}
