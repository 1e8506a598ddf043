package ws

import (
	"bytes"
	"fmt"
	"testing"

	"tandem/sessions"
)

// BenchmarkFrame is a piece of output on its way into a connection's buffer, as a frame of
// either protocol: an echo, and half of what one write takes.
func BenchmarkFrame(b *testing.B) {
	line := append(bytes.Repeat([]byte("x"), 63), '\n')
	for _, protocol := range []string{"binary", "json"} {
		for _, size := range []int{len(line), writeSize / 2} {
			b.Run(fmt.Sprintf("%s/%dB", protocol, size), func(b *testing.B) {
				// The buffer has room enough, so that nothing is written.
				c := &conn{out: outbound{buf: make([]byte, 0, keepBuffer)}}
				c.out.enc.learn(&sessions.RunInfo{Number: 1, ID: "3f0e3a52-6b1c-4b86-9d0e-0d8a1f5f2c11"})
				add := c.addBinary
				if protocol == "json" {
					add = c.addText
				}
				entries := []sessions.Entry{{Pos: 12345678, Kind: sessions.Stdout, Run: 1, Data: bytes.Repeat(line, size/len(line))}}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					c.out.buf = c.out.buf[:0]
					if err := add(entries); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
