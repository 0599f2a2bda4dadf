import assert from "node:assert/strict";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { records } from "../scripts/csv.mjs";
import { describe, rows } from "../scripts/main.mjs";

let ctx;

before(async () => {
  ctx = { workspace: await mkdtemp(join(tmpdir(), "csv-")), logger: { info() {} } };
  const orders = ["city,amount,note", "Paris,10,", 'Rome,2.5,"late, ""very"""', "Paris,-1,", ""].join("\r\n");
  await writeFile(join(ctx.workspace, "orders.csv"), orders);
});

after(() => rm(ctx.workspace, { recursive: true }));

test("quoted fields hold delimiters, quotes and line breaks", () => {
  assert.deepEqual([...records('a;"b;""c""\nd"\n;', ";")], [["a", 'b;"c"\nd'], ["", ""]]);
  assert.throws(() => [...records('"open')], /never closed/);
});

test("columns are summarised", async () => {
  const { rows: count, columns } = await describe(ctx, { path: "orders.csv" });
  assert.equal(count, 3);
  assert.deepEqual(columns[0], {
    name: "city", missing: 0, distinct: 2, type: "text",
    common: [{ value: "Paris", count: 2 }, { value: "Rome", count: 1 }],
  });
  assert.deepEqual(columns[1], { name: "amount", missing: 0, distinct: 3, type: "number", min: -1, max: 10, mean: 11.5 / 3 });
  assert.equal(columns[2].missing, 2);
});

test("rows are picked by value and counted beyond the limit", async () => {
  const found = await rows(ctx, { path: "orders.csv", where: { city: "Paris" }, limit: 1 });
  assert.deepEqual(found, { rows: [{ city: "Paris", amount: "10", note: "" }], found: 2 });
});

test("what is wrong is named", async () => {
  await writeFile(join(ctx.workspace, "wide.csv"), "a\n1,2\n");
  await symlink("/etc/hostname", join(ctx.workspace, "out.csv"));
  const cases = [
    [{ path: "none.csv" }, /none.csv cannot be read: ENOENT/],
    [{ path: "wide.csv" }, /record 2 of wide.csv has 2 fields/],
    [{ path: "out.csv" }, /outside the workspace/],
    [{ path: "orders.csv", where: { town: "x" } }, /no column town; there are city, amount, note/],
  ];
  for (const [input, message] of cases) {
    await assert.rejects(rows(ctx, input), { name: "SkillError", message });
  }
});
