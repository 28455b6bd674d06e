// The authenticated user, whether the service answers, and the result of the last action.

import { $, h, say } from "./dom.js";

const MAY_ACT = "runs:write";

/** `away` is null while the service answers, else `{ problem, since, tries, nextAt }`, with times
 * in milliseconds. */
export const session = { name: null, scopes: [], away: null };

export const mayAct = () => session.scopes.includes(MAY_ACT);

/** Why no action is possible now; null if one is. */
export function whyNot() {
  if (session.away) return "The service does not answer now";
  return mayAct() ? null : "This key may only read";
}

// ---- notes above the page

const STAYS_FOR = 8000;

/** Show the result of an action. A failure stays until it is closed. */
export function note(text, { failed = false } = {}) {
  const close = () => box.remove();
  const button = failed ? h("button", { class: "calm", on: { click: close } }, "Close") : null;
  const box = h("div", { class: `note${failed ? " bad" : ""}` }, h("p", null, text), button);
  $("notes").replaceChildren(box);
  say(text);
  if (!failed) setTimeout(close, STAYS_FOR);
}
