package main

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"tandem/httpapi"
	"tandem/sessions"
	"tandem/ws"
)

// A config is everything "tandem serve" can be told. [newConfig] fills it from flags
// and variables, one value at a time; [config.validate] checks what concerns more than
// one of them.
type config struct {
	listen       string
	tokens       []httpapi.Token // none: only loopback is served
	tokenFile    string
	tlsCert      string // "": no TLS
	tlsKey       string
	allowHosts   []string
	allowOrigins []string
	envPass      []string // patterns of names

	retention      int
	memory         int
	stallTimeout   time.Duration
	maxSessions    int
	maxQueue       int
	maxClients     int
	maxConnections int
	maxCode        int
	maxEnv         int
	maxMessage     int
	idleTimeout    time.Duration
	runTimeout     time.Duration
	headerTimeout  time.Duration
	bodyTimeout    time.Duration
	logFormat      string

	// from says where each option that was given came from, "--listen" or
	// "TANDEM_LISTEN", so that a message can name what to change.
	from map[string]string
}

// An option is one flag of "tandem serve" and its variable. The table of them is the only
// place that knows their names: parsing and --help are made from it.
type option struct {
	name  string // of the flag
	value string // what --help calls its value
	def   string // the default, in the words a user would write; empty: none
	help  string
	set   func(c *config, value string) error // the error says what is wrong with value, and what would be right
}

// variable is the name of the environment variable that stands in for the flag.
func (o option) variable() string {
	return "TANDEM_" + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
}

func options() []option {
	return []option{
		{"listen", "ADDR", "127.0.0.1:4477", "host:port to serve on, port 0 picks a free one; or unix:PATH, a socket for this user alone", setListen},
		{"token", "TOKEN", "", "what clients must present; --token-file keeps it out of 'ps'", setToken},
		{"token-file", "FILE", "", "file of tokens, one a line, each after \"view \" or \"control \"; control where it stands alone", setTokenFile},
		{"tls-cert", "FILE", "", "serve TLS with the certificates in this PEM file", setFile(func(c *config) *string { return &c.tlsCert })},
		{"tls-key", "FILE", "", "and the key in this one", setFile(func(c *config) *string { return &c.tlsKey })},
		{"allow-host", "HOST,…", "", "further Host names to answer to without a token", setAllowHosts},
		{"allow-origin", "ORIGIN,…", "", "further Origins whose pages may connect, as https://example.com, https://*.example.com or http://localhost:*", setAllowOrigins},
		{"env-pass", "NAME,…", "", "further variables that sessions inherit; NAME* for all that begin so", setEnvPass},
		{"retention", "SIZE", sizeOf(sessions.DefaultRetention), "output kept per session", sizeSetter(sessions.MinRetention, math.MaxInt, func(c *config) *int { return &c.retention })},
		{"memory", "SIZE", sizeOf(sessions.DefaultMemory), "output kept of all sessions", sizeSetter(sessions.MinRetention, math.MaxInt, func(c *config) *int { return &c.memory })},
		{"stall-timeout", "TIME", sessions.DefaultStallTimeout.String(), "cut off a reader that takes nothing for so long", durationSetter(1, func(c *config) *time.Duration { return &c.stallTimeout })},
		{"max-sessions", "N", strconv.Itoa(sessions.DefaultMaxSessions), "sessions at a time", countSetter(1, func(c *config) *int { return &c.maxSessions })},
		{"max-queue", "N", strconv.Itoa(sessions.DefaultMaxQueue), "runs waiting in one session", countSetter(1, func(c *config) *int { return &c.maxQueue })},
		{"max-clients", "N", strconv.Itoa(sessions.DefaultMaxClients), "clients attached to one session", countSetter(1, func(c *config) *int { return &c.maxClients })},
		{"max-connections", "N", "0", "connections at a time; 0: a quarter of the descriptors the process may have", countSetter(0, func(c *config) *int { return &c.maxConnections })},
		{"max-code", "SIZE", sizeOf(sessions.MaxCode), "code of one run, or the input that comes with it", sizeSetter(1, sessions.MaxCode, func(c *config) *int { return &c.maxCode })},
		{"max-env", "SIZE", sizeOf(sessions.MaxEnv), "names and values of one environment", sizeSetter(1, sessions.MaxEnv, func(c *config) *int { return &c.maxEnv })},
		{"max-message", "SIZE", sizeOf(ws.DefaultMaxMessage), "one message of a WebSocket, or one JSON body", sizeSetter(1<<10, math.MaxInt32, func(c *config) *int { return &c.maxMessage })},
		{"idle-timeout", "TIME", "0", "end a session nobody used for so long; 0: never", durationSetter(0, func(c *config) *time.Duration { return &c.idleTimeout })},
		{"run-timeout", "TIME", "0", "longest a run may take; 0: no limit", durationSetter(0, func(c *config) *time.Duration { return &c.runTimeout })},
		{"header-timeout", "TIME", "10s", "longest the header of a request may take to arrive", durationSetter(time.Millisecond, func(c *config) *time.Duration { return &c.headerTimeout })},
		{"body-timeout", "TIME", httpapi.DefaultBodyTimeout.String(), "longest a JSON body may take to arrive", durationSetter(time.Millisecond, func(c *config) *time.Duration { return &c.bodyTimeout })},
		{"log-format", "FORMAT", "text", "text or json, on stderr", setLogFormat},
	}
}

// A given is the values that were given to each flag of "tandem serve", in order.
type given map[string][]string

// serveFlags defines the flags.
func serveFlags(fs *pflag.FlagSet) given {
	g := given{}
	for _, o := range options() {
		fs.Var(&givenFlag{o: o, into: g}, o.name, o.help)
	}
	return g
}

// A givenFlag keeps what its flag is given, to be looked at when the variables are too.
type givenFlag struct {
	o    option
	into given
}

func (f *givenFlag) Set(value string) error {
	f.into[f.o.name] = append(f.into[f.o.name], value)
	return nil
}

func (f *givenFlag) String() string { return f.o.def }
func (f *givenFlag) Type() string   { return f.o.value }

// newConfig makes a config from flags and variables. A flag wins over its variable, and where
// a token is named by a flag, both variables of the token are ignored.
func newConfig(g given, getenv func(string) (string, bool)) (*config, error) {
	c := &config{from: map[string]string{}}
	tokenByFlag := len(g["token"])+len(g["token-file"]) > 0
	for _, o := range options() {
		if err := c.fill(o, g[o.name], tokenByFlag, getenv); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// fill sets one option from the values its flag was given, else from its variable, else to
// its default. A variable that is set but empty counts as not set, except for the token:
// there it is more likely a secret that went missing, and no reason to serve without one.
func (c *config) fill(o option, values []string, tokenByFlag bool, getenv func(string) (string, bool)) error {
	source := "--" + o.name
	isToken := o.name == "token" || o.name == "token-file"
	if len(values) == 0 && !(isToken && tokenByFlag) {
		if v, set := getenv(o.variable()); set && (v != "" || isToken) {
			source, values = o.variable(), []string{v}
		}
	}
	if len(values) > 0 {
		c.from[o.name] = source
	} else if o.def != "" {
		values = []string{o.def}
	}
	for _, v := range values {
		if err := o.set(c, v); err != nil {
			return usagef("%s: %w", source, err)
		}
	}
	return nil
}

// source names where an option's value comes from, for a message.
func (c *config) source(name string) string {
	if s, ok := c.from[name]; ok {
		return s
	}
	return "--" + name
}

// validate checks what no option can know alone, and reads the token file. After it the
// config is complete.
func (c *config) validate() error {
	_, byToken := c.from["token"]
	_, byFile := c.from["token-file"]
	if byToken && byFile {
		return usagef("%s and %s are both set: use one of them", c.source("token"), c.source("token-file"))
	}
	if byFile {
		tokens, err := readTokens(c.tokenFile)
		if err != nil {
			return usagef("%s: %w", c.source("token-file"), err)
		}
		c.tokens = tokens
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		return usagef("--tls-cert and --tls-key belong together: give both")
	}
	if c.memory < c.retention {
		return usagef("%s: less than the %d bytes that %s allows one session: use more", c.source("memory"), c.retention, c.source("retention"))
	}
	if len(c.tokens) == 0 && !localAddress(c.listen) {
		return usagef("%s %s: without a token only loopback addresses are served: use --token-file or --token, or listen on 127.0.0.1 or unix:PATH",
			c.source("listen"), c.listen)
	}
	return nil
}
