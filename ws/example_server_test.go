package ws_test

import (
	"context"
	"net/http"
	"net/http/httptest"

	"tandem/sessions"
	"tandem/ws"
)

// exampleServer stands for a server that is there already.
func exampleServer() (url string, stop func()) {
	m, err := sessions.New(sessions.Config{})
	if err != nil {
		panic(err)
	}
	h := ws.New(ws.Config{Sessions: m})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /session/{id}/ws", h.Attach)
	mux.HandleFunc("GET /ws", h.Create)
	srv := httptest.NewServer(mux)
	return srv.URL, func() {
		_ = h.Close(context.Background())
		srv.Close()
		_ = m.Close(context.Background())
	}
}
