package web

import (
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
		m["dist/index.html"] = &fstest.MapFile{Data: []byte("the page")}
		m["dist/assets/app-1a2b.js"] = &fstest.MapFile{Data: []byte("code")}
	}
	return m
}

func TestPlaceholder(t *testing.T) {
	t.Parallel()
	h := handler(tree(false))
	res := get(t, h, "GET", "/")
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		t.Errorf("/: %s %s, want 200 and HTML", res.Status, res.Header.Get("Content-Type"))
	}
	if csp := res.Header.Get("Content-Security-Policy"); csp != placeholderPolicy {
		t.Errorf("policy: %q", csp)
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
		{"/", "no-cache", 200},
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
		if csp := res.Header.Get("Content-Security-Policy"); csp != pagePolicy {
			t.Errorf("%s: policy %q", c.path, csp)
		}
	}
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	if res := get(t, Handler(), "GET", "/"); res.StatusCode != http.StatusOK {
		t.Errorf("/: %s, want 200 whether the page was built or not", res.Status)
	}
}
