package ws_test

import (
	"strings"
	"testing"

	"tandem/sessions"
	"tandem/ws"
)

// BenchmarkOutput is a command's output on its way to a client that reads it.
func BenchmarkOutput(b *testing.B) {
	for name, opts := range map[string]*ws.DialOptions{"binary": {}, "json": {JSON: true}} {
		b.Run(name, func(b *testing.B) {
			d := open(b, sessions.Config{}, ws.Config{})
			p := d.dial(path(d.session(), ""), opts)
			const size = 200_000_000
			b.SetBytes(size)
			for b.Loop() {
				p.ask(ws.Run{Code: "yes | head -c 200000000"})
				got := 0
				for m := p.next(); m.Type != ws.TypeRunFinished; m = p.next() {
					got += len(m.Data)
					p.out = map[string][]byte{}
				}
				if got != size {
					b.Fatalf("%d bytes", got)
				}
			}
		})
	}
}

// BenchmarkRun is the way of a trivial run, there and back.
func BenchmarkRun(b *testing.B) {
	d := open(b, sessions.Config{}, ws.Config{})
	p := d.dial(path(d.session(), ""))
	for b.Loop() {
		p.ask(ws.Run{Code: "echo hi"})
		p.until(ws.TypeRunFinished)
	}
}

// BenchmarkEcho is a line to a running command and back.
func BenchmarkEcho(b *testing.B) {
	d := open(b, sessions.Config{}, ws.Config{})
	p := d.dial(path(d.session(), ""))
	p.ask(ws.Run{Code: "cat", Stdin: sessions.OpenStdin})
	p.until(ws.TypeRunStarted)
	line := []byte(strings.Repeat("x", 20) + "\n")
	for b.Loop() {
		p.must(p.Stdin(bg, line))
		p.until(ws.TypeStdout)
		p.out = map[string][]byte{}
	}
}
