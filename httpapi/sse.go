package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"unicode/utf8"

	"tandem/sessions"
)

// maxText is how many bytes of a line one event carries at most; a longer line becomes
// several events. Written as six-byte escapes and once more as base64 that stays under
// 1 MiB, and clients are known to give up on an event of 4.
const maxText = 128 << 10

// startStream commits to an answer of server-sent events.
func startStream(w http.ResponseWriter) {
	maps.Copy(w.Header(), streamHeader)
	w.WriteHeader(http.StatusOK)
}

// streamHeader is the same for all, and so are its values, which nobody changes in place.
var streamHeader = http.Header{
	"Content-Type":           {"text/event-stream"},
	"Cache-Control":          {"no-cache"},
	"X-Accel-Buffering":      {"no"},
	"X-Content-Type-Options": {"nosniff"},
}

// appendEvent appends one event whose data is v as JSON. It is for the rare ones.
func appendEvent(dst []byte, id uint64, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return dst, fmt.Errorf("encode event: %w", err)
	}
	dst = appendID(dst, id)
	start := len(dst)
	dst = append(dst, data...)
	return append(escapeBreaks(dst, start), "\n\n"...), nil
}

func appendID(dst []byte, id uint64) []byte {
	dst = append(dst, "id: "...)
	dst = strconv.AppendUint(dst, id, 10)
	return append(dst, "\ndata: "...)
}

// appendStamp ends an event with the moment it tells of, in ms.
func appendStamp(dst []byte, ms int64) []byte {
	dst = append(dst, `,"timestamp":`...)
	dst = strconv.AppendInt(dst, ms, 10)
	return append(dst, "}\n\n"...)
}

// escapeBreaks writes the line breaks of Unicode in the JSON dst[start:] as escapes. Some
// clients split the stream at them. In JSON they can only be inside a string.
func escapeBreaks(dst []byte, start int) []byte {
	const nel, ls, ps = "\u0085", "\u2028", "\u2029"
	tail := dst[start:]
	if !bytes.Contains(tail, []byte(nel)) && !bytes.Contains(tail, []byte(ls)) && !bytes.Contains(tail, []byte(ps)) {
		return dst
	}
	tail = bytes.ReplaceAll(tail, []byte(nel), []byte(`\u0085`))
	tail = bytes.ReplaceAll(tail, []byte(ls), []byte(`\u2028`))
	tail = bytes.ReplaceAll(tail, []byte(ps), []byte(`\u2029`))
	return append(dst[:start], tail...)
}

// A lineEncoder turns output into one event for each line. It works without reflection
// and without allocating, since a flood of short lines is what a server like this is
// measured by.
//
// What it was given can always be rebuilt: every event is its base64, or else its text,
// and a newline unless it says "newline":false. Events come in the order of the journal
// and none is ever held back behind a later one, so the id of an event, the position after
// its bytes, is one to go on from.
type lineEncoder struct {
	kind  sessions.Kind // of the line begun
	begun []byte        // a line whose newline has not come yet, at most maxText of it
	end   uint64        // position after it

	stamp int64  // ms, of what was given last
	tail  []byte // the end of an event with that stamp
}

// output appends the events for data, output of kind from pos on, recorded at ms. What
// follows the last newline is kept until more comes or rest is called.
func (l *lineEncoder) output(dst []byte, kind sessions.Kind, pos uint64, ms int64, data []byte) []byte {
	if len(l.begun) > 0 && (kind != l.kind || pos != l.end) {
		dst = l.rest(dst)
	}
	l.setStamp(ms)
	l.kind, l.end = kind, pos+uint64(len(data))
	for len(data) > 0 {
		line, size := data, len(data)
		newline := bytes.IndexByte(data, '\n')
		if newline >= 0 {
			line, size = data[:newline], newline+1
		}
		if room := maxText - len(l.begun); len(line) > room {
			cut := wholeRunes(line, room)
			l.begun = append(l.begun, line[:cut]...)
			pos += uint64(cut)
			data = data[cut:]
			dst = l.event(dst, pos, l.begun, false)
			l.begun = l.begun[:0]
			continue
		}
		pos += uint64(size)
		data = data[size:]
		if len(l.begun) > 0 || newline < 0 {
			l.begun = append(l.begun, line...)
			line = l.begun
		}
		if newline >= 0 {
			dst = l.event(dst, pos, line, true)
			l.begun = l.begun[:0]
		}
	}
	return dst
}

// rest appends what is left of a line without its newline, as it is.
func (l *lineEncoder) rest(dst []byte) []byte {
	if len(l.begun) > 0 {
		dst = l.event(dst, l.end, l.begun, false)
		l.begun = l.begun[:0]
	}
	return dst
}

// restOfRunes is rest, except that it keeps the first bytes of a character whose others
// may be on their way.
func (l *lineEncoder) restOfRunes(dst []byte) []byte {
	kept := brokenRune(l.begun)
	if whole := len(l.begun) - kept; whole > 0 {
		dst = l.event(dst, l.end-uint64(kept), l.begun[:whole], false)
		l.begun = append(l.begun[:0], l.begun[whole:]...)
	}
	return dst
}

// wholeRunes is the largest n up to limit such that line[:n] ends between two characters,
// or limit where there is none near. The line is longer than limit.
func wholeRunes(line []byte, limit int) int {
	for n := limit; n > limit-utf8.UTFMax && n >= 0; n-- {
		if utf8.RuneStart(line[n]) {
			return n
		}
	}
	return limit
}

// brokenRune is the number of bytes at the end of b that begin a character they do not
// complete.
func brokenRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if last := b[len(b)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}

func (l *lineEncoder) setStamp(ms int64) {
	if ms == l.stamp && len(l.tail) > 0 {
		return
	}
	l.stamp = ms
	l.tail = appendStamp(l.tail[:0], ms)
}

// event appends one event with the id pos.
func (l *lineEncoder) event(dst []byte, pos uint64, line []byte, newline bool) []byte {
	dst = appendID(dst, pos)
	if l.kind == sessions.Stderr {
		dst = append(dst, `{"type":"stderr","text":"`...)
	} else {
		dst = append(dst, `{"type":"stdout","text":"`...)
	}
	dst, whole := appendText(dst, line)
	dst = append(dst, '"')
	if !whole {
		dst = append(dst, `,"base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, line)
		dst = append(dst, '"')
	}
	if !newline {
		dst = append(dst, `,"newline":false`...)
	}
	return append(dst, l.tail...)
}

// appendText appends text as the inside of a JSON string and reports whether all of it was
// UTF-8. What is not becomes U+FFFD.
func appendText(dst, text []byte) (_ []byte, whole bool) {
	whole = true
	plain := 0 // text[plain:i] needs no escape and has not been appended
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		size, escape := 1, ""
		if c < utf8.RuneSelf {
			escape = escapeASCII(c)
		} else {
			var r rune
			r, size = utf8.DecodeRune(text[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				escape, whole = "\ufffd", false
			case r == '\u0085':
				escape = `\u0085`
			case r == '\u2028':
				escape = `\u2028`
			case r == '\u2029':
				escape = `\u2029`
			}
		}
		if escape != "" {
			dst = append(append(dst, text[plain:i]...), escape...)
			if escape == `\u00` {
				dst = append(dst, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
			}
			plain = i + size
		}
		i += size
	}
	return append(dst, text[plain:]...), whole
}

// escapeASCII is the escape of a character that JSON does not allow to stand for itself;
// where it ends in \u00 the two digits of c are missing.
func escapeASCII(c byte) string {
	switch c {
	case '"':
		return `\"`
	case '\\':
		return `\\`
	case '\t':
		return `\t`
	case '\r':
		return `\r`
	case '\n':
		return `\n`
	case '\b':
		return `\b`
	case '\f':
		return `\f`
	}
	return `\u00`
}
