// The runs: filters, the failed ones by cause, and the replay of those that are selected.

import { api, now } from "./api.js";
import { askBulk, isGoing } from "./bulk.js";
import { h, href, runHref, tenantHref } from "./dom.js";
import { groupByCause, runOf } from "./model.js";
import { action, cell, empty, head, pages, reasonCell, rowHead, table, title } from "./parts.js";
import {
  clock, DAY, HOUR, icon, KINDS, plural, stamp, STATUSES, statusMark, statusWord, time,
} from "./words.js";

const LIMIT = 100;
const CAUSES_SHOWN = 4;
const SINCE = [["", "any time"], ["1h", "1 hour"], ["24h", "24 hours"], ["7d", "7 days"]];
const AGO = { "1h": HOUR, "24h": DAY, "7d": 7 * DAY };
const BUILT_IN = Object.keys(KINDS).flatMap((type) => [type, `${type}_SUCCESS`, `${type}_FAILURE`]);

const FILTERS = ["status", "eventType", "tenantId", "since"];
const filtersOf = (params) =>
  Object.fromEntries(FILTERS.map((name) => [name, params.get(name) ?? ""]));

export async function load({ params, signal }) {
  const filters = filtersOf(params);
  const ago = AGO[filters.since];
  const since = ago ? new Date(now() - ago).toISOString() : null;
  const query = { ...filters, since, limit: LIMIT, cursor: params.get("cursor") };
  const page = await api.runs(query, signal);
  return { runs: page.items.map(runOf), cursor: page.cursor };
}

export function show({ runs, cursor }, context) {
  const filters = filtersOf(context.params);
  keepSelected(runs);
  return h("div", { class: "view" }, title("Runs", "unseen"),
    filterForm(filters, runs, context.go),
    causes(filters, runs, context.redraw),
    selection(runs, context),
    runs.length ? list(runs, context.redraw) : nothingFound(filters, cursor),
    pages(cursor || !runs.length ? "" : "That is all.", {
      first: context.params.get("cursor") ? href("/runs", filters) : null,
      next: cursor ? href("/runs", { ...filters, cursor }) : null,
      nextText: runs.length ? "Older runs" : "Search older runs",
    }));
}

function nothingFound(filters, cursor) {
  const isNarrowed = Object.values(filters).some(Boolean);
  const clear = h("a", { href: "#/runs" }, "Clear the filters");
  const hint = isNarrowed ? clear : "A run appears here with the first event.";
  return empty(cursor ? "No run on this page matches" : "No run matches", h("p", null, hint));
}

// ---- filters

function filterForm(filters, runs, go) {
  const set = (name) => (event) => go("/runs", { ...filters, [name]: event.target.value.trim() });
  const stay = (event) => event.preventDefault();
  const types = [...new Set([...BUILT_IN, ...runs.map((run) => run.eventType)])];
  const given = { class: "filters", role: "search", "aria-label": "Filter runs" };
  const isNarrowed = Object.values(filters).some(Boolean);
  return h("form", { ...given, on: { submit: stay } },
    h("div", { class: "chips", role: "group", "aria-label": "Status" },
      ["", ...Object.keys(STATUSES)].map((status) => statusChip(status, filters))),
    field("Event", "eventType", filters, set, { list: "types", placeholder: "any type" }),
    h("datalist", { id: "types" }, types.map((type) => h("option", { value: type }))),
    label("Since", h("select", { "data-key": "since", on: { change: set("since") } },
      SINCE.map(([value, text]) =>
        h("option", { value, selected: filters.since === value }, text)))),
    field("Tenant", "tenantId", filters, set, { placeholder: "its whole id" }),
    isNarrowed ? h("a", { class: "clear", href: "#/runs" }, "Clear") : null);
}

function statusChip(status, filters) {
  const look = STATUSES[status];
  const given = {
    class: `chip ${look ?? ""}`,
    "data-key": `s-${status}`,
    href: href("/runs", { ...filters, status }),
    "aria-current": filters.status === status ? "true" : null,
  };
  const text = status ? statusWord(status) : "all";
  return h("a", given, look ? icon(look) : null, h("span", null, text));
}

const label = (text, control) => h("label", null, h("span", null, text), control);

const field = (text, name, filters, set, given) =>
  label(text, h("input", {
    type: "search", "data-key": name, value: filters[name], spellcheck: "false",
    autocomplete: "off", ...given, on: { change: set(name) },
  }));

// ---- selected runs: only what is shown can be selected

const selected = new Set();

function keepSelected(runs) {
  const shown = new Set(runs.map((run) => run.runId));
  for (const id of selected) if (!shown.has(id)) selected.delete(id);
}

function choose(runs, isChosen, redraw) {
  for (const { runId } of runs) {
    if (isChosen) selected.add(runId);
    else selected.delete(runId);
  }
  redraw();
}

const areAll = (runs) => runs.length > 0 && runs.every((run) => selected.has(run.runId));

function causes(filters, runs, redraw) {
  if (!["failed", "retry"].includes(filters.status)) return null;
  const groups = groupByCause(runs).slice(0, CAUSES_SHOWN);
  if (!groups.length) return null;
  return h("section", { class: "causes", "aria-label": "Reasons of the runs shown" },
    groups.map(([cause, of]) => {
      const isChosen = areAll(of);
      const given = { class: "cause", "aria-pressed": String(isChosen), "data-key": `w-${cause}` };
      return h("button", { ...given, on: { click: () => choose(of, !isChosen, redraw) } },
        h("b", null, String(of.length)), h("span", null, cause),
        h("span", { class: "pick" }, isChosen ? "selected" : "select"));
    }));
}

function selection(runs, { redraw, refresh }) {
  const chosen = runs.filter((run) => selected.has(run.runId));
  const count = chosen.length;
  const text = count ? h("b", null, `${count} selected`) : plural(runs.length, "run");
  const begun = () => choose(chosen, false, redraw);
  const none = { class: "calm", "data-key": "none", on: { click: begun } };
  const missing = count ? null : "Select runs first";
  return h("div", { class: "bulk" },
    h("span", { "aria-live": "polite" }, text),
    count ? h("button", none, "Select none") : null,
    action(count ? `Replay ${count}…` : "Replay…", {
      name: "bulk",
      look: count ? "main" : "",
      why: isGoing() ? "A bulk replay is going on" : missing,
      act: () => askBulk(chosen, { begun, ended: refresh }),
    }));
}

// ---- the list

function list(runs, redraw) {
  const heads = [
    head("pick", chooseAll(runs, redraw)), head("status", "Status"), head("type", "Event"),
    head("id", "Tenant"), head("at", "First seen"), head("n", "Attempt"), head("why", "Reason"),
  ];
  return table("runs", "Runs", heads, runs.map((run) => line(run, redraw)));
}

function chooseAll(runs, redraw) {
  const all = areAll(runs);
  const box = h("input", {
    type: "checkbox", "data-key": "all", checked: all,
    "aria-label": `Select all ${runs.length} shown`,
    on: { change: () => choose(runs, !all, redraw) },
  });
  box.indeterminate = !all && selected.size > 0;
  return box;
}

function line(run, redraw) {
  const isChosen = selected.has(run.runId);
  const link = runHref(run.runId);
  const tenant = run.tenantId ? h("a", { href: tenantHref(run.tenantId) }, run.tenantId) : null;
  const box = h("input", {
    type: "checkbox", "data-key": `p-${run.runId}`, checked: isChosen,
    "aria-label": `Select ${run.eventType} of ${run.tenantId ?? "no tenant"}`,
    on: { change: (event) => choose([run], event.target.checked, redraw) },
  });
  const due = run.status === "retry" && run.dueAt
    ? h("b", { class: "wait" }, `at ${clock(run.dueAt)} `)
    : null;
  return h("tr", { role: "row", "data-href": link, class: isChosen ? "picked" : null },
    cell("pick", box),
    cell("status", statusMark(run.status)),
    rowHead("type", h("a", { href: link, "data-key": `u-${run.runId}` }, run.eventType)),
    cell("id", tenant),
    cell("at", time(run.at, stamp(run.at, now()))),
    cell("n", String(run.attempt)),
    reasonCell(run.reason, run.error ? "" : "soft", due));
}
