// Does to all failed jobs of a queue what others do: node all.mjs <package> <redis url> <queue> board|retryJobs|clean
// board = as Bull Board retries all: pages of 100, each job by itself. Answers the seconds that it took.
const [, , alias, url, name, verb] = process.argv;
const { Queue } = await import(alias);
const address = new URL(url);
const queue = new Queue(name, { connection: { host: address.hostname, port: Number(address.port) } });
await queue.waitUntilReady();
const started = performance.now();
if (verb === 'board') {
  for (let page = await queue.getJobs(['failed'], 0, 99); page.length; page = await queue.getJobs(['failed'], 0, 99)) {
    await Promise.all(page.map(job => job.retry('failed')));
  }
} else if (verb === 'retryJobs') {
  await queue.retryJobs({ count: 1000 });
} else {
  await queue.clean(0, 0, 'failed');
}
console.log((performance.now() - started) / 1000);
const left = await queue.getFailedCount();
await queue.close();
process.exit(left === 0 ? 0 : 1);
