// The texts for states, statuses, times and durations, and the icon of each.

import { h, s } from "./dom.js";

// ---- states and statuses

/** The look of each state of a tenant; `none` is a tenant none of whose requests began. */
export const STATES = {
  provisioning: "run",
  deploying: "run",
  cleaning_up: "run",
  deprovisioning: "run",
  none: "bad",
  provision_failed: "bad",
  deployment_failed: "bad",
  deprovision_failed: "bad",
  provisioned: "rest",
  active: "ok",
  deprovisioned: "gone",
};
const statesLike = (look) => Object.keys(STATES).filter((state) => STATES[state] === look);
export const UNDER_WAY = statesLike("run");
export const FAILED = statesLike("bad");
export const AT_REST = ["active", "provisioned", "deprovisioned"];

/** The look of each status of a run. */
export const STATUSES = {
  running: "run",
  retry: "wait",
  queued: "queue",
  failed: "bad",
  succeeded: "ok",
  duplicate: "twin",
};

/** The states of a tenant during an operation of a kind, after it, and after its failure. */
export const MOVES = {
  provisioning: ["provisioning", "provisioned", "provision_failed"],
  deployment: ["deploying", "active", "deployment_failed"],
  deprovisioning: ["deprovisioning", "deprovisioned", "deprovision_failed"],
  clean_up: ["cleaning_up", "provision_failed", "provision_failed"],
};

/** The kind of operation that an event of a type opens. */
export const KINDS = {
  TENANT_PROVISIONING: "provisioning",
  TENANT_DEPLOYMENT: "deployment",
  TENANT_DEPROVISIONING: "deprovisioning",
};

const ring = (props) => s("circle", { cx: 7, cy: 7, r: 5.25, ...props });
const line = (d, props) => s("path", { d, ...props });
const GLYPHS = {
  run: () => [ring({ class: "faint" }), line("M7 1.75a5.25 5.25 0 0 1 5.25 5.25")],
  wait: () => [ring({ "stroke-dasharray": "2.2 1.92" }), line("M7 4.2V7l1.9 1.3")],
  queue: () => [ring({ "stroke-dasharray": "1 2.3" })],
  bad: () => [ring({ r: 6, class: "solid" }), line("M5 5l4 4M9 5l-4 4", { class: "cut" })],
  ok: () => [ring(), line("M4.6 7.2l1.7 1.7 3.2-3.6")],
  rest: () => [ring(), ring({ r: 1.6, class: "dot" })],
  gone: () => [ring(), line("M4.6 7h4.8")],
  twin: () => [ring({ cx: 5.4, r: 3.9 }), ring({ cx: 8.6, r: 3.9 })],
};

export function icon(look) {
  const frame = { viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true" };
  return s("svg", { class: `icon ${look}`, ...frame }, GLYPHS[look]());
}

export function words(name) {
  const text = name === "none" ? "no state yet" : String(name ?? "");
  return text.replaceAll("_", " ").replace("clean up", "clean-up");
}

const BUILDERS = { CODE_BUILD: "CodeBuild", STEP_FUNCTIONS: "Step Functions", JENKINS: "Jenkins" };
export const builderName = (name) => BUILDERS[name] ?? words(name);

export const capital = (text) => text.replace(/^./, (first) => first.toUpperCase());

const mark = (look, text) =>
  h("span", { class: `mark ${look}` }, icon(look), h("span", null, text));

export const stateMark = (state, look) =>
  mark(look ?? STATES[state ?? "none"] ?? "gone", words(state ?? "none"));

export const statusWord = (status) => (status === "retry" ? "retrying" : words(status));

export const statusMark = (status) => mark(STATUSES[status] ?? "gone", statusWord(status));

export const short = (id) => String(id ?? "").slice(0, 8);
export const mono = (text, props) => h("code", props, text);

/** The text of a number that may be capped, such as "1,000+". */
export const number = (value) =>
  typeof value === "number" ? value.toLocaleString("en") : String(value);

export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

const UUID = /\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12,20}\b/gi;
const OF_A_BUILD = /:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/gi;

/** A reason without the ids of runs and jobs, which push what matters out of a line. */
export const brief = (reason) =>
  reason?.replace(OF_A_BUILD, "").replace(UUID, "…") ?? null;

// ---- times, in milliseconds since 1970

let zone = sessionStorage.getItem("zone") ?? "UTC";
export const theZone = () => zone;

export function switchZone() {
  zone = zone === "UTC" ? "local" : "UTC";
  sessionStorage.setItem("zone", zone);
}

const formats = new Map();

function part(at, options) {
  const key = JSON.stringify([options, zone]);
  if (!formats.has(key)) {
    const timeZone = zone === "UTC" ? "UTC" : undefined;
    formats.set(key, new Intl.DateTimeFormat("en-GB", { ...options, hourCycle: "h23", timeZone }));
  }
  return formats.get(key).format(at);
}

const HOUR_MINUTE = { hour: "2-digit", minute: "2-digit" };
export const hourMinute = (at) => part(at, HOUR_MINUTE);
export const clock = (at) => part(at, { ...HOUR_MINUTE, second: "2-digit" });
export const day = (at) => part(at, { day: "numeric", month: "short" });
export const year = (at) => part(at, { year: "numeric" });
const date = (at) => part(at, { dateStyle: "short" });
export const sameDay = (a, b) => date(a) === date(b);

/** A time as seen from now: the clock's today, the day's before, the year's of another year. */
export function stamp(at, now) {
  if (sameDay(at, now)) return clock(at);
  if (year(at) === year(now)) return `${day(at)} ${hourMinute(at)}`;
  return `${day(at)} ${year(at)}`;
}

const exact = (at) => new Date(at).toISOString().replace(".000Z", "Z");

export const time = (at, text) =>
  at === null ? "–" : h("time", { datetime: exact(at), title: exact(at) }, text);

const SEC = 1000;
const MIN = 60 * SEC;
const HOUR = 60 * MIN;
const DAY = 24 * HOUR;

const two = (big, bigUnit, small, smallUnit) =>
  small ? `${number(big)} ${bigUnit} ${small} ${smallUnit}` : `${number(big)} ${bigUnit}`;

/** A duration in words: `820 ms`, `4.2 s`, `6 min 12 s`, `1 h 11 min`, `78 d`. */
export function lasted(ms) {
  if (ms < 0) return "0 s";
  if (ms < SEC) return `${Math.round(ms)} ms`;
  if (ms < 10 * SEC) return `${(ms / SEC).toFixed(1)} s`;
  const seconds = Math.round(ms / SEC);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return two(minutes, "min", seconds % 60, "s");
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return two(hours, "h", minutes % 60, "min");
  const days = Math.floor(hours / 24);
  return days < 4 ? two(days, "d", hours % 24, "h") : two(days, "d", 0, "");
}

/** When something is due, as seen from now. */
export const dueText = (at, now) =>
  at > now ? `tried again at ${clock(at)}` : `due since ${clock(at)}, and tried by the next sweep`;

/** A duration in a list, without seconds after two minutes: they would flicker. */
export const about = (ms) => lasted(ms < 2 * MIN ? ms : Math.floor(ms / MIN) * MIN);

/** An age in a list: whole seconds at the least, since it is refreshed every few seconds. */
export const age = (ms) => (ms < MIN ? `${Math.max(0, Math.floor(ms / SEC))} s` : about(ms));

export { DAY, HOUR, MIN, SEC };
