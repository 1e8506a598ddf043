package sessions

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
)

// A guardian is a small process that outlives the server to end what the server could not:
// it holds one end of a pipe, and when the server is gone, however it went, every process
// with the server's label is killed and the private directory removed.
type guardian struct {
	cmd  *exec.Cmd
	hold io.Closer
	once sync.Once
	err  error // of dismiss
}

func startGuardian(argv []string, left leftover) (*guardian, error) {
	argv = append(argv[:len(argv):len(argv)], left.dir, strconv.FormatUint(left.serverID, 10), left.cgroup.dir())
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what is meant for the server's group is not for it
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	hold, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make guardian's pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start guardian: %w", err)
	}
	return &guardian{cmd: cmd, hold: hold}, nil
}

func (g *guardian) pid() int { return g.cmd.Process.Pid }

// dismiss lets the guardian finish and waits for it.
func (g *guardian) dismiss() error {
	g.once.Do(func() {
		if err := errors.Join(g.hold.Close(), g.cmd.Wait()); err != nil {
			g.err = fmt.Errorf("dismiss guardian: %w", err)
		}
	})
	return g.err
}

// Guard is the guardian's whole life: it blocks until hold, the pipe from the server, ends,
// and then ends what the server left. args are those the manager appended to Config.Guardian.
func Guard(hold io.Reader, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("guard takes a server's directory, number and cgroup, not %d arguments", len(args))
	}
	id, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return fmt.Errorf("read server's number: %w", err)
	}
	_, _ = io.Copy(io.Discard, hold)
	ended, err := leftover{dir: args[0], serverID: id, cgroup: serversCgroup(args[2], id)}.end()
	if err != nil {
		return fmt.Errorf("remove private directory: %w", err)
	}
	if !ended {
		return errors.New("some processes could not be killed")
	}
	return nil
}
