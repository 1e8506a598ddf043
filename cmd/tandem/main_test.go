package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary stand in for the program where the session manager starts
// a guardian from it, and looks for goroutines left behind at the end.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "guard" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// deadline is how long a test waits for what should come at once.
const deadline = time.Minute

// An output is a place for the program to write to while a test reads it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// surroundings is a process with nothing around it but the variables given.
func surroundings(variables map[string]string) (p process, stdout, stderr *output) {
	stdout, stderr = new(output), new(output)
	return process{
		stdin:   strings.NewReader(""),
		stdout:  stdout,
		stderr:  stderr,
		getenv:  func(name string) (string, bool) { v, ok := variables[name]; return v, ok },
		listen:  func(string, string) (net.Listener, error) { return nil, errors.New("this test serves nothing") },
		signals: func() (<-chan os.Signal, func()) { return nil, func() {} },
		environ: os.Environ(),
		passed:  func() ([]net.Listener, error) { return nil, nil },
		notify:  func(string) {},
	}, stdout, stderr
}

func TestRunUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args           []string
		code           int
		stdout, stderr string // something that must be in it; empty: it must be empty
	}{
		{nil, 2, "", "Usage:"},
		{[]string{"--help"}, 0, "Usage:", ""},
		{[]string{"help"}, 0, "tandem serve", ""},
		{[]string{"version"}, 0, "tandem ", ""},
		{[]string{"--version"}, 0, "tandem ", ""},
		{[]string{"version", "x"}, 2, "", `"x"`},
		{[]string{"server"}, 2, "", `unknown command "server"`},
		{[]string{"--verbose"}, 2, "", "unknown flag: --verbose"},
		{[]string{"serve", "--help"}, 0, "TANDEM_LISTEN", ""},
		{[]string{"serve", "-h"}, 0, "--stall-timeout", ""},
		{[]string{"serve", "--nope"}, 2, "", "nope"},
		{[]string{"serve", "--listen"}, 2, "", "listen"},
		{[]string{"serve", "now"}, 2, "", `unexpected argument "now"`},
		{[]string{"serve", "--listen", "0.0.0.0:0"}, 2, "", "--token"},
		{[]string{"serve"}, 2, "", "this test serves nothing"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			p, stdout, stderr := surroundings(nil)
			if code := run(t.Context(), c.args, p); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for name, o := range map[string]struct{ got, want string }{
				"stdout": {stdout.String(), c.stdout},
				"stderr": {stderr.String(), c.stderr},
			} {
				if !strings.Contains(o.got, o.want) || (o.want == "") != (o.got == "") {
					t.Errorf("%s: %q, want something with %q", name, o.got, o.want)
				}
			}
		})
	}
}

// A mistake is told in one line, which starts with the command it was made in.
func TestOneLineOnStderr(t *testing.T) {
	t.Parallel()
	p, _, stderr := surroundings(map[string]string{"TANDEM_STALL_TIMEOUT": "soon\nor later"})
	if code := run(t.Context(), []string{"serve"}, p); code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	got := stderr.String()
	if strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "tandem serve: TANDEM_STALL_TIMEOUT: ") {
		t.Errorf("stderr: %q, want one line naming the variable", got)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	p, _, stderr := surroundings(nil)
	p.listen = openListener
	if code := run(t.Context(), []string{"serve", "--listen", taken.Addr().String()}, p); code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	if got := stderr.String(); !strings.Contains(got, "--listen "+taken.Addr().String()+": the port is in use") {
		t.Errorf("stderr: %q", got)
	}
}

// started runs the whole program in this process on a port of its own. It ends it with the
// signals sent to it, or at the end of the test.
type started struct {
	url            string
	stdout, stderr *output
	signals        chan os.Signal
	code           chan int
}

func start(t *testing.T, variables map[string]string, args ...string) *started {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &started{signals: make(chan os.Signal, 2), code: make(chan int, 1)}
	listening := make(chan net.Addr, 1)
	var p process
	p, s.stdout, s.stderr = surroundings(variables)
	p.signals = func() (<-chan os.Signal, func()) { return s.signals, func() {} }
	p.listen = func(network, address string) (net.Listener, error) {
		ln, err := openListener(network, address)
		if err == nil {
			listening <- ln.Addr()
		}
		return ln, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.code <- run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...), p)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case addr := <-listening:
		s.url = "http://" + addr.String()
	case code := <-s.code:
		t.Fatalf("ended with %d: %s", code, s.stderr)
	case <-time.After(deadline):
		t.Fatal("does not listen")
	}
	return s
}

// wait returns the exit code.
func (s *started) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-s.code:
		return code
	case <-time.After(deadline):
		t.Fatal("does not end")
		return -1
	}
}

// request asks on a connection of its own, so that none is left idle.
func request(t *testing.T, method, url, body string, header http.Header) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestServe(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]os.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT, "SIGHUP": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, nil)
			for _, path := range []string{"/healthz", "/readyz", "/"} {
				if status, body := request(t, "GET", s.url+path, "", nil); status != http.StatusOK {
					t.Errorf("%s: %d %s", path, status, body)
				}
			}
			s.signals <- end
			if code := s.wait(t); code != exitOK {
				t.Errorf("exit code %d: %s", code, s.stderr)
			}
			if got, want := s.stdout.String(), "tandem listening on "+s.url+"\nopen "+s.url+"/\n"; got != want {
				t.Errorf("stdout: %q, want %q", got, want)
			}
		})
	}
}

// Who is refused is told which of the server's flags would let it in.
func TestRefusalsNameFlags(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	if status, body := request(t, "GET", s.url+"/session", "", http.Header{"Origin": {"http://a.example"}}); status != http.StatusForbidden || !strings.Contains(body, "; --allow-origin would let it") {
		t.Errorf("%d %s", status, body)
	}
	nc, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_, _ = io.WriteString(nc, "GET /session HTTP/1.0\r\nHost: a.example\r\n\r\n")
	if answer, err := io.ReadAll(nc); err != nil || !strings.Contains(string(answer), "; --allow-host would make it one, and with a token any would do") {
		t.Errorf("%s %v", answer, err)
	}
}

func TestTokenIsAskedForAndNeverLogged(t *testing.T) {
	t.Parallel()
	const token = "correct-horse-battery"
	s := start(t, map[string]string{"TANDEM_TOKEN": token}, "--log-format", "json")
	if status, _ := request(t, "GET", s.url+"/session", "", nil); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d, want 401", status)
	}
	if status, _ := request(t, "GET", s.url+"/session", "", http.Header{"Authorization": {"Bearer " + token + "x"}}); status != http.StatusUnauthorized {
		t.Errorf("with a wrong token: %d, want 401", status)
	}
	if status, body := request(t, "GET", s.url+"/session", "", http.Header{"Authorization": {"Bearer " + token}}); status != http.StatusOK {
		t.Errorf("with the token: %d %s", status, body)
	}
	s.signals <- syscall.SIGTERM
	s.wait(t)
	if out := s.stdout.String() + s.stderr.String(); strings.Contains(out, token) {
		t.Errorf("the token is in what was printed: %s", out)
	}
}
