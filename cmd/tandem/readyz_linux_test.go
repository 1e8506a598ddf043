package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// While the server drains it still takes connections: probes are told that it is not ready,
// and everybody else that it stops. A WebSocket whose client does not say goodbye shows that
// the server drains, and holds it there.
func testReadiness(t *testing.T, bin string) {
	p := startProgram(t, bin)
	p.must("GET", "/readyz", "")
	id := p.session()
	socket := p.raw("GET /session/"+id+"/ws HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", "")
	defer socket.Close()
	until(t, socket, "101")
	asked := time.Now()
	p.signal(syscall.SIGTERM)
	p.eventually("/readyz is red", func() string {
		if status, _ := p.ask("GET", "/readyz"); status != http.StatusServiceUnavailable {
			return fmt.Sprint(status)
		}
		return ""
	})
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/readyz", 503}, {"GET", "/healthz", 200}, {"POST", "/session", 503}, {"GET", "/session/" + id, 503}, {"GET", "/ws", 503},
	} {
		status, body := p.ask(c.method, c.path)
		if status == 0 && time.Since(asked) > 2*time.Second {
			break // a slow machine: the server waits 2.5 s for the socket, and no longer
		}
		if status != c.status || status == 503 && !strings.Contains(body, "RUNTIME_ERROR") {
			t.Errorf("%s %s while the server drains: %d %s", c.method, c.path, status, body)
		}
	}
	_ = socket.Close()
	if code := p.ended(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	p.nothingIsLeft()
}

// ask makes a request on a connection of its own; status 0 is that nobody answered.
func (p *program) ask(method, path string) (status int, body string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}
