// A worker that leaves a mark of each run, for tests that act meanwhile: node marks.mjs <package> <redis url> <queue> [json
// options]. Counts the runs of each job by its `data.n` in the hash `marks`, fails it as often as `data.failures` says, and
// stays until it is killed. Prints one line once it waits for jobs. Options: concurrency, ms (of a job), pausing (ms
// between pausing and resuming the queue, as an app might).
import Redis from 'ioredis';

const [, , alias, url, queueName, raw = '{}'] = process.argv;
const options = JSON.parse(raw);
const address = new URL(url);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };
const library = await import(alias);
const bull = alias === 'bull';
const queue = bull ? new library.default(queueName, url) : new library.Queue(queueName, { connection });
const redis = new Redis(url);

async function work(job) {
  const runs = await redis.hincrby('marks', String(job.data.n), 1);
  if (options.ms) await new Promise(resolve => setTimeout(resolve, options.ms));
  if (runs <= (job.data.failures ?? 0)) throw new Error(`failure ${runs} of ${job.data.n}`);
  return runs;
}

if (bull) {
  queue.process('*', options.concurrency ?? 1, work);
  await queue.isReady();
} else {
  const worker = new library.Worker(queueName, work, { connection, concurrency: options.concurrency ?? 1 });
  worker.on('error', error => console.error(error.message));
  await worker.waitUntilReady();
}
console.log(JSON.stringify({ ready: true }));
while (options.pausing) {
  await queue.pause();
  await new Promise(resolve => setTimeout(resolve, options.pausing));
  await queue.resume();
  await new Promise(resolve => setTimeout(resolve, options.pausing));
}
