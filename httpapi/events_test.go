package httpapi_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"tandem/httpapi"
	"tandem/sessions"
)

func TestJournalStream(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, id := d.session()
	d.run(path, "echo one; echo two\u2028 >&2; echo three")
	s := d.stream("GET", path+"/events", "")
	first, _ := s.next()
	if first.Type != "attached" || first.id != "0" || !strings.Contains(first.data, id) || !strings.Contains(first.data, `"role":"view"`) {
		t.Errorf("begins with %s %s", first.id, first.data)
	}
	// run.started, the output in any number of messages, run.finished.
	started, _ := s.next()
	if started.id != "1" || started.Type != fmt.Sprint("kind ", sessions.RunStarted) {
		t.Errorf("then %s %s", started.id, started.data)
	}
	var two event
	for text, kind := "", ""; kind != fmt.Sprint("kind ", sessions.RunFinished); {
		e, ok := s.next()
		if !ok {
			t.Fatal("the stream ended")
		}
		if strings.Contains(e.Text, "two") {
			two = e
			if strings.Contains(e.data, "\u2028") {
				t.Errorf("a line break stands for itself: %q", e.data)
			}
		}
		text, kind = text+e.Text, e.Type
		if pos, _ := strconv.Atoi(e.id); e.Text != "" && pos != 1+len(text) {
			t.Errorf("id %s after %q", e.id, text)
		}
	}
	// Live, and with Last-Event-ID winning over after.
	resumed := d.stream("GET", path+"/events?after=0", "", "Last-Event-ID", two.id)
	if e, _ := resumed.next(); e.id != two.id {
		t.Errorf("resumed at %s, want %s", e.id, two.id)
	}
	d.run(path, "echo live")
	s.untilText("live\n")
	resumed.untilText("live\n")

	var v struct{ Clients int }
	d.do("GET", path, "").decode(t, &v)
	if v.Clients != 2 {
		t.Errorf("%d clients", v.Clients)
	}
	d.do("DELETE", path, "")
	closed := fmt.Sprint("kind ", sessions.SessionClosed)
	for last := (event{}); ; {
		e, ok := s.next()
		if !ok {
			if last.Type != closed {
				t.Errorf("ended with %s", last.data)
			}
			break
		}
		last = e
	}
}

func TestJournalGap(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{Retention: sessions.MinRetention}, httpapi.Config{})
	path, _ := d.session()
	d.run(path, "seq -f %0200.0f 1 5000")
	s := d.stream("GET", path+"/events?after=1", "")
	if e, _ := s.next(); e.id != "1" {
		t.Errorf("attached has id %s", e.id)
	}
	gap, _ := s.next()
	if gap.Type != fmt.Sprint("kind ", sessions.Gap) {
		t.Errorf("then %s", gap.data)
	}
	next, _ := s.next()
	from, _ := strconv.Atoi(gap.id)
	if to, _ := strconv.Atoi(next.id); to != from+len(next.Text) || from < 1000 {
		t.Errorf("gap up to %s, then %d bytes up to %s", gap.id, len(next.Text), next.id)
	}
}
