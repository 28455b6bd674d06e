// A client of the service's public API, and the service's time.

// This module is at {prefix}/console/api.js, and the API at {prefix}/.
const ROOT = new URL("..", import.meta.url);
const READ_LIMIT = 15_000;
const WRITE_LIMIT = 40_000;
const SKEW = 5000;
const KEPT = "credentials";
const NO_ANSWER = [0, 502, 504];

/** An answer other than success; `status` 0: there was no answer. */
export class Problem extends Error {
  constructor(message, { status = 0, retryAfter = 0, challenge = "" } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
    this.challenge = challenge;
  }

  /** Whether the same request may succeed a little later. */
  get isTemporary() {
    return NO_ANSWER.includes(this.status) || this.status === 503 || this.status === 429;
  }

  get isUnreachable() {
    return NO_ANSWER.includes(this.status);
  }

  /** Whether a key may help: not if a gateway in front does the sign-in. */
  get needsKey() {
    return this.status === 401 && /ApiKey|Bearer|Basic/i.test(this.challenge);
  }
}

// ---- credentials: kept for this tab, in no other place

let credentials = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");

/** Keep a key for the tab. `challenge` is the WWW-Authenticate of the 401 before:
 * each method that it names gets the key in its own header. Of HTTP Basic it is `name:password`. */
export function keepKey(key, challenge) {
  const named = /ApiKey header="([^"]+)"/i.exec(challenge)?.[1];
  credentials = {};
  if (/\bBearer\b/i.test(challenge)) credentials.Authorization = `Bearer ${key}`;
  else if (/\bBasic\b/i.test(challenge)) credentials.Authorization = `Basic ${btoa(key)}`;
  if (named || !credentials.Authorization) credentials[named ?? "x-api-key"] = key;
  sessionStorage.setItem(KEPT, JSON.stringify(credentials));
}

export function forgetKey() {
  credentials = {};
  sessionStorage.removeItem(KEPT);
}

export const hasKey = () => Object.keys(credentials).length > 0;

// ---- time

let offset = 0;

/** The service's time in milliseconds: this machine's clock may be wrong. */
export const now = () => Date.now() + offset;

function learnTime(answer) {
  const difference = Date.parse(answer.headers.get("Date")) - Date.now();
  offset = Math.abs(difference) > SKEW ? difference : 0;
}

// ---- requests

const address = (path, query) => {
  const given = Object.entries(query ?? {}).filter(([, value]) => value);
  const url = new URL(path.map(encodeURIComponent).join("/"), ROOT);
  url.search = new URLSearchParams(given);
  return url;
};

async function request(method, path, { query, body, signal } = {}) {
  const limit = AbortSignal.timeout(method === "GET" ? READ_LIMIT : WRITE_LIMIT);
  const headers = { Accept: "application/json", ...credentials };
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(address(path, query), {
      method,
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(limit.aborted ? "It did not answer in time." : "It does not answer.");
  }
  learnTime(answer);
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

async function problemOf(answer) {
  const body = await answer.json().catch(() => ({}));
  const message = body.detail ?? `${answer.status} ${answer.statusText}`;
  return new Problem(message, {
    status: answer.status,
    retryAfter: Number(answer.headers.get("Retry-After")) || 0,
    challenge: answer.headers.get("WWW-Authenticate") ?? "",
  });
}

const get = async (path, options) => (await request("GET", path, options)).json();

/** The same, with null for what isn't there. */
async function find(path, options) {
  try {
    return await get(path, options);
  } catch (problem) {
    if (problem.status === 404) return null;
    throw problem;
  }
}

async function send(path, body) {
  const answer = await request("POST", path, { body });
  return { status: answer.status, body: await answer.json() };
}

export const api = {
  me: () => get(["me"]),
  overview: (signal) => get(["overview"], { signal }),
  tenants: (query, signal) => get(["tenants"], { query, signal }),
  tenant: (id, query, signal) => find(["tenants", id], { query, signal }),
  runs: (query, signal) => get(["runs"], { query, signal }),
  run: (id, signal) => find(["runs", id], { signal }),
  operation: (id, signal) => find(["operations", id], { signal }),
  payload: async (id, signal) =>
    (await request("GET", ["runs", id, "payload"], { signal })).text(),
  replay: (id, force) => send(["runs", id, "replay"], { force }),
  cancel: (id, { reason, cleanUp }) => send(["tenants", id, "cancel"], { reason, cleanUp }),
};
