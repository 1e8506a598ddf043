package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A server is a tandem that we started.
type server struct {
	bin    string
	cmd    *exec.Cmd
	addr   string
	dir    string // everything of it
	exited chan struct{}
}

// stopLimit is how long the server may take to end.
const stopLimit = 20 * time.Second

// startServer starts bin, or what it builds if that is "", and returns once it listens. It
// ends when ctx does.
func startServer(ctx context.Context, bin string) (*server, error) {
	dir, err := os.MkdirTemp("", "tandem-bench-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, exited: make(chan struct{})}
	if err := s.start(ctx, bin); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	context.AfterFunc(ctx, func() { _ = s.cmd.Process.Signal(syscall.SIGTERM) })
	return s, nil
}

func (s *server) start(ctx context.Context, bin string) error {
	if bin == "" {
		bin = filepath.Join(s.dir, "tandem")
		if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "tandem/cmd/tandem").CombinedOutput(); err != nil {
			return fmt.Errorf("build tandem, which works inside its module only (or use --bin or --url): %w: %s", err, out)
		}
	}
	bin, err := filepath.Abs(bin) // it is started in another directory
	if err != nil {
		return err
	}
	stderr, err := os.Create(s.logName())
	if err != nil {
		return err
	}
	defer stderr.Close()
	// A pipe of our own: StdoutPipe would be closed by Wait, under the reader.
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.bin = bin
	s.cmd = exec.Command(bin, "serve", "--listen", "127.0.0.1:0")
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, w, stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us alone
	err = s.cmd.Start()
	_ = w.Close()
	if err != nil {
		return errors.Join(err, r.Close())
	}
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait() // its state is asked for where it matters
	}()
	return s.listening(r)
}

func (s *server) tandem() *tandem {
	return &tandem{place{s.addr, s.cmd.Process.Pid}, s.bin}
}

func (s *server) logName() string { return filepath.Join(s.dir, "stderr") }

// listening waits for the line that says where the server listens.
func (s *server) listening(r *os.File) error {
	lines := bufio.NewReader(r)
	line, err := lines.ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "tandem listening on ")
	if ok {
		s.addr, err = address(url)
	}
	if !ok || err != nil {
		_ = s.cmd.Process.Kill()
		<-s.exited
		log, _ := os.ReadFile(s.logName())
		return fmt.Errorf("tandem said %q, %v: %s", line, err, log)
	}
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		_ = r.Close()
	}()
	return nil
}

// stop ends the server, and says so if it did not end well.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	var err error
	select {
	case <-s.exited:
	case <-time.After(stopLimit):
		_ = s.cmd.Process.Kill()
		<-s.exited
		err = fmt.Errorf("tandem was still there %v after SIGTERM", stopLimit)
	}
	if code := s.cmd.ProcessState.ExitCode(); err == nil && code != 0 {
		log, _ := os.ReadFile(s.logName())
		err = fmt.Errorf("tandem ended with exit code %d: %.500s", code, log)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
