package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tandem/httpapi"
	"tandem/sessions"
)

// TestMain also asks, where all tests were run and passed, whether all that is described was
// seen.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if code == 0 && !described().allSeen() {
			code = 1
		}
		os.Exit(code)
	}))
}

// A door is a server of this package over a real engine, on a port of its own.
type door struct {
	t       *testing.T
	url     string
	client  *http.Client
	manager *sessions.Manager
	log     *logBuffer
}

// open starts a door that is closed when the test ends.
func open(t *testing.T, engine sessions.Config, cfg httpapi.Config) *door {
	t.Helper()
	manager, err := sessions.New(engine)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, manager: manager, log: &logBuffer{}}
	cfg.Sessions = manager
	cfg.Messages = func() httpapi.EntryEncoder { return plainEncoder{} }
	cfg.AsyncAPI = `{"asyncapi":"3.0.0"}`
	cfg.Logger = slog.New(slog.NewJSONHandler(d.log, nil))
	server := httptest.NewServer(described().witness(t, httpapi.New(cfg)))
	d.url, d.client = server.URL, server.Client()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := manager.Close(ctx); err != nil {
			t.Errorf("close engine: %v", err)
		}
		d.client.CloseIdleConnections()
		server.Close()
	})
	return d
}

// plainEncoder stands in for the messages of the WebSocket door.
type plainEncoder struct{}

func (plainEncoder) Attached(s *sessions.Session, snap sessions.Snapshot, role string) []byte {
	b, _ := json.Marshal(map[string]any{"type": "attached", "session_id": s.ID(), "pos": snap.Pos, "role": role})
	return b
}

func (plainEncoder) AppendEntry(dst []byte, _ *sessions.Session, e sessions.Entry) []byte {
	b, _ := json.Marshal(map[string]any{"type": fmt.Sprint("kind ", e.Kind), "pos": e.Pos, "text": string(e.Data)})
	return append(dst, b...)
}

// A logBuffer is a log that can be waited for.
type logBuffer struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await returns once the log holds text.
func (l *logBuffer) await(t *testing.T, text string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		if strings.Contains(l.text.String(), text) {
			l.mu.Unlock()
			return
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-late:
			t.Fatalf("the log does not come to hold %q", text)
		}
	}
}

// An answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) decode(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("decode %.200q: %v", a.body, err)
	}
}

// request makes a request; headers are names and values in turn. The name Host sets Host.
func (d *door) request(ctx context.Context, method, path, body string, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	return d.client.Do(req)
}

func (d *door) do(method, path, body string, headers ...string) answer {
	d.t.Helper()
	res, err := d.request(d.t.Context(), method, path, body, headers...)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatalf("read answer of %s %s: %v", method, path, err)
	}
	return answer{res.StatusCode, res.Header, all}
}

// session makes a session and returns the path it has.
func (d *door) session() (path, id string) {
	d.t.Helper()
	var v struct {
		SessionID string `json:"session_id"`
	}
	a := d.do("POST", "/session", "")
	if a.status != 200 {
		d.t.Fatalf("create session: %d %s", a.status, a.body)
	}
	a.decode(d.t, &v)
	return "/session/" + v.SessionID, v.SessionID
}

// An event is one event of a stream.
type event struct {
	id        string
	data      string
	Type      string `json:"type"`
	Text      string `json:"text"`
	Base64    []byte `json:"base64"`
	Newline   *bool  `json:"newline"`
	RunID     string `json:"run_id"`
	Timestamp int64  `json:"timestamp"`
	ExitCode  *int   `json:"exit_code"`
	From      uint64 `json:"from"`
	To        uint64 `json:"to"`
	Error     struct {
		EName     string   `json:"ename"`
		EValue    string   `json:"evalue"`
		Traceback []string `json:"traceback"`
	} `json:"error"`
}

func (e event) bytes() []byte {
	b := []byte(e.Text)
	if e.Base64 != nil {
		b = e.Base64
	}
	if e.Newline == nil || *e.Newline {
		b = append(b, '\n')
	}
	return b
}

// A stream reads events one by one.
type stream struct {
	t      *testing.T
	res    *http.Response
	r      *bufio.Reader
	cancel context.CancelFunc
}

// stream makes a request that is answered by events.
func (d *door) stream(method, path, body string, headers ...string) *stream {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	res, err := d.request(ctx, method, path, body, headers...)
	if err != nil {
		cancel()
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	s := &stream{t: d.t, res: res, r: bufio.NewReader(res.Body), cancel: cancel}
	d.t.Cleanup(s.close)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(res.Body)
		d.t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, b)
	}
	return s
}

func (s *stream) close() {
	s.cancel()
	s.res.Body.Close()
}

// next returns the next event; ok is false at the end of the stream.
func (s *stream) next() (e event, ok bool) {
	s.t.Helper()
	for {
		line, err := s.r.ReadString('\n')
		line = strings.TrimSuffix(line, "\n")
		switch {
		case err != nil:
			return event{}, false
		case line == "" && e.data != "":
			return e, true
		case strings.HasPrefix(line, "id: "):
			e.id = line[4:]
		case strings.HasPrefix(line, "data: "):
			e.data = line[6:]
			if err := json.Unmarshal([]byte(e.data), &e); err != nil {
				s.t.Fatalf("event %.200q: %v", e.data, err)
			}
		}
	}
}

// untilText returns the first event whose text holds text.
func (s *stream) untilText(text string) event {
	s.t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended without %q", text)
		}
		if strings.Contains(e.Text, text) {
			return e
		}
	}
}

// until returns the first event of a type.
func (s *stream) until(kind string) event {
	s.t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended without %s", kind)
		}
		if e.Type == kind {
			return e
		}
	}
}

// A result is a stream of a run read to its end.
type result struct {
	events         []event
	stdout, stderr bytes.Buffer
	end            event
}

func (s *stream) rest() *result {
	s.t.Helper()
	r := &result{}
	for {
		e, ok := s.next()
		if !ok {
			break
		}
		r.events = append(r.events, e)
		switch e.Type {
		case "stdout":
			r.stdout.Write(e.bytes())
		case "stderr":
			r.stderr.Write(e.bytes())
		case "execution_complete", "error":
			if r.end.Type != "" {
				s.t.Errorf("a second ending: %s", e.data)
			}
			r.end = e
		}
	}
	if r.end.Type == "" {
		s.t.Errorf("no ending in %d events", len(r.events))
	}
	return r
}

// run runs code in the session at path.
func (d *door) run(path, code string) *result {
	d.t.Helper()
	return d.stream("POST", path+"/run", body("code", code)).rest()
}

// body makes a JSON object of names and values in turn.
func body(fields ...any) string {
	m := map[string]any{}
	for i := 0; i < len(fields); i += 2 {
		m[fields[i].(string)] = fields[i+1]
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// A gate holds a command up until the test lets it go on.
type gate struct {
	t    *testing.T
	path string
}

func newGate(t *testing.T) gate {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return gate{t, path}
}

// wait is the command that waits at the gate.
func (g gate) wait() string { return "read -r _ <'" + g.path + "'" }

// open returns when the command has reached the gate, and lets it through.
func (g gate) open() {
	g.t.Helper()
	var f *os.File
	for start := time.Now(); f == nil; {
		var err error
		// Without O_NONBLOCK a command that never comes would hang the test for good.
		if f, err = os.OpenFile(g.path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err != nil {
			if !errors.Is(err, syscall.ENXIO) || time.Since(start) > 20*time.Second {
				g.t.Fatalf("nobody at the gate: %v", err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	defer f.Close()
	if _, err := f.WriteString("\n"); err != nil {
		g.t.Fatal(err)
	}
}

func bearerProtocol(token string) string {
	return "tandem.v1, bearer." + base64.RawURLEncoding.EncodeToString([]byte(token))
}
