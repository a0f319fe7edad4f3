// Adds many jobs: node seed.mjs <package> <redis url> <queue> <json>, where the JSON is [[data, options], ...]; answers
// their ids. Of the queue's own calls: {"call": "pause"} or "resume", "counts".
const [, , alias, url, queueName, raw] = process.argv;
const wanted = JSON.parse(raw);
const address = new URL(url);
const connection = { host: address.hostname, port: Number(address.port) };
const library = await import(alias);
const queue = alias === 'bull' ? new library.default(queueName, url) : new library.Queue(queueName, { connection });
let answer;
if (wanted.call) {
  answer = (await queue[wanted.call]()) ?? null;
} else {
  const jobs = await queue.addBulk(wanted.map(([data, opts]) => ({ name: 'mark', data, opts })));
  answer = jobs.map(job => String(job.id));
}
await queue.close();
console.log(JSON.stringify(answer));
process.exit(0);
