package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// adminAddress returns the address of the admin endpoint: as given, or from a config
// file, or Caddy's default. Caddy's own look-up also takes the default for a config
// that turns the endpoint off, and does not fill in placeholders.
func adminAddress(address, config, adapter string) (string, error) {
	switch {
	case address != "":
		return address, nil
	case config == "" && adapter != "":
		return "", errors.New("--adapter is for --config, which is not given")
	case config == "":
		return caddy.DefaultAdminListen, nil
	}
	document, _, _, err := caddycmd.LoadConfig(config, adapter)
	if err != nil {
		return "", fmt.Errorf("--config: %w", err)
	}
	var parsed struct {
		Admin struct {
			Disabled bool   `json:"disabled"`
			Listen   string `json:"listen"`
		} `json:"admin"`
	}
	if err := json.Unmarshal(document, &parsed); err != nil {
		return "", fmt.Errorf("--config %s: reading the address of the admin endpoint: %w", config, err)
	}
	if parsed.Admin.Disabled {
		return "", fmt.Errorf("--config %s turns the admin endpoint off (admin off), and this command asks it: "+
			"let the config have one, such as \"admin unix//run/caddy/admin.sock\", or name that of another Caddy with --address", config)
	}
	listen, err := caddy.NewReplacer().ReplaceOrErr(parsed.Admin.Listen, true, true)
	if err != nil {
		return "", fmt.Errorf("--config %s: the address of the admin endpoint, %q: %w: the environment here may not be that of Caddy; --address says it directly",
			config, parsed.Admin.Listen, err)
	}
	if listen == "" {
		listen = caddy.DefaultAdminListen
	}
	return listen, nil
}

// parseAdmin parses an address to dial. Common mistakes, which mean something else to
// Caddy, are errors with the right form.
func parseAdmin(address string) (caddy.NetworkAddress, error) {
	wrong := func(why, right string) (caddy.NetworkAddress, error) {
		return caddy.NetworkAddress{}, fmt.Errorf("%q is no address of an admin endpoint%s: expected %s", address, why, right)
	}
	if scheme, rest, found := strings.Cut(address, "://"); found {
		if scheme == "unix" {
			return wrong(", but a URL", quoted(socket(rest)))
		}
		host := "localhost:2019"
		if u, err := url.Parse(address); err == nil && u.Port() != "" {
			host = u.Host
		}
		return wrong(", but a URL", quoted(host))
	}
	if path, found := strings.CutPrefix(address, "unix:"); found {
		return wrong("", quoted(socket(path)))
	}
	if filepath.IsAbs(address) || strings.HasPrefix(address, "/") {
		return wrong(", but a path", quoted(socket(address)))
	}
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return wrong(" ("+err.Error()+")", "host:port or unix//path")
	}
	switch {
	case parsed.IsFdNetwork():
		return wrong(", but a file descriptor that Caddy listens at", "the address behind it, host:port or unix//path")
	case parsed.IsUnixNetwork():
		// the permission bits of unix//path|0220 are for listening
		parsed.Host, _, _ = strings.Cut(parsed.Host, "|")
		if _, err := os.Stat(parsed.Host); err != nil && !filepath.IsAbs(parsed.Host) {
			return wrong(fmt.Sprintf(": with one slash it is the file %s in this directory, which is not there", parsed.Host), quoted(socket(parsed.Host)))
		}
	case !strings.HasPrefix(parsed.Network, "tcp"):
		return wrong("", "host:port or unix//path")
	case parsed.PortRangeSize() != 1 || parsed.StartPort == 0:
		return wrong("", "one port, such as localhost:2019")
	case parsed.Host == "": // Caddy listens on all addresses
		parsed.Host = "localhost"
	}
	return parsed, nil
}

// socket returns the address of a socket file.
func socket(path string) string { return "unix//" + strings.TrimLeft(path, "/") }
