package ws

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"unicode/utf8"

	"tandem/sessions"
)

// An Encoder turns what happens in sessions into the messages of ProtocolJSON, one JSON
// object each, without a newline. Each stream of messages needs its own: it remembers
// which run has which number. One goroutine at a time may use it.
type Encoder struct {
	Server string // what "attached" says of this program

	// refOf, where set, is asked for the ref under which the receiver of the stream asked
	// for a run. last says that nothing more of the run will come.
	refOf func(runID string, last bool) *string

	ids  map[uint64]string // run ids by number; "" for one that is no longer known
	held sessions.Entry    // the beginning of a character that Cut has kept back
}

// Attached returns the message that comes first.
func (e *Encoder) Attached(s *sessions.Session, snap sessions.Snapshot, role string) []byte {
	b := appendType(make([]byte, 0, 512), TypeAttached)
	b = appendStr(b, "session_id", s.ID())
	b = appendNum(b, "pos", snap.Pos)
	b = e.appendState(b, snap.Run)
	b = appendStr(b, "cwd", snap.Cwd)
	b = appendStr(b, "role", role)
	b = appendNum(b, "oldest", snap.Oldest)
	b = appendNum(b, "stdin_window", sessions.StdinWindow)
	b = appendStr(b, "server", e.Server)
	return append(b, '}')
}

// appendState tells whether a run is on, and which.
func (e *Encoder) appendState(b []byte, run *sessions.RunInfo) []byte {
	if run == nil {
		return appendStr(b, "state", "idle")
	}
	e.learn(run)
	b = appendStr(b, "state", "running")
	b = append(b, `,"run":{"run_id":`...)
	b = appendQuoted(b, run.ID)
	b = appendNum(b, "number", run.Number)
	b = appendCode(b, run)
	b = appendStr(b, "by", run.By)
	b = appendNum(b, "started_at", uint64(max(0, run.StartedAt.UnixMilli())))
	return append(b, '}')
}

// AppendEntry appends the message for an entry of s's journal. Output that is not whole
// UTF-8 goes as base64; see [Encoder.Cut]. It does not allocate for output, but for dst
// and the first entry of each run.
func (e *Encoder) AppendEntry(dst []byte, s *sessions.Session, entry sessions.Entry) []byte {
	switch entry.Kind {
	case sessions.Stdout:
		return e.appendOutput(dst, TypeStdout, s, entry)
	case sessions.Stderr:
		return e.appendOutput(dst, TypeStderr, s, entry)
	case sessions.Terminal:
		return e.appendOutput(dst, TypeTerminal, s, entry)
	case sessions.RunStarted:
		return e.appendStarted(dst, &entry.Pos, entry.Info, e.ref(entry.Info.ID, false))
	case sessions.RunFinished:
		return appendFinished(dst, &entry.Pos, entry.Info, e.ref(entry.Info.ID, true))
	case sessions.ShellRestarted:
		dst = appendNum(appendType(dst, TypeShellRestarted), "pos", entry.Pos)
		dst = appendStr(dst, "cause", string(entry.Restart.Cause))
		dst = appendStr(dst, "restored", string(entry.Restart.Restored))
	case sessions.SessionClosed:
		dst = appendNum(appendType(dst, TypeSessionClosed), "pos", entry.Pos)
		dst = appendStr(dst, "reason", string(entry.Closed))
	case sessions.Gap:
		return e.appendGap(dst, entry)
	}
	return append(dst, '}')
}

func (e *Encoder) appendOutput(b []byte, typ string, s *sessions.Session, entry sessions.Entry) []byte {
	b = appendNum(appendType(b, typ), "pos", entry.Pos)
	if id := e.runID(s, entry.Run); id != "" {
		b = appendStr(b, "run_id", id)
	}
	if utf8.Valid(entry.Data) {
		b = append(b, `,"text":"`...)
		b = appendEscaped(b, entry.Data)
	} else {
		b = append(b, `,"base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, entry.Data)
	}
	return append(b, '"', '}')
}

// appendStarted appends run.started; without a position when it is told again, outside
// the journal, to one who asked for a run that is there already.
func (e *Encoder) appendStarted(b []byte, pos *uint64, run *sessions.RunInfo, ref *string) []byte {
	e.learn(run)
	b = appendPos(appendType(b, TypeRunStarted), pos)
	b = appendStr(b, "run_id", run.ID)
	b = appendNum(b, "number", run.Number)
	b = appendStr(b, "by", run.By)
	b = appendCode(b, run)
	b = appendStr(b, "cwd", run.Cwd)
	b = appendNum(b, "started_at", uint64(max(0, run.StartedAt.UnixMilli())))
	return append(appendRef(b, ref), '}')
}

func appendFinished(b []byte, pos *uint64, run *sessions.RunInfo, ref *string) []byte {
	b = appendPos(appendType(b, TypeRunFinished), pos)
	b = appendStr(b, "run_id", run.ID)
	b = appendStr(b, "reason", string(run.Reason))
	b = append(b, `,"exit_code":`...)
	if run.ExitCode != nil {
		b = strconv.AppendInt(b, int64(*run.ExitCode), 10)
	} else {
		b = append(b, "null"...)
	}
	if run.Signal != "" {
		b = appendStr(b, "signal", run.Signal)
	}
	b = appendNum(b, "duration_ms", uint64(max(0, run.Duration.Milliseconds())))
	b = appendStr(b, "cwd", run.Cwd)
	if run.Detail != "" {
		b = appendStr(b, "message", run.Detail)
	}
	return append(appendRef(b, ref), '}')
}

func (e *Encoder) appendGap(b []byte, entry sessions.Entry) []byte {
	b = appendNum(appendType(b, TypeGap), "from", entry.Pos)
	b = appendNum(b, "to", entry.Gap.To)
	b = e.appendState(b, entry.Gap.Running)
	b = append(b, `,"finished":[`...)
	for i := range entry.Gap.Finished {
		if i > 0 {
			b = append(b, ',')
		}
		run := &entry.Gap.Finished[i]
		b = appendFinished(b, &run.Last, run, e.ref(run.ID, true))
	}
	return append(b, ']', '}')
}

func (e *Encoder) ref(runID string, last bool) *string {
	if e.refOf == nil {
		return nil
	}
	return e.refOf(runID, last)
}

// maxIDs bounds what an Encoder remembers. Output of an older run is rare, and is looked
// up again.
const maxIDs = 256

func (e *Encoder) learn(run *sessions.RunInfo) {
	if e.ids == nil || len(e.ids) >= maxIDs {
		e.ids = make(map[uint64]string)
	}
	e.ids[run.Number] = run.ID
}

// runID is the id of the run with that number, or "".
func (e *Encoder) runID(s *sessions.Session, number uint64) string {
	if number == 0 {
		return ""
	}
	id, ok := e.ids[number]
	if ok {
		return id
	}
	for _, run := range s.Runs() {
		if run.Number() == number {
			id = run.ID()
			break
		}
	}
	e.learn(&sessions.RunInfo{Number: number, ID: id})
	return id
}

// Cut appends entries to dst with the cuts between pieces of output moved to the ends of
// characters, so that they can be told as text. It may keep back up to three bytes, the
// beginning of a character, for the next call; when there is nothing to call it with,
// [Encoder.Rest] gives them out. Nothing is lost and no position changes.
func (e *Encoder) Cut(dst, entries []sessions.Entry) []sessions.Entry {
	for _, entry := range entries {
		if len(e.held.Data) > 0 {
			dst, entry = e.complete(dst, entry)
		}
		if !entry.Kind.Output() {
			dst = append(dst, entry)
			continue
		}
		// What is left of a character whose beginning went out before.
		if n := leadingRest(entry.Data); n > 0 && n < len(entry.Data) {
			dst = append(dst, head(entry, n))
			entry = tail(entry, n)
		}
		if n := len(entry.Data) - partialRune(entry.Data); n < len(entry.Data) {
			e.held = tail(entry, n)
			entry = head(entry, n)
		}
		if len(entry.Data) > 0 {
			dst = append(dst, entry)
		}
	}
	return dst
}

// Rest appends to dst what Cut has kept back.
func (e *Encoder) Rest(dst []sessions.Entry) []sessions.Entry {
	if len(e.held.Data) > 0 {
		dst = append(dst, e.held)
		e.held = sessions.Entry{}
	}
	return dst
}

// complete takes from the front of entry what completes the held character, and appends
// that to dst unless entry ends before the character does.
func (e *Encoder) complete(dst []sessions.Entry, entry sessions.Entry) ([]sessions.Entry, sessions.Entry) {
	if !continues(e.held, entry) {
		return e.Rest(dst), entry
	}
	n := min(leadingRest(entry.Data), runeLen(e.held.Data[0])-len(e.held.Data))
	joined := make([]byte, 0, utf8.UTFMax)
	e.held.Data = append(append(joined, e.held.Data...), entry.Data[:n]...)
	entry = tail(entry, n)
	if len(entry.Data) > 0 || partialRune(e.held.Data) == 0 {
		dst = e.Rest(dst)
	}
	return dst, entry
}

// continues reports whether b is output that follows a without a break in the same stream.
func continues(a, b sessions.Entry) bool {
	return a.Kind == b.Kind && a.Kind.Output() && a.Run == b.Run && a.End() == b.Pos
}

func head(e sessions.Entry, n int) sessions.Entry {
	e.Data = e.Data[:n]
	return e
}

func tail(e sessions.Entry, n int) sessions.Entry {
	e.Data = e.Data[n:]
	e.Pos += uint64(n)
	return e
}

// leadingRest counts the bytes at the start of p that only continue a character.
func leadingRest(p []byte) int {
	n := 0
	for n < len(p) && n < utf8.UTFMax-1 && !utf8.RuneStart(p[n]) {
		n++
	}
	return n
}

// partialRune counts the bytes at the end of p that begin a character and do not end it.
func partialRune(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if c := p[len(p)-n]; utf8.RuneStart(c) {
			if runeLen(c) > n {
				return n
			}
			return 0
		}
	}
	return 0
}

// runeLen is how long the character is that begins with c.
func runeLen(c byte) int {
	switch {
	case c >= 0xf0 && c <= 0xf4:
		return 4
	case c >= 0xe0 && c < 0xf0:
		return 3
	case c >= 0xc2 && c < 0xe0:
		return 2
	}
	return 1
}

// appendOutputHeader appends what precedes the bytes in a binary output frame.
func appendOutputHeader(b []byte, e sessions.Entry) []byte {
	b = append(b, byte(e.Kind)) // the channels are numbered as the kinds are
	b = binary.BigEndian.AppendUint64(b, e.Pos)
	return binary.BigEndian.AppendUint32(b, uint32(e.Run))
}

func appendOK(b []byte, ref *string) []byte {
	return append(appendRef(appendType(b, TypeOK), ref), '}')
}

func appendPong(b []byte, ref *string) []byte {
	return append(appendRef(appendType(b, TypePong), ref), '}')
}

func appendError(b []byte, ref *string, f *fault) []byte {
	b = appendRef(appendType(b, TypeError), ref)
	b = appendStr(b, "code", f.code)
	return append(appendStr(b, "message", f.message), '}')
}

func appendQueued(b []byte, runID string, ref *string, ahead int) []byte {
	b = appendStr(appendType(b, TypeRunQueued), "run_id", runID)
	b = appendRef(b, ref)
	return append(appendNum(b, "ahead", uint64(ahead)), '}')
}

func appendStdinAck(b []byte, runID string, taken uint64) []byte {
	b = appendStr(appendType(b, TypeStdinAck), "run_id", runID)
	return append(appendNum(b, "bytes", taken), '}')
}

func appendCompletions(b []byte, ref *string, found *sessions.Completions) []byte {
	b = appendStr(appendRef(appendType(b, TypeCompletions), ref), "line", found.Line)
	b = appendNum(b, "point", uint64(found.Point))
	b = appendNum(b, "start", uint64(found.Start))
	b = appendNum(b, "end", uint64(found.End))
	b = append(appendKey(b, "items"), '[')
	for i, item := range found.Items {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, item)
	}
	return append(strconv.AppendBool(appendKey(append(b, ']'), "truncated"), found.Truncated), '}')
}
