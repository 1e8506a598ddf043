package sessions

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A run that is canceled before its shell has read it is not begun by the next one, should the shell
// end at that very moment.
func TestCancelWhileTheShellDies(t *testing.T) {
	t.Parallel()
	m, err := New(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	s, err := m.Create(Options{Cwd: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	begun := filepath.Join(s.directory(), "begun")
	saved := func() bool { // or else the shell would be asked for its state
		s.turn.Lock()
		defer s.turn.Unlock()
		return !s.dirty
	}
	if poll(10*time.Second, saved); !saved() {
		t.Fatal("the state was not saved")
	}
	pid := s.shellPid()
	_ = unix.Kill(pid, unix.SIGSTOP)
	poll(10*time.Second, func() bool { st, _ := readStat(pid); return st.state == 'T' })
	r, _, err := s.Submit(RunRequest{Code: "echo >" + begun})
	if err != nil {
		t.Fatal(err)
	}
	<-r.Started()
	s.turn.Lock()
	shell := s.sh
	if err := s.Cancel(r.ID()); err != nil {
		t.Error(err)
	}
	poll(time.Second, func() bool { return len(s.wake) == 0 }) // unless loop waits for its turn already
	_ = unix.Kill(pid, unix.SIGKILL)
	<-shell.exited
	s.turn.Unlock()
	<-r.Done()
	if i := r.Info(); i.Reason != ReasonCanceled {
		t.Errorf("ended as %s", i.Reason)
	}
	if _, err := os.Stat(begun); err == nil {
		t.Error("it was begun")
	}
}
