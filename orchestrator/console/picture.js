// A tenant's life as a picture: one axis of time, one lane for each operation, the newest first.

import { ground, makeAxis, ruler } from "./axis.js";
import { h, outside, runHref, s, tenantHref } from "./dom.js";
import { bar, jobLook, jobRow, line, reportRow, runRow, waitsOf } from "./marks.js";
import { width } from "./measure.js";
import {
  brief, DAY, HOUR, icon, lasted, MIN, mono, MOVES, SEC, short, stamp, STATES, time, words,
} from "./words.js";

export const SPANS = [
  ["", "whole life", null],
  ["7d", "7 days", 7 * DAY],
  ["24h", "24 hours", DAY],
  ["1h", "1 hour", HOUR],
  ["10m", "10 min", 10 * MIN],
];

/** The picture of the rows (operations, and runs that wait or were refused).
 *
 * `span` is one of SPANS, or an operation's id or its beginning, with `.run` for its run alone.
 * `opened` has the lanes that were opened or closed by hand. */
export function picture(rows, { span, room, now, opened, toggle, more }) {
  const { from, to, one } = stretch(rows, span, now);
  const margin = one ? 0 : (to - from) * 0.015;
  const ax = makeAxis(one ? [] : busyOf(rows, now), from, to + margin, room);
  const shown = rows.filter((row) => row.openedAt <= to && endOf(row, now) >= from);
  const isOpen = (row, i) => opened.get(row.operationId) ?? opensByDefault(row, i, shown);
  const all = `${rows.length}${more ? "+" : ""}`;
  const count = h("span", { class: "faint" },
    shown.length < rows.length ? `${shown.length} of ${all} ` : `${all} `,
    rows.length === 1 ? "operation" : "operations");
  return h("div", { class: "picture", "data-key": "picture" },
    h("div", { class: "row head" }, h("div", { class: "lanehead" }, count), ruler(ax, now)),
    h("div", { class: "row" },
      h("div", { class: "lanehead" }, h("span", { class: "plainhead" }, "state")),
      stateLane(rows, ax, now)),
    h("ol", { class: "lanes", "aria-label": "Operations, the newest first" },
      shown.map((row, i) => lane(row, ax, now, isOpen(row, i), toggle))),
    shown.length ? null
      : h("p", { class: "nothing" }, "Nothing happened in this time. Choose a longer one."));
}

function lane(row, ax, now, open, toggle) {
  const flip = () => toggle(row.operationId, !open);
  return h("li", { class: `row${open ? " open" : ""}` },
    laneHead(row, now, open, flip), laneDrawing(row, ax, now, open));
}

const opensByDefault = (row, i, shown) =>
  i === 0 || row.waits || shown.length < 3 || (i === 1 && shown[0].waits);

// ---- the time shown

const reportsOf = (row) => row.reports.filter((one) => one.tries.length);

const endOf = (row, now) =>
  Math.max(row.endedAt ?? now, ...reportsOf(row).map((one) => one.doneAt ?? now));

function stretch(rows, span, now) {
  const [key, part] = span.split(".");
  const one = key ? rows.find((row) => row.operationId.startsWith(key)) : null;
  if (one) return { one, ...(part === "run" && runStretch(one, now) || wholeOf(one, now)) };
  const chosen = SPANS.find(([name]) => name === span)?.[2];
  const born = Math.min(...rows.map((row) => row.openedAt - SEC), now - 10 * SEC);
  return { one: null, from: chosen ? now - chosen : born, to: now };
}

function wholeOf(row, now) {
  const end = endOf(row, now);
  const margin = (end - row.openedAt) * 0.04 + SEC;
  return { from: row.openedAt - margin, to: end + margin };
}

// The last attempt alone, so that its steps have bars of their own.
function runStretch(row, now) {
  const last = row.starts.at(-1)?.attempts.at(-1);
  if (!last) return null;
  const end = last.to ?? now;
  const margin = (end - last.from) * 0.06 + 1;
  return { from: last.from - margin, to: end + 3 * margin };
}

function busyOf(rows, now) {
  const stretches = rows.flatMap((row) => [
    [row.openedAt, row.openedAt],
    ...row.starts.flatMap((start) => [...attemptStretches(start, now), ...jobStretch(start, now)]),
    ...reportsOf(row).map((report) => [report.tries[0].at, report.doneAt ?? now]),
  ]);
  return [...stretches, [now - 5 * SEC, now]];
}

const attemptStretches = (start, now) =>
  start.attempts.map((one, i) => {
    const waitEnds = start.attempts[i + 1]?.from ?? now;
    return [one.from, one.end === "retry" ? waitEnds : (one.to ?? now)];
  });

const jobStretch = ({ job }, now) => (job ? [[job.from, job.to ?? now]] : []);

// ---- the state above the lanes

const BANDS = { run: "run", ok: "ok", rest: "rest", gone: "rest", bad: "bad" };

function stateLane(rows, ax, now) {
  const moments = [...rows].reverse().flatMap(momentsOf).sort((one, other) => one[0] - other[0]);
  const said = moments.slice(-6).map(([t, state]) => `${words(state)} from ${stamp(t, now)}`);
  const label = `State: ${said.join(", ") || "none yet"}`;
  const frame = { class: "lane", width: ax.room, height: 26, role: "img", "aria-label": label };
  return s("svg", frame, ground(ax, 26, now),
    moments.map(([t, state], i) => band(t, moments[i + 1]?.[0] ?? now, state, ax)));
}

// The times at which an operation changed the tenant's state, with that state.
function momentsOf(row) {
  if (!MOVES[row.kind] || row.waits) return [];
  const [during, good, bad] = MOVES[row.kind];
  const last = row.starts.at(-1);
  return row.starts.filter((start) => !start.refused).flatMap((start) => {
    const begin = start === row.starts[0] ? row.openedAt : start.from;
    const isOver = start !== last || row.endedAt !== null;
    const end = start === last ? row.endedAt : start.endedAt;
    const succeeded = start === last ? row.succeeded : start.succeeded;
    return [[begin, during], ...(isOver && end ? [[end, succeeded ? good : bad]] : [])];
  });
}

function band(from, to, state, ax) {
  if (to < ax.from || from > ax.to) return null;
  const x0 = ax.place(Math.max(from, ax.from));
  const x1 = ax.place(Math.min(to, ax.to));
  const look = BANDS[STATES[state]] ?? "rest";
  const texts = [words(state), look === "bad" ? "failed" : ""];
  const text = texts.find((each) => width(each, "11px") <= x1 - x0 - 10);
  const shape = { x: x0, y: 5, width: Math.max(x1 - x0 - 1, 1), height: 16, class: `band ${look}` };
  return [
    s("rect", shape),
    text ? s("text", { x: x0 + 5, y: 17, class: `band ${look}` }, text) : null,
  ];
}

// ---- a lane

const firstJob = (row) => row.starts.find((start) => start.job)?.job ?? null;
const hasFailedJob = (row) =>
  row.starts.some(({ job, reason }) => job && jobLook(job) === "bad" && (reason ?? job.reason));
const hasFailedRun = (row) => row.starts.some((start) => start.attempts.at(-1)?.end === "failed");

function laneDrawing(row, ax, now, open) {
  const frame = (height, ...inside) => {
    const label = sentence(row, now);
    const shape = { class: "lane", width: ax.room, height, role: "img", "aria-label": label };
    return s("svg", shape, ground(ax, height, now), inside);
  };
  return open ? openLane(row, ax, now, frame) : closedLane(row, ax, now, frame);
}

function closedLane(row, ax, now, frame) {
  const job = firstJob(row);
  if (!job) return frame(28, bareLane(row, ax, now));
  const last = row.starts.findLast((start) => start.job).job;
  const hasFailed = row.endedAt !== null && !row.succeeded;
  const long = lasted((row.endedAt ?? now) - row.openedAt);
  const text = hasFailed ? brief(row.reason) || "failed" : long;
  const x0 = ax.place(job.from);
  const x1 = Math.max(ax.place(last.to ?? now), x0 + 3);
  const row1 = line(ax.room, 18);
  row1.take(x0, x1);
  const waits = row.starts.flatMap((start) => waitsOf(start, now));
  return frame(28,
    waits.map((one) => bar(ax.place(one.from), ax.place(one.to), 10, 8, "waiting")),
    jobRow(row.starts, ax, 5, 18, now).marks,
    row1.sayAt(text, x0, x1, hasFailed ? "bad" : jobLook(last), !hasFailed));
}

// Without a job: the attempts where they are known, else from begin to end.
function bareLane(row, ax, now) {
  if (row.starts.some((start) => start.attempts.length)) return runRow(row.starts, ax, 5, now);
  const x0 = ax.place(row.openedAt);
  const x1 = Math.max(ax.place(row.endedAt ?? now), x0 + 4);
  const words1 = line(ax.room, 18);
  words1.take(x0, x1);
  const look = row.endedAt === null ? "wait" : row.succeeded ? "ok" : "bad";
  const text = brief(row.reason) ?? (row.endedAt === null ? "no job yet" : "no job");
  return [
    bar(x0, x1, 7, 14, `${look} solid`),
    words1.sayAt(text, x0, x1, look === "ok" ? "plain" : look),
  ];
}

function openLane(row, ax, now, frame) {
  const reports = reportsOf(row);
  const job = firstJob(row);
  const below = 50 + (job ? (hasFailedJob(row) ? 42 : 26) : 0);
  const height = below + (reports.length ? 22 : 0) + (hasFailedRun(row) ? 22 : 0) + 6;
  const jobs = job ? jobRow(row.starts, ax, 53, 20, now) : null;
  return frame(height,
    bracket(row, ax, now),
    runRow(row.starts, ax, 30, now),
    jobs?.marks, jobs?.texts(),
    reports.length ? reportRow(reports, ax, below + 2, now) : null);
}

// The operation as a whole: from its request to its end, waits included.
function bracket(row, ax, now) {
  if (row.refused) return null;
  const x0 = ax.place(row.openedAt);
  const x1 = Math.max(ax.place(row.endedAt ?? now), x0 + 2);
  const text = line(ax.room, 18);
  text.take(x0, x1);
  const shape = `M${x0} 18V14H${x1}${row.endedAt === null ? "" : "V18"}`;
  const long = lasted((row.endedAt ?? now) - row.openedAt);
  return [s("path", { d: shape, class: "whole" }), text.sayAt(`${long} in all`, x0, x1, "plain")];
}

// All that is drawn, as a sentence for screen readers.
function sentence(row, now) {
  const waits = row.starts.flatMap((start) => waitsOf(start, now));
  const waited = waits.reduce((sum, one) => sum + one.to - one.from, 0);
  return [
    `${words(row.kind)}, opened ${stamp(row.openedAt, now)}`,
    row.starts.length > 1 ? `${row.starts.length} starts` : null,
    ...row.starts.slice(0, -1).filter((start) => start.reason).map((start) =>
      `failed ${stamp(start.endedAt ?? row.openedAt, now)}: ${start.reason}`),
    ...row.starts.filter((start) => start.by).map((start) =>
      `replayed by ${start.by} ${stamp(start.from, now)}`),
    waits.length ? `waited ${lasted(waited)}${waits[0].why ? `: ${waits[0].why}` : ""}` : null,
    jobSentence(row.starts.at(-1)?.job, now),
    endSentence(row, now),
  ].filter(Boolean).join("; ");
}

function jobSentence(job, now) {
  if (!job) return "no job";
  if (job.to === null) return `job ${job.name} running for ${lasted(now - job.from)}`;
  const end = String(job.status ?? "ended").toLowerCase();
  return `job ${job.name} ${end} after ${lasted(job.to - job.from)}`;
}

function endSentence(row, now) {
  if (row.endedAt === null) return "not over";
  const end = row.succeeded ? "succeeded" : "failed";
  return `${end} ${stamp(row.endedAt, now)}${row.reason ? `: ${row.reason}` : ""}`;
}

function laneLook(row) {
  if (row.waits) return "wait";
  if (row.endedAt === null) return row.starts.at(-1)?.job ? "run" : "wait";
  return row.succeeded ? "ok" : "bad";
}

function laneHead(row, now, open, toggle) {
  const label = `${stamp(row.openedAt, now)}: show this operation's time alone`;
  const fold = { "aria-expanded": String(open), "data-key": `lane-${row.operationId}` };
  const zoom = {
    class: "when",
    href: tenantHref(row.tenantId, { span: short(row.operationId) }),
    "data-key": `zoom-${row.operationId}`,
    title: "Show this operation's time alone",
    "aria-label": label,
  };
  return h("div", { class: "lanehead" },
    h("div", { class: "laneline" },
      h("button", { class: "fold", ...fold, on: { click: toggle } },
        icon(laneLook(row)), h("b", null, words(row.kind))),
      h("a", zoom, time(row.openedAt, stamp(row.openedAt, now)))),
    open ? laneLinks(row) : null);
}

function laneLinks(row) {
  const jobs = row.starts.filter((start) => start.job);
  const starts = row.waits ? " waits"
    : row.starts.length > 1 ? ` ${row.starts.length} starts` : null;
  return h("div", { class: `rows${hasFailedJob(row) ? " why" : ""}` },
    h("span", null, "run ", h("a", { href: runHref(row.openerId) }, mono(short(row.openerId))),
      starts ? h("span", { class: "faint" }, starts) : null),
    jobs.length ? h("span", null, "job ", logLinks(jobs)) : null,
    reportsOf(row).length ? h("span", { class: "only" }, "report") : null);
}

function logLinks(jobs) {
  const links = jobs
    .map(({ job, number }) => {
      const text = jobs.length > 1 ? `log ${number}` : "log";
      return outside(job.logUrl, text, `Log of ${job.name}, start ${number}`);
    })
    .filter(Boolean)
    .slice(-2);
  return links.length ? links.map((link, i) => [i ? ", " : null, link]) : jobs.at(-1).job.name;
}

// ---- the legend, and the hatch of waits

const swatch = (...inside) =>
  s("svg", { width: 18, height: 12, "aria-hidden": "true" }, inside);

export function legend() {
  const marks = [
    [bar(7, 11, 0, 12, "ok solid"), "attempt of the run"],
    [bar(0, 18, 2, 8, "waiting"), "waiting"],
    [bar(0, 18, 1, 10, "run"), "job running"],
    [bar(0, 18, 1, 10, "ok"), "job succeeded"],
    [bar(0, 18, 1, 10, "bad"), "failed"],
    [s("circle", { cx: 9, cy: 6, r: 4, class: "dot ok" }), "report"],
    [[1, 17].map((x) => s("line", { x1: x, x2: x, y1: 0, y2: 12, class: "edge" })),
      "quiet, folded"],
  ];
  return h("ul", { class: "legend", "aria-label": "What the picture's marks mean" },
    marks.map(([drawn, text]) => h("li", null, swatch(drawn), text)));
}

/** The hatch of a wait: once a page, used by every bar that waits. */
export function patterns() {
  const pattern = {
    id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse",
    patternTransform: "rotate(45)",
  };
  return s("svg", { class: "unseen", width: 0, height: 0, "aria-hidden": "true" },
    s("defs", null, s("pattern", pattern,
      s("rect", { width: 6, height: 6, class: "hatchground" }),
      s("rect", { width: 2, height: 6, class: "hatchline" }))));
}
