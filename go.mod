module tandem

go 1.26.0

ignore ./web/node_modules

require (
	github.com/coder/websocket v1.8.15
	github.com/go-chi/chi/v5 v5.5.0
	github.com/google/uuid v1.6.0
	go.uber.org/goleak v1.3.0
	golang.org/x/sys v0.49.0
)

require github.com/coreos/go-systemd/v22 v22.7.0
