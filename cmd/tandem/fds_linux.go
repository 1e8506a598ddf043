package main

import "golang.org/x/sys/unix"

// closeOnExec keeps what the program itself has inherited from whoever started it, beside
// the standard three, from being handed on to every shell.
func closeOnExec() { _ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) }
