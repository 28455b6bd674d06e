// The first screen: what needs an operator, then the tenants, failed first.

import { cancelTenant, replayTenant } from "./actions.js";
import { api, now } from "./api.js";
import { h, href, tenantHref } from "./dom.js";
import { groupByCause, operationOf, runOf, tenantOf } from "./model.js";
import {
  action, cell, empty, head, pages, reasonCell, row, rowHead, table, title, unseen,
} from "./parts.js";
import {
  about, age, AT_REST, brief, FAILED, HOUR, icon, lasted, number, plural, SEC, stamp, stateMark,
  STATES, time, UNDER_WAY, words,
} from "./words.js";

const LIMIT = 50;
const ATTENTION = "attention";
const SUMMARY_FOR = 15 * SEC;

// ---- what is asked

const choiceOf = (params) => ({
  prefix: params.get("prefix") ?? "",
  state: params.get("state") ?? (params.get("prefix") ? "all" : ATTENTION),
  cursor: params.get("cursor"),
});

export async function load({ params, signal }) {
  const { state, prefix, cursor } = choiceOf(params);
  const isAttention = state === ATTENTION && !prefix;
  const query = {
    sort: isAttention ? ATTENTION : null,
    state: [ATTENTION, "all"].includes(state) ? null : state,
    prefix,
    limit: LIMIT,
    cursor,
  };
  const [summary, page] = await Promise.all([summaryOf(signal), api.tenants(query, signal)]);
  return { summary, ...shownOf(page, isAttention) };
}

// Tenants at rest, which come after all that need attention, are left out.
function shownOf(page, isAttention) {
  const all = page.items.map(tenantOf);
  const items = isAttention ? all.filter(needsAttention) : all;
  return { items, cursor: items.length < all.length ? null : page.cursor };
}

const needsAttention = (tenant) =>
  tenant.operation !== null || tenant.waiting > 0 || !AT_REST.includes(tenant.state);

// Counts cost more than lists and change more slowly, so they are kept longer.
let kept = null;

/** Request the counts again with the next page. */
export const forgetSummary = () => {
  kept = null;
};

async function summaryOf(signal) {
  if (kept && now() - kept.at < SUMMARY_FOR) return kept;
  const since = new Date(now() - 24 * HOUR).toISOString();
  const [overview, failed] = await Promise.all([
    api.overview(signal),
    api.runs({ status: "failed", since, limit: 100 }, signal),
  ]);
  kept = {
    at: now(),
    states: overview.states,
    oldest: operationOf(overview.oldestOperation),
    failed: failed.items.map(runOf),
    hasMoreFailed: failed.cursor !== null,
  };
  return kept;
}

// ---- counts, which may be capped

const NOTHING = { count: 0, capped: false };
const countOf = (summary, state) => summary.states[state] ?? NOTHING;
const countText = ({ count, capped }) => `${number(count)}${capped ? "+" : ""}`;

function sum(summary, states) {
  const counts = states.map((state) => countOf(summary, state));
  const count = counts.reduce((all, one) => all + one.count, 0);
  return { count, capped: counts.some((one) => one.capped) };
}

// ---- the page

export function show({ summary, items, cursor }, { params, refresh }) {
  const choice = choiceOf(params);
  const page = h("div", { class: "view" }, title("Tenants", "unseen"));
  if (!sum(summary, Object.keys(summary.states)).count && !items.length && !choice.prefix) {
    page.append(nothingYet());
    return page;
  }
  page.append(
    cards(summary, items, choice), filters(summary, choice), list(items, choice, refresh));
  page.append(pages(`${plural(items.length, "tenant")} shown${order(choice)}.`, {
    first: choice.cursor ? href("/tenants", { ...choice, cursor: null }) : null,
    next: cursor ? href("/tenants", { ...choice, cursor }) : null,
  }));
  return page;
}

const order = (choice) =>
  choice.state === ATTENTION && !choice.prefix
    ? "; failed first, then what is slow, then the oldest"
    : ", by id";

const nothingYet = () =>
  empty("No tenants yet", h("p", null, "A tenant appears here with its first event. Send one:"),
    h("pre", { tabindex: 0 }, "orchestrator send TENANT_PROVISIONING event.json"));

// ---- what needs an operator

function cards(summary, items, choice) {
  return h("section", { class: "cards", "aria-label": "What needs you" },
    oldestCard(summary.oldest), failedTenants(summary, items, choice), failedRuns(summary));
}

const card = (label, big, link, look, ...why) =>
  h(link ? "a" : "div", {
    class: `card ${look}`, href: link, "data-key": link ? `card-${label}` : null,
  },
    h("span", { class: "label" }, label), h("span", { class: "big" }, big), why);

function oldestCard(operation) {
  const label = "Oldest open operation";
  if (!operation) return card(label, "none", null, "calm");
  const { tenantId, kind, reason } = operation;
  return card(label, lasted(now() - operation.openedAt), tenantHref(tenantId), "wide",
    h("span", { class: "line" }, h("b", null, tenantId), ` ${words(kind)}`),
    h("span", { class: "why" }, brief(reason) ?? deadlineText(operation)));
}

function deadlineText({ job, deadlineAt }) {
  if (!job) return "No job is known yet.";
  const deadline = deadlineAt ? ` Its deadline is at ${stamp(deadlineAt, now())}.` : "";
  return `The job runs.${deadline}`;
}

function failedTenants(summary, items, choice) {
  const count = sum(summary, FAILED);
  const isFirstPage = choice.state === ATTENTION && !choice.prefix && !choice.cursor;
  const newest = isFirstPage ? items.find((one) => STATES[one.state] === "bad") : null;
  const why = newest
    ? h("span", { class: "why" }, "newest ", h("b", null, newest.tenantId),
      `, ${age(now() - newest.changedAt)} ago`)
    : null;
  const link = href("/tenants", { state: ATTENTION });
  return card("Failed tenants", countText(count), link, count.count ? "bad" : "bad calm", why);
}

function failedRuns({ failed, hasMoreFailed }) {
  const count = countText({ count: failed.length, capped: hasMoreFailed });
  const link = href("/runs", { status: "failed", since: "24h" });
  const [cause, runs] = groupByCause(failed)[0] ?? [null, []];
  const why = runs.length > 1
    ? h("span", { class: "why" }, h("b", null, `${runs.length} for one reason: `), cause)
    : cause && h("span", { class: "why" }, cause);
  return card("Failed runs, 24 h", count, link, failed.length ? "bad wide" : "bad wide calm", why);
}

// ---- the states, with their counts

let isUnfolded = false; // on a telephone

function filters(summary, choice) {
  const { state, prefix } = choice;
  const chip = (key, text, count, look) => h("a", {
    class: `chip ${look ?? ""} ${count.count ? "" : "none"}`,
    "data-key": `chip-${key}`,
    href: href("/tenants", { state: key, prefix: key === ATTENTION ? null : prefix }),
    "aria-current": state === key ? "true" : null,
  }, look ? icon(look) : null, h("span", null, text), h("b", null, countText(count)));
  const group = (label, states) =>
    h("div", { class: "chips", role: "group", "aria-label": label },
      states.map((name) => chip(name, words(name), countOf(summary, name), STATES[name])));
  const everything = [...FAILED, ...UNDER_WAY, ...AT_REST];
  const toggle = (event) => {
    isUnfolded = event.target.open;
  };
  const open = innerWidth > 960 || isUnfolded;
  const shown = state === ATTENTION ? "needs attention" : words(state);
  return h("details", { class: "fold2", open, on: { toggle } },
    h("summary", null, "State: ", h("b", null, shown)),
    h("nav", { class: "states", "aria-label": "Tenants by state" },
      h("div", { class: "line" },
        h("div", { class: "chips" },
          chip(ATTENTION, "needs attention", sum(summary, [...FAILED, ...UNDER_WAY])),
          chip("all", "all", sum(summary, everything))),
        group("At rest", AT_REST)),
      h("div", { class: "line" }, group("Failed", FAILED), group("Under way", UNDER_WAY))));
}

// ---- the list

const HEADS = [
  ["id", "Tenant"], ["state", "State"], ["op", "Operation"], ["since", "Since"],
  ["why", "Last reason"], ["tier", "Tier"],
];

function list(items, choice, refresh) {
  if (!items.length) return nothingFound(choice);
  const heads = [...HEADS.map(([name, text]) => head(name, text)), head("do", unseen("Action"))];
  return table("tenants", "Tenants", heads, items.map((one) => line(one, choice.prefix, refresh)));
}

function nothingFound({ state, prefix }) {
  const isCalm = state === ATTENTION && !prefix;
  const text = isCalm ? "Nothing needs attention"
    : prefix ? `No tenant id begins with "${prefix}"` : `No tenant: ${words(state)}`;
  const all = h("a", { href: href("/tenants", { state: "all" }) }, "Show all tenants");
  return empty(text, h("p", null, all));
}

function line(one, prefix, refresh) {
  const isBad = STATES[one.state] === "bad";
  const { operation } = one;
  const waitsForJob = operation !== null && operation.job === null;
  const link = tenantHref(one.tenantId);
  const given = { href: link, "data-key": `t-${one.tenantId}` };
  return row(link,
    rowHead("id", h("a", given, marked(one.tenantId, prefix))),
    cell("state", stateMark(one.state, waitsForJob ? "wait" : undefined)),
    cell("op", operationText(one, isBad), waitingText(one)),
    cell("since", since(one)),
    reasonCell(one.reason, isBad || one.isSlow ? "" : "soft"),
    cell("tier", one.tier),
    cell("do", button(one, isBad, refresh)));
}

const marked = (id, prefix) =>
  prefix && id.startsWith(prefix) ? [h("mark", null, prefix), id.slice(prefix.length)] : id;

const faint = (text) => h("span", { class: "faint" }, text);

function operationText({ operation, last }, isBad) {
  if (operation) {
    const start = operation.startNumber > 1 ? `, start ${operation.startNumber}` : "";
    return [words(operation.kind), faint(operation.job ? start : ", no job yet")];
  }
  if (!isBad) return faint("–");
  if (!last?.job) return [last ? `${words(last.kind)}, ` : null, faint("no job was started")];
  return [words(last.kind), faint(`, ran ${about(last.endedAt - last.startedAt)}`)];
}

const waitingText = ({ waiting }) => (waiting ? faint(`, ${number(waiting)} waiting`) : null);

const since = ({ changedAt, isSlow }) =>
  h("span", { class: "since" },
    h("b", { class: isSlow ? "wait" : null }, age(now() - changedAt)),
    h("span", { class: "faint" }, time(changedAt, stamp(changedAt, now()))));

function button({ tenantId, operation }, isBad, refresh) {
  if (isBad && !operation) {
    const act = () => replayTenant(tenantId, refresh);
    const label = `Replay ${tenantId}`;
    return action("Replay", { name: "replay", key: `r-${tenantId}`, label, act });
  }
  if (!operation) return null;
  const label = `Cancel ${words(operation.kind)} of ${tenantId}`;
  const act = () => cancelTenant(tenantId, refresh);
  return action("Cancel", { name: "cancel", key: `c-${tenantId}`, label, look: "calm", act });
}
