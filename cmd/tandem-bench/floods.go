package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"math"
	"strconv"
	"strings"
	"time"
)

// lineLength is how long the lines of sse-bytes are, with their newline.
const lineLength = 1000

func (b *bench) sseLines() error {
	n := b.size.lines
	code := "seq 1 " + strconv.Itoa(n)
	want := newDigest()
	want.writeSeq(n, math.MaxInt)
	if err := b.everyTarget(func(t target) error { return verifySSE(t, code, n, want) }); err != nil {
		return err
	}
	return b.rates("sse-lines", "lines/s", b.size.heavy, false,
		func(t target) (float64, error) { return sseRate(t, code, n, float64(n)) },
		func() (float64, error) { return bareFlood(code, want.bytes, float64(n)) })
}

func (b *bench) sseBytes() error {
	line := strings.Repeat("x", lineLength-1) + "\n"
	size := b.size.lineBytes
	code := "yes " + strings.TrimSpace(line) + " | head -c " + strconv.Itoa(size)
	want := newDigest()
	for range size / lineLength {
		want.write([]byte(line))
	}
	if err := b.everyTarget(func(t target) error { return verifySSE(t, code, size/lineLength, want) }); err != nil {
		return err
	}
	return b.rates("sse-bytes", "MB/s", b.size.heavy, false,
		func(t target) (float64, error) { return sseRate(t, code, size/lineLength, float64(size)/megabyte) },
		func() (float64, error) { return bareFlood(code, size, float64(size)/megabyte) })
}

// sseRate runs code, whose output has so many lines and makes amount, and returns the amount
// in a second.
func sseRate(t target, code string, lines int, amount float64) (float64, error) {
	var took time.Duration
	err := inSession(t, func(c *restClient, id string) error {
		body := runBody(code)
		start := time.Now()
		got, err := c.run(id, body)
		took = time.Since(start)
		if err != nil {
			return err
		}
		if events := got.newlines / t.linesOfEvent(); events < lines {
			return fmt.Errorf("%d events for %d lines", events, lines)
		}
		return nil
	})
	return amount / took.Seconds(), err
}

// inSession calls f with a session that is there for it alone.
func inSession(t target, f func(c *restClient, id string) error) error {
	c, err := dialREST(t.addr())
	if err != nil {
		return err
	}
	defer c.close()
	id, err := c.create()
	if err != nil {
		return err
	}
	if err := f(c, id); err != nil {
		return err
	}
	return c.mending(t, func() error { return c.remove(id) })
}

// verifySSE runs code once untimed, decodes every event and rebuilds the output, which must
// be what was wanted to the byte.
func verifySSE(t target, code string, lines int, want *digest) error {
	return inSession(t, func(c *restClient, id string) error {
		v := verifier{digest: newDigest()}
		if err := c.runInto(id, runBody(code), v.write); err != nil {
			return err
		}
		if v.err != nil {
			return v.err
		}
		if !v.complete || v.lines != lines || !v.digest.equal(want) {
			return fmt.Errorf("the output of %.40s is not exact: %d lines of %d, %d bytes of %d, hashes equal: %v, completed: %v",
				code, v.lines, lines, v.digest.bytes, want.bytes, v.digest.equal(want), v.complete)
		}
		return nil
	})
}

// A verifier decodes a stream of events, with or without "data:" before them.
type verifier struct {
	*digest
	rest     []byte // a line that has not come to its end
	lines    int
	complete bool
	err      error
}

func (v *verifier) write(p []byte) {
	for len(p) > 0 {
		i := indexNewline(p)
		if i < 0 {
			v.rest = append(v.rest, p...)
			return
		}
		line := p[:i]
		if len(v.rest) > 0 {
			v.rest = append(v.rest, line...)
			line = v.rest
		}
		v.event(line)
		v.rest, p = v.rest[:0], p[i+1:]
	}
}

func (v *verifier) event(line []byte) {
	text, isData := strings.CutPrefix(string(line), "data: ")
	if !isData && !strings.HasPrefix(text, "{") || v.err != nil {
		return
	}
	e := struct {
		Type, Text string
		Base64     *string
		Newline    *bool
	}{}
	if v.err = json.Unmarshal([]byte(text), &e); v.err != nil {
		return
	}
	v.complete = v.complete || e.Type == "execution_complete"
	if e.Type != "stdout" {
		return
	}
	data := []byte(e.Text)
	if e.Base64 != nil {
		if data, v.err = base64.StdEncoding.DecodeString(*e.Base64); v.err != nil {
			return
		}
	}
	if e.Newline == nil || *e.Newline {
		data = append(data, '\n')
		v.lines++
	}
	v.digest.write(data)
}

// A digest is a length and a hash.
type digest struct {
	bytes int
	hash  hash.Hash
}

func newDigest() *digest { return &digest{hash: sha256.New()} }

func (d *digest) write(p []byte) {
	d.bytes += len(p)
	_, _ = d.hash.Write(p) // never fails
}

// writeSeq writes what "seq 1 n" does, up to so many bytes.
func (d *digest) writeSeq(n, limit int) {
	var buf []byte
	for i := 1; i <= n && d.bytes < limit; i++ {
		if buf = append(strconv.AppendInt(buf, int64(i), 10), '\n'); len(buf) > 1<<16 || i == n {
			d.write(buf[:min(len(buf), limit-d.bytes)])
			buf = buf[:0]
		}
	}
}

func (d *digest) equal(to *digest) bool {
	return d.bytes == to.bytes && string(d.hash.Sum(nil)) == string(to.hash.Sum(nil))
}

// telling is a command that writes so many bytes, none of which could be missing or in
// another place without that being seen, and their digest.
func telling(size int) (code string, want *digest) {
	want = newDigest()
	want.writeSeq(size, size)
	return fmt.Sprintf("seq 1 %d | head -c %d", size, size), want
}

// zeros is a command that writes so many bytes without spending much on it.
func zeros(n int) string { return "head -c " + strconv.Itoa(n) + " /dev/zero" }

func (b *bench) wsRaw() error {
	size := b.size.rawBytes
	code, want := telling(size / 10)
	err := b.everyTarget(func(t target) error {
		got := newDigest()
		if _, err := flood(t, code, want.bytes, got.write); err != nil {
			return err
		}
		if !got.equal(want) {
			return fmt.Errorf("%d bytes of output of seq are not the right ones", got.bytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.rates("ws-raw", "MB/s", b.size.rounds, true,
		func(t target) (float64, error) {
			took, err := flood(t, zeros(size), size, nil)
			return float64(size) / megabyte / took.Seconds(), err
		},
		func() (float64, error) { return bareFlood(zeros(size), size, float64(size)/megabyte) })
}

// flood runs code in a shell of its own and reads size bytes of its output.
func flood(t target, code string, size int, sink func([]byte)) (time.Duration, error) {
	sh, err := t.shell()
	if err != nil {
		return 0, err
	}
	defer sh.close()
	start := time.Now()
	if err := sh.command(code, false); err != nil {
		return 0, err
	}
	if err := drain(sh, size, sink); err != nil {
		return 0, err
	}
	took := time.Since(start)
	return took, sh.settle()
}

// drain reads size bytes of output and gives them to sink, if there is one.
func drain(sh shell, size int, sink func([]byte)) error {
	got := 0
	for got < size {
		p, err := sh.read()
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", got, size, err)
		}
		got += len(p)
		if sink != nil {
			sink(p)
		}
	}
	if got != size {
		return fmt.Errorf("%d bytes instead of %d", got, size)
	}
	return nil
}
