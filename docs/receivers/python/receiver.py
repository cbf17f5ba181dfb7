"""A service that takes the gateway's events: it verifies the signature, drops
repeats, does the work and only then answers 204.

    pip install standardwebhooks
    WEBHOOK_SECRET=whsec_... python receiver.py

It listens on localhost:9000. The secret is one of those that `sign` names in
the gateway's config.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

# The largest event that is read. An event is a little larger than its callback,
# for which the gateway's max_body is 1 MiB by default.
MAX_BODY = 4 << 20

# The ids of events that were worked on. A real service keeps them in its
# database, in a table whose primary key is the id, and adds one in the same
# transaction as the work.
done = set()
lock = threading.Lock()


def work(event):
    """Does what the service has to do. If it fails, the gateway sends the event again."""
    print(f"task {event['taskId']} ({event['type']}) is {event['status']}", flush=True)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    webhook = None  # set below

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        if length > MAX_BODY:
            self.answer(413)
            return
        # the signature is over the body as it arrived: verify, then parse
        body = self.rfile.read(length)
        try:
            self.webhook.verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError):  # ValueError: not even well-formed
            self.answer(401)
            return
        event = json.loads(body)

        with lock:
            if event["id"] not in done:
                try:
                    work(event)
                except Exception as failure:
                    self.log_error("event %s: %s", event["id"], failure)
                    self.answer(500)
                    return
                done.add(event["id"])
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        if status == 413:
            self.send_header("Connection", "close")
        self.end_headers()


def main():
    secret = os.environ.get("WEBHOOK_SECRET")
    if not secret:
        sys.exit("WEBHOOK_SECRET is not set; set it to a secret that the gateway's `sign` names")
    Receiver.webhook = Webhook(secret)
    ThreadingHTTPServer(("localhost", 9000), Receiver).serve_forever()


if __name__ == "__main__":
    main()
