package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"tandem/httpapi"
)

// localAddress reports whether a listen address is out of other machines' reach: loopback,
// or a socket file, which is its owner's alone. A name other than localhost is never trusted
// to: what it resolves to can change.
func localAddress(address string) bool {
	if _, ok := socketPath(address); ok {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func setListen(c *config, v string) error {
	if path, ok := socketPath(v); ok {
		c.listen = v
		return checkSocketPath(path)
	}
	_, port, err := net.SplitHostPort(v)
	if err != nil {
		return fmt.Errorf("%q is not an address: write host:port, as in 127.0.0.1:4477, or unix: and a path", v)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%q is not a port: use a number from 0 to 65535", port)
	}
	c.listen = v
	return nil
}

func setToken(c *config, v string) error {
	c.tokens = []httpapi.Token{{Secret: v}}
	return checkToken(v)
}

// checkToken refuses what could not travel in a header. Its errors never quote the token.
func checkToken(token string) error {
	if token == "" {
		return errors.New("the token is empty: give one, for example from 'openssl rand -hex 32'")
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return errors.New("the token may hold only printable ASCII characters and no spaces")
		}
	}
	return nil
}

func setTokenFile(c *config, v string) error {
	if v == "" {
		return errors.New("the name is empty: give the path of a file that holds the token")
	}
	c.tokenFile = v
	return nil
}

// maxTokenFile is room for hundreds of tokens: what is longer is not a token file.
const maxTokenFile = 64 << 10

// readTokens reads a token file. No error quotes what is in it.
func readTokens(name string) ([]httpapi.Token, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the token: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the token: %w", err)
	}
	if len(b) > maxTokenFile {
		return nil, fmt.Errorf("%s is longer than %d bytes: it should hold tokens and nothing else", name, maxTokenFile)
	}
	tokens, err := parseTokens(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return tokens, nil
}

// parseTokens reads the lines of a token file: a token, or "control" or "view", a space and
// a token. Empty lines and those that start with # are left out.
func parseTokens(text string) ([]httpapi.Token, error) {
	var tokens []httpapi.Token
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		t := httpapi.Token{Secret: line}
		if role, secret, ok := strings.Cut(line, " "); ok {
			if role != "control" && role != "view" {
				return nil, fmt.Errorf("line %d: before a token and a space there is \"control\" or \"view\", and a token has no spaces", i+1)
			}
			t = httpapi.Token{Secret: strings.TrimLeft(secret, " "), View: role == "view"}
		}
		if err := checkToken(t.Secret); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		tokens = append(tokens, t)
	}
	if len(tokens) == 0 {
		return nil, checkToken("")
	}
	return tokens, nil
}

func setAllowHosts(c *config, v string) error {
	for host := range strings.SplitSeq(v, ",") {
		host = strings.ToLower(strings.TrimSpace(host))
		if host == "" || strings.ContainsAny(host, "/@ *?#") {
			return fmt.Errorf("%q is not a host name: write it as in a URL, without scheme and path", host)
		}
		c.allowHosts = append(c.allowHosts, host)
	}
	return nil
}

func setAllowOrigins(c *config, v string) error {
	for origin := range strings.SplitSeq(v, ",") {
		origin = strings.ToLower(strings.TrimSpace(origin))
		if err := httpapi.CheckOriginPattern(origin); err != nil {
			return err
		}
		c.allowOrigins = append(c.allowOrigins, origin)
	}
	return nil
}

// setFile takes the path of a file.
func setFile(field func(*config) *string) func(*config, string) error {
	return func(c *config, v string) error {
		if v == "" {
			return errors.New("the name is empty: give the path of a file")
		}
		*field(c) = v
		return nil
	}
}

// sizeSetter parses a number of bytes between least and most.
func sizeSetter(least, most int, field func(*config) *int) func(*config, string) error {
	return func(c *config, v string) error {
		n, err := parseSize(v)
		switch {
		case err != nil:
			return err
		case n < least:
			return fmt.Errorf("%q is too little: use at least %s", v, sizeOf(least))
		case n > most:
			return fmt.Errorf("%q is too much: use at most %s", v, sizeOf(most))
		}
		*field(c) = n
		return nil
	}
}

// parseSize reads a number of bytes, written plain or with KiB, MiB or GiB.
func parseSize(v string) (int, error) {
	digits, unit := v, 1
	for suffix, u := range map[string]int{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if d, ok := strings.CutSuffix(v, suffix); ok {
			digits, unit = d, u
		}
	}
	n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size: write bytes, or a number with KiB, MiB or GiB, as in 8MiB", v)
	}
	if n > uint64(math.MaxInt/unit) {
		return 0, fmt.Errorf("%q is too large", v)
	}
	return int(n) * unit, nil
}

// sizeOf writes a size as parseSize reads it.
func sizeOf(n int) string {
	switch {
	case n%(1<<30) == 0:
		return strconv.Itoa(n>>30) + "GiB"
	case n%(1<<20) == 0:
		return strconv.Itoa(n>>20) + "MiB"
	case n%(1<<10) == 0:
		return strconv.Itoa(n>>10) + "KiB"
	}
	return strconv.Itoa(n)
}

// durationSetter parses a duration of at least least.
func durationSetter(least time.Duration, field func(*config) *time.Duration) func(*config, string) error {
	return func(c *config, v string) error {
		d, err := time.ParseDuration(v)
		switch {
		case err != nil:
			return fmt.Errorf("%q is not a duration: write it with a unit, as in 30s or 1h30m", v)
		case d < 0:
			return fmt.Errorf("%q is negative: use a duration such as 30s", v)
		case d < least:
			return fmt.Errorf("%q is too short: use a duration such as 10s", v)
		}
		*field(c) = d
		return nil
	}
}

// countSetter parses a number of at least least.
func countSetter(least int64, field func(*config) *int) func(*config, string) error {
	return func(c *config, v string) error {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < least {
			return fmt.Errorf("%q is not a limit: use a whole number of at least %d", v, least)
		}
		*field(c) = int(n)
		return nil
	}
}

func setLogFormat(c *config, v string) error {
	if v != "text" && v != "json" {
		return fmt.Errorf("%q is not a log format: use text or json", v)
	}
	c.logFormat = v
	return nil
}
