// The bar above every view, the alert while the service does not answer, and the line below.

import { now } from "./api.js";
import { $, h } from "./dom.js";
import { mayAct, session } from "./session.js";
import { clock, icon, theZone } from "./words.js";

/** Draw what is around the view. `state` is the view's, `does` has the actions of the buttons. */
export function drawShell(state, does) {
  drawBar(state, does);
  drawAlarm(state, does);
  drawFoot(does);
}

function drawBar(state, does) {
  const top = $("top");
  const focused = top.contains(document.activeElement) ? document.activeElement : null;
  const key = focused?.getAttribute("data-key");
  const field = top.querySelector("input") ?? searchField(does);
  const caret = focused === field ? field.selectionStart : null;
  if (caret === null) field.value = state.prefix;
  const host = h("span", { class: "tag" }, location.host);
  const parts = [h("a", { class: "brand", href: "#/tenants" }, "orchestrator", host)];
  if (state.isKnown) {
    parts.push(
      h("nav", { "aria-label": "Views" },
        tab("tenants", "Tenants", state), tab("runs", "Runs", state)),
      h("div", { class: "find" }, field, h("kbd", { "aria-hidden": "true" }, "/")),
      h("div", { class: "right" }, buttons(state, does)));
  }
  top.replaceChildren(...parts);
  if (caret !== null) {
    field.focus();
    field.setSelectionRange(caret, caret);
  } else if (key) top.querySelector(`[data-key="${key}"]`)?.focus();
}

const tab = (kind, text, state) => {
  const isHere = state.kind === kind ? "page" : null;
  return h("a", { href: `#/${kind}`, "aria-current": isHere, "data-key": kind }, text);
};

const searchField = (does) =>
  h("input", {
    id: "find", "data-key": "find", type: "search", placeholder: "Tenant id, or its beginning",
    "aria-label": "Find a tenant by its id or its beginning, or a run by its id",
    "aria-keyshortcuts": "/", spellcheck: "false", autocomplete: "off",
    on: { input: does.find, keydown: does.found },
  });

function buttons(state, does) {
  const isStale = session.away !== null;
  const pace = state.isPaused ? `Paused at ${clock(state.drawnAt)}` : isStale ? "Stale" : "Live";
  const lamp = h("span", { class: "lamp", "aria-hidden": "true" });
  const live = {
    class: `live${state.isPaused || isStale ? " off" : ""}`, "data-key": "live", title: "p",
    "aria-pressed": String(state.isPaused),
  };
  const zone = { class: "calm", "data-key": "zone", title: "Times in UTC or in your zone" };
  const keys = { class: "calm square", "data-key": "help", "aria-label": "Keys" };
  return [
    h("button", { ...live, on: { click: does.pause } }, lamp, pace),
    h("button", { ...zone, on: { click: does.zone } }, theZone() === "UTC" ? "UTC" : "local"),
    h("span", { class: "who" }, session.name,
      mayAct() ? null : h("span", { class: "tag" }, "read only")),
    h("button", { ...keys, on: { click: does.help } }, "?"),
  ];
}

// ---- the service does not answer

const EVENTS_MEANWHILE = " Events are answered 503 and come again; nothing is lost.";

function drawAlarm({ loadedAt }, does) {
  const { away } = session;
  document.body.toggleAttribute("data-stale", away !== null);
  if (!away) {
    $("banner").replaceChildren();
    return;
  }
  const { problem, since, nextAt } = away;
  const what = problem.isUnreachable ? "The service does not answer"
    : problem.status === 429 ? "The service is busy" : "The ledger cannot be read";
  const seen = loadedAt ? ` What you see is from ${clock(loadedAt)}.` : "";
  const events = problem.isUnreachable ? "" : EVENTS_MEANWHILE;
  const left = Math.max(0, Math.ceil((nextAt - now()) / 1000));
  const text = h("p", null, h("b", null, what), ` since ${clock(since)}.${seen}${events} `,
    h("span", { class: "soft" }, problem.message));
  const button = $("banner").querySelector("button") ?? h("button", { on: { click: does.again } });
  button.textContent = `Try now (${left} s)`;
  const old = $("banner").querySelector("p");
  if (old?.textContent === text.textContent) return;
  if (old) old.replaceWith(text);
  else $("banner").replaceChildren(h("div", { class: "alarm" }, icon("bad"), text, button));
}

function drawFoot(does) {
  const zone = `Times in ${theZone() === "UTC" ? "UTC" : "your zone"}.`;
  const docs = h("a", { href: new URL("../docs", import.meta.url) }, "API documentation");
  const forget = does.forget
    ? h("button", { class: "plain", on: { click: does.forget } }, "Forget the key")
    : null;
  $("foot").replaceChildren(h("span", null, zone), h("span", null, docs, " ", forget));
}
