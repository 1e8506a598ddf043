package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"tandem/ws"
)

// ownPatience is how long a lost connection is sought for: when it is over, the server has
// ended the session that the connection was for, or is about to.
const ownPatience = 25 * time.Second

// A guest is a client of an mcpDoor, and the session that is its own.
type guest struct {
	d    *mcpDoor
	name string        // of the client, as it says
	turn chan struct{} // filled by who looks at own: making one takes a moment
	own  *ws.Session   // nil: not made yet. It ends with its client, and with this program however that ends
}

// guestOf returns the guest behind a connection, of which it is the first call or not.
func (d *mcpDoor) guestOf(ss *mcp.ServerSession) (*guest, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.guests[ss]; g != nil {
		return g, nil
	}
	if d.closed {
		return nil, errMCPEnding
	}
	g := &guest{d: d, name: "mcp", turn: make(chan struct{}, 1)}
	if p := ss.InitializeParams(); p != nil && p.ClientInfo != nil && p.ClientInfo.Name != "" {
		g.name = "mcp: " + oneLine(p.ClientInfo.Name, 40)
	}
	d.guests[ss] = g
	d.leaving.Go(func() {
		_ = ss.Wait() // until no call is on, and none will be
		g.leave()
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.guests, ss)
	})
	return g, nil
}

// leave ends the guest's session.
func (g *guest) leave() {
	if g.own != nil {
		_ = g.own.Close()
	}
}

var (
	// errOwnGone is told once: what runs next must not take another session for the old one.
	errOwnGone = errors.New("this connection's own session has ended (somebody ended it, or the server was restarted or out of reach for too long), and with it its directory, variables, functions and jobs: the next run begins in a new one")

	errNoOwn = errors.New("this connection has no session of its own yet: run begins one; or give a session, as list_sessions has them")
)

// session returns the id of the session that a call is about. Where that is the guest's own,
// make says whether it is to be made if there is none.
func (g *guest) session(ctx context.Context, called string, make bool) (string, error) {
	if called = first(called, g.d.session); called != "" {
		s, err := g.d.remote.find(ctx, called)
		return s.ID, err
	}
	return g.ownSession(ctx, make)
}

func (g *guest) ownSession(ctx context.Context, make bool) (string, error) {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if g.own != nil {
		select {
		case <-g.own.Done():
			g.own = nil
			return "", errOwnGone
		default:
			return g.own.ID(), nil
		}
	}
	if !make {
		return "", errNoOwn
	}
	s, err := ws.Create(ctx, g.d.remote.base, &ws.CreateOptions{
		SessionOptions: ws.SessionOptions{DialOptions: g.d.remote.dialOptions(), Patience: ownPatience},
		Cwd:            g.d.cwd, Name: g.name, Ephemeral: true,
	})
	if err != nil {
		return "", err
	}
	g.own = s
	return s.ID(), nil
}

// drop forgets the guest's own session if it is id, and reports whether it was.
func (g *guest) drop(id string) bool {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	if g.own == nil || g.own.ID() != id {
		return false
	}
	_ = g.own.Close()
	g.own = nil
	return true
}

func (g *guest) isOwn(id string) bool {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	return g.own != nil && g.own.ID() == id
}

// explain turns an error of a call about a session into what the agent is told.
func (g *guest) explain(err error, session string) error {
	refused, ok := errors.AsType[*ws.RefusedError](err)
	switch {
	case ok && refused.Code == "CONTEXT_NOT_FOUND" && session != "" && g.drop(session):
		return errOwnGone
	case ok && refused.Code == "NO_STDIN":
		return fmt.Errorf("%w: only a run that was started with interactive=true takes input, until it is closed", err)
	case errors.Is(err, ws.ErrLost):
		if e, ok := errors.AsType[*net.OpError](err); ok {
			err = fmt.Errorf("%w: %w", ws.ErrLost, e) // without the ways that led there
		}
		return fmt.Errorf("%w: try again when the server at %s is back", err, g.d.remote.base)
	}
	return err
}
