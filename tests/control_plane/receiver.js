// The control plane's webhook as tenant-management has it, for the tests: it parses a report,
// prints it again with JSON.stringify, and verifies the signature over that text.
//
// POST /webhook    204, 401 or 422; 400 if it is no JSON object
// POST /control    {"expect": {tenantId: {secret, context}}, "nowMs": number, "faults": [...]}
// GET  /control    {"accepted": [...], "refused": [...]}
// POST /stringify  a list of JSON texts, each parsed and printed again
"use strict";
const crypto = require("node:crypto");
const http = require("node:http");

const TOLERANCE_MS = 20000;
const expected = new Map();
const accepted = [];
const refused = [];
const faults = [];
let nowMs = null;

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function verify(text, headers) {
  const body = parse(text);
  if (body === null || typeof body !== "object") return [400, "no object", null];
  const tenant = expected.get(body.initiatorId);
  if (tenant === undefined) return [401, "not expected", body];
  const timestamp = headers["x-timestamp"];
  if (!/^[0-9]+$/.test(timestamp ?? "")) return [401, "no timestamp", body];
  const now = nowMs ?? Date.now();
  if (Math.abs(now - Number(timestamp)) > TOLERANCE_MS) return [401, "clock", body];
  const message = JSON.stringify(body) + tenant.context + timestamp;
  const key = Buffer.from(tenant.secret, "utf8");
  const signature = crypto.createHmac("sha256", key).update(message, "utf8").digest("hex");
  const given = Buffer.from(headers["x-signature"] ?? "");
  const wanted = Buffer.from(signature);
  const isSigned = given.length === wanted.length && crypto.timingSafeEqual(given, wanted);
  if (!isSigned) return [401, "bad signature", body];
  if (body.type !== 0) return [422, "unknown type", body];
  expected.delete(body.initiatorId);
  return [204, null, body];
}

function receive(text, request, response) {
  // Its answers say its time, as any server's with a clock do (RFC 9110, 6.6.1).
  response.setHeader("Date", new Date(nowMs ?? Date.now()).toUTCString());
  const fault = faults.shift();
  if (fault === "reset") return request.socket.destroy();
  if (typeof fault === "number") return response.writeHead(fault).end();
  const [status, reason, body] = verify(text, request.headers);
  if (status === 204) accepted.push(body);
  else refused.push({ status, reason, body });
  if (fault === "answerLost") return request.socket.destroy();
  response.writeHead(status).end();
}

function control(asked, response) {
  for (const [tenantId, tenant] of Object.entries(asked.expect ?? {})) {
    expected.set(tenantId, tenant);
  }
  if (asked.nowMs !== undefined) nowMs = asked.nowMs;
  faults.push(...(asked.faults ?? []));
  response.writeHead(204).end();
}

function answerJson(value, response) {
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(value));
}

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const text = Buffer.concat(chunks).toString("utf8");
    switch (`${request.method} ${request.url}`) {
      case "POST /webhook":
        return receive(text, request, response);
      case "POST /control":
        return control(JSON.parse(text), response);
      case "GET /control":
        return answerJson({ accepted, refused }, response);
      case "POST /stringify":
        return answerJson(
          JSON.parse(text).map((one) => JSON.stringify(JSON.parse(one))),
          response,
        );
      default:
        return response.writeHead(404).end();
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
