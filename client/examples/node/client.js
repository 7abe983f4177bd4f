#!/usr/bin/env node
// A client in Node.js: subscribes, raises events one by one or in batches, and is itself a subscriber.
//
//   client.js subscribe EVENT SOCKET       for an hour; prints the name of the subscription
//   client.js raise EVENT [name=value…]    prints what became of it, one line for each subscription
//   client.js stream EVENT COUNT           raises COUNT events in batches; prints how many succeeded
//   client.js listen NAME COUNT            takes COUNT events as the subscriber stream:NAME; prints each, a line of JSON
//
// The server is at $EVENTVIRTUAL_SERVER, by default 127.0.0.1:7060. There are no stubs to be made: @grpc/proto-loader
// reads the files of the API, from $EVENTVIRTUAL_PROTO or where this tree has them. From the root of the tree:
//
//   npm ci --prefix client/examples/node
//   node client/examples/node/client.js listen billing 1
'use strict';

const path = require('path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const BATCH = 100; // events of one message; several are on their way at a time

const protos = process.env.EVENTVIRTUAL_PROTO || path.join(__dirname, '../../../proto');
const api = grpc.loadPackageDefinition(protoLoader.loadSync(
  ['eventvirtual/v1/event.proto', 'eventvirtual/v1/subscription.proto'],
  // 64-bit numbers as strings: a number of JavaScript would round them.
  { includeDirs: [protos], keepCase: true, longs: String, enums: String })).eventvirtual.v1;

const server = process.env.EVENTVIRTUAL_SERVER || '127.0.0.1:7060';
const credentials = grpc.credentials.createInsecure();
const deadline = (seconds) => ({ deadline: Date.now() + 1000 * seconds });

// One call with one answer, as a promise.
function call(client, method, request, seconds) {
  return new Promise((resolve, reject) => {
    client[method](request, deadline(seconds), (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

async function subscribe(event, socket) {
  const client = new api.SubscriptionService(server, credentials);
  // Subscribe again before the hour is over: that moves its end.
  const subscription = { event, socket, ttl: { seconds: 3600 } };
  console.log((await call(client, 'Subscribe', { subscription }, 10)).subscription.name);
  client.close();
}

async function raise(name, ...params) {
  const client = new api.EventService(server, credentials);
  const event = { name, params: [] };
  for (const param of params) {
    const [key, ...value] = param.split('=');
    event.params.push({ name: key, string_value: value.join('=') });
  }
  // WAIT_ACCEPTED answers as soon as it is queued.
  const answer = await call(client, 'Raise', { event, wait: 'WAIT_DELIVERED' }, 30);
  for (const delivery of answer.deliveries || []) {
    console.log(delivery.subscription, delivery.outcome.replace('OUTCOME_', '').toLowerCase());
  }
  client.close();
}

async function stream(name, count) {
  const client = new api.EventService(server, credentials);
  const batches = client.RaiseStream();
  let succeeded = 0;
  const ended = new Promise((resolve, reject) => {
    batches.on('data', (answer) => {
      succeeded += answer.succeeded || 0;
      for (const failure of answer.failures || []) { // of one event each: try it again, or keep it
        console.error(`event ${Number(answer.sequence) - 1 + (failure.index || 0)}: ${failure.message}`);
      }
    });
    batches.on('error', reject);
    batches.on('end', resolve);
  });
  for (let first = 0; first < count; first += BATCH) {
    const events = [];
    for (let n = first; n < Math.min(first + BATCH, count); ++n) {
      events.push({ name, params: [{ name: 'n', int_value: n }] });
    }
    const room = batches.write({ sequence: first + 1, wait: 'WAIT_DELIVERED', events });
    if (!room) await new Promise((resolve) => batches.once('drain', resolve));
  }
  batches.end();
  await ended;
  console.log(`${succeeded} of ${count} succeeded`);
  client.close();
}

async function listen(name, count) {
  const client = new api.EventService(server, credentials);
  const deliveries = client.Listen();
  deliveries.write({ name });
  await new Promise((resolve, reject) => {
    deliveries.on('data', (answer) => {
      if (count === 0) return; // behind the last one: not acknowledged
      // Until it is acknowledged, the server counts it as not delivered; so do first what must not be lost.
      console.log(JSON.stringify(answer.event));
      deliveries.write({ acks: [answer.delivery_id] });
      count -= 1;
      if (count === 0) deliveries.end(); // the sending half ends; the server closes the other
    });
    deliveries.on('error', reject);
    deliveries.on('end', resolve);
  });
  client.close();
}

async function main(words) {
  const [command, ...rest] = words;
  const two = rest.length === 2;
  if (command === 'subscribe' && two) return subscribe(...rest);
  if (command === 'raise' && rest.length > 0) return raise(...rest);
  if (command === 'stream' && two) return stream(rest[0], Number(rest[1]));
  if (command === 'listen' && two) return listen(rest[0], Number(rest[1]));
  throw new Error('usage: client.js subscribe EVENT SOCKET | raise EVENT [name=value…] | stream EVENT COUNT | ' +
    'listen NAME COUNT');
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.code === undefined ? error.message : `${grpc.status[error.code]}: ${error.details}`);
  process.exitCode = 1;
});
