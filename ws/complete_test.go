package ws_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"tandem/sessions"
	"tandem/ws"
)

func TestComplete(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{}, ws.Config{})
		p := d.dial(path(d.session(), ""), opts)
		ctx := context.Background()
		p.run(`touch 'é bar' é2 $'x\xff'`)
		for _, c := range []struct {
			line        string
			point       int
			after, want string
		}{
			{"cat é", -1, "cat é", `5 4 5 ["é\\ bar" "é2"] false`},
			{"cat é x", 5, "cat é x", `5 4 5 ["é\\ bar" "é2"] false`},
			{"cat zz", -1, "cat zz", `6 6 6 [] false`},
			{"cat x", -1, "cat x\ufffd ", "7 4 5 [\"x\ufffd\"] false"},
		} {
			p.must(p.Complete(ctx, "r", c.line, c.point))
			m := p.until(ws.TypeCompletions)
			if got := fmt.Sprintf("%d %d %d %q %v", m.Point, m.Start, m.Stop, m.Items, m.More); got != c.want || m.Line != c.after || m.Ref != "r" || m.Items == nil {
				t.Errorf("%q: %q, %s, ref %q; want %q, %s", c.line, m.Line, got, m.Ref, c.after, c.want)
			}
		}
	})
}

func TestCompleteWhileARunIsOn(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := d.session()
	p := d.dial(path(s, ""))
	ctx := context.Background()
	p.ask(ws.Run{Code: "read x", Stdin: sessions.OpenStdin})
	p.until(ws.TypeRunStarted)
	p.must(p.Complete(ctx, "busy", "ls", -1))
	if m := p.next(); m.Type != ws.TypeError || m.Code != "BUSY" || m.Ref != "busy" {
		t.Errorf("%+v", m)
	}
	p.must(p.CloseStdin(ctx, "", ""))
	p.until(ws.TypeRunFinished)
	p.must(p.Complete(ctx, "bad", "é", 2))
	if m := p.next(); m.Type != ws.TypeError || m.Code != "INVALID_REQUEST_BODY" || m.Ref != "bad" {
		t.Errorf("%+v", m)
	}
	viewer := d.dial(path(s, "?role=view"))
	viewer.must(viewer.Complete(ctx, "v", "ls", -1))
	if m := viewer.next(); m.Type != ws.TypeError || m.Code != "FORBIDDEN" || m.Ref != "v" {
		t.Errorf("%+v", m)
	}
	p.must(p.Complete(ctx, "", "ls zz", -1))
	p.until(ws.TypeCompletions)
}

// A completion that hangs keeps nobody waiting, and ends with the connection.
func TestCompletionHangs(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := d.session()
	p := d.dial(path(s, ""))
	ctx := context.Background()
	p.run(`_c() { : >begun; sleep 1000; }; complete -F _c c`)
	p.must(p.Complete(ctx, "1", "c ", -1))
	begun := filepath.Join(s.Info().Cwd, "begun")
	eventually(t, "the completion has begun", func() bool { _, err := os.Stat(begun); return err == nil })
	for i := 2; i <= 5; i++ {
		p.must(p.Complete(ctx, fmt.Sprint(i), "c ", -1))
	}
	if m := p.next(); m.Type != ws.TypeError || m.Code != "TOO_MANY" || m.Ref != "5" {
		t.Errorf("%+v", m)
	}
	p.ask(ws.Run{Code: "sleep 1000"})
	p.until(ws.TypeRunStarted)
	p.must(p.Interrupt(ctx, "int", "", false))
	if m := p.until(ws.TypeOK); m.Ref != "int" {
		t.Errorf("%+v", m)
	}
	if m := p.until(ws.TypeRunFinished); m.Reason != "interrupted" {
		t.Errorf("%+v", m)
	}
	p.CloseNow()
	eventually(t, "the helper has ended", func() bool {
		links, _ := filepath.Glob("/proc/[0-9]*/cwd")
		n := 0
		for _, l := range links {
			if dir, err := os.Readlink(l); err == nil && dir == s.Info().Cwd {
				n++
			}
		}
		return n <= 1
	})
}
