package sessions

import (
	"sync"
	"syscall"
)

// children are the processes that this manager has started itself and waits for. Where the
// program adopts the orphans of its sessions, they are what tells those from its own: an
// orphan is reaped by whoever sees it dead, a child of ours by the goroutine that owns it.
type children struct {
	mu  sync.Mutex // held from before a process is started until it is known
	own map[int]bool

	// strangers were there before there was a manager: whoever started this program in its
	// place had them. They are reaped and not ended.
	strangers map[int]bool
}

// fork starts a process, which wait must be called for.
func (c *children) fork(argv0 string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pid, err = syscall.ForkExec(argv0, argv, attr); err == nil {
		c.own[pid] = true
	}
	return pid, err
}

// wait blocks until a process has ended, and returns its status and the name it had.
func (c *children) wait(pid int) (status syscall.WaitStatus, comm string) {
	status, comm = waitProcess(pid)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.own, pid)
	return status, comm
}
