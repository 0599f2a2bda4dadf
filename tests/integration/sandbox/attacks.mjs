// A skill whose actions try what a skill must not be able to do. Packed and run by the tests, never by itself.
import { spawn, spawnSync } from "node:child_process";
import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { Worker } from "node:worker_threads";
import { SkillError } from "openclaw-skill";

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export async function echo(ctx, input) {
  const { workspace, config, secrets, allowedDomains, call } = ctx;
  return { input, workspace, config, secrets, allowedDomains, call, cwd: process.cwd(), version: process.version };
}

export async function callbacks(ctx) {
  ctx.logger.info("one", { n: 1 });
  console.log("two");
  await ctx.progress(0.5, "half");
  return {
    id: await ctx.memory.add({ type: "note" }),
    found: await ctx.memory.search("q", 2),
    text: await ctx.llm.generate("prompt", { temperature: 0.5 }),
    answer: await ctx.ask("really?"),
  };
}

export const many = (ctx) => Promise.all(Array.from({ length: 20 }, (_, number) => ctx.llm.generate(String(number))));

export async function fail() {
  throw new SkillError("no such branch: main");
}

export async function crash() {
  return undefined.nothing;
}

export async function later() {
  setTimeout(() => {
    throw new Error("out of nowhere");
  }, 1);
  await wait(60_000);
}

export async function leave() {
  process.exit(3);
}

export async function notJson() {
  return 10n;
}

export async function huge() {
  return "x".repeat(2 * 1024 * 1024);
}

export async function memory() {
  const kept = [];
  for (;;) kept.push(new Array(1_000_000).fill(kept.length + 0.5));
}

export async function environment() {
  return { environ: process.env, proc: readFileSync("/proc/self/environ", "utf8") };
}

export async function execute() {
  const ran = spawnSync("/bin/echo", ["ran"]);
  if (ran.error) throw ran.error;
  return String(ran.stdout);
}

export async function connect() {
  await new Promise((resolve, reject) => createConnection(9, "127.0.0.1", resolve).on("error", reject));
}

export async function lookup() {
  await fetch("http://example.org/");
}

/** Everything a process of the same uid might do to the runner, which is the parent of our parent. */
export async function runner() {
  const parentOf = (id) => Number(readFileSync(`/proc/${id}/stat`, "utf8").split(") ").pop().split(" ")[1]);
  const target = parentOf(process.ppid);
  const attempt = (work) => {
    try {
      return ["did", String(work())];
    } catch (error) {
      return ["refused", error.code];
    }
  };
  return {
    environ: attempt(() => readFileSync(`/proc/${target}/environ`)),
    fd: attempt(() => readlinkSync(`/proc/${target}/fd/0`)),
    kill: attempt(() => process.kill(target, 0)),
  };
}

export const thread = () =>
  new Promise((resolve, reject) => {
    const worker = new Worker("require('node:worker_threads').parentPort.postMessage('ran')", { eval: true });
    worker.on("message", resolve).on("error", reject);
  });

export async function flood() {
  for (let line = 0; line < 20_000; line += 1) process.stdout.write(`${"spam ".repeat(100)}\n`);
  return "done";
}

export async function sleep(ctx) {
  ctx.signal.addEventListener("abort", () => writeFileSync(`${ctx.workspace}/cleaned`, "yes"));
  ctx.logger.info("sleeping");
  await wait(3_600_000);
}

export async function stubborn(ctx) {
  process.removeAllListeners("SIGTERM").on("SIGTERM", () => {});
  ctx.logger.info("ignoring");
  for (;;) await wait(1000);
}

export async function bomb() {
  for (let number = 0; number < 300; number += 1) spawn("/bin/sleep", ["60"]);
  await wait(60_000);
}
