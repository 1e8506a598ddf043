package main

import (
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"tandem/httpapi"
)

func lookup(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := variables[name]; return v, ok }
}

func parse(args []string, variables map[string]string) (*config, error) {
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags := serveFlags(fs)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	c, err := newConfig(flags, lookup(variables))
	if err != nil {
		return nil, err
	}
	return c, c.validate()
}

func write(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := parse(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.listen != "127.0.0.1:4477" || len(c.tokens) != 0 || c.retention != 8<<20 || c.stallTimeout != 10*time.Second ||
		c.maxSessions != 4096 || c.maxQueue != 256 || c.idleTimeout != 0 || c.runTimeout != 0 || c.logFormat != "text" {
		t.Errorf("defaults: %+v", c)
	}
}

func TestEveryOptionFromFlagAndVariable(t *testing.T) {
	t.Parallel()
	file := write(t, "from-file\n")
	for _, o := range []struct {
		name, value, other string
		holds              func(c *config) bool // the value, not the other
	}{
		{"listen", "127.0.0.1:1", "127.0.0.1:2", func(c *config) bool { return c.listen == "127.0.0.1:1" }},
		{"token", "mine", "other", func(c *config) bool { return secret(c) == "mine" }},
		{"token-file", file, "/dev/null", func(c *config) bool { return secret(c) == "from-file" }},
		{"allow-host", "a.example, B.example", "c", func(c *config) bool { return slices.Equal(c.allowHosts, []string{"a.example", "b.example"}) }},
		{"allow-origin", "https://a.example,http://b:81", "http://c", func(c *config) bool {
			return slices.Equal(c.allowOrigins, []string{"https://a.example", "http://b:81"})
		}},
		{"retention", "2MiB", "3MiB", func(c *config) bool { return c.retention == 2<<20 }},
		{"stall-timeout", "1m30s", "5s", func(c *config) bool { return c.stallTimeout == 90*time.Second }},
		{"max-sessions", "7", "8", func(c *config) bool { return c.maxSessions == 7 }},
		{"tls-cert", "/c", "/d", func(c *config) bool { return c.tlsCert == "/c" }},
		{"tls-key", "/c", "/d", func(c *config) bool { return c.tlsKey == "/c" }},
		{"env-pass", "JAVA_HOME, NODE_*", "X", func(c *config) bool { return slices.Equal(c.envPass, []string{"JAVA_HOME", "NODE_*"}) }},
		{"memory", "1GiB", "3GiB", func(c *config) bool { return c.memory == 1<<30 }},
		{"max-clients", "7", "8", func(c *config) bool { return c.maxClients == 7 }},
		{"max-connections", "7", "8", func(c *config) bool { return c.maxConnections == 7 }},
		{"max-code", "1KiB", "2KiB", func(c *config) bool { return c.maxCode == 1<<10 }},
		{"max-env", "1KiB", "2KiB", func(c *config) bool { return c.maxEnv == 1<<10 }},
		{"max-message", "1MiB", "2MiB", func(c *config) bool { return c.maxMessage == 1<<20 }},
		{"header-timeout", "1s", "2s", func(c *config) bool { return c.headerTimeout == time.Second }},
		{"body-timeout", "1s", "2s", func(c *config) bool { return c.bodyTimeout == time.Second }},
		{"max-queue", "7", "8", func(c *config) bool { return c.maxQueue == 7 }},
		{"idle-timeout", "1h", "2h", func(c *config) bool { return c.idleTimeout == time.Hour }},
		{"run-timeout", "1h", "2h", func(c *config) bool { return c.runTimeout == time.Hour }},
		{"log-format", "json", "text", func(c *config) bool { return c.logFormat == "json" }},
	} {
		variable := option{name: o.name}.variable()
		for how, c := range map[string]struct {
			args      []string
			variables map[string]string
		}{
			"flag":               {[]string{"--" + o.name, o.value}, nil},
			"flag with =":        {[]string{"--" + o.name + "=" + o.value}, nil},
			"variable":           {nil, map[string]string{variable: o.value}},
			"flag over variable": {[]string{"--" + o.name, o.value}, map[string]string{variable: o.other}},
		} {
			if o.name == "tls-cert" || o.name == "tls-key" { // neither goes alone
				c.args = append(c.args, "--"+map[string]string{"tls-cert": "tls-key", "tls-key": "tls-cert"}[o.name], "/e")
			}
			if got, err := parse(c.args, c.variables); err != nil || !o.holds(got) {
				t.Errorf("%s by %s: %+v, %v", o.name, how, got, err)
			}
		}
	}
}

func TestTokenByFlagSilencesBothVariables(t *testing.T) {
	t.Parallel()
	c, err := parse([]string{"--token-file", write(t, "right\r\n")}, map[string]string{"TANDEM_TOKEN": "wrong", "TANDEM_TOKEN_FILE": "/nowhere"})
	if err != nil || secret(c) != "right" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestRepeatedAndEmpty(t *testing.T) {
	t.Parallel()
	c, err := parse([]string{"--allow-host", "a", "--allow-host", "b,c", "--max-queue", "1", "--max-queue", "2"},
		map[string]string{"TANDEM_LISTEN": "", "TANDEM_ALLOW_ORIGIN": ""})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.allowHosts, []string{"a", "b", "c"}) || c.maxQueue != 2 || c.listen != "127.0.0.1:4477" || len(c.allowOrigins) != 0 {
		t.Errorf("got %+v", c)
	}
}

func TestLoopbackOrToken(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "127.8.9.1:80", "[::1]:80", "localhost:80"} {
		if _, err := parse([]string{"--listen", address}, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{":80", "0.0.0.0:80", "[::]:80", "10.0.0.1:80", "example.com:80"} {
		if _, err := parse([]string{"--listen", address, "--token", "x"}, nil); err != nil {
			t.Errorf("%s with a token: %v", address, err)
		}
		if _, err := parse([]string{"--listen", address}, nil); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s without a token: %v, want to be told about 127.0.0.1", address, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	empty, odd, long := write(t, "\n"), write(t, "two words\n"), write(t, strings.Repeat("x", maxTokenFile+1))
	for _, c := range []struct {
		args []string
		env  map[string]string
		want []string // what the message must name
	}{
		{[]string{"--listen", "4477"}, nil, []string{"--listen", `"4477"`, "host:port"}},
		{[]string{"--listen", "127.0.0.1:http"}, nil, []string{"--listen", `"http"`, "65535"}},
		{[]string{"--listen", "127.0.0.1:65536"}, nil, []string{"--listen", "65535"}},
		{nil, map[string]string{"TANDEM_LISTEN": "nowhere"}, []string{"TANDEM_LISTEN", "nowhere"}},
		{nil, map[string]string{"TANDEM_LISTEN": ":1"}, []string{"TANDEM_LISTEN", "--token"}},
		{[]string{"--token", ""}, nil, []string{"--token", "empty"}},
		{nil, map[string]string{"TANDEM_TOKEN": ""}, []string{"TANDEM_TOKEN", "empty"}},
		{[]string{"--token", "a b"}, nil, []string{"--token", "ASCII"}},
		{[]string{"--token", "a", "--token-file", "b"}, nil, []string{"--token", "--token-file", "one of them"}},
		{nil, map[string]string{"TANDEM_TOKEN": "a", "TANDEM_TOKEN_FILE": "b"}, []string{"TANDEM_TOKEN", "TANDEM_TOKEN_FILE"}},
		{[]string{"--token-file", "/no/such/file"}, nil, []string{"--token-file", "/no/such/file"}},
		{[]string{"--token-file", "/"}, nil, []string{"--token-file", "directory"}},
		{[]string{"--token-file", ""}, nil, []string{"--token-file", "path"}},
		{[]string{"--token-file", empty}, nil, []string{"--token-file", empty, "empty"}},
		{[]string{"--token-file", odd}, nil, []string{"--token-file", odd, "spaces"}},
		{nil, map[string]string{"TANDEM_TOKEN_FILE": long}, []string{"TANDEM_TOKEN_FILE", long, "longer"}},
		{[]string{"--allow-host", "http://a"}, nil, []string{"--allow-host", "http://a"}},
		{[]string{"--allow-host", "a,,b"}, nil, []string{"--allow-host"}},
		{[]string{"--allow-origin", "example.com"}, nil, []string{"--allow-origin", "scheme://host"}},
		{[]string{"--allow-origin", "https://example.com/"}, nil, []string{"--allow-origin", "scheme://host"}},
		{[]string{"--allow-origin", "*"}, nil, []string{"--allow-origin", `"*"`}},
		{[]string{"--retention", "8 bananas"}, nil, []string{"--retention", "8MiB"}},
		{[]string{"--retention", "-1"}, nil, []string{"--retention", "8MiB"}},
		{[]string{"--retention", "1KiB"}, nil, []string{"--retention", "512KiB"}},
		{[]string{"--retention", "9223372036854775807GiB"}, nil, []string{"--retention", "too large"}},
		{[]string{"--stall-timeout", "10"}, nil, []string{"--stall-timeout", "30s"}},
		{[]string{"--stall-timeout", "0"}, nil, []string{"--stall-timeout", "10s"}},
		{[]string{"--idle-timeout", "-1s"}, nil, []string{"--idle-timeout", "negative"}},
		{nil, map[string]string{"TANDEM_RUN_TIMEOUT": "never"}, []string{"TANDEM_RUN_TIMEOUT", `"never"`}},
		{[]string{"--max-sessions", "0"}, nil, []string{"--max-sessions", "at least 1"}},
		{[]string{"--max-queue", "1.5"}, nil, []string{"--max-queue", "whole number"}},
		{[]string{"--log-format", "xml"}, nil, []string{"--log-format", "text or json"}},
	} {
		_, err := parse(c.args, c.env)
		if err == nil {
			t.Errorf("%q %v: accepted", c.args, c.env)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q %v: %q does not name %s", c.args, c.env, err, want)
			}
		}
	}
}

func TestMessagesDoNotQuoteTokens(t *testing.T) {
	t.Parallel()
	const token = "s3cret words"
	for _, args := range [][]string{{"--token", token}, {"--token-file", write(t, token)}} {
		if _, err := parse(args, nil); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", args[0], err)
		}
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]int{"0": 0, "300000": 300000, "1KiB": 1 << 10, "8MiB": 8 << 20, "8 MiB": 8 << 20, "2GiB": 2 << 30} {
		if got, err := parseSize(v); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", v, got, err, want)
		}
	}
	for _, v := range []string{"", "MiB", "8MB", "0x10", "1.5MiB", "+1", "1_000", "8589934592GiB"} {
		if got, err := parseSize(v); err == nil {
			t.Errorf("%q: accepted as %d", v, got)
		}
	}
	if got, err := parseSize("9223372036854775807"); err != nil || got != math.MaxInt {
		t.Errorf("the largest: %d, %v", got, err)
	}
}

// The README's table of flags is the one --help prints.
func TestReadmeKnowsEveryFlag(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range options() {
		def := o.def
		if def != "" {
			def = "`" + def + "`"
		}
		row := "| `" + o.synopsis() + "` | `" + o.variable() + "` | " + def
		if !strings.Contains(string(b), strings.TrimRight(row, " ")) {
			t.Errorf("README.md has no row that starts with %q", row)
		}
	}
}

// secret is the only token there is.
func secret(c *config) string {
	if len(c.tokens) != 1 || c.tokens[0].View {
		return ""
	}
	return c.tokens[0].Secret
}

func TestParseTokens(t *testing.T) {
	t.Parallel()
	got, err := parseTokens("# who may come in\r\n\nplain\r\ncontrol  boss\nview guest\nview\n")
	want := []httpapi.Token{{Secret: "plain"}, {Secret: "boss"}, {Secret: "guest", View: true}, {Secret: "view"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "# nothing\n", "ok\nadmin s3cret\n", "view \n", "a\tb\n", "view a b\n"} {
		if got, err := parseTokens(bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v, %v, want an error without the token", bad, got, err)
		}
	}
}

func TestPageLink(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		addr   net.Addr
		tokens []httpapi.Token
		want   string
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}, nil, "http://127.0.0.1:80/"},
		{&net.TCPAddr{IP: net.IPv6unspecified, Port: 1}, []httpapi.Token{{Secret: "a+b/c=#"}, {Secret: "d"}}, "http://localhost:1/#token=a%2Bb%2Fc%3D%23"},
	} {
		if got := pageLink("http", test.addr, test.tokens); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
}

// Whatever a token file holds, it is refused, without telling what is in it, or it yields
// tokens that can be sent.
func FuzzTokens(f *testing.F) {
	for _, seed := range []string{"plain\n", "# comment\r\n\ncontrol boss\r\nview guest\n", "view \n", "two words", "\x00", "control  x", "view view"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := parseTokens(text)
		if (err == nil) != (len(tokens) > 0) {
			t.Errorf("%d tokens and %v", len(tokens), err)
		}
		for _, token := range tokens {
			if checkToken(token.Secret) != nil || !strings.Contains(text, token.Secret) {
				t.Errorf("%q yields %q", text, token.Secret)
			}
		}
	})
}
