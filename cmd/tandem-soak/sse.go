package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// An sseEvent is one server-sent event.
type sseEvent struct {
	id   uint64
	data []byte
}

// An sseReader reads an event stream.
type sseReader struct{ lines *bufio.Reader }

func newSSEReader(r io.Reader) *sseReader { return &sseReader{bufio.NewReaderSize(r, 64<<10)} }

// next returns the next event that has data; io.EOF means that the stream ended between
// two events.
func (r *sseReader) next() (sseEvent, error) {
	var e sseEvent
	begun := false
	for {
		line, err := r.lines.ReadBytes('\n')
		if err == io.EOF && (begun || len(line) > 0) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return e, err
		}
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) == 0 {
			if e.data != nil {
				return e, nil
			}
			begun = false
			continue
		}
		begun = true
		if err := e.field(line); err != nil {
			return e, err
		}
	}
}

func (e *sseEvent) field(line []byte) error {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "id":
		id, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			return fmt.Errorf("id of an event: %w", err)
		}
		e.id = id
	case "data":
		if e.data != nil {
			e.data = append(e.data, '\n')
		}
		e.data = append(e.data, value...)
	}
	return nil
}

// A runEvent is an event in the stream of a run.
type runEvent struct {
	Type    string  `json:"type"`
	Text    string  `json:"text"`
	RunID   string  `json:"run_id"`
	Base64  *string `json:"base64"`
	Newline *bool   `json:"newline"`
	Error   *struct {
		EName  string `json:"ename"`
		EValue string `json:"evalue"`
	} `json:"error"`
	Timestamp *int64 `json:"timestamp"`
}

// bytes are the original bytes of an event of output.
func (e *runEvent) bytes() ([]byte, error) {
	b := []byte(e.Text)
	if e.Base64 != nil {
		var err error
		if b, err = base64.StdEncoding.DecodeString(*e.Base64); err != nil {
			return nil, err
		}
	}
	if e.Newline == nil || *e.Newline {
		b = append(b, '\n')
	}
	return b, nil
}

// reasons is what the enames of error events stand for.
var reasons = map[string]string{
	"CommandExecError": "exited", "CommandTimeout": "timed_out", "CommandInterrupted": "interrupted",
	"ShellExited": "shell_exited", "CommandCanceled": "canceled", "SessionClosed": "session_closed", "InvalidCwd": "refused",
}

// end is the outcome that an event of type error tells.
func (e *runEvent) end() (outcome, error) {
	if e.Error == nil {
		return outcome{}, fmt.Errorf("an error event without an error")
	}
	reason, ok := reasons[e.Error.EName]
	if !ok {
		return outcome{}, fmt.Errorf("unknown ename %q", e.Error.EName)
	}
	if e.Error.EValue == "" || reason == "refused" {
		return outcome{reason, noCode}, nil
	}
	code, err := strconv.Atoi(e.Error.EValue)
	return outcome{reason, code}, err
}

// A runStream is the event stream of a run, and what has come of it.
type runStream struct {
	events *sseReader
	last   uint64
	count  int
	result result
}

// step reads one event. It fails with io.EOF where the stream ends as it must: after the
// event that ends the run.
func (s *runStream) step() error {
	e, err := s.events.next()
	if err == io.EOF && !s.result.ended {
		return fmt.Errorf("the stream ended before the run: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return err
	}
	if s.result.ended {
		return fmt.Errorf("an event after the end of the run: %.200s", e.data)
	}
	if e.id < s.last {
		return fmt.Errorf("event %d after event %d", e.id, s.last)
	}
	s.last = e.id
	s.count++
	var v runEvent
	if err := json.Unmarshal(e.data, &v); err != nil {
		return fmt.Errorf("event %.200q: %w", e.data, err)
	}
	if v.Timestamp == nil {
		return fmt.Errorf("event without a timestamp: %.200s", e.data)
	}
	if s.count == 1 && v.Type != "init" {
		return fmt.Errorf("the first event is %q, not init", v.Type)
	}
	return s.take(&v)
}

func (s *runStream) take(v *runEvent) (err error) {
	r := &s.result
	switch v.Type {
	case "init":
		r.runID = v.RunID
	case "stdout", "stderr":
		b, err := v.bytes()
		if err != nil {
			return err
		}
		if v.Type == "stdout" {
			r.stdout = append(r.stdout, b...)
		} else {
			r.stderr = append(r.stderr, b...)
		}
	case "execution_complete":
		r.end, r.ended = exited(0), true
	case "error":
		r.ended = true
		r.end, err = v.end()
		if err == nil && r.end == exited(0) {
			err = fmt.Errorf("exit code 0 told as an error")
		}
	case "gap":
		r.truncated = true
	case "ping":
	default:
		return fmt.Errorf("unknown event %q", v.Type)
	}
	return err
}

// all reads to the end.
func (s *runStream) all() error {
	for {
		if err := s.step(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
