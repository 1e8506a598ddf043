package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"tandem/httpapi"
	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// errorOf reads an error answer.
func errorOf(t *testing.T, a answer) (code, message string) {
	t.Helper()
	var v struct{ Code, Message string }
	a.decode(t, &v)
	return v.Code, v.Message
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{MaxSessions: 2}, httpapi.Config{})
	path, id := d.session()
	d.stream("POST", path+"/run", body("code", "true", "run_id", "done")).rest()
	d.session()
	const unknown = "/session/00000000-0000-4000-8000-000000000000"
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/session", "", 429, "TOO_MANY"},
		{"POST", "/session", "{", 400, "INVALID_REQUEST_BODY"},
		{"POST", "/session", "[]", 400, "INVALID_REQUEST_BODY"},
		{"POST", "/session", "{} {}", 400, "INVALID_REQUEST_BODY"},
		{"POST", "/session", `{"cwd":5}`, 400, "INVALID_REQUEST_BODY"},
		{"POST", "/session", `{"cwd":"/dev/null/x"}`, 400, "INVALID_REQUEST_BODY"},
		{"POST", "/session", `{"env":{"A=B":"x"}}`, 400, "INVALID_REQUEST_BODY"},
		{"GET", unknown, "", 404, "CONTEXT_NOT_FOUND"},
		{"GET", "/session/nope", "", 404, "CONTEXT_NOT_FOUND"},
		{"DELETE", unknown, "", 404, "CONTEXT_NOT_FOUND"},
		{"PATCH", unknown, "{}", 404, "CONTEXT_NOT_FOUND"},
		{"PATCH", path, "{}", 400, "INVALID_REQUEST_BODY"},
		{"PATCH", path, "", 400, "INVALID_REQUEST_BODY"},
		{"PATCH", path, `{"name":1}`, 400, "INVALID_REQUEST_BODY"},
		{"POST", unknown + "/run", `{"code":"true"}`, 404, "CONTEXT_NOT_FOUND"},
		{"POST", path + "/run", "", 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/run", "{}", 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/run", `{"code":""}`, 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/run", `{"code":"a\u0000b"}`, 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/run", `{"code":"true","timeout_ms":-1}`, 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/run", `{"code":"true","run_id":"a b"}`, 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/run", `{"code":"false","run_id":"done"}`, 409, "RUN_EXISTS"},
		{"POST", path + "/run", `{"code":"` + strings.Repeat("x", sessions.MaxCode+1) + `"}`, 413, "TOO_LARGE"},
		{"POST", path + "/run", `{"code":"` + strings.Repeat("x", 64<<20) + `"}`, 413, "TOO_LARGE"},
		{"GET", path + "/run/nope", "", 404, "RUN_NOT_FOUND"},
		{"GET", path + "/run/done?wait=soon", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/run/nope/output", "", 404, "RUN_NOT_FOUND"},
		{"GET", path + "/run/done/output?after=-1", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/run/done/output?after=", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/run/done/output?after=999999", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/run/done/output?wait=1s", "", 400, "INVALID_REQUEST_BODY"},
		{"DELETE", path + "/run/nope", "", 404, "RUN_NOT_FOUND"},
		{"DELETE", path + "/run/done", "", 409, "RUN_NOT_RUNNING"},
		{"POST", path + "/run/nope/stdin", "x", 404, "RUN_NOT_FOUND"},
		{"POST", path + "/run/done/stdin", "x", 409, "NO_STDIN"},
		{"POST", path + "/run/done/stdin?close=maybe", "x", 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/interrupt", "", 409, "RUN_NOT_RUNNING"},
		{"POST", path + "/interrupt", `{"run_id":"done"}`, 409, "RUN_NOT_RUNNING"},
		{"POST", path + "/interrupt", `{"force":"yes"}`, 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/signal", "", 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/signal", `{"signal":"SIGNOPE"}`, 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/signal", `{"signal":"SIGTERM"}`, 409, "RUN_NOT_RUNNING"},
		{"GET", path + "/events?after=banana", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/events?after=999999", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/events?after=%zz", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/run/done?wait=%zz", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/run/done/output?after=1;x", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/run/done/output?wait=%zz", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/recording?run=%zz", "", 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/run?after=%zz", `{"code":"true"}`, 400, "INVALID_REQUEST_BODY"},
		{"POST", path + "/run/done/stdin?close=1;x", "", 400, "INVALID_REQUEST_BODY"},
		{"DELETE", "/command?id=" + id + "&%zz", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", unknown + "/events", "", 404, "CONTEXT_NOT_FOUND"},
		{"GET", unknown + "/recording", "", 404, "CONTEXT_NOT_FOUND"},
		{"GET", path + "/recording?format=", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/recording?format=v1", "", 400, "INVALID_REQUEST_BODY"},
		{"GET", path + "/recording?run=nope", "", 404, "RUN_NOT_FOUND"},
		{"GET", path + "/recording?run=", "", 404, "RUN_NOT_FOUND"},
		{"POST", unknown + "/interrupt", "", 404, "CONTEXT_NOT_FOUND"},
		{"POST", unknown + "/signal", `{"signal":"SIGTERM"}`, 404, "CONTEXT_NOT_FOUND"},
		{"GET", unknown + "/run", "", 404, "CONTEXT_NOT_FOUND"},
		{"GET", unknown + "/run/done", "", 404, "CONTEXT_NOT_FOUND"},
		{"DELETE", unknown + "/run/done", "", 404, "CONTEXT_NOT_FOUND"},
		{"GET", unknown + "/run/done/output", "", 404, "CONTEXT_NOT_FOUND"},
		{"POST", unknown + "/run/done/stdin", "x", 404, "CONTEXT_NOT_FOUND"},
		{"DELETE", "/command", "", 400, "INVALID_REQUEST_BODY"},
		{"DELETE", "/command?id=nope", "", 404, "CONTEXT_NOT_FOUND"},
		{"GET", "/no/such/path", "", 404, "CONTEXT_NOT_FOUND"},
		{"GET", path + "/", "", 404, "CONTEXT_NOT_FOUND"},
		{"GET", "/metrics", "", 404, "CONTEXT_NOT_FOUND"},
		{"GET", "/ws", "", 404, "CONTEXT_NOT_FOUND"},
		{"PUT", "/session", "{}", 405, "INVALID_REQUEST_BODY"},
		{"PATCH", "/session", "{}", 405, "INVALID_REQUEST_BODY"},
	} {
		a := d.do(c.method, c.path, c.body)
		name := c.method + " " + strings.ReplaceAll(c.path, id, "ID") + " " + c.body[:min(len(c.body), 40)]
		if code, message := errorOf(t, a); a.status != c.status || code != c.code || len(message) < 9 {
			t.Errorf("%s: %d %.200s, want %d %s", name, a.status, a.body, c.status, c.code)
		}
		if a.header.Get("Content-Type") != "application/json" || a.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: headers %v", name, a.header)
		}
	}
}

// TestFull: what a session has no more room for is refused, and said to be.
func TestFull(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{MaxQueue: 1, MaxClients: 1}, httpapi.Config{})
	path, _ := d.session()
	d.stream("GET", path+"/events", "")
	for _, more := range []string{"/events", "/recording"} {
		if a := d.do("GET", path+more, ""); a.status != 429 || !strings.Contains(string(a.body), `"TOO_MANY"`) {
			t.Errorf("a second client, of %s: %d %.200s", more, a.status, a.body)
		}
	}
	g := newGate(t)
	s := d.stream("POST", path+"/run", body("code", "echo on; "+g.wait()))
	s.until("stdout")
	waiting := body("code", "true", "detach", true)
	if a := d.do("POST", path+"/run", waiting); a.status != 202 {
		t.Errorf("the first in the queue: %d %s", a.status, a.body)
	}
	if a := d.do("POST", path+"/run", waiting); a.status != 409 || !strings.Contains(string(a.body), `"QUEUE_FULL"`) {
		t.Errorf("the second in the queue: %d %s", a.status, a.body)
	}
	g.open()
	s.rest()
}

// TestPanic: a handler that fails so is told of without what it failed with.
func TestPanic(t *testing.T) {
	t.Parallel()
	broken := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a secret") })
	d := open(t, sessions.Config{}, httpapi.Config{WebSocket: broken})
	if a := d.do("GET", "/ws", ""); a.status != 500 || !strings.Contains(string(a.body), `"RUNTIME_ERROR"`) || strings.Contains(string(a.body), "secret") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if !strings.Contains(d.log.String(), "a secret") {
		t.Error("the log does not say why")
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	for p, want := range map[string]string{
		"/session":           "GET, HEAD, POST",
		path:                 "GET, HEAD, PATCH, DELETE",
		path + "/run":        "GET, HEAD, POST",
		path + "/run/x":      "GET, HEAD, DELETE",
		path + "/interrupt":  "POST",
		"/healthz":           "GET, HEAD",
		"/command?id=x":      "DELETE",
		path + "/events?a=b": "GET, HEAD",
	} {
		if a := d.do("PUT", p, "{}"); a.status != 405 || a.header.Get("Allow") != want {
			t.Errorf("PUT %s: %d, Allow %q, want %q", p, a.status, a.header.Get("Allow"), want)
		}
	}
	for _, p := range []string{"/session", path, path + "/run", path + "/events", "/healthz"} {
		if a := d.do("HEAD", p, ""); a.status != 200 || len(a.body) > 0 {
			t.Errorf("HEAD %s: %d %s", p, a.status, a.body)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	d := open(t, sessions.Config{}, httpapi.Config{Tokens: httpapi.NewTokens(httpapi.Token{Secret: "s3cret/+"}), Root: page, WebSocket: page})
	encode := base64.RawURLEncoding.EncodeToString
	for _, c := range []struct {
		path    string
		headers []string
		status  int
	}{
		{"/session", nil, 401},
		{"/metrics", nil, 401},
		{"/openapi.json", nil, 401},
		{"/asyncapi.json", nil, 401},
		{"/no/such/path", nil, 401},
		{"/session/x", nil, 401},
		{"/ws", nil, 401},
		{"/assetsx", nil, 401},
		{"/session", []string{"Authorization", "Bearer wrong"}, 401},
		{"/session", []string{"Authorization", "Bearer "}, 401},
		{"/session", []string{"Authorization", "s3cret/+"}, 401},
		{"/session", []string{"Authorization", "Basic s3cret/+"}, 401},
		{"/session", []string{"X-EXECD-ACCESS-TOKEN", "s3cret/"}, 401},
		{"/session?token=s3cret/+", nil, 401},
		{"/session", []string{"Authorization", "Bearer s3cret/+"}, 200},
		{"/session", []string{"Authorization", "bearer  s3cret/+"}, 200},
		{"/session", []string{"X-EXECD-ACCESS-TOKEN", "s3cret/+"}, 200},
		{"/session", []string{"Authorization", "Bearer wrong", "X-EXECD-ACCESS-TOKEN", "s3cret/+"}, 200},
		{"/metrics", []string{"X-EXECD-ACCESS-TOKEN", "s3cret/+"}, 404},
		{"/ws", []string{"X-EXECD-ACCESS-TOKEN", "s3cret/+"}, 204},
		{"/ws", []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Protocol", bearerProtocol("s3cret/+")}, 204},
		{"/ws", []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Protocol", "tandem.v1", "Sec-WebSocket-Protocol", "bearer." + encode([]byte("s3cret/+"))}, 204},
		{"/ws", []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Protocol", bearerProtocol("wrong")}, 401},
		{"/ws", []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Protocol", "bearer.!!"}, 401},
		{"/session", []string{"Sec-WebSocket-Protocol", bearerProtocol("s3cret/+")}, 401},
		{"/", nil, 204},
		{"/docs", nil, 204},
		{"/assets/app.js", nil, 204},
		{"/healthz", nil, 200},
		{"/readyz", nil, 200},
		{"/ping", nil, 200},
		{"/session", []string{"Host", "any.example", "X-EXECD-ACCESS-TOKEN", "s3cret/+"}, 200},
	} {
		a := d.do("GET", c.path, "", c.headers...)
		if a.status != c.status {
			t.Errorf("GET %s with %v: %d %s, want %d", c.path, c.headers, a.status, a.body, c.status)
		}
		if a.status == 401 {
			if code, message := errorOf(t, a); code != "UNAUTHORIZED" || message == "" || a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("GET %s with %v: %s %v", c.path, c.headers, a.body, a.header)
			}
		}
	}
	if strings.Contains(d.log.String(), "s3cret") {
		t.Error("the token is in the log")
	}
}

func TestForeignPages(t *testing.T) {
	t.Parallel()
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	d := open(t, sessions.Config{}, httpapi.Config{AllowHosts: []string{"box.example"}, AllowOrigins: []string{"https://app.example"}, Root: page, WebSocket: page})
	for _, c := range []struct {
		path    string
		headers []string
		status  int
	}{
		{"/session", []string{"Host", "evil.example"}, 403},
		{"/", []string{"Host", "evil.example"}, 403},
		{"/ws", []string{"Host", "evil.example"}, 403},
		{"/session", []string{"Host", "evil.example", "Origin", "http://evil.example"}, 403},
		{"/healthz", []string{"Host", "10.0.0.7:8080"}, 200},
		{"/session", []string{"Host", "box.example:1"}, 200},
		{"/session", []string{"Host", "localhost:1"}, 200},
		{"/session", []string{"Origin", "http://evil.example"}, 403},
		{"/session", []string{"Origin", "null"}, 403},
		{"/healthz", []string{"Origin", "http://evil.example"}, 403},
		{"/", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"/docs", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 204},
		{"/openapi.json", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 403},
		{"/ws", []string{"Origin", "http://evil.example", "Upgrade", "websocket", "Connection", "Upgrade"}, 403},
		{"/session", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"/session", []string{"Sec-Fetch-Site", "none"}, 200},
		{"/session", []string{"Origin", d.url, "Sec-Fetch-Site", "same-origin"}, 200},
		{"/session", []string{"Origin", d.url, "Sec-Fetch-Site", "cross-site"}, 403},
		{"/session", []string{"Origin", "https://app.example", "Sec-Fetch-Site", "cross-site"}, 200},
	} {
		a := d.do("GET", c.path, "", c.headers...)
		if a.status != c.status {
			t.Errorf("GET %s with %v: %d %s, want %d", c.path, c.headers, a.status, a.body, c.status)
		}
		if a.status == 403 {
			if code, _ := errorOf(t, a); code != "FORBIDDEN" || a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("GET %s with %v: %s %v", c.path, c.headers, a.body, a.header)
			}
		}
	}
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{Tokens: httpapi.NewTokens(httpapi.Token{Secret: "T"}), AllowOrigins: []string{"https://app.example"}})
	ask := []string{"Access-Control-Request-Method", "POST", "Origin"}
	a := d.do("OPTIONS", "/session", "", append(ask, "https://app.example")...)
	if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != "https://app.example" || !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("allowed: %d %v", a.status, a.header)
	}
	if a := d.do("OPTIONS", "/session", "", append(ask, "https://evil.example")...); a.status != 403 {
		t.Errorf("foreign: %d", a.status)
	}
}

func TestRequestIDsAndLog(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, id := d.session()
	for given, kept := range map[string]bool{"abc-1.2_3": true, "a b": false, "": false, strings.Repeat("x", 129): false, "é": false} {
		a := d.do("GET", "/healthz", "", "X-Request-Id", given)
		if got := a.header.Get("X-Request-Id"); (got == given) != kept || got == "" {
			t.Errorf("given %q, got %q", given, got)
		}
	}
	d.stream("POST", path+"/run?secret=query", body("code", "echo secret-code", "run_id", "r1"), "X-Request-Id", "q1").rest()
	// The answer may be there before the line is.
	sessionstest.Await(t, "line in the log", func() bool { return strings.Contains(d.log.String(), `"q1"`) })
	var line map[string]any
	for text := range strings.Lines(d.log.String()) {
		var v map[string]any
		if json.Unmarshal([]byte(text), &v) == nil && v["request_id"] == "q1" {
			if line != nil {
				t.Errorf("a second line: %s", text)
			}
			line = v
		}
	}
	for k, want := range map[string]any{"method": "POST", "route": "/session/{id}/run", "status": 200.0, "session_id": id, "run_id": "r1"} {
		if line[k] != want {
			t.Errorf("%s is %v, want %v", k, line[k], want)
		}
	}
	if n, _ := line["bytes"].(float64); n < 100 || line["duration"] == nil {
		t.Errorf("line %v", line)
	}
	if strings.Contains(d.log.String(), "secret") {
		t.Error("code or query is in the log")
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	d := open(t, sessions.Config{}, httpapi.Config{Ready: ready.Load})
	if a := d.do("GET", "/readyz", ""); a.status != 503 {
		t.Errorf("not ready: %d", a.status)
	}
	ready.Store(true)
	for _, p := range []string{"/readyz", "/healthz", "/ping"} {
		if a := d.do("GET", p, ""); a.status != 200 {
			t.Errorf("%s: %d", p, a.status)
		}
	}
}

func TestViewToken(t *testing.T) {
	t.Parallel()
	socket := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if httpapi.ViewOnly(r) {
			w.WriteHeader(203)
		}
	})
	d := open(t, sessions.Config{}, httpapi.Config{
		Tokens:    httpapi.NewTokens(httpapi.Token{Secret: "boss"}, httpapi.Token{Secret: "guest", View: true}),
		WebSocket: socket,
	})
	made := d.do("POST", "/session", "", "Authorization", "Bearer boss")
	if made.status != 200 {
		t.Fatalf("%d %s", made.status, made.body)
	}
	var in struct {
		ID string `json:"session_id"`
	}
	if err := json.Unmarshal(made.body, &in); err != nil {
		t.Fatal(err)
	}
	path := "/session/" + in.ID
	for _, c := range []struct {
		method, path, token string
		status              int
	}{
		{"GET", "/session", "guest", 200},
		{"GET", path, "guest", 200},
		{"HEAD", path, "guest", 200},
		{"GET", path + "/run", "guest", 200},
		{"GET", path + "/recording", "guest", 200},
		{"GET", path + "/recording", "nobody", 401},
		{"GET", path + "/ws", "guest", 203},
		{"GET", path + "/ws", "boss", 200},
		{"GET", "/ws", "guest", 403},
		{"POST", "/session", "guest", 403},
		{"POST", path + "/run", "guest", 403},
		{"POST", path + "/interrupt", "guest", 403},
		{"POST", path + "/signal", "guest", 403},
		{"POST", path + "/run/x/stdin", "guest", 403},
		{"PATCH", path, "guest", 403},
		{"DELETE", "/command?id=" + in.ID, "guest", 403},
		{"DELETE", path, "guest", 403},
		{"DELETE", path, "wrong", 401},
		{"DELETE", path, "boss", 200},
	} {
		a := d.do(c.method, c.path, "", "Authorization", "Bearer "+c.token)
		if a.status != c.status {
			t.Errorf("%s %s as %s: %d %s, want %d", c.method, c.path, c.token, a.status, a.body, c.status)
		}
		if a.status == 403 {
			if code, _ := errorOf(t, a); code != "FORBIDDEN" {
				t.Errorf("%s %s as %s: %s", c.method, c.path, c.token, a.body)
			}
		}
	}
	for token, role := range map[string]string{"boss": "control", "guest": "view"} {
		if a := d.do("GET", "/session", "", "Authorization", "Bearer "+token); !strings.Contains(string(a.body), `"role":"`+role+`"`) {
			t.Errorf("%s: %s, want role %s", token, a.body, role)
		}
	}
	// Whoever shows both may do what either may.
	if a := d.do("POST", "/session", "", "Authorization", "Bearer guest", "X-EXECD-ACCESS-TOKEN", "boss"); a.status != 200 {
		t.Errorf("with both: %d %s", a.status, a.body)
	}
}

func TestAnsweredIsBounded(t *testing.T) {
	t.Parallel()
	told := make(chan string, 64)
	metrics := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(203) })
	d := open(t, sessions.Config{}, httpapi.Config{
		Tokens:   httpapi.NewTokens(httpapi.Token{Secret: "boss"}, httpapi.Token{Secret: "guest", View: true}),
		Metrics:  metrics,
		Answered: func(method, route string, status int) { told <- fmt.Sprint(method, " ", route, " ", status) },
	})
	for _, c := range []struct {
		method, path, token string
		want                string
	}{
		{"GET", "/healthz", "", "GET /healthz 200"},
		{"HEAD", "/healthz", "", "HEAD /healthz 200"},
		{"GET", "/metrics", "", "GET none 401"},
		{"GET", "/metrics", "wrong", "GET none 401"},
		{"GET", "/metrics", "guest", "GET /metrics 203"},
		{"GET", "/metrics", "boss", "GET /metrics 203"},
		{"POST", "/metrics", "boss", "POST none 405"},
		{"GET", "/session/x", "boss", "GET /session/{id} 404"},
		{"GET", "/session/x/run/y", "boss", "GET /session/{id}/run/{run_id} 404"},
		{"GET", "/session/x/nope", "boss", "GET none 404"},
		{"GET", "/nope/%00/x", "boss", "GET none 404"},
		{"PUT", "/session", "boss", "other none 405"},
		{"BREW", "/session/x", "boss", "other none 405"},
		{"OPTIONS", "/session", "boss", "OPTIONS none 405"},
	} {
		d.do(c.method, c.path, "", "Authorization", "Bearer "+c.token)
		if got := <-told; got != c.want {
			t.Errorf("%s %s: told of %q, want %q", c.method, c.path, got, c.want)
		}
	}
}
