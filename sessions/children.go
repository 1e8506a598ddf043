package sessions

import (
	"sync"
	"syscall"
)

// children are the processes that this manager has started itself and waits for. Where the
// program adopts the orphans of its sessions, they are what tells those from its own: an
// orphan is reaped by whoever sees it dead, a child of ours by the goroutine that owns it.
type children struct {
	starting sync.RWMutex // held for reading from before a process is started until it is known
	mu       sync.Mutex   // of what follows; nobody waits with it
	own      map[int]int  // how often: a number may be had anew before wait has let go of it

	// strangers were there before there was a manager: whoever started this program in its
	// place had them. They are reaped and not ended.
	strangers map[int]bool
}

// fork starts a process, which wait must be called for.
func (c *children) fork(argv0 string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	c.starting.RLock()
	defer c.starting.RUnlock()
	if pid, err = syscall.ForkExec(argv0, argv, attr); err == nil {
		c.add(pid)
	}
	return pid, err
}

// wait blocks until a process has ended, and returns its status and the name it had.
func (c *children) wait(pid int) (status syscall.WaitStatus, comm string) {
	defer c.remove(pid)
	return waitProcess(pid)
}

func (c *children) add(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own[pid]++
}

func (c *children) remove(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own[pid]--; c.own[pid] == 0 {
		delete(c.own, pid)
	}
}

func (c *children) has(pid int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.own[pid] > 0
}
