// A real producer or worker that goes on until it is ended: node stream.mjs <produce|work> <redis url> <queue>
// Prints "ready" once it is at work.
const [, , part, url, queueName] = process.argv;
const { Queue, Worker } = await import('bullmq');
const address = new URL(url);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };
const EVERY_MS = 100;

if (part === 'produce') {
  const queue = new Queue(queueName, { connection });
  await queue.add('mail', { n: 0 });
  setInterval(() => queue.add('mail', { n: 1 }), EVERY_MS);
} else {
  const worker = new Worker(queueName, async () => 'sent', { connection, concurrency: 4 });
  await worker.waitUntilReady();
}
console.log('ready');
