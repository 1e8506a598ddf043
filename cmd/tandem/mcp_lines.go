package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"

	"tandem/sessions"
)

// maxAgentLine is the longest message taken from an agent host: code or input of the largest
// size, each byte of it written as an escape of two, and the rest.
const maxAgentLine = 2*sessions.MaxCode + 1<<20

// The error codes of JSON-RPC 2.0, section 5.1.
const (
	rpcParseError     = -32700
	rpcInvalidRequest = -32600
)

// An agentLines passes the messages of an agent host on, a line each, and answers those itself
// that are none: the library would end the connection over them, and with it the session.
type agentLines struct {
	in   *bufio.Reader
	out  io.Writer
	line []byte // not passed on yet
}

func (a *agentLines) Read(p []byte) (int, error) {
	for len(a.line) == 0 {
		line, err := readLine(a.in, maxAgentLine)
		switch fault := checkAgentLine(line, err); {
		case fault != nil:
			if _, err := a.out.Write(fault); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
		case len(bytes.TrimSpace(line)) > 0:
			a.line = line
		}
	}
	n := copy(p, a.line)
	a.line = a.line[n:]
	return n, nil
}

func (*agentLines) Close() error { return nil }

var errLongLine = errors.New("line too long")

// readLine returns the next line with its end, or errLongLine once it has read one that is
// longer than most to its end. What comes before the end of the input is a line too.
func readLine(r *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if long = long || len(line)+len(part) > most; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return append(line, '\n'), nil
		case err != nil:
			return nil, err
		case long:
			return nil, errLongLine
		default:
			return line, nil
		}
	}
}

// checkAgentLine returns the answer to a line that is no message of JSON-RPC, else nil.
func checkAgentLine(line []byte, err error) []byte {
	if errors.Is(err, errLongLine) {
		return rpcFault(nil, rpcInvalidRequest, fmt.Sprintf("the message is longer than %d bytes", maxAgentLine))
	}
	if err != nil || len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	if !utf8.Valid(line) || !json.Valid(line) {
		return rpcFault(nil, rpcParseError, "a message is one JSON object in UTF-8 on a line of its own")
	}
	var m struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Method  *string         `json:"method"`
		Result  json.RawMessage `json:"result"`
		Error   json.RawMessage `json:"error"`
	}
	if json.Unmarshal(line, &m) != nil || m.Version != "2.0" {
		return rpcFault(m.ID, rpcInvalidRequest, `a message is an object with "jsonrpc":"2.0"; several at a time are not taken`)
	}
	if len(m.ID) > 0 && !isRPCID(m.ID) {
		return rpcFault(nil, rpcInvalidRequest, `"id" must be a string or a whole number`)
	}
	if m.Method == nil && (m.Result == nil && m.Error == nil || len(m.ID) == 0) {
		return rpcFault(m.ID, rpcInvalidRequest, `a message has a "method", or a "result" or "error" for an "id"`)
	}
	return nil
}

// isRPCID reports whether a request can be called by this.
func isRPCID(id json.RawMessage) bool {
	var text string
	var number int64
	return string(id) != "null" && (json.Unmarshal(id, &text) == nil || json.Unmarshal(id, &number) == nil)
}

func rpcFault(id json.RawMessage, code int, message string) []byte {
	if !isRPCID(id) {
		id = json.RawMessage("null")
	}
	// Cannot fail: an id that is one is valid JSON.
	b, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": code, "message": message}})
	return append(b, '\n')
}

// A sharedWriter is written to by several, each in one piece. It is not closed with a connection.
type sharedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *sharedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

func (*sharedWriter) Close() error { return nil }
