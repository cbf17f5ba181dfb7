package caddymodule

// App is implemented by the Caddy app with the id AppID, which runs the handlers of a
// config. Modules that need to know these load it in Provision.
type App interface {
	// Handlers returns the names of the config's handlers in alphabetical order. They are
	// complete once the config is provisioned, which is before it starts.
	Handlers() []string

	// Asks reports whether the handler of that name asks Fotor for tasks. It may be called
	// when Handlers is complete.
	Asks(name string) bool

	// OnStart has f called when the config starts, before anything is opened. If f
	// returns an error, the config is not loaded. It must be called in Provision.
	OnStart(f func() error)
}

// AppID is the id of the App.
const AppID = "fotor_webhook"
