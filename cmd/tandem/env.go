package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// plainEnv are the variables that every session inherits: where things are, who the user is,
// and how text is written. What else is in the server's environment is likely to be the
// server's own, secrets among it.
var plainEnv = []string{"HOME", "LANG", "LANGUAGE", "LC_*", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"}

// neverPassed are variables that are told to this program alone: its own settings, and what
// systemd says to a service (sd_notify(3), sd_listen_fds(3)).
var neverPassed = []string{"TANDEM_*", "NOTIFY_SOCKET", "LISTEN_*", "WATCHDOG_*"}

// sessionEnv is the part of an environment that sessions inherit.
func sessionEnv(environ, pass []string) []string {
	env := []string{}
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if (matchName(plainEnv, name) || matchName(pass, name)) && !matchName(neverPassed, name) {
			env = append(env, kv)
		}
	}
	return env
}

func matchName(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "*")
		return name == p || wild && strings.HasPrefix(name, prefix)
	})
}

func setEnvPass(c *config, v string) error {
	for name := range strings.SplitSeq(v, ",") {
		name = strings.TrimSpace(name)
		bare := strings.TrimSuffix(name, "*")
		switch {
		case name == "" || strings.ContainsAny(bare, "*= \x00"):
			return fmt.Errorf("%q names no variable: write names, as in JAVA_HOME,NODE_*", name)
		case matchName([]string{"TANDEM_*"}, bare):
			return errors.New("what is named TANDEM_… is the server's own and never passed on: give the variable another name")
		}
		c.envPass = append(c.envPass, name)
	}
	return nil
}
