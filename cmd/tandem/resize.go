package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// onResize calls f when the terminal's size has changed, until stop, which waits for it.
func onResize(f func()) (stop func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	var watch sync.WaitGroup
	watch.Go(func() {
		for range changed {
			f()
		}
	})
	return func() {
		signal.Stop(changed)
		close(changed)
		watch.Wait()
	}
}
