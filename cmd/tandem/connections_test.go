package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// knock opens a connection and says something on it.
func knock(t *testing.T, address, text string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(deadline))
	if _, err := io.WriteString(nc, text); err != nil {
		t.Fatal(err)
	}
	return nc
}

// closedBy reports whether the other side closes the connection.
func closedBy(nc net.Conn) bool {
	_, err := io.Copy(io.Discard, nc)
	return err == nil || strings.Contains(err.Error(), "reset")
}

func TestSilentConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	s := start(t, nil, "--max-connections", "3")
	address := strings.TrimPrefix(s.url, "http://")
	request := "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	first := knock(t, address, "GET /half HTTP/1.1\r\nHo")
	idle := knock(t, address, request)
	if _, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil {
		t.Fatal(err)
	}
	_, body := requestBody(t, s)
	events := knock(t, address, fmt.Sprintf("GET /session/%s/events HTTP/1.1\r\nHost: localhost\r\n\r\n", body))
	stream := bufio.NewReader(events)
	if _, err := http.ReadResponse(stream, nil); err != nil {
		t.Fatal(err)
	}
	// All three places are taken, or more were and the first has gone. Everybody new is let in
	// all the same, and who is being served notices nothing. One that has its answer is silent
	// a moment later only: until then there may be no room.
	for let, late := 0, time.Now().Add(deadline); let < 10; {
		fresh := knock(t, address, request)
		res, err := http.ReadResponse(bufio.NewReader(fresh), nil)
		if err != nil || res.StatusCode != http.StatusOK && time.Now().After(late) {
			t.Fatalf("a new connection: %v, %v", res, err)
		}
		if res.StatusCode == http.StatusOK {
			let++
		}
	}
	if !closedBy(first) || !closedBy(idle) {
		t.Error("those that were silent are still there")
	}
	if line, err := stream.ReadString('\n'); err != nil {
		t.Errorf("the stream: %q, %v", line, err)
	}
}

// requestBody creates a session and returns its id.
func requestBody(t *testing.T, s *started) (status int, id string) {
	t.Helper()
	status, answer := request(t, "POST", s.url+"/session", "", nil)
	_, rest, _ := strings.Cut(answer, `"session_id":"`)
	id, _, _ = strings.Cut(rest, `"`)
	if id == "" {
		t.Fatalf("no session: %d %s", status, answer)
	}
	return status, id
}

// Where all are being served, a new one is closed, and those that are there stay.
func TestCrowdOfBusyConnections(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newCrowd(inner, 1, slog.New(slog.DiscardHandler))
	defer func() { _ = c.Close() }()
	accepted := make(chan net.Conn)
	go func() {
		for {
			nc, err := c.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- nc
		}
	}()
	knock(t, inner.Addr().String(), "")
	busy := <-accepted
	c.note(busy, http.StateActive)
	refused, err := io.ReadAll(knock(t, inner.Addr().String(), ""))
	if err != nil || !strings.HasPrefix(string(refused), "HTTP/1.1 503 ") || !strings.Contains(string(refused), "--max-connections") {
		t.Errorf("one too many is told %q, %v", refused, err)
	}
	c.note(busy, http.StateIdle)
	second := knock(t, inner.Addr().String(), "")
	next := <-accepted
	if _, err := busy.Write([]byte("x")); err == nil {
		t.Error("the silent one was not closed")
	}
	_ = busy.Close() // counts once
	_ = next.Close()
	if !closedBy(second) {
		t.Error("the second stays")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members != 0 || c.silent.Len() != 0 {
		t.Errorf("%d members, %d silent are left", c.members, c.silent.Len())
	}
	_ = inner.Close()
}

// A header that does not come to its end is not waited for.
func TestSlowHeader(t *testing.T) {
	t.Parallel()
	s := start(t, nil, "--header-timeout", "300ms")
	address := strings.TrimPrefix(s.url, "http://")
	for _, said := range []string{"", "GET / HTTP/1.1\r\nHost: lo"} {
		if !closedBy(knock(t, address, said)) {
			t.Errorf("after %q the connection stays", said)
		}
	}
}
