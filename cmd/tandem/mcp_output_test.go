package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"tandem/ws"
)

// Whatever comes in whatever chunks: an answer has the beginning and the end of it, the true
// number of what is between, and stays within its bounds.
func TestKeptOutput(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		var k kept
		all, streams := feedKept(r, func(stream string, data []byte, pos uint64) {
			if n := k.add(stream, data, pos); n != len(data) {
				t.Fatalf("seed %d: %d of %d bytes were taken", seed, n, len(data))
			}
		})
		list := k.pieces()
		if total, _ := k.soFar(); total != uint64(len(all)) {
			t.Errorf("seed %d: %d bytes so far, want %d", seed, total, len(all))
		}
		before, after, omitted, cut := bytes.Buffer{}, bytes.Buffer{}, uint64(0), false
		for _, p := range list {
			switch {
			case p.Stream == "omitted":
				omitted, cut = p.Omitted, true
			case cut:
				after.Write(exactly(t, p))
			default:
				before.Write(exactly(t, p))
			}
		}
		kept := before.Len() + after.Len()
		if uint64(kept)+omitted != uint64(len(all)) || !bytes.HasPrefix(all, before.Bytes()) || !bytes.HasSuffix(all, after.Bytes()) {
			t.Errorf("seed %d: %d and %d bytes, %d omitted, of %d", seed, before.Len(), after.Len(), omitted, len(all))
		}
		if kept > keptOutput || cut && !streams && kept < keptOutput-2*pieceCost-2*utf8.UTFMax {
			t.Errorf("seed %d: %d bytes were kept", seed, kept)
		}
		if data, err := json.Marshal(list); err != nil || len(data) > 16*keptOutput {
			t.Errorf("seed %d: an answer of %d bytes, %v", seed, len(data), err)
		}
	}
}

// feedKept makes output at random, of both streams or of one, and returns all of it.
func feedKept(r *rand.Rand, add func(stream string, data []byte, pos uint64)) (all []byte, streams bool) {
	pos := uint64(0)
	streams = r.IntN(2) == 0
	size := []int{1, 10, 1000, 100_000}[r.IntN(4)]
	want := r.IntN(3 * keptOutput)
	if size == 1 {
		want /= 8
	}
	for len(all) < want {
		var data []byte
		for n := 1 + r.IntN(size); len(data) < n; {
			data = utf8.AppendRune(data, []rune("aé€😀\n")[r.IntN(5)])
		}
		stream := ws.TypeStdout
		if streams && r.IntN(2) == 0 {
			stream = ws.TypeStderr
		}
		add(stream, data, pos)
		all = append(all, data...)
		pos += uint64(len(data) + r.IntN(3)) // others' output lies between
	}
	return all, streams
}

func exactly(t *testing.T, p piece) []byte {
	t.Helper()
	if p.Base64 == "" {
		return []byte(p.Text)
	}
	data, err := base64.StdEncoding.DecodeString(p.Base64)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Answers that go on where the last one ended have everything once, and no character is cut
// in two where the pieces of output are of one stream.
func TestKeptWhole(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		k, got, answers := kept{whole: true}, []byte(nil), 1
		take := func() {
			for _, p := range k.pieces() {
				if p.Base64 != "" || p.Stream == "omitted" {
					t.Fatalf("seed %d: %+v", seed, p)
				}
				got = append(got, p.Text...)
			}
		}
		all, _ := feedKept(r, func(stream string, data []byte, pos uint64) {
			for {
				n := k.add(stream, data, pos)
				if data, pos = data[n:], pos+uint64(n); len(data) == 0 {
					return
				}
				take()
				k, answers = kept{whole: true}, answers+1
			}
		})
		take()
		if !bytes.Equal(got, all) || answers > 1+12*len(all)/keptOutput+1 && len(all) > keptOutput {
			t.Errorf("seed %d: %d bytes in %d answers, want %d", seed, len(got), answers, len(all))
		}
	}
}

// A character of which a part has come is left to the next answer.
func TestHoldBack(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 0, "abc": 3, "é": 2, "aé"[:2]: 1, "a€"[:3]: 1, "a😀"[:4]: 1, "a😀": 5, "\xff": 1, "a\x80\x80\x80\x80": 5} {
		var k kept
		if len(text) > 0 {
			k.add(ws.TypeStdout, []byte(text), 100)
		}
		next, got := k.holdBack(), ""
		for _, p := range k.pieces() {
			got += string(exactly(t, p))
		}
		if got != text[:want] || next != 0 && next != uint64(100+want) || (next == 0) != (want == len(text)) {
			t.Errorf("%q: %q, next %d", text, got, next)
		}
	}
}

func TestSoFar(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "one": "one", "one\ntwo\n": "two", "10%\r20%\r": "20%", "a\n\n\n": "a", "x\xff": "x\ufffd", strings.Repeat("y", 900): strings.Repeat("y", 159) + "…",
	} {
		var k kept
		for i := range len(in) {
			k.add(ws.TypeStdout, []byte(in[i:i+1]), uint64(i))
		}
		if _, got := k.soFar(); got != want || !utf8.ValidString(got) {
			t.Errorf("%.20q: %q, want %q", in, got, want)
		}
	}
}
