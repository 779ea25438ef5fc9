/**
 * Downloads files of any size through this API.
 *
 * The API copies a file into S3 and answers with a link to it. download() asks for
 * the copy and waits for the link: on a WebSocket, or by polling where sockets are
 * blocked. It reconnects after a lost connection.
 *
 * Browsers: Chrome and Edge 116, Firefox 124, Safari 17.4, or newer.
 */

/**
 * A download that was started. Keep it to continue after a reload: follow(job) waits
 * for its link, cancel(job) stops it. Anyone who has it can do the same.
 *
 * @typedef {object} Job
 * @property {string} executionArn
 * @property {string} webSocketEndpoint
 * @property {string} webSocketUrl
 * @property {string} statusUrl
 * @property {string} [ticket] where the stack has RequireTicket
 */

/**
 * A copied file. location.assign(file.url) makes the browser save it.
 *
 * @typedef {object} CopiedFile
 * @property {string} url signed; anyone who has it can download the file
 * @property {string} expiresAt when the link stops working, RFC 3339
 * @property {number} size in bytes
 * @property {string} contentType
 * @property {string} fileName
 * @property {Record<string, string>} checksum algorithm to Base64
 * @property {boolean} verified whether the file is proven to be complete
 */

/**
 * How the API is reached: "live" by socket, "polling" by HTTP only, "lost" not at
 * all, "offline" not at all because the browser has no network.
 *
 * @typedef {"live" | "polling" | "lost" | "offline"} Connection
 */

/**
 * @typedef {object} Options
 * @property {HeadersInit} [headers] credentials for the API, such as {Authorization: "Bearer …"} or
 *   {"X-Api-Key": "…"}. Sent with each HTTP request to the API, never on the socket or to S3.
 * @property {AbortSignal} [signal] ends the waiting, not the copy; for that, use cancel()
 * @property {(progress: {bytesCopied: number, bytesTotal: number | null}) => void} [onProgress]
 *   called about once a second; bytesTotal is null while the length is unknown
 * @property {(connection: Connection) => void} [onConnection] called when it changes
 */

/**
 * @typedef {object} StartOptions
 * @property {(job: Job) => void} [onStart] receives the job when the copy has been started
 * @property {string} [idempotencyKey] 16 to 255 visible ASCII characters, best a UUID. The same key is the
 *   same download, so repeating a request copies nothing twice. By default each call has its own.
 */

/** Why there is no file. */
export class DownloadError extends Error {
  /**
   * @param {string} code one of the API's failure codes, or UNAUTHORIZED (the API refuses the credentials)
   *   or UNREACHABLE (no usable answer from the API)
   * @param {string} message
   * @param {{retryable?: boolean, retryAfter?: number}} [how]
   */
  constructor(code, message, { retryable = false, retryAfter = 0 } = {}) {
    super(message);
    this.name = "DownloadError";
    this.code = code;
    /** Whether the same request may succeed later. */
    this.retryable = retryable;
    /** Milliseconds to wait before that, 0 if the API named no time. */
    this.retryAfter = retryAfter;
  }
}

/**
 * Asks the API to copy a file and resolves to a link to the copy.
 *
 * @param {string} api URL of the API, the stack's output DownloadApiUrl
 * @param {string} path the file's path below the origin's URL, with its query
 * @param {StartOptions & Options} [options]
 * @returns {Promise<CopiedFile>} rejects with a DownloadError, or with the signal's reason
 */
export async function download(api, path, { onStart, idempotencyKey = randomKey(), ...options } = {}) {
  const url = address(api, path);
  const headers = new Headers(options.headers);
  headers.set("Idempotency-Key", idempotencyKey);
  const job = await retry(() => call(url, { headers, signal: options.signal, timeout: 30_000 }), options);
  if (!job.webSocketUrl || !job.statusUrl) throw new DownloadError("INTERNAL", "this is not the answer of a download API");
  onStart?.(job);
  return follow(job, options);
}

/**
 * Waits for the link of a download that was started before. After the copy it
 * resolves to a fresh link for as long as the file is kept.
 *
 * @param {Job} job
 * @param {Options} [options]
 * @returns {Promise<CopiedFile>}
 */
export async function follow(job, { headers, signal, onProgress, onConnection } = {}) {
  // The socket reports at once. The status URL answers even where sockets are blocked
  // or have died silently. Whichever has the result first ends the other.
  const stop = new AbortController();
  const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const line = new Line(onProgress, onConnection);
  const offline = () => {
    line.report("offline");
    line.drop?.();
  };
  addEventListener("offline", offline, { signal: either });
  if (!navigator.onLine) offline();
  try {
    return await Promise.race([listen(job, line, either), poll(job, headers, line, either)]);
  } finally {
    stop.abort();
  }
}

/**
 * Stops the copy; follow() then rejects with CANCELLED. Rejects with CONFLICT if the
 * download has ended already.
 *
 * @param {Job} job
 * @param {Pick<Options, "headers" | "signal">} [options]
 */
export async function cancel(job, { headers, signal } = {}) {
  await retry(() => call(job.statusUrl, { method: "DELETE", headers, ticket: job.ticket, signal }), { signal });
}

/** What the socket and the polling of one download share. */
class Line {
  /**
   * @param {Options["onProgress"]} onProgress
   * @param {Options["onConnection"]} onConnection
   */
  constructor(onProgress, onConnection) {
    this.onProgress = onProgress;
    this.onConnection = onConnection;
    /** @type {(() => void) | null} closes the socket, while one is open */
    this.drop = null;
    /** When the last message or answer arrived. */
    this.heardAt = 0;
    this.copied = 0;
    /** @type {Connection | null} */
    this.reported = null;
  }

  /** @param {{bytesCopied: number, bytesTotal: number | null}} progress */
  progress({ bytesCopied, bytesTotal }) {
    this.heardAt = Date.now();
    if (bytesCopied < this.copied) return; // from the slower of the two
    this.copied = bytesCopied;
    this.onProgress?.({ bytesCopied, bytesTotal });
  }

  /** @param {Connection} connection */
  report(connection) {
    if (connection !== this.reported) this.onConnection?.((this.reported = connection));
  }
}

/**
 * Opens one socket after another until one has the result.
 *
 * @param {Job} job
 * @param {Line} line
 * @param {AbortSignal} signal
 * @returns {Promise<CopiedFile>}
 */
async function listen(job, line, signal) {
  const url = new URL(job.webSocketUrl);
  url.searchParams.set("format", "json");
  if (job.ticket) url.searchParams.set("ticket", job.ticket);
  for (let failures = 0; ; ) {
    const began = Date.now();
    const event = await hear(url, line, signal);
    if (event?.type === "ready") return event;
    if (event?.type === "failed") throw new DownloadError(event.code, event.message);
    failures = Date.now() - began > 30_000 ? 0 : failures + 1; // it worked for a while
    await pause(backoff(failures), signal);
  }
}

/**
 * Uses one socket until it has the result or closes; null if it closed without one.
 *
 * @param {URL} url
 * @param {Line} line
 * @param {AbortSignal} signal
 * @returns {Promise<any>}
 */
function hear(url, line, signal) {
  return new Promise((resolve, reject) => {
    /** @type {WebSocket} */
    let socket;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    let ping;
    /** @param {any} event */
    const end = (event) => {
      clearInterval(ping);
      signal.removeEventListener("abort", drop);
      if (line.drop === drop) line.drop = null; // a dropped socket closes after the next has opened
      if (signal.aborted) reject(signal.reason);
      else resolve(event);
    };
    const drop = () => {
      socket.close(); // on a dead connection onclose comes a minute later
      end(null);
    };
    if (signal.aborted) return end(null);
    try {
      socket = new WebSocket(url);
    } catch {
      return end(null); // not allowed here
    }
    signal.addEventListener("abort", drop);
    socket.onopen = () => {
      if (signal.aborted) return;
      line.drop = drop;
      line.heardAt = Date.now();
      line.report("live");
      // API Gateway closes a socket that was idle for 10 minutes.
      ping = setInterval(() => socket.send('{"action":"ping"}'), 4 * 60_000);
    };
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (line.drop === drop) line.report("live");
      if (event.type === "progress") line.progress(event);
      if (event.type === "ready" || event.type === "failed") {
        socket.close();
        end(event);
      }
    };
    socket.onclose = () => end(null);
  });
}

/** How long a socket may be silent, and an answer may take, before the connection is doubted, in milliseconds. */
const patience = 10_000;

/**
 * Polls the status URL: as the API's Retry-After asks without a socket, rarely beside a silent one.
 *
 * @param {Job} job
 * @param {HeadersInit | undefined} headers
 * @param {Line} line
 * @param {AbortSignal} signal
 * @returns {Promise<CopiedFile>}
 */
async function poll(job, headers, line, signal) {
  for (let failures = 0, wait = 3_000; ; ) {
    await pause(wait, signal);
    wait = 2_000;
    if (line.drop && Date.now() - line.heardAt < patience) continue;
    try {
      const state = await call(job.statusUrl, { headers, ticket: job.ticket, signal });
      if (state.url) return state;
      if (state.error) throw new DownloadError(state.error.code, state.error.message);
      if (state.bytesCopied > line.copied) line.drop?.(); // the socket should have reported it: it is dead
      if (!line.drop) line.report("polling");
      line.progress(state);
      failures = 0;
      wait = state.retryAfter || wait;
    } catch (error) {
      const known = error instanceof DownloadError;
      if (known && error.code === "UNAUTHORIZED" && line.drop) { // the socket needs no credentials, which may have expired
        wait = 60_000;
        continue;
      }
      if (!known || !error.retryable) throw error;
      if (error.code === "UNREACHABLE") line.drop?.(); // the socket is as silent as the API
      if (!line.drop) line.report(navigator.onLine ? "lost" : "offline");
      wait = Math.max(backoff(++failures), error.retryAfter);
    }
  }
}

/**
 * Sends one request. Resolves to the answer's JSON object, with retryAfter in
 * milliseconds; rejects with a DownloadError for an answer other than 2xx or none.
 *
 * @param {URL | string} url
 * @param {{method?: string, headers?: HeadersInit, ticket?: string, signal?: AbortSignal, timeout?: number}} options
 *   timeout in milliseconds
 * @returns {Promise<any>}
 */
async function call(url, { method, headers, ticket, signal, timeout = patience }) {
  const all = new Headers(headers);
  if (ticket) all.set("X-Download-Ticket", ticket);
  const limit = AbortSignal.timeout(timeout);
  let response, text;
  try {
    response = await fetch(url, { method, headers: all, cache: "no-store", signal: signal ? AbortSignal.any([signal, limit]) : limit });
    text = await response.text();
  } catch {
    signal?.throwIfAborted();
    const message = limit.aborted ? `no answer from the API in ${timeout / 1_000} seconds` : "the API can’t be reached";
    throw new DownloadError("UNREACHABLE", message, { retryable: true });
  }
  let body = null;
  try { body = JSON.parse(text); } catch { /* not from the API but from something in between */ }
  const retryAfter = Math.min(Number(response.headers.get("Retry-After")) || 0, 120) * 1_000;
  if (response.ok && body) return { ...body, retryAfter };
  const retryable = response.ok || [408, 429, 500, 502, 503, 504].includes(response.status);
  const unauthorized = response.status === 401 || response.status === 403; // API Gateway has ten codes for it
  const code = unauthorized ? "UNAUTHORIZED" : body?.error?.code ?? "INTERNAL";
  const message = body?.error?.message ?? `the API answered ${response.status} ${body?.message ?? ""}`.trim();
  throw new DownloadError(code, message, { retryable, retryAfter });
}

/**
 * Sends a request that may succeed later up to five times. Without a network it waits for one.
 *
 * @template T
 * @param {() => Promise<T>} request
 * @param {Pick<Options, "signal" | "onConnection">} options
 */
async function retry(request, { signal, onConnection }) {
  for (let failures = 1; ; failures++) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof DownloadError) || !error.retryable) throw error;
      if (navigator.onLine && failures === 5) throw error;
      if (error.code === "UNREACHABLE") onConnection?.(navigator.onLine ? "lost" : "offline");
      if (!navigator.onLine) {
        await pause(2 ** 31 - 1, signal); // until there is a network
        failures = 0;
      }
      await pause(Math.max(backoff(failures), error.retryAfter), signal);
    }
  }
}

/**
 * The URL that asks for path. A person may have typed it, with characters that mean something else in a URL.
 *
 * @param {string} api
 * @param {string} path
 */
function address(api, path) {
  const plain = path.trim().replace(/^\//, "").replace(/%(?![0-9a-f]{2})/gi, "%25").replace(/[#\\\t\n\r]/g, encodeURIComponent);
  // A browser would resolve these here, and so ask for another file.
  if (/(^|\/|%5C)(\.|%2e){1,2}(\/|%5C|$)/i.test(plain.split("?")[0])) throw new DownloadError("INVALID_PATH", "the path has a “.” or “..” between its slashes");
  const base = api.replace(/\/*$/, "/download");
  return new URL(plain && !plain.startsWith("?") ? `${base}/${plain}` : base + plain);
}

/** A random key of 128 bits. crypto.randomUUID is missing in pages served by plain HTTP. */
export function randomKey() {
  return crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Milliseconds before another try: exponential, with full jitter, so that clients cut off together don't return together.
 *
 * @param {number} failures
 */
function backoff(failures) {
  return Math.random() * Math.min(30_000, 500 * 2 ** failures);
}

/**
 * Waits; a browser that was offline and has a network again waits no longer.
 *
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const over = new AbortController();
    const end = () => {
      clearTimeout(timer);
      over.abort();
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, ms);
    if (signal?.aborted) end();
    signal?.addEventListener("abort", end, { signal: over.signal });
    addEventListener("online", end, { signal: over.signal });
  });
}
