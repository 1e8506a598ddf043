package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tandem/ws"
)

// TestSelfHosted has this repository cloned, built and tested by runs over REST, while a
// controller that drops and resumes twice a second and a viewer are attached: what each of
// the three has of every run must be the same to the byte.
func TestSelfHosted(t *testing.T) {
	t.Parallel()
	repo := t.TempDir()
	copying := exec.CommandContext(t.Context(), "bash", "-ec", `
		tar -C ../.. --exclude=.git --exclude=node_modules --exclude=bin -cf - . | tar -C "$1" -xf -
		cd "$1"; git init -q; git add .; git -c user.name=test -c user.email=test@localhost commit -qm copy`, "bash", repo)
	if out, err := copying.CombinedOutput(); err != nil {
		t.Fatalf("copy the repository: %v: %s", err, out)
	}
	p := startProgram(t, buildProgram(t))
	id := p.session()
	socket := "ws" + strings.TrimPrefix(p.url, "http") + "/session/" + id + "/ws"

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	codes := []string{
		"cd \"$(mktemp -d)\" && git clone -v " + repo + " repo && cd repo && git log --oneline | cat",
		"go version; go build -v ./... && go vet ./sessions",
		"go test -count=1 -v -run 'Journal|Report' ./sessions",
		"for ((i = 0; i < 200000; i++)); do echo \"line $i of many\"; done; printf 'no newline, \\xff no UTF-8' >&2",
		"rm -rf \"$PWD\"; echo done; exit 0",
	}
	controller, viewer := make(chan recording, 1), make(chan recording, 1)
	go func() { controller <- record(ctx, t, socket+"?after=0", len(codes), 500*time.Millisecond) }()
	go func() { viewer <- record(ctx, t, socket+"?after=0&role=view", len(codes), 0) }()

	rest := make([][]byte, len(codes))
	for i, code := range codes {
		out, end := p.stream(ctx, id, code)
		if end.Type != "execution_complete" {
			t.Errorf("%.60q ended with %+v:\n%s", code, end, out[max(0, len(out)-20_000):])
		}
		rest[i] = out
	}
	for name, c := range map[string]chan recording{"controller": controller, "viewer": viewer} {
		got := <-c
		for i, want := range rest {
			if run := uint64(i + 1); !bytes.Equal(got.output[run], want) {
				t.Errorf("%s: run %d: %d bytes, over REST %d", name, run, len(got.output[run]), len(want))
			}
		}
	}
}

// A recording is the output of each run by its number, stdout and stderr as they came.
type recording struct {
	output   map[uint64][]byte
	finished int
}

// record follows a session, cutting its own connection every so often and resuming where
// it was.
func record(ctx context.Context, t *testing.T, url string, runs int, cutEvery time.Duration) recording {
	rec := recording{output: map[uint64][]byte{}}
	base, _, _ := strings.Cut(url, "after=0")
	role := strings.TrimPrefix(url, base+"after=0")
	pos := uint64(0)
	for rec.finished < runs {
		c, err := ws.Dial(ctx, fmt.Sprintf("%safter=%d%s", base, pos, role), nil)
		if err != nil {
			t.Errorf("dial: %v", err)
			return rec
		}
		until := time.Now().Add(time.Hour)
		if cutEvery > 0 {
			until = time.Now().Add(cutEvery)
		}
		if err := rec.follow(ctx, c, runs, until); err != nil {
			t.Errorf("follow: %v", err)
			return rec
		}
		pos = c.Position()
		_ = c.CloseNow()
	}
	return rec
}

func (rec *recording) follow(ctx context.Context, c *ws.Client, runs int, until time.Time) error {
	for time.Now().Before(until) && rec.finished < runs {
		// The cut comes between two messages: one that is under way belongs to the connection.
		m, err := c.Next(ctx)
		if err != nil {
			return err
		}
		switch m.Type {
		case "stdout", "stderr":
			rec.output[m.Number] = append(rec.output[m.Number], m.Data...)
		case "run.finished":
			rec.finished++
		case "gap":
			return fmt.Errorf("gap from %d to %d", m.From, m.To)
		}
	}
	return nil
}

// stream runs code over REST and rebuilds its output.
func (p *program) stream(ctx context.Context, id, code string) (out []byte, end restEvent) {
	p.t.Helper()
	body, err := json.Marshal(map[string]string{"code": code})
	if err != nil {
		p.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/session/"+id+"/run", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		var e restEvent
		if err := json.Unmarshal(data, &e); err != nil {
			p.t.Fatalf("event %.200q: %v", data, err)
		}
		switch e.Type {
		case "stdout", "stderr":
			out = append(out, e.bytes()...)
		case "execution_complete", "error":
			end = e
		}
	}
	return out, end
}

// A restEvent is one event of a run's stream.
type restEvent struct {
	Type    string `json:"type"`
	Text    string `json:"text"`
	Base64  string `json:"base64"`
	Newline *bool  `json:"newline"`
	Error   any    `json:"error"`
}

func (e restEvent) bytes() []byte {
	b := []byte(e.Text)
	if e.Base64 != "" {
		b, _ = base64.StdEncoding.DecodeString(e.Base64)
	}
	if e.Newline == nil || *e.Newline {
		b = append(b, '\n')
	}
	return b
}
