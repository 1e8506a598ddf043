package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"tandem/httpapi"
	"tandem/sessions"
)

func TestOriginPatterns(t *testing.T) {
	t.Parallel()
	for pattern, good := range map[string]bool{
		"https://example.com": true, "https://example.com:8443": true, "https://*.example.com": true, "http://localhost:*": true,
		"https://*.example.com:*": true, "http://[::1]:8080": true, "app://host": true,
		"*": false, "https://*": false, "https://*:*": false, "https://*.com": false, "*://example.com": false, "https://": false,
		"example.com": false, "https://example.com/": false, "https://a.*.com": false, "https://example.com:8*": false, "https://user@example.com": false, "https://a b": false,
	} {
		if err := httpapi.CheckOriginPattern(pattern); (err == nil) != good {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	d := open(t, sessions.Config{}, httpapi.Config{AllowOrigins: []string{"https://*.example.com", "http://localhost:*"}})
	for origin, status := range map[string]int{
		"https://a.example.com": 200, "https://A.b.Example.com": 200, "https://a.example.com:443": 200, "http://localhost:3000": 200, "http://localhost": 200,
		"https://example.com": 403, "https://.example.com": 403, "https://a.example.com:444": 403, "http://a.example.com": 403,
		"https://a.example.com.evil": 403, "https://evilexample.com": 403, "http://localhost.evil:80": 403, "null": 403,
	} {
		if a := d.do("GET", "/session", "", "Origin", origin); a.status != status {
			t.Errorf("%s: %d, want %d", origin, a.status, status)
		}
	}
}

// Whatever a page of another origin can make a browser send is refused, before anything
// happens.
func TestForgedRequests(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	for _, target := range [][2]string{
		{"POST", "/session"}, {"POST", path + "/run"}, {"POST", path + "/interrupt"}, {"DELETE", path}, {"DELETE", "/command?id=x"}, {"PATCH", path},
		{"GET", "/session"}, {"GET", path + "/events"}, {"GET", "/ws"}, {"GET", path + "/ws"}, {"HEAD", "/session"}, {"GET", "/no/such/path"}, {"OPTIONS", "/session"},
	} {
		for _, from := range [][]string{
			{"Origin", "http://evil.example"}, {"Origin", "null"}, {"Origin", "http://127.0.0.1:1"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"},
			{"Host", "evil.example"}, {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"},
		} {
			for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "application/json"} {
				a := d.do(target[0], target[1], `{"code":"echo forged"}`, append(from, "Content-Type", kind)...)
				if a.status != 403 {
					t.Errorf("%s %s from %v as %s: %d", target[0], target[1], from, kind, a.status)
				}
			}
		}
	}
	if n := len(d.manager.List()); n != 1 {
		t.Errorf("%d sessions", n)
	}
	if runs := d.manager.List()[0].Runs(); len(runs) != 0 {
		t.Errorf("%d runs", len(runs))
	}
}

// To follow a link to the page is no request of the page that has the link; to show it in a
// frame is.
func TestLinkToThePage(t *testing.T) {
	t.Parallel()
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") })
	d := open(t, sessions.Config{}, httpapi.Config{Root: page})
	for dest, status := range map[string]int{"document": 200, "iframe": 403, "object": 403} {
		if a := d.do("GET", "/", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", dest); a.status != status {
			t.Errorf("%s: %d, want %d", dest, a.status, status)
		}
	}
}

// Whoever came in with a token that is taken back is cut off; the others stay.
func TestTokenTakenBack(t *testing.T) {
	t.Parallel()
	tokens := httpapi.NewTokens(httpapi.Token{Secret: "old"}, httpapi.Token{Secret: "kept"}, httpapi.Token{Secret: "less"})
	d := open(t, sessions.Config{}, httpapi.Config{Tokens: tokens})
	bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	a := d.do("POST", "/session", "", bearer("kept")...)
	var made struct {
		ID string `json:"session_id"`
	}
	a.decode(t, &made)
	path := "/session/" + made.ID
	streams := map[string]*stream{}
	for _, token := range []string{"old", "kept", "less"} {
		streams[token] = d.stream("GET", path+"/events", "", bearer(token)...)
		streams[token].next() // attached
	}
	tokens.Replace(httpapi.Token{Secret: "kept"}, httpapi.Token{Secret: "less", View: true}, httpapi.Token{Secret: "new"})
	for _, token := range []string{"old", "less"} {
		if e, ok := streams[token].next(); ok {
			t.Errorf("%s: still told %+v", token, e)
		}
	}
	if a := d.do("POST", path+"/run?wait=1", body("code", "echo hi"), append(bearer("new"), "Accept", "application/json")...); a.status != 200 {
		t.Errorf("with the new token: %d %s", a.status, a.body)
	}
	if e, ok := streams["kept"].next(); !ok {
		t.Errorf("the token that stayed: %+v", e)
	}
	for token, status := range map[string]int{"old": 401, "less": 200, "kept": 200, "new": 200} {
		if a := d.do("GET", "/session", "", bearer(token)...); a.status != status {
			t.Errorf("%s: %d, want %d", token, a.status, status)
		}
	}
	if a := d.do("DELETE", path, "", bearer("less")...); a.status != 403 {
		t.Errorf("a token that may only view now: %d", a.status)
	}
}

// A body that does not come is not waited for, whether the request needs it or not.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{BodyTimeout: 300 * time.Millisecond})
	path, _ := d.session()
	for request, status := range map[string]int{
		"POST /session":                    408,
		"POST " + path + "/run":            408,
		"GET /session":                     200,
		"POST /no/such/path":               404,
		"DELETE /session/nobody":           404,
		"POST " + path + "/run/none/stdin": 404,
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			nc, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = nc.Close() }()
			_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = fmt.Fprintf(nc, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{", request)
			r := bufio.NewReader(nc)
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != status {
				t.Errorf("%d, want %d", res.StatusCode, status)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if _, err := r.ReadByte(); err != io.EOF {
				t.Errorf("the connection stays open: %v", err)
			}
		})
	}
}

// The body of stdin may take as long as the run, and no longer.
func TestStdinBodyEndsWithTheRun(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{BodyTimeout: 100 * time.Millisecond})
	path, _ := d.session()
	run := d.stream("POST", path+"/run", `{"code":"read -r a; read -r b; echo $a $b","stdin":true,"run_id":"r"}`)
	slow, feed := io.Pipe()
	answered := make(chan error, 1)
	go func() {
		req, err := http.NewRequest("POST", d.url+path+"/run/r/stdin", slow)
		if err != nil {
			answered <- err
			return
		}
		res, err := d.client.Do(req)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode != http.StatusConflict {
				err = fmt.Errorf("status %d", res.StatusCode)
			}
		}
		answered <- err
	}()
	_, _ = io.WriteString(feed, "one\n")
	time.Sleep(300 * time.Millisecond) // longer than other bodies have
	_, _ = io.WriteString(feed, "two\n")
	if got := run.rest(); !strings.Contains(fmt.Sprint(got), "one two") {
		t.Errorf("the run: %+v", got)
	}
	select {
	case err := <-answered:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the request outlives the run")
	}
	_ = feed.Close()
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{MaxCode: 100, MaxEnv: 10}, httpapi.Config{MaxBody: 1 << 10})
	path, _ := d.session()
	for sent, want := range map[string]int{
		body("code", ": "+strings.Repeat("x", 99)):                413,
		body("code", ": "+strings.Repeat("x", 2000)):              413,
		`{"code":":","env":{"ABCDE":"123456"}}`:                   413,
		`{"code":":","stdin":"` + strings.Repeat("x", 101) + `"}`: 413,
	} {
		if a := d.do("POST", path+"/run", sent); a.status != want {
			t.Errorf("%.40s…: %d %s, want %d", sent, a.status, a.body, want)
		} else if code, _ := errorOf(t, a); code != "TOO_LARGE" {
			t.Errorf("%.40s…: %s", sent, a.body)
		}
	}
	if a := d.do("POST", "/session", `{"env":{"ABCDE":"123456"}}`); a.status != 413 {
		t.Errorf("env of a session: %d %s", a.status, a.body)
	}
}
