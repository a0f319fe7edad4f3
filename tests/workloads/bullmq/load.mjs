// A load on a real BullMQ: node load.mjs <package> <redis url> <queue> <json options>; prints "ready", begins with the
// first line on its stdin, and answers {"ended": [[seconds since 1970, failed, run time in s], …], "perSecond"} once all jobs
// ended; perSecond is how many a second were added, which is fewer than wanted where the machine is too slow.
// Options: seconds; perSecond; burst, in which so many jobs are added at once; fail, the share of jobs that fail; ms, of
// which each job takes one in turn; keep, what becomes of ended jobs.
import { createInterface } from 'node:readline';

const [, , alias, url, queueName, raw] = process.argv;
const { Queue, Worker } = await import(alias);
const { seconds, perSecond, burst, fail, ms, keep } = JSON.parse(raw);
const address = new URL(url);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };
const QUIET_MS = 5000;
// A worker fetches as many jobs as it may run, one after another, before it starts the first: with hundreds, and an event
// loop that adds jobs meanwhile, none would start for half a minute.
const CONCURRENCY = 100;
// More in one call would hold up the worker for as long as it takes to write them.
const MOST_AT_ONCE = 200;
const ended = [];
const pause = length => new Promise(resolve => setTimeout(resolve, length));
const queue = new Queue(queueName, { connection });
const worker = new Worker(
  queueName,
  async job => {
    await pause(job.data.ms);
    if (job.data.fail) throw new Error('no such template');
  },
  { connection, concurrency: CONCURRENCY },
);
let newest = performance.now();
const note = (job, failed) => {
  newest = performance.now();
  ended.push([job.finishedOn / 1000, failed, (job.finishedOn - job.processedOn) / 1000]);
};
worker.on('completed', job => note(job, 0));
worker.on('failed', job => note(job, 1));
worker.on('error', () => {});
queue.on('error', () => {});
await worker.waitUntilReady();
await queue.add('first', { ms: 1 });
while (ended.length < 1) await pause(10);
console.log('"ready"');
await new Promise(resolve => createInterface({ input: process.stdin }).once('line', resolve));
ended.length = 0;
const began = performance.now();
newest = began;
let added = 0;
while (added < perSecond * seconds) {
  const due = Math.min(perSecond * seconds, ((performance.now() - began) / 1000) * perSecond) - added;
  if (due >= burst) {
    const jobs = Array.from({ length: Math.min(Math.floor(due), MOST_AT_ONCE) }, (_, n) => ({
      name: 'work',
      data: { ms: ms[(added + n) % ms.length], fail: (added + n) % 1000 < fail * 1000 },
      opts: { removeOnComplete: keep, removeOnFail: keep },
    }));
    added += jobs.length;
    await queue.addBulk(jobs);
  }
  await pause(5);
}
const addedPerSecond = added / ((performance.now() - began) / 1000);
newest = performance.now();
// Jobs that a restart of Redis lost never end.
while (ended.length < added && performance.now() - newest < QUIET_MS) await pause(20);
process.stdout.write(`${JSON.stringify({ ended, perSecond: addedPerSecond })}\n`, () => process.exit(0));
