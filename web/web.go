// Package web holds the browser pages and serves them: the sessions, and the documents that
// describe the server.
//
// The pages are built into dist, which is not kept in the repository. Where they have not
// been built, the package compiles all the same and serves a placeholder that says so.
package web

import (
	"bytes"
	"crypto/rand"
	"embed"
	"io/fs"
	"net/http"
	"strings"
)

// The pattern takes in dist where there is one. Because it also matches the placeholder,
// it always matches something, which the compiler insists on.
//
//go:embed all:dist*
var files embed.FS

const (
	// placeholderPolicy suits a page of text: it may load and run nothing.
	placeholderPolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

	// pagePolicy lets the page load what is served with it and talk to its own server. The
	// terminal and the editor make style elements at run time, which the nonce is for.
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-" + nonceMark + "'; " +
		"img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

	// nonceMark stands in the built page where the nonce of each answer is to be.
	nonceMark = "@NONCE@"
)

// pages returns the files of the pages in dist, by their paths.
func pages() map[string]string { return map[string]string{"/": "index.html", "/docs": "docs.html"} }

// Handler serves the pages at / and /docs, and what belongs to them below /assets/; or the
// placeholder where they are not part of this build. It answers GET and HEAD.
func Handler() http.Handler { return handler(files) }

func handler(root fs.FS) http.Handler {
	dist, err := fs.Sub(root, "dist")
	if err != nil {
		return placeholder(root)
	}
	built := map[string][]byte{}
	for path, name := range pages() {
		if built[path], err = fs.ReadFile(dist, name); err != nil {
			return placeholder(root)
		}
	}
	files := http.FileServerFS(dist)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !readOnly(w, r) {
			return
		}
		if page, ok := built[r.URL.Path]; ok {
			servePage(w, r, page)
			return
		}
		secure(w.Header(), placeholderPolicy)
		// The names of assets contain a hash of their content; nothing else's name does.
		if strings.HasPrefix(r.URL.Path, "/assets/") {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		files.ServeHTTP(w, r)
	})
}

// servePage answers the page with a nonce that nobody can have known, so it is not to be
// kept.
func servePage(w http.ResponseWriter, r *http.Request, page []byte) {
	nonce := rand.Text()
	secure(w.Header(), strings.ReplaceAll(pagePolicy, nonceMark, nonce))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(bytes.ReplaceAll(page, []byte(nonceMark), []byte(nonce)))
}

func placeholder(root fs.FS) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !readOnly(w, r) {
			return
		}
		if _, ok := pages()[r.URL.Path]; !ok {
			http.NotFound(w, r)
			return
		}
		secure(w.Header(), placeholderPolicy)
		w.Header().Set("Cache-Control", "no-store")
		http.ServeFileFS(w, r, root, "dist-absent.html")
	})
}

// readOnly refuses, with an answer, any method but GET and HEAD.
func readOnly(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "the page can only be read: use GET", http.StatusMethodNotAllowed)
	return false
}

func secure(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}
