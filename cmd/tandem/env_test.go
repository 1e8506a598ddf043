package main

import (
	"slices"
	"testing"
)

func TestSessionEnv(t *testing.T) {
	t.Parallel()
	environ := []string{
		"PATH=/bin", "HOME=/root", "LC_TIME=C", "LC=no", "AWS_SECRET=no", "NODE_ENV=x", "NODE=no", "JAVA_HOME=/j",
		"TANDEM_TOKEN=no", "TANDEM_X=no", "NOTIFY_SOCKET=no", "LISTEN_FDS=no", "WATCHDOG_USEC=no", "BASH_FUNC_f%%=() { :; }", "odd", "=no",
	}
	for _, c := range []struct{ pass, want []string }{
		{nil, []string{"PATH=/bin", "HOME=/root", "LC_TIME=C"}},
		{[]string{"NODE_*", "JAVA_HOME"}, []string{"PATH=/bin", "HOME=/root", "LC_TIME=C", "NODE_ENV=x", "JAVA_HOME=/j"}},
		{[]string{"*"}, []string{"PATH=/bin", "HOME=/root", "LC_TIME=C", "LC=no", "AWS_SECRET=no", "NODE_ENV=x", "NODE=no", "JAVA_HOME=/j", "BASH_FUNC_f%%=() { :; }", "odd", "=no"}},
	} {
		if got := sessionEnv(environ, c.pass); !slices.Equal(got, c.want) {
			t.Errorf("with %q: %q, want %q", c.pass, got, c.want)
		}
	}
}
