package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"tandem/sessions"
)

const (
	// journalBatch is how many positions are taken from the journal at once.
	journalBatch = 64 << 10

	// commentEvery is the silence after which a comment is sent, which clients skip: it
	// keeps proxies from ending the stream and finds out about clients that are gone.
	commentEvery = 15 * time.Second

	// viewer is the role of whoever reads the journal here: it can send nothing.
	viewer = "view"
)

// An EntryEncoder writes what happens in a session as the messages of the text
// subprotocol: each call gives one JSON object, without a newline after it. The package
// that owns those messages implements it, and the program hands a maker over in [Config]:
// each stream has one of its own, which so may remember what it has said.
type EntryEncoder interface {
	// Attached is the message that comes first, for a reader that begins at snap.Pos.
	Attached(s *sessions.Session, snap sessions.Snapshot, role string) []byte
	// AppendEntry appends the message for e, an entry of s's journal, to dst.
	AppendEntry(dst []byte, s *sessions.Session, e sessions.Entry) []byte
}

// streamJournal answers with a session's journal, from the oldest entry kept or from the
// position asked for, and goes on with what comes until the session or the client ends.
// It never holds a command back: where it falls behind what is kept, a gap says so.
func (a *api) streamJournal(w http.ResponseWriter, r *http.Request) error {
	s, err := a.session(r)
	if err != nil {
		return err
	}
	after, err := resumePosition(r)
	if err != nil {
		return err
	}
	reader, snap, err := s.Attach(sessions.AttachOptions{After: after, Oldest: after == nil, Viewer: true, Client: true, By: door})
	if err != nil {
		return err
	}
	defer reader.Close()
	startStream(w)
	if r.Method == http.MethodHead {
		return nil
	}
	j := &journalStream{out: a.newOutlet(w), messages: a.messages(), session: s, reader: reader}
	j.buf = appendMessage(j.buf, snap.Pos, func(dst []byte) []byte { return append(dst, j.messages.Attached(s, snap, viewer)...) })
	err = j.run(r.Context())
	if errors.Is(err, sessions.ErrClosed) {
		return nil
	}
	return fmt.Errorf("%w: %w", errGone, err)
}

// A journalStream copies a journal to one client.
type journalStream struct {
	out      *outlet
	messages EntryEncoder
	session  *sessions.Session
	reader   *sessions.Reader
	buf      []byte
}

// run returns why the stream ended, which is never nil; sessions.ErrClosed is the good end.
func (j *journalStream) run(ctx context.Context) error {
	var entries []sessions.Entry
	for {
		if err := j.send(); err != nil {
			return err
		}
		var err error
		clear(entries)
		if entries, err = j.reader.Next(entries[:0], journalBatch); err != nil {
			return err
		}
		for _, e := range entries {
			if err := j.add(e); err != nil {
				return err
			}
		}
		if len(entries) == 0 {
			err = j.wait(ctx)
		} else if err = j.send(); err == nil {
			j.reader.Took(entries[len(entries)-1].End())
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (j *journalStream) add(e sessions.Entry) error {
	j.buf = appendMessage(j.buf, e.End(), func(dst []byte) []byte { return j.messages.AppendEntry(dst, j.session, e) })
	if len(j.buf) < writeSize {
		return nil
	}
	if err := j.write(); err != nil {
		return err
	}
	j.reader.Took(e.End())
	return nil
}

// wait returns when the journal may have more, with a comment to send where it was long.
func (j *journalStream) wait(ctx context.Context) error {
	timer := time.NewTimer(commentEvery)
	defer timer.Stop()
	select {
	case <-j.reader.Ready():
	case <-timer.C:
		j.buf = append(j.buf, ":\n\n"...)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func (j *journalStream) write() error {
	err := j.out.write(j.buf)
	j.buf = j.buf[:0]
	return err
}

func (j *journalStream) send() error {
	if len(j.buf) == 0 {
		return nil
	}
	if err := j.write(); err != nil {
		return err
	}
	return j.out.flush()
}

// appendMessage appends one event whose data is the JSON that message appends.
func appendMessage(dst []byte, id uint64, message func(dst []byte) []byte) []byte {
	dst = appendID(dst, id)
	start := len(dst)
	return append(escapeBreaks(message(dst), start), "\n\n"...)
}
