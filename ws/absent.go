package ws

import (
	"slices"
	"time"

	"tandem/sessions"
)

// An absent is a client whose connection broke and who may come back: until then its place in
// the journal is kept, and a command held back that is too far ahead of it, as if it were only
// slow. So a cut loses no output, however fast that comes, for as long as the stall limit.
type absent struct {
	reader *sessions.Reader
	from   uint64 // where it may go on: not before what it has acknowledged,
	to     uint64 // nor after what it was sent
	timer  *time.Timer
}

// expect keeps the place of a client whose connection broke, unless it is back already.
func (h *Handler) expect(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, id := c.absent(), c.session.ID()
	back := h.closing // then nobody is waited for
	for o := range h.conns {
		back = back || o.session == c.session && o.number > c.number && o.resumes(a)
	}
	if back {
		c.reader.Close()
		return
	}
	c.reader.Leave()
	a.timer = time.AfterFunc(h.cfg.StallTimeout, func() { h.release(id, func(o *absent) bool { return o == a }) })
	h.absent[id] = append(h.absent[id], a)
}

func (c *conn) absent() *absent {
	return &absent{reader: c.reader, from: c.acked.Load(), to: c.handed.Load()}
}

// resumes reports whether the connection may be that of the client that was absent.
func (c *conn) resumes(a *absent) bool {
	return c.after != nil && !c.view && a.from <= *c.after && *c.after <= a.to
}

// welcome gives up the place of the client that is back with this connection, which holds one
// of its own by now. The one that broke may still be ending.
func (h *Handler) welcome(c *conn) {
	h.release(c.session.ID(), c.resumes)
	h.mu.Lock()
	defer h.mu.Unlock()
	for o := range h.conns {
		if o != c && o.session == c.session && o.ctx.Err() != nil && o.broken() && c.resumes(o.absent()) {
			o.reader.Close()
		}
	}
}

// release gives up the places of a session for which which returns true.
func (h *Handler) release(id string, which func(*absent) bool) {
	var gone []*absent
	h.mu.Lock()
	h.absent[id] = slices.DeleteFunc(h.absent[id], func(a *absent) bool {
		if !which(a) {
			return false
		}
		gone = append(gone, a)
		return true
	})
	if len(h.absent[id]) == 0 {
		delete(h.absent, id)
	}
	h.mu.Unlock()
	for _, a := range gone {
		a.timer.Stop()
		a.reader.Close()
	}
}

// releaseAll gives up every place.
func (h *Handler) releaseAll() {
	h.mu.Lock()
	var ids []string
	for id := range h.absent {
		ids = append(ids, id)
	}
	h.mu.Unlock()
	for _, id := range ids {
		h.release(id, func(*absent) bool { return true })
	}
}
