// The rows of a lane: marks first, then words where there is room for them.

import { s } from "./dom.js";
import { fit, width } from "./measure.js";
import { brief, clock, lasted, plural, SEC } from "./words.js";

const INSET = 8; // of a text within its bar
const BESIDE = 6; // between a bar and a text next to it
const SMALLEST = 56; // below this a text is left out

/** The look of a job's status. */
const JOB_LOOK = {
  SUCCEEDED: "ok",
  FAILED: "bad",
  STOPPED: "bad",
  TIMED_OUT: "bad",
  IN_PROGRESS: "run",
};
export const jobLook = (job) => JOB_LOOK[job.status] ?? "gone";

/** A bar, at least 3 pixels wide. */
export const bar = (x0, x1, y, height, look) =>
  s("rect", {
    x: x0,
    y,
    width: Math.max(x1 - x0, 3),
    height,
    rx: Math.min(3, height / 2),
    class: `bar ${look}`,
  });

const within = (ax, from, to) => to >= ax.from && from <= ax.to;

// ---- words

/** A line of texts, which records the space in use, so that no text covers another. A text is
 * placed in its bar, else to its right, else to its left, wherever all of it fits; otherwise it is
 * cut, and its tooltip has the whole text. */
export function line(room, y) {
  const taken = [];
  const leftOf = (x) =>
    Math.max(0, ...taken.filter(([, end]) => end <= x + 1).map(([, end]) => end));
  const rightOf = (x) =>
    Math.min(room, ...taken.filter(([begin]) => begin >= x - 1).map(([begin]) => begin));

  function put(text, x, anchor, look, whole = text) {
    const long = width(text);
    taken.push(anchor === "end" ? [x - long - 4, x] : [x, x + long + 4]);
    const title = whole === text ? null : s("title", null, whole);
    return s("text", { x, y, class: look, "text-anchor": anchor }, text, title);
  }

  const take = (x0, x1) => taken.push([x0, x1]);

  function sayAt(text, x0, x1, look, inside = false) {
    const long = width(text);
    const after = rightOf(x1) - x1 - 10;
    const before = x0 - leftOf(x0) - 10;
    if (inside && long <= x1 - x0 - 14) return put(text, x0 + INSET, null, `in ${look}`);
    if (long <= after) return put(text, x1 + BESIDE, null, `out ${look}`);
    if (long <= before) return put(text, x0 - BESIDE, "end", `out ${look}`);
    if (Math.max(after, before) < SMALLEST) return null;
    return after >= before
      ? put(fit(text, after), x1 + BESIDE, null, `out ${look}`, text)
      : put(fit(text, before), x0 - BESIDE, "end", `out ${look}`, text);
  }

  // Under a bar: from its left edge on, else up to its right edge.
  function under(text, x0, x1, look) {
    const long = width(text);
    const after = rightOf(x1) - x0 - 6;
    const before = x1 - leftOf(x0) - 6;
    if (long <= after) return put(text, x0, null, `out ${look}`);
    return long <= before || before > after
      ? put(fit(text, before), x1, "end", `out ${look}`, text)
      : put(fit(text, after), x0, null, `out ${look}`, text);
  }

  // On a background over the bar itself, if the bar fills the whole line.
  function over(text, x0, x1, look) {
    const said = fit(text, x1 - x0 - 40);
    if (!said) return null;
    const plate = { x: x0 + 12, y: y - 13, width: width(said) + 12, height: 17, rx: 3 };
    return [
      s("rect", { ...plate, class: "plate" }),
      s("text", { x: x0 + 18, y, class: `in ${look}` }, said, s("title", null, text)),
    ];
  }

  return { take, sayAt, under, over };
}

// ---- the run

/** The waits of a start; those for one reason in a row are one. */
export function waitsOf(start, now) {
  const made = earlierWaits(start);
  for (const [i, one] of start.attempts.entries()) {
    if (one.end !== "retry") continue;
    const next = start.attempts[i + 1];
    const wait = { from: one.to, to: next?.from ?? now, why: one.why, tries: 1, open: !next };
    const last = made.at(-1);
    if (last && last.why === wait.why && wait.from - last.to < 3 * SEC) {
      Object.assign(last, { to: wait.to, tries: last.tries + 1, open: wait.open });
    } else made.push(wait);
  }
  return made;
}

// Only the latest of many attempts are kept: the time before them is drawn as a wait.
function earlierWaits(start) {
  const first = start.attempts[0];
  if (!start.hidden) return [];
  return [{ from: start.from, to: first.from, why: first.why, tries: start.hidden, open: false }];
}

/** When the attempts of a start are over: a wait lasts until now. */
function attemptsEnd(start, now) {
  const last = start.attempts.at(-1);
  return last.end === "retry" ? now : (last.to ?? now);
}

const ATTEMPT_LOOK = { ok: "ok", failed: "bad" };

export function runRow(starts, ax, y, now) {
  const row = line(ax.room, y + 13);
  const below = line(ax.room, y + 31);
  const shown = starts.filter(
    (one) => one.attempts.length && within(ax, one.from, attemptsEnd(one, now)));
  const drawn = shown.map((start) => drawStart(start, ax, y, now));
  for (const { from, to } of drawn) row.take(from, to);
  const failed = drawn.filter((one) => one.failure);
  const said = failed.length
    ? failed.map(({ failure, last }) => below.under(failure, last, last + 4, "bad"))
    : [...drawn].reverse().filter((one) => one.text).map(({ text, from, to, look }) =>
      row.sayAt(text, from, to, look) ?? row.over(text, from, to, look));
  return [drawn.map((one) => one.marks), said];
}

function drawStart(start, ax, y, now) {
  const waits = waitsOf(start, now);
  const tries = start.attempts;
  const from = ax.place(waits[0]?.from ?? tries[0].from);
  const wait = waits.at(-1);
  const end = tries.at(-1);
  const to = Math.max(ax.place(end.to ?? now), wait ? ax.place(wait.to) : 0, from + 4);
  const steps = drawSteps(start, ax, y, now);
  const marks = [
    waits.map((one) => bar(ax.place(one.from), ax.place(one.to), y + 5, 8, "waiting")),
    drawAttempts(tries, (to - from) / tries.length < 9, ax, y, now),
    steps,
  ];
  const text = waits.length
    ? waitText(waits, tries.length + (start.hidden ?? 0), now)
    : [start.by ? `replayed by ${start.by}` : null, steps ? null : stepsText(start)]
      .filter(Boolean).join(", ");
  const failure = end.end === "failed" ? brief(end.why) || "failed" : null;
  const look = waits.length ? "wait" : "plain";
  return { marks, from, to, text, look, failure, last: ax.place(end.from) };
}

const stepsText = (start) => (start.steps.length ? plural(start.steps.length, "step") : null);

function waitText(waits, count, now) {
  const last = waits.at(-1);
  const many = plural(count, "try", "tries");
  const long = last.open ? now - waits[0].from : last.to - waits[0].from;
  const why = last.why ? `: ${brief(last.why)}` : "";
  return `${last.open ? "waiting" : "waited"} ${lasted(long)}, ${many}${why}`;
}

// Where they are dense, only the first and the last are drawn.
function drawAttempts(tries, dense, ax, y, now) {
  const shown = dense ? [...new Set([tries[0], tries.at(-1)])] : tries;
  return shown.map((one) => {
    const x0 = ax.place(one.from);
    const look = one.to === null ? "run" : (ATTEMPT_LOOK[one.end] ?? "wait");
    return bar(x0, Math.max(ax.place(one.to ?? now), x0 + 4), y + 2, 14, `${look} solid`);
  });
}

// The steps of the last attempt become named bars once it fills the picture.
function drawSteps(start, ax, y, now) {
  const last = start.attempts.at(-1);
  const steps = start.steps.filter((step) => step.from !== null && step.from >= last.from);
  if (!steps.length || ax.place(steps.at(-1).to) - ax.place(steps[0].from) <= 40) return null;
  return [
    bar(ax.place(last.from), ax.place(last.to ?? now), y, 18, "rest"),
    steps.map((step) => {
      const x0 = ax.place(step.from);
      const x1 = ax.place(step.to);
      const text = fit(`${step.name} ${lasted(step.to - step.from)}`, x1 - x0 - 10);
      const said = text ? s("text", { x: x0 + 6, y: y + 13, class: "in ok" }, text) : null;
      return [bar(x0, x1, y + 2, 14, "step"), said];
    }),
  ];
}

// ---- the job

export function jobRow(starts, ax, y, tall, now) {
  const row = line(ax.room, y + tall / 2 + 4);
  const below = line(ax.room, y + tall + 14);
  const drawn = starts
    .filter(({ job }) => job && within(ax, job.from, job.to ?? now))
    .map(({ job, reason }) => {
      const isOpen = job.to === null;
      const x0 = ax.place(job.from);
      const x1 = Math.max(ax.place(job.to ?? now), x0 + 3);
      row.take(x0, x1 + (isOpen ? 6 : 0));
      return { job, reason: brief(reason ?? job.reason), isOpen, x0, x1, look: jobLook(job) };
    });
  const marks = drawn.map(({ isOpen, x0, x1, look }) => {
    const tip = `M${x1 + 1} ${y}l5 ${tall / 2}l-5 ${tall / 2}z`;
    const isGoingOn = isOpen && now <= ax.to;
    return [bar(x0, x1, y, tall, look), isGoingOn ? s("path", { d: tip, class: "tip" }) : null];
  });
  const texts = () => [
    [...drawn].reverse().map(({ job, x0, x1, look }) => {
      const took = lasted((job.to ?? now) - job.from);
      const whole = `${job.name} ${took}`;
      return row.sayAt(width(whole) < x1 - x0 - 14 ? whole : took, x0, x1, look, true);
    }),
    drawn
      .filter(({ look, reason }) => look === "bad" && reason)
      .map(({ reason, x0, x1 }) => below.under(reason, x0, x1, "bad")),
  ];
  return { marks, texts };
}

// ---- the reports to the control plane

export function reportRow(reports, ax, y, now) {
  const row = line(ax.room, y + 13);
  const shown = reports.filter(
    (one) => one.tries.length && within(ax, one.tries[0].at, one.doneAt ?? now));
  const drawn = shown.map((report) => {
    const x0 = ax.place(report.tries[0].at);
    const x1 = ax.place(report.doneAt ?? now);
    row.take(x0 - 4, x1 + 4);
    const wait = x1 - x0 > 4 ? bar(x0, x1, y + 5, 8, "waiting") : null;
    const dots = report.tries.map((one) => {
      const look = one.accepted ? "ok" : "wait";
      return s("circle", { cx: ax.place(one.at), cy: y + 9, r: 4, class: `dot ${look}` });
    });
    return { report, x0, x1, marks: [wait, dots] };
  });
  const said = [...drawn].reverse().map(({ report, x0, x1 }) =>
    row.sayAt(reportText(report), x0 - 4, x1 + 4, report.trouble ? "bad" : "plain"));
  return [drawn.map((one) => one.marks), said];
}

/** The result of a report, with its tries: "accepted 01:48:18, try 3; before: 503". */
export function reportText(report) {
  const count = report.count ?? report.tries.length;
  const many = plural(count, "try", "tries");
  if (report.doneAt === null) {
    const last = report.tries.at(-1)?.answer;
    return `not accepted yet: ${last ? `${last}, ` : ""}${many}`;
  }
  if (report.trouble) return `given up ${clock(report.doneAt)}, ${many}: ${report.trouble}`;
  const before = [...new Set(report.tries.slice(0, -1).map((one) => one.answer))];
  const others = before.length ? `; before: ${before.join(", ")}` : "";
  const tries = count > 1 ? `, try ${count}${others}` : "";
  return `accepted ${clock(report.doneAt)}${tries}`;
}
