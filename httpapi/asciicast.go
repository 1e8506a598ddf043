package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"tandem/sessions"
)

// A castFormat is the version of the asciicast format.
type castFormat int

// The formats there are. In v2 the time of an event counts from the beginning, in v3 from
// the event before; and v3 has an event for the exit status of what was recorded.
const (
	castV2 castFormat = 2
	castV3 castFormat = 3
)

const (
	// castCols and castRows are the size of the terminal that is played in. There was none:
	// commands write to pipes, and this is what they assume then.
	castCols, castRows = 80, 24

	// castIdle is how many seconds of silence a player is to show at most: sessions are idle
	// for hours. The times in a recording are the true ones all the same.
	castIdle = 2
)

// A castEncoder writes an asciicast: what a terminal would have shown, and when. The first
// event brings the header with it.
//
// Output comes from pipes, where a terminal would have made "\r\n" of "\n"; so that is done
// here, where the "\r" is not there yet. The format is text: what is no UTF-8 becomes U+FFFD,
// byte by byte. A character cut in two by how it was written is put together again.
type castEncoder struct {
	format castFormat
	title  string

	begun time.Time // of the first event; zero: there was none
	ms    int64     // of the last event, since then
	last  byte      // what the terminal was given last; 0: nothing
	cut   []cutRune // the beginnings of characters
	text  []byte    // reused
}

// A castSource is what writes bytes in an order of its own: a stream of a run.
type castSource struct {
	run  uint64
	kind sessions.Kind
}

// A cutRune is the beginning of a character whose other bytes have not come yet.
type cutRune struct {
	from  castSource
	bytes []byte
}

// output appends what a stream of a run has written.
func (c *castEncoder) output(dst []byte, at time.Time, from castSource, data []byte) []byte {
	for i := range c.cut {
		if c.cut[i].from == from {
			data = append(c.cut[i].bytes, data...)
			c.cut = append(c.cut[:i], c.cut[i+1:]...)
			break
		}
	}
	whole := len(data) - brokenRune(data)
	if whole < len(data) {
		c.cut = append(c.cut, cutRune{from, bytes.Clone(data[whole:])})
	}
	return c.show(dst, at, data[:whole])
}

// rest appends, as they are, the beginnings of characters that nothing will complete any
// more: those of one run.
func (c *castEncoder) rest(dst []byte, at time.Time, run uint64) []byte {
	kept := c.cut[:0]
	for _, r := range c.cut {
		if r.from.run == run {
			dst = c.show(dst, at, r.bytes)
		} else {
			kept = append(kept, r)
		}
	}
	c.cut = kept
	return dst
}

// restOfAll is rest for all runs.
func (c *castEncoder) restOfAll(dst []byte, at time.Time) []byte {
	for _, r := range c.cut {
		dst = c.show(dst, at, r.bytes)
	}
	c.cut = c.cut[:0]
	return dst
}

// line appends text that no command has written, which begins on a line of its own and is
// ended by a newline.
func (c *castEncoder) line(dst []byte, at time.Time, text string) []byte {
	if c.last != 0 && c.last != '\n' {
		text = "\n" + text
	}
	return c.show(dst, at, []byte(text+"\n"))
}

// reset brings the terminal into a state that does not depend on what is missing before:
// outside of any escape sequence (CAN), without colours.
func (c *castEncoder) reset(dst []byte, at time.Time) []byte {
	if c.last == 0 {
		return dst
	}
	last := c.last
	dst = c.show(dst, at, []byte("\x18\x1b[0m"))
	c.last = last // it did not move
	return dst
}

// show appends bytes for the terminal.
func (c *castEncoder) show(dst []byte, at time.Time, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	c.text = c.text[:0]
	for rest := data; len(rest) > 0; {
		size := bytes.IndexByte(rest, '\n') + 1
		if size == 0 {
			c.text = append(c.text, rest...)
			break
		}
		if size > 1 {
			c.last = rest[size-2]
		}
		c.text = append(c.text, rest[:size-1]...)
		if c.last != '\r' {
			c.text = append(c.text, '\r')
		}
		c.text = append(c.text, '\n')
		c.last = '\n'
		rest = rest[size:]
	}
	c.last = data[len(data)-1]
	return c.event(dst, at, 'o', c.text)
}

// marker appends a place that a player can go to.
func (c *castEncoder) marker(dst []byte, at time.Time, label string) []byte {
	return c.event(dst, at, 'm', []byte(label))
}

// exit appends the exit status of what was recorded, where the format has that. It comes last.
func (c *castEncoder) exit(dst []byte, at time.Time, status int) []byte {
	if c.format == castV2 {
		return dst
	}
	return c.event(dst, at, 'x', strconv.AppendInt(nil, int64(status), 10))
}

// event appends one event. Where at lies before the event before, that one's time is taken.
func (c *castEncoder) event(dst []byte, at time.Time, code byte, data []byte) []byte {
	dst = c.begin(dst, at)
	ms := max(c.ms, at.Sub(c.begun).Milliseconds())
	since := ms
	if c.format != castV2 {
		since -= c.ms // of the rounded times, so that nothing adds up
	}
	c.ms = ms
	dst = fmt.Appendf(dst, `[%d.%03d, "%c", "`, since/1000, since%1000, code)
	dst, _ = appendText(dst, data)
	return append(dst, "\"]\n"...)
}

type castHeader struct {
	Version   castFormat `json:"version"`
	Width     int        `json:"width,omitempty"`  // v2
	Height    int        `json:"height,omitempty"` // v2
	Term      *castTerm  `json:"term,omitempty"`   // v3
	Timestamp int64      `json:"timestamp"`
	IdleLimit int        `json:"idle_time_limit"`
	Title     string     `json:"title"`
}

type castTerm struct {
	Cols int `json:"cols"`
	Rows int `json:"rows"`
}

// begin appends the header, unless that has been done.
func (c *castEncoder) begin(dst []byte, at time.Time) []byte {
	if !c.begun.IsZero() {
		return dst
	}
	c.begun = at
	h := castHeader{Version: c.format, Timestamp: at.Unix(), IdleLimit: castIdle, Title: c.title}
	if c.format == castV2 {
		h.Width, h.Height = castCols, castRows
	} else {
		h.Term = &castTerm{castCols, castRows}
	}
	b, _ := json.Marshal(h) // cannot fail: numbers and a string
	return append(append(dst, b...), '\n')
}
