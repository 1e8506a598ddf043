//go:build !linux

package sessions

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// pipeCloexec keeps a fork from between the two steps that closing on exec takes here.
func pipeCloexec(fds *[2]int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(fds[:]); err != nil {
		return err
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	return nil
}

// setPipeSize does nothing: pipes have the size they have.
func setPipeSize(int, int) {}
