// Talks to the admin API: JSON with a time limit, problems as errors, the token of this session, the event stream.

import { learnClock } from "./format.js";

const LIMIT_MS = 4000;
const SILENCE_MS = 40000; // the stream says something every 15 s
const KEY = "sidecar.token";

let memory = null;
let ask = async () => false;

/** `asker` gets a token from the reader; it resolves to false where the reader would rather not. */
export function onTokenWanted(asker) {
  ask = asker;
}

function token() {
  try { return sessionStorage.getItem(KEY) ?? memory; } catch { return memory; }
}

export function setToken(value) {
  memory = value;
  try { sessionStorage.setItem(KEY, value); } catch { /* kept in memory, for as long as the page lives */ }
}

/** The API's problem (RFC 9457), or what it said instead. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || body?.title || `the API answered ${status}`);
    this.status = status;
    this.reason = body?.reason ?? null;
    this.errors = body?.errors ?? [];
  }
}

function headers(more = {}) {
  const bearer = token();
  return bearer ? { ...more, Authorization: `Bearer ${bearer}` } : more;
}

async function once(path, options) {
  const response = await fetch(path, {
    cache: "no-store",
    credentials: "omit",
    ...options,
    headers: headers(options.headers),
    signal: options.signal ? AbortSignal.any([options.signal, AbortSignal.timeout(LIMIT_MS)]) : AbortSignal.timeout(LIMIT_MS),
  });
  learnClock(response.headers.get("date"));
  const text = await response.text();
  let body = null;
  try { body = text ? JSON.parse(text) : null; } catch { /* not ours; the status says enough */ }
  if (!response.ok) throw new Problem(response.status, body);
  return body;
}

let asking = null;

async function call(path, options) {
  for (;;) {
    try {
      return await once(path, options);
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 401) throw error;
      asking ??= ask(token() !== null).finally(() => { asking = null; });
      if (!(await asking)) throw error;
    }
  }
}

export const get = (path, signal) => call(path, { method: "GET", signal });

export const post = (path, body = {}) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const servicePath = (name) => `services/${encodeURIComponent(name)}`;

/** Reads a stream of Server-Sent Events until it ends; `onEvent` gets each one's data. Not EventSource: that sends no token. */
export async function stream(lastId, onEvent, signal) {
  const silence = new AbortController();
  let timer = 0;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  heard();
  try {
    const more = { Accept: "text/event-stream" };
    if (lastId !== null) more["Last-Event-ID"] = String(lastId);
    const response = await fetch("events", {
      cache: "no-store", credentials: "omit", headers: headers(more), signal: AbortSignal.any([signal, silence.signal]),
    });
    if (!response.ok) throw new Problem(response.status, null);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length) onEvent(JSON.parse(data.join("\n")));
      }
    }
  } finally {
    clearTimeout(timer);
  }
}
