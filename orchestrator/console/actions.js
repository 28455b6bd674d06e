// What an operator can do to one run or one tenant: replay, cancel. Each loads the run or the
// tenant again, says what will happen, and asks first.

import { api, now } from "./api.js";
import { ask, consequences } from "./dialogs.js";
import { h } from "./dom.js";
import { operationOf, runOf, runToReplay, tenantOf, lifeOf } from "./model.js";
import { note, session } from "./session.js";
import { builderName, clock, lasted, mono, MOVES, plural, stateMark, words } from "./words.js";

/** The sentence that says under which name an action is recorded. */
export const recorded = () =>
  h("p", { class: "faint" }, session.name
    ? `Recorded with your key's name: ${session.name}.`
    : "Recorded without a name: the service is open to everybody.");

/** Run an action's requests; a failure is shown as a note. */
async function attempt(work) {
  try {
    return await work();
  } catch (problem) {
    note(problem.message, { failed: true });
    return null;
  }
}

// ---- replay

/** Why a run can't be replayed now; null if it can. */
export function whyNoReplay(run, operation) {
  if (run.status === "running") return "It is running";
  if (run.status === "duplicate") return "It is a duplicate: replay the run that it repeats";
  if (run.status === "succeeded" && operation?.state === "open") {
    return `${words(operation.kind)} is under way`;
  }
  return null;
}

/** Ask, and replay the tenant's run: the opener of its operation, else its failed request. */
export async function replayTenant(id, done) {
  const tenant = await attempt(() => api.tenant(id));
  const life = tenant && lifeOf(tenant);
  const runId = life && runToReplay(life);
  if (life && !runId) note(`There is no run of ${id} to replay.`, { failed: true });
  if (runId) await replayRun(runId, done, life);
}

/** Ask, and replay a run. */
export async function replayRun(runId, done, tenant = null) {
  const found = await attempt(() => loadForReplay(runId, tenant));
  if (!found) return;
  const { run, operation } = found;
  const reason = whyNoReplay(run, operation);
  if (reason) note(reason, { failed: true });
  else askReplay(found, done);
}

async function loadForReplay(runId, tenant) {
  const [run, known] = await Promise.all([api.run(runId), tenant]);
  if (!run) {
    note("The run is no longer kept.", { failed: true });
    return null;
  }
  const own = known?.operation ?? known?.last;
  const isOwn = own && own.operationId === run.operationId;
  const operation = isOwn ? own : operationOf(await api.operation(run.operationId));
  return { run: runOf(run), operation, tenant: known };
}

function askReplay(found, done, refusal = null) {
  const { run, operation } = found;
  const isOver = run.status === "succeeded" || refusal !== null;
  const kind = words(operation?.kind ?? run.eventType);
  ask({
    title: `Replay ${kind}${run.tenantId ? ` of ${run.tenantId}` : ""}?`,
    body: [
      refusal ? h("p", { class: "reason" }, refusal) : null,
      isOver ? openedAgain(found) : goesOn(run),
      recorded(),
    ],
    verb: run.status === "succeeded" ? "Start a new job" : isOver ? "Replay with force" : "Replay",
    act: () => replay(found, isOver, done),
  });
}

// A replay by force: the operation is opened again.
function openedAgain({ run, operation, tenant }) {
  const job = operation?.job ?? run.job;
  const name = job?.name ?? job?.jobIdentifier;
  const builder = job?.builder ? builderName(job.builder) : "";
  const during = MOVES[operation?.kind]?.[0];
  return consequences(
    [h("b", null, "A new job is started"), name ? [`: ${builder} `, mono(name)] : null,
      ". The steps are run afresh."],
    during
      ? ["The tenant goes ", tenant ? ["from ", stateMark(tenant.state), " "] : null, "to ",
        stateMark(during), "."]
      : null,
    operation
      ? `The operation is opened again as start ${operation.startNumber + 1}; ` +
        "its end is reported to the control plane once more."
      : null);
}

function goesOn(run) {
  const names = run.steps.map((step, i) => [i ? ", " : null, mono(step.name)]);
  const begins = run.status === "failed"
    ? [h("b", null, `Attempt ${run.attempt + 1} begins at once`),
      ", with the event as it was received."]
    : [h("b", null, "It goes on at once"),
      run.dueAt ? `, instead of at ${clock(run.dueAt)}.` : "."];
  return consequences(
    begins,
    names.length
      ? [plural(names.length, "step"), " already done and not repeated: ", names, "."]
      : "No step was done yet; all of them are run.",
    "If the cause isn't fixed it fails again. No second job is started where one is known.");
}

async function replay(found, force, done) {
  const { run } = found;
  const name = run.tenantId ?? run.eventType;
  note(`Replaying ${name}…`);
  try {
    const answer = await api.replay(run.runId, force);
    const isQueued = answer.status === 202;
    note(isQueued ? `${name} is in the queue again.` : `${name}: the replay was handled.`);
  } catch (problem) {
    if (!force && /with force/.test(problem.message)) askReplay(found, done, problem.message);
    else if (problem.status === 503) note(`${name} waits: ${problem.message}`);
    else note(`${name}: ${problem.message}`, { failed: true });
  }
  done?.();
}

// ---- cancel

/** Ask, and cancel the tenant's operation. */
export async function cancelTenant(id, done) {
  const found = await attempt(() => api.tenant(id));
  if (!found) return;
  const tenant = tenantOf(found);
  if (tenant.operation) askCancel(tenant, done);
  else note(`Nothing of ${id} is under way any more.`, { failed: true });
}

function askCancel(tenant, done) {
  const { operation } = tenant;
  const { kind, job } = operation;
  const isCleanUp = kind === "clean_up";
  const reason = h("input", {
    name: "reason", autocomplete: "off", required: true, maxlength: 200,
    placeholder: "e.g. wrong release",
  });
  const tick = h("input", { type: "checkbox", name: "cleanUp", required: true });
  ask({
    title: `Cancel ${words(kind)} of ${tenant.tenantId}?`,
    look: "danger",
    body: [
      consequences(
        job
          ? [h("b", null, "The job is stopped"), `: ${builderName(job.builder)} `, mono(job.name),
            `, running for ${lasted(now() - job.from)}. What it has already done stays done.`]
          : [h("b", null, "No job has begun"), ", none will."],
        ["The operation ends as failed with your reason. The tenant goes to ",
          stateMark(MOVES[kind][2]), "."],
        "The failure is reported to the control plane.",
        tenant.waiting ? `${plural(tenant.waiting, "request")} waiting behind it goes on.` : null),
      h("label", null, h("span", null, "Reason"), reason),
      isCleanUp
        ? h("label", { class: "tick" }, tick,
          h("span", null, "Stop the clean-up too: what it hasn't removed remains"))
        : null,
      recorded(),
    ],
    verb: `Cancel ${words(kind)}`,
    act: (given) => cancel(tenant, given.get("reason").trim(), isCleanUp, done),
  });
}

async function cancel(tenant, reason, cleanUp, done) {
  const what = `${words(tenant.operation.kind)} of ${tenant.tenantId}`;
  note(`Cancelling ${what}…`);
  await attempt(async () => {
    const { status } = await api.cancel(tenant.tenantId, { reason, cleanUp });
    note(status === 202
      ? `The cancel of ${what} is recorded; it ends once its job is over.`
      : `Cancelled: ${what}.`);
  });
  done?.();
}
