package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tandem/sessions"
)

func TestDecodeRunBody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, want string }{
		{`{"code":"a"}`, `a 0s stdin 0 ""`},
		{`{"command":"a","timeout":1500}`, `a 1.5s stdin 0 ""`},
		{`{"code":"a","command":"b","timeout_ms":1,"timeout":2}`, `a 1ms stdin 0 ""`},
		{`{"code":"","command":"b"}`, ` 0s stdin 0 ""`},
		{`{"code":null,"command":"b","timeout_ms":null,"cwd":null,"env":null,"stdin":null}`, `b 0s stdin 0 ""`},
		{`{"code":"a","timeout_ms":-5}`, `a -1ms stdin 0 ""`},
		{`{"code":"a","timeout_ms":9223372036854775807}`, `a 2562047h47m16.854s stdin 0 ""`},
		{`{"code":"a","stdin":true}`, `a 0s stdin 2 ""`},
		{`{"code":"a","stdin":false}`, `a 0s stdin 0 ""`},
		{`{"code":"a","stdin":"x\ny"}`, `a 0s stdin 1 "x\ny"`},
		{" \n{\"code\":\"a\",\"other\":[1,{}]}\n ", `a 0s stdin 0 ""`},
		{`{"code":"a"`, "the body is not one JSON object"},
		{`{"code":"a"} {}`, "the body is not one JSON object"},
		{`[]`, "must be a JSON object"},
		{`null`, "must be a JSON object"},
		{``, "the body is empty"},
		{"{\"code\":\"\xff\"}", "not valid UTF-8"},
		{`{"code":5}`, `the field "code" must be a string, not a JSON number`},
		{`{"code":"a","timeout_ms":"x"}`, `the field "timeout_ms" must be a whole number, not a JSON string`},
		{`{"code":"a","timeout_ms":1.5}`, `the field "timeout_ms" must be a whole number`},
		{`{"code":"a","detach":1}`, `the field "detach" must be true or false`},
		{`{"code":"a","env":[]}`, `the field "env" must be an object of strings`},
		{`{"code":"a","env":{"B":"b","A":1}}`, `the field "env.A" must be a string, not a JSON number`},
		{`{"code":"a","env":5}`, `the field "env" must be an object of strings, not a JSON number`},
		{`{"code":"a","CODE":"b","Code":"c"}`, `a 0s stdin 0 ""`},
		{`{"command":"a","Code":"b","Timeout_MS":1,"Timeout":2,"STDIN":"x"}`, `a 0s stdin 0 ""`},
		{`{"code":"a","Timeout_MS":"x","Env":5,"Stdin":5}`, `a 0s stdin 0 ""`},
		{`{"code":"a","code":"b"}`, `b 0s stdin 0 ""`},
		{`{"code":"a","stdin":5}`, `the field "stdin" must be true or a string`},
	} {
		var in runBody
		got := ""
		if err := decodeJSON([]byte(c.body), &in, false); err != nil {
			got = err.Error()
			if classify(err).code != codeInvalid {
				t.Errorf("%s: code %s", c.body, classify(err).code)
			}
		} else {
			req := in.request()
			got = fmt.Sprintf("%s %v stdin %d %q", req.Code, req.Timeout, req.Stdin, req.StdinText)
		}
		if got != c.want && !strings.Contains(got, c.want) || c.want == "" {
			t.Errorf("%s: got %s, want %s", c.body, got, c.want)
		}
	}
}

// FuzzRunBody checks that no body can do more than be refused with a message.
func FuzzRunBody(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"code":"x","stdin":"y","timeout_ms":1e3}`, `{"env":{"A":null}}`, `[`, `{"stdin":{}}`, `{"code":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var in runBody
		if err := decodeJSON(data, &in, false); err != nil {
			if ref := classify(err); ref.status != 400 || ref.code != codeInvalid || len(ref.message) < 9 {
				t.Fatalf("%q: %+v", data, ref)
			}
			return
		}
		if req := in.request(); req.Timeout < -time.Millisecond {
			t.Fatalf("%q: timeout %v", data, req.Timeout)
		}
	})
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind   error
		status int
		code   string
	}{
		{sessions.ErrInvalid, 400, "INVALID_REQUEST_BODY"},
		{sessions.ErrTooLarge, 413, "TOO_LARGE"},
		{sessions.ErrSessionNotFound, 404, "CONTEXT_NOT_FOUND"},
		{sessions.ErrClosed, 404, "CONTEXT_NOT_FOUND"},
		{sessions.ErrRunNotFound, 404, "RUN_NOT_FOUND"},
		{sessions.ErrRunNotRunning, 409, "RUN_NOT_RUNNING"},
		{sessions.ErrRunExists, 409, "RUN_EXISTS"},
		{sessions.ErrQueueFull, 409, "QUEUE_FULL"},
		{sessions.ErrNoStdin, 409, "NO_STDIN"},
		{sessions.ErrTooMany, 429, "TOO_MANY"},
	} {
		err := fmt.Errorf("wrapped: %w", &sessions.Error{Kind: c.kind, Message: "for the client"})
		if got := classify(err); got.status != c.status || got.code != c.code || got.message != "for the client" {
			t.Errorf("%v: %+v", c.kind, got)
		}
	}
	if got := classify(errors.New("open /secret: denied")); got.status != 500 || strings.Contains(got.message, "secret") {
		t.Errorf("an internal error is told as %+v", got)
	}
	if got := classify(context.Canceled); got.status != statusGone {
		t.Errorf("a client that left is told as %+v", got)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	t.Parallel()
	var kept tail
	line := []byte("0123456789€\n")
	total := 0
	for total < 5*keepOutput {
		kept.add(line)
		total += len(line)
		if cap(kept.buf) > 3*keepOutput {
			t.Fatalf("holds %d bytes", cap(kept.buf))
		}
	}
	got := string(kept.bytes())
	if !kept.cut || len(got) > keepOutput || len(got) < keepOutput-4 || !strings.HasSuffix(got, string(line)) {
		t.Errorf("cut %v, %d bytes", kept.cut, len(got))
	}
	if text, exact := asText([]byte(got)); exact != nil || text != got {
		t.Error("the cut went through a character")
	}
}

func TestHostAndOrigin(t *testing.T) {
	t.Parallel()
	g := &gate{hosts: []string{"Box.example", "other:99", "[fd00::1]"}, origins: []string{"https://app.example/", "null"}}
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST:80": true, "a.localhost:1": true, "127.0.0.1:8080": true, "127.9.9.9": true, "[::1]:80": true, "[::1]": true, "localhost.": true,
		"box.example": true, "box.example:1234": true, "other:99": true, "other:98": false, "[fd00::1]:80": true,
		"": false, "evil.example": false, "localhost.evil.example": false, "10.0.0.1": false, "127.0.0.1.evil.example": false, "box.example.evil": false,
	} {
		if got := g.allowsHost(host); got != want {
			t.Errorf("host %q: %v", host, got)
		}
	}
	for origin, want := range map[string]bool{"https://app.example": true, "HTTPS://APP.example": true, "http://app.example": false, "null": true, "https://app.example:444": false, "": false} {
		if got := g.allowsOrigin(origin); got != want {
			t.Errorf("origin %q: %v", origin, got)
		}
	}
	for _, c := range []struct {
		origin, host string
		want         bool
	}{
		{"http://a:80", "a", true}, {"http://a", "a:80", true}, {"https://A:8443", "a:8443", true}, {"https://a", "a:443", true},
		{"http://a:81", "a", false}, {"http://b", "a", false}, {"null", "a", false}, {"", "", false}, {"http://", "", false}, {"http://[::1]:8080", "[::1]:8080", true},
	} {
		if got := sameHost(c.origin, c.host); got != c.want {
			t.Errorf("origin %q, host %q: %v", c.origin, c.host, got)
		}
	}
}

// A pattern that is taken lets in the host it names, or hosts below it, and nobody else.
func FuzzOriginPattern(f *testing.F) {
	f.Add("https://*.example.com", "https://a.example.com")
	f.Add("http://localhost:*", "http://localhost:1")
	f.Add("https://[::1]:80", "https://[::1]:80")
	f.Add("*", "null")
	f.Fuzz(func(t *testing.T, pattern, origin string) {
		if CheckOriginPattern(pattern) != nil || !matchOrigin(pattern, origin) {
			return
		}
		_, host, _, _ := splitOrigin(strings.TrimSuffix(strings.ToLower(pattern), "/"))
		_, from, _, _ := splitOrigin(origin)
		domain, wild := strings.CutPrefix(host, "*")
		if host == "" || wild && (!strings.HasSuffix(from, domain) || strings.Count(domain, ".") < 2) || !wild && from != host {
			t.Errorf("%q lets in %q", pattern, origin)
		}
	})
}
