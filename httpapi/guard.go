package httpapi

import (
	"bytes"
	"io"
	"net/http"

	"github.com/go-chi/chi/v5"
)

// Guard returns a handler that has next at path, and nothing else, behind what all routes of
// the door pass: a request id, a line in the log, and the rules of token, Origin and Host. A
// request's body has arrived, within its limits of time and size, when next is called. Of
// cfg, Tokens, AllowHosts, AllowOrigins and the advice on them, MaxBody, BodyTimeout and Logger
// count.
func Guard(cfg Config, path string, next http.Handler) http.Handler {
	a := newAPI(cfg)
	g := newGate(cfg, a)
	r := chi.NewRouter()
	r.Use(a.identify, a.logRequests, a.bound, g.admit)
	r.NotFound(a.handle(noSuchPath))
	r.Handle(path, a.handle(func(w http.ResponseWriter, r *http.Request) error {
		body, err := a.readBody(w, r)
		if err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
		return nil
	}))
	return r
}
