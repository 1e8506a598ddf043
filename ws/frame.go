package ws

import (
	"encoding/binary"
	"net"
	"runtime"
	"syscall"
	"time"
)

// The opcodes of the frames that are written here, with the bit that says final.
const (
	opText   = 0x81
	opBinary = 0x82
	opPing   = 0x89
	opPong   = 0x8a
)

// appendFrameHeader appends what precedes a payload of n bytes in a server's frame, which
// is never masked. Frames are written here rather than by the library because many then
// take one system call, and because whoever writes can then ping without waiting for the
// pong and answer a ping when it gets to it.
func appendFrameHeader(b []byte, op byte, n int) []byte {
	switch {
	case n < 126:
		return append(b, op, byte(n))
	case n < 1<<16:
		return append(b, op, 126, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint64(append(b, op, 127), uint64(n))
}

// tune sets what a connection needs of its socket. It is a matter of degree: failing is no
// harm, and elsewhere than on Linux nothing is done.
//
// unsent bounds what the kernel holds that has not been sent yet. It would otherwise hold
// megabytes before a write blocks, so that a direct answer waits behind them, and let a
// blocked one go on only when a third of them is gone, which for a slow client is longer
// than the stall limit. silence is how long what was sent may stay unacknowledged by the
// peer's system: it ends connections on which nothing is read at present.
func tune(nc net.Conn, unsent int, silence time.Duration) {
	const (
		tcpUserTimeout  = 18
		tcpNotSentLowat = 25
	)
	for {
		outer, ok := nc.(interface{ NetConn() net.Conn }) // as TLS connections have it
		if !ok {
			break
		}
		nc = outer.NetConn()
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok || runtime.GOOS != "linux" {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, unsent)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(silence.Milliseconds()))
	})
}
