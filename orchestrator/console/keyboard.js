// Single keys, which can be switched off (WCAG 2.1, success criterion 2.1.4).

import { $ } from "./dom.js";
import { SPANS } from "./picture.js";

const LED_FOR = 900;
const ZOOMS = SPANS.map(([key]) => key);

let areOn = sessionStorage.getItem("keys") !== "off";
export const keysAreOn = () => areOn;

export function switchKeys() {
  areOn = !areOn;
  sessionStorage.setItem("keys", areOn ? "on" : "off");
}

/** Listen. `place()` returns the current view, `does` has the actions of keys for all views. */
export function listenToKeys(place, does) {
  let ledAt = -Infinity;
  addEventListener("keydown", (event) => {
    if (!areOn || event.metaKey || event.ctrlKey || event.altKey) return;
    if (document.querySelector("dialog[open], .keycard")) return;
    if (isTyping(event)) return;
    const views = { t: "/tenants", r: "/runs" };
    const isLed = event.timeStamp - ledAt < LED_FOR;
    ledAt = event.key === "g" ? event.timeStamp : -Infinity;
    if (isLed && views[event.key]) does.go(views[event.key]);
    else if (!press(event.key, place(), does)) return;
    event.preventDefault();
  });
}

function isTyping(event) {
  const isField = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (isField && event.key === "Escape") event.target.blur();
  return isField;
}

function press(key, place, does) {
  const keys = {
    "/": () => $("find").focus(),
    "?": does.help,
    p: does.pause,
    j: () => move(1),
    k: () => move(-1),
    x: () => hereIn("input[type=checkbox]")?.click(),
    r: () => click(near("replay") ?? document.querySelector("[data-act=bulk]")),
    c: () => click(near("cancel")),
    "+": () => zoom(1, place, does),
    "-": () => zoom(-1, place, does),
  };
  keys[key]?.();
  return key in keys;
}

const hereIn = (selector) => document.activeElement?.closest("tr")?.querySelector(selector);
const near = (name) =>
  hereIn(`[data-act=${name}]`) ?? document.querySelector(`.acts [data-act=${name}]`);

function click(button) {
  button?.focus({ preventScroll: true });
  button?.click();
}

function move(by) {
  const links = [...document.querySelectorAll("main tr[data-href] th a")];
  const at = links.indexOf(hereIn("th a"));
  links[Math.min(Math.max(at + by, 0), links.length - 1)]?.focus();
}

function zoom(by, { parts, params, path }, does) {
  if (parts[0] !== "tenants" || !parts[1]) return;
  const at = ZOOMS.indexOf(params.get("span") ?? "");
  does.go(path, { span: ZOOMS[Math.min(Math.max(at + by, 0), ZOOMS.length - 1)] });
}
