package nats

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
)

// UnmarshalCaddyfile sets up the inbox from Caddyfile tokens. Syntax:
//
//	inbox nats <url...> {
//		stream               <name>
//		replicas             <n>
//		max_size             <size>
//		credentials          <file>
//		nkey                 <file>
//		user                 <name> <password>
//		tls {
//			ca   <file>
//			cert <file>
//			key  <file>
//		}
//		lease                <duration>
//		publish_timeout      <duration>
//		start_without_server
//	}
//
// A size is a number with an optional unit, such as 500MB or 10GiB.
func (i *Inbox) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume module name
	i.URLs = d.RemainingArgs()
	if len(i.URLs) == 0 {
		return d.Err("inbox nats: no server is given: expected at least one URL, such as nats://nats.internal:4222")
	}
	given := map[string]bool{}
	for d.NextBlock(0) {
		option := d.Val()
		read, known := caddyfileOptions[option]
		if !known {
			return d.Errf("inbox nats: unknown option '%s': expected stream, replicas, max_size, credentials, nkey, user, tls, lease, publish_timeout or start_without_server", option)
		}
		if given[option] {
			return d.Errf("inbox nats: %s is given more than once: expected one", option)
		}
		given[option] = true
		if err := read(i, d); err != nil {
			return err
		}
	}
	return nil
}

// module precedes the text of all errors.
const module = "inbox nats"

// caddyfileOptions parse the arguments of the options.
var caddyfileOptions = map[string]func(i *Inbox, d *caddyfile.Dispenser) error{
	"stream": func(i *Inbox, d *caddyfile.Dispenser) error {
		return one(d, "one name", &i.Stream)
	},
	"replicas": func(i *Inbox, d *caddyfile.Dispenser) error {
		const expected = "one number, 1 to 5"
		return caddymodule.Argument(d, module, expected, func(v string) bool {
			n, err := strconv.Atoi(v)
			i.Replicas = n
			return err == nil && n >= 1 && n <= maxReplicas
		})
	},
	"max_size": func(i *Inbox, d *caddyfile.Dispenser) error {
		return caddymodule.Size(d, module, &i.MaxSize)
	},
	"credentials": func(i *Inbox, d *caddyfile.Dispenser) error {
		return one(d, "the path of a file", &i.Credentials)
	},
	"nkey": func(i *Inbox, d *caddyfile.Dispenser) error {
		return one(d, "the path of a file with the seed", &i.NKey)
	},
	"user": func(i *Inbox, d *caddyfile.Dispenser) error {
		args, err := caddymodule.Arguments(d, module, 2, "a name and a password")
		if err != nil {
			return err
		}
		if args[0] == "" || args[1] == "" {
			return d.Err("inbox nats: bad value '' for user: expected a name and a password")
		}
		i.User, i.Password = args[0], args[1]
		return nil
	},
	"tls": (*Inbox).parseTLS,
	"lease": func(i *Inbox, d *caddyfile.Dispenser) error {
		return duration(d, "30s", &i.Lease)
	},
	"publish_timeout": func(i *Inbox, d *caddyfile.Dispenser) error {
		return duration(d, "5s", &i.PublishTimeout)
	},
	"start_without_server": func(i *Inbox, d *caddyfile.Dispenser) error {
		i.StartWithoutServer = true
		_, err := caddymodule.Arguments(d, module, 0, "none")
		return err
	},
}

// parseTLS parses the block of the option tls.
func (i *Inbox) parseTLS(d *caddyfile.Dispenser) error {
	if args := d.RemainingArgs(); len(args) != 0 {
		return d.Errf("inbox nats: tls has %d arguments: expected none but a block", len(args))
	}
	i.TLS = new(TLS)
	for d.NextBlock(1) {
		var field *string
		option := d.Val()
		switch option {
		case "ca":
			field = &i.TLS.CA
		case "cert":
			field = &i.TLS.Cert
		case "key":
			field = &i.TLS.Key
		default:
			return d.Errf("inbox nats: unknown option '%s' of tls: expected ca, cert or key", option)
		}
		if *field != "" {
			return d.Errf("inbox nats: %s of tls is given more than once: expected one", option)
		}
		args := d.RemainingArgs()
		if len(args) != 1 || args[0] == "" {
			return d.Errf("inbox nats: %s of tls: expected the path of a file", option)
		}
		*field = args[0]
	}
	return nil
}

func one(d *caddyfile.Dispenser, expected string, field *string) error {
	return caddymodule.Argument(d, module, expected, func(v string) bool { *field = v; return v != "" })
}

func duration(d *caddyfile.Dispenser, example string, field *caddy.Duration) error {
	return caddymodule.Argument(d, module, "one duration, such as "+example, func(v string) bool {
		dur, err := caddy.ParseDuration(v)
		*field = caddy.Duration(dur)
		return err == nil && dur > 0
	})
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Inbox)(nil)
