// Dialogs: a question before an action, the key, and the list of keys. Native <dialog> keeps the
// focus and gives it back.

import { h, say } from "./dom.js";

/** Ask before an action. `check(form)` answers what is wrong, or null; `act(data)` does it. */
export function ask({ title, body, verb, look = "main", check, act }) {
  const wrong = h("p", { class: "wrong", id: "wrong", role: "alert" });
  const leave = h("button", { type: "button", on: { click: () => box.close() } }, "Leave it");
  const form = h("form", { method: "dialog" },
    h("h2", { id: "asktitle" }, title), body, wrong,
    h("div", { class: "buttons" }, leave, h("button", { class: look, type: "submit" }, verb)));
  const box = open(form, "asktitle");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const problem = check?.(form);
    if (!problem) {
      box.close();
      act(new FormData(form));
      return;
    }
    wrong.textContent = problem;
    say(problem);
    form.querySelector("[aria-invalid]")?.focus();
  });
}

function open(form, labelledBy, look) {
  const before = document.activeElement;
  const key = before?.getAttribute("data-key");
  const box = h("dialog", { "aria-labelledby": labelledBy, class: look }, form);
  box.addEventListener("click", (event) => {
    if (event.target === box) box.close();
  });
  // The page may have been drawn anew meanwhile: the focus goes to what is there now.
  box.addEventListener("close", () => {
    box.remove();
    const now = key ? document.querySelector(`[data-key="${CSS.escape(key)}"]`) : null;
    (before?.isConnected ? before : now)?.focus();
  });
  document.body.append(box);
  box.showModal();
  return box;
}

/** What will happen, as a list. */
export const consequences = (...items) =>
  h("ul", { class: "will" }, items.filter(Boolean).map((item) => h("li", null, item)));

/** The form for the key; `wrong` says why the last one was refused. */
export function keyForm(wrong, enter) {
  const field = h("input", {
    id: "apikey", type: "password", autocomplete: "off", spellcheck: "false", required: true,
    pattern: "[ -~]+", title: "Letters, digits and signs of ASCII",
    "aria-describedby": wrong ? "keywrong keyhint" : "keyhint",
    "aria-invalid": wrong ? "true" : null,
  });
  const submit = (event) => {
    event.preventDefault();
    if (field.value.trim()) enter(field.value.trim());
  };
  return h("form", { class: "keycard", on: { submit } },
    h("h1", { tabindex: -1, "data-key": "h1" }, "orchestrator"),
    h("label", { for: "apikey" }, "API key"), field,
    wrong ? h("p", { class: "wrong", id: "keywrong", role: "alert" }, wrong) : null,
    h("p", { id: "keyhint", class: "faint" },
      "Kept for this tab alone; forgotten when you close it."),
    h("button", { class: "main" }, "Open the console"));
}

const KEYS = [
  ["/", "search"], ["g t", "tenants"], ["g r", "runs"], ["j k", "down and up the list"],
  ["Enter", "open"], ["x", "select the run"], ["r", "replay"], ["c", "cancel"],
  ["+ −", "a shorter, a longer time"], ["p", "pause and go on"], ["?", "these keys"],
];

export function help(areOn, toggle) {
  const keys = KEYS.map(([key, does]) => h("div", null,
    h("dt", null, key.split(" ").map((one) => h("kbd", null, one))), h("dd", null, does)));
  const tick = h("input", { type: "checkbox", checked: areOn, on: { change: toggle } });
  open(h("form", { method: "dialog" },
    h("h2", { id: "helptitle" }, "Keys"), h("dl", null, keys),
    h("label", { class: "tick" }, tick, h("span", null, "Single keys are on")),
    h("div", { class: "buttons" }, h("button", { class: "main" }, "Close"))), "helptitle", "help");
}
