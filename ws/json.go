package ws

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"tandem/sessions"
)

// These append a field each, to an object that appendType has begun and that its caller
// ends. They do not allocate, but for b.

func appendType(b []byte, typ string) []byte {
	b = append(b, `{"type":"`...)
	return append(append(b, typ...), '"')
}

func appendKey(b []byte, key string) []byte {
	b = append(b, ',', '"')
	return append(append(b, key...), '"', ':')
}

func appendNum(b []byte, key string, n uint64) []byte {
	return strconv.AppendUint(appendKey(b, key), n, 10)
}

func appendStr(b []byte, key, value string) []byte {
	return appendQuoted(appendKey(b, key), value)
}

func appendPos(b []byte, pos *uint64) []byte {
	if pos == nil {
		return b
	}
	return appendNum(b, "pos", *pos)
}

func appendRef(b []byte, ref *string) []byte {
	if ref == nil {
		return b
	}
	return appendStr(b, "ref", *ref)
}

func appendCode(b []byte, run *sessions.RunInfo) []byte {
	b = appendStr(b, "code", run.Code)
	if run.CodeTruncated {
		b = append(b, `,"code_truncated":true`...)
	}
	return b
}

// appendQuoted appends a JSON string. What is not UTF-8 in it, a directory's name perhaps,
// becomes U+FFFD.
func appendQuoted(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	return append(appendEscaped(append(b, '"'), s), '"')
}

const hex = "0123456789abcdef"

// appendEscaped appends the inside of a JSON string; s must be UTF-8. U+0085, U+2028 and
// U+2029 are escaped too, because the messages also travel in lines of text, and there are
// readers that end a line at these.
func appendEscaped[T string | []byte](b []byte, s T) []byte {
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c != 0xc2 && c != 0xe2 {
			continue
		}
		var r rune
		n := 1
		switch {
		case c == 0xc2:
			if i+1 >= len(s) || s[i+1] != 0x85 {
				continue
			}
			r, n = 0x85, 2
		case c == 0xe2:
			if i+2 >= len(s) || s[i+1] != 0x80 || s[i+2]&^1 != 0xa8 {
				continue
			}
			r, n = 0x2028+rune(s[i+2]&1), 3
		default:
			r = rune(c)
		}
		b = append(b, s[start:i]...)
		b = appendEscape(b, r)
		i += n - 1
		start = i + 1
	}
	return append(b, s[start:]...)
}

func appendEscape(b []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(b, '\\', byte(r))
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
