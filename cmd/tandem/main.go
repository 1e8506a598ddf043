// Command tandem is an interactive session server: persistent bash sessions, driven over
// REST and WebSocket.
package main

import (
	"context"
	"io"
	"net"
	"os"
	"time"
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
