package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func get(t *testing.T, h http.Handler, method, path string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Result()
}

func tree(built bool) fstest.MapFS {
	m := fstest.MapFS{"dist-absent.html": {Data: []byte("placeholder")}}
	if built {
		m["dist/index.html"] = &fstest.MapFile{Data: []byte("<style nonce=" + nonceMark + ">the page")}
		m["dist/docs.html"] = &fstest.MapFile{Data: []byte("<style nonce=" + nonceMark + ">the documents")}
		m["dist/assets/app-1a2b.js"] = &fstest.MapFile{Data: []byte("code")}
	}
	return m
}

func TestPlaceholder(t *testing.T) {
	t.Parallel()
	h := handler(tree(false))
	for _, path := range []string{"/", "/docs"} {
		res := get(t, h, "GET", path)
		if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %s %s, want 200 and HTML", path, res.Status, res.Header.Get("Content-Type"))
		}
		if csp := res.Header.Get("Content-Security-Policy"); csp != placeholderPolicy {
			t.Errorf("%s: policy: %q", path, csp)
		}
	}
	if res := get(t, h, "GET", "/nothing"); res.StatusCode != http.StatusNotFound {
		t.Errorf("/nothing: %s, want 404", res.Status)
	}
	if res := get(t, h, "POST", "/"); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") == "" {
		t.Errorf("POST /: %s, Allow %q", res.Status, res.Header.Get("Allow"))
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	h := handler(tree(true))
	for _, c := range []struct {
		path, cache string
		status      int
	}{
		{"/", "no-store", 200},
		{"/docs", "no-store", 200},
		{"/assets/app-1a2b.js", "public, max-age=31536000, immutable", 200},
		{"/dist-absent.html", "", 404},
	} {
		res := get(t, h, "GET", c.path)
		if res.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", c.path, res.Status, c.status)
		}
		if got := res.Header.Get("Cache-Control"); c.status == 200 && got != c.cache {
			t.Errorf("%s: Cache-Control %q, want %q", c.path, got, c.cache)
		}
		csp := res.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; ") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", c.path, csp)
		}
	}
}

// TestNonce: a style element is allowed by a nonce that is in the page and in its policy,
// and is another one each time.
func TestNonce(t *testing.T) {
	t.Parallel()
	h, seen := handler(tree(true)), map[string]bool{}
	for i := range 10 {
		res := get(t, h, "GET", []string{"/", "/docs"}[i%2])
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(res.Header.Get("Content-Security-Policy"), "'nonce-")
		nonce, _, _ := strings.Cut(rest, "'")
		if len(nonce) < 22 || !strings.Contains(string(body), nonce) || strings.Contains(string(body), nonceMark) || seen[nonce] {
			t.Errorf("nonce %q in %q", nonce, body)
		}
		seen[nonce] = true
	}
	if res := get(t, h, "HEAD", "/"); res.StatusCode != http.StatusOK {
		t.Errorf("HEAD /: %s", res.Status)
	}
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	if res := get(t, Handler(), "GET", "/"); res.StatusCode != http.StatusOK {
		t.Errorf("/: %s, want 200 whether the page was built or not", res.Status)
	}
}
