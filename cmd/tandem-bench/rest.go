package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A restClient speaks HTTP/1.1 on one connection that it keeps, one request at a time. It is
// made for measuring: a flood passes it without being copied or decoded.
type restClient struct {
	wire *wire
	addr string
	out  []byte
}

// restBuffer is large enough that a flood takes few reads.
const restBuffer = 256 << 10

func dialREST(addr string) (*restClient, error) {
	w, err := dial(addr, restBuffer)
	if err != nil {
		return nil, err
	}
	return &restClient{wire: w, addr: addr}, nil
}

func (c *restClient) close() { _ = c.wire.c.Close() }

// errGarbled is that of an answer that is none.
var errGarbled = errors.New("the answer is garbled")

// redial takes a new connection.
func (c *restClient) redial() error {
	c.close()
	w, err := dial(c.addr, restBuffer)
	if err == nil {
		c.wire = w
	}
	return err
}

// mending does f, again on a new connection if the target garbled it.
func (c *restClient) mending(t target, f func() error) error {
	const enough = 100
	for range enough {
		err := f()
		if err == nil || !t.garbles(err) {
			return err
		}
		if err := c.redial(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w each of %d times", errGarbled, enough)
}

// do sends a request and gives the body of the answer to sink, piece by piece. Any status
// but 2xx is an error.
func (c *restClient) do(method, path string, body []byte, sink func([]byte)) error {
	c.out = append(c.out[:0], method...)
	c.out = append(c.out, " "+path+" HTTP/1.1\r\nHost: "+c.addr+"\r\nContent-Type: application/json\r\nContent-Length: "...)
	c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	c.out = append(append(c.out, "\r\n\r\n"...), body...)
	if _, err := c.wire.c.Write(c.out); err != nil {
		return err
	}
	status, length, err := c.head()
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	var refusal []byte
	if status/100 != 2 {
		sink = func(p []byte) { refusal = append(refusal, p...) }
	}
	if err := c.body(length, sink); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if status/100 != 2 {
		return fmt.Errorf("%s %s: status %d: %.200s", method, path, status, bytes.TrimSpace(refusal))
	}
	return nil
}

// chunked is the length of a body that comes in chunks.
const chunked = -1

// head reads the status and the header.
func (c *restClient) head() (status, length int, err error) {
	line, err := c.wire.line()
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(line))
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "HTTP/1.1") {
		return 0, 0, fmt.Errorf("%w: it begins with %.60q", errGarbled, line)
	}
	if status, err = strconv.Atoi(fields[1]); err != nil {
		return 0, 0, err
	}
	for {
		if line, err = c.wire.line(); err != nil || len(line) == 0 {
			return status, length, err
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, 0, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")) && bytes.EqualFold(value, []byte("chunked")):
			length = chunked
		}
	}
}

// body gives a body to sink, which may be nil.
func (c *restClient) body(length int, sink func([]byte)) error {
	if length != chunked {
		return c.pass(length, sink)
	}
	for {
		line, err := c.wire.line()
		if err != nil {
			return err
		}
		n, err := parseHex(line)
		if err != nil {
			return err
		}
		if err := c.pass(n, sink); err != nil {
			return err
		}
		end, err := c.wire.exactly(2)
		if err != nil {
			return err
		}
		if string(end) != "\r\n" {
			return fmt.Errorf("%w: %q after a chunk", errGarbled, end)
		}
		if n == 0 {
			if c.wire.r != c.wire.w {
				return fmt.Errorf("%w: there is more after its end", errGarbled)
			}
			return nil
		}
	}
}

func (c *restClient) pass(n int, sink func([]byte)) error {
	for n > 0 {
		p, err := c.wire.upTo(n)
		if err != nil {
			return err
		}
		n -= len(p)
		if sink != nil {
			sink(p)
		}
	}
	return nil
}

// parseHex reads the length of a chunk. A small one comes with every event of some servers,
// so nothing is allocated for it.
func parseHex(line []byte) (int, error) {
	n := 0
	for _, b := range line {
		switch {
		case b >= '0' && b <= '9':
			n = n<<4 | int(b-'0')
		case b|0x20 >= 'a' && b|0x20 <= 'f':
			n = n<<4 | int(b|0x20-'a'+10)
		default:
			return 0, fmt.Errorf("%w: not the length of a chunk: %.20q", errGarbled, line)
		}
	}
	if len(line) == 0 || len(line) > 8 {
		return 0, fmt.Errorf("%w: not the length of a chunk: %.20q", errGarbled, line)
	}
	return n, nil
}

func (c *restClient) ping() error { return c.do("GET", "/ping", nil, nil) }

func (c *restClient) create() (string, error) { return c.createAt("/session") }

func (c *restClient) createAt(path string) (string, error) {
	var body []byte
	if err := c.do("POST", path, []byte("{}"), func(p []byte) { body = append(body, p...) }); err != nil {
		return "", err
	}
	var answer struct {
		ID string `json:"session_id"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.ID == "" {
		return "", fmt.Errorf("no session_id in %.100q", body)
	}
	return answer.ID, nil
}

// createMany makes n sessions, or none.
func (c *restClient) createMany(n int) ([]string, error) {
	ids := make([]string, 0, n)
	for range n {
		id, err := c.create()
		if err != nil {
			for _, id := range ids {
				removeQuietly(c.addr, "/session/"+id)
			}
			return nil, fmt.Errorf("session %d of %d: %w", len(ids)+1, n, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (c *restClient) remove(id string) error { return c.do("DELETE", "/session/"+id, nil, nil) }

func (c *restClient) removeAll(t target, ids []string) error {
	var errs []error
	for _, id := range ids {
		errs = append(errs, c.mending(t, func() error { return c.remove(id) }))
	}
	return errors.Join(errs...)
}

// removeQuietly deletes what may be gone, or in no state to be asked.
func removeQuietly(addr, path string) {
	c, err := dialREST(addr)
	if err != nil {
		return
	}
	defer c.close()
	_ = c.do("DELETE", path, nil, nil)
}

// runBody is the body of a request for a run. All targets know the name "command".
func runBody(code string) []byte {
	// A string cannot fail to be encoded.
	body, _ := json.Marshal(map[string]string{"command": code})
	return body
}

// run runs something to its end, which must be a good one. It is over when the answer is:
// until then the connection is of no use for another.
func (c *restClient) run(id string, body []byte) (tally, error) {
	var t tally
	err := c.runInto(id, body, t.count)
	if err == nil && !bytes.Contains(t.tail(), []byte(`"execution_complete"`)) {
		err = fmt.Errorf("%w: the run ended with %q", errGarbled, t.tail())
	}
	return t, err
}

func (c *restClient) runInto(id string, body []byte, sink func([]byte)) error {
	return c.do("POST", "/session/"+id+"/run", body, sink)
}

// A tally counts a stream of events without looking into them, and keeps its end, where the
// event is that tells how the run ended.
type tally struct {
	bytes    int
	newlines int
	last     [tailLength]byte // a ring
}

// tailLength is enough for the last event of a run that ended well, and a power of two.
const tailLength = 256

var newline = []byte{'\n'}

func (t *tally) count(p []byte) {
	t.newlines += bytes.Count(p, newline)
	rest := p
	if skip := len(p) - tailLength; skip > 0 {
		t.bytes += skip
		rest = p[skip:]
	}
	for len(rest) > 0 {
		n := copy(t.last[t.bytes%tailLength:], rest)
		t.bytes += n
		rest = rest[n:]
	}
}

// tail is the end of the stream.
func (t *tally) tail() []byte {
	if t.bytes <= tailLength {
		return t.last[:t.bytes]
	}
	at := t.bytes % tailLength
	return append(append(make([]byte, 0, tailLength), t.last[at:]...), t.last[:at]...)
}
