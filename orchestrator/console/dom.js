// Builds elements. Text and attributes are set, and no markup is ever parsed.

const SVG = "http://www.w3.org/2000/svg";

const isShown = (value) =>
  value !== null && value !== undefined && value !== false && value !== "";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name === "on") listen(node, value);
    else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.flat(Infinity).filter(isShown));
  return node;
}

function listen(node, handlers) {
  for (const [event, handler] of Object.entries(handlers)) node.addEventListener(event, handler);
}

/** An HTML element; `properties.on` has its event listeners. */
export const h = (tag, properties, ...children) =>
  fill(document.createElement(tag), properties, children);

/** An SVG element. */
export const s = (tag, properties, ...children) =>
  fill(document.createElementNS(SVG, tag), properties, children);

export const $ = (id) => document.getElementById(id);

/** Tell a screen reader. */
export const say = (text) => {
  $("say").textContent = text;
};

/** A link within the console. */
export function href(path, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value);
  const query = new URLSearchParams(given).toString();
  return `#${path}${query ? `?${query}` : ""}`;
}

export const tenantHref = (id, params) => href(`/tenants/${encodeURIComponent(id)}`, params);
export const runHref = (id) => href(`/runs/${encodeURIComponent(id)}`);

/** A link that leaves the console; nothing for an address that is not of the web. */
export function outside(url, text, label) {
  if (!/^https?:\/\//i.test(url ?? "")) return null;
  const arrow = h("span", { "aria-hidden": "true" }, " ↗");
  const given = { href: url, target: "_blank", rel: "noreferrer noopener", "aria-label": label };
  return h("a", given, text, arrow);
}
