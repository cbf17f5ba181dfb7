// Command caddy is Caddy with the Fotor webhook gateway built in.
package main

import (
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/fotor-webhook/caddy-fotor-webhook"
	_ "github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/nats"
)

func main() {
	caddycmd.Main()
}
