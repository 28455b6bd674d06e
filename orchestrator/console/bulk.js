// Replays many runs: five requests at a time, sent from this page, with progress in a dock. Only
// runs that are shown can be selected, never "all that match".

import { recorded } from "./actions.js";
import { api } from "./api.js";
import { ask, consequences } from "./dialogs.js";
import { $, h, runHref, say } from "./dom.js";
import { groupByCause } from "./model.js";
import { plural } from "./words.js";

const AT_ONCE = 5;
const TYPED_FROM = 20;
const REASONS_SHOWN = 3;
const TRIES = 4;
const REPLAYABLE = ["failed", "retry"];

let bulk = null;
export const isGoing = () => bulk !== null && !bulk.hasEnded;

/** Ask, and replay the chosen runs. `begun` is called once it begins, `ended` once it is over. */
export function askBulk(chosen, { begun, ended }) {
  const runs = chosen.filter((run) => REPLAYABLE.includes(run.status));
  const isTyped = runs.length >= TYPED_FROM;
  ask({
    title: `Replay ${plural(runs.length, "run")}?`,
    body: [
      consequences(...whatHappens(runs, chosen.length - runs.length)),
      isTyped ? numberField(runs.length) : null,
      recorded(),
    ],
    check: (form) => (isTyped ? checkNumber(form, runs.length) : null),
    verb: `Replay ${runs.length}`,
    act: () => {
      begun();
      replayAll(runs).then(ended);
    },
  });
}

function whatHappens(runs, left) {
  const tenants = new Set(runs.map((run) => run.tenantId)).size;
  const causes = groupByCause(runs);
  const quoted = causes.slice(0, REASONS_SHOWN).map(([cause, of], i) => [
    i ? "; " : null, h("q", null, cause), causes.length > 1 ? ` (${of.length})` : null,
  ]);
  const many = `${plural(runs.length, "run")} of ${plural(tenants, "tenant")}`;
  const number = causes.length === 1 ? "one reason" : plural(causes.length, "reason");
  return [
    [h("b", null, many), " each get a new attempt; steps already done are not repeated."],
    [`They failed for ${number}: `, quoted, ". Is it fixed?"],
    "Five at a time. You can stop in between; those already sent go on.",
    left
      ? `${plural(left, "run")} left out: not failed. Replay such a one from its own page.`
      : null,
  ];
}

function numberField(count) {
  const field = {
    name: "number", inputmode: "numeric", autocomplete: "off", "aria-describedby": "wrong",
  };
  return h("label", null, h("span", null, `Type ${count} to confirm`), h("input", field));
}

function checkNumber(form, count) {
  const field = form.elements.number;
  if (field.value.trim() === String(count)) return null;
  field.setAttribute("aria-invalid", "true");
  return `Type ${count}, the number of runs.`;
}

// The browser asks before it closes a page that is still sending.
const stay = (event) => event.preventDefault();

async function replayAll(runs) {
  bulk = { runs, next: 0, done: [], isStopping: false, hasEnded: false };
  draw();
  addEventListener("beforeunload", stay);
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  removeEventListener("beforeunload", stay);
  bulk.hasEnded = true;
  draw();
  say(`Bulk replay ended: ${tally()}`);
}

async function work() {
  while (bulk.next < bulk.runs.length && !bulk.isStopping) {
    const run = bulk.runs[bulk.next++];
    bulk.done.push({ run, ...(await replayOne(run)) });
    draw();
  }
}

async function replayOne(run) {
  for (let tries = 1; ; tries += 1) {
    try {
      await api.replay(run.runId, false);
      return { result: "handled" };
    } catch (problem) {
      const isBusy = problem.status === 429 && tries < TRIES && !bulk.isStopping;
      if (!isBusy) return { ...resultOf(problem), why: problem.message };
      await new Promise((go) => setTimeout(go, Math.max(1, problem.retryAfter) * 1000));
    }
  }
}

function resultOf(problem) {
  if (problem.needsKey || problem.status === 403) bulk.isStopping = true;
  if (problem.status === 503) return { result: "waiting" };
  return { result: problem.status ? "refused" : "unanswered" };
}

const LOOKS = { waiting: "wait", refused: "bad", unanswered: "bad" };

function tally() {
  const count = (result) => bulk.done.filter((one) => one.result === result).length;
  const left = bulk.runs.length - bulk.done.length;
  const all = ["handled", ...Object.keys(LOOKS)].map((result) => [count(result), result]);
  return [...all, [left, bulk.isStopping ? "not sent" : "to go"]]
    .filter(([n]) => n)
    .map(([n, text]) => `${n} ${text}`)
    .join(", ");
}

function heading() {
  const [done, all] = [bulk.done.length, bulk.runs.length];
  if (bulk.hasEnded && bulk.isStopping) return `Stopped: ${done} of ${all} replayed`;
  if (bulk.hasEnded) return `Replayed ${plural(all, "run")}`;
  return bulk.isStopping ? "Stopping…" : `Replaying ${done} of ${all}`;
}

function draw() {
  const dock = $("dock");
  const hadFocus = dock.contains(document.activeElement);
  const odd = bulk.done.filter((one) => one.why);
  dock.hidden = false;
  dock.replaceChildren(
    h("div", { class: "dockline" },
      h("b", null, heading()),
      h("progress", { max: bulk.runs.length, value: bulk.done.length, ...named("Runs replayed") }),
      h("span", { class: "tally" }, tally()),
      bulk.hasEnded ? closeButton(dock) : stopButton()),
    odd.length
      ? h("ul", { class: "odd", tabindex: 0, ...named("Not handled") }, odd.map(oddLine))
      : "");
  if (hadFocus) dock.querySelector("button").focus();
}

const named = (text) => ({ "aria-label": text });

function closeButton(dock) {
  const close = () => {
    dock.hidden = true;
  };
  return h("button", { on: { click: close } }, "Close");
}

function stopButton() {
  const stop = () => {
    bulk.isStopping = true;
    draw();
  };
  return h("button", { disabled: bulk.isStopping, on: { click: stop } }, "Stop");
}

const oddLine = ({ run, result, why }) =>
  h("li", { class: LOOKS[result] },
    h("a", { href: runHref(run.runId) }, run.tenantId ?? run.eventType), " ", why);
