// Drives a real Bull 4 from the tests: node bull_serve.mjs <redis url>; reads commands from its stdin, each a line
// {"queue", "good", "bad", "settings"} that adds jobs and {"queue", "run"} that runs all that wait; answers a line each.
import { createInterface } from 'node:readline';
import Bull from 'bull';

const [, , url] = process.argv;
for await (const line of createInterface({ input: process.stdin })) {
  const { queue: queueName, good = 0, bad = 0, settings = {}, run } = JSON.parse(line);
  const queue = new Bull(queueName, url);
  await queue.isReady();
  for (let n = 0; n < good + bad; n++) await queue.add({ fail: n >= good }, settings);
  if (run) {
    let left = await queue.count();
    await new Promise(resolve => {
      const count = () => --left || resolve();
      queue.on('completed', count);
      queue.on('failed', count);
      queue.process(async job => {
        if (job.data.fail) throw new Error('no such template');
      });
    });
  }
  await queue.close();
  console.log('{}');
}
process.exit(0);
