package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// TestMain lets the test program be the plain server, as the program itself is.
func TestMain(m *testing.M) {
	if os.Getenv(plainVariable) != "" {
		if servePlain(os.Stdin, os.Stdout) != nil {
			os.Exit(exitFailed)
		}
		os.Exit(exitOK)
	}
	os.Exit(m.Run())
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, c := range []struct {
		values  []float64
		p, want float64
	}{
		{[]float64{7}, 50, 7}, {[]float64{7}, 99, 7}, {[]float64{1, 2, 3}, 50, 2}, {[]float64{1, 2, 3, 4}, 50, 2.5},
		{hundred, 90, 90}, {hundred, 99, 99}, {hundred, 100, 100}, {hundred[:10], 99, 10}, {hundred, 0, 1},
	} {
		if got := percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile %v of %v is %v, want %v", c.p, c.values, got, c.want)
		}
	}
	if got := percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	var s series
	if got := s.summary(); got != nil {
		t.Errorf("the summary of nothing is %+v", got)
	}
	s.add([]float64{3, 1, 2})
	s.add([]float64{10})
	got := s.summary()
	if got.Samples != 4 || got.Min != 1 || got.Max != 10 || got.Mean != 4 || got.P50 != 2.5 || got.P99 != 10 || !slices.Equal(got.Medians, []float64{2, 10}) {
		t.Errorf("%+v", got)
	}
}

func of(values ...float64) series { return series{[][]float64{values}} }

func TestTable(t *testing.T) {
	t.Parallel()
	rows := []*row{
		{Work: "fast", Unit: "ms", Tails: true, Ours: of(0.5), Peer: of(4), Plain: of(0.4), Floor: of(0.25)},
		{Work: "wide one", Unit: "MB/s", More: true, Ours: of(300), Peer: of(100), Floor: of(1200)},
		{Work: "alone", Unit: "s", Ours: of(12.34)},
	}
	var out bytes.Buffer
	if err := writeTable(&out, rows, true); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")[:4]
	for i, want := range []string{
		"work unit ours p99 peer p99 ratio p99 plain p99 ours/plain floor p99 ours/floor",
		"fast ms 0.500 0.500 4.00 4.00 8.00x 8.00x 0.400 0.400 1.25x 0.250 0.250 2.00x",
		"wide one MB/s 300 100 3.00x - - 1200 4.00x",
		"alone s 12.3 - - - - - -",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
		if len(lines[i]) != len(lines[0]) {
			t.Errorf("line %d is not aligned:\n%s", i, out.String())
		}
	}
	out.Reset()
	if err := writeTable(&out, rows, false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "peer") || strings.Contains(out.String(), "ratio") {
		t.Errorf("columns of a peer that is not there:\n%s", out.String())
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0.000", 0.01234: "0.012", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234567: "1234567"} {
		if got := number(v); got != want {
			t.Errorf("%v is %s, want %s", v, got, want)
		}
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	stream := strings.Repeat("id: 1\ndata: {\"type\":\"stdout\",\"text\":\"abc\"}\n\n", 50) + "data: {\"type\":\"execution_complete\"}\n\n"
	for _, size := range []int{1, 7, 100, 255, 256, 257, 10_000} {
		var got tally
		for p := range slices.Chunk([]byte(stream), size) {
			got.count(p)
		}
		if got.bytes != len(stream) || got.newlines != strings.Count(stream, "\n") {
			t.Errorf("in pieces of %d: %d bytes, %d newlines", size, got.bytes, got.newlines)
		}
		if want := stream[len(stream)-tailLength:]; string(got.tail()) != want {
			t.Errorf("in pieces of %d the tail is %q", size, got.tail())
		}
	}
	var few tally
	few.count([]byte("ab\n"))
	if string(few.tail()) != "ab\n" {
		t.Errorf("the tail of little is %q", few.tail())
	}
}

func TestVerifier(t *testing.T) {
	t.Parallel()
	const ours = `id: 0
data: {"type":"init","text":"id"}

id: 3
data: {"type":"stdout","text":"a\"b"}

id: 3
data: {"type":"stdout","text":"x","newline":false}

id: 3
data: {"type":"stdout","text":"\ufffd","base64":"/w=="}

data: {"type":"execution_complete"}

`
	const bare = `{"type":"stdout","text":"a\"b"}

{"type":"execution_complete"}

`
	for _, c := range []struct {
		stream, want string
		lines        int
	}{{ours, "a\"b\nx\xff\n", 2}, {bare, "a\"b\n", 1}} {
		for _, size := range []int{1, 5, 1000} {
			v := verifier{digest: newDigest()}
			for p := range slices.Chunk([]byte(c.stream), size) {
				v.write(p)
			}
			want := newDigest()
			want.write([]byte(c.want))
			if v.err != nil || !v.complete || v.lines != c.lines || !v.equal(want) {
				t.Errorf("in pieces of %d: %v, %+v", size, v.err, v)
			}
		}
	}
}

func TestSeqDigest(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]string{math.MaxInt: "1\n2\n3\n", 5: "1\n2\n3", 2: "1\n"} {
		got, expected := newDigest(), newDigest()
		got.writeSeq(3, limit)
		expected.write([]byte(want))
		if !got.equal(expected) {
			t.Errorf("with limit %d it is not %q", limit, want)
		}
	}
	_, got := telling(200_000)
	if got.bytes != 200_000 {
		t.Errorf("%d bytes", got.bytes)
	}
}

// A pieced connection gives what it has in pieces and keeps what is written.
type pieced struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *pieced) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *pieced) Write(p []byte) (int, error) { return c.out.Write(p) }

// wires are connections that give data in different pieces, with a buffer that is too small.
func wires(data string) map[string]*wire {
	return map[string]*wire{
		"at once":    {c: &pieced{in: strings.NewReader(data)}, buf: make([]byte, 16)},
		"by bytes":   {c: &pieced{in: iotest.OneByteReader(strings.NewReader(data))}, buf: make([]byte, 16)},
		"with error": {c: &pieced{in: iotest.DataErrReader(strings.NewReader(data))}, buf: make([]byte, 4096)},
	}
}

func TestREST(t *testing.T) {
	t.Parallel()
	const answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"5\r\nhello\r\n1B\r\n{\"execution_complete\":true}\r\n0\r\n\r\n"
	const refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"
	for name, w := range wires(answer) {
		c := &restClient{wire: w, addr: "here"}
		conn := w.c.(*pieced)
		got, err := c.run("id", []byte("{}"))
		if err != nil || got.bytes != 5+27 {
			t.Errorf("%s: %d bytes, %v", name, got.bytes, err)
		}
		conn.in = strings.NewReader(refusal)
		if err := c.remove("id"); err == nil || !strings.Contains(err.Error(), "404: gone") {
			t.Errorf("%s: the refusal was %v", name, err)
		}
		sent := conn.out.String()
		if !strings.HasPrefix(sent, "POST /session/id/run HTTP/1.1\r\nHost: here\r\n") || !strings.Contains(sent, "\r\nContent-Length: 2\r\n\r\n{}DELETE /session/id HTTP/1.1\r\n") {
			t.Errorf("%s: sent %q", name, sent)
		}
		if err := c.ping(); err == nil {
			t.Errorf("%s: no error at the end", name)
		}
	}
	w := wires(answer + "more")["at once"]
	if _, err := (&restClient{wire: w}).run("id", nil); !errors.Is(err, errGarbled) {
		t.Errorf("what came after the end of an answer is no error: %v", err)
	}
}

// A peer that breaks an answer off is asked again, on a new connection; one that refuses is not.
func TestMending(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			switch n {
			case 1:
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			case 2:
				_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")
			}
			c.Close()
		}
	}()
	c, err := dialREST(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	peer := &execd{}
	if err := c.mending(peer, func() error { return c.remove("id") }); err != nil || peer.garbled.Load() != 1 {
		t.Errorf("mended %d times: %v", peer.garbled.Load(), err)
	}
	if err := c.redial(); err != nil {
		t.Fatal(err)
	}
	if err := c.mending(peer, func() error { return c.remove("id") }); err == nil || peer.garbled.Load() != 1 {
		t.Errorf("mended %d times: %v", peer.garbled.Load(), err)
	}
}

func TestParseHex(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"0": 0, "1f": 31, "ABC": 0xabc, "00000010": 16} {
		if got, err := parseHex([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "-1", "123456789", "1 ;a"} {
		if got, err := parseHex([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

// serverFrame is a frame as servers send it.
func serverFrame(op byte, payload string) string {
	n := len(payload)
	h := []byte{finBit | op}
	switch {
	case n < 126:
		h = append(h, byte(n))
	case n < 1<<16:
		h = binary.BigEndian.AppendUint16(append(h, 126), uint16(n))
	default:
		h = binary.BigEndian.AppendUint64(append(h, 127), uint64(n))
	}
	return string(h) + payload
}

func TestFrames(t *testing.T) {
	t.Parallel()
	payloads := []string{"", "small", strings.Repeat("m", 200), strings.Repeat("l", 70_000)}
	var stream strings.Builder
	for _, p := range payloads {
		stream.WriteString(serverFrame(opPing, "beat") + serverFrame(opBinary, p))
	}
	stream.WriteString(serverFrame(opText, "text") + serverFrame(opClose, "\x0f\xa0over"))
	for name, w := range wires(stream.String()) {
		ws := &wsConn{wire: w}
		for _, want := range append(payloads, "text") {
			if _, got, err := ws.next(); err != nil || string(got) != want {
				t.Fatalf("%s: got %d bytes, %v, want %d", name, len(got), err, len(want))
			}
		}
		if _, _, err := ws.next(); err == nil || !strings.Contains(err.Error(), "4000 over") {
			t.Errorf("%s: the end was %v", name, err)
		}
		pong := "\x8a\x84\x00\x00\x00\x00beat"
		if got := w.c.(*pieced).out.String(); got != strings.Repeat(pong, len(payloads)) {
			t.Errorf("%s: sent %q", name, got)
		}
	}
}

func TestBadFrames(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"a part":       "\x02\x01x",
		"masked":       "\x82\x81\x00\x00\x00\x00x",
		"huge":         "\x82\x7f\x7f\x00\x00\x00\x00\x00\x00\x00",
		"unknown":      "\x83\x00",
		"cut":          "\x82\x05abc",
		"bare closing": "\x88\x00",
	} {
		ws := &wsConn{wire: wires(data)["at once"]}
		if _, p, err := ws.next(); err == nil {
			t.Errorf("%s: no error but %q", name, p)
		}
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	for n, head := range map[int]string{
		3:      "\x82\x84",
		200:    "\x82\xfe\x00\xc9",
		70_000: "\x82\xff\x00\x00\x00\x00\x00\x01\x11\x71",
	} {
		ws := &wsConn{wire: wires("")["at once"]}
		if err := ws.send(opBinary, []byte{0}, bytes.Repeat([]byte("p"), n)); err != nil {
			t.Fatal(err)
		}
		want := head + "\x00\x00\x00\x00" + "\x00" + strings.Repeat("p", n)
		if got := ws.wire.c.(*pieced).out.String(); got != want {
			t.Errorf("%d bytes: sent %.40q…, want %.40q…", n, got, want)
		}
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--nonsense"}, {"extra"}, {"--only", "rest-true,none"}, {"--peer-kind", "other"}, {"--bin", "x", "--url", "http://h:1"},
		{"--url", "h:1"}, {"--url", "https://h:1"}, {"--peer", "http://h"}, {"--peer", "http://h:1/path"},
	} {
		var stdout, stderr bytes.Buffer
		if code := program(args, &stdout, &stderr); code != exitUsage || stderr.Len() == 0 || stdout.Len() > 0 {
			t.Errorf("%q: exit code %d, %q, %q", args, code, stdout.String(), stderr.String())
		}
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--bin", "/no/such/program"}, {"--bin", "/bin/true"}, {"--url", "http://127.0.0.1:1"}} {
		var stdout, stderr bytes.Buffer
		code := program(args, &stdout, &stderr)
		if text := stderr.String(); code != exitFailed || !strings.HasPrefix(text, "tandem-bench: ") || strings.Count(text, "\n") != 1 {
			t.Errorf("%q: exit code %d, %q", args, code, text)
		}
	}
}

// TestProgram measures a little with a tandem of its own.
func TestProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin, file := filepath.Join(dir, "tandem"), filepath.Join(dir, "out.json")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../tandem").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	names := []string{"rest-true", "lifecycle", "sse-lines", "ws-echo", "ws-key", "isolation"}
	var stdout, stderr bytes.Buffer
	if code := program([]string{"--bin", bin, "--short", "--json", file, "--only", strings.Join(names, ",")}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s%s", code, stdout.String(), stderr.String())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rep report
	if err := json.Unmarshal(data, &rep); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		i := slices.IndexFunc(rep.Rows, func(r rowReport) bool { return r.Work == name })
		if i < 0 || !strings.Contains(stdout.String(), "\n"+name+" ") {
			t.Errorf("there is no row %s:\n%s", name, stdout.String())
			continue
		}
		if r := rep.Rows[i]; r.Ours == nil || r.Ours.P50 <= 0 || r.Floor == nil || r.Floor.P50 <= 0 || r.Peer != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
