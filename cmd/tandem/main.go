// Command tandem is an interactive session server: persistent bash sessions, driven over
// REST and WebSocket.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// The exit codes of the program.
const (
	exitOK      = 0
	exitRuntime = 1 // something failed while it was at work
	exitUsage   = 2 // it was asked for something that cannot be done: flags, variables, setup
)

// A process is what the program is given by its surroundings. Tests hand in their own.
type process struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(name string) (value string, set bool)
	listen         func(network, address string) (net.Listener, error)
	// signals begins to deliver the signals that ask the program to end, until stop is called.
	signals func() (c <-chan os.Signal, stop func())

	environ  []string                       // what sessions may inherit a part of
	adopt    bool                           // all children of the process are the server's: see sessions.Config
	passed   func() ([]net.Listener, error) // sockets that were opened for the program
	notify   func(state string)             // tells whoever supervises the program
	watchdog time.Duration                  // how often that wants to hear from it; 0: never
}

// A command is one subcommand. Its run returns the exit code.
type command struct {
	name    string
	summary string // empty: not shown by --help
	run     func(ctx context.Context, args []string, p process) int
}

func commands() []command {
	return []command{
		{"serve", "serve sessions over REST and WebSocket", runServe},
		{"systemd-unit", "print a unit file", runUnit},
		{"version", "print the version", runVersion},
		{"guard", "", runGuard},
	}
}

func main() {
	closeOnExec()
	os.Exit(run(context.Background(), os.Args[1:], process{
		stdin:    os.Stdin,
		stdout:   os.Stdout,
		stderr:   os.Stderr,
		getenv:   os.LookupEnv,
		listen:   openListener,
		signals:  notifySignals,
		environ:  os.Environ(),
		adopt:    true,
		passed:   passedListeners,
		notify:   notifySystemd,
		watchdog: watchdogInterval(),
	}))
}

// run is the whole program: it does what args ask for, ends early when ctx does, and
// returns the exit code.
func run(ctx context.Context, args []string, p process) int {
	if len(args) == 0 {
		printUsage(p.stderr)
		return exitUsage
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "--help", "-help", "-h":
		printUsage(p.stdout)
		return exitOK
	case "--version", "-version":
		name = "version"
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, rest, p)
		}
	}
	what := "command"
	if strings.HasPrefix(name, "-") {
		what = "flag"
	}
	_, _ = fmt.Fprintf(p.stderr, "tandem: unknown %s %q: see 'tandem --help'\n", what, name)
	return exitUsage
}

func printUsage(w io.Writer) {
	var b strings.Builder
	b.WriteString("tandem serves persistent bash sessions over REST and WebSocket.\n\nUsage:\n")
	for _, c := range commands() {
		if c.summary != "" {
			fmt.Fprintf(&b, "  tandem %-13s %s\n", c.name, c.summary)
		}
	}
	b.WriteString("\n'tandem COMMAND --help' tells more about a command.\n")
	_, _ = io.WriteString(w, b.String())
}

// A usageError is a mistake in how the program was called or set up.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// fail prints err as the one line that tells why name ended, and returns its exit code.
func fail(w io.Writer, name string, err error) int {
	_, _ = fmt.Fprintf(w, "tandem %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitRuntime
}
