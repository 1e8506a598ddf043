package ws

import (
	"slices"
	"time"
)

// An ephemeral is a session that ends with its connection. That is its owner: the control
// connection that created it, or the last to attach when the owner's connection broke.
type ephemeral struct {
	control []*conn // in order of attaching
	owner   *conn
	back    chan struct{} // while there is no owner: closed when one comes
}

func (h *Handler) markEphemeral(sessionID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ephemeral[sessionID] = &ephemeral{back: make(chan struct{})}
}

// join is called with the handler's lock, as is part.
func (e *ephemeral) join(c *conn) {
	e.control = append(e.control, c)
	if e.owner == nil {
		e.owner = c
		close(e.back)
	}
}

// part reports whether the session was the connection's and has nobody to own it now. A
// client that noticed the break before the server did is attached again already.
func (e *ephemeral) part(c *conn, clean bool) (orphaned bool) {
	e.control = slices.DeleteFunc(e.control, func(o *conn) bool { return o == c })
	if e.owner != c {
		return false
	}
	e.owner, e.back = nil, make(chan struct{})
	if n := len(e.control); n > 0 && !clean {
		e.owner = e.control[n-1]
		return false
	}
	return true
}

// leaveEphemeral ends the session if this was its owner who left: at once with a clean
// close, otherwise unless somebody comes back in time.
func (h *Handler) leaveEphemeral(e *ephemeral, c *conn, clean bool) {
	h.mu.Lock()
	orphaned := e.part(c, clean)
	back := e.back
	h.mu.Unlock()
	if !orphaned {
		return
	}
	if !clean {
		grace := time.NewTimer(h.cfg.EphemeralGrace)
		defer grace.Stop()
		select {
		case <-back:
			return
		case <-h.stop:
			return
		case <-c.session.Done():
		case <-grace.C:
		}
	}
	h.mu.Lock()
	if e.owner != nil {
		h.mu.Unlock()
		return
	}
	delete(h.ephemeral, c.session.ID())
	h.mu.Unlock()
	h.end(c.session)
}
