// The console: which view is shown, when it is loaded and drawn again, and the key.

import { api, forgetKey, hasKey, keepKey, now, Problem } from "./api.js";
import { help, keyForm } from "./dialogs.js";
import { $, href } from "./dom.js";
import { keysAreOn, listenToKeys, switchKeys } from "./keyboard.js";
import { failure, skeleton } from "./parts.js";
import { patterns } from "./picture.js";
import * as run from "./run.js";
import * as runs from "./runs.js";
import { session } from "./session.js";
import { drawShell } from "./shell.js";
import * as tenant from "./tenant.js";
import * as tenants from "./tenants.js";
import { switchZone } from "./words.js";

const EVERY = 5000;
const LEAST = 1000;
const BONES_AFTER = 150;
const LONGEST_PAUSE = 30_000;
const TYPED_FOR = 180;

// `data` is what was loaded last, for the address `of`. `isAsking`: the form for the key is shown.
const state = {
  isKnown: false,
  isAsking: false,
  isPaused: false,
  drawnAt: now(),
  loadedAt: null,
  data: null,
  of: null,
};
let loading = null; // the AbortController of the load under way
let timer = 0;
let focusedPath = null;

// ---- where

function place() {
  const [path, query] = (location.hash.slice(1) || "/tenants").split("?");
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { path, parts, params: new URLSearchParams(query) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const go = (path, params) => {
  location.hash = href(path, params);
};

function viewOf([kind, id]) {
  if (kind === "runs") return id ? run : runs;
  return id ? tenant : tenants;
}

const roomOf = (main) => {
  const { paddingLeft, paddingRight } = getComputedStyle(main);
  return Math.max(300, main.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight));
};

function contextOf({ parts, params }, signal) {
  return { id: parts[1], params, signal, go, redraw, refresh, room: roomOf($("main")) };
}

// ---- load, then draw

/** Load the view and draw it; `isNew` after a change of address. */
async function load(isNew) {
  clearTimeout(timer);
  loading?.abort();
  const mine = (loading = new AbortController());
  const here = place();
  const bones = isNew ? setTimeout(() => $("main").replaceChildren(skeleton()), BONES_AFTER) : 0;
  try {
    const who = state.isKnown ? null : learnWho();
    const asked = viewOf(here.parts).load(contextOf(here, mine.signal));
    const [data] = await Promise.all([asked, who]);
    if (mine.signal.aborted) return;
    clearTimeout(bones);
    Object.assign(state, { data, of: location.hash, loadedAt: now() });
    session.away = null;
    draw(isNew);
  } catch (problem) {
    if (mine.signal.aborted) return;
    clearTimeout(bones);
    failed(problem, isNew);
  }
  loading = null;
  plan();
}

async function learnWho() {
  const me = await api.me();
  Object.assign(session, { name: me.name, scopes: me.scopes });
  state.isKnown = true;
}

/** Load again at once, the counts too: after an action. */
function refresh() {
  tenants.forgetSummary();
  load(false);
}

/** Draw the loaded data again: after a click that needs no request. */
function redraw() {
  if (state.of === location.hash && state.data) draw(false);
}

function failed(problem, isNew) {
  if (!(problem instanceof Problem)) {
    console.error(problem);
    const bug = new Problem("The console has a bug; the browser's console has the details.");
    show(failure(bug, again), isNew);
  } else if (problem.needsKey) askKey(problem);
  else if (problem.isTemporary) stayStale(problem, isNew);
  else show(failure(problem, again), isNew);
}

const again = () => load(true);

// The last data stays, and is requested again after longer and longer pauses.
function stayStale(problem, isNew) {
  const tries = (session.away?.tries ?? 0) + 1;
  const pause = Math.max(problem.retryAfter * 1000, Math.min(EVERY * tries, LONGEST_PAUSE));
  const since = session.away?.since ?? now();
  session.away = { problem, since, tries, nextAt: now() + pause };
  const isKept = state.data && state.of === location.hash;
  if (isKept) draw(false);
  else show(failure(problem, again), isNew);
}

function askKey(problem) {
  const wrong = hasKey() ? "This key isn't known here. Check that nothing was cut off." : null;
  Object.assign(state, { isKnown: false, isAsking: true });
  forgetKey();
  const enter = (key) => {
    state.isAsking = false;
    keepKey(key, problem.challenge);
    load(true);
  };
  $("main").replaceChildren(keyForm(wrong, enter));
  $("main").querySelector("input").focus();
  document.title = "orchestrator";
  shell();
}

// ---- draw

function draw(isNew) {
  const here = place();
  show(viewOf(here.parts).show(state.data, contextOf(here)), isNew);
}

function show(made, isNew) {
  if (document.querySelector("dialog[open]")) return;
  const { path, parts } = place();
  const before = focusIn($("main"));
  $("main").replaceChildren(made);
  document.title = `${parts[1] ?? (parts[0] === "runs" ? "Runs" : "Tenants")} · orchestrator`;
  if (isNew && path !== focusedPath) arrive(made, path);
  else restoreFocus(before);
  state.drawnAt = now();
  shell();
}

// After a change of view its heading has the focus, so that it is read out.
function arrive(made, path) {
  const isFirst = focusedPath === null;
  focusedPath = path;
  if (document.activeElement === $("find")) return;
  if (!isFirst) made.querySelector("h1")?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

// Focus and caret survive a refresh: elements with the same `data-key` count as the same.
function focusIn(main) {
  const node = document.activeElement;
  if (!main.contains(node)) return null;
  const isText = node.matches("input[type=search]");
  return {
    key: node.getAttribute("data-key"),
    typed: isText ? node.value : null,
    caret: isText ? node.selectionStart : null,
  };
}

function restoreFocus(before) {
  if (!before?.key) return;
  const node = $("main").querySelector(`[data-key="${CSS.escape(before.key)}"]`);
  node?.focus({ preventScroll: true });
  if (!node || before.typed === null) return;
  node.value = before.typed;
  node.setSelectionRange(before.caret, before.caret);
}

const does = {
  go,
  pause() {
    state.isPaused = !state.isPaused;
    if (state.isPaused) shell();
    else load(false);
  },
  zone() {
    switchZone();
    redraw();
    shell();
  },
  help: () => help(keysAreOn(), switchKeys),
  again: () => load(false),
  find(event) {
    clearTimeout(typing);
    const text = event.target.value.trim();
    typing = setTimeout(() => {
      if (!RUN_ID.test(text)) go("/tenants", { prefix: text });
    }, TYPED_FOR);
  },
  found(event) {
    if (event.key !== "Enter") return;
    const text = event.target.value.trim();
    clearTimeout(typing);
    if (RUN_ID.test(text)) go(`/runs/${text}`);
    else if (text) go(`/tenants/${encodeURIComponent(text)}`);
  },
};

const RUN_ID = /^[0-9a-f]{40}$/;
let typing = 0;

function shell() {
  const { parts, params } = place();
  const forget = () => {
    forgetKey();
    location.reload();
  };
  const around = { ...state, kind: parts[0] ?? "tenants", prefix: params.get("prefix") ?? "" };
  drawShell(around, { ...does, forget: state.isKnown && hasKey() ? forget : null });
}

// ---- time and events

// The next load begins after the last one is over, however long that took.
function plan() {
  clearTimeout(timer);
  const pause = session.away ? Math.max(LEAST, session.away.nextAt - now()) : EVERY;
  timer = setTimeout(tick, pause);
}

// A view isn't drawn anew while text is selected or a field has the focus.
const isBusy = () =>
  !getSelection().isCollapsed ||
  document.querySelector("dialog[open], main select:focus, main input[type=search]:focus");

function tick() {
  if (state.isPaused || state.isAsking || document.hidden || isBusy()) plan();
  else load(false);
}

addEventListener("hashchange", () => {
  document.querySelector("dialog[open]")?.close(); // its question is about the view before
  load(true);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which view is shown
  $("main").focus();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state.isKnown && !state.isPaused && !loading) load(false);
});
$("main").addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-href]");
  const isOwn = event.target.closest("a, button, input, label");
  // Text of a row can be selected, to be copied.
  if (row && !isOwn && getSelection().isCollapsed) location.hash = row.getAttribute("data-href");
});
let drawnWidth = $("main").clientWidth;
new ResizeObserver(() => {
  if (drawnWidth === $("main").clientWidth) return;
  drawnWidth = $("main").clientWidth;
  redraw();
}).observe($("main"));
setInterval(() => {
  if (session.away) shell();
}, 1000);

listenToKeys(place, does);
document.body.append(patterns());
shell();
load(true);
