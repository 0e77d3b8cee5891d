// BullMQ on Node with ioredis and undici. Speaks the protocol of serve.py.
import { appendFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

// The packages stand in the environment's own folder, not beside this file.
const require = createRequire(process.env.FETCHQ_BENCH_MODULES + '/');
const { Queue, QueueEvents, Worker } = require('bullmq');
const { Agent, request } = require('undici');

const settings = JSON.parse(process.env.FETCHQ_BENCH);
const connection = { host: '127.0.0.1', port: settings.redis_port, maxRetriesPerRequest: null };
const NAME = 'bench';
const BATCH = 1000;
const monotonicNs = () => Number(process.hrtime.bigint());

// Results are kept by age, as arq keeps them; without it every job stays for ever.
const jobOptions = { removeOnComplete: { age: 3600 }, removeOnFail: { age: 3600 } };

function runWorker() {
  const dispatcher = new Agent({ connections: settings.concurrency });
  const jobs = {
    fetch: async ([url]) => {
      const response = await request(url, { dispatcher });
      return { status: response.statusCode, body: await response.body.text() };
    },
    empty: async () => null,
    stamp: async () => monotonicNs(),
    nap: () => sleep(1000),
    hold: async ([path]) => {
      appendFileSync(path, `${monotonicNs()}\n`);
      await sleep(settings.hold_s * 1000);
    },
  };
  const worker = new Worker(NAME, (job) => jobs[job.name](job.data), { connection, concurrency: settings.concurrency });
  worker.on('error', (problem) => console.error(problem));
  const stop = async () => { await worker.close(); process.exit(0); };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

async function serve() {
  const queue = new Queue(NAME, { connection, defaultJobOptions: jobOptions });
  const events = new QueueEvents(NAME, { connection });
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);

  async function enqueueMany(job, args, count) {
    for (let start = 0; start < count; start += BATCH) {
      const batch = Array.from({ length: Math.min(BATCH, count - start) }, () => ({ name: job, data: args }));
      await queue.addBulk(batch);
    }
  }

  const commands = {
    async reset() { return {}; },
    async enqueue_one({ job, args, count }) {
      const started = monotonicNs();
      for (let i = 0; i < count; i += 1) await queue.add(job, args);
      return { elapsed_s: (monotonicNs() - started) / 1e9 };
    },
    async enqueue_callers({ job, args, callers, each }) {
      const caller = async () => { for (let i = 0; i < each; i += 1) await queue.add(job, args); };
      const started = monotonicNs();
      await Promise.all(Array.from({ length: callers }, caller));
      return { elapsed_s: (monotonicNs() - started) / 1e9 };
    },
    async enqueue_many({ job, args, count }) {
      const started = monotonicNs();
      await enqueueMany(job, args, count);
      return { elapsed_s: (monotonicNs() - started) / 1e9 };
    },
    async probe({ job, args, duration_s, limit, gap_s, patience_s, body_bytes }) {
      const pickUps = [];
      const roundTrips = [];
      const end = monotonicNs() + duration_s * 1e9;
      while (monotonicNs() < end && roundTrips.length < limit) {
        await sleep(Math.random() * gap_s * 1000);
        const started = monotonicNs();
        const handle = await queue.add(job, args);
        const value = await handle.waitUntilFinished(events, patience_s * 1000);
        roundTrips.push((monotonicNs() - started) / 1e6);
        if (job === 'stamp') pickUps.push((value - started) / 1e6);
        else if (value.status !== 200 || value.body.length !== body_bytes) throw new Error('not the page that was asked for');
      }
      return { pick_ups_ms: pickUps, round_trips_ms: roundTrips };
    },
    async load({ job, args, rate_per_s, duration_s }) {
      const started = monotonicNs();
      const elapsed = () => (monotonicNs() - started) / 1e9;
      let sent = 0;
      while (elapsed() < duration_s) {
        const due = Math.floor(elapsed() * rate_per_s) - sent;
        if (due) { await enqueueMany(job, args, due); sent += due; }
        await sleep(10);
      }
      return { sent, elapsed_s: elapsed() };
    },
  };

  const answer = (message) => process.stdout.write(JSON.stringify(message) + '\n');
  const versions = { node: process.version };
  for (const name of ['bullmq', 'ioredis', 'undici']) versions[name] = require(`${name}/package.json`).version;
  answer({
    unfinished: [['LLEN', `bull:${NAME}:wait`], ['LLEN', `bull:${NAME}:active`]],
    finished: [],
    versions,
  });
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      const command = JSON.parse(line);
      answer(await commands[command.op](command));
    } catch (problem) {
      answer({ error: String(problem).slice(0, 500) });
    }
  }
  await events.close();
  await queue.close();
  process.exit(0);
}

if (process.argv[2] === 'worker') runWorker();
else await serve();
