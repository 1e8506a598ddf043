package ws

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"tandem/sessions"
)

const (
	// maxServerMessage is the largest message a Client takes.
	maxServerMessage = 64 << 20

	// silenceLimit is how long a server may say nothing while Next waits: it pings a silent
	// client every 20 s.
	silenceLimit = 50 * time.Second
)

// DialOptions say how to dial. The zero value, like nil, is ProtocolBinary without a token.
type DialOptions struct {
	Token      string       // sent as Authorization: Bearer
	JSON       bool         // ask for ProtocolJSON
	Header     http.Header  // further headers
	HTTPClient *http.Client // nil: http.DefaultClient
}

// A RefusedError is what the server said instead of upgrading, or in a message of type
// error.
type RefusedError struct {
	Status  int    // HTTP status; 0 for a message
	Code    string // like CONTEXT_NOT_FOUND; "" when the answer was not one of ours
	Message string
}

func (e *RefusedError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("server answered with status %d", e.Status)
	}
	return e.Code + ": " + e.Message
}

// A Client is a connection to a session. One goroutine may call Next, and must keep doing
// so for the connection to live: pings are answered there. Everything else may be called
// from any. A context that ends during a call ends the connection.
//
// When the connection ends, Next fails and [websocket.CloseStatus] of its error is the
// close code. To go on where it ended, dial again with after=Position().
type Client struct {
	// Attached is the first message the server sent.
	Attached Message

	ws   *websocket.Conn
	life *time.Timer // cuts the connection when nothing is heard
	pos  atomic.Uint64
	read bytes.Buffer // Next's

	sendMu sync.Mutex
	buf    []byte
}

// Dial connects to the address of a session's WebSocket, or to one that creates a session,
// and waits for the server's first message. The query is the caller's to make. It fails
// with a [RefusedError] when the server refuses.
func Dial(ctx context.Context, url string, opts *DialOptions) (*Client, error) {
	if opts == nil {
		opts = &DialOptions{}
	}
	header := opts.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if opts.Token != "" {
		header.Set("Authorization", "Bearer "+opts.Token)
	}
	proto := ProtocolBinary
	if opts.JSON {
		proto = ProtocolJSON
	}
	c := &Client{}
	conn, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient: opts.HTTPClient, HTTPHeader: header, Subprotocols: []string{proto},
		OnPingReceived: func(context.Context, []byte) bool { c.life.Reset(silenceLimit); return true },
		OnPongReceived: func(context.Context, []byte) { c.life.Reset(silenceLimit) }, // of a server that is held up
	})
	if err != nil {
		return nil, refused(res, err)
	}
	conn.SetReadLimit(maxServerMessage)
	c.ws = conn
	c.life = time.AfterFunc(silenceLimit, func() { _ = conn.CloseNow() })
	if c.Attached, err = c.Next(ctx); err == nil && c.Attached.Type != TypeAttached {
		err = fmt.Errorf("first message is %q, not attached", c.Attached.Type)
	}
	if err != nil {
		conn.CloseNow()
		return nil, fmt.Errorf("attach: %w", err)
	}
	return c, nil
}

func refused(res *http.Response, err error) error {
	if res == nil {
		return fmt.Errorf("dial: %w", err)
	}
	e := &RefusedError{Status: res.StatusCode}
	if res.Body != nil {
		// Too long an answer or none of ours leaves the code empty.
		b, _ := io.ReadAll(res.Body)
		_ = json.Unmarshal(b, e)
	}
	return e
}

// Position is where to resume: everything below it has been returned by Next.
func (c *Client) Position() uint64 { return c.pos.Load() }

// Next returns the next message. It blocks until there is one, and fails when a server has
// said nothing, and has not pinged, for nearly a minute. The message's Data is good
// until the next call.
func (c *Client) Next(ctx context.Context) (Message, error) {
	c.life.Reset(silenceLimit)
	defer c.life.Stop()
	kind, r, err := c.ws.Reader(ctx)
	if err != nil {
		return Message{}, err
	}
	c.read.Reset()
	if _, err := c.read.ReadFrom(r); err != nil {
		return Message{}, err
	}
	m, err := decodeMessage(kind == websocket.MessageBinary, c.read.Bytes())
	if err != nil {
		return Message{}, err
	}
	if m.Type == TypeAttached || m.Placed {
		c.pos.Store(m.End())
	}
	return m, nil
}

// Close says goodbye, which also ends an ephemeral session, and waits a moment for the
// answer.
func (c *Client) Close() error { return c.ws.Close(websocket.StatusNormalClosure, "") }

// CloseNow cuts the connection without a goodbye.
func (c *Client) CloseNow() error { return c.ws.CloseNow() }

// A Run says what to run; only Code is required. Ref comes back in what answers it.
type Run struct {
	Ref     string
	ID      string // "": the server chooses
	Code    string
	Cwd     string
	Env     map[string]string
	Timeout time.Duration  // 0: the server's
	Stdin   sessions.Stdin // OpenStdin: streamed; TextStdin: Text and then EOF
	Text    string
}

// outgoing is a client's message on the wire.
type outgoing struct {
	Type      string            `json:"type"`
	Ref       string            `json:"ref,omitempty"`
	RunID     string            `json:"run_id,omitempty"`
	Code      string            `json:"code,omitempty"`
	Cwd       string            `json:"cwd,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	TimeoutMS int64             `json:"timeout_ms,omitempty"`
	Stdin     any               `json:"stdin,omitempty"`
	Text      *string           `json:"text,omitempty"`
	Base64    *string           `json:"base64,omitempty"`
	Offset    *uint64           `json:"offset,omitempty"`
	Force     bool              `json:"force,omitempty"`
	Signal    string            `json:"signal,omitempty"`
	Pos       *uint64           `json:"pos,omitempty"`
	Line      *string           `json:"line,omitempty"`
	Point     *int              `json:"point,omitempty"`
}

// Run asks for a run. What becomes of it is in the messages that follow.
func (c *Client) Run(ctx context.Context, r Run) error { return c.send(ctx, r.message()) }

func (r Run) message() outgoing {
	m := outgoing{Type: typeRun, Ref: r.Ref, RunID: r.ID, Code: r.Code, Cwd: r.Cwd, Env: r.Env, TimeoutMS: r.Timeout.Milliseconds()}
	switch r.Stdin {
	case sessions.OpenStdin:
		m.Stdin = true
	case sessions.TextStdin:
		m.Stdin = r.Text
	}
	return m
}

// Stdin sends bytes to the stdin of the run the server takes for the current one. The
// server reads nothing more from this client while the run has too much to read: to keep
// that from happening, stay within Attached.StdinWindow of what the stdin.ack messages say.
func (c *Client) Stdin(ctx context.Context, p []byte) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	c.buf = append(append(c.buf[:0], stdinChannel), p...)
	return c.ws.Write(ctx, websocket.MessageBinary, c.buf)
}

// StdinText sends text to a run's stdin; runID "" is as with Stdin.
func (c *Client) StdinText(ctx context.Context, runID, text string) error {
	return c.send(ctx, outgoing{Type: typeStdin, RunID: runID, Text: &text})
}

// CloseStdin ends a run's stdin; runID "" is as with Stdin.
func (c *Client) CloseStdin(ctx context.Context, ref, runID string) error {
	return c.send(ctx, outgoing{Type: typeStdinClose, Ref: ref, RunID: runID})
}

// Interrupt interrupts a run, "" meaning the one that is on.
func (c *Client) Interrupt(ctx context.Context, ref, runID string, force bool) error {
	return c.send(ctx, outgoing{Type: typeInterrupt, Ref: ref, RunID: runID, Force: force})
}

// Signal sends a signal, like SIGTERM, to what a run started, "" meaning the one that is on.
func (c *Client) Signal(ctx context.Context, ref, runID, signal string) error {
	return c.send(ctx, outgoing{Type: typeSignal, Ref: ref, RunID: runID, Signal: signal})
}

// Cancel takes a run out of the queue or ends it.
func (c *Client) Cancel(ctx context.Context, ref, runID string) error {
	return c.send(ctx, outgoing{Type: typeCancel, Ref: ref, RunID: runID})
}

// Complete asks what Tab would do to line with the cursor at point, in characters; -1 is the
// end of the line. A message of type completions answers it.
func (c *Client) Complete(ctx context.Context, ref, line string, point int) error {
	m := outgoing{Type: typeComplete, Ref: ref, Line: &line}
	if point >= 0 {
		m.Point = &point
	}
	return c.send(ctx, m)
}

// Ping asks for a pong message.
func (c *Client) Ping(ctx context.Context, ref string) error {
	return c.send(ctx, outgoing{Type: typePing, Ref: ref})
}

// Ack says that everything below pos has been dealt with. Only a connection that was
// dialed with a window needs it.
func (c *Client) Ack(ctx context.Context, pos uint64) error {
	return c.send(ctx, outgoing{Type: typeAck, Pos: &pos})
}

func (c *Client) send(ctx context.Context, m outgoing) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.Type, err)
	}
	return c.ws.Write(ctx, websocket.MessageText, data)
}

// A Message is what the server sends, in both subprotocols: Type says which fields it has.
type Message struct {
	Type string `json:"type"`
	Ref  string `json:"ref"`

	// Placed says that the message has a place in the journal, which is Pos. A run that
	// was asked for a second time may be told again without one.
	Placed bool   `json:"-"`
	Pos    uint64 `json:"-"` // also of attached, where it takes no position

	Data []byte `json:"-"` // stdout, stderr, terminal: the bytes
	Raw  []byte `json:"-"` // the message as it came, where it came as text; good until the next

	RunID     string `json:"run_id"` // of output in ProtocolJSON only
	Number    uint64 `json:"number"` // of the run; of output in ProtocolBinary only, 0 for none
	By        string `json:"by"`
	Code      string `json:"code"` // run.started: what runs; error: the error's code
	Truncated bool   `json:"code_truncated"`
	StartedAt int64  `json:"started_at"` // ms
	Ahead     int    `json:"ahead"`
	Cwd       string `json:"cwd"`

	Reason     string `json:"reason"` // run.finished, session.closed
	ExitCode   *int   `json:"exit_code"`
	Signal     string `json:"signal"`
	DurationMS int64  `json:"duration_ms"`

	SessionID   string    `json:"session_id"`
	State       string    `json:"state"`
	Role        string    `json:"role"`
	Run         *RunState `json:"run"` // attached, gap: the one running
	Oldest      uint64    `json:"oldest"`
	StdinWindow int       `json:"stdin_window"`
	Server      string    `json:"server"`

	Bytes    uint64    `json:"bytes"` // stdin.ack
	Cause    string    `json:"cause"` // shell.restarted
	Restored string    `json:"restored"`
	From     uint64    `json:"from"` // gap
	To       uint64    `json:"to"`
	Finished []Message `json:"-"` // gap: the ends of runs inside it

	Line  string   `json:"line"` // completions: after one Tab
	Point int      `json:"point"`
	Start int      `json:"start"` // what of the line asked about an item replaces
	Stop  int      `json:"end"`
	Items []string `json:"items"`
	More  bool     `json:"truncated"` // there are more items

	Message string `json:"message"` // error; run.finished with reason refused
}

// A RunState is a run that is on.
type RunState struct {
	RunID     string `json:"run_id"`
	Number    uint64 `json:"number"`
	Code      string `json:"code"`
	Truncated bool   `json:"code_truncated"`
	By        string `json:"by"`
	StartedAt int64  `json:"started_at"` // ms
}

// IsOutput reports whether the message is a piece of output, which is in Data.
func (m *Message) IsOutput() bool {
	return m.Type == TypeStdout || m.Type == TypeStderr || m.Type == TypeTerminal
}

// End is the position after the message; 0 if it has no position.
func (m *Message) End() uint64 {
	switch {
	case m.Type == TypeGap:
		return m.To
	case m.Type == TypeAttached:
		return m.Pos
	case m.IsOutput():
		return m.Pos + uint64(len(m.Data))
	case m.Placed:
		return m.Pos + 1
	}
	return 0
}

// Err returns what a message of type error says, or nil.
func (m *Message) Err() error {
	if m.Type != TypeError {
		return nil
	}
	return &RefusedError{Code: m.Code, Message: m.Message}
}

// incoming is a server's text message on the wire.
type incoming struct {
	Message
	At       *uint64    `json:"pos"`
	Text     string     `json:"text"`
	Base64   *string    `json:"base64"`
	Finished []incoming `json:"finished"`
}

func decodeMessage(isBinary bool, data []byte) (Message, error) {
	if isBinary {
		return decodeOutput(data)
	}
	var in incoming
	if err := json.Unmarshal(data, &in); err != nil {
		return Message{}, fmt.Errorf("decode message: %w", err)
	}
	m, err := in.message()
	m.Raw = data
	return m, err
}

func (in *incoming) message() (Message, error) {
	m := in.Message
	if in.At != nil {
		m.Pos, m.Placed = *in.At, m.Type != TypeAttached
	}
	switch {
	case m.Type == TypeGap:
		m.Placed = true
	case !m.IsOutput():
	case in.Base64 != nil:
		var err error
		if m.Data, err = base64.StdEncoding.DecodeString(*in.Base64); err != nil {
			return Message{}, fmt.Errorf("decode output: %w", err)
		}
	default:
		m.Data = []byte(in.Text)
	}
	for i := range in.Finished {
		end, err := in.Finished[i].message()
		if err != nil {
			return Message{}, err
		}
		m.Finished = append(m.Finished, end)
	}
	return m, nil
}

var errShortFrame = errors.New("binary frame without output")

// decodeOutput decodes a binary frame; the message keeps its memory.
func decodeOutput(data []byte) (Message, error) {
	if len(data) <= outputHeader {
		return Message{}, errShortFrame
	}
	m := Message{Placed: true, Pos: binary.BigEndian.Uint64(data[1:]), Number: uint64(binary.BigEndian.Uint32(data[9:])), Data: data[outputHeader:]}
	switch sessions.Kind(data[0]) {
	case sessions.Stdout:
		m.Type = TypeStdout
	case sessions.Stderr:
		m.Type = TypeStderr
	case sessions.Terminal:
		m.Type = TypeTerminal
	default:
		return Message{}, fmt.Errorf("binary frame of unknown channel %d", data[0])
	}
	return m, nil
}
