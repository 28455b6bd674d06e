// What several views are made of: tables, actions, empty states, pages.

import { h } from "./dom.js";
import { note, session, whyNot } from "./session.js";
import { brief } from "./words.js";

// Roles are explicit, since on a telephone rows are laid out as cards, which takes them away.
export const row = (target, ...cells) => h("tr", { role: "row", "data-href": target }, cells);
export const cell = (name, ...inside) => h("td", { role: "cell", class: name }, inside);
export const rowHead = (name, ...inside) =>
  h("th", { role: "rowheader", scope: "row", class: name }, inside);
export const head = (name, text) =>
  h("th", { role: "columnheader", scope: "col", class: name }, text);
export const unseen = (text) => h("span", { class: "unseen" }, text);

export function table(name, label, heads, rows) {
  return h("table", { role: "table", class: name, "aria-label": label },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)),
    h("tbody", { role: "rowgroup" }, rows));
}

/** The reason, two lines at most, whole in its tooltip. */
export function reasonCell(text, look, before) {
  if (!text && !before) return cell("why");
  return cell("why", h("span", { class: look, title: text }, before, brief(text)));
}

/** A button. One that isn't possible says why, instead of being absent. */
export function action(text, { name, key = name, label, look = "", why = null, act }) {
  const off = whyNot() ?? why;
  const given = {
    class: look,
    "data-act": name,
    "data-key": key,
    "aria-label": label,
    "aria-disabled": off ? "true" : null,
    title: off,
  };
  return h("button", { ...given, on: { click: () => (off ? note(off) : act()) } }, text);
}

/** The heading of a view, focused after a change of view. */
export const title = (text, look) =>
  h("h1", { class: look, tabindex: -1, "data-key": "h1" }, text);

export const empty = (text, ...more) =>
  h("div", { class: "empty" }, h("h2", null, text), more);

/** Below a list: what it shows, and the ways to the other pages. */
export function pages(text, { first, next, nextText = "Next page" }) {
  return h("p", { class: "more faint" }, text,
    first ? h("a", { class: "page", href: first, "data-key": "first" }, "First page") : null,
    next ? h("a", { class: "page", href: next, "data-key": "next" }, nextText) : null);
}

export function skeleton() {
  const bones = Array.from({ length: 9 }, (_, i) => h("div", { class: `bone b${i % 3}` }));
  return h("div", { class: "view skeleton", "aria-busy": "true" },
    h("h1", { class: "unseen" }, "Loading"), bones);
}

export function failure(problem, again) {
  const isForbidden = problem.status === 403;
  const text = isForbidden ? "This key may not see it" : "This could not be shown";
  const who = isForbidden && session.name ? ` Your key's name: ${session.name}.` : "";
  return h("div", { class: "view" }, title("Error", "unseen"),
    empty(text, h("p", { class: "reason" }, problem.message, who),
      h("button", { class: "main", "data-key": "again", on: { click: again } }, "Try again")));
}
