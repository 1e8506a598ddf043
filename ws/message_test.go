package ws

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"tandem/sessions"
)

func TestDecodeRequest(t *testing.T) {
	t.Parallel()
	ref := "r"
	for in, want := range map[string]request{
		`{"type":"ping","ref":"r"}`:                               {Type: "ping", Ref: &ref},
		`{"type":"ping","code":5,"text":[],"pos":-1,"what":{}}`:   {Type: "ping"},
		` {"type":"run","code":"a","stdin":true,"ref":null} `:     {Type: "run", Code: "a", Stdin: sessions.OpenStdin},
		`{"type":"run","code":"a","stdin":false}`:                 {Type: "run", Code: "a"},
		`{"type":"run","code":"a","stdin":"in\n"}`:                {Type: "run", Code: "a", Stdin: sessions.TextStdin, Text: "in\n"},
		`{"type":"run","code":"","stdin":""}`:                     {Type: "run", Stdin: sessions.TextStdin},
		`{"type":"run","code":"a","timeout_ms":1500}`:             {Type: "run", Code: "a", Timeout: 1500 * time.Millisecond},
		`{"type":"run","code":"a","timeout_ms":-1}`:               {Type: "run", Code: "a", Timeout: -time.Millisecond},
		`{"type":"run","code":"a","run_id":"x","cwd":"/t"}`:       {Type: "run", Code: "a", RunID: "x", Cwd: "/t"},
		`{"type":"stdin","text":""}`:                              {Type: "stdin", Input: []byte{}},
		`{"type":"stdin","text":"é","run_id":"x"}`:                {Type: "stdin", Input: []byte("é"), RunID: "x"},
		`{"type":"stdin","base64":"/wA=","text":null}`:            {Type: "stdin", Input: []byte("\xff\x00")},
		`{"type":"stdin","text":"a","run_id":"x","offset":7}`:     {Type: "stdin", Input: []byte("a"), RunID: "x", Offset: new(uint64(7))},
		`{"type":"stdin.close","run_id":null}`:                    {Type: "stdin.close"},
		`{"type":"interrupt","force":true}`:                       {Type: "interrupt", Force: true},
		`{"type":"signal","signal":"SIGTERM","run_id":"x"}`:       {Type: "signal", Signal: "SIGTERM", RunID: "x"},
		`{"type":"cancel","run_id":"x"}`:                          {Type: "cancel", RunID: "x"},
		`{"type":"complete","line":"é é"}`:                        {Type: "complete", Line: "é é", Point: 3},
		`{"type":"complete","line":"ls","point":-1}`:              {Type: "complete", Line: "ls", Point: -1},
		`{"type":"complete","line":"","point":null}`:              {Type: "complete"},
		`{"type":"ack","pos":18446744073709551615,"ref":"r"}`:     {Type: "ack", Pos: 1<<64 - 1, Ref: &ref},
		`{"type":"run","code":"a","timeout_ms":9223372036854775}`: {Type: "run", Code: "a", Timeout: 9223372036854 * time.Millisecond},
	} {
		got, err := decodeRequest([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", in, got, want)
		}
	}
}

func deref(s *string) string {
	if s == nil {
		return "<none>"
	}
	return *s
}

func TestDecodeRequestRefuses(t *testing.T) {
	t.Parallel()
	for in, code := range map[string]string{
		``:                                       codeInvalid,
		`x`:                                      codeInvalid,
		`null`:                                   codeInvalid,
		`[]`:                                     codeInvalid,
		`"run"`:                                  codeInvalid,
		`5`:                                      codeInvalid,
		`{}`:                                     codeInvalid,
		`{} {}`:                                  codeInvalid,
		`{"type":5}`:                             codeInvalid,
		`{"type":""}`:                            codeInvalid,
		`{"type":"ping","ref":5}`:                codeInvalid,
		`{"type":"run"}`:                         codeInvalid,
		`{"type":"run","code":5}`:                codeInvalid,
		`{"Type":"ping"}`:                        codeInvalid,
		`{"type":"stdin"}`:                       codeInvalid,
		`{"type":"stdin","base64":"!"}`:          codeInvalid,
		`{"type":"stdin","text":"","base64":""}`: codeInvalid,
		`{"type":"stdin","text":"","offset":5}`:  codeInvalid,
		`{"type":"stdin","text":"","run_id":"x","offset":-5}`: codeInvalid,
		`{"type":"cancel"}`:                            codeInvalid,
		`{"type":"signal"}`:                            codeInvalid,
		`{"type":"ack"}`:                               codeInvalid,
		`{"type":"ack","pos":-1}`:                      codeInvalid,
		`{"type":"ack","pos":1.5}`:                     codeInvalid,
		`{"type":"interrupt","force":1}`:               codeInvalid,
		`{"type":"run","code":"a","stdin":5}`:          codeInvalid,
		`{"type":"run","code":"a","env":{"A":1}}`:      codeInvalid,
		`{"type":"run","code":"a","timeout_ms":"5"}`:   codeInvalid,
		`{"type":"run","code":"a","timeout_ms":1.5}`:   codeInvalid,
		`{"type":"run","code":"a","cwd":["/"]}`:        codeInvalid,
		`{"type":"run","code":"a","run_id":7}`:         codeInvalid,
		`{"type":"nope"}`:                              codeUnknownType,
		`{"type":"resize","cols":80,"rows":24}`:        codeUnknownType,
		`{"type":"complete"}`:                          codeInvalid,
		`{"type":"complete","line":5}`:                 codeInvalid,
		`{"type":"complete","line":"l","point":"1"}`:   codeInvalid,
		`{"type":"complete","line":"l","point":0.5}`:   codeInvalid,
		`{"type":"complete","line":"l","point":1e99}`:  codeInvalid,
		`{"type":"` + strings.Repeat("é", 1000) + `"}`: codeUnknownType,
	} {
		_, err := decodeRequest([]byte(in))
		var f *fault
		if !errors.As(err, &f) || f.code != code || len(f.message) < 9 || len(f.message) > 300 {
			t.Errorf("%.60s: got %+v, want %s", in, f, code)
		}
	}
	if req, err := decodeRequest([]byte(`{"type":"ping","ref":5}`)); err == nil || req.Ref != nil {
		t.Errorf("the ref that is none is %q, %v", *req.Ref, err)
	}
	req, err := decodeRequest([]byte(`{"type":"nope","ref":"x"}`))
	if err == nil || deref(req.Ref) != "x" {
		t.Errorf("the ref of a refused message is lost: %+v %v", req, err)
	}
}

func FuzzClientMessage(f *testing.F) {
	for _, s := range []string{`{"type":"run","code":"a","env":{"A":"b"},"stdin":"x","timeout_ms":5}`, `{"type":"ack","pos":1e3}`, `{"type":"stdin","text":null}`, `[[[`, "\xff", `{"type":{}}`, `{"type":"complete","line":"é","point":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := decodeRequest(data)
		if err == nil && req.Type == "" {
			t.Fatal("neither a message nor an error")
		}
		if err != nil {
			fault, known := faultOf(err)
			if !known {
				t.Fatalf("not a fault: %v", err)
			}
			if b := appendError(nil, req.Ref, fault); !json.Valid(b) || !utf8.Valid(b) {
				t.Fatalf("bad error message: %q", b)
			}
		}
		_, _ = decodeStdin(data)
	})
}

// FuzzOutputMessage cuts bytes into entries of two streams and wants the same bytes at the
// same positions back, whichever way they travel.
func FuzzOutputMessage(f *testing.F) {
	f.Add([]byte("héllo wörld \u2028\u0085 €𝄞"), []byte{2, 1, 1, 250, 3})
	f.Add([]byte("\xff\x00\xe2\x82\xac\xe2\x82"), []byte{3, 129, 1})
	f.Add([]byte("\xf0\x9d\x84\x9e\xf0\x9d"), []byte{1, 1, 1, 1, 1})
	f.Add([]byte("\xe0\x80\x80\xed\xa0\x80\xc2"), []byte{1})
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		entries := cutUp(data, cuts)
		var got []Message
		enc := Encoder{ids: map[uint64]string{1: "one"}}
		take := func(list []sessions.Entry) {
			for _, e := range list {
				m, err := decodeMessage(false, enc.AppendEntry(nil, nil, e))
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, m)
			}
		}
		// As a connection does: some at a time, the rest when there is nothing more.
		for i, e := range entries {
			take(enc.Cut(nil, []sessions.Entry{e}))
			if len(e.Data)%5 == 4 || i == len(entries)-1 {
				take(enc.Rest(nil))
			}
		}
		wantBytes(t, data, entries, got)

		got = nil
		for _, e := range entries {
			m, err := decodeMessage(true, append(appendOutputHeader(nil, e), e.Data...))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		wantBytes(t, data, entries, got)
	})
}

// cutUp makes entries of data: the low bits of a cut say how long one is, the high bit
// which stream it is of.
func cutUp(data, cuts []byte) (entries []sessions.Entry) {
	var pos uint64
	for i := 0; len(data) > 0; i++ {
		n, kind := len(data), sessions.Stdout
		if i < len(cuts) {
			n = min(n, int(cuts[i]&127)+1)
			if cuts[i] >= 128 {
				kind = sessions.Stderr
			}
		}
		entries = append(entries, sessions.Entry{Pos: pos, Kind: kind, Run: 1, Data: data[:n]})
		pos, data = pos+uint64(n), data[n:]
	}
	return entries
}

func wantBytes(t *testing.T, data []byte, entries []sessions.Entry, got []Message) {
	t.Helper()
	var streams [3]string
	for _, e := range entries {
		streams[e.Kind] += string(e.Data)
	}
	var pos uint64
	var all []byte
	var back [3]string
	for _, m := range got {
		if m.Pos != pos || len(m.Data) == 0 {
			t.Fatalf("%s of %d bytes at %d, want %d", m.Type, len(m.Data), m.Pos, pos)
		}
		pos = m.End()
		all = append(all, m.Data...)
		back[map[string]int{TypeStdout: 1, TypeStderr: 2}[m.Type]] += string(m.Data)
	}
	if !bytes.Equal(all, data) || back != streams {
		t.Fatalf("got %q, want %q", all, data)
	}
}

// Text that is whole comes as text, however it was cut before.
func TestCutKeepsCharactersWhole(t *testing.T) {
	t.Parallel()
	const text = "añ€𝄞\n"
	for i := 1; i < len(text); i++ {
		for j := i; j < len(text); j++ {
			var entries []sessions.Entry
			for _, span := range [][2]int{{0, i}, {i, j}, {j, len(text)}} {
				if span[0] < span[1] {
					entries = append(entries, sessions.Entry{Kind: sessions.Stdout, Pos: uint64(span[0]), Data: []byte(text[span[0]:span[1]])})
				}
			}
			var enc Encoder
			var got string
			for _, e := range enc.Rest(enc.Cut(nil, entries)) {
				if !utf8.Valid(e.Data) {
					t.Fatalf("cuts at %d and %d leave %q", i, j, e.Data)
				}
				got += string(e.Data)
			}
			if got != text {
				t.Fatalf("cuts at %d and %d give %q", i, j, got)
			}
		}
	}
}

func TestTextIsEscaped(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for r := range rune(0x300) {
		all.WriteRune(r)
	}
	all.WriteString("\u2027\u2028\u2029\u202a\ufeff\uffff𝄞")
	b := appendQuoted(nil, all.String())
	var back string
	if err := json.Unmarshal(b, &back); err != nil || back != all.String() {
		t.Fatalf("%v: %q", err, back)
	}
	for _, r := range "\n\r\u0085\u2028\u2029\x00\x1f" {
		if bytes.ContainsRune(b, r) {
			t.Errorf("%q is not escaped", r)
		}
	}
	if got := string(appendQuoted(nil, "a\xffb")); got != "\"a\ufffdb\"" {
		t.Errorf("got %s", got)
	}
}

func TestEventMessages(t *testing.T) {
	t.Parallel()
	code := 137
	started := time.UnixMilli(1700000000123)
	run := &sessions.RunInfo{ID: "x", Number: 3, Code: "kill", CodeTruncated: true, By: "ws", Cwd: "/t", StartedAt: started, Last: 8}
	end := &sessions.RunInfo{ID: "x", Reason: sessions.ReasonShellExited, ExitCode: &code, Signal: "SIGKILL", Duration: 5 * time.Millisecond, Cwd: "/t", Last: 8}
	ref := "r"
	enc := Encoder{refOf: func(string, bool) *string { return &ref }}
	for want, e := range map[string]sessions.Entry{
		`{"type":"run.started","pos":7,"run_id":"x","number":3,"by":"ws","code":"kill","code_truncated":true,"cwd":"/t","started_at":1700000000123,"ref":"r"}`: {Pos: 7, Kind: sessions.RunStarted, Info: run},
		`{"type":"run.finished","pos":8,"run_id":"x","reason":"shell_exited","exit_code":137,"signal":"SIGKILL","duration_ms":5,"cwd":"/t","ref":"r"}`:         {Pos: 8, Kind: sessions.RunFinished, Info: end},
		`{"type":"run.finished","pos":9,"run_id":"q","reason":"canceled","exit_code":null,"duration_ms":0,"cwd":"/t","ref":"r"}`:                               {Pos: 9, Kind: sessions.RunFinished, Info: &sessions.RunInfo{ID: "q", Reason: sessions.ReasonCanceled, Cwd: "/t"}},
		`{"type":"shell.restarted","pos":1,"cause":"exec","restored":"checkpoint"}`:                                                                            {Pos: 1, Kind: sessions.ShellRestarted, Restart: &sessions.Restart{Cause: sessions.CauseExec, Restored: sessions.RestoredCheckpoint}},
		`{"type":"session.closed","pos":2,"reason":"idle"}`:                                                                                                    {Pos: 2, Kind: sessions.SessionClosed, Closed: sessions.CloseIdle},
		`{"type":"gap","from":2,"to":9,"state":"idle","finished":[]}`:                                                                                          {Pos: 2, Kind: sessions.Gap, Gap: &sessions.GapInfo{To: 9}},
		`{"type":"gap","from":2,"to":9,"state":"running","run":{"run_id":"x","number":3,"code":"kill","code_truncated":true,"by":"ws","started_at":1700000000123},"finished":[{"type":"run.finished","pos":8,"run_id":"x","reason":"shell_exited","exit_code":137,"signal":"SIGKILL","duration_ms":5,"cwd":"/t","ref":"r"}]}`: {Pos: 2, Kind: sessions.Gap, Gap: &sessions.GapInfo{To: 9, Running: run, Finished: []sessions.RunInfo{*end}}},
		`{"type":"stderr","pos":4,"run_id":"x","text":"a\nb"}`: {Pos: 4, Kind: sessions.Stderr, Run: 3, Data: []byte("a\nb")},
		`{"type":"stdout","pos":4,"base64":"/w=="}`:            {Pos: 4, Kind: sessions.Stdout, Data: []byte{0xff}},
	} {
		enc.learn(run)
		if got := string(enc.AppendEntry(nil, nil, e)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// The end of a run that is told in a gap is told to every request for it, once.
func TestRepeatsInAGap(t *testing.T) {
	t.Parallel()
	c := newConn(New(Config{}))
	second, third := "second", "third"
	c.out.repeats = map[string][]*string{"x": {&second, &third}, "y": {&second}}
	gap := sessions.Entry{Pos: 1, Kind: sessions.Gap, Gap: &sessions.GapInfo{To: 9, Finished: []sessions.RunInfo{{ID: "x", Last: 5}}}}
	c.addEvent(gap)
	c.addEvent(gap)
	got := string(c.out.buf)
	if strings.Count(got, `"ref":"second"`) != 1 || strings.Count(got, `"ref":"third"`) != 1 || len(c.out.repeats) != 1 {
		t.Errorf("got %q, and to be told are %v", got, c.out.repeats)
	}
}

func TestOutputDoesNotAllocate(t *testing.T) {
	enc := Encoder{ids: map[uint64]string{1: "one"}}
	e := sessions.Entry{Kind: sessions.Stdout, Run: 1, Data: []byte(strings.Repeat("some text\n", 100))}
	dst := make([]byte, 0, 4096)
	cut := make([]sessions.Entry, 0, 4)
	list := []sessions.Entry{e}
	if n := testing.AllocsPerRun(100, func() {
		cut = enc.Cut(cut[:0], list)
		dst = enc.AppendEntry(dst[:0], nil, cut[0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEveryErrorHasACode(t *testing.T) {
	t.Parallel()
	for kind, want := range map[error]string{
		sessions.ErrInvalid: codeInvalid, sessions.ErrTooLarge: "TOO_LARGE", sessions.ErrSessionNotFound: "CONTEXT_NOT_FOUND",
		sessions.ErrRunNotFound: "RUN_NOT_FOUND", sessions.ErrRunNotRunning: "RUN_NOT_RUNNING", sessions.ErrRunExists: "RUN_EXISTS",
		sessions.ErrQueueFull: "QUEUE_FULL", sessions.ErrNoStdin: "NO_STDIN", sessions.ErrTooMany: "TOO_MANY", sessions.ErrBusy: "BUSY", sessions.ErrClosed: "CONTEXT_NOT_FOUND",
	} {
		f, known := faultOf(fmt.Errorf("do it: %w", &sessions.Error{Kind: kind, Message: "why"}))
		if !known || f.code != want || f.message != "why" || f.status < 400 || f.status == 500 {
			t.Errorf("%v: %+v", kind, f)
		}
	}
	if f, known := faultOf(errors.New("secret")); known || f.code != codeRuntime || strings.Contains(f.message, "secret") {
		t.Errorf("%+v", f)
	}
}

func TestCloseCodes(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]websocket.StatusCode{
		sessions.ErrClosed: 4000, sessions.ErrStalled: 4008, errStopping: 1012, errRevoked: 1008, errNotUTF8: 1007,
		websocket.ErrMessageTooBig: 1009, errDead: 1001, errWrite: 1011,
	} {
		code, reason := closeOf(fmt.Errorf("wrapped: %w", cause))
		if code != want || reason == "" || len(reason) > 123 {
			t.Errorf("%v: %d %q", cause, code, reason)
		}
	}
}

func TestFrameHeader(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{
		0: "\x82\x00", 125: "\x82\x7d", 126: "\x82\x7e\x00\x7e", 65535: "\x82\x7e\xff\xff",
		65536: "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
	} {
		if got := string(appendFrameHeader(nil, opBinary, n)); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}
