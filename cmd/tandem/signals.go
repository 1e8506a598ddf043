package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifySignals delivers the signals that ask the server to end: SIGTERM, SIGINT, SIGHUP and
// SIGQUIT, upon which Go would print where every goroutine is. One that was ignored when the program started, by nohup or by a script's "&",
// stays without effect on the server.
//
// It is still caught, not ignored: children inherit what is ignored, and a shell that
// ignores SIGINT from its start can never be interrupted. What is caught is back at its
// default in a child. SIGPIPE is caught and dropped for another reason: Ctrl-C ends the
// "tee" of "tandem serve 2>&1 | tee log" as well, and the next line logged must not kill
// the server in the middle of its orderly end.
func notifySignals() (<-chan os.Signal, func()) {
	ending := make(chan os.Signal, 2) // the first, and the second that says "at once"
	dropped := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if signal.Ignored(sig) {
			signal.Notify(dropped, sig)
		} else {
			signal.Notify(ending, sig)
		}
	}
	signal.Notify(dropped, syscall.SIGPIPE)
	return ending, func() {
		signal.Stop(ending)
		signal.Stop(dropped)
	}
}
