// BullMQ's part of the demo in Node: two queues with producers and workers. `node worker.mjs REDIS_URL`
// Exits with the demo, which closes its standard input.
import { Queue, Worker } from 'bullmq';
import IORedis from 'ioredis';

const TICK_MS = 500;
// Keeps the demo small: BullMQ removes finished jobs beyond these numbers.
const KEEP = {
  removeOnComplete: { count: 400 },
  removeOnFail: { count: 300 },
  keepLogs: 20,
  stackTraceLimit: 5,
};
const MAIL_BOUND = 80;
const VIDEO_BOUND = 6;
const UNFINISHED = ['wait', 'prioritized', 'delayed', 'paused'];
const RETRY_MAIL = { attempts: 4, backoff: { type: 'exponential', delay: 2000 } };
const RESOLUTIONS = ['480p', '720p', '1080p'];

process.stdin.on('close', () => process.exit(0)).resume();

const connection = new IORedis(process.argv[2], { maxRetriesPerRequest: null });
connection.on('error', () => {}); // the demo is stopping: it stops its Redis last

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const between = (low, high) => low + Math.random() * (high - low);
const workers = [];
const pick = (list) => list[Math.floor(Math.random() * list.length)];

class SmtpError extends Error {
  constructor(code, message) {
    super(`${code} ${message}`);
    this.name = 'SmtpError';
    this.code = code;
  }
}

async function deliver(job) {
  await sleep(between(100, 500));
  if (job.attemptsMade > 0) return; // only first attempts fail
  if (Math.random() < 0.03) throw new SmtpError(421, '4.7.0 try again later, closing connection');
  if (Math.random() < 0.015) throw new Error('connect ETIMEDOUT 203.0.113.25:587');
}

async function sendMail(job) {
  await job.log(`template ${job.name}, locale ${job.data.locale}`);
  await deliver(job);
  await job.log('250 2.0.0 queued');
  return { messageId: `<${job.id}.${Date.now()}@shop.example>` };
}

async function transcode(job) {
  const steps = 12;
  for (let step = 1; step <= steps; step += 1) {
    await sleep(between(300, 900));
    if (step === 4 && job.attemptsMade === 0 && Math.random() < 0.05) throw new Error('ffmpeg was killed: out of memory');
    await job.updateProgress({ percent: Math.round((100 * step) / steps), frame: step * 125 });
    if (step % 3 === 0) await job.log(`frame=${step * 125} fps=24 size=${step * 640}kB`);
  }
  return { file: job.data.source.replace('.mov', `-${job.data.resolution}.mp4`), seconds: job.data.seconds };
}

const options = { connection, defaultJobOptions: KEEP };
const mails = new Queue('mails', options);
const videos = new Queue('video-transcode', options);

const recipient = () => `${pick(['anna', 'bruno', 'elif', 'hugo', 'ines', 'kaya'])}@example.com`;

function mail() {
  const data = { to: recipient(), locale: pick(['de', 'en', 'fr', 'it']) };
  const kind = Math.random();
  if (kind < 0.25) return mails.add('password-reset', data, { ...RETRY_MAIL, priority: 1 });
  if (kind < 0.5) return mails.add('order-confirmation', data, { ...RETRY_MAIL, priority: 5 });
  if (kind < 0.6) return mails.add('rate-your-order', data, { ...RETRY_MAIL, delay: Math.round(between(20_000, 240_000)) });
  return mails.add('newsletter-welcome', data, RETRY_MAIL);
}

function video() {
  const source = `videos/${pick(['assembly', 'unboxing', 'tour', 'interview'])}-${Math.floor(between(1, 999))}.mov`;
  const data = { source, resolution: pick(RESOLUTIONS), seconds: Math.round(between(20, 600)) };
  return videos.add('transcode', data, { attempts: 2, backoff: { type: 'fixed', delay: 5000 } });
}

async function depth(queue) {
  const counts = await queue.getJobCounts(...UNFINISHED);
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

async function produce() {
  await Promise.all([mail(), video()]);
  console.log('ready');
  let nextBurst = Date.now() + 8_000;
  for (;;) {
    const burst = Date.now() >= nextBurst;
    if (burst) nextBurst = Date.now() + between(45_000, 80_000);
    const wanted = Math.round(between(0, 3.4)) + (burst ? Math.round(between(20, 40)) : 0);
    const room = MAIL_BOUND - (await depth(mails));
    for (let n = 0; n < Math.min(wanted, room); n += 1) await mail();
    if (Math.random() < (burst ? 1 : 0.06) && (await depth(videos)) < VIDEO_BOUND) await video();
    await sleep(TICK_MS);
  }
}

for (const [name, processor, concurrency] of [
  ['mails', sendMail, 3],
  ['video-transcode', transcode, 2],
]) {
  const worker = new Worker(name, processor, { connection, concurrency, name: `${name}-1` });
  worker.on('error', () => {});
  workers.push(worker);
}

// A nightly report, here every minute: a job scheduler, so that one job is always delayed.
await mails.upsertJobScheduler(
  'daily-digest',
  { every: 60_000 },
  { name: 'daily-digest', data: { to: 'team@shop.example', locale: 'en' }, opts: { ...KEEP, ...RETRY_MAIL } },
);
// The dashboard would report waiting jobs without a worker.
await Promise.all(workers.map((worker) => worker.waitUntilReady()));
await produce();
