package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// maxSocketPath is what fits into sun_path with its closing NUL, on every system built for.
const maxSocketPath = 103

// socketPath returns the file named by a listen address such as unix:/run/tandem.sock.
func socketPath(address string) (string, bool) {
	return strings.CutPrefix(address, "unix:")
}

func checkSocketPath(path string) error {
	switch {
	case path == "" || path[0] == '@' || strings.ContainsRune(path, 0):
		return fmt.Errorf("%q is not the path of a socket: write it as in unix:/run/tandem.sock", path)
	case len(path) > maxSocketPath:
		return fmt.Errorf("the path of a socket has at most %d bytes, this one has %d: use a shorter one", maxSocketPath, len(path))
	}
	return nil
}

// openListener is [net.Listen], but that a socket file is its owner's alone from the moment
// it is there.
func openListener(network, address string) (net.Listener, error) {
	if network != "unix" {
		return net.Listen(network, address)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// On Linux the file gets the mode that the socket has; elsewhere this fails, and
		// the mode is set below.
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	ln, err := lc.Listen(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(address, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// removeStale removes the socket file of a server that is gone. Whatever else has the name
// stays, and is an error.
func removeStale(path string) error {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is something else of that name, and no socket: remove it, or choose another name")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return syscall.EADDRINUSE
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return err
}

// listen opens the listener, or takes the one that was opened for the program. That it
// cannot is a matter of configuration: another address may do.
//
// passed tells that the socket is not the program's own: whoever opened it goes on to listen.
func listen(c *config, p process) (ln net.Listener, passed bool, err error) {
	ln, err = takePassed(p)
	if err != nil {
		return nil, false, err
	}
	if passed = ln != nil; !passed {
		ln, err = listenOn(c, p)
	}
	if err != nil {
		return nil, false, err
	}
	// "localhost" is whatever the machine says it is.
	if a, ok := ln.Addr().(*net.TCPAddr); ok && len(c.tokens) == 0 && !a.IP.IsLoopback() {
		_ = ln.Close()
		return nil, false, usagef("%s %s: it leads to %v, and without a token only loopback addresses are served: use 127.0.0.1",
			c.source("listen"), c.listen, a.IP)
	}
	return ln, passed, nil
}

// takePassed returns the socket that was opened for the program, nil where none was.
func takePassed(p process) (net.Listener, error) {
	passed, err := p.passed()
	if err != nil {
		return nil, usagef("the sockets that are passed by LISTEN_FDS cannot be used: %w", err)
	}
	if len(passed) == 0 {
		return nil, nil
	}
	if len(passed) > 1 || passed[0] == nil {
		return nil, usagef("%d sockets are passed by LISTEN_FDS: pass one that listens", len(passed))
	}
	return passed[0], nil
}

func listenOn(c *config, p process) (net.Listener, error) {
	if path, ok := socketPath(c.listen); ok {
		return listenUnix(c, p, path)
	}
	ln, err := p.listen("tcp", c.listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, usagef("%s %s: the port is in use: choose another, or port 0 for any that is free", c.source("listen"), c.listen)
	case err != nil:
		return nil, usagef("%s %s: cannot listen there: %w", c.source("listen"), c.listen, err)
	}
	return ln, nil
}

func listenUnix(c *config, p process, path string) (net.Listener, error) {
	err := removeStale(path)
	var ln net.Listener
	if err == nil {
		ln, err = p.listen("unix", path)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, usagef("%s %s: another server listens there: choose another path", c.source("listen"), c.listen)
	case err != nil:
		return nil, usagef("%s %s: cannot listen there: %w", c.source("listen"), c.listen, err)
	}
	return ln, nil
}
