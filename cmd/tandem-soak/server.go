package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stallTimeout is how long the server bears a reader that takes nothing: shorter than by
// default, so that this happens often enough.
const stallTimeout = 5 * time.Second

// A server is the tandem under test.
type server struct {
	cmd       *exec.Cmd
	url       string
	addr      string // host:port
	tmp       string // its TMPDIR
	token     string
	viewToken string
	mark      string // a variable of its environment, NAME=value
	log       string // file with its stderr
	exited    chan struct{}
}

// startServer starts bin and returns once it listens.
func startServer(bin, root string) (*server, error) {
	s := &server{
		tmp: filepath.Join(root, "tmp"), log: filepath.Join(root, "stderr"), mark: "SOAK_SERVER=" + rand.Text(),
		token: rand.Text(), viewToken: rand.Text(), exited: make(chan struct{}),
	}
	for _, dir := range []string{s.tmp, filepath.Join(root, "work")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	tokens := filepath.Join(root, "tokens")
	if err := os.WriteFile(tokens, []byte("control "+s.token+"\nview "+s.viewToken+"\n"), 0o600); err != nil {
		return nil, err
	}
	stderr, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	// A pipe of our own: StdoutPipe would be closed by Wait, under the reader.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.cmd = exec.Command(bin, "serve", "--listen", "127.0.0.1:0", "--token-file", tokens, "--stall-timeout", stallTimeout.String())
	s.cmd.Env = append(os.Environ(), s.mark, "TMPDIR="+s.tmp, "GORACE=halt_on_error=0 exitcode=66")
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = root, w, stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us alone
	err = s.cmd.Start()
	_ = w.Close()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait() // its code is asked for where it matters
	}()
	return s, s.listening(r)
}

// listening waits for the line that says where the server listens.
func (s *server) listening(r *os.File) error {
	lines := bufio.NewReader(r)
	line, err := lines.ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "tandem listening on ")
	if !ok {
		_ = s.cmd.Process.Kill()
		log, _ := os.ReadFile(s.log)
		return fmt.Errorf("the server said %q, %v: %s", line, err, log)
	}
	// What may come after the address, a token for browsers, is not for us.
	url, _, _ = strings.Cut(url, "/#")
	s.url, s.addr = url, strings.TrimPrefix(url, "http://")
	go func() {
		_, _ = lines.WriteTo(discard{})
		_ = r.Close()
	}()
	return nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) gone() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// exitCode is -1 while the server is there, or where a signal ended it.
func (s *server) exitCode() int {
	if !s.gone() {
		return -1
	}
	return s.cmd.ProcessState.ExitCode()
}

// stop asks the server to end, and makes it end after limit.
func (s *server) stop(limit time.Duration) (code int, err error) {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !s.gone() {
		return -1, err
	}
	select {
	case <-s.exited:
		return s.exitCode(), nil
	case <-time.After(limit):
	}
	_ = s.cmd.Process.Signal(syscall.SIGQUIT) // leaves the stacks in the log
	select {
	case <-s.exited:
	case <-time.After(time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	return s.exitCode(), fmt.Errorf("the server was still there %v after SIGTERM", limit)
}

// complaints are the lines of the server's stderr that tell of a broken program, each with
// some of what follows it.
func (s *server) complaints() (found []string) {
	data, err := os.ReadFile(s.log)
	if err != nil {
		return []string{err.Error()}
	}
	lines := strings.Split(string(data), "\n")
	for i, line := range lines {
		if isComplaint(line) {
			found = append(found, strings.Join(lines[i:min(i+40, len(lines))], "\n"))
		}
	}
	return found
}

func isComplaint(line string) bool {
	return strings.Contains(line, "DATA RACE") || strings.Contains(line, "panic") || strings.HasPrefix(line, "fatal error:")
}

// logged counts the lines of the log that have a level of error or warning.
func (s *server) logged() (errs, warnings int, first string) {
	data, _ := os.ReadFile(s.log)
	for line := range strings.Lines(string(data)) {
		switch {
		case strings.Contains(line, "level=ERROR"):
			errs++
			if first == "" {
				first = strings.TrimSpace(line)
			}
		case strings.Contains(line, "level=WARN"):
			warnings++
		}
	}
	return errs, warnings, first
}
