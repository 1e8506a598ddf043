package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"tandem/ws"
)

const (
	// keptOutput is how much output one answer has: what a model can read at a time.
	keptOutput = 64 << 10

	// pieceCost is what a change between stdout and stderr counts as, in bytes: it takes a
	// piece of its own, so that output which changes with each byte is bounded too.
	pieceCost = 32
)

// A chunk is a stretch of output as it came.
type chunk struct {
	stream string
	data   []byte
	pos    uint64 // of its first byte
}

func (c chunk) end() uint64 { return c.pos + uint64(len(c.data)) }

// A kept is what of a run's output goes into one answer: its beginning and its end, or with
// whole, as much from its beginning as there is room for. One goroutine adds and takes the
// pieces; soFar may be called from another.
type kept struct {
	whole bool

	head, tail         []chunk
	headSize, tailSize int // with the cost of pieces
	dropped            uint64

	mu     sync.Mutex
	total  uint64 // bytes that came
	recent []byte // the last of them
}

// add takes a chunk, and returns how many bytes of it: fewer than there are when there is no
// room for more, and only with whole.
func (k *kept) add(stream string, data []byte, pos uint64) int {
	room := keptOutput
	if !k.whole {
		room /= 2
	}
	n := 0
	if len(k.tail) == 0 {
		n = k.addHead(stream, data, pos, room)
	}
	if !k.whole && n < len(data) {
		k.addTail(stream, data[n:], pos+uint64(n), room)
		n = len(data)
	}
	k.note(data[:n])
	return n
}

func (k *kept) addHead(stream string, data []byte, pos uint64, room int) int {
	cost := costAfter(k.head, stream)
	n := len(data)
	if left := max(0, room-k.headSize-cost); n > left {
		n = wholeRunes(data[:left])
	}
	if n > 0 {
		k.head = append(k.head, chunk{stream, bytes.Clone(data[:n]), pos})
		k.headSize += cost + n
	}
	return n
}

func (k *kept) addTail(stream string, data []byte, pos uint64, room int) {
	cost := costAfter(k.tail, stream)
	k.tail = append(k.tail, chunk{stream, bytes.Clone(data), pos})
	k.tailSize += cost + len(data)
	for k.tailSize > room {
		oldest := &k.tail[0]
		cut := min(k.tailSize-room, len(oldest.data))
		for cut < len(oldest.data) && !utf8.RuneStart(oldest.data[cut]) {
			cut++
		}
		oldest.data, oldest.pos = oldest.data[cut:], oldest.pos+uint64(cut)
		k.dropped += uint64(cut)
		k.tailSize -= cut
		if len(oldest.data) > 0 {
			continue
		}
		if k.tail = k.tail[1:]; len(k.tail) > 0 && k.tail[0].stream != oldest.stream {
			k.tailSize -= pieceCost
		}
	}
}

// costAfter is what a chunk costs beside its bytes.
func costAfter(chunks []chunk, stream string) int {
	if len(chunks) > 0 && chunks[len(chunks)-1].stream == stream {
		return 0
	}
	return pieceCost
}

// note keeps what soFar tells.
func (k *kept) note(data []byte) {
	const most = 400
	k.mu.Lock()
	defer k.mu.Unlock()
	k.total += uint64(len(data))
	k.recent = append(k.recent, data[max(0, len(data)-most):]...)
	k.recent = append([]byte(nil), k.recent[max(0, len(k.recent)-most):]...)
}

// soFar tells how many bytes have come, and the last line of them.
func (k *kept) soFar() (total uint64, line string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	text := bytes.TrimSpace(k.recent)
	text = text[bytes.LastIndexAny(text, "\r\n")+1:]
	return k.total, oneLine(string(bytes.ToValidUTF8(text, []byte("\ufffd"))), 160)
}

// wholeRunes is the length of p without a character at its end whose rest is missing.
func wholeRunes(p []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(p); back++ {
		c := p[len(p)-back:]
		if utf8.RuneStart(c[0]) {
			if !utf8.FullRune(c) {
				return len(p) - back
			}
			break
		}
	}
	return len(p)
}

// holdBack leaves a character whose rest is still to come to the next answer, and returns the
// position where that is to begin: 0 if there is none.
func (k *kept) holdBack() uint64 {
	chunks := k.head
	if len(k.tail) > 0 {
		chunks = k.tail
	}
	if len(chunks) == 0 {
		return 0
	}
	last := &chunks[len(chunks)-1]
	n := wholeRunes(last.data)
	if n == len(last.data) {
		return 0
	}
	last.data = last.data[:n]
	return last.end()
}

// A piece is a stretch of output in an answer.
type piece struct {
	Stream  string `json:"stream" jsonschema:"stdout or stderr; or omitted, where this answer leaves output out"`
	Text    string `json:"text,omitempty" jsonschema:"the output"`
	Base64  string `json:"base64,omitempty" jsonschema:"the same, exactly: only where the bytes are not UTF-8, and text has U+FFFD in their place"`
	Omitted uint64 `json:"omitted_bytes,omitempty" jsonschema:"how many bytes are left out here"`
	From    uint64 `json:"from,omitempty" jsonschema:"the position to give read_output as after to have them"`
}

// pieces returns what was kept, in order.
func (k *kept) pieces() []piece {
	list := appendPieces([]piece{}, k.head)
	if k.dropped > 0 {
		list = append(list, piece{Stream: "omitted", Omitted: k.dropped, From: k.head[len(k.head)-1].end()})
		return appendPieces(list, k.tail)
	}
	return appendPieces([]piece{}, append(k.head[:len(k.head):len(k.head)], k.tail...))
}

// appendPieces makes one piece of all chunks in a row that are of one stream.
func appendPieces(list []piece, chunks []chunk) []piece {
	for len(chunks) > 0 {
		stream := chunks[0].stream
		var data []byte
		for len(chunks) > 0 && chunks[0].stream == stream {
			data, chunks = append(data, chunks[0].data...), chunks[1:]
		}
		if len(data) > 0 {
			p := piece{Stream: stream}
			p.Text, p.Base64 = textOf(data)
			list = append(list, p)
		}
	}
	return list
}

// readable is output as a model reads it best: as it is, but that stderr is marked, and what
// is not there is told.
func readable(list []piece) string {
	var b strings.Builder
	for _, p := range list {
		switch p.Stream {
		case "omitted":
			fmt.Fprintf(&b, "\n[%d bytes are left out here: read_output with after=%d has them]\n", p.Omitted, p.From)
		case ws.TypeStderr:
			fmt.Fprintf(&b, "<stderr>\n%s</stderr>\n", endLine(p.Text))
		default:
			b.WriteString(p.Text)
		}
		if p.Base64 != "" {
			fmt.Fprintf(&b, "\n[the %s above is not UTF-8: U+FFFD stands for what is not; the structured content has it as base64]\n", p.Stream)
		}
	}
	return b.String()
}

func endLine(text string) string {
	if strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}
