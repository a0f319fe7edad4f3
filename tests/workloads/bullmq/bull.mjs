// Drives a real Bull 4, the forerunner of BullMQ: node bull.mjs <redis url> <queue>; answers {ids, counts} as JSON.
import Bull from 'bull';

const [, , url, queueName] = process.argv;
const queue = new Bull(queueName, url);
const ids = { wait: [], paused: [], active: [], delayed: [], failed: [], completed: [] };
for (let n = 0; n < 3; n++) ids.completed.push(String((await queue.add({ n })).id));
ids.failed.push(String((await queue.add({ fail: true })).id));
await new Promise(resolve => {
  let ended = 0;
  const count = () => {
    ended += 1;
    if (ended === 4) resolve();
  };
  queue.on('completed', count);
  queue.on('failed', count);
  queue.process(async job => {
    if (job.data.fail) throw new Error('no such template');
    return job.data.n;
  });
});
await queue.pause(true);
await queue.resume();
await queue.close();

const idle = new Bull(queueName, url);
for (let n = 0; n < 3; n++) ids.wait.push(String((await idle.add('named', { n })).id));
ids.wait.push(String((await idle.add({ urgent: true }, { priority: 1 })).id));
ids.delayed.push(String((await idle.add({ later: true }, { delay: 3600000 })).id));
const counts = await idle.getJobCounts();
await idle.close();
console.log(JSON.stringify({ ids, counts: { ...counts, wait: counts.waiting } }));
process.exit(0);
