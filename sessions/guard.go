package sessions

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// A guardian is a small process that outlives the server to end what the server could not:
// it holds one end of a pipe, and when the server is gone, however it went, every process
// with the server's label is killed and the private directory removed. One that is killed
// itself is replaced, by the goroutine that waits for it.
type guardian struct {
	argv     []string
	children *children
	log      *slog.Logger
	quit     chan struct{} // closed by dismiss
	done     chan struct{} // the goroutine has returned
	once     sync.Once

	// Of the goroutine, and after done of everybody.
	cmd  *exec.Cmd
	hold io.Closer
	err  error // of the last one's end
}

// guardianPause is how long a guardian that ended is not replaced: it may end at once again.
const guardianPause = time.Second

func startGuardian(argv []string, left leftover, c *children, log *slog.Logger) (*guardian, error) {
	argv = append(argv[:len(argv):len(argv)], left.dir, strconv.FormatUint(left.serverID, 10), left.cgroup.dir())
	g := &guardian{argv: argv, children: c, log: log, quit: make(chan struct{}), done: make(chan struct{})}
	if err := g.start(); err != nil {
		return nil, err
	}
	go g.loop()
	return g, nil
}

func (g *guardian) start() error {
	cmd := exec.Command(g.argv[0], g.argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what is meant for the server's group is not for it
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	hold, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("make guardian's pipe: %w", err)
	}
	g.children.starting.RLock()
	defer g.children.starting.RUnlock()
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start guardian: %w", err), hold.Close())
	}
	g.children.add(cmd.Process.Pid)
	g.cmd, g.hold = cmd, hold
	return nil
}

// wait returns when the guardian has ended.
func (g *guardian) wait() error {
	defer g.children.remove(g.cmd.Process.Pid)
	return g.cmd.Wait()
}

func (g *guardian) loop() {
	defer close(g.done)
	for {
		ended := make(chan error, 1)
		go func() { ended <- g.wait() }()
		select {
		case err := <-ended:
			g.log.Error("the guardian has ended and is replaced", "error", err)
		case <-g.quit:
			g.err = errors.Join(g.hold.Close(), <-ended)
			return
		}
		for again := true; again; {
			select {
			case <-time.After(guardianPause):
			case <-g.quit:
				return
			}
			err := g.start()
			if again = err != nil; again {
				g.log.Error("replace guardian", "error", err)
			}
		}
	}
}

// dismiss lets the guardian finish and waits for it.
func (g *guardian) dismiss() error {
	g.once.Do(func() { close(g.quit) })
	<-g.done
	if g.err != nil {
		return fmt.Errorf("dismiss guardian: %w", g.err)
	}
	return nil
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
