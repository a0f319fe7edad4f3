// Drives a real BullMQ from the tests: node drive.mjs <package> <command> <redis url> <queue> [json options]
// Answers one line of JSON. <package> is one of the aliases in package.json.
//
// With `node drive.mjs <package> serve` it stays and reads commands from its stdin, each a line {"command", "url",
// "queue", "options"}; to each it answers a line, {"answer"} or {"error"}. Each has connections of its own.
// "consume" starts a worker and answers {"ready", "worker"}; "stop" with options {"worker"} stops it without waiting
// for its jobs.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [, , alias, asked, ...rest] = process.argv;
const { Queue, Worker, FlowProducer } = await import(alias);
const STATES = ['wait', 'prioritized', 'paused', 'active', 'delayed', 'waiting-children', 'failed', 'completed'];

/** Functions that stop the running workers, by worker number. */
const stops = [];

/** Carries out one command on one queue. */
async function carryOut(command, url, queueName, options) {
  const address = new URL(url);
  const { Cluster, Redis } = await import('ioredis');
  const inCluster = address.protocol.endsWith('+cluster:');
  const encrypted = address.protocol.startsWith('rediss');
  const tls = encrypted ? { tls: { ca: readFileSync(address.searchParams.get('ca')) } } : {};
  const connection = inCluster
    ? new Cluster([{ host: address.hostname, port: Number(address.port) }], {
      redisOptions: { maxRetriesPerRequest: null, password: decodeURIComponent(address.password), ...tls },
      slotsRefreshTimeout: 60000,
    })
    : {
      host: address.hostname,
      port: Number(address.port),
      db: Number(address.pathname.slice(1) || 0),
      maxRetriesPerRequest: null,
    };
  const ownClient = () => (inCluster ? connection.duplicate() : new Redis(connection));
  const shared = { connection, ...(options.prefix ? { prefix: options.prefix } : {}) };

  /** Runs what waits until all jobs of `ids` have ended for good. */
  async function runAll(ids) {
    const open = new Set(ids);
    const worker = new Worker(
      queueName,
      async job => {
        await job.log(`started ${job.name}`);
        await job.updateProgress(50);
        await new Promise(resolve => setTimeout(resolve, job.data.ms ?? 5));
        if (job.data.fail) throw new TypeError(`cannot send to ${job.data.to ?? 'nobody'}`);
        return { sent: true, id: job.id };
      },
      { ...shared, concurrency: 4, name: options.worker, autorun: false },
    );
    await new Promise(resolve => {
      const end = job => {
        open.delete(job.id);
        if (open.size === 0) resolve();
      };
      worker.on('completed', end);
      worker.on('failed', job => {
        if (job.attemptsMade >= (job.opts.attempts || 1)) end(job);
      });
      worker.run();
    });
    await worker.close();
  }

  async function fill(queue) {
    const ids = Object.fromEntries(STATES.map(state => [state, []]));
    const finished = [];
    for (let n = 0; n < 3; n++) finished.push(await queue.add('mail', { to: `user${n}@example.com`, n }));
    const failing = [
      await queue.add('mail', { fail: true, to: 'a@example.com' }, { attempts: 2 }),
      await queue.add('report', { fail: true }),
    ];
    await runAll([...finished, ...failing].map(job => job.id));
    ids.completed = finished.map(job => job.id);
    ids.failed = failing.map(job => job.id);

    const active = await queue.add('import', { rows: 10 }, { jobId: 'held' });
    const taker = new Worker(queueName, null, { ...shared, lockDuration: 600000 });
    await taker.getNextJob('token-of-the-test');
    ids.active = [active.id];

    for (let n = 0; n < 4; n++) ids.wait.push((await queue.add('mail', { n }, { attempts: 3 })).id);
    for (let n = 0; n < 2; n++) ids.prioritized.push((await queue.add('urgent', { n }, { priority: n + 1 })).id);
    for (let n = 0; n < 2; n++) ids.delayed.push((await queue.add('reminder', { n }, { delay: 3600000 * (n + 1) })).id);
    const flows = new FlowProducer(shared);
    const tree = await flows.add({
      name: 'album',
      queueName,
      data: { album: 7 },
      children: [
        { name: 'photo', queueName, data: { photo: 1 }, opts: { jobId: 'photo-1' } },
        { name: 'photo', queueName, data: { photo: 2 }, opts: { jobId: 'photo-2' } },
      ],
    });
    ids['waiting-children'] = [tree.job.id];
    ids.wait.push('photo-1', 'photo-2');
    if (options.paused) {
      await queue.pause();
      const counts = await queue.getJobCounts('paused');
      if (counts.paused) {
        ids.paused = ids.wait;
        ids.wait = [];
      }
    }
    await taker.close(true);
    await flows.close();
    return { ids, counts: await queue.getJobCounts(...STATES) };
  }

  async function run(queue) {
    const settings = {
      removeOnComplete: options.removeOnComplete ?? false,
      removeOnFail: options.removeOnFail ?? false,
      ...(options.job ?? {}),
    };
    const jobs = [];
    for (let n = 0; n < options.good; n++) jobs.push(await queue.add('good', { n, ms: options.ms }, settings));
    for (let n = 0; n < options.bad; n++) jobs.push(await queue.add('bad', { fail: true }, settings));
    await runAll(jobs.map(job => job.id));
    return { ended: jobs.length };
  }

  /** Job schedulers, or what older releases have in their place: one per hour, which ran once, and a cron. */
  async function schedule(queue) {
    const every = { every: 3600000, limit: 10 };
    const cron = { pattern: '0 3 * * *', tz: 'Europe/Berlin' };
    if (!queue.upsertJobScheduler || options.legacy) {
      await queue.add('hourly', { task: 'count' }, { repeat: every });
      const repeat = { ...cron, endDate: 4102444800000 };
      await queue.add('nightly', { task: 'report', token: 'hush' }, { repeat, jobId: 'n1' });
      const found = await queue.getRepeatableJobs();
      return found.map(({ key, name, next, tz }) => ({ key, name, next, tz }));
    }
    await queue.upsertJobScheduler('hourly:count', every, { name: 'hourly', data: { task: 'count' } });
    await runOne();
    await queue.upsertJobScheduler('nightly', cron, { name: 'nightly', data: { task: 'report', token: 'hush' } });
    const found = await queue.getJobSchedulers();
    return found.map(({ key, name, next, tz, iterationCount }) => ({ key, name, next, tz, iterationCount }));
  }

  /** Runs the next job to its end. */
  async function runOne() {
    const worker = new Worker(queueName, async () => 'done', shared);
    await new Promise(resolve => worker.on('completed', resolve));
    await worker.close();
  }

  /**
   * Workers that stay until the process is killed, and take `jobs` that end when there is a key `until`, else never;
   * the answer comes once they run.
   */
  async function work(queue) {
    const client = ownClient();
    const released = async () => {
      while (!options.until || !(await client.exists(options.until))) {
        await new Promise(resolve => setTimeout(resolve, 20));
      }
    };
    const names = options.names ?? [undefined];
    const { concurrency = 1, lockDuration = 30000, stalledInterval = 30000 } = options;
    const workers = names.map(
      name => new Worker(queueName, released, { ...shared, name, concurrency, lockDuration, stalledInterval }),
    );
    await Promise.all(workers.map(worker => worker.waitUntilReady()));
    for (let n = 0; n < (options.jobs ?? 0); n++) await queue.add('endless', { n });
    const counts = () => queue.getJobCounts('active');
    while ((await counts()).active < (options.jobs ?? 0)) await new Promise(resolve => setTimeout(resolve, 5));
    console.log(JSON.stringify({ ids: workers.map(worker => worker.id) }));
    await new Promise(() => {});
  }

  /**
   * A worker that runs until it is killed or stopped, notes each run in the hash `marks`, and fails what `failing`
   * says, and each job as often as its `data.failures`. With `allowed`, a key, it runs no more jobs than that key
   * says; those beyond are begun and wait. `settings` are options of BullMQ's Worker. `untimed`: no timer of a
   * second or more rings, so that a worker whose answer is held up for long does not think its connection dead and
   * ask anew by another one.
   */
  async function consume(queue) {
    const client = ownClient();
    if (options.untimed) {
      const { setTimeout } = globalThis;
      globalThis.setTimeout = (call, ms, ...more) => setTimeout(ms >= 1000 ? () => {} : call, ms, ...more);
    }
    let begun = 0;
    const turn = async () => {
      while (begun >= Number(await client.get(options.allowed))) await new Promise(resolve => setTimeout(resolve, 5));
      begun += 1;
    };
    const worker = new Worker(
      queueName,
      async job => {
        if (options.allowed) await turn();
        const runs = await client.hincrby('marks', job.id, 1);
        if (options.ms) await new Promise(resolve => setTimeout(resolve, options.ms));
        if (options.order) await client.rpush('order', job.id);
        if (options.failing && job.data.fail) throw new Error(`broken ${job.data.n}`);
        if (runs <= (job.data.failures ?? 0)) throw new Error(`broken ${runs}`);
        return 'done';
      },
      { ...shared, concurrency: options.concurrency ?? 8, ...options.settings },
    );
    await worker.waitUntilReady();
    for (let n = 0; n < (options.schedulers ?? 0); n++) {
      await queue.upsertJobScheduler(`tick${n}`, { every: options.interval + n }, { name: 'tick' });
    }
    let added = 0;
    const own = options.every ? new Queue(queueName, shared) : undefined;
    const deduped = () => own.add('deduped', {}, { deduplication: { id: `key${added++ % 40}` } });
    const adding = own ? setInterval(deduped, options.every) : undefined;
    stops.push(async () => {
      clearInterval(adding);
      await worker.close(true);
      await own?.close();
      client.disconnect();
      if (inCluster) connection.disconnect();
    });
    return asked === 'serve' ? { ready: true, worker: stops.length - 1 } : { ready: true };
  }

  /** Trees of a parent `p<n>` in this queue and its children `p<n>c<k>`, with `data`, in `options.child_queue`. */
  async function flows() {
    const producer = new FlowProducer(shared);
    const opts = options.opts ?? {};
    const tree = n => ({
      name: 'parent',
      queueName,
      data: { n },
      opts: { ...opts, jobId: `p${n}` },
      children: Array.from({ length: options.children }, (_, k) => (
        {
          name: 'child',
          queueName: options.child_queue,
          data: { n, k, ...options.data },
          opts: { ...opts, jobId: `p${n}c${k}` },
        }
      )),
    });
    for (let start = 0; start < options.count; start += 100) {
      await producer.addBulk(Array.from({ length: Math.min(100, options.count - start) }, (_, n) => tree(start + n)));
    }
    await producer.close();
    return {};
  }

  /** Many jobs at once; with `dead` they are run to their failure first. */
  async function many(queue) {
    const jobs = [];
    for (let start = 0; start < options.count; start += 500) {
      const size = Math.min(500, options.count - start);
      const bulk = Array.from({ length: size }, (_, n) => ({
        name: 'many',
        data: { n: start + n, fail: true, text: 'ä "quoted" 12345678901234567890' },
        opts: options.opts ?? {},
      }));
      jobs.push(...(await queue.addBulk(bulk)));
    }
    if (options.dead) await runAll(jobs.map(job => job.id));
    return { ids: jobs.map(job => job.id) };
  }

  const queue = new Queue(queueName, shared);
  await queue.waitUntilReady();
  const commands = {
    fill,
    run,
    schedule,
    work,
    consume,
    many,
    flows,
    pause: async () => (await queue.pause(), {}),
    resume: async () => (await queue.resume(), {}),
    clean: async () => ({ ids: await queue.clean(0, 10000, 'failed') }),
    stop: async () => (await stops[options.worker](), {}),
    counts: () => queue.getJobCounts(...STATES),
    call: async () => (await queue[options.method](...(options.args ?? []))) ?? null,
    add: async () => ({ id: (await queue.add(options.name ?? 'job', options.data ?? {}, options.opts ?? {})).id }),
  };
  try {
    return await commands[command](queue);
  } finally {
    await queue.close();
    if (inCluster && command !== 'consume') connection.disconnect();
  }
}

if (asked === 'serve') {
  for await (const line of createInterface({ input: process.stdin })) {
    const { command, url, queue, options } = JSON.parse(line);
    const told = await carryOut(command, url, queue, options).then(
      answer => ({ answer }),
      error => ({ error: error.stack ?? String(error) }),
    );
    console.log(JSON.stringify(told));
  }
} else {
  const [url, queueName, raw = '{}'] = rest;
  console.log(JSON.stringify(await carryOut(asked, url, queueName, JSON.parse(raw))));
  if (stops.length) await new Promise(() => {});
}
process.exit(0);
