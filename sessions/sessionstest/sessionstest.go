// Package sessionstest helps tests of the engine and of what is built on it: managers that
// clean up after themselves, runs that are waited for, a check for processes left behind.
package sessionstest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tandem/sessions"
)

// Patience is how long a test waits for what must happen before it calls it hung.
const Patience = 30 * time.Second

// New returns a manager that is closed when the test ends, which then fails if anything is
// left in its private directory.
func New(t testing.TB, cfg sessions.Config) *sessions.Manager {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	m, err := sessions.New(cfg)
	if err != nil {
		t.Fatalf("new manager: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Errorf("close manager: %v", err)
		}
		if left, _ := os.ReadDir(cfg.Dir); len(left) > 0 {
			t.Errorf("left in the private directory's parent: %v", left)
		}
	})
	return m
}

// Session returns a session in a directory of its own.
func Session(t testing.TB, m *sessions.Manager) *sessions.Session {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Create(sessions.Options{Cwd: dir})
	if err != nil {
		t.Fatalf("create session: %v", err)
	}
	return s
}

// A Result is a run that has ended.
type Result struct {
	sessions.RunInfo
	Stdout, Stderr string
}

// Code is the exit code, -1 where there is none.
func (r Result) Code() int {
	if r.ExitCode == nil {
		return -1
	}
	return *r.ExitCode
}

// Submit starts a run.
func Submit(t testing.TB, s *sessions.Session, req sessions.RunRequest) *sessions.Run {
	t.Helper()
	r, _, err := s.Submit(req)
	if err != nil {
		t.Fatalf("submit %q: %v", req.Code, err)
	}
	return r
}

// Run runs code to its end.
func Run(t testing.TB, s *sessions.Session, code string) Result {
	t.Helper()
	return RunRequest(t, s, sessions.RunRequest{Code: code})
}

// RunRequest runs a request to its end.
func RunRequest(t testing.TB, s *sessions.Session, req sessions.RunRequest) Result {
	t.Helper()
	return Wait(t, Submit(t, s, req))
}

// Wait waits for a run to end.
func Wait(t testing.TB, r *sessions.Run) Result {
	t.Helper()
	select {
	case <-r.Done():
	case <-time.After(Patience):
		t.Fatalf("run %q hangs: %+v", r.Info().Code, r.Info())
	}
	res := Result{RunInfo: r.Info()}
	entries, _, truncated := r.Output(0, 1<<30)
	if truncated {
		t.Fatalf("output of %q was dropped", res.RunInfo.Code)
	}
	for _, e := range entries {
		if e.Pos >= res.Last {
			continue // late
		}
		if e.Kind == sessions.Stdout {
			res.Stdout += string(e.Data)
		} else {
			res.Stderr += string(e.Data)
		}
	}
	return res
}

// Await polls until cond holds. It is for what no channel tells: the state of processes
// that belong to somebody else.
func Await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("not within %v: %s", Patience, what)
}

// AwaitOutput reads the run's output until it contains want.
func AwaitOutput(t testing.TB, r *sessions.Run, want string) {
	t.Helper()
	Await(t, fmt.Sprintf("output %q", want), func() bool {
		var all bytes.Buffer
		entries, _, _ := r.Output(0, 1<<30)
		for _, e := range entries {
			all.Write(e.Data)
		}
		return strings.Contains(all.String(), want)
	})
}

// Checkpoint returns once the engine has saved the state that the session is in: from then
// on a shell that is killed comes back with it. The session must have nothing to do. The
// gate is what the idle shell writes: nothing but its state comes to so much, and it sleeps only
// once it has written all of it.
func Checkpoint(t testing.TB, s *sessions.Session) {
	t.Helper()
	const atLeast = 1000
	at := Run(t, s, `\builtin printf '\npid %s\n' $$; PATH=/usr/bin:/bin \command cat /proc/$$/io`)
	_, rest, _ := strings.Cut(at.Stdout, "\npid ")
	pid, io, _ := strings.Cut(rest, "\n")
	before := written(io)
	if before < 0 {
		t.Fatalf("no count of what the shell has written: %q %q", at.Stdout, at.Stderr)
	}
	Await(t, "a checkpoint", func() bool {
		io, _ := os.ReadFile("/proc/" + pid + "/io")
		status, _ := os.ReadFile("/proc/" + pid + "/status")
		return written(string(io)) > before+atLeast && strings.Contains(string(status), "State:\tS")
	})
}

// written is the number of bytes a process has written, or -1.
func written(io string) int {
	_, rest, _ := strings.Cut(io, "wchar: ")
	n := -1
	_, _ = fmt.Sscan(rest, &n)
	return n
}

// Entries returns all that the session's journal keeps.
func Entries(t testing.TB, s *sessions.Session) []sessions.Entry {
	t.Helper()
	r, _, err := s.Attach(sessions.AttachOptions{Oldest: true, Viewer: true})
	if err != nil {
		t.Fatalf("attach: %v", err)
	}
	defer r.Close()
	entries, err := r.Next(nil, 1<<30)
	if err != nil {
		t.Fatalf("read journal: %v", err)
	}
	return entries
}

// Restarts returns what the journal tells of restarted shells, each as "cause/restored".
func Restarts(t testing.TB, s *sessions.Session) []string {
	t.Helper()
	var all []string
	for _, e := range Entries(t, s) {
		if e.Kind == sessions.ShellRestarted {
			all = append(all, string(e.Restart.Cause)+"/"+string(e.Restart.Restored))
		}
	}
	return all
}

// Marked returns the command lines of the processes whose environment has MARK=mark.
func Marked(mark string) (found []string) {
	envs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range envs {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(append([]byte{0}, b...), []byte("\x00MARK="+mark+"\x00")) {
			continue
		}
		cmd, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		found = append(found, string(bytes.ReplaceAll(cmd, []byte{0}, []byte{' '})))
	}
	return found
}
