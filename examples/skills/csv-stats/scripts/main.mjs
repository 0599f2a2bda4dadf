// CSV files of the workspace, summarised and searched.
import { readFile, realpath } from "node:fs/promises";
import { join, sep } from "node:path";

import { SkillError } from "openclaw-skill";

import { records } from "./csv.mjs";

const MOST_BYTES = 64 * 1024 * 1024;
const MOST_KINDS = 1000;

/** Reads a file and returns its column names and an iterator over its rows. */
async function open(ctx, { path, delimiter = "," }) {
  let text;
  try {
    // A link may lead out of the workspace; the sandbox has nothing there worth reading, but it is a mistake to say so.
    const root = await realpath(ctx.workspace);
    const file = await realpath(join(root, path));
    if (!file.startsWith(root + sep)) throw new SkillError(`path: ${path} is outside the workspace`);
    const data = await readFile(file);
    if (data.length > MOST_BYTES) throw new SkillError(`path: ${path} has ${data.length} bytes; at most ${MOST_BYTES} are read`);
    text = data.toString("utf8");
  } catch (error) {
    if (error instanceof SkillError) throw error;
    throw new SkillError(`path: ${path} cannot be read: ${error.code ?? error.message}`);
  }
  const lines = records(text, delimiter);
  const { value: names, done } = lines.next();
  if (done) throw new SkillError(`path: ${path} is empty; the first line has to name the columns`);
  return { names, lines };
}

/** Goes through the rows. A line that is not valid CSV, or longer than the first one, is the file's mistake. */
function* rowsOf({ names, lines }, path) {
  let number = 1;
  try {
    for (const fields of lines) {
      number++;
      if (fields.length === 1 && fields[0] === "") continue;
      if (fields.length > names.length) {
        throw new SkillError(`path: record ${number} of ${path} has ${fields.length} fields; there are ${names.length} columns`);
      }
      yield fields;
    }
  } catch (error) {
    if (error instanceof SkillError) throw error;
    throw new SkillError(`path: ${path}: ${error.message}`);
  }
}

class Column {
  constructor(name) {
    this.name = name;
    this.present = 0;
    this.numbers = 0;
    this.sum = 0;
    this.least = Infinity;
    this.most = -Infinity;
    this.kinds = new Map();
  }

  take(value) {
    if (value === undefined || value.trim() === "") return;
    this.present++;
    const number = Number(value);
    if (Number.isFinite(number)) {
      this.numbers++;
      this.sum += number;
      this.least = Math.min(this.least, number);
      this.most = Math.max(this.most, number);
    }
    if (this.kinds.has(value) || this.kinds.size < MOST_KINDS) {
      this.kinds.set(value, (this.kinds.get(value) ?? 0) + 1);
    }
  }

  summary(rows) {
    const facts = { name: this.name, missing: rows - this.present, distinct: this.kinds.size };
    if (this.kinds.size === MOST_KINDS) facts.distinct = `${MOST_KINDS} or more`;
    if (this.present && this.numbers === this.present) {
      return { ...facts, type: "number", min: this.least, max: this.most, mean: this.sum / this.numbers };
    }
    const common = [...this.kinds].sort((one, other) => other[1] - one[1]).slice(0, 5);
    return { ...facts, type: "text", common: common.map(([value, count]) => ({ value: value.slice(0, 100), count })) };
  }
}

/** Says what the columns of a CSV file hold. */
export async function describe(ctx, input) {
  const table = await open(ctx, input);
  const columns = table.names.map((name) => new Column(name));
  let rows = 0;
  for (const fields of rowsOf(table, input.path)) {
    rows++;
    columns.forEach((column, at) => column.take(fields[at]));
  }
  ctx.logger.info("read", { path: input.path, rows });
  return { rows, columns: columns.map((column) => column.summary(rows)) };
}

/** Returns rows of a CSV file as objects, those that have the values of `where`. */
export async function rows(ctx, input) {
  const { where = {}, limit = 20 } = input;
  const table = await open(ctx, input);
  const unknown = Object.keys(where).filter((name) => !table.names.includes(name));
  if (unknown.length) {
    throw new SkillError(`where: no column ${unknown.join(", ")}; there are ${table.names.join(", ")}`);
  }
  const wanted = Object.entries(where).map(([name, value]) => [table.names.indexOf(name), value]);
  const chosen = [];
  let found = 0;
  for (const fields of rowsOf(table, input.path)) {
    if (!wanted.every(([at, value]) => (fields[at] ?? "") === value)) continue;
    if (++found <= limit) {
      chosen.push(Object.fromEntries(table.names.map((name, at) => [name, fields[at] ?? ""])));
    }
  }
  return { rows: chosen, found };
}
