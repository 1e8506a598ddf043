package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// socketDir returns a directory whose name is short enough for sockets in it.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestSocketFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false) // as after a SIGKILL
	_ = stale.Close()

	s := start(t, nil, "--listen", "unix:"+path)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	res, err := client.Get("http://localhost/session")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), `"sessions"`) {
		t.Errorf("%d %s, %v", res.StatusCode, body, err)
	}

	p, _, stderr := surroundings(nil)
	p.listen = openListener
	if code := run(t.Context(), []string{"serve", "--listen", "unix:" + path}, p); code != exitUsage || !strings.Contains(stderr.String(), "another server listens there") {
		t.Errorf("a second server: exit code %d, %s", code, stderr)
	}

	s.signals <- syscall.SIGTERM
	if code := s.wait(t); code != exitOK {
		t.Errorf("exit code %d: %s", code, s.stderr)
	}
	if got, want := s.stdout.String(), fmt.Sprintf("tandem listening on unix:%s\n", path); got != want {
		t.Errorf("stdout: %q, want %q", got, want)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestSocketFileRefused(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                             "not the path of a socket",
		"@abstract":                    "not the path of a socket",
		"a\x00b":                       "not the path of a socket",
		"/" + strings.Repeat("x", 103): "at most 103 bytes",
		file:                           "something else of that name",
		filepath.Join(dir, "no/s"):     "no such file",
	} {
		p, _, stderr := surroundings(nil)
		p.listen = openListener
		if code := run(t.Context(), []string{"serve", "--listen", "unix:" + path}, p); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: exit code %d, %s", path, code, stderr)
		}
	}
	if got, err := os.ReadFile(file); string(got) != "precious" {
		t.Errorf("%q, %v", got, err)
	}
}
