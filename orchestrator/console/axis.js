// One axis of time. Busy stretches share the room by their length; long quiet ones are folded into
// strips of a fixed width, so that minutes stay legible beside months. x is in pixels.

import { s } from "./dom.js";
import { width } from "./measure.js";
import { clock, day, DAY, HOUR, hourMinute, lasted, MIN, sameDay, SEC, year } from "./words.js";

const WIDE = 700; // the room from which there is space for the words of a fold
const BETWEEN_TICKS = 64;
const NOT_YET = -99;

const STEPS = [
  10, 20, 50, 100, 200, 500,
  ...[1, 5, 15, 30].map((n) => n * SEC),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MIN),
  ...[1, 2, 6, 12].map((n) => n * HOUR),
  ...[1, 7, 30, 90, 365].map((n) => n * DAY),
];

/** The axis from `from` to `to` over `room` pixels; `busy` has the stretches that are not quiet. */
export function makeAxis(busy, from, to, room) {
  const pieces = fold(busy, from, to);
  const count = pieces.length - 1;
  // Where there are many, folds take a third of the room at most.
  const gap = Math.min(room > WIDE ? 46 : 28, room / 3 / Math.max(count, 1));
  const free = room - gap * count;
  const widths = share(pieces, free, Math.min(room > WIDE ? 70 : 26, free / pieces.length / 2));
  const parts = [];
  let x = 0;
  for (const [i, [a, b]] of pieces.entries()) {
    parts.push({ from: a, to: b, x0: x, x1: x + widths[i] });
    x += widths[i] + gap;
  }
  const folds = parts.slice(1).map((next, i) => {
    const before = parts[i];
    return { from: before.to, to: next.from, x0: before.x1, x1: next.x0 };
  });
  const place = (t) => placeOf(t, parts, folds);
  const ticks = parts.flatMap((one) => ticksOf(one, place));
  return { room, parts, folds, place, ticks, from, to };
}

// A quiet stretch longer than a third of all that is busy is left out.
function fold(busy, from, to) {
  const inside = busy
    .filter(([a, b]) => b >= from && a <= to)
    .map(([a, b]) => [Math.max(a, from), Math.min(b, to)])
    .sort((one, other) => one[0] - other[0]);
  const merged = merge(inside, 0);
  const total = merged.reduce((sum, [a, b]) => sum + b - a, 0);
  if (!inside.length || to - from <= 2.5 * total) return [[from, to]];
  return merge(inside, Math.max(total / 3, 10 * MIN)).map(([a, b]) => [
    Math.max(a - Math.max((b - a) * 0.04, 10 * SEC), from),
    Math.min(b + Math.max((b - a) * 0.05, 10 * SEC), to),
  ]);
}

// Stretches in order of their begin; those that are less than `near` apart are one.
function merge(stretches, near) {
  const made = [];
  for (const [a, b] of stretches) {
    const last = made.at(-1);
    if (last && a - last[1] <= near) last[1] = Math.max(last[1], b);
    else made.push([a, b]);
  }
  return made;
}

// By length, none below `least`.
function share(pieces, room, least) {
  const span = pieces.map(([a, b]) => Math.max(b - a, 1));
  const widths = span.map(() => 0);
  const open = new Set(span.keys());
  let left = room;
  for (;;) {
    const sum = [...open].reduce((all, i) => all + span[i], 0);
    for (const i of open) widths[i] = (left * span[i]) / sum;
    const small = [...open].find((i) => widths[i] < least);
    if (small === undefined || open.size === 1) return widths;
    widths[small] = least;
    left -= least;
    open.delete(small);
  }
}

function placeOf(t, parts, folds) {
  const within = parts.find((one) => t <= one.to) ?? parts.at(-1);
  if (t < within.from) {
    const folded = folds.find((one) => t >= one.from && t <= one.to);
    return folded ? (folded.x0 + folded.x1) / 2 : within.x0;
  }
  const share = (Math.min(t, within.to) - within.from) / (within.to - within.from || 1);
  return within.x0 + share * (within.x1 - within.x0);
}

function ticksOf(piece, place) {
  const scale = (piece.x1 - piece.x0) / (piece.to - piece.from || 1);
  const step = STEPS.find((each) => each * scale >= BETWEEN_TICKS) ?? STEPS.at(-1);
  const made = [];
  for (let t = Math.ceil(piece.from / step) * step; t <= piece.to; t += step) {
    made.push({ t, x: place(t), step, piece });
  }
  return made;
}

// ---- the ruler above, and the ground under each lane

const showsNow = (ax, now) => now >= ax.from && now <= ax.to + MIN;

export function ruler(ax, now) {
  const inside = [days(ax, now), hours(ax, now), lonely(ax, now), folded(ax), nowMark(ax, now)];
  return s("svg", { class: "ruler", width: ax.room, height: 34, "aria-hidden": "true" }, inside);
}

function days(ax, now) {
  const made = [];
  let said = NOT_YET;
  for (const [i, one] of ax.parts.entries()) {
    if (i && sameDay(one.from, ax.parts[i - 1].to)) continue;
    const ofThisYear = year(one.from) === year(now);
    const text = ofThisYear ? day(one.from) : `${day(one.from)} ${year(one.from)}`;
    const end = one.x0 + width(text, "600 11px");
    if (one.x0 < said || end > ax.room) continue;
    made.push(s("text", { x: one.x0 + 1, y: 12, class: "day" }, text));
    said = end + 10;
  }
  return made;
}

function tickText(t, step) {
  if (step >= DAY) return day(t);
  if (step >= MIN) return hourMinute(t);
  return step >= SEC ? clock(t) : `${clock(t)}.${String(t % SEC).padStart(3, "0")}`;
}

function hours(ax, now) {
  const made = [];
  const nowAt = nowText(ax, now);
  let said = NOT_YET;
  for (const { t, x, step, piece } of ax.ticks) {
    const text = tickText(t, step);
    const half = width(text, "11px") / 2;
    const fits = x - half >= piece.x0 - (piece.x0 ? 2 : 0) && x + half <= piece.x1 + 2;
    if (x - half < said || !fits || hits(nowAt, x - half, x + half)) continue;
    made.push(s("text", { x, y: 28, "text-anchor": "middle" }, text));
    said = x + half + 8;
  }
  return made;
}

// A piece too short for a tick names its begin.
function lonely(ax, now) {
  const nowAt = nowText(ax, now);
  return ax.parts
    .filter((one) => !ax.ticks.some(({ piece }) => piece === one))
    .map((one) => {
      const text = hourMinute(one.from);
      const end = one.x0 + 1 + width(text, "11px");
      const fits = end <= one.x1 + 1 && !hits(nowAt, one.x0, end);
      return fits ? s("text", { x: one.x0 + 1, y: 28 }, text) : null;
    });
}

function folded(ax) {
  return ax.folds.map((one) => {
    const text = lasted(one.to - one.from);
    if (width(text, "italic 11px") > one.x1 - one.x0) return null;
    const x = (one.x0 + one.x1) / 2;
    return s("text", { x, y: 28, "text-anchor": "middle", class: "still" }, text);
  });
}

function nowText(ax, now) {
  if (!showsNow(ax, now)) return null;
  const text = `now ${hourMinute(now)}`;
  const half = width(text, "600 11px") / 2;
  return { text, half, x: Math.min(ax.place(now), ax.room - half - 2) };
}

const hits = (nowAt, from, to) =>
  nowAt !== null && to > nowAt.x - nowAt.half - 6 && from < nowAt.x + nowAt.half + 6;

function nowMark(ax, now) {
  const given = nowText(ax, now);
  if (!given) return null;
  return s("text", { x: given.x, y: 28, "text-anchor": "middle", class: "now" }, given.text);
}

const upright = (x, height, look) => s("line", { x1: x, x2: x, y1: 0, y2: height, class: look });

export function ground(ax, height, now) {
  return [
    ax.folds.map((one) =>
      s("rect", { x: one.x0, y: 0, width: one.x1 - one.x0, height, class: "quiet" })),
    ax.folds.flatMap((one) => [one.x0, one.x1]).map((x) => upright(x, height, "edge")),
    ax.ticks.map(({ x }) => upright(x, height, "grid")),
    showsNow(ax, now) ? upright(ax.place(now), height, "now") : null,
  ];
}
