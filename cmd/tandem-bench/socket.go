package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The opcodes of WebSocket frames.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// A wsConn is a client's WebSocket that does what measuring needs and no more: messages
// are single frames, and the payload is handed out where it was read to.
type wsConn struct {
	wire *wire
	out  []byte
}

// dialWS connects. protocol "" asks for none.
func dialWS(addr, path, protocol string, buffer int) (*wsConn, error) {
	w, err := dial(addr, buffer)
	if err != nil {
		return nil, err
	}
	ws := &wsConn{wire: w}
	if err := ws.handshake(addr, path, protocol); err != nil {
		ws.close()
		return nil, fmt.Errorf("WebSocket %s: %w", path, err)
	}
	return ws, nil
}

func (ws *wsConn) handshake(addr, path, protocol string) error {
	key := make([]byte, 16)
	_, _ = rand.Read(key) // never fails
	request := "GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.StdEncoding.EncodeToString(key) + "\r\n"
	if protocol != "" {
		request += "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	if _, err := io.WriteString(ws.wire.c, request+"\r\n"); err != nil {
		return err
	}
	line, err := ws.wire.line()
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 101")) {
		return fmt.Errorf("server answered %q", line)
	}
	for len(line) > 0 {
		if line, err = ws.wire.line(); err != nil {
			return err
		}
	}
	return nil
}

func (ws *wsConn) close() { _ = ws.wire.c.Close() }

// next returns the next message. Pings are answered on the way. The payload is good until
// the next call.
func (ws *wsConn) next() (op byte, payload []byte, err error) {
	for {
		op, payload, err = ws.frame()
		if err != nil {
			return 0, nil, err
		}
		switch op {
		case opText, opBinary:
			return op, payload, nil
		case opPing:
			if err := ws.send(opPong, nil, payload); err != nil {
				return 0, nil, err
			}
		case opClose:
			return 0, nil, closedBy(payload)
		case opPong:
		default:
			return 0, nil, fmt.Errorf("frame with opcode %d", op)
		}
	}
}

func closedBy(payload []byte) error {
	if len(payload) < 2 {
		return errors.New("server closed the WebSocket")
	}
	return fmt.Errorf("server closed the WebSocket: %d %s", binary.BigEndian.Uint16(payload), payload[2:])
}

const (
	finBit  = 0x80
	maskBit = 0x80

	// maxFrame is more than any server here sends in one.
	maxFrame = 64 << 20
)

// frame reads one frame.
func (ws *wsConn) frame() (op byte, payload []byte, err error) {
	h, err := ws.wire.exactly(2)
	if err != nil {
		return 0, nil, err
	}
	op, n := h[0]&^finBit, int(h[1])
	if h[0]&finBit == 0 || op == opContinuation || n&maskBit != 0 {
		return 0, nil, fmt.Errorf("frame in parts or masked: %x", h)
	}
	switch n {
	case 126:
		if h, err = ws.wire.exactly(2); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint16(h))
	case 127:
		if h, err = ws.wire.exactly(8); err != nil {
			return 0, nil, err
		}
		long := binary.BigEndian.Uint64(h)
		if long > maxFrame {
			return 0, nil, fmt.Errorf("frame of %d bytes", long)
		}
		n = int(long)
	}
	payload, err = ws.wire.exactly(n)
	return op, payload, err
}

// send sends one frame, whose payload is in two parts. It is masked with zeros: that is as
// much work for the server as any mask.
func (ws *wsConn) send(op byte, head, tail []byte) error {
	n := len(head) + len(tail)
	ws.out = append(ws.out[:0], finBit|op)
	switch {
	case n < 126:
		ws.out = append(ws.out, maskBit|byte(n))
	case n < 1<<16:
		ws.out = binary.BigEndian.AppendUint16(append(ws.out, maskBit|126), uint16(n))
	default:
		ws.out = binary.BigEndian.AppendUint64(append(ws.out, maskBit|127), uint64(n))
	}
	ws.out = append(ws.out, 0, 0, 0, 0)
	ws.out = append(append(ws.out, head...), tail...)
	_, err := ws.wire.c.Write(ws.out)
	return err
}
