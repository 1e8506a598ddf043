package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// While the server drains, nobody is told that it is ready: a new connection is refused, and
// a request that was not complete by then is not answered, or with 503. A WebSocket whose
// client does not say goodbye shows that the server drains, and holds it there.
func testReadiness(t *testing.T, bin string) {
	p := startProgram(t, bin)
	p.must("GET", "/readyz", "")
	socket := p.raw("GET /session/"+p.session()+"/ws HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", "")
	awaitBytes(t, socket, `"attached"`)
	probe := p.raw("GET /readyz HTTP/1.1", "X-Unfinished: yes")
	p.eventually("the probe is connected", func() string {
		if n := p.scrape().value(t, "tandem_connections"); n != 3 {
			return fmt.Sprint(n)
		}
		return ""
	})
	p.signal(syscall.SIGTERM)
	awaitBytes(t, socket, "server restarting")
	_, _ = io.WriteString(probe, "\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(probe), nil)
	if err == nil {
		_ = res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("/readyz while the server drains: %d", res.StatusCode)
		}
	}
	if nc, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://")); err == nil {
		_ = nc.Close()
		t.Error("a server that drains takes new connections")
	}
	_ = socket.Close()
	if code := p.ended(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	p.nothingIsLeft()
}

// awaitBytes reads until text has come.
func awaitBytes(t *testing.T, r io.Reader, text string) {
	t.Helper()
	var got []byte
	for buf := make([]byte, 1<<10); !bytes.Contains(got, []byte(text)); {
		n, err := r.Read(buf)
		if got = append(got, buf[:n]...); err != nil {
			t.Fatalf("waiting for %q: %v after %q", text, err, got)
		}
	}
}
