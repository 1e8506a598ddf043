package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSystemd starts the program as systemd does: with a socket that is open already, and
// one to tell how it is.
func TestSystemd(t *testing.T) {
	t.Parallel()
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(socketDir(t), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = told.Close() }()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	passed, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = passed.Close() }()

	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	// LISTEN_PID and WATCHDOG_PID name the process that exec puts the program in the place of.
	cmd := exec.CommandContext(ctx, "bash", "-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$0" serve`, buildProgram(t))
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "WATCHDOG_USEC=200000", "NOTIFY_SOCKET="+told.LocalAddr().String(), "TMPDIR="+t.TempDir())
	cmd.ExtraFiles = []*os.File{passed}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await := func(state string) {
		t.Helper()
		b := make([]byte, 1<<10)
		for {
			_ = told.SetReadDeadline(time.Now().Add(deadline))
			n, err := told.Read(b)
			if err != nil {
				t.Fatalf("never told %s: %v", state, err)
			}
			if string(b[:n]) == state {
				return
			}
		}
	}
	await("READY=1")
	s := &started{url: "http://" + ln.Addr().String()}
	_, id := requestBody(t, s)
	status, answer := request(t, "POST", s.url+"/session/"+id+"/run", `{"code":"env | grep -E '^(NOTIFY|LISTEN|WATCHDOG)'; true"}`, http.Header{"Accept": {"application/json"}})
	if status != http.StatusOK || !strings.Contains(answer, `"stdout":""`) {
		t.Errorf("a session is told what is for the server: %d %s", status, answer)
	}
	await("WATCHDOG=1")
	await("WATCHDOG=1")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	await("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{nil, 0, []string{"Type=notify", "WatchdogSec=", "ExecStart=" + exe + " serve", "Delegate=yes", "NoNewPrivileges=yes"}},
		{[]string{"service"}, 0, []string{"[Service]"}},
		{[]string{"socket"}, 0, []string{"[Socket]", "ListenStream=127.0.0.1:4477"}},
		{[]string{"--help"}, 0, []string{"tandem systemd-unit [service | socket]"}},
		{[]string{"timer"}, 2, nil},
		{[]string{"service", "socket"}, 2, nil},
	} {
		p, stdout, stderr := surroundings(nil)
		if code := run(t.Context(), append([]string{"systemd-unit"}, c.args...), p); code != c.code || (stderr.String() == "") != (code == 0) {
			t.Errorf("%q: exit code %d, %s", c.args, code, stderr)
		}
		for _, want := range c.want {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%q: no %q in %s", c.args, want, stdout)
			}
		}
		if strings.Contains(stdout.String(), "@") {
			t.Errorf("%q: something was not filled in: %s", c.args, stdout)
		}
	}
}

// A watchdog that finds the program hanging says nothing.
func TestWatchdogOfAHangingProgram(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan string, 100)
	hang := make(chan struct{})
	asked := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		feedWatchdog(ctx, 20*time.Millisecond, func() { asked <- struct{}{}; <-hang }, func(s string) { told <- s })
	}()
	<-asked
	select {
	case s := <-told:
		t.Errorf("told %s", s)
	case <-time.After(100 * time.Millisecond):
	}
	close(hang)
	if s := <-told; s != "WATCHDOG=1" {
		t.Errorf("told %s", s)
	}
	cancel()
	<-done
}
