package httpapi_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tandem/httpapi"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	log := &logBuffer{}
	tokens := httpapi.NewTokens(httpapi.Token{Secret: "acting"}, httpapi.Token{Secret: "looking", View: true})
	server := httptest.NewServer(httpapi.Guard(httpapi.Config{Tokens: tokens, MaxBody: 100, Logger: slog.New(slog.NewTextHandler(log, nil))}, "/here", echo))
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	for name, c := range map[string]struct {
		method, path, token, origin, body string
		status                            int
	}{
		"right":      {"POST", "/here", "acting", "", "hello", 200},
		"delete":     {"DELETE", "/here", "acting", "", "", 200},
		"no token":   {"POST", "/here", "", "", "hello", 401},
		"wrong":      {"POST", "/here", "guessed", "", "hello", 401},
		"view":       {"POST", "/here", "looking", "", "hello", 403},
		"foreign":    {"POST", "/here", "acting", "http://evil.example", "hello", 403},
		"long":       {"POST", "/here", "acting", "", strings.Repeat("x", 101), 413},
		"other path": {"POST", "/there", "acting", "", "hello", 404},
		"session":    {"POST", "/session", "acting", "", "{}", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, server.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != c.status || c.status == 200 && string(body) != c.body || c.status != 200 && !bytes.Contains(body, []byte(`"code"`)) {
			t.Errorf("%s: %d %s, want %d", name, res.StatusCode, body, c.status)
		}
	}
	log.await(t, "route=/here status=200")
}

// The limit on the time of a body is over when the body is there: an answer may take longer.
func TestGuardSlowAnswer(t *testing.T) {
	t.Parallel()
	const limit = 50 * time.Millisecond
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			t.Error("the request was given up")
		case <-time.After(4 * limit):
		}
		_, _ = io.WriteString(w, "done")
	})
	server := httptest.NewServer(httpapi.Guard(httpapi.Config{BodyTimeout: limit}, "/here", slow))
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	res, err := client.Post(server.URL+"/here", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); string(body) != "done" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}
