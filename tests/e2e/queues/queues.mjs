// Two job queues on PostgreSQL: enqueue jobs durably with several clients, then complete all of them with several
// workers whose work is nothing. Prints one JSON object a queue.
//
//   node queues.mjs --jobs 1000 --concurrency 8     (the database's URL in CHAPERONE_TEST_POSTGRES)
//
// Each queue keeps to a schema of its own, which is dropped afterwards. Jobs are enqueued one by one, as requests
// of agents come, and never in one statement.
import { parseArgs } from "node:util";
import { makeWorkerUtils, run } from "graphile-worker";
import PgBoss from "pg-boss";
import pg from "pg";

const { values } = parseArgs({
  options: {
    jobs: { type: "string", default: "1000" },
    concurrency: { type: "string", default: "8" },
  },
});
const jobs = Number(values.jobs);
const concurrency = Number(values.concurrency);
const url = process.env.CHAPERONE_TEST_POSTGRES;
if (!url || !(jobs > 0) || !(concurrency > 0)) {
  console.error("queues: give --jobs and --concurrency, and a database in CHAPERONE_TEST_POSTGRES");
  process.exit(64);
}
const schema = (name) => `bench_${name}_${process.pid}`;
const seconds = (since) => Number(process.hrtime.bigint() - since) / 1e9;

/** Calls `add` for each job, with so many under way at once; resolves with the seconds it took. */
async function enqueue(add) {
  const since = process.hrtime.bigint();
  let next = 0;
  const client = async () => {
    while (next < jobs) await add(next++);
  };
  await Promise.all(Array.from({ length: concurrency }, client));
  return seconds(since);
}

/** Something that is called once a job and resolves `all` with the seconds since it was made. */
function counter() {
  const since = process.hrtime.bigint();
  let left = jobs;
  let resolve;
  const all = new Promise((done) => (resolve = done));
  return { all, one: () => --left === 0 && resolve(seconds(since)) };
}

async function drop(name) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`drop schema if exists ${schema(name)} cascade`);
  await client.end();
}

async function graphileWorker() {
  const name = "graphile_worker";
  const pgPool = new pg.Pool({ connectionString: url, max: concurrency + 2 });
  const common = { pgPool, schema: schema(name), logger: quiet() };
  const utils = await makeWorkerUtils(common);
  await utils.migrate();
  const enqueued = await enqueue((number) => utils.addJob("nothing", { number }));
  const done = counter();
  const runner = await run({
    ...common,
    concurrency,
    noHandleSignals: true,
    pollInterval: 100,
    taskList: { nothing: async () => done.one() },
  });
  const completed = await done.all;
  await runner.stop();
  await utils.release();
  await pgPool.end();
  await drop(name);
  return { queue: "graphile-worker", enqueued_per_s: jobs / enqueued, completed_per_s: jobs / completed };
}

/** A logger of graphile-worker's shape that says nothing. */
function quiet() {
  const logger = { scope: () => logger };
  for (const level of ["error", "warn", "info", "debug"]) logger[level] = () => {};
  return logger;
}

async function pgBoss() {
  const name = "pg_boss";
  const boss = new PgBoss({ connectionString: url, schema: schema(name), max: concurrency + 2 });
  boss.on("error", (failed) => console.error(`queues: pg-boss: ${failed.message}`));
  await boss.start();
  await boss.createQueue("nothing");
  const enqueued = await enqueue((number) => boss.send("nothing", { number }));
  // Its own polling sleeps half a second and more between batches, so jobs are fetched and completed directly.
  const since = process.hrtime.bigint();
  const worker = async () => {
    for (;;) {
      const batch = await boss.fetch("nothing");
      if (!batch || batch.length === 0) return;
      for (const job of batch) await boss.complete("nothing", job.id);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const completed = seconds(since);
  await boss.stop({ graceful: false });
  await drop(name);
  return { queue: "pg-boss", enqueued_per_s: jobs / enqueued, completed_per_s: jobs / completed };
}

for (const measure of [graphileWorker, pgBoss]) {
  const { queue, enqueued_per_s, completed_per_s } = await measure();
  console.log(
    JSON.stringify({
      queue,
      jobs,
      concurrency,
      enqueued_per_s: Math.round(enqueued_per_s),
      completed_per_s: Math.round(completed_per_s),
    }),
  );
}
