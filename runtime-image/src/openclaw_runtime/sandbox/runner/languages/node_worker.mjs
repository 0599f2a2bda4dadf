// What runs in Node.js: warm before the call, then the call itself. It speaks with the runner over descriptor 3, in the
// frames of runner/channel.py; descriptor 4 is the process that started it.
//
// Nothing in here guards anything: the skill is in the same process. The kernel's limits and the runner do.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { access, readFile, stat } from "node:fs/promises";
import { Socket } from "node:net";
import { join, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";
import "node:child_process";
import "node:events";
import "node:os";
import "node:stream";
import "node:timers/promises";
import "node:util";

const CHANNEL_FD = 3;
const CONTROL_FD = 4;
const HEADER_BYTES = 5;
const MESSAGE = 1;
const ATTACHMENT = 3;
const CALL_ID = 1;
const MAX_DETAIL = 4000;
const MAX_MESSAGE = 2000;
const Code = {
  invalidParams: -32602,
  package: -32003,
  cancelled: -32005,
  permissionDenied: -32006,
  skillError: -32007,
  skillCrashed: -32008,
  resultTooLarge: -32009,
  attachment: -32011,
};
const REFUSED = new Set(["EPERM", "EACCES"]);
const NO_NAME = new Set(["EAI_AGAIN", "ENOTFOUND"]);
let workspace = null;

class Failure extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

class ContextError extends Error {
  constructor(message, code) {
    super(message);
    this.name = "ContextError";
    this.code = code;
  }
}

const textOf = (message) => Buffer.from(JSON.stringify({ jsonrpc: "2.0", ...message }));

class Link {
  #socket;
  #buffer = Buffer.alloc(0);
  #pending = new Map();
  #last = 0;

  constructor(socket) {
    this.#socket = socket;
    socket.on("data", (data) => this.#read(data));
    socket.on("error", () => process.exit(72));
    socket.on("end", () => process.exit(72));
  }

  send(message) {
    this.#write(MESSAGE, textOf(message));
  }

  request(method, params) {
    return this.#answered((id) => this.send({ id, method, params }));
  }

  attach(params, data) {
    return this.#answered((id) => this.#write(ATTACHMENT, textOf({ id, method: "attach", params }), "\n", data));
  }

  #write(kind, ...parts) {
    const body = parts.map((part) => Buffer.from(part));
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32BE(body.reduce((length, part) => length + part.length, 0), 0);
    header[4] = kind;
    this.#socket.write(Buffer.concat([header, ...body]));
  }

  #answered(send) {
    const id = `c${++this.#last}`;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      send(id);
    });
  }

  #read(data) {
    this.#buffer = this.#buffer.length ? Buffer.concat([this.#buffer, data]) : data;
    while (this.#buffer.length >= HEADER_BYTES) {
      const end = HEADER_BYTES + this.#buffer.readUInt32BE(0);
      if (this.#buffer.length < end) return;
      const message = JSON.parse(this.#buffer.subarray(HEADER_BYTES, end).toString());
      this.#buffer = this.#buffer.subarray(end);
      const waiting = this.#pending.get(message.id);
      this.#pending.delete(message.id);
      if (message.error) waiting?.reject(new ContextError(message.error.message, message.error.code));
      else waiting?.resolve(message.result);
    }
  }
}

function logger(link) {
  const write = (level) => (message, fields = {}) =>
    link.send({ method: "log", params: { level, message: String(message), fields: Object(fields) } });
  return {
    debug: write("debug"),
    info: write("info"),
    warn: write("warning"),
    warning: write("warning"),
    error: write("error"),
  };
}

/** Gives a file with the result. What the runner would not even read is refused here; all else is for it to say. */
async function attach(link, limit, name, { data, path, mediaType = "" } = {}) {
  if ((data === undefined) === (path === undefined)) {
    throw new TypeError(`attach ${name}: give either data, the bytes, or path, a file that holds them`);
  }
  const size = data?.byteLength ?? (await stat(path)).size;
  if (size > limit) {
    throw new ContextError(
      `attachment ${name}: ${size} bytes; at most ${limit} are allowed: make it smaller, or leave the file in the workspace`,
      Code.attachment,
    );
  }
  await link.attach({ name: String(name), mediaType: String(mediaType) }, data ?? (await readFile(path)));
}

function contextOf(job, payload, link, signal) {
  return {
    logger: logger(link),
    memory: {
      add: (record) => link.request("memory.add", { record }),
      search: (query, limit = 5) => link.request("memory.search", { query, limit }),
    },
    llm: { generate: (prompt, options = {}) => link.request("llm.generate", { prompt, options }) },
    ask: (question) => link.request("ask", { question }),
    attach: (name, content) => attach(link, job.maxAttachmentBytes, name, content),
    progress: async (fraction, message = "") =>
      link.send({ method: "progress", params: { fraction: Number(fraction), message: String(message) } }),
    workspace: job.workspace,
    scratch: job.scratch,
    config: payload.config,
    secrets: payload.secrets,
    allowedDomains: payload.allowedDomains,
    call: {
      id: payload.callId,
      agent: payload.agent,
      session: payload.session,
      skill: payload.skill,
      action: payload.action,
    },
    signal,
  };
}

async function load(folder, entrypoint, action) {
  const path = join(folder, entrypoint);
  const inside = !entrypoint.split("/").includes("..");
  if (!inside || !(await access(path).then(() => true, () => false))) {
    throw new Failure(Code.package, `entrypoint: ${entrypoint} is not in the package`);
  }
  const module = await import(pathToFileURL(path).href);
  const found = module[action] ?? module.default?.[action];
  if (typeof found !== "function") {
    throw new Failure(Code.invalidParams, `action: ${entrypoint} exports no function ${action}`);
  }
  return found;
}

async function run(job, payload, context) {
  const action = await load(job.package, payload.entrypoint, payload.action);
  const output = (await action(context, payload.input)) ?? null;
  let text;
  try {
    text = JSON.stringify(output);
  } catch (error) {
    throw new Failure(Code.skillCrashed, `the result of ${payload.action} is not JSON: ${error.message}`);
  }
  if (text === undefined) {
    throw new Failure(Code.skillCrashed, `the result of ${payload.action} is not JSON: a ${typeof output}`);
  }
  const limit = payload.limits.maxResultBytes;
  if (Buffer.byteLength(text) > limit) {
    throw new Failure(
      Code.resultTooLarge,
      `the result is ${Buffer.byteLength(text)} bytes; at most ${limit} are allowed`,
    );
  }
  return output;
}

/** Returns whether the kernel refused something for want of a permission, here or in the error's cause. */
function refused(error, permissions) {
  const network = permissions.some((name) => name.startsWith("network:"));
  for (let cause = error, depth = 0; cause && depth < 5; cause = cause.cause, depth += 1) {
    if (REFUSED.has(cause.code) || (NO_NAME.has(cause.code) && !network)) return cause;
    if (cause.code === "EROFS" && inWorkspace(cause.path)) return cause;
    const inner = Array.isArray(cause.errors) ? cause.errors.find((each) => REFUSED.has(each?.code)) : undefined;
    if (inner) return inner;
  }
  return undefined;
}

/** Whether a path is in the workspace, which is read-only for a skill without filesystem:write. */
function inWorkspace(path) {
  return typeof path === "string" && workspace !== null && resolve(path).startsWith(workspace + sep);
}

/** Returns the permission that a refused operation needs. */
function missingPermission(cause, permissions) {
  if (cause.code === "EROFS") return "filesystem:write";
  if (String(cause.syscall).startsWith("spawn")) return permissions.includes("process:execute") ? "" : "process:execute";
  return permissions.some((name) => name.startsWith("network:")) ? "" : "network:external or network:internal";
}

function failureOf(error, payload, aborted) {
  const detail = String(error?.stack ?? error);
  if (error instanceof Failure) return { code: error.code, message: error.message };
  if (error?.name === "SkillError") {
    return { code: Code.skillError, message: error.message || "the skill failed without a message" };
  }
  if (error instanceof ContextError && error.code === Code.attachment) {
    return { code: error.code, message: error.message };
  }
  if (aborted) return { code: Code.cancelled, message: "the call was ended" };
  const cause = refused(error, payload.permissions);
  if (cause) {
    const missing = missingPermission(cause, payload.permissions);
    const hint = missing ? `; the skill does not declare ${missing}: add it to its permissions` : "";
    return { code: Code.permissionDenied, message: `${cause.message}${hint}`, detail };
  }
  return { code: Code.skillCrashed, message: `${error?.name ?? "Error"}: ${error?.message ?? error}`, detail };
}

/** Node.js looked at its environment long before the call was known. */
async function useProxy(environment) {
  Object.assign(process.env, environment);
  if (environment.HTTP_PROXY) (await import("node:http")).setGlobalProxyFromEnv?.();
}

async function serve(job) {
  const payload = JSON.parse(job.payload);
  const link = new Link(new Socket({ fd: CHANNEL_FD, readable: true, writable: true }));
  const controller = new AbortController();
  let answered = false;
  const fail = (error) => {
    if (answered) return;
    answered = true;
    const { code, message, detail } = failureOf(error, payload, controller.signal.aborted);
    const data = detail ? { data: { detail: detail.slice(-MAX_DETAIL) } } : {};
    link.send({ id: CALL_ID, error: { code, message: message.slice(0, MAX_MESSAGE), ...data } });
  };
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
  process.on("SIGTERM", () => controller.abort());
  try {
    workspace = job.workspace ?? null;
    process.chdir(workspace ?? job.scratch);
    await useProxy(job.environment);
    const output = await run(job, payload, contextOf(job, payload, link, controller.signal));
    // What was printed comes before the answer; after it this process is ended.
    await Promise.all([process.stdout, process.stderr].map((stream) => new Promise((done) => stream.write("", done))));
    if (!answered) link.send({ id: CALL_ID, result: { output } });
    answered = true;
  } catch (error) {
    fail(error);
  }
  if (controller.signal.aborted) process.exit(0);
}

/** Walks through what a call does, as far as it is nobody's: code that ran once runs faster. */
async function rehearse() {
  const source = "export async function rehearse(ctx, input) { return {}; }";
  const module = await import(`data:text/javascript,${encodeURIComponent(source)}`);
  JSON.parse(JSON.stringify(await module.rehearse({}, {})));
  createHash("sha256").update("{}").digest("hex");
}

await rehearse();
const control = new Socket({ fd: CONTROL_FD, readable: true, writable: true });
let received = "";
control.setEncoding("utf8");
control.on("error", () => process.exit(73));
control.on("data", (data) => {
  received += data;
  if (!received.endsWith("\n")) return;
  control.pause();
  control.unref();
  void serve(JSON.parse(received));
});
control.on("end", () => process.exit(73));
control.write("\n");
