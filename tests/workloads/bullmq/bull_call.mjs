// Calls methods of a real queue of Bull 4 in turn: node bull_call.mjs <redis url> <queue> <json [[method, ...arguments]]>
// Answers what each returned, a job as its id. ["run", n] runs n jobs to their end with the real worker.
import Bull from 'bull';

const [, , url, queueName, raw] = process.argv;
const queue = new Bull(queueName, url);

/** Runs jobs until so many have completed; answers their ids. */
function run(count) {
  const ids = [];
  return new Promise(resolve => {
    queue.on('completed', job => {
      ids.push(String(job.id));
      if (ids.length === count) resolve(ids);
    });
    queue.process('*', async () => 'done');
  });
}

const answers = [];
for (const [method, ...parameters] of JSON.parse(raw)) {
  const answer = method === 'run' ? await run(...parameters) : await queue[method](...parameters);
  answers.push(answer?.id === undefined ? (answer ?? null) : String(answer.id));
}
await queue.close();
console.log(JSON.stringify(answers));
process.exit(0);
