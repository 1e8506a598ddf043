package httpapi

import (
	_ "embed"
	"net/http"
	"strconv"
)

// openAPI describes what this package takes and answers. It is written by hand; the tests
// of this package hold all they ask and get against it.
//
//go:embed openapi.json
var openAPI string

// describe answers a document that describes the server. It is asked for with a token like
// everything that is not a page: a page's own files are open, and /docs has both in them.
func (a *api) describe(document string) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, _ *http.Request) error {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(document)))
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		return a.newOutlet(w).write([]byte(document))
	}
}
