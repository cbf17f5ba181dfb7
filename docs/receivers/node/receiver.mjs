// A service that takes the gateway's events: it verifies the signature, drops
// repeats, does the work and only then answers 204.
//
//	npm install
//	WEBHOOK_SECRET=whsec_… node receiver.mjs
//
// It listens on localhost:9000. The secret is one of those that `sign` names in
// the gateway's config.
import { createServer } from "node:http";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

// The largest event that is read. An event is a little larger than its
// callback, for which the gateway's max_body is 1 MiB by default.
const maxBody = 4 << 20;

const secret = process.env.WEBHOOK_SECRET;
if (!secret) {
  console.error("WEBHOOK_SECRET is not set; set it to a secret that the gateway's `sign` names");
  process.exit(1);
}
const webhook = new Webhook(secret);

// The ids of events that were worked on, with the promise of the work. A real
// service keeps them in its database, in a table whose primary key is the id,
// and adds one in the same transaction as the work.
const done = new Map();

// Does what the service has to do. If it fails, the gateway sends the event again.
async function work(event) {
  console.log(`task ${event.taskId} (${event.type}) is ${event.status}`);
}

async function read(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > maxBody) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function receive(request) {
  // the signature is over the body as it arrived: verify, then parse
  const body = await read(request);
  if (body === null) return 413;
  let event;
  try {
    event = webhook.verify(body, request.headers); // returns the parsed body
  } catch (error) {
    if (error instanceof WebhookVerificationError) return 401;
    throw error;
  }
  if (!done.has(event.id)) done.set(event.id, work(event));
  try {
    await done.get(event.id);
  } catch (error) {
    done.delete(event.id);
    throw error;
  }
  return 204;
}

createServer((request, response) => {
  receive(request)
    .catch((error) => {
      console.error(error);
      return 500;
    })
    .then((status) => response.writeHead(status).end());
}).listen(9000, "localhost");
